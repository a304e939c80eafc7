//! Changing the rows: page by page, each row only if it still is as it was found.
//!
//! Invariant: a row that a review on this machine has noted as its own is left to it.

use std::sync::Arc;

use super::Ended;
use super::showing::Plan;
use crate::app::review;
use crate::config::Config;
use crate::review::record::selection::{Found, RERUN, Selection, SendBack};
use crate::review::record::{Cursor, ERROR, PROCESSING, RecordId, Records, SUCCESS};

/// Rows looked at and changed at a time: what fits into one request.
const PAGE: u32 = 100;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Rows that are changed now.
    pub(super) n_changed: u64,
    /// Rows that somebody else changed meanwhile.
    pub(super) n_left_alone: u64,
    /// Rows that may be reviewed now: changed ones, and those that needed no change.
    pub(super) ready: Vec<RecordId>,
}

/// Rows that a person has named, by what can be done with them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Named {
    /// To be changed.
    pub(super) rows: Vec<Found>,
    /// As wanted already: they can be reviewed.
    pub(super) waiting: Vec<Found>,
    /// Not to be touched, and why.
    pub(super) refused: Vec<(RecordId, String)>,
}

impl Named {
    pub(super) async fn look_up(
        records: &Arc<dyn Records>,
        ids: &[RecordId],
        pick_up: &[String],
    ) -> Result<Self, Ended> {
        let mut found = records.rows_by_id(ids).await?;
        let mut named = Self::default();
        for id in ids {
            let Some(at) = found.iter().position(|row| row.record.id == *id) else {
                named.refused.push((id.clone(), "there is no such row".to_owned()));
                continue;
            };
            let row = found.swap_remove(at);
            match row.record.status.as_str() {
                SUCCESS | ERROR => named.rows.push(row),
                RERUN => named.waiting.push(row),
                status if pick_up.iter().any(|waiting| waiting == status) => {
                    named.waiting.push(row);
                }
                PROCESSING => named.refused.push((
                    id.clone(),
                    "somebody is working on it, or left it behind: see lookout rerun --stuck"
                        .to_owned(),
                )),
                status => named
                    .refused
                    .push((id.clone(), format!("it is {status}, which is no reviewed row"))),
            }
        }
        Ok(named)
    }
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

/// Changes all that are meant.
pub(super) async fn all(
    plan: &Plan,
    config: &Config,
    records: &Arc<dyn Records>,
) -> Result<Changed, Ended> {
    let mut changed = Changed::default();
    let Some(selection) = &plan.selection else { return Ok(changed) };
    let mut pages = Pages::new(records, config, selection);
    let mut left = plan.n_rows;
    while left > 0 {
        let Some(mut page) = pages.next().await? else { break };
        page.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= page.len() as u64;
        change(&page, &plan.to, records, &mut changed).await?;
    }
    Ok(changed)
}

/// Changes those that were named; those that wait already may be reviewed with them.
pub(super) async fn named(named: &Named, records: &Arc<dyn Records>) -> Result<Changed, Ended> {
    let mut changed = Changed::default();
    change(&named.rows, &SendBack::Rerun, records, &mut changed).await?;
    changed.ready.extend(named.waiting.iter().map(|row| row.record.id.clone()));
    Ok(changed)
}

async fn change(
    rows: &[Found],
    to: &SendBack,
    records: &Arc<dyn Records>,
    changed: &mut Changed,
) -> Result<(), Ended> {
    let is_so = |row: &&Found| row.record.status == to.review_status();
    let (so, otherwise): (Vec<&Found>, Vec<&Found>) = rows.iter().partition(is_so);
    let otherwise: Vec<Found> = otherwise.into_iter().cloned().collect();
    let done = records.send_back(&otherwise, to).await?;
    changed.n_changed += done.len() as u64;
    changed.n_left_alone += (otherwise.len() - done.len().min(otherwise.len())) as u64;
    changed.ready.extend(done);
    changed.ready.extend(so.into_iter().map(|row| row.record.id.clone()));
    Ok(())
}
