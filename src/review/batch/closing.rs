//! What has been written down, and what could not be: the counts of the report.
//!
//! Invariant: a row is counted when its last write is known to have happened, never before.

use tokio::time::Instant;

use super::work::{Close, Trouble, Undo, What};
use super::{Batch, Phase, Rewrite, Stage};
use crate::review::record::{RecordError, RecordId, Settlement, Written};
use crate::review::report::{End, Failures, News, RowResult};
use crate::review::settle::{Ending, FailureCause, last_reason, unwritable};
use crate::review::tries::TryEnd;

/// Results of one row after another that the table does not take: then it is the table, not the rows.
const MANY_REJECTED: u32 = 3;

const UNWRITABLE: Ending = Ending::Errored(FailureCause::Unwritable);

impl Batch {
    pub(super) fn on_closed(
        &mut self,
        id: &RecordId,
        close: Box<Close>,
        closed: Result<Written, Trouble>,
        now: Instant,
    ) {
        match closed {
            Ok(written) => {
                self.desk.closed();
                self.over_budget = None;
                self.written(id, &close, written, now);
            }
            Err(Trouble::Records(RecordError::Rejected(reason))) => {
                self.desk.closed();
                self.on_rejected(id, *close, &reason, now);
            }
            Err(trouble @ Trouble::Records(_)) => {
                let close = Box::new(Close { n_failed: close.n_failed + 1, ..*close });
                self.on_trouble(&trouble, now);
                self.again(Rewrite::Close(close), now);
            }
            Err(trouble @ Trouble::State(_)) => {
                // The row itself may be written, but nobody can say so any more.
                self.desk.closed();
                self.items.remove(id);
                self.unwritten += 1;
                self.on_trouble(&trouble, now);
            }
        }
    }

    /// The table does not take what was to be written into this row: the row's own matter, unless it
    /// is so for one row after another.
    fn on_rejected(&mut self, id: &RecordId, close: Close, reason: &str, now: Instant) {
        match close.what {
            What::Settle { ending, .. } if ending != UNWRITABLE => {
                self.n_rejected += 1;
                if self.n_rejected >= MANY_REJECTED {
                    self.stop_now(End::Misconfigured(reason.to_owned()), now);
                    self.close_again(close.claimed, close.ended, What::GiveBack);
                    return;
                }
                let settlement = unwritable(reason);
                let ended = close.ended.map(|(try_id, end)| {
                    let status = settlement.auto_review_status.clone();
                    let details = settlement.auto_review_details.clone();
                    let result = Some((status, details.clone()));
                    (try_id, TryEnd { result, reason: Some(details), ..end })
                });
                let what = What::Settle { settlement, ending: UNWRITABLE };
                self.close_again(close.claimed, ended, what);
            }
            // Not even an error, and not back either: our notes say what is to be put right.
            What::Settle { .. } | What::GiveBack | What::Keep { .. } => {
                self.items.remove(id);
                self.unwritten += 1;
                self.note(format!("the row {} can't be written: {reason}", id.0));
            }
        }
    }

    fn written(&mut self, id: &RecordId, close: &Close, written: Written, now: Instant) {
        match &close.what {
            What::Settle { settlement, ending } => {
                self.records.good(now);
                self.items.remove(id);
                if *ending != UNWRITABLE {
                    self.n_rejected = 0;
                }
                match written {
                    Written::Yes => self.count(id, settlement, *ending),
                    Written::Lost => self.count_lost(id),
                }
            }
            What::GiveBack => {
                self.records.good(now);
                self.items.remove(id);
                match written {
                    Written::Yes => self.count_returned(),
                    Written::Lost => self.count_lost(id),
                }
            }
            What::Keep { wait } => {
                if let Some(item) = self.items.get_mut(id) {
                    item.stage = Stage::Queued;
                    item.history.suspect = false;
                }
                if matches!(self.phase, Phase::Working) {
                    self.desk.delay(id.clone(), now + *wait);
                } else {
                    self.close(id, None, What::GiveBack);
                }
            }
        }
    }

    fn count(&mut self, id: &RecordId, settlement: &Settlement, ending: Ending) {
        let Settlement { auto_review_status, auto_review_details, .. } = settlement;
        let counter = match ending {
            Ending::Succeeded => &mut self.counts.succeeded,
            Ending::Errored(_) => &mut self.counts.errored,
            Ending::Blocked => &mut self.counts.blocked,
        };
        *counter += 1;
        let cause = match ending {
            Ending::Succeeded => None,
            Ending::Errored(cause) => Some(cause),
            Ending::Blocked => Some(FailureCause::Blocked),
        };
        let result = if ending == Ending::Succeeded {
            Ok((auto_review_status.clone(), auto_review_details.clone()))
        } else {
            // Without what the tries before it met, which would make each reason its own.
            let reason = last_reason(auto_review_details);
            *self.reasons.entry(reason.to_owned()).or_default() += 1;
            if let Some(cause) = cause {
                let failures = self.failures.entry(cause).or_default();
                *failures = Failures { n: failures.n + 1, last: reason.to_owned() };
            }
            Err(auto_review_details.clone())
        };
        self.say(&News::Result(RowResult { image_id: id.0.clone(), result }));
    }

    /// By what stopped the run, not by what each row met: reasons are few, rows are many.
    fn count_returned(&mut self) {
        self.counts.returned += 1;
        let why = match &self.phase {
            Phase::PuttingRight | Phase::Working => "no answer came within its time",
            Phase::WindingDown { end, .. } | Phase::GivingBack { end, .. } => match end {
                End::Done | End::BoxFull => "the run's time was over before its turn",
                End::GaveUp { kind, .. } => kind,
                End::Exhausted(_) => "out of quota or budget",
                End::Credentials(_) => "no key is accepted",
                End::Misconfigured(_) => "something is set up wrongly",
                End::Broken(_) => "rows or notes can't be written",
            },
        };
        *self.reasons.entry(format!("given back: {why}")).or_default() += 1;
    }

    /// Somebody else has changed the row while it was in our hands: it is left as it is.
    fn count_lost(&mut self, id: &RecordId) {
        self.counts.returned += 1;
        self.counts.lost += 1;
        self.note(format!(
            "the row {} was changed by somebody else while it was being reviewed and is left alone",
            id.0
        ));
    }

    pub(super) fn on_undone(
        &mut self,
        undo: Box<Undo>,
        undone: Result<Written, Trouble>,
        now: Instant,
    ) {
        self.n_undoing = self.n_undoing.saturating_sub(1);
        match undone {
            Ok(written) => {
                self.records.good(now);
                // The others of a dead process wait for their turn.
                for (at, rewrite) in &mut self.rewrites {
                    if matches!(rewrite, Rewrite::Undo(_)) {
                        *at = (*at).min(now);
                    }
                }
                if let (Some(settlement), Written::Yes) = (&undo.settlement, written) {
                    self.counts.claimed += 1;
                    let ending = Ending::Errored(FailureCause::Crash);
                    self.count(&undo.claimed.record.id, settlement, ending);
                }
            }
            Err(trouble) => {
                self.on_trouble(&trouble, now);
                match trouble {
                    Trouble::Records(_) => self.again(Rewrite::Undo(undo), now),
                    Trouble::State(_) => self.unwritten += 1,
                }
            }
        }
    }
}
