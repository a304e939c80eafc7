//! What the loop starts: putting right what the dead have left, claims, fetches, calls, probes.
//!
//! Invariant: nothing starts that the phase does not allow.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::desk::Seat;
use super::refusals::FetchNo;
use super::work::{self, Close, Event, Only, Undo, Want, What};
use super::{Asked, Batch, Claiming, Item, Owner, Phase, Probe, Rewrite, Stage, Work};
use crate::review::record::{Claimed, Record, RecordId};
use crate::review::report::End;
use crate::review::settle::{History, TRIES, given_up};
use crate::review::tries::{Begin, Company, Orphan, TryEnd, TryId};

/// Rows put right at once: a dead process may have left hundreds, and a database has other users.
const UNDO_AT_ONCE: usize = 16;

/// Counting a large table may take long; without a count the run goes on all the same.
pub(super) const COUNT_AT_MOST: Duration = Duration::from_secs(10);

/// Without an end of the grace a call is bounded by the reviewer's own limits alone.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 3600);

impl Batch {
    /// Takes over what dead processes have left; the rows go back before anything is claimed.
    pub(super) async fn put_right(&mut self) {
        let now = Instant::now();
        match self.ports.tries.take_over(self.ports.clock.now()).await {
            Ok(orphans) => {
                if !orphans.is_empty() {
                    self.note(format!(
                        "{} rows that a review which did not end properly had in hand are put right",
                        orphans.len()
                    ));
                }
                let undos = orphans
                    .into_iter()
                    .map(|orphan| (now, Rewrite::Undo(Box::new(undo_of(orphan)))));
                self.rewrites.extend(undos);
            }
            Err(error) => self.stop_now(End::Broken(error.to_string()), now),
        }
        let count = self.ports.records.count(&self.plan.pick_up);
        self.backlog = match (&self.plan.only, timeout(COUNT_AT_MOST, count).await) {
            (Some(ids), _) => Some(ids.len() as u64),
            (None, Ok(Ok(count))) => Some(count),
            // What is wrong with the records, the first claim will say.
            (None, Ok(Err(_)) | Err(_)) => None,
        };
    }

    /// Starts what may start now.
    pub(super) fn fill(&mut self, now: Instant) {
        self.rewrite(now);
        match self.phase {
            Phase::PuttingRight | Phase::GivingBack { .. } => {}
            Phase::Working => {
                self.claim(now);
                self.begin(now);
                self.review(now);
            }
            // What is in hand goes on to its end.
            Phase::WindingDown { .. } => self.review(now),
        }
    }

    fn spawn(&mut self, owner: Owner, task: impl Future<Output = Event> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        if let Owner::Image(id) = &owner
            && let Some(item) = self.items.get_mut(id)
            && matches!(item.stage, Stage::Fetching | Stage::Reviewing)
            && let Some(work) = &mut item.work
        {
            work.task = Some(handle.clone());
        }
        self.owners.insert(handle.id(), owner);
    }

    fn rewrite(&mut self, now: Instant) {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.rewrites).into_iter().partition(|(at, _)| *at <= now);
        self.rewrites = later;
        for (at, rewrite) in due {
            match rewrite {
                Rewrite::Close(close) => {
                    let id = close.claimed.record.id.clone();
                    self.spawn(Owner::Image(id), work::close(Arc::clone(&self.ports), close));
                }
                Rewrite::Undo(undo) if self.n_undoing < UNDO_AT_ONCE => {
                    self.n_undoing += 1;
                    self.spawn(Owner::Undo, work::undo(Arc::clone(&self.ports), undo));
                }
                // Its turn comes when another one is done.
                Rewrite::Undo(_) => self.rewrites.push((at.max(now + super::TICK), rewrite)),
            }
        }
    }

    fn claim(&mut self, now: Instant) {
        let Claiming::From(at) = self.claiming else { return };
        let left =
            self.plan.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.counts.claimed));
        if left == 0 {
            self.claiming = Claiming::Over;
            return;
        }
        let limits = self.limits();
        let enough = self.desk.n_waiting() >= limits.ready + limits.fetching;
        // While somebody is down, what is in hand is enough to find out when he is back.
        let trouble = self.probe != Probe::Off
            || self.over_budget.is_some()
            || self.provider.lasts(now) > Duration::ZERO;
        if at > now || enough || trouble {
            return;
        }
        let n = u32::try_from(left).unwrap_or(u32::MAX).min(self.plan.batch.max(1));
        let want = Want {
            statuses: self.plan.pick_up.clone(),
            after: self.cursor.clone(),
            n,
            only: self.plan.only.as_ref().map(|ids| next_of(ids, self.n_asked, n)),
        };
        self.claiming = Claiming::UnderWay;
        self.spawn(Owner::Claim, work::claim(Arc::clone(&self.ports), want));
    }

    fn begin(&mut self, now: Instant) {
        match self.probe {
            Probe::Off => {}
            Probe::At(at) if at <= now => {
                self.probe = Probe::UnderWay;
                if let Some(refusal) = self.refusals.take_one() {
                    self.desk.probe();
                    self.begin_one(refusal.id, Company::Others);
                }
                return;
            }
            Probe::At(_) | Probe::UnderWay => return,
        }
        let limits = self.limits();
        while self.over_budget.is_none()
            && let Some((id, company)) = self.desk.begin(&limits)
        {
            self.begin_one(id, company);
        }
    }

    fn begin_one(&mut self, id: RecordId, company: Company) {
        if let Some(item) = self.items.get_mut(&id) {
            item.stage = Stage::Beginning;
        }
        let begin = Begin {
            id: id.clone(),
            at: self.ports.clock.now(),
            company,
            reserve: self.ports.reviewer.usd_per_try(),
        };
        let task = work::begin(Arc::clone(&self.ports), begin, self.plan.budget);
        self.spawn(Owner::Image(id), task);
    }

    /// Its try is written down: now the work itself.
    pub(super) fn fetch(&mut self, id: RecordId, try_id: TryId) {
        self.n_fetches += 1;
        let number = FetchNo(self.n_fetches);
        let Some(item) = self.items.get_mut(&id) else { return };
        item.stage = Stage::Fetching;
        item.work = Some(Work {
            try_id,
            begun: Instant::now(),
            sha256: None,
            picture: None,
            asked: Asked::No,
            task: None,
        });
        let record = item.claimed.record.clone();
        self.spawn(Owner::Image(id), work::fetch(Arc::clone(&self.ports), record, number));
    }

    fn review(&mut self, now: Instant) {
        let limits = self.limits();
        let deadline = self.calls_end().unwrap_or(now + NO_DEADLINE);
        while let Some(id) = self.desk.review(&limits) {
            let Some((picture, correction)) = self.items.get_mut(&id).and_then(start_review) else {
                // Cannot happen: only prepared pictures are queued for the reviewer.
                self.desk.reviewed();
                continue;
            };
            let ports = Arc::clone(&self.ports);
            let task = work::review(ports, id.clone(), picture, correction, deadline);
            self.spawn(Owner::Image(id), task);
        }
    }

    /// Writes down what becomes of a row.
    pub(super) fn close(&mut self, id: &RecordId, ended: Option<TryEnd>, what: What) {
        let Some(item) = self.items.get_mut(id) else { return };
        item.stage = Stage::Closing;
        let ended = ended.zip(item.work.take()).map(|(end, work)| (work.try_id, end));
        let close = Box::new(Close { claimed: item.claimed.clone(), ended, what, n_failed: 0 });
        self.desk.closing();
        self.spawn(Owner::Image(id.clone()), work::close(Arc::clone(&self.ports), close));
    }

    /// Writes something else in the place of what could not be written.
    pub(super) fn close_again(
        &mut self,
        claimed: Claimed,
        ended: Option<(TryId, TryEnd)>,
        what: What,
    ) {
        let id = claimed.record.id.clone();
        let close = Box::new(Close { claimed, ended, what, n_failed: 0 });
        self.desk.closing();
        self.spawn(Owner::Image(id), work::close(Arc::clone(&self.ports), close));
    }

    /// Writes down that a try has ended, while it is open whose fault that was.
    pub(super) fn note_end(&mut self, try_id: TryId, end: TryEnd) {
        let task = work::note(Arc::clone(&self.ports), try_id, end);
        // Nothing hangs on it but the note itself, and a failed one stops the run.
        let handle = self.tasks.spawn(task);
        self.owners.insert(handle.id(), Owner::Undo);
        self.n_undoing += 1;
    }

    /// New rows of ours.
    pub(super) fn admit(&mut self, items: Vec<(Claimed, History)>) {
        for (claimed, history) in items {
            let id = claimed.record.id.clone();
            let seat = if history.suspect { Seat::Suspect } else { Seat::Queue };
            let item =
                Item { claimed, history, correction: None, stage: Stage::Queued, work: None };
            self.items.insert(id.clone(), item);
            self.desk.add(id, seat);
        }
    }
}

/// The next of the rows that were asked for by id.
fn next_of(ids: &[RecordId], n_asked: usize, n: u32) -> Only {
    let rest = ids.get(n_asked..).unwrap_or_default();
    let ids: Vec<RecordId> = rest.iter().take(n as usize).cloned().collect();
    Only { is_all: ids.len() == rest.len(), ids }
}

fn start_review(item: &mut Item) -> Option<(crate::review::reviewer::Prepared, Option<String>)> {
    item.stage = Stage::Reviewing;
    let work = item.work.as_mut()?;
    work.asked = Asked::Yes;
    Some((work.picture.take()?, item.correction.clone()))
}

/// A row of a dead process goes back, or ends if the deaths have used up its tries.
fn undo_of(orphan: Orphan) -> Undo {
    let Orphan { id, from, claimed_at, fence, history } = orphan;
    let record = Record {
        id,
        job_id: None,
        image_index: None,
        actual_image_url: None,
        status: from,
        created_at: None,
        columns: std::collections::BTreeMap::new(),
    };
    let settlement = (history.failed.len() >= TRIES).then(|| given_up(&history.failed));
    Undo { claimed: Claimed { record, claimed_at }, fence: Some(fence), settlement }
}
