//! Which reviewed rows are compared: recent ones, from several moments.
//!
//! Old pictures may have been deleted, and a hundred rows in a row may be one job's.
//! Invariant: no row twice, and none whose old answer was no answer.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use crate::review::record::selection::{Details, Found, Selection, Taken, UNREADABLE};
use crate::review::record::{Cursor, RecordError, Records, SUCCESS};

/// Days to look back: the fewest that hold enough rows.
const DAYS: [i64; 4] = [1, 7, 30, 365];
/// Moments from which rows are taken.
const MOMENTS: i32 = 10;
/// Rows asked for at a time.
const PAGE: u32 = 500;

/// The rows to look at again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chosen {
    /// These.
    pub rows: Vec<Found>,
    /// Left out: the old service called them good because it could not read the answer.
    pub n_unreadable: u64,
}

/// Chooses so many rows, or as many as there are.
///
/// # Errors
/// When the records can't be read.
pub async fn choose(
    records: &dyn Records,
    n: usize,
    now: DateTime<Utc>,
) -> Result<Chosen, RecordError> {
    let mut choice = Choice { records, n, seen: HashSet::new(), chosen: Chosen::default() };
    if let Some(since) = since(records, n, now).await? {
        let step = (now - since) / MOMENTS;
        let share = n.div_ceil(usize::try_from(MOMENTS).unwrap_or(1));
        for moment in 0..MOMENTS {
            let from = since + step * moment;
            let until = (moment + 1 < MOMENTS).then(|| from + step);
            let selection = reviewed(Taken::Between(Some(from), until));
            let at_most = choice.chosen.rows.len() + share;
            choice.take(&selection, at_most.min(n)).await?;
        }
        choice.take(&reviewed(Taken::Between(Some(since), None)), n).await?;
    }
    choice.take(&reviewed(Taken::Any), n).await?;
    Ok(choice.chosen)
}

fn reviewed(taken: Taken) -> Selection {
    Selection {
        statuses: vec![SUCCESS.to_owned()],
        categories: Vec::new(),
        details: Details::Any,
        taken,
    }
}

/// The beginning of the shortest time that holds enough rows.
async fn since(
    records: &dyn Records,
    n: usize,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, RecordError> {
    for days in DAYS {
        let since = now - TimeDelta::days(days);
        if records.count_of(&reviewed(Taken::Between(Some(since), None))).await? >= n as u64 {
            return Ok(Some(since));
        }
    }
    Ok(None)
}

struct Choice<'a> {
    records: &'a dyn Records,
    n: usize,
    seen: HashSet<String>,
    chosen: Chosen,
}

impl Choice<'_> {
    /// Takes the oldest of these rows until there are so many.
    async fn take(&mut self, selection: &Selection, at_most: usize) -> Result<(), RecordError> {
        let mut after: Option<Cursor> = None;
        while self.chosen.rows.len() < at_most {
            // Some may be left out, and a page of one row each would take for ever.
            let limit = u32::try_from(self.n).unwrap_or(PAGE).clamp(1, PAGE);
            let page = self.records.find(selection, after.as_ref(), limit).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(Cursor { created_at: last.record.created_at, id: last.record.id.clone() });
            for row in page {
                if self.chosen.rows.len() < at_most && self.seen.insert(row.record.id.0.clone()) {
                    self.add(row);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, row: Found) {
        let details = row.auto_review_details.as_deref().unwrap_or_default();
        if UNREADABLE.iter().any(|words| details.starts_with(words)) {
            self.chosen.n_unreadable += 1;
        } else {
            self.chosen.rows.push(row);
        }
    }
}
