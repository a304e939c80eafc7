//! The conductor: from due to a running keeper.
//!
//! A loop around [`Conductor::step`]: plan rows ahead, account for downtime, decide about what is due,
//! claim, start. It gives no verdicts; what did not start in time is the watchdog's finding.
//! Invariant: a keeper is started only after its claim was written down; a step that can't write
//! starts nothing.

mod downtimes;
mod requests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::decide::{Decision, Situation, decide};
use super::downtime::{ClockSample, Downtime};
use super::keeper::{Keepers, StopHow};
use super::ledger::{
    DroppedSlot, Ledger, OpenRun, Origin, Pause, PlannedSlot, RunLease, RunProgress, claim,
};
use super::planner::{Planner, Progress};
use super::{Extent, RunId, Scope};
use crate::clock::Clock;
use crate::pulse::{Beat, Outcome, Pulse};
use crate::schedule::slot::in_maintenance;
use crate::schedule::ticker::Ticker;
use crate::schedule::{Cadence, Schedule, ScheduleName};
use crate::storage::StorageError;

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stepped {
    /// Runs whose keeper was started.
    pub n_started: u32,
    /// Slots that will not be run.
    pub n_dropped: u32,
    /// Rows written ahead.
    pub n_planned: usize,
    /// Whether there was time for all the planning.
    pub planning: Extent,
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
    scope: Scope,
    planner: Planner,
    /// Runs that were asked to stop for the one after them.
    replaced: HashSet<RunId>,
    /// Runs whose keeper could not be started yet, and why not.
    refused: HashMap<RunId, String>,
    /// The clocks at the last step of this process.
    last: Option<ClockSample>,
    /// A downtime whose slots are not accounted for yet.
    downtime: Option<Downtime>,
    /// How much of it the last step could account for.
    counted: Extent,
    last_written: Option<DateTime<Utc>>,
    pulse: Pulse,
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
            scope: Scope::default(),
            planner: Planner::default(),
            replaced: HashSet::new(),
            refused: HashMap::new(),
            last: None,
            downtime: None,
            counted: Extent::Whole,
            last_written: None,
            pulse: Pulse::default(),
        }
    }

    /// Takes the schedules from here whenever they change.
    #[must_use]
    pub fn following(mut self, schedules: watch::Receiver<Vec<Schedule>>) -> Self {
        self.followed = Some(schedules);
        self
    }

    /// Sees to this much.
    #[must_use]
    pub fn within(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Takes other schedules from the next step on; runs that go on keep theirs.
    pub fn set_schedules(&mut self, schedules: Vec<Schedule>) {
        self.planner.change(&self.schedules, &schedules);
        self.schedules = schedules;
    }

    /// What it does and when it last did it.
    #[must_use]
    pub fn pulse(&self) -> watch::Receiver<Beat> {
        self.pulse.subscribe()
    }

    /// Steps at every tick and whenever a slot's start comes, until it is told to stop. Runs go on
    /// without it.
    pub async fn run(mut self, mut ticker: Ticker, stop: CancellationToken) {
        loop {
            self.pulse.begin(&*self.clock);
            self.take_changes();
            let now = self.clock.now();
            let result = self.step(now).await;
            let is_behind = result.as_ref().is_ok_and(|done| done.planning == Extent::Part);
            let error = result.err().map(|error| error.to_string());
            if self.pulse.end(&*self.clock, error.clone()) == Outcome::Changed {
                match error {
                    Some(error) => tracing::error!(%error, "no run can be started"),
                    None => tracing::info!("runs can be started again"),
                }
            }
            let next = if is_behind { Some(Instant::now()) } else { self.next_start(now).await };
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticker.tick(next) => {}
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

    /// When the next slot starts that the step of `stepped_at` has not seen; it may be past. Without
    /// an answer the next tick is early enough to ask again.
    pub async fn next_start(&self, stepped_at: DateTime<Utc>) -> Option<Instant> {
        let start = self.ledger.next_start(stepped_at).await.ok()??;
        // The clock again: the step has taken time, and the wait begins now.
        Some(Instant::now() + (start - self.clock.now()).to_std().unwrap_or_default())
    }

    /// One step: everything that is to be done at `now`.
    ///
    /// # Errors
    /// When something could not be read or written down; what was not done is done by the next.
    pub async fn step(&mut self, now: DateTime<Utc>) -> Result<Stepped, StorageError> {
        let mut stepped = Stepped::default();
        match self.scope {
            Scope::Asked => self.answer_requests(now).await?,
            Scope::Everything => {
                self.detect_downtime(now).await?;
                self.answer_requests(now).await?;
                let Progress { n_new, past, extent } =
                    self.planner.step(&*self.ledger, &self.schedules, now).await?;
                (stepped.n_planned, stepped.planning) = (n_new, extent);
                self.account_for_downtime(past, now).await?;
            }
        }
        self.decide_all(now, &mut stepped).await?;
        match self.scope {
            Scope::Asked => {}
            Scope::Everything => self.sign_of_life(now).await?,
        }
        Ok(stepped)
    }

    async fn decide_all(
        &mut self,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let open = self.ledger.open_runs().await?;
        let pauses = self.ledger.pauses(now).await?;
        self.start_claimed(&open, now).await?;
        if self.scope == Scope::Everything {
            self.continue_continuous(now, &open, &pauses).await?;
        }
        let mut due = self.ledger.due(now).await?;
        due.retain(|slot| self.scope == Scope::Everything || slot.origin == Origin::Asked);
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
                        downtime: slot.downtime,
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
                Decision::Replace { run, start_by } => {
                    self.replace(&slot, run, start_by).await?;
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
        &mut self,
        now: DateTime<Utc>,
        open: &[OpenRun],
        pauses: &[Pause],
    ) -> Result<(), StorageError> {
        let boot = self.clock.boot();
        let continuous = self.schedules.iter().filter(|s| s.cadence == Cadence::Continuous);
        for schedule in continuous {
            let is_held = pauses.iter().any(|pause| pause.schedule == schedule.name)
                || open.iter().any(|open| open.run.slot.schedule == schedule.name)
                || open.len() >= self.max_running
                || in_maintenance(schedule, now).is_some();
            if !is_held {
                self.planner.continuous(&*self.ledger, schedule, now, boot).await?;
            }
        }
        Ok(())
    }

    async fn claim_and_start(
        &mut self,
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

    /// Starts the keepers of claims that have none: of a daemon that died in between, and of those that
    /// could not be started before. What passes (no more processes, a full disk) may pass in time.
    async fn start_claimed(
        &mut self,
        open: &[OpenRun],
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        self.refused.retain(|run, _| open.iter().any(|open| open.run.id == *run));
        for open in open {
            let has_keeper = open.run.keeper.is_some() || open.start_error.is_some();
            if has_keeper || open.progress == RunProgress::Judged {
                continue;
            }
            let lease = RunLease::resume(open.clone());
            if now <= open.start_by {
                self.start(lease).await?;
            } else if let Some(error) = self.refused.get(&open.run.id) {
                self.ledger.keeper_refused(&lease, error).await?;
            }
        }
        Ok(())
    }

    /// Starts the keeper, or remembers why that did not work; it is tried again until the deadline.
    async fn start(&mut self, lease: RunLease) -> Result<(), StorageError> {
        let run = lease.run();
        match self.keepers.start(&lease).await {
            Ok(keeper) => {
                tracing::info!(run = %run.id, schedule = %run.slot.schedule, pid = keeper.pid, "started");
                // Not the step's time: writing the claim and starting a process take their own.
                self.ledger.keeper_started(&lease, &keeper, self.clock.now()).await
            }
            Err(error) => {
                let error = error.to_string();
                // The same every second is worth one line.
                if self.refused.get(&run.id) != Some(&error) {
                    tracing::error!(run = %run.id, schedule = %run.slot.schedule, %error, "not started; trying again");
                }
                self.refused.insert(run.id.clone(), error);
                Ok(())
            }
        }
    }

    /// Asks a run to stop for the slot after it, once. The slot's deadline is moved first, so that
    /// it is not lost together with the run.
    async fn replace(
        &mut self,
        slot: &PlannedSlot,
        run: RunId,
        start_by: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        if self.replaced.contains(&run) {
            return Ok(());
        }
        if start_by > slot.start_by {
            self.ledger.extend(&slot.slot, start_by).await?;
        }
        match self.keepers.stop(&run, StopHow::Ask).await {
            Ok(()) => {
                self.replaced.insert(run);
            }
            Err(error) => tracing::warn!(%run, %error, "could not be asked to stop; trying again"),
        }
        Ok(())
    }
}
