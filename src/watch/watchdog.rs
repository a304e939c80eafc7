//! The watchdog: reads the evidence of open runs, gives verdicts, opens and resolves incidents.
//!
//! A loop around [`Watchdog::step`], on a thread and runtime of its own. It shares nothing with the
//! conductor but rows: a slot whose deadline passed is missed, whoever was to start it.
//! Invariant: what it decides is written in one transaction; what can't be written is decided
//! again by the next step.

mod loops;
mod removed_schedules;
mod runs;
mod slots;
mod verdicts;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::loops::Loops;
pub use self::loops::WatchedLoop;
use super::history::History;
use super::incident_policy::is_reminder_due;
use super::incidents::{IncidentWrite, Incidents, Outcome, Recorded};
use super::observed::Observed;
use super::{Facts, News, Verdict, facts, unpersisted};
use crate::clock::Clock;
use crate::pulse::{Beat, Pulse};
use crate::run::downtime::{ClockSample, Downtime};
use crate::run::keeper::Keepers;
use crate::run::ledger::{Answer, Ledger, Loop, OpenRun, Request};
use crate::run::{RunId, Scope};
use crate::storage::StorageError;

/// Lines of output in a message.
const LOG_TAIL_LINES: usize = 12;

/// After a downtime the conductor has so long to say what becomes of its slots.
const SETTLE: TimeDelta = TimeDelta::minutes(2);

/// Between two signs of life on disk; see the conductor's.
const SIGN_OF_LIFE_EVERY: TimeDelta = TimeDelta::seconds(10);

/// Time services correct clocks by fractions of a second all the time.
const WORTH_A_LINE: TimeDelta = TimeDelta::seconds(2);

/// Between two steps. A deadline is noticed within it.
pub const STEP_EVERY: Duration = Duration::from_millis(500);

/// What is remembered of an open run; all of it can be read again.
#[derive(Debug, Default)]
struct Watched {
    observed: Observed,
    offset: u64,
    /// What was seen when the verdict was certain; what comes later are late findings.
    at_verdict: Option<Observed>,
    verdict: Option<Verdict>,
    /// Boot time at which the run was first looked at.
    first_seen: Duration,
    /// Boot time since which its evidence can't be read.
    unreadable: Option<Duration>,
    /// Whether it was killed by us.
    killed: Option<Duration>,
    /// It was still there after all its limits: whoever kills it knows why it is gone.
    overdue: bool,
}

/// The loop's state; everything durable is in `guard.db` and in the evidence.
#[derive(Debug)]
pub struct Watchdog {
    ledger: Arc<dyn Ledger>,
    incidents: Arc<dyn Incidents>,
    keepers: Arc<dyn Keepers>,
    clock: Arc<dyn Clock>,
    instance: String,
    watched: HashMap<RunId, Watched>,
    /// The clocks at the last step of this process.
    last: Option<ClockSample>,
    /// What was, to compare a run with.
    history: Option<Arc<dyn History>>,
    loops: Loops,
    scope: Scope,
    last_written: Option<DateTime<Utc>>,
    /// Boot time of the last look for incidents of schedules that are gone.
    looked_for_removed_schedules: Option<Duration>,
    storage: unpersisted::StorageOutage,
    /// The last downtime, and until when its slots are the conductor's.
    gap: Option<(Downtime, DateTime<Utc>)>,
    /// Tells what can't be recorded.
    from_memory: Option<mpsc::UnboundedSender<News>>,
    notified_from_memory: HashSet<String>,
    pulse: Pulse,
}

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stepped {
    /// Verdicts written.
    pub n_judged: usize,
    /// News written.
    pub news: Vec<News>,
}

impl Watchdog {
    /// A watchdog of everything in this ledger.
    #[must_use]
    pub fn new(
        ledger: Arc<dyn Ledger>,
        incidents: Arc<dyn Incidents>,
        keepers: Arc<dyn Keepers>,
        clock: Arc<dyn Clock>,
        instance: String,
    ) -> Self {
        Self {
            ledger,
            incidents,
            keepers,
            clock,
            instance,
            watched: HashMap::new(),
            last: None,
            history: None,
            loops: Loops::default(),
            scope: Scope::default(),
            last_written: None,
            looked_for_removed_schedules: None,
            storage: unpersisted::StorageOutage::default(),
            gap: None,
            from_memory: None,
            notified_from_memory: HashSet::new(),
            pulse: Pulse::default(),
        }
    }

    /// Where news goes that can't be written down (a full disk): the dispatcher sends it with the
    /// mark "not recorded". Such news has the id 0.
    #[must_use]
    pub fn notifying_from_memory(mut self, news: mpsc::UnboundedSender<News>) -> Self {
        self.from_memory = Some(news);
        self
    }

    /// Sees to this much.
    #[must_use]
    pub fn within(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Compares runs with what this history knows of their schedule.
    #[must_use]
    pub fn remembering(mut self, history: Arc<dyn History>) -> Self {
        self.history = Some(history);
        self
    }

    /// Also watches these loops of the daemon.
    #[must_use]
    pub fn watching(mut self, loops: Vec<WatchedLoop>) -> Self {
        self.loops = Loops::of(loops);
        self
    }

    /// What it does and when it last did it.
    #[must_use]
    pub fn pulse(&self) -> watch::Receiver<Beat> {
        self.pulse.subscribe()
    }

    /// Steps twice a second, until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.pulse.begin(&*self.clock);
            let now = self.clock.now();
            let result = self.step(now).await;
            let error = result.err();
            self.report(error.as_ref(), now);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(STEP_EVERY) => {}
            }
        }
    }

    fn report(&mut self, error: Option<&StorageError>, now: DateTime<Utc>) {
        use crate::pulse::Outcome::{AsBefore, Changed};
        match (self.pulse.end(&*self.clock, error.map(ToString::to_string)), error) {
            (AsBefore, _) => {}
            (Changed, Some(error)) => {
                tracing::error!(%error, "verdicts and incidents can't be recorded");
            }
            (Changed, None) => {
                tracing::info!("verdicts and incidents are recorded again");
                self.notified_from_memory.clear();
            }
        }
        if let Some(change) = self.storage.step(error, self.clock.boot()) {
            let facts = Facts { detail: error.map(ToString::to_string), ..Facts::default() };
            self.tell_storage(change, facts, now);
        }
    }

    fn tell_storage(&self, change: super::Change, facts: Facts, now: DateTime<Utc>) {
        if let Some(sender) = &self.from_memory {
            // Without a receiver nobody is left to tell.
            let _ = sender.send(unpersisted::storage_news(&self.instance, change, facts, now));
        }
    }

    /// One step: everything that is known at `now`.
    ///
    /// # Errors
    /// The first thing that could not be read or written; the rest was done all the same.
    pub async fn step(&mut self, now: DateTime<Utc>) -> Result<Stepped, StorageError> {
        let mut stepped = Stepped::default();
        self.detect_downtime(now).await?;
        let mut first_error = None;
        for result in [
            self.answer_requests().await,
            self.watch_runs(now, &mut stepped).await,
            self.judge_dropped(now, &mut stepped).await,
            self.judge_overdue(now, &mut stepped).await,
            self.judge_loops(now, &mut stepped).await,
            self.close_removed_schedules(now, &mut stepped).await,
            self.remind(now, &mut stepped).await,
            self.sign_of_life(now).await,
        ] {
            if let Err(error) = result {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(stepped), Err)
    }

    async fn detect_downtime(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        let reading = ClockSample::take(&*self.clock, now);
        let gap = match &self.last {
            Some(last) => {
                for what in what_happened(last, &reading) {
                    tracing::warn!("{what}");
                    let what = format!("{what} ({} UTC)", now.format("%Y-%m-%d %H:%M"));
                    self.pulse.notice(&*self.clock, what);
                }
                Downtime::between(last, &reading)
            }
            None => {
                // Slots that the conductor has not accounted for are of its downtime, which may have
                // begun before ours.
                let ours = self.ledger.last_seen(Loop::Watchdog).await?;
                let conductors = self.ledger.last_seen(Loop::Conductor).await?;
                Downtime::since_sign(ours.into_iter().chain(conductors).min(), now)
            }
        };
        if let Some(gap) = gap {
            self.gap = Some((gap, now + SETTLE));
        }
        self.last = Some(reading);
        Ok(())
    }

    async fn sign_of_life(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        // What the schedules owe is nobody's until a daemon comes that sees to everything.
        if self.scope == Scope::Asked {
            return Ok(());
        }
        let is_fresh =
            self.last_written.is_some_and(|last| last <= now && now - last < SIGN_OF_LIFE_EVERY);
        if !is_fresh {
            self.ledger.seen(Loop::Watchdog, now).await?;
            self.last_written = Some(now);
        }
        Ok(())
    }

    async fn answer_requests(&self) -> Result<(), StorageError> {
        for (id, request) in self.ledger.requests().await? {
            let Request::Ack { incident } = request else { continue };
            let answer = if self.incidents.acknowledge(incident).await? {
                Answer::Done
            } else {
                Answer::Refused { reason: format!("incident {incident} is not open") }
            };
            self.ledger.answer(id, &answer).await?;
        }
        Ok(())
    }

    async fn remind(
        &mut self,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let incidents: Vec<IncidentWrite> = self
            .incidents
            .open_incidents()
            .await?
            .into_iter()
            .filter(|open| is_reminder_due(open, now))
            .map(|open| IncidentWrite::Remind { key: open.incident.key })
            .collect();
        if incidents.is_empty() {
            return Ok(());
        }
        self.record(Outcome { incidents, ..Outcome::default() }, now, stepped).await
    }

    async fn record(
        &mut self,
        outcome: Outcome,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let n_judged = outcome.judgements.len();
        match self.incidents.record(outcome.clone(), now).await {
            Ok(Recorded::Written(news)) => {
                stepped.n_judged += n_judged;
                stepped.news.extend(news);
                Ok(())
            }
            // Claimed or judged a moment ago; the next step sees it as it is.
            Ok(Recorded::AlreadyJudged) => Ok(()),
            Err(error) => {
                if let (StorageError::Unwritable(_), Some(sender)) = (&error, &self.from_memory) {
                    for news in unpersisted::news_of(&outcome, now) {
                        if self.notified_from_memory.insert(news.incident.key.clone()) {
                            // Without a receiver nobody is left to tell.
                            let _ = sender.send(news);
                        }
                    }
                }
                Err(error)
            }
        }
    }
}

fn facts_of(open: &OpenRun, observed: &Observed) -> Facts {
    facts::of_run(&open.run.schedule, &open.run.slot, &open.run.id, observed)
}

/// A clock that was set and a machine that slept are worth a line each: they explain much.
fn what_happened(before: &ClockSample, now: &ClockSample) -> Vec<String> {
    let set = now.clock_set_since(before);
    let set = (set.abs() > WORTH_A_LINE)
        .then(|| format!("the clock of this machine was set by {:+} s", set.num_seconds()));
    let slept = now.slept_since(before);
    let slept = (delta(slept) > WORTH_A_LINE)
        .then(|| format!("this machine was asleep for {} s", slept.as_secs()));
    set.into_iter().chain(slept).collect()
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
