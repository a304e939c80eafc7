//! The watchdog: reads the evidence of open runs, gives verdicts, opens and resolves incidents.
//!
//! A loop around [`Watchdog::step`], on a thread and runtime of its own. It shares nothing with the
//! conductor but rows: a slot whose deadline passed is missed, whoever was to start it.
//! Invariant: what it decides is written in one transaction; what can't be written is decided
//! again by the next step.

mod slots;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::diagnose::{Patient, at_the_end, is_reminder_due, moving, stalled, while_running};
use super::incidents::{
    IncidentWrite, Incidents, Judgement, Occasion, OpenIncident, Outcome, Recorded,
};
use super::judge::{
    Case, Decision, Finding, KEEPER_ENDS_WITHIN, KEEPER_STARTS_WITHIN, Movement, StartWindow,
    State, findings, judge, late_findings, overdue,
};
use super::observed::Observed;
use super::{Facts, News, Verdict, facts, unrecorded};
use crate::clock::Clock;
use crate::run::RunId;
use crate::run::absence::Gap;
use crate::run::keeper::{Keepers, Presence, StopHow};
use crate::run::ledger::{Answer, Ledger, Loop, OpenRun, Request, RunProgress};
use crate::run::pulse::{Beat, Pulse};
use crate::storage::StorageError;

/// Lines of output in a message.
const LOG_TAIL_LINES: usize = 12;

/// After an absence the conductor has so long to say what becomes of its slots.
const SETTLE: TimeDelta = TimeDelta::minutes(2);

/// Between two signs of life on disk; see the conductor's.
const SIGN_OF_LIFE_EVERY: TimeDelta = TimeDelta::seconds(10);

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
    /// Whether it was killed by us.
    killed: Option<Duration>,
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
    last_seen: Option<DateTime<Utc>>,
    last_written: Option<DateTime<Utc>>,
    /// The last absence, and until when its slots are the conductor's.
    gap: Option<(Gap, DateTime<Utc>)>,
    /// Tells what can't be recorded.
    from_memory: Option<mpsc::UnboundedSender<News>>,
    told_from_memory: HashSet<String>,
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
            last_seen: None,
            last_written: None,
            gap: None,
            from_memory: None,
            told_from_memory: HashSet::new(),
            pulse: Pulse::default(),
        }
    }

    /// Where news goes that can't be written down (a full disk): the dispatcher sends it with the
    /// mark "not recorded". Such news has the id 0.
    #[must_use]
    pub fn telling_from_memory(mut self, news: mpsc::UnboundedSender<News>) -> Self {
        self.from_memory = Some(news);
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
        use crate::run::pulse::Outcome::{AsBefore, Changed};
        match (self.pulse.end(&*self.clock, error.map(ToString::to_string)), error) {
            (AsBefore, _) => {}
            (Changed, Some(error)) => {
                tracing::error!(%error, "verdicts and incidents can't be recorded");
                let facts = Facts { detail: Some(error.to_string()), ..Facts::default() };
                self.tell_storage(super::Change::Opened, facts, now);
            }
            (Changed, None) => {
                tracing::info!("verdicts and incidents are recorded again");
                self.tell_storage(super::Change::Resolved, Facts::default(), now);
                self.told_from_memory.clear();
            }
        }
    }

    fn tell_storage(&self, change: super::Change, facts: Facts, now: DateTime<Utc>) {
        if let Some(sender) = &self.from_memory {
            // Without a receiver nobody is left to tell.
            let _ = sender.send(unrecorded::storage_news(&self.instance, change, facts, now));
        }
    }

    /// One step: everything that is known at `now`.
    ///
    /// # Errors
    /// The first thing that could not be read or written; the rest was done all the same.
    pub async fn step(&mut self, now: DateTime<Utc>) -> Result<Stepped, StorageError> {
        let mut stepped = Stepped::default();
        self.notice_absence(now).await?;
        let mut first_error = None;
        for result in [
            self.answer_requests().await,
            self.watch_runs(now, &mut stepped).await,
            self.judge_dropped(now, &mut stepped).await,
            self.judge_overdue(now, &mut stepped).await,
            self.remind(now, &mut stepped).await,
            self.sign_of_life(now).await,
        ] {
            if let Err(error) = result {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(stepped), Err)
    }

    async fn notice_absence(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        if self.last_seen.is_none() {
            self.last_seen = self.ledger.last_seen(Loop::Watchdog).await?;
        }
        if let Some(gap) = Gap::between(self.last_seen, now) {
            self.gap = Some((gap, now + SETTLE));
        }
        self.last_seen = Some(now);
        Ok(())
    }

    async fn sign_of_life(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
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

    async fn watch_runs(
        &mut self,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let runs = self.ledger.open_runs().await?;
        self.watched.retain(|id, _| runs.iter().any(|open| open.run.id == *id));
        let mut first_error = None;
        for run in runs {
            let mut watched = self
                .watched
                .remove(&run.run.id)
                .unwrap_or_else(|| Watched { first_seen: self.clock.boot(), ..Watched::default() });
            let result = self.watch_run(&run, &mut watched, now, stepped).await;
            self.watched.insert(run.run.id.clone(), watched);
            if let Err(error) = result {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn watch_run(
        &mut self,
        open: &OpenRun,
        watched: &mut Watched,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let known = watched.observed.keeper.as_ref().or(open.run.keeper.as_ref());
        let looked = match known {
            Some(keeper) => Some(self.keepers.presence(keeper).await),
            None => None,
        };
        // Read after the look at the process: if that was gone, all it wrote is there by now.
        if !self.read_evidence(open, watched).await {
            return Ok(());
        }
        let presence = match (looked, &watched.observed.keeper) {
            (Some(presence), _) => presence,
            // It has just made itself known; the next step looks whether it is there.
            (None, Some(_)) => Presence::Alive,
            (None, None) => Presence::Gone,
        };
        if open.progress == RunProgress::Judged {
            return self.watch_judged(open, watched, presence, now, stepped).await;
        }
        let boot = self.clock.boot();
        let start_is_over = now > open.start_by + delta(KEEPER_STARTS_WITHIN)
            && boot.saturating_sub(watched.first_seen) >= KEEPER_STARTS_WITHIN;
        let state = judge(Case {
            schedule: &open.run.schedule,
            observed: &watched.observed,
            keeper: presence,
            start_error: open.start_error.as_deref(),
            start: if start_is_over { StartWindow::Over } else { StartWindow::Open },
            boot,
        });
        match state {
            State::Running(movement) => {
                self.tell_movement(open, watched, movement, now, stepped).await
            }
            State::Overdue => {
                self.kill(&open.run.id, watched).await;
                self.conclude(open, watched, presence, overdue(), now, stepped).await
            }
            State::Over(decision) => {
                if matches!(decision.verdict, Verdict::Interrupted | Verdict::Missed) {
                    // What a dead keeper left behind, or one that comes too late.
                    self.kill(&open.run.id, watched).await;
                }
                self.conclude(open, watched, presence, decision, now, stepped).await
            }
        }
    }

    /// Whether the evidence could be read.
    async fn read_evidence(&self, open: &OpenRun, watched: &mut Watched) -> bool {
        match self.keepers.read(&open.run.id, watched.offset).await {
            Ok(reading) => {
                for entry in &reading.entries {
                    watched.observed.take(entry);
                    let observed = &watched.observed;
                    let is_certain = observed.stopping.is_some()
                        || observed.ended.is_some()
                        || observed.could_not_start.is_some();
                    // For a run that an earlier watchdog judged.
                    if is_certain && watched.at_verdict.is_none() {
                        watched.at_verdict = Some(observed.clone());
                    }
                }
                watched.offset = reading.next_offset;
                true
            }
            Err(error) => {
                tracing::warn!(run = %open.run.id, %error, "its evidence can't be read");
                false
            }
        }
    }

    async fn kill(&self, run: &RunId, watched: &mut Watched) {
        match self.keepers.stop(run, StopHow::Kill).await {
            Ok(()) => watched.killed = Some(self.clock.boot()),
            Err(error) => tracing::warn!(%run, %error, "its processes could not be stopped"),
        }
    }

    async fn tell_movement(
        &mut self,
        open: &OpenRun,
        watched: &Watched,
        movement: Movement,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let incidents = self.incidents.open_incidents().await?;
        let occasion = Occasion::Run(open.run.id.clone());
        let mut facts = facts_of(open, &watched.observed);
        let write = |facts: &Facts| {
            let patient = self.patient(open, &watched.observed, &occasion, facts, &incidents);
            let mut writes = while_running(&patient);
            if writes.is_empty() {
                writes = match movement {
                    Movement::Moving => moving(&patient),
                    Movement::Stalled => stalled(&patient),
                };
            }
            writes
        };
        let mut writes = write(&facts);
        if writes.is_empty() {
            return Ok(());
        }
        // What takes time is looked up only when somebody is told.
        facts = facts::with_next(facts, &open.run.schedule, now);
        facts.log_tail = self.keepers.log_tail(&open.run.id, LOG_TAIL_LINES).await;
        writes = write(&facts);
        self.record(Outcome { incidents: writes, ..Outcome::default() }, now, stepped).await
    }

    fn patient<'a>(
        &'a self,
        open: &'a OpenRun,
        observed: &'a Observed,
        occasion: &'a Occasion,
        facts: &'a Facts,
        incidents: &'a [OpenIncident],
    ) -> Patient<'a> {
        Patient {
            instance: &self.instance,
            schedule: &open.run.schedule,
            occasion,
            observed,
            facts,
            open: incidents,
            boot: self.clock.boot(),
        }
    }

    /// Writes the verdict of a run with all that follows from it.
    async fn conclude(
        &mut self,
        open: &OpenRun,
        watched: &mut Watched,
        presence: Presence,
        decision: Decision,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let observed = watched.observed.clone();
        let verdict = decision.verdict;
        let mut found = findings(&observed, verdict);
        if open.absence.is_some() {
            found.push(Finding::CaughtUp);
        }
        if verdict == Verdict::TimedOut && watched.killed.is_some() {
            found.push(Finding::KeeperHung);
        }
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        let mut facts = facts::with_next(facts_of(open, &observed), &open.run.schedule, now);
        facts.verdict = Some(verdict);
        facts.detail = (verdict != Verdict::Completed).then(|| decision.reason.clone());
        facts.also.clone_from(&found);
        if verdict != Verdict::Completed {
            facts.log_tail = self.keepers.log_tail(&open.run.id, LOG_TAIL_LINES).await;
        }
        let incidents = self.incidents.open_incidents().await?;
        let occasion = Occasion::Run(open.run.id.clone());
        let patient = self.patient(open, &observed, &occasion, &facts, &incidents);
        let cause = super::judge::cause_of(&observed, patient.boot);
        let outcome = Outcome {
            judgements: vec![Judgement {
                slot: open.run.slot.clone(),
                run: Some(open.run.id.clone()),
                verdict,
                reason: decision.reason,
                findings: found,
                summary: facts::summary(&observed, verdict, cause),
                at: now,
            }],
            closed: self.closed(open, &observed, presence, now),
            incidents: at_the_end(&patient, verdict),
            ..Outcome::default()
        };
        watched.at_verdict = Some(observed);
        watched.verdict = Some(verdict);
        self.record(outcome, now, stepped).await
    }

    /// The run as closed, if its processes are known to be gone.
    fn closed(
        &self,
        open: &OpenRun,
        observed: &Observed,
        presence: Presence,
        now: DateTime<Utc>,
    ) -> Vec<(RunId, DateTime<Utc>)> {
        if observed.ended.is_some() || presence == Presence::Gone {
            let at = facts::ended_at(observed).unwrap_or(now);
            vec![(open.run.id.clone(), at)]
        } else {
            Vec::new()
        }
    }

    /// A run that has its verdict: what still comes to light, until its processes are gone.
    async fn watch_judged(
        &mut self,
        open: &OpenRun,
        watched: &mut Watched,
        presence: Presence,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let observed = &watched.observed;
        let before = watched.at_verdict.clone().unwrap_or_default();
        let verdict = watched.verdict.unwrap_or(match &observed.stopping {
            Some(_) => Verdict::TimedOut,
            None => Verdict::Missed,
        });
        let late: Vec<String> =
            late_findings(&before, observed, verdict).iter().map(ToString::to_string).collect();
        let closed = self.closed(open, observed, presence, now);
        let is_new = late_findings(&before, observed, verdict)
            .iter()
            .any(|finding| matches!(finding, Finding::SignalledLate | Finding::StartedLate));
        if closed.is_empty() {
            self.kill_if_it_lingers(open, watched).await;
            if !is_new {
                return Ok(());
            }
        }
        watched.at_verdict = Some(watched.observed.clone());
        let late = if late.is_empty() { Vec::new() } else { vec![(open.run.id.clone(), late)] };
        self.record(Outcome { closed, late, ..Outcome::default() }, now, stepped).await
    }

    async fn kill_if_it_lingers(&self, open: &OpenRun, watched: &mut Watched) {
        let limit = open.run.schedule.kill_grace + KEEPER_ENDS_WITHIN;
        let boot = self.clock.boot();
        let since = watched
            .killed
            .or(watched.observed.stopping.map(|(moment, _)| moment.boot))
            .unwrap_or(watched.first_seen);
        if boot.saturating_sub(since) > limit {
            self.kill(&open.run.id, watched).await;
        }
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
                    for news in unrecorded::news_of(&outcome, now) {
                        if self.told_from_memory.insert(news.incident.key.clone()) {
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

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
