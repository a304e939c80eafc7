//! The conductor: from due to a running keeper.
//!
//! A loop around [`Conductor::step`]: plan rows ahead, account for an absence, decide about what is due,
//! claim, start. It gives no verdicts; what did not start in time is the watchdog's finding.
//! Invariant: a keeper is started only after its claim was written down; a step that can't write
//! starts nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::absence::{Gap, Ground, Reading, account};
use super::decide::{Decision, Situation, decide};
use super::keeper::{Keepers, StopHow};
use super::ledger::{
    Answer, DroppedSlot, Ledger, Loop, OpenRun, Pause, PlannedSlot, Request, RunLease, RunProgress,
    claim,
};
use super::{RunId, planning};
use crate::clock::Clock;
use crate::pulse::{Beat, Outcome, Pulse};
use crate::schedule::slot::in_maintenance;
use crate::schedule::ticker::Bell;
use crate::schedule::{Cadence, Schedule, ScheduleName};
use crate::storage::StorageError;

/// Between two signs of life on disk: each is an fsync, and an absence is told from 15 s on.
const SIGN_OF_LIFE_EVERY: TimeDelta = TimeDelta::seconds(10);

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stepped {
    /// Runs whose keeper was started.
    pub n_started: u32,
    /// Slots that will not be run.
    pub n_dropped: u32,
    /// Rows written ahead.
    pub n_planned: usize,
}

/// The loop's state; everything durable is in the ledger.
#[derive(Debug)]
pub struct Conductor {
    ledger: Arc<dyn Ledger>,
    keepers: Arc<dyn Keepers>,
    clock: Arc<dyn Clock>,
    max_running: usize,
    schedules: Vec<Schedule>,
    /// Schedules that change while it runs.
    followed: Option<watch::Receiver<Vec<Schedule>>>,
    /// When each schedule is to be planned again; a schedule that is not in it is new to us.
    plan_again: HashMap<ScheduleName, DateTime<Utc>>,
    /// Runs that were asked to stop for the one after them.
    replaced: HashSet<RunId>,
    /// The clocks at the last step of this process.
    last: Option<Reading>,
    /// An absence whose slots are not accounted for yet.
    gap: Option<Gap>,
    last_written: Option<DateTime<Utc>>,
    phase: Phase,
    pulse: Pulse,
}

/// Whether what an earlier daemon left has been taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    Settled,
}

impl Conductor {
    /// A conductor of these schedules.
    #[must_use]
    pub fn new(
        ledger: Arc<dyn Ledger>,
        keepers: Arc<dyn Keepers>,
        clock: Arc<dyn Clock>,
        schedules: Vec<Schedule>,
        max_running: u32,
    ) -> Self {
        Self {
            ledger,
            keepers,
            clock,
            max_running: max_running as usize,
            schedules,
            followed: None,
            plan_again: HashMap::new(),
            replaced: HashSet::new(),
            last: None,
            gap: None,
            last_written: None,
            phase: Phase::Fresh,
            pulse: Pulse::default(),
        }
    }

    /// Takes the schedules from here whenever they change.
    #[must_use]
    pub fn following(mut self, schedules: watch::Receiver<Vec<Schedule>>) -> Self {
        self.followed = Some(schedules);
        self
    }

    /// Takes other schedules from the next step on; runs that go on keep theirs.
    pub fn set_schedules(&mut self, schedules: Vec<Schedule>) {
        self.schedules = schedules;
        self.plan_again.clear();
        self.phase = Phase::Fresh;
    }

    /// What it does and when it last did it.
    #[must_use]
    pub fn pulse(&self) -> watch::Receiver<Beat> {
        self.pulse.subscribe()
    }

    /// Steps at every ring and whenever a slot's start comes, until it is told to stop. Runs go on
    /// without it.
    pub async fn run(mut self, mut bell: Bell, stop: CancellationToken) {
        loop {
            self.pulse.begin(&*self.clock);
            self.take_changes();
            let result = self.step(self.clock.now()).await;
            let error = result.err().map(|error| error.to_string());
            if self.pulse.end(&*self.clock, error.clone()) == Outcome::Changed {
                match error {
                    Some(error) => tracing::error!(%error, "no run can be started"),
                    None => tracing::info!("runs can be started again"),
                }
            }
            let next = self.next_start().await;
            tokio::select! {
                () = stop.cancelled() => return,
                _ = bell.ring(next) => {}
            }
        }
    }

    fn take_changes(&mut self) {
        let Some(followed) = &mut self.followed else { return };
        if followed.has_changed().unwrap_or(false) {
            let schedules = followed.borrow_and_update().clone();
            self.set_schedules(schedules);
        }
    }

    /// When the next slot starts. Without an answer the next ring is early enough to ask again.
    async fn next_start(&self) -> Option<Instant> {
        let now = self.clock.now();
        let start = self.ledger.next_start(now).await.ok()??;
        // The clock again: reading has taken time, and the wait begins now.
        Some(Instant::now() + (start - self.clock.now()).to_std().unwrap_or_default())
    }

    /// One step: everything that is to be done at `now`.
    ///
    /// # Errors
    /// When something could not be read or written down; what was not done is done by the next.
    pub async fn step(&mut self, now: DateTime<Utc>) -> Result<Stepped, StorageError> {
        let mut stepped = Stepped::default();
        self.notice_absence(now).await?;
        if self.phase == Phase::Fresh {
            self.settle(now).await?;
            self.phase = Phase::Settled;
        }
        self.answer_requests(now).await?;
        stepped.n_planned = self.plan(now).await?;
        self.account_for_absence(now).await?;
        self.decide_all(now, &mut stepped).await?;
        self.sign_of_life(now).await?;
        Ok(stepped)
    }

    /// Remembers the absence that ends with this step, if there was one. A step that fails later
    /// was there all the same: what is due while nothing can be recorded is missed, not unseen.
    async fn notice_absence(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        let reading = Reading::take(&*self.clock, now);
        let gap = match &self.last {
            Some(last) => Gap::between(last, &reading),
            None => Gap::since_sign(self.ledger.last_seen(Loop::Conductor).await?, now),
        };
        self.last = Some(reading);
        // One that could not be accounted for grows.
        self.gap = match (self.gap, gap) {
            (Some(before), Some(gap)) => Some(Gap { to: gap.to, ..before }),
            (before, gap) => gap.or(before),
        };
        Ok(())
    }

    async fn sign_of_life(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        // Also after the clock was set back: the row must not stay in the future.
        let is_fresh =
            self.last_written.is_some_and(|last| last <= now && now - last < SIGN_OF_LIFE_EVERY);
        if !is_fresh {
            self.ledger.seen(Loop::Conductor, now).await?;
            self.last_written = Some(now);
        }
        Ok(())
    }

    /// Takes up what was there before us: schedules that are gone, and claims whose keeper was
    /// not started.
    async fn settle(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        for plan in self.ledger.plans().await? {
            let name = &plan.schedule.name;
            match self.schedules.iter().find(|schedule| schedule.name == *name) {
                None => {
                    // Up to now it was there, as far as anybody knows.
                    planning::extend(&*self.ledger, &plan, now).await?;
                    self.ledger.forget(name, now).await?;
                }
                Some(configured) if *configured != plan.schedule => {
                    planning::extend(&*self.ledger, &plan, now).await?;
                    planning::replace(&*self.ledger, configured, now).await?;
                }
                Some(_) => {}
            }
        }
        for open in self.ledger.open_runs().await? {
            let has_keeper = open.run.keeper.is_some() || open.start_error.is_some();
            if !has_keeper && open.progress == RunProgress::Undecided && now <= open.start_by {
                self.start(RunLease::resume(open)).await?;
            }
        }
        Ok(())
    }

    async fn plan(&mut self, now: DateTime<Utc>) -> Result<usize, StorageError> {
        let mut n_planned = 0;
        let is_due = |again: Option<&DateTime<Utc>>| again.is_none_or(|again| *again <= now);
        let wanted: Vec<Schedule> = self
            .schedules
            .iter()
            .filter(|schedule| schedule.cadence != Cadence::Continuous)
            .filter(|schedule| is_due(self.plan_again.get(&schedule.name)))
            .cloned()
            .collect();
        if !wanted.is_empty() {
            let plans = self.ledger.plans().await?;
            for schedule in wanted {
                let plan = plans.iter().find(|plan| plan.schedule.name == schedule.name);
                let until = plan.map(|plan| plan.until);
                let planned = planning::ahead(&*self.ledger, &schedule, until, now).await?;
                n_planned += planned.n_new;
                self.plan_again.insert(schedule.name, planned.again_at);
            }
        }
        Ok(n_planned)
    }

    async fn account_for_absence(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        let Some(gap) = self.gap else { return Ok(()) };
        let due = self.ledger.due(now).await?;
        if due.iter().any(|slot| gap.holds(slot.start_by)) {
            self.account_for(gap, &due, now).await?;
        }
        self.gap = None;
        Ok(())
    }

    async fn account_for(
        &self,
        gap: Gap,
        due: &[PlannedSlot],
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let mut held: Vec<ScheduleName> =
            self.ledger.pauses(now).await?.into_iter().map(|pause| pause.schedule).collect();
        let open = self.ledger.open_runs().await?;
        held.extend(open.into_iter().map(|open| open.run.slot.schedule));
        let in_window = self.schedules.iter().filter(|s| in_maintenance(s, now).is_some());
        held.extend(in_window.map(|schedule| schedule.name.clone()));
        let ground = Ground { gap, due, schedules: &self.schedules, held: &held };
        if let Some(account) = account(ground) {
            self.ledger.record_absence(account).await?;
        }
        Ok(())
    }

    async fn decide_all(
        &mut self,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let open = self.ledger.open_runs().await?;
        let pauses = self.ledger.pauses(now).await?;
        self.continue_continuous(now, &open, &pauses).await?;
        let due = self.ledger.due(now).await?;
        self.replaced.retain(|run| open.iter().any(|open| open.run.id == *run));
        let mut n_running = open.len();
        let mut waiting: HashMap<ScheduleName, usize> = HashMap::new();
        let mut started: HashSet<ScheduleName> = HashSet::new();
        let mut dropped = Vec::new();
        for slot in due {
            let name = slot.slot.schedule.clone();
            if started.contains(&name) {
                continue;
            }
            let decision = decide(Situation {
                now,
                slot: &slot,
                configured: self.schedules.iter().find(|schedule| schedule.name == name),
                pause: pauses.iter().find(|pause| pause.schedule == name),
                open: open.iter().find(|open| open.run.slot.schedule == name),
                n_waiting: waiting.get(&name).copied().unwrap_or(0),
                n_running,
                max_running: self.max_running,
            });
            match decision {
                Decision::Start { time_box } => {
                    let schedule = Schedule { time_box, ..slot.schedule };
                    stepped.n_started += self.claim_and_start(slot.slot, schedule, now).await?;
                    n_running += 1;
                    started.insert(name);
                }
                Decision::Drop { cause, reason } => {
                    dropped.push(DroppedSlot {
                        slot: slot.slot,
                        cause,
                        reason,
                        absence: slot.absence,
                    });
                }
                Decision::Wait => {
                    // A slot whose deadline has passed waits for the watchdog, not for a start.
                    if slot.start_by >= now {
                        *waiting.entry(name).or_default() += 1;
                    }
                }
                Decision::Queue { start_by } => {
                    self.ledger.extend(&slot.slot, start_by).await?;
                    *waiting.entry(name).or_default() += 1;
                }
                Decision::Replace { run } => {
                    self.replace(run).await;
                    *waiting.entry(name).or_default() += 1;
                }
            }
        }
        stepped.n_dropped = u32::try_from(dropped.len()).unwrap_or(u32::MAX);
        if !dropped.is_empty() {
            self.ledger.drop_slots(dropped).await?;
        }
        Ok(())
    }

    /// Box after box: the next slot is made when the one before it is over.
    async fn continue_continuous(
        &self,
        now: DateTime<Utc>,
        open: &[OpenRun],
        pauses: &[Pause],
    ) -> Result<(), StorageError> {
        let continuous = self.schedules.iter().filter(|s| s.cadence == Cadence::Continuous);
        for schedule in continuous {
            let is_held = pauses.iter().any(|pause| pause.schedule == schedule.name)
                || open.iter().any(|open| open.run.slot.schedule == schedule.name)
                || open.len() >= self.max_running
                || in_maintenance(schedule, now).is_some();
            if !is_held {
                planning::continuous(&*self.ledger, schedule, now).await?;
            }
        }
        Ok(())
    }

    async fn claim_and_start(
        &self,
        slot: crate::schedule::Slot,
        schedule: Schedule,
        now: DateTime<Utc>,
    ) -> Result<u32, StorageError> {
        let run = RunId::generate();
        match claim(&*self.ledger, slot, schedule, run, now).await? {
            Some(lease) => self.start(lease).await.map(|()| 1),
            None => Ok(0),
        }
    }

    async fn start(&self, lease: RunLease) -> Result<(), StorageError> {
        let run = lease.run();
        match self.keepers.start(&lease).await {
            Ok(keeper) => {
                tracing::info!(run = %run.id, schedule = %run.slot.schedule, pid = keeper.pid, "started");
                // Not the step's time: writing the claim and starting a process take their own.
                self.ledger.keeper_started(&lease, &keeper, self.clock.now()).await
            }
            Err(error) => {
                tracing::error!(run = %run.id, schedule = %run.slot.schedule, %error, "not started");
                self.ledger.keeper_refused(&lease, &error.to_string()).await
            }
        }
    }

    /// Asks a run to stop for the one after it, once.
    async fn replace(&mut self, run: RunId) {
        if self.replaced.contains(&run) {
            return;
        }
        match self.keepers.stop(&run, StopHow::Ask).await {
            Ok(()) => {
                self.replaced.insert(run);
            }
            Err(error) => tracing::warn!(%run, %error, "could not be asked to stop; trying again"),
        }
    }

    async fn answer_requests(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        for (id, request) in self.ledger.requests().await? {
            let answer = match request {
                Request::Run { schedule } => {
                    match self.schedules.iter().find(|known| known.name == schedule) {
                        Some(known) => {
                            let slot = planning::asked(known, now);
                            self.ledger.plan_asked(id, slot).await?;
                            continue;
                        }
                        None => refused(format!("there is no schedule {schedule}")),
                    }
                }
                Request::Stop { run } => self.stop_run(&run).await?,
                Request::Pause { schedule, reason, until } => {
                    let pause = Pause { schedule, reason, until, paused_at: now };
                    self.ledger.pause(&pause).await?;
                    Answer::Done
                }
                Request::Resume { schedule } => {
                    if self.ledger.resume(&schedule).await? {
                        Answer::Done
                    } else {
                        refused(format!("{schedule} is not paused"))
                    }
                }
                // The watchdog's: incidents are not ours.
                Request::Ack { .. } => continue,
            };
            self.ledger.answer(id, &answer).await?;
        }
        Ok(())
    }

    async fn stop_run(&self, run: &RunId) -> Result<Answer, StorageError> {
        let is_open = self.ledger.open_runs().await?.iter().any(|open| open.run.id == *run);
        if !is_open {
            return Ok(refused(format!("{run} is not running")));
        }
        Ok(match self.keepers.stop(run, StopHow::Ask).await {
            Ok(()) => Answer::Done,
            Err(error) => refused(error.to_string()),
        })
    }
}

fn refused(reason: String) -> Answer {
    Answer::Refused { reason }
}
