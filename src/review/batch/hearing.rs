//! What the loop makes of the events of its tasks.
//!
//! Invariant: each event of an image either starts its next piece of work or closes it.

use std::time::Duration;

use tokio::task::{Id, JoinError};
use tokio::time::Instant;

use super::refusals::{FetchNo, Kind, Refusal, Refusals};
use super::work::{Event, Fetched, Page, Trouble, Undo, What};
use super::{Batch, Claiming, Owner, Phase, Probe, Rewrite, Stage, Word};
use crate::review::record::{RecordError, RecordId};
use crate::review::report::End;
use crate::review::reviewer::{Fault, Outcome};
use crate::review::settle::{Ended, Others};
use crate::review::source::SourceError;
use crate::review::tries::{Begun, TryOutcome};
use crate::storage::StorageError;

/// How often a bucket that refuses nearly every picture is asked for one again.
const PROBE_EVERY: Duration = Duration::from_secs(30);

/// Writes to records that are down: 1, 2, 4, 8, 16 and then every 30 s.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

impl Batch {
    /// A task has ended.
    pub(super) fn hear(&mut self, ended: Result<(Id, Event), JoinError>) {
        let now = Instant::now();
        match ended {
            Ok((task, event)) => {
                self.owners.remove(&task);
                self.hear_event(event, now);
            }
            Err(error) => {
                let owner = self.owners.remove(&error.id());
                self.hear_no_event(owner, &error, now);
            }
        }
    }

    fn hear_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Claimed(page) => self.on_claimed(page, now),
            Event::Begun { id, begun } => self.on_begun(id, begun, now),
            Event::Fetched { id, number, fetched } => self.on_fetched(&id, number, fetched, now),
            Event::Reviewed { id, outcome } => self.on_reviewed(&id, outcome, now),
            Event::Closed { id, close, closed } => self.on_closed(&id, close, closed, now),
            Event::Undone { undo, undone } => self.on_undone(undo, undone, now),
            Event::Noted(noted) => {
                self.n_undoing = self.n_undoing.saturating_sub(1);
                // A try that has ended frees what was set aside for it.
                self.over_budget = None;
                if let Err(error) = noted {
                    self.stop_now(broken_state(&error), now);
                }
            }
        }
    }

    /// It was aborted, or it panicked.
    fn hear_no_event(&mut self, owner: Option<Owner>, error: &JoinError, now: Instant) {
        match owner {
            Some(Owner::Image(id)) => self.image_without_event(&id, error, now),
            Some(Owner::Claim) => {
                self.claiming = Claiming::Over;
                self.stop_now(End::Broken(format!("taking rows failed inside: {error}")), now);
            }
            Some(Owner::Undo) => {
                self.n_undoing = self.n_undoing.saturating_sub(1);
                self.unwritten += 1;
            }
            None => {}
        }
    }

    fn image_without_event(&mut self, id: &RecordId, error: &JoinError, now: Instant) {
        let Some(stage) = self.items.get(id).map(|item| item.stage) else { return };
        match stage {
            Stage::Fetching => self.desk.fetched_nothing(),
            Stage::Reviewing => self.desk.reviewed(),
            // Writing or beginning it panicked: our notes say what is to be put right.
            Stage::Queued | Stage::Beginning | Stage::Ready | Stage::Held | Stage::Closing => {
                self.desk.closed();
                self.items.remove(id);
                self.unwritten += 1;
                return;
            }
        }
        if error.is_cancelled() {
            let end = self.end_of_try(id, TryOutcome::Returned, None, None);
            self.close(id, Some(end), What::GiveBack);
        } else {
            let reason = "working on this picture failed inside Lookout".to_owned();
            // Whatever the file is: the next try may fare better.
            let ended = Ended::NoImage { reason, sha256: String::new() };
            self.decide(id, ended, None, Others::Unknown, now);
        }
    }

    fn on_claimed(&mut self, page: Page, now: Instant) {
        let Page { items, cursor, n_asked, is_last, doubtful, trouble } = page;
        self.claiming = if is_last { Claiming::Over } else { Claiming::From(now) };
        self.cursor = cursor;
        self.n_asked += n_asked;
        self.counts.claimed += items.len() as u64;
        self.counts.batches += u64::from(!items.is_empty());
        let undos = doubtful.into_iter().map(|claimed| {
            (now, Rewrite::Undo(Box::new(Undo { claimed, fence: None, settlement: None })))
        });
        self.rewrites.extend(undos);
        self.admit(items);
        match trouble {
            None => self.records.good(now),
            Some(trouble) => {
                self.claiming = Claiming::From(now + self.backoff());
                self.on_trouble(&trouble, now);
            }
        }
        // The box may have ended while the claim was under way.
        if !matches!(self.phase, Phase::Working) {
            self.claiming = Claiming::Over;
            self.give_back_unbegun();
        }
    }

    /// Waits longer the longer the records have been down.
    fn backoff(&self) -> Duration {
        let lasted = self.records.lasts(Instant::now());
        (lasted + Duration::from_secs(1)).min(LONGEST_BACKOFF)
    }

    /// Reading or writing failed: the caller tries again; here is decided whether the run goes on.
    pub(super) fn on_trouble(&mut self, trouble: &Trouble, now: Instant) {
        match trouble {
            Trouble::Records(RecordError::Unavailable(reason)) => {
                self.records.faults(1, reason, now);
            }
            Trouble::Records(RecordError::Refused(reason)) => {
                self.records.faults(1, reason, now);
                self.stop_now(End::Broken(reason.clone()), now);
            }
            Trouble::Records(
                RecordError::Misconfigured(reason) | RecordError::Rejected(reason),
            ) => {
                self.stop_now(End::Misconfigured(reason.clone()), now);
            }
            Trouble::State(error) => self.stop_now(broken_state(error), now),
        }
    }

    /// Tries a write again later.
    pub(super) fn again(&mut self, rewrite: Rewrite, now: Instant) {
        let at = now + self.backoff();
        self.rewrites.push((at, rewrite));
    }

    fn on_begun(&mut self, id: RecordId, begun: Result<Begun, StorageError>, now: Instant) {
        match begun {
            Ok(Begun::Yes(try_id)) => {
                self.fetch(id.clone(), try_id);
                if matches!(self.phase, Phase::GivingBack { .. }) {
                    self.abort(&id);
                }
            }
            Ok(Begun::OverBudget { reason }) => {
                self.back_to_queue(id);
                if self.has_no_open_try() {
                    self.stop_for(crate::review::settle::Stop::Budget(reason), now);
                } else {
                    // What is in hand may give back some of what was set aside for it.
                    self.over_budget = Some(reason);
                }
            }
            Err(error) => {
                self.back_to_queue(id);
                self.stop_now(broken_state(&error), now);
            }
        }
    }

    fn back_to_queue(&mut self, id: RecordId) {
        if let Some(item) = self.items.get_mut(&id) {
            item.stage = Stage::Queued;
        }
        self.desk.not_begun(id);
        if !matches!(self.phase, Phase::Working) {
            self.give_back_unbegun();
        }
    }

    fn on_fetched(&mut self, id: &RecordId, number: FetchNo, fetched: Fetched, now: Instant) {
        match fetched {
            Fetched::Prepared(picture) => {
                self.served(number, now);
                self.desk.prepared(id.clone());
                if let Some(item) = self.items.get_mut(id)
                    && let Some(work) = &mut item.work
                {
                    item.stage = Stage::Ready;
                    work.sha256 = Some(picture.sha256.clone());
                    work.picture = Some(picture);
                    work.task = None;
                }
            }
            Fetched::BadFile { reason, sha256 } => {
                self.served(number, now);
                self.desk.fetched_nothing();
                if let Some(work) = self.items.get_mut(id).and_then(|item| item.work.as_mut()) {
                    work.sha256 = Some(sha256.clone());
                }
                let ended = Ended::NoImage { reason, sha256 };
                self.decide(id, ended, None, Others::Unknown, now);
            }
            Fetched::Refused(error) => {
                self.desk.fetched_nothing();
                self.on_refused(id, number, error, now);
            }
        }
    }

    fn on_refused(&mut self, id: &RecordId, number: FetchNo, error: SourceError, now: Instant) {
        let (kind, reason) = Refusals::kind_of(error);
        let Some(item) = self.items.get(id) else { return };
        let judged_before =
            item.history.failed.last() == Some(&crate::review::settle::shorten(&reason));
        let working = matches!(self.phase, Phase::Working);
        if kind == Kind::Missing && judged_before && self.probe == Probe::Off {
            // It was missing while others were there, and it still is.
            self.decide(id, Ended::NoFile(reason), None, Others::Unknown, now);
            return;
        }
        let end = self.end_of_try(id, TryOutcome::Fault, Some(reason.clone()), None);
        if !working {
            self.close(id, Some(end), What::GiveBack);
            return;
        }
        if let Some(item) = self.items.get_mut(id) {
            item.stage = Stage::Held;
            if let Some(work) = &item.work {
                let try_id = work.try_id;
                self.note_end(try_id, end);
            }
        }
        self.refusals.refused(number, Refusal { id: id.clone(), kind, reason: reason.clone() });
        match self.probe {
            Probe::Off if self.refusals.is_outage() => self.bucket_is_down(now),
            Probe::Off => {}
            Probe::At(_) | Probe::UnderWay => {
                self.images.faults(1, &reason, now);
                self.probe = Probe::At(now + PROBE_EVERY);
            }
        }
    }

    /// Nearly every picture is refused: nobody's try; one is asked for from time to time.
    pub(super) fn bucket_is_down(&mut self, now: Instant) {
        let detail = self.refusals.latest().unwrap_or("no picture can be fetched").to_owned();
        let (n_refused, n_fetched) = self.refusals.counts();
        let n_held = self.refusals.n_held();
        let detail = format!(
            "{n_held} pictures in a row could not be fetched ({n_refused} of {n_fetched} in this \
             run); the last one: {detail}"
        );
        self.images.faults(n_held as u64, &detail, now);
        self.probe = Probe::At(now + PROBE_EVERY);
    }

    /// The bucket has served a file.
    fn served(&mut self, number: FetchNo, now: Instant) {
        let judged = self.refusals.served(number);
        self.images.good(now);
        if self.probe == Probe::Off {
            self.judge(judged, now);
            return;
        }
        // The outage is over; what it had refused is asked for again and has lost nothing.
        self.probe = Probe::Off;
        for refusal in judged.into_iter().chain(self.refusals.take()) {
            if let Some(item) = self.items.get_mut(&refusal.id) {
                item.stage = Stage::Queued;
                self.desk.delay(refusal.id, now);
            }
        }
    }

    /// These refusals are the pictures' own.
    pub(super) fn judge(&mut self, judged: Vec<Refusal>, now: Instant) {
        for Refusal { id, kind, reason } in judged {
            let ended = match kind {
                Kind::Missing => Ended::NoFile(reason),
                Kind::Refused => Ended::BucketFault(reason),
            };
            self.decide(&id, ended, None, Others::Answered, now);
        }
    }

    fn on_reviewed(&mut self, id: &RecordId, outcome: Outcome, now: Instant) {
        self.desk.reviewed();
        let Outcome { result, evidence } = outcome;
        let mut others = Others::Unknown;
        match &result {
            Err(Fault::Unavailable { status, .. }) => {
                others = self.others(id, *status, evidence.meanwhile);
                match others {
                    Others::Answered => {
                        self.own_attempts += u64::from(evidence.attempts);
                        self.provider.absolve();
                    }
                    Others::Unknown => {}
                }
                self.word(id, Word::Fault);
            }
            Ok(_)
            | Err(Fault::Unreadable { .. } | Fault::Picture { .. } | Fault::Blocked { .. }) => {
                self.word(id, Word::Answer);
            }
            Err(
                Fault::Quota { .. } | Fault::Refused(_) | Fault::Budget { .. } | Fault::OutOfTime,
            ) => {}
        }
        self.look_at_health(now);
        self.decide(id, Ended::Reviewed(result), Some(evidence), others, now);
    }
}

fn broken_state(error: &StorageError) -> End {
    End::Broken(format!("{error}; free space or permissions may be missing"))
}
