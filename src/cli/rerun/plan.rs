//! What a rerun would do: which rows, how many, and which of those that were named can't be taken.
//!
//! It reads and changes nothing. Invariant: a row that a review on this machine has noted as its own
//! is counted, and not among those to be changed.

use std::sync::Arc;

use super::{Ended, Purpose};
use crate::app::review;
use crate::config::Config;
use crate::review::record::selection::{Found, RERUN, Selection, Taken};
use crate::review::record::{Cursor, ERROR, PROCESSING, RecordError, RecordId, Records, SUCCESS};
use crate::review::settings::RecordSettings;

/// Rows read and changed at a time: what fits into one request.
const PAGE: u32 = 100;

/// Rows that are shown.
const SHOWN: usize = 10;

/// What would be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// How the rows are found; `None`: they were named.
    pub(super) selection: Option<Selection>,
    /// What becomes of them.
    pub(super) purpose: Purpose,
    /// How many there are.
    pub(super) n_rows: u64,
    /// Further ones that a review on this machine is processing.
    pub(super) n_in_hand: u64,
    /// Some to show.
    pub(super) first: Vec<Found>,
}

impl Plan {
    /// Counts the rows and reads the first.
    pub(super) async fn of(
        selection: &Selection,
        purpose: Purpose,
        config: &Config,
        limit: Option<u64>,
        records: &Arc<dyn Records>,
    ) -> Result<Self, Ended> {
        let mut pages = Pages::new(records, config, selection);
        let mut first: Vec<Found> = Vec::new();
        let mut n_rows = 0;
        // Which of the stuck rows are a review's, only the rows themselves can say.
        while let Some(page) = pages.next().await? {
            n_rows += page.len() as u64;
            first.extend(page.into_iter().take(SHOWN - first.len()));
            if !matches!(selection.taken, Taken::LongBefore(_)) {
                n_rows = records.count_of(selection).await?;
                break;
            }
        }
        let n_rows = n_rows.min(limit.unwrap_or(u64::MAX));
        first.truncate(usize::try_from(n_rows).unwrap_or(usize::MAX));
        let n_in_hand = pages.n_in_hand;
        let selection = Some(selection.clone());
        Ok(Self { selection, purpose, n_rows, n_in_hand, first })
    }

    /// Of rows that were named.
    pub(super) fn of_named(named: &Named, purpose: Purpose) -> Self {
        let n_rows = named.rows.len() as u64;
        let first = named.rows.iter().take(SHOWN).cloned().collect();
        Self { selection: None, purpose, n_rows, n_in_hand: 0, first }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.n_rows == 0
    }

    /// The rows are as they would become.
    pub(super) fn is_done(&self) -> bool {
        let (Purpose::Change(to), Some(selection)) = (&self.purpose, &self.selection) else {
            return false;
        };
        selection.statuses.iter().all(|status| status == to.review_status())
    }
}

/// Rows that a person has named, by what can be done with them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Named {
    /// To be changed or reviewed.
    pub(super) rows: Vec<Found>,
    /// Not to be touched, and why.
    pub(super) refused: Vec<(RecordId, String)>,
}

impl Named {
    pub(super) async fn look_up(
        records: &Arc<dyn Records>,
        ids: &[RecordId],
        settings: &RecordSettings,
        purpose: &Purpose,
    ) -> Result<Self, Ended> {
        let RecordSettings { pick_up, statuses, .. } = settings;
        let (mut found, mistyped) = rows_named(records, ids).await?;
        let mut named = Self::default();
        for id in ids {
            if mistyped.contains(id) {
                named.refused.push((id.clone(), "not an id of this table".to_owned()));
                continue;
            }
            let Some(at) = found.iter().position(|row| row.record.id == *id) else {
                named.refused.push((id.clone(), "no such image".to_owned()));
                continue;
            };
            let row = found.swap_remove(at);
            let status = row.record.status.as_str();
            let is_waiting = status == RERUN || pick_up.iter().any(|waiting| waiting == status);
            let refusal = match status {
                SUCCESS | ERROR => None,
                PROCESSING => Some(
                    "it is being processed, or was left behind: see lookout rerun --stuck"
                        .to_owned(),
                ),
                _ if is_waiting && purpose.reviews() => None,
                _ if is_waiting => Some(format!("already {}", statuses.in_table(status))),
                _ => Some(format!(
                    "its status is {}, which no review has set",
                    statuses.in_table(status)
                )),
            };
            match refusal {
                None => named.rows.push(row),
                Some(why) => named.refused.push((id.clone(), why)),
            }
        }
        Ok(named)
    }
}

/// The rows of these ids, and the ids that are none: a database refuses the whole request for one
/// that has not the column's form (`123` where ids are UUIDs).
async fn rows_named(
    records: &Arc<dyn Records>,
    ids: &[RecordId],
) -> Result<(Vec<Found>, Vec<RecordId>), RecordError> {
    let why = match records.rows_by_id(ids).await {
        Ok(found) => return Ok((found, Vec::new())),
        Err(RecordError::Misconfigured(why)) => why,
        Err(error) => return Err(error),
    };
    // Only if the table itself can be read is it the ids' fault.
    let some = [SUCCESS.to_owned(), ERROR.to_owned()];
    if records.candidates(&some, None, 1).await.is_err() {
        return Err(RecordError::Misconfigured(why));
    }
    let (mut found, mut mistyped) = (Vec::new(), Vec::new());
    for id in ids {
        match records.rows_by_id(std::slice::from_ref(id)).await {
            Ok(rows) => found.extend(rows),
            Err(RecordError::Misconfigured(_)) => mistyped.push(id.clone()),
            Err(error) => return Err(error),
        }
    }
    Ok((found, mistyped))
}

/// Rows of a selection, split into pages; those in hand are left out and counted.
pub(super) struct Pages<'a> {
    pub(super) records: &'a Arc<dyn Records>,
    pub(super) config: &'a Config,
    pub(super) selection: &'a Selection,
    cursor: Option<Cursor>,
    pub(super) n_in_hand: u64,
}

impl<'a> Pages<'a> {
    pub(super) fn new(
        records: &'a Arc<dyn Records>,
        config: &'a Config,
        selection: &'a Selection,
    ) -> Self {
        Self { records, config, selection, cursor: None, n_in_hand: 0 }
    }

    /// The next rows; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Found>>, Ended> {
        let mut page = self.records.find(self.selection, self.cursor.as_ref(), PAGE).await?;
        let Some(Found { record, .. }) = page.last() else { return Ok(None) };
        self.cursor = Some(Cursor { created_at: record.created_at, id: record.id.clone() });
        if self.selection.statuses.iter().any(|status| status == PROCESSING) {
            let ids: Vec<RecordId> = page.iter().map(|row| row.record.id.clone()).collect();
            let held = review::in_hand(&self.config.review, &ids)?;
            self.n_in_hand += held.len() as u64;
            page.retain(|row| !held.contains(&row.record.id));
        }
        Ok(Some(page))
    }
}
