//! What has been written down, and what could not be: the counts of the report.
//!
//! Invariant: a row is counted when its last write is known to have happened, never before.

use tokio::time::Instant;

use super::work::{Close, Trouble, Undo, What};
use super::{Batch, Phase, Rewrite, Stage};
use crate::review::record::{RecordId, Settlement, Written};
use crate::review::report::{End, News, RowResult};
use crate::review::settle::{Ending, TRIES};

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

    fn written(&mut self, id: &RecordId, close: &Close, written: Written, now: Instant) {
        match &close.what {
            What::Settle { settlement, ending } => {
                self.records.good(now);
                self.items.remove(id);
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
            Ending::Errored => &mut self.counts.errored,
            Ending::Blocked => &mut self.counts.blocked,
        };
        *counter += 1;
        let result = if ending == Ending::Succeeded {
            Ok((auto_review_status.clone(), auto_review_details.clone()))
        } else {
            // Without what the tries before it met, which would make each reason its own.
            let reason = auto_review_details.split(&format!(" ({TRIES} tries: ")).next();
            let reason = reason.unwrap_or_default();
            *self.reasons.entry(reason.to_owned()).or_default() += 1;
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
                    self.count(&undo.claimed.record.id, settlement, Ending::Errored);
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
