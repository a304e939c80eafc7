//! From how a piece of work ended to what is written: `settle`'s decision, carried out.
//!
//! Invariant: a row stays ours only if there is time for it in this run.

use std::time::Duration;

use tokio::time::Instant;

use super::work::What;
use super::{Asked, Batch, Claiming, Phase};
use crate::review::record::RecordId;
use crate::review::reviewer::{Evidence, Fault};
use crate::review::settle::{Ended, Ending, Next, Others, is_sexual, next};
use crate::review::tries::{TryEnd, TryOutcome};

impl Batch {
    /// Decides what becomes of a row and has it written down.
    pub(super) fn decide(
        &mut self,
        id: &RecordId,
        ended: Ended,
        evidence: Option<Evidence>,
        others: Others,
        now: Instant,
    ) {
        let Some(history) = self.items.get(id).map(|item| item.history.clone()) else { return };
        let proposal = proposal_for(&ended);
        let blocked = proposal.is_some();
        match next(&self.plan.policy, &history, ended, others) {
            Next::Settle { settlement, ending } => {
                let outcome = match ending {
                    Ending::Succeeded if !blocked => TryOutcome::Answered,
                    Ending::Succeeded | Ending::Blocked => TryOutcome::Blocked,
                    Ending::Errored(_) => TryOutcome::Failed,
                };
                let reason = (ending != Ending::Succeeded).then(|| {
                    format!("{}{}", settlement.auto_review_details, proposal.unwrap_or_default())
                });
                let mut end = self.end_of_try(id, outcome, reason, evidence);
                let details = settlement.auto_review_details.clone();
                end.result = Some((settlement.auto_review_status.clone(), details));
                self.close(id, Some(end), What::Settle { settlement, ending });
            }
            Next::TryAgain { reason, correction, wait } => {
                if let Some(item) = self.items.get_mut(id) {
                    item.history.failed.push(reason.clone());
                    item.history.last_file =
                        item.work.as_ref().and_then(|work| work.sha256.clone());
                    item.correction = correction;
                }
                let end = self.end_of_try(id, TryOutcome::Failed, Some(reason), evidence);
                self.keep(id, end, wait, now);
            }
            Next::Later { reason, others, wait } => {
                self.later(id, (reason, others, wait), evidence, now);
            }
            Next::GiveBack => {
                let end = self.end_of_try(id, TryOutcome::Returned, None, evidence);
                self.close(id, Some(end), What::GiveBack);
            }
            Next::Stop(stop) => {
                let reason = Some(super::ending::words(&stop).to_owned());
                let end = self.end_of_try(id, TryOutcome::Fault, reason, evidence);
                self.close(id, Some(end), What::GiveBack);
                self.stop_for(stop, now);
            }
        }
    }

    fn later(
        &mut self,
        id: &RecordId,
        (reason, others, wait): (String, Others, Duration),
        evidence: Option<Evidence>,
        now: Instant,
    ) {
        let outcome = match others {
            Others::Answered => TryOutcome::OwnFault,
            Others::Unknown => TryOutcome::Fault,
        };
        let end = self.end_of_try(id, outcome, Some(reason), evidence);
        let nothing_else = self.items.len() == 1 && self.claiming == Claiming::Over;
        let Some(item) = self.items.get_mut(id) else { return };
        if others == Others::Answered {
            item.history.own_faults += 1;
        } else if item.history.own_faults > 0 && nothing_else {
            // It has met this fault while others were answered, and it is the last one: waiting for
            // the provider to come back would take the whole box for one picture.
            self.close(id, Some(end), What::GiveBack);
            return;
        }
        self.keep(id, end, wait, now);
    }

    /// The row stays ours, if there is time for it in this run.
    fn keep(&mut self, id: &RecordId, end: TryEnd, wait: Duration, now: Instant) {
        let in_time = self.plan.box_end.is_none_or(|box_end| now + wait < box_end);
        if in_time && matches!(self.phase, Phase::Working) {
            self.close(id, Some(end), What::Keep { wait });
        } else {
            self.close(id, Some(end), What::GiveBack);
        }
    }

    /// What is known at the end of the try under way.
    pub(super) fn end_of_try(
        &self,
        id: &RecordId,
        outcome: TryOutcome,
        reason: Option<String>,
        evidence: Option<Evidence>,
    ) -> TryEnd {
        let work = self.items.get(id).and_then(|item| item.work.as_ref());
        let was_asked = work.is_some_and(|work| work.asked == Asked::Yes);
        let per_try = self.ports.reviewer.usd_per_try().unwrap_or(0.0);
        let cost = match &evidence {
            // A try never can cost more than was set aside for it.
            Some(evidence) => evidence.usd_at_most.or(evidence.usd).unwrap_or(per_try),
            // It was under way and nobody knows how far it came.
            None if was_asked => per_try,
            None => 0.0,
        };
        TryEnd {
            outcome,
            at: self.ports.clock.now(),
            reason,
            sha256: work.and_then(|work| work.sha256.clone()),
            result: None,
            evidence,
            took: work.map_or(Duration::ZERO, |work| work.begun.elapsed()),
            cost,
        }
    }
}

/// What our own notes propose for a blocked picture; the row gets no code that nobody has seen.
fn proposal_for(ended: &Ended) -> Option<&'static str> {
    let Ended::Reviewed(Err(Fault::Blocked { reason, sexually_explicit })) = ended else {
        return None;
    };
    Some(if is_sexual(reason, *sexually_explicit) {
        "; N1 is proposed"
    } else {
        "; a person should look at it"
    })
}
