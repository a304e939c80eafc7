//! A world for the guard: simulated clock, real store in memory, scripted keepers, and both loops
//! driven step by step.
//!
//! Time goes from event to event: the next start, the next entry of a script, the next half minute
//! where something waits. Nothing sleeps.

mod clock;
mod clock_changes;
mod crowds;
mod downtime;
mod forecasts;
pub(crate) mod fused;
mod pulse;
mod retention;
pub(crate) mod scripted;
pub(crate) mod scripts;
mod simulation;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lookout::clock::{Clock, SimClock};
use lookout::run::Scope;
use lookout::run::conductor::Conductor;
use lookout::run::ledger::{Answer, Ledger, Request};
use lookout::schedule::{
    Cadence, CatchUp, CommandJob, Job, OnStall, Overlap, Schedule, ScheduleName, Slot, StallOn,
};
use lookout::store::GuardDb;
use lookout::watch::history::{History, IncidentFilter, SlotFilter, SlotRow};
use lookout::watch::watchdog::{Watchdog, WatchedLoop};
use lookout::watch::{Change, Incident, IncidentKind, News, Verdict};

use fused::Fused;
use scripted::ScriptedKeepers;
use scripts::Script;

/// 4 March 2026, 00:30 UTC: half an hour before the first slot.
pub(crate) fn epoch() -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_584_200, 0).unwrap()
}

/// Hourly, with the defaults of docs/configuration.md.
pub(crate) fn hourly(name: &str) -> Schedule {
    Schedule {
        name: ScheduleName::new(name),
        cadence: Cadence::Cron("0 * * * *".into()),
        timezone: lookout::timezone::Zone::utc(),
        jitter: Duration::ZERO,
        start_grace: Duration::from_secs(120),
        time_box: Duration::from_secs(45 * 60),
        signal_grace: Duration::from_secs(300),
        kill_grace: Duration::from_secs(10),
        stall_after: Duration::from_secs(600),
        stall_on: StallOn::Output,
        on_stall: OnStall::Alert,
        signal: "Bulk processing completed.".into(),
        signal_match: lookout::schedule::SignalMatch::Text,
        overlap: Overlap::Skip,
        catch_up: CatchUp::Latest,
        notify: Vec::new(),
        patterns: Vec::new(),
        maintenance: Vec::new(),
        image_errors_at_least: 20,
        image_errors_percent: 10,
        job: Job::Command(CommandJob {
            argv: vec!["review".into()],
            cwd: None,
            env: std::collections::BTreeMap::new(),
            stop_signal: "SIGTERM".into(),
            user: None,
        }),
    }
}

/// Which of the loops take part in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alive {
    Both,
    /// The conductor hangs.
    WatchdogOnly,
    /// The daemon is down.
    Nobody,
}

/// Everything, as it would be in one daemon.
pub(crate) struct World {
    pub(crate) clock: Arc<SimClock>,
    pub(crate) db: GuardDb,
    pub(crate) store: Arc<Fused>,
    pub(crate) keepers: Arc<ScriptedKeepers>,
    pub(crate) alive: Alive,
    pub(crate) news: Vec<News>,
    schedules: Vec<Schedule>,
    conductor: Conductor,
    watchdog: Watchdog,
    max_running: u32,
    longest_step: Duration,
    loops: Vec<WatchedLoop>,
    scope: Scope,
}

impl World {
    pub(crate) fn new(
        schedules: Vec<Schedule>,
        casting: impl FnMut(&Slot) -> Script + Send + 'static,
    ) -> Self {
        Self::starting(epoch(), schedules, casting)
    }

    /// A world that begins at another time.
    pub(crate) fn starting(
        at: DateTime<Utc>,
        schedules: Vec<Schedule>,
        casting: impl FnMut(&Slot) -> Script + Send + 'static,
    ) -> Self {
        let clock = Arc::new(SimClock::new(at));
        let db = GuardDb::in_memory().unwrap();
        let store = Arc::new(Fused::new(db.clone()));
        let keepers = Arc::new(ScriptedKeepers::new(clock.clone(), Box::new(casting)));
        let max_running = 50;
        let (conductor, watchdog) = loops(&clock, &store, &keepers, &schedules, max_running);
        Self {
            clock,
            db,
            store,
            keepers,
            alive: Alive::Both,
            news: Vec::new(),
            schedules,
            conductor,
            watchdog,
            max_running,
            longest_step: Duration::from_secs(30),
            loops: Vec::new(),
            scope: Scope::Everything,
        }
    }

    /// Another daemon on the same state, which sees to this much.
    pub(crate) fn restart_within(&mut self, scope: Scope) {
        self.scope = scope;
        self.restart();
    }

    pub(crate) fn conductor(&mut self) -> &mut Conductor {
        &mut self.conductor
    }

    /// Time goes in steps of at most this while nothing happens.
    pub(crate) fn with_longest_step(mut self, step: Duration) -> Self {
        self.longest_step = step;
        self
    }

    pub(crate) fn with_max_running(mut self, max_running: u32) -> Self {
        self.max_running = max_running;
        self.restart();
        self
    }

    /// Another daemon on the same state: nothing in memory is left.
    pub(crate) fn restart(&mut self) {
        self.store.set(fused::Fuse::None);
        self.watch_loops(self.loops.clone());
        let conductor = Conductor::new(
            self.store.clone(),
            self.keepers.clone(),
            self.clock.clone(),
            self.schedules.clone(),
            self.max_running,
        );
        self.conductor = conductor.within(self.scope);
    }

    /// The watchdog also looks at these loops.
    pub(crate) fn watch_loops(&mut self, loops: Vec<WatchedLoop>) {
        self.loops.clone_from(&loops);
        let (_, watchdog) =
            self::loops(&self.clock, &self.store, &self.keepers, &[], self.max_running);
        self.watchdog = watchdog.watching(loops).within(self.scope);
    }

    pub(crate) fn configure(&mut self, schedules: Vec<Schedule>) {
        self.schedules.clone_from(&schedules);
        self.conductor.set_schedules(schedules);
    }

    /// One step of both loops; a crash is followed by a new daemon with the next step.
    pub(crate) async fn step(&mut self) {
        let now = self.clock.now();
        if self.alive == Alive::Both {
            // An error is a crash that was asked for; see below.
            let _ = self.conductor.step(now).await;
        }
        if self.alive != Alive::Nobody
            && let Ok(stepped) = self.watchdog.step(now).await
        {
            self.news.extend(stepped.news);
        }
        if self.store.is_burnt() {
            self.restart();
        }
    }

    /// Lets time go by, stepping wherever something happens.
    pub(crate) async fn run_for(&mut self, time: Duration) {
        let end = self.clock.boot() + time;
        self.step().await;
        while self.clock.boot() < end {
            let wait = self.next_wait().await.min(end - self.clock.boot());
            tokio::time::advance(wait).await;
            self.step().await;
        }
    }

    async fn next_wait(&self) -> Duration {
        let (now, boot) = (self.clock.now(), self.clock.boot());
        let second = Duration::from_secs(1);
        // Short enough to be no downtime.
        let while_waiting = (self.longest_step / 30).clamp(second, Duration::from_secs(10));
        let is_waiting = !self.db.due(now).await.unwrap().is_empty();
        let runs = self.db.open_runs().await.unwrap();
        // Its keeper could not be started yet.
        let is_retried = runs.iter().any(|open| open.run.keeper.is_none());
        let mut wait = if is_waiting || is_retried || self.alive == Alive::Nobody {
            while_waiting
        } else {
            self.longest_step
        };
        if let Some(start) = self.db.next_start(now).await.unwrap() {
            wait = wait.min((start - now).to_std().unwrap_or(second));
        }
        if !runs.is_empty()
            && let Some(change) = self.keepers.next_change()
        {
            wait = wait.min(change - boot);
        }
        // Rows hold milliseconds.
        wait.max(Duration::from_millis(1))
    }

    /// The daemon is down for so long.
    pub(crate) async fn down_for(&mut self, time: Duration) {
        tokio::time::advance(time).await;
        self.restart();
    }

    pub(crate) async fn ask(&mut self, request: Request) -> Answer {
        let id = self.db.ask(&request, self.clock.now()).await.unwrap();
        self.step().await;
        self.db.answer_to(id).await.unwrap().expect("an answer")
    }

    /// Slots that were due up to now, earliest first.
    pub(crate) async fn slots(&self) -> Vec<SlotRow> {
        let until = Some(self.clock.now() + TimeDelta::milliseconds(1));
        let filter = SlotFilter { until, ..SlotFilter::default() };
        let mut slots = self.db.slots(filter).await.unwrap();
        slots.reverse();
        slots
    }

    pub(crate) async fn verdicts(&self) -> Vec<Verdict> {
        self.slots().await.iter().filter_map(|slot| slot.verdict).collect()
    }

    pub(crate) async fn incidents(&self) -> Vec<Incident> {
        let mut all = self.db.incidents(IncidentFilter::All, 100_000).await.unwrap();
        all.reverse();
        all
    }

    /// The news so far, as (kind, change).
    pub(crate) fn told(&self) -> Vec<(IncidentKind, Change)> {
        self.news.iter().map(|news| (news.incident.kind, news.change)).collect()
    }
}

fn loops(
    clock: &Arc<SimClock>,
    store: &Arc<Fused>,
    keepers: &Arc<ScriptedKeepers>,
    schedules: &[Schedule],
    max_running: u32,
) -> (Conductor, Watchdog) {
    let conductor = Conductor::new(
        store.clone(),
        keepers.clone(),
        clock.clone(),
        schedules.to_vec(),
        max_running,
    );
    let watchdog =
        Watchdog::new(store.clone(), store.clone(), keepers.clone(), clock.clone(), "prod".into());
    (conductor, watchdog.remembering(store.history()))
}
