//! Changing the rows: page by page, each row only if it still is as it was found.
//!
//! Invariant: a row that a review on this machine has noted as its own is left to it.

use std::sync::Arc;

use super::plan::{Named, Pages, Plan};
use super::{Ended, Purpose};
use crate::config::Config;
use crate::review::record::selection::{Found, SendBack};
use crate::review::record::{RecordId, Records};

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
        change(&page, plan.purpose.change(), records, &mut changed).await?;
    }
    Ok(changed)
}

/// Changes those that were named; those that wait already may be reviewed with them.
pub(super) async fn named(
    named: &Named,
    purpose: &Purpose,
    records: &Arc<dyn Records>,
) -> Result<Changed, Ended> {
    let mut changed = Changed::default();
    change(&named.rows, purpose.change(), records, &mut changed).await?;
    Ok(changed)
}

async fn change(
    rows: &[Found],
    to: Option<&SendBack>,
    records: &Arc<dyn Records>,
    changed: &mut Changed,
) -> Result<(), Ended> {
    let Some(to) = to else {
        changed.ready.extend(rows.iter().map(|row| row.record.id.clone()));
        return Ok(());
    };
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
