//! An item: one row of ours, how far it is, and what becomes of it.
//!
//! The tasks of its stages are here, too: begin, fetch and prepare, review. What is decided at their
//! end is `settle`'s; writing it is `write_back`'s.
//! Invariant: a try that has begun ends exactly once, with what it cost at most.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Ports;
use super::write_back::{Close, Disposition};
use crate::review::picture::sha256_hex;
use crate::review::record::{Claimed, Record};
use crate::review::reviewer::{CallRecord, Fault, Prepared};
use crate::review::settle::{
    History, PeerOutcome, Policy, RowDecision, RowOutcome, Stop, WorkResult, decide, is_sexual,
    shorten,
};
use crate::review::source::SourceError;
use crate::review::tries::{Begin, Isolation, TryEnd, TryId, TryOutcome};

/// Where a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waiting or delayed.
    Queued,
    /// Its try is being written down.
    Beginning,
    /// Being fetched and prepared.
    Fetching,
    /// Prepared, waiting for the provider.
    Ready,
    /// At the provider.
    Reviewing,
    /// Refused by the bucket, not yet judged.
    Held,
    /// What came of it is being written.
    Closing,
}

/// Whether other rows are still to be worked on in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remaining {
    Others,
    OnlyThis,
}

/// A row of ours.
#[derive(Debug)]
pub(super) struct Item {
    claimed: Claimed,
    history: History,
    /// What the model should be told about its answer before.
    correction: Option<String>,
    stage: Stage,
    work: Option<Work>,
}

/// A try under way, or the last one.
#[derive(Debug)]
struct Work {
    try_id: TryId,
    begun: Instant,
    sha256: Option<String>,
    image: Option<Prepared>,
    asked: Asked,
    task: Option<AbortHandle>,
}

/// Whether the image was sent to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    No,
    Yes,
}

/// What a fetch brought.
#[derive(Debug)]
pub(super) enum Fetched {
    /// An image to send.
    Prepared(Prepared),
    /// A file that can't be prepared, and its SHA-256.
    BadFile { reason: String, sha256: String },
    /// No file.
    Refused(SourceError),
}

/// What a row becomes at the end of a piece of work.
#[derive(Clone, Debug)]
pub(super) struct Conclusion {
    /// How the try ended; `None`: none is to be ended.
    pub(super) end: Option<TryEnd>,
    pub(super) disposition: Disposition,
    /// Why nothing more can be reviewed in this run.
    pub(super) stop: Option<Stop>,
}

impl Conclusion {
    fn new(end: TryEnd, disposition: Disposition) -> Self {
        Self { end: Some(end), disposition, stop: None }
    }

    /// Back to where it came from, with the end of its try.
    pub(super) fn release(end: TryEnd) -> Self {
        Self::new(end, Disposition::Release)
    }

    /// Back to where it came from; no try is under way.
    pub(super) fn without_a_try() -> Self {
        Self { end: None, disposition: Disposition::Release, stop: None }
    }
}

impl Item {
    pub(super) fn new(claimed: Claimed, history: History) -> Self {
        Self { claimed, history, correction: None, stage: Stage::Queued, work: None }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Faults of others that met it while its peers succeeded.
    pub(super) fn own_faults(&self) -> u32 {
        self.history.own_faults
    }

    /// Whether its last try failed for this reason, too.
    pub(super) fn failed_before(&self, reason: &str) -> bool {
        self.history.failed.last() == Some(&shorten(reason))
    }

    pub(super) fn begin(
        &mut self,
        isolation: Isolation,
        reserve: Option<f64>,
        at: DateTime<Utc>,
    ) -> Begin {
        self.stage = Stage::Beginning;
        Begin { id: self.claimed.record.id.clone(), at, isolation, reserve }
    }

    pub(super) fn requeue(&mut self) {
        self.stage = Stage::Queued;
    }

    /// Its try is written down; what to fetch.
    pub(super) fn fetch(&mut self, try_id: TryId) -> Record {
        self.stage = Stage::Fetching;
        self.work = Some(Work {
            try_id,
            begun: Instant::now(),
            sha256: None,
            image: None,
            asked: Asked::No,
            task: None,
        });
        self.claimed.record.clone()
    }

    pub(super) fn prepared(&mut self, image: Prepared) {
        if let Some(work) = &mut self.work {
            self.stage = Stage::Ready;
            work.sha256 = Some(image.sha256.clone());
            work.image = Some(image);
            work.task = None;
        }
    }

    /// The file of its try, which can't be prepared.
    pub(super) fn has_file(&mut self, sha256: String) {
        if let Some(work) = &mut self.work {
            work.sha256 = Some(sha256);
        }
    }

    /// What is sent to the provider now, with what it should be told; `None`: nothing is prepared.
    pub(super) fn review(&mut self) -> Option<(Prepared, Option<String>)> {
        self.stage = Stage::Reviewing;
        let work = self.work.as_mut()?;
        work.asked = Asked::Yes;
        Some((work.image.take()?, self.correction.clone()))
    }

    /// It is held until the bucket is judged; the try to end meanwhile.
    pub(super) fn hold(&mut self) -> Option<TryId> {
        self.stage = Stage::Held;
        self.work.as_ref().map(|work| work.try_id)
    }

    pub(super) fn runs_in(&mut self, task: AbortHandle) {
        if let Some(work) = &mut self.work {
            work.task = Some(task);
        }
    }

    /// Cuts short what is under way; its task ends without an event.
    pub(super) fn abort(&self) {
        if let Some(task) = self.work.as_ref().and_then(|work| work.task.as_ref()) {
            task.abort();
        }
    }

    /// Its end is written, and it stays ours.
    pub(super) fn kept(&mut self) {
        self.stage = Stage::Queued;
        self.history.suspect = false;
    }

    /// What is to be written.
    pub(super) fn close(&mut self, conclusion: Conclusion) -> Close {
        self.stage = Stage::Closing;
        let ended = conclusion.end.zip(self.work.take()).map(|(end, work)| (work.try_id, end));
        Close::new(self.claimed.clone(), ended, conclusion.disposition)
    }

    /// Decides what becomes of it.
    pub(super) fn conclude(
        &mut self,
        policy: &Policy,
        result: WorkResult,
        peers: PeerOutcome,
        call: Option<CallRecord>,
        remaining: Remaining,
        ports: &Ports,
    ) -> Conclusion {
        let proposal = proposal_for(&result);
        match decide(policy, &self.history, result, peers) {
            RowDecision::Settle { settlement, outcome } => {
                let blocked = proposal.is_some();
                let ended_as = match outcome {
                    RowOutcome::Succeeded if !blocked => TryOutcome::Answered,
                    RowOutcome::Succeeded | RowOutcome::Blocked => TryOutcome::Blocked,
                    RowOutcome::Errored(_) => TryOutcome::Failed,
                };
                let details = settlement.auto_review_details.clone();
                let reason = (outcome != RowOutcome::Succeeded)
                    .then(|| format!("{details}{}", proposal.unwrap_or_default()));
                let mut end = self.end_of_try(ended_as, reason, call, ports);
                end.result = Some((settlement.auto_review_status.clone(), details));
                Conclusion::new(end, Disposition::Settle { settlement, outcome })
            }
            RowDecision::TryAgain { reason, correction, wait } => {
                self.history.failed.push(reason.clone());
                self.history.last_file = self.work.as_ref().and_then(|work| work.sha256.clone());
                self.correction = correction;
                let end = self.end_of_try(TryOutcome::Failed, Some(reason), call, ports);
                Conclusion::new(end, Disposition::Keep { wait })
            }
            RowDecision::Later { reason, peers, wait } => {
                let disposition = self.after_fault(peers, wait, remaining);
                let ended_as = match peers {
                    PeerOutcome::Answered => TryOutcome::OwnFault,
                    PeerOutcome::Unknown => TryOutcome::Fault,
                };
                Conclusion::new(self.end_of_try(ended_as, Some(reason), call, ports), disposition)
            }
            RowDecision::Release => {
                Conclusion::release(self.end_of_try(TryOutcome::Returned, None, call, ports))
            }
            RowDecision::Stop(stop) => {
                let reason = Some(stop.reason().to_owned());
                let end = self.end_of_try(TryOutcome::Fault, reason, call, ports);
                Conclusion { stop: Some(stop), ..Conclusion::release(end) }
            }
        }
    }

    fn after_fault(
        &mut self,
        peers: PeerOutcome,
        wait: Duration,
        remaining: Remaining,
    ) -> Disposition {
        match (peers, remaining) {
            (PeerOutcome::Answered, _) => {
                self.history.own_faults += 1;
                Disposition::Keep { wait }
            }
            // It has met this fault while others were answered, and it is the last one: waiting for
            // the provider to come back would take the whole box for one image.
            (PeerOutcome::Unknown, Remaining::OnlyThis) if self.history.own_faults > 0 => {
                Disposition::Release
            }
            (PeerOutcome::Unknown, Remaining::OnlyThis | Remaining::Others) => {
                Disposition::Keep { wait }
            }
        }
    }

    /// What is known at the end of the try under way.
    pub(super) fn end_of_try(
        &self,
        outcome: TryOutcome,
        reason: Option<String>,
        call: Option<CallRecord>,
        ports: &Ports,
    ) -> TryEnd {
        let work = self.work.as_ref();
        let was_asked = work.is_some_and(|work| work.asked == Asked::Yes);
        let per_try = ports.reviewer.usd_per_try().unwrap_or(0.0);
        let cost = match &call {
            // A try never can cost more than was set aside for it.
            Some(call) => call.usd_at_most.or(call.usd).unwrap_or(per_try),
            // It was under way, and nobody knows how far it came.
            None if was_asked => per_try,
            None => 0.0,
        };
        TryEnd {
            outcome,
            at: ports.clock.now(),
            reason,
            sha256: work.and_then(|work| work.sha256.clone()),
            result: None,
            call,
            took: work.map_or(Duration::ZERO, |work| work.begun.elapsed()),
            cost,
        }
    }
}

/// What our own notes propose for a blocked image; the row gets no code that nobody has seen.
fn proposal_for(result: &WorkResult) -> Option<&'static str> {
    let WorkResult::Reviewed(Err(Fault::Blocked { reason, sexually_explicit })) = result else {
        return None;
    };
    let is_sexual = is_sexual(reason, *sexually_explicit);
    Some(if is_sexual { "; N1 is proposed" } else { "; a person should look at it" })
}

/// Fetches and prepares; a transfer that broke off is repeated once, at once.
pub(super) async fn fetch(ports: &Ports, record: &Record) -> Fetched {
    let mut file = ports.source.fetch(record).await;
    if matches!(file, Err(SourceError::BrokeOff(_))) {
        file = ports.source.fetch(record).await;
    }
    match file {
        Ok(bytes) => prepare(ports, bytes).await,
        Err(error) => Fetched::Refused(error),
    }
}

async fn prepare(ports: &Ports, bytes: Bytes) -> Fetched {
    match ports.preparer.prepare(bytes.clone()).await {
        Ok(prepared) => Fetched::Prepared(prepared),
        Err(reason) => {
            // Tens of megabytes take too long for the runtime's own threads.
            let hashed = tokio::task::spawn_blocking(move || sha256_hex(&bytes)).await;
            Fetched::BadFile { reason, sha256: hashed.unwrap_or_default() }
        }
    }
}
