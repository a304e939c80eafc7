//! Writing back: rows are settled or released, failed writes come again, and what is written counts.
//!
//! It owns the health of the records and the tally of the run. What becomes of a row has been
//! decided before it gets here.
//! Invariant: a row is counted when its last write is known to have happened, never before.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;

use super::outage::Outage;
use super::{POLL_INTERVAL, Ports};
use crate::protocol::Line;
use crate::review::record::{Claimed, PROCESSING, RecordError, RecordId, Settlement, Written};
use crate::review::report::{Counts, End, Failures, RowResult, one_reason};
use crate::review::settle::{FailureCause, RowOutcome, last_reason, unwritable};
use crate::review::tries::{Fence, Row, TryEnd, TryId};
use crate::storage::StorageError;

/// Rows released at once: a dead process may have left hundreds, and a database has other users.
const MAX_RELEASES: usize = 16;

/// Writes to records that are down come again after 1, 2, 4, 8, 16 and then every 30 s.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Results of one row after another that the table does not take: then it is the table, not the rows.
const MAX_REJECTED: u32 = 3;

/// Between noting a claim and its being carried out: three requests of 30 s at most, and clocks that
/// differ a little.
const MAX_CLAIM_DURATION: TimeDelta = TimeDelta::minutes(2);

const UNWRITABLE: RowOutcome = RowOutcome::Errored(FailureCause::Unwritable);

/// What went wrong with reading or writing.
#[derive(Clone, Debug)]
pub(super) enum WriteError {
    Records(RecordError),
    State(StorageError),
}

impl From<RecordError> for WriteError {
    fn from(error: RecordError) -> Self {
        Self::Records(error)
    }
}

impl From<StorageError> for WriteError {
    fn from(error: StorageError) -> Self {
        Self::State(error)
    }
}

/// The end of a run whose own notes can't be written.
pub(super) fn broken_state(error: &StorageError) -> End {
    End::Broken(format!("{error}; free space or permissions may be missing"))
}

/// What becomes of a row.
#[derive(Clone, Debug)]
pub(super) enum Disposition {
    Settle {
        settlement: Settlement,
        outcome: RowOutcome,
    },
    /// It stays ours and comes again after the wait.
    Keep {
        wait: Duration,
    },
    Release,
}

/// What is written when a piece of work on a row has ended.
#[derive(Clone, Debug)]
pub(super) struct Close {
    pub(super) claimed: Claimed,
    /// The try to end; `None`: none was begun.
    ended: Option<(TryId, TryEnd)>,
    disposition: Disposition,
    /// Writes of it that brought an error, and may have happened all the same.
    n_failed: u32,
}

impl Close {
    pub(super) fn new(
        claimed: Claimed,
        ended: Option<(TryId, TryEnd)>,
        disposition: Disposition,
    ) -> Self {
        Self { claimed, ended, disposition, n_failed: 0 }
    }
}

/// A row to release that is no item of this run: left by a dead process, or perhaps claimed.
#[derive(Clone, Debug)]
pub(super) struct Release {
    pub(super) claimed: Claimed,
    /// How sure the time of its claim is; `None`: the notes say it.
    pub(super) fence: Option<Fence>,
    /// Its tries are used up: it is settled instead.
    pub(super) settlement: Option<Settlement>,
}

/// A write that is to be started.
#[derive(Debug)]
pub(super) enum Write {
    Close(Box<Close>),
    Release(Box<Release>),
}

/// What came of a write.
#[derive(Debug)]
pub(super) enum Settled {
    /// The row is no longer ours.
    Gone { result: Option<RowResult>, note: Option<String>, end: Option<End> },
    /// It stays ours, and is to come again.
    Kept { wait: Duration },
    /// It is not written yet: now, with another content, or later.
    Again { write: Option<Write>, end: Option<End> },
}

impl Settled {
    fn ended(end: Option<End>) -> Self {
        Self::Gone { result: None, note: None, end }
    }
}

/// What the run has come to so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    pub(super) unwritten: u64,
    pub(super) reasons: BTreeMap<String, u64>,
    failures: BTreeMap<FailureCause, Failures>,
}

/// What is to be written, and what has been.
#[derive(Debug)]
pub(super) struct WriteBack {
    pending: Vec<(Instant, Write)>,
    /// Releases and notes under way.
    n_under_way: usize,
    records: Outage,
    tally: Tally,
    /// Results in a row that the table did not take.
    n_rejected: u32,
}

impl WriteBack {
    pub(super) fn new() -> Self {
        Self {
            pending: Vec::new(),
            n_under_way: 0,
            records: Outage::new("records_unavailable", "records"),
            tally: Tally::default(),
            n_rejected: 0,
        }
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.tally.counts
    }

    pub(super) fn records(&self) -> &Outage {
        &self.records
    }

    pub(super) fn records_mut(&mut self) -> &mut Outage {
        &mut self.records
    }

    /// So many rows are ours.
    pub(super) fn claimed(&mut self, n: usize) {
        self.tally.counts.claimed += n as u64;
        self.tally.counts.batches += u64::from(n > 0);
    }

    pub(super) fn records_answered(&mut self, now: Instant) {
        self.records.record_success(now);
    }

    pub(super) fn release_later(&mut self, releases: Vec<Release>, now: Instant) {
        let writes = releases.into_iter().map(|release| (now, Write::Release(Box::new(release))));
        self.pending.extend(writes);
    }

    /// Rows that may have become ours in a claim whose answer did not come.
    pub(super) fn release_doubtful(&mut self, claimed: Vec<Claimed>, now: Instant) {
        let release = |claimed| Release { claimed, fence: None, settlement: None };
        self.release_later(claimed.into_iter().map(release).collect(), now);
    }

    /// The writes to start now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Write> {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|(at, _)| *at <= now);
        self.pending = later;
        let mut started = Vec::new();
        for (at, write) in due {
            match write {
                Write::Close(_) => started.push(write),
                Write::Release(_) if self.n_under_way < MAX_RELEASES => {
                    self.n_under_way += 1;
                    started.push(write);
                }
                // Its turn comes when another one is done.
                Write::Release(_) => self.pending.push((at.max(now + POLL_INTERVAL), write)),
            }
        }
        started
    }

    /// When the next write is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.pending.iter().map(|(at, _)| *at).min()
    }

    /// Nothing waits to be written or is under way beside the items' own writes.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.n_under_way == 0
    }

    /// Releases or notes are under way.
    pub(super) fn is_releasing(&self) -> bool {
        self.n_under_way > 0
    }

    pub(super) fn noting(&mut self) {
        self.n_under_way += 1;
    }

    pub(super) fn noted(&mut self) {
        self.n_under_way = self.n_under_way.saturating_sub(1);
    }

    /// A release or note ended without an event.
    pub(super) fn lost_release(&mut self) {
        self.noted();
        self.tally.unwritten += 1;
    }

    /// A row's write ended without an event.
    pub(super) fn lost_row(&mut self) {
        self.tally.unwritten += 1;
    }

    /// Waits longer the longer the records have been down.
    pub(super) fn backoff(&self, now: Instant) -> Duration {
        (self.records.lasts(now) + Duration::from_secs(1)).min(MAX_BACKOFF)
    }

    /// Reading or writing failed and comes again; whether the run has to end for it.
    pub(super) fn failed(&mut self, error: &WriteError, now: Instant) -> Option<End> {
        match error {
            WriteError::Records(RecordError::Unavailable(reason)) => {
                self.records.record_faults(1, reason, now);
                None
            }
            WriteError::Records(RecordError::Refused(reason)) => {
                self.records.record_faults(1, reason, now);
                Some(End::Broken(reason.clone()))
            }
            WriteError::Records(
                RecordError::Misconfigured(reason) | RecordError::Rejected(reason),
            ) => Some(End::Misconfigured(reason.clone())),
            WriteError::State(error) => Some(broken_state(error)),
        }
    }

    /// The write of an item's row has ended. `end`: why the run ends, if it does.
    pub(super) fn closed(
        &mut self,
        close: Close,
        closed: Result<Written, WriteError>,
        end: Option<&End>,
        now: Instant,
    ) -> Settled {
        match closed {
            Ok(written) => self.written(&close, written, end, now),
            Err(WriteError::Records(RecordError::Rejected(reason))) => {
                self.rejected(close, &reason)
            }
            Err(error @ WriteError::Records(_)) => {
                let close = Box::new(Close { n_failed: close.n_failed + 1, ..close });
                let end = self.failed(&error, now);
                let at = now + self.backoff(now);
                self.pending.push((at, Write::Close(close)));
                Settled::Again { write: None, end }
            }
            Err(error @ WriteError::State(_)) => {
                // The row itself may be written, but nobody can say so any more.
                self.tally.unwritten += 1;
                Settled::ended(self.failed(&error, now))
            }
        }
    }

    fn written(
        &mut self,
        close: &Close,
        written: Written,
        end: Option<&End>,
        now: Instant,
    ) -> Settled {
        let id = &close.claimed.record.id;
        let (result, note) = match (&close.disposition, written) {
            (Disposition::Keep { wait }, _) => return Settled::Kept { wait: *wait },
            (Disposition::Settle { settlement, outcome }, Written::Yes) => {
                if *outcome != UNWRITABLE {
                    self.n_rejected = 0;
                }
                (Some(self.tally.settled(id, settlement, *outcome)), None)
            }
            (Disposition::Release, Written::Yes) => {
                self.tally.returned(end);
                (None, None)
            }
            (Disposition::Settle { .. } | Disposition::Release, Written::Lost) => {
                (None, Some(self.tally.lost(id)))
            }
        };
        self.records.record_success(now);
        Settled::Gone { result, note, end: None }
    }

    /// The table does not take what was to be written into this row: the row's own matter, unless it
    /// is so for one row after another.
    fn rejected(&mut self, close: Close, reason: &str) -> Settled {
        let Close { claimed, ended, disposition, .. } = close;
        let again = |ended, disposition, end| {
            let close = Close::new(claimed.clone(), ended, disposition);
            Settled::Again { write: Some(Write::Close(Box::new(close))), end }
        };
        match disposition {
            Disposition::Settle { outcome, .. } if outcome != UNWRITABLE => {
                self.n_rejected += 1;
                if self.n_rejected >= MAX_REJECTED {
                    let end = Some(End::Misconfigured(reason.to_owned()));
                    return again(ended, Disposition::Release, end);
                }
                let settlement = unwritable(reason);
                let ended = ended.map(|(try_id, end)| {
                    let details = settlement.auto_review_details.clone();
                    let result = Some((settlement.auto_review_status.clone(), details.clone()));
                    (try_id, TryEnd { result, reason: Some(details), ..end })
                });
                again(ended, Disposition::Settle { settlement, outcome: UNWRITABLE }, None)
            }
            // Not even an error, and not back either: the notes say what is to be recovered.
            Disposition::Settle { .. } | Disposition::Release | Disposition::Keep { .. } => {
                self.tally.unwritten += 1;
                let id = &claimed.record.id.0;
                let note = Some(format!("the row of image {id} can't be written: {reason}"));
                Settled::Gone { result: None, note, end: None }
            }
        }
    }

    /// The release of a row that is no item has ended.
    pub(super) fn released(
        &mut self,
        release: Box<Release>,
        released: Result<Written, WriteError>,
        now: Instant,
    ) -> Settled {
        self.noted();
        match released {
            Ok(written) => {
                self.records.record_success(now);
                // The others of a dead process wait for their turn.
                for (at, write) in &mut self.pending {
                    if matches!(write, Write::Release(_)) {
                        *at = (*at).min(now);
                    }
                }
                let result = match (&release.settlement, written) {
                    (Some(settlement), Written::Yes) => {
                        self.tally.counts.claimed += 1;
                        let outcome = RowOutcome::Errored(FailureCause::Crash);
                        let id = &release.claimed.record.id;
                        Some(self.tally.settled(id, settlement, outcome))
                    }
                    (Some(_) | None, Written::Yes | Written::Lost) => None,
                };
                Settled::Gone { result, note: None, end: None }
            }
            Err(error) => {
                let end = self.failed(&error, now);
                match error {
                    WriteError::Records(_) => {
                        let at = now + self.backoff(now);
                        self.pending.push((at, Write::Release(release)));
                    }
                    WriteError::State(_) => self.tally.unwritten += 1,
                }
                Settled::ended(end)
            }
        }
    }

    /// The line that tells of a run of which every image failed for one reason.
    pub(super) fn one_reason(&self) -> Option<Line> {
        one_reason(&self.tally.counts, &self.tally.failures)
    }

    /// The run is over: what is still to be written will not be.
    pub(super) fn conclude(&mut self, n_items: usize) -> Tally {
        self.tally.unwritten += (n_items + self.pending.len() + self.n_under_way) as u64;
        std::mem::take(&mut self.tally)
    }
}

impl Tally {
    fn settled(
        &mut self,
        id: &RecordId,
        settlement: &Settlement,
        outcome: RowOutcome,
    ) -> RowResult {
        let Settlement { auto_review_status, auto_review_details, .. } = settlement;
        let (counter, cause) = match outcome {
            RowOutcome::Succeeded => (&mut self.counts.succeeded, None),
            RowOutcome::Errored(cause) => (&mut self.counts.errored, Some(cause)),
            RowOutcome::Blocked => (&mut self.counts.blocked, Some(FailureCause::Blocked)),
        };
        *counter += 1;
        let Some(cause) = cause else {
            let result = Ok((auto_review_status.clone(), auto_review_details.clone()));
            return RowResult { image_id: id.0.clone(), result };
        };
        // Without what the tries before it met, which would make each reason its own.
        let reason = last_reason(auto_review_details);
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
        let failures = self.failures.entry(cause).or_default();
        *failures = Failures { n: failures.n + 1, last: reason.to_owned() };
        RowResult { image_id: id.0.clone(), result: Err(auto_review_details.clone()) }
    }

    /// By what stopped the run, not by what each row met: reasons are few, rows are many.
    fn returned(&mut self, end: Option<&End>) {
        self.counts.returned += 1;
        let why = match end {
            None => "no answer came in time",
            Some(End::Done | End::BoxFull) => "the run's time was over before its turn",
            Some(End::GaveUp { kind, .. }) => kind,
            Some(End::Exhausted(_)) => "out of quota or budget",
            Some(End::Credentials(_)) => "no API key is accepted",
            Some(End::Misconfigured(_)) => "something is misconfigured",
            Some(End::Broken(_)) => "rows or notes can't be written",
        };
        *self.reasons.entry(format!("returned to the queue: {why}")).or_default() += 1;
    }

    /// Another program has changed the row while it was ours: it is left as it is.
    fn lost(&mut self, id: &RecordId) -> String {
        self.counts.returned += 1;
        self.counts.lost += 1;
        format!("image {} was changed by another program during its review and is left alone", id.0)
    }
}

/// The row first, then our notes: a death between the two leaves a note that the fence refutes.
pub(super) async fn close(ports: &Ports, close: &Close) -> Result<Written, WriteError> {
    let claimed = &close.claimed;
    let (mut written, status, row) = match &close.disposition {
        Disposition::Settle { settlement, .. } => {
            let written = ports.records.settle(claimed, settlement).await?;
            (written, &settlement.review_status, Row::Settled)
        }
        Disposition::Keep { .. } => (Written::Yes, &claimed.record.status, Row::Kept),
        Disposition::Release => {
            (ports.records.release(claimed).await?, &claimed.record.status, Row::Returned)
        }
    };
    if written == Written::Lost && close.n_failed > 0 && has_status(ports, claimed, status).await? {
        // The write before, whose answer did not come, had happened.
        written = Written::Yes;
    }
    // A row that another program has changed starts afresh, whoever picks it up.
    let row = if written == Written::Lost { Row::Settled } else { row };
    match &close.ended {
        Some((try_id, end)) => ports.tries.finish(*try_id, end, row).await?,
        None if row != Row::Kept => {
            ports.tries.drop_claims(std::slice::from_ref(&claimed.record.id)).await?;
        }
        None => {}
    }
    Ok(written)
}

async fn has_status(ports: &Ports, claimed: &Claimed, status: &str) -> Result<bool, RecordError> {
    let record = ports.records.get(&claimed.record.id).await?;
    Ok(record.is_some_and(|record| record.status == status))
}

async fn put_back(
    ports: &Ports,
    claimed: &Claimed,
    settlement: Option<&Settlement>,
) -> Result<Written, RecordError> {
    match settlement {
        Some(settlement) => ports.records.settle(claimed, settlement).await,
        None => ports.records.release(claimed).await,
    }
}

/// The claim with the time that a trigger has put into its row, if that is when we made it: on this
/// machine nobody else can have taken a row that we had noted.
async fn with_the_tables_time(
    ports: &Ports,
    claimed: &Claimed,
) -> Result<Option<Claimed>, RecordError> {
    let rows = ports.records.rows_by_id(std::slice::from_ref(&claimed.record.id)).await?;
    let in_hand = rows.into_iter().find(|row| row.record.status == PROCESSING);
    let Some(taken) = in_hand.and_then(|row| row.updated_at) else { return Ok(None) };
    let is_ours = (taken - claimed.claimed_at).abs() <= MAX_CLAIM_DURATION;
    Ok(is_ours.then(|| Claimed { claimed_at: taken, ..claimed.clone() }))
}

pub(super) async fn release(ports: &Ports, release: &Release) -> Result<Written, WriteError> {
    let Release { claimed, settlement, fence } = release;
    let mut written = put_back(ports, claimed, settlement.as_ref()).await?;
    let fence = match fence {
        Some(fence) => *fence,
        None => ports.tries.fence_without_answer().await?,
    };
    if written == Written::Lost
        && fence == Fence::Doubtful
        && let Some(claimed) = with_the_tables_time(ports, claimed).await?
    {
        written = put_back(ports, &claimed, settlement.as_ref()).await?;
    }
    let id = &claimed.record.id;
    let is_over = match written {
        Written::Yes => settlement.is_some(),
        // It was settled after all, or it never was ours: then its tries still count.
        Written::Lost => !has_status(ports, claimed, &claimed.record.status).await?,
    };
    if is_over {
        ports.tries.clear(id).await?;
    }
    ports.tries.drop_claims(std::slice::from_ref(id)).await?;
    Ok(written)
}
#[cfg(test)]
mod tests;
