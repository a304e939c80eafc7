//! The loop of a review: claim, fetch, prepare, ask, write back, until the backlog or the box ends.
//!
//! One loop owns the boxes below and nothing else; each box owns its state. Work runs beside it in
//! tasks whose ends come back as events. What becomes of a row is decided in `settle`.
//! Invariant: each claimed row is settled or released exactly once, or the report says that it was
//! not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::{Id, JoinError};
use tokio::time::{Instant, sleep_until};

use crate::clock::Clock;
use crate::review::picture::worker_pool::WorkerPool;
use crate::review::record::{RecordId, Records};
use crate::review::report::{End, Observer, Report};
use crate::review::reviewer::{CallRecord, Outcome, Prepared, Reviewer};
use crate::review::settle::{PeerOutcome, Stop, WorkResult};
use crate::review::source::Source;
use crate::review::tries::{Begun, Isolation, Tries, TryOutcome};
use crate::storage::StorageError;

mod bucket_health;
mod claims;
mod item;
mod outage;
mod plan;
mod progress;
mod provider_health;
mod queue;
mod shutdown;
mod tasks;
mod write_back;

use self::bucket_health::{BucketHealth, FetchNumber, Next, Refusal};
use self::claims::{ClaimPage, Claims};
use self::item::{Conclusion, Fetched, Item, Remaining, Stage};
pub use self::plan::{Plan, StopRequest};
use self::progress::Progress;
use self::provider_health::ProviderHealth;
use self::queue::{Lane, WorkQueue};
use self::shutdown::{Shutdown, Wanted};
use self::tasks::{Event, TaskKind, Tasks};
use self::write_back::{Disposition, Settled, Write, WriteBack};

/// The loop looks at health, time and progress this often while something is going on.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Something is always awaited; were it not, the loop would still look after a minute.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(60);

/// Makes an image ready for the reviewer, within limits of its own for memory and processors.
#[async_trait]
pub trait Preparer: Send + Sync {
    /// The prepared image, or why there is none, for people.
    async fn prepare(&self, bytes: Bytes) -> Result<Prepared, String>;
}

#[async_trait]
impl Preparer for WorkerPool {
    async fn prepare(&self, bytes: Bytes) -> Result<Prepared, String> {
        Self::prepare(self, bytes).await.map_err(|error| error.to_string())
    }
}

/// Everything outside that the loop works with.
pub struct Ports {
    /// Rows.
    pub records: Arc<dyn Records>,
    /// Files.
    pub source: Arc<dyn Source>,
    /// From file to image.
    pub preparer: Arc<dyn Preparer>,
    /// From image to answer.
    pub reviewer: Arc<dyn Reviewer>,
    /// What must not be forgotten.
    pub tries: Arc<dyn Tries>,
    /// Wall time for what is written down.
    pub clock: Arc<dyn Clock>,
}

/// The boxes, and the rows that are ours.
struct Pipeline {
    ports: Arc<Ports>,
    plan: Plan,
    claims: Claims,
    queue: WorkQueue,
    items: HashMap<RecordId, Item>,
    tasks: Tasks,
    bucket: BucketHealth,
    provider: ProviderHealth,
    write_back: WriteBack,
    shutdown: Shutdown,
    progress: Progress,
    /// The budget holds no further image until one in hand has given some back.
    over_budget: Option<String>,
}

/// Runs until the backlog or the box ends, or something stops it. Everything that was claimed is
/// settled or released on return, as far as the records could be reached.
pub async fn run(
    ports: Ports,
    plan: Plan,
    mut requests: watch::Receiver<StopRequest>,
    observer: Arc<dyn Observer>,
) -> Report {
    let mut pipeline = Pipeline::new(ports, plan, observer);
    pipeline.recover_orphans().await;
    let mut sender_is_gone = false;
    loop {
        let now = Instant::now();
        let request = *requests.borrow_and_update();
        pipeline.poll(request, now);
        pipeline.dispatch(now);
        if pipeline.is_over(now) {
            break;
        }
        let wake = pipeline.next_wake(now);
        tokio::select! {
            Some(ended) = pipeline.tasks.next() => pipeline.handle_event(ended),
            () = sleep_until(wake) => {}
            changed = requests.changed(), if !sender_is_gone => sender_is_gone = changed.is_err(),
        }
    }
    pipeline.conclude().await
}

impl Pipeline {
    fn new(ports: Ports, plan: Plan, observer: Arc<dyn Observer>) -> Self {
        let now = Instant::now();
        Self {
            ports: Arc::new(ports),
            claims: Claims::new(now),
            queue: WorkQueue::default(),
            items: HashMap::new(),
            tasks: Tasks::default(),
            bucket: BucketHealth::new(),
            provider: ProviderHealth::new(),
            write_back: WriteBack::new(),
            shutdown: Shutdown::new(&plan),
            progress: Progress::new(observer, now),
            over_budget: None,
            plan,
        }
    }

    /// Takes over what dead processes have left; those rows go back before anything is claimed.
    async fn recover_orphans(&mut self) {
        let now = Instant::now();
        match claims::recover_orphans(&self.ports).await {
            Ok(orphans) => {
                if !orphans.is_empty() {
                    self.progress.note(format!(
                        "{} images of a review that did not end properly are returned to the queue",
                        orphans.len()
                    ));
                }
                self.write_back.release_later(orphans, now);
            }
            Err(error) => self.stop(End::Broken(error.to_string()), now),
        }
        let backlog = claims::count_backlog(&self.ports, &self.plan).await;
        self.progress.set_backlog(backlog);
    }

    /// Looks at time, requests and health, and moves on if it is time.
    fn poll(&mut self, request: StopRequest, now: Instant) {
        self.queue.wake(now);
        self.update_health(now);
        self.report_progress(now);
        if self.has_no_open_try() {
            // However the last one ended: the next asks again, and learns whether that was all.
            self.over_budget = None;
        }
        if self.write_back.is_idle() {
            self.shutdown.orphans_are_recovered();
        }
        let gave_up = self.gave_up(self.plan.give_up_after, now);
        let box_end = || self.end_of_box(now);
        match self.shutdown.wanted(request, gave_up, box_end, self.items.len(), now) {
            Wanted::Nothing => {}
            Wanted::WindDown(end) => self.wind_down(end, now),
            Wanted::Release(end) => self.stop(end, now),
            Wanted::LookForTheEnd if self.claims.is_over() => self.look_for_the_end(now),
            Wanted::LookForTheEnd => {}
        }
    }

    /// There are no more rows to take.
    fn look_for_the_end(&mut self, now: Instant) {
        if self.items.is_empty() {
            self.stop(End::Done, now);
        } else if self.items.len() == self.bucket.n_held() && self.queue.is_idle() {
            let judged = self.bucket.judge_the_last(now);
            self.judge(judged, now);
        }
    }

    /// Starts what may start now.
    fn dispatch(&mut self, now: Instant) {
        for write in self.write_back.due(now) {
            self.start_write(write);
        }
        if self.shutdown.may_begin() {
            self.claim(now);
            self.begin(now);
        }
        // While winding down, what is in hand goes on to its end.
        if self.shutdown.may_review() {
            self.review(now);
        }
    }

    fn claim(&mut self, now: Instant) {
        let n_claimed = self.write_back.counts().claimed;
        self.claims.close_at(self.plan.limit, n_claimed);
        let limits = self.limits();
        let enough = self.queue.n_waiting() >= limits.ready + limits.fetching;
        // During an outage, what is in hand is enough to find out when it is over.
        let is_held_up =
            self.bucket.is_down() || self.over_budget.is_some() || self.provider.is_down(now);
        if enough || is_held_up {
            return;
        }
        if let Some(request) = self.claims.next_request(&self.plan, n_claimed, now) {
            self.tasks.spawn(TaskKind::Claim, tasks::claim(Arc::clone(&self.ports), request));
        }
    }

    fn begin(&mut self, now: Instant) {
        match self.bucket.next(now) {
            Next::Anything => {}
            Next::Nothing => return,
            Next::Probe(id) => {
                self.queue.probe();
                self.begin_one(&id, Isolation::Shared);
                return;
            }
        }
        let limits = self.limits();
        while self.over_budget.is_none()
            && let Some((id, isolation)) = self.queue.begin(&limits)
        {
            self.begin_one(&id, isolation);
        }
    }

    fn begin_one(&mut self, id: &RecordId, isolation: Isolation) {
        let Some(item) = self.items.get_mut(id) else { return };
        let begin =
            item.begin(isolation, self.ports.reviewer.usd_per_try(), self.ports.clock.now());
        let task = tasks::begin(Arc::clone(&self.ports), begin, self.plan.budget);
        self.tasks.spawn(TaskKind::Image(id.clone()), task);
    }

    fn review(&mut self, now: Instant) {
        let limits = self.limits();
        let deadline = self.shutdown.calls_end(now);
        while let Some(id) = self.queue.review(&limits) {
            let item = self.items.get_mut(&id);
            let Some((item, (image, correction))) =
                item.and_then(|item| item.review().map(|prepared| (item, prepared)))
            else {
                // Cannot happen: only prepared images are queued for the reviewer.
                self.queue.reviewed();
                continue;
            };
            let task =
                tasks::review(Arc::clone(&self.ports), id.clone(), image, correction, deadline);
            item.runs_in(self.tasks.spawn(TaskKind::Image(id), task));
        }
    }

    /// A task has ended.
    fn handle_event(&mut self, ended: Result<(Id, Event), JoinError>) {
        let now = Instant::now();
        let event = match ended {
            Ok((task, event)) => {
                self.tasks.forget(task);
                event
            }
            Err(error) => return self.without_event(&error, now),
        };
        match event {
            Event::Claimed(page) => self.on_claimed(page, now),
            Event::Begun { id, begun } => self.on_begun(&id, begun, now),
            Event::Fetched { id, number, fetched } => self.on_fetched(&id, number, fetched, now),
            Event::Reviewed { id, outcome } => self.on_reviewed(&id, outcome, now),
            Event::Closed { id, close, closed } => {
                let settled = self.write_back.closed(*close, closed, self.shutdown.end(), now);
                self.on_settled(&id, settled, now);
            }
            Event::Released { release, released } => {
                let settled = self.write_back.released(release, released, now);
                self.report(settled, now);
            }
            Event::Noted(noted) => {
                self.write_back.noted();
                // A try that has ended frees what was set aside for it.
                self.over_budget = None;
                if let Err(error) = noted {
                    self.stop(write_back::broken_state(&error), now);
                }
            }
        }
    }

    /// A task was aborted, or it panicked.
    fn without_event(&mut self, error: &JoinError, now: Instant) {
        match self.tasks.forget(error.id()) {
            Some(TaskKind::Image(id)) => self.image_without_event(&id, error, now),
            Some(TaskKind::Claim) => {
                self.claims.fail();
                self.stop(End::Broken(format!("claiming images failed inside: {error}")), now);
            }
            Some(TaskKind::Write) => self.write_back.lost_release(),
            None => {}
        }
    }

    fn image_without_event(&mut self, id: &RecordId, error: &JoinError, now: Instant) {
        match self.items.get(id).map(Item::stage) {
            Some(Stage::Fetching) => self.queue.fetched_nothing(),
            Some(Stage::Reviewing) => self.queue.reviewed(),
            // Writing or beginning it panicked: the notes say what is to be recovered.
            Some(
                Stage::Queued | Stage::Beginning | Stage::Ready | Stage::Held | Stage::Closing,
            ) => {
                self.queue.closed();
                self.items.remove(id);
                self.write_back.lost_row();
                return;
            }
            None => return,
        }
        if error.is_cancelled() {
            self.return_try(id);
        } else {
            let reason = "working on this image failed inside Lookout".to_owned();
            // Whatever the file is: the next try may fare better.
            let result = WorkResult::NoImage { reason, sha256: String::new() };
            self.decide(id, result, None, PeerOutcome::Unknown, now);
        }
    }

    fn on_claimed(&mut self, page: ClaimPage, now: Instant) {
        let ClaimPage { items, doubtful, error, .. } = self.claims.take(page, now);
        self.write_back.claimed(items.len());
        self.write_back.release_doubtful(doubtful, now);
        for (claimed, history) in items {
            let id = claimed.record.id.clone();
            let lane = if history.suspect { Lane::Suspect } else { Lane::Ordinary };
            self.items.insert(id.clone(), Item::new(claimed, history));
            self.queue.add(id, lane);
        }
        match error {
            None => self.write_back.records_answered(now),
            Some(error) => {
                self.claims.wait_until(now + self.write_back.backoff(now));
                let end = self.write_back.failed(&error, now);
                end.into_iter().for_each(|end| self.stop(end, now));
            }
        }
        // The box may have ended while the claim was under way.
        if !self.shutdown.may_begin() {
            self.claims.stop();
            self.release_unbegun();
        }
    }

    fn on_begun(&mut self, id: &RecordId, begun: Result<Begun, StorageError>, now: Instant) {
        match begun {
            Ok(Begun::Yes(try_id)) => {
                let Some(item) = self.items.get_mut(id) else { return };
                let record = item.fetch(try_id);
                let number = self.bucket.next_number();
                let task = tasks::fetch(Arc::clone(&self.ports), record, number);
                item.runs_in(self.tasks.spawn(TaskKind::Image(id.clone()), task));
                if self.shutdown.is_releasing() {
                    item.abort();
                }
            }
            Ok(Begun::OverBudget { reason }) => {
                self.back_to_queue(id);
                if self.has_no_open_try() {
                    self.stop_for(Stop::Budget(reason), now);
                } else {
                    // What is in hand may give back some of what was set aside for it.
                    self.over_budget = Some(reason);
                }
            }
            Err(error) => {
                self.back_to_queue(id);
                self.stop(write_back::broken_state(&error), now);
            }
        }
    }

    fn back_to_queue(&mut self, id: &RecordId) {
        if let Some(item) = self.items.get_mut(id) {
            item.requeue();
        }
        self.queue.not_begun(id.clone());
        if !self.shutdown.may_begin() {
            self.release_unbegun();
        }
    }

    fn on_fetched(&mut self, id: &RecordId, number: FetchNumber, fetched: Fetched, now: Instant) {
        match fetched {
            Fetched::Prepared(image) => {
                self.served(number, now);
                self.queue.prepared(id.clone());
                if let Some(item) = self.items.get_mut(id) {
                    item.prepared(image);
                }
            }
            Fetched::BadFile { reason, sha256 } => {
                self.served(number, now);
                self.queue.fetched_nothing();
                if let Some(item) = self.items.get_mut(id) {
                    item.has_file(sha256.clone());
                }
                let result = WorkResult::NoImage { reason, sha256 };
                self.decide(id, result, None, PeerOutcome::Unknown, now);
            }
            Fetched::Refused(error) => {
                self.queue.fetched_nothing();
                self.on_refused(id, number, Refusal::new(id.clone(), error), now);
            }
        }
    }

    fn on_refused(&mut self, id: &RecordId, number: FetchNumber, refusal: Refusal, now: Instant) {
        let Some(item) = self.items.get_mut(id) else { return };
        if refusal.is_missing() && item.failed_before(&refusal.reason) && !self.bucket.is_down() {
            // It was missing while others were there, and it still is.
            let result = WorkResult::NoFile(refusal.reason);
            self.decide(id, result, None, PeerOutcome::Unknown, now);
            return;
        }
        let reason = Some(refusal.reason.clone());
        let end = item.end_of_try(TryOutcome::Fault, reason, None, &self.ports);
        if !self.shutdown.may_begin() {
            self.close(id, Conclusion::release(end));
            return;
        }
        if let Some(try_id) = item.hold() {
            self.write_back.noting();
            let task = tasks::note(Arc::clone(&self.ports), try_id, end);
            self.tasks.spawn(TaskKind::Write, task);
        }
        self.bucket.refused(number, refusal, now);
    }

    /// The bucket has served a file: what is held is judged, or an outage is over.
    fn served(&mut self, number: FetchNumber, now: Instant) {
        let served = self.bucket.served(number, now);
        for id in served.requeued {
            if let Some(item) = self.items.get_mut(&id) {
                item.requeue();
                self.queue.delay(id, now);
            }
        }
        self.judge(served.judged, now);
    }

    /// These refusals are the images' own.
    fn judge(&mut self, judged: Vec<Refusal>, now: Instant) {
        for refusal in judged {
            let (id, result) = refusal.into_result();
            self.decide(&id, result, None, PeerOutcome::Answered, now);
        }
    }

    fn on_reviewed(&mut self, id: &RecordId, outcome: Outcome, now: Instant) {
        self.queue.reviewed();
        let Outcome { result, call } = outcome;
        let own_faults = self.items.get(id).map_or(0, Item::own_faults);
        let peers = self.provider.judge(id, &result, &call, own_faults);
        self.update_health(now);
        self.decide(id, WorkResult::Reviewed(result), Some(call), peers, now);
    }

    /// Decides what becomes of a row and has it written down.
    fn decide(
        &mut self,
        id: &RecordId,
        result: WorkResult,
        call: Option<CallRecord>,
        peers: PeerOutcome,
        now: Instant,
    ) {
        let remaining = if self.items.len() == 1 && self.claims.is_over() {
            Remaining::OnlyThis
        } else {
            Remaining::Others
        };
        let Some(item) = self.items.get_mut(id) else { return };
        let mut conclusion =
            item.conclude(&self.plan.policy, result, peers, call, remaining, &self.ports);
        if let Disposition::Keep { wait } = conclusion.disposition
            && !self.shutdown.has_time_for(wait, now)
        {
            conclusion.disposition = Disposition::Release;
        }
        let stop = conclusion.stop.take();
        self.close(id, conclusion);
        if let Some(stop) = stop {
            self.stop_for(stop, now);
        }
    }

    fn close(&mut self, id: &RecordId, conclusion: Conclusion) {
        let Some(item) = self.items.get_mut(id) else { return };
        let close = item.close(conclusion);
        self.queue.closing();
        self.start_write(Write::Close(Box::new(close)));
    }

    fn start_write(&mut self, write: Write) {
        let ports = Arc::clone(&self.ports);
        match write {
            Write::Close(close) => {
                let id = close.claimed.record.id.clone();
                self.tasks.spawn(TaskKind::Image(id), tasks::close(ports, close));
            }
            Write::Release(release) => {
                self.tasks.spawn(TaskKind::Write, tasks::release(ports, release));
            }
        }
    }

    fn on_settled(&mut self, id: &RecordId, settled: Settled, now: Instant) {
        match settled {
            Settled::Gone { .. } => {
                self.queue.closed();
                self.over_budget = None;
                self.items.remove(id);
                self.report(settled, now);
            }
            Settled::Kept { wait } => {
                self.queue.closed();
                self.over_budget = None;
                if let Some(item) = self.items.get_mut(id) {
                    item.kept();
                }
                if self.shutdown.may_begin() {
                    self.queue.delay(id.clone(), now + wait);
                } else {
                    self.close(id, Conclusion::without_a_try());
                }
            }
            // It is still being closed.
            Settled::Again { write, end } => {
                write.into_iter().for_each(|write| self.start_write(write));
                end.into_iter().for_each(|end| self.stop(end, now));
            }
        }
    }

    /// Passes on what is to be told of a write.
    fn report(&mut self, settled: Settled, now: Instant) {
        match settled {
            Settled::Gone { result, note, end } => {
                result.into_iter().for_each(|result| self.progress.result(result));
                note.into_iter().for_each(|note| self.progress.note(note));
                end.into_iter().for_each(|end| self.stop(end, now));
            }
            Settled::Again { end, .. } => end.into_iter().for_each(|end| self.stop(end, now)),
            Settled::Kept { .. } => {}
        }
    }
}
