//! Runs that go on: their evidence, whether something moves, whether they are over.
//!
//! The watchdog's first half; the verdict itself is written in `verdicts.rs`.
//! Invariant: a run is judged from its evidence and the boot clock, never from what was said of it before.

use chrono::{DateTime, Utc};

use super::{LOG_TAIL_LINES, Stepped, Watchdog, Watched, delta, facts_of};
use crate::run::RunId;
use crate::run::keeper::{KeeperError, Presence, StopHow};
use crate::run::ledger::{OpenRun, RunProgress};
use crate::storage::StorageError;
use crate::watch::incident_policy::{RunContext, moving, stalled, while_running};
use crate::watch::incidents::{Occasion, OpenIncident, Outcome};
use crate::watch::judge::{
    Case, KEEPER_STARTS_WITHIN, Movement, StartWindow, State, judge, overdue, unreadable,
};
use crate::watch::observed::Observed;
use crate::watch::{Facts, Verdict, facts};

impl Watchdog {
    pub(super) async fn watch_runs(
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
        if let Err(error) = self.read_evidence(open, watched).await {
            return self.without_evidence(open, watched, looked, &error, now, stepped).await;
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
                // The verdict first: if we die in between, the next watchdog still finds it there.
                // Where nothing can be written it is killed all the same, by the next step.
                let was_known = std::mem::replace(&mut watched.overdue, true);
                let written = self.conclude(open, watched, presence, overdue(), now, stepped).await;
                if written.is_ok() || was_known {
                    self.kill(&open.run.id, watched).await;
                }
                written
            }
            State::Over(mut decision) => {
                if decision.verdict == Verdict::Interrupted && watched.overdue {
                    decision = overdue();
                }
                if matches!(decision.verdict, Verdict::Interrupted | Verdict::Missed) {
                    // What a dead keeper left behind, or one that comes too late.
                    self.kill(&open.run.id, watched).await;
                }
                self.conclude(open, watched, presence, decision, now, stepped).await
            }
        }
    }

    /// The run goes on, or not; nobody can say how. It must not hold up its schedule for ever.
    async fn without_evidence(
        &mut self,
        open: &OpenRun,
        watched: &mut Watched,
        keeper: Option<Presence>,
        error: &KeeperError,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let boot = self.clock.boot();
        if watched.unreadable.is_none() {
            tracing::warn!(run = %open.run.id, %error, "its evidence can't be read");
        }
        let lasts = boot.saturating_sub(*watched.unreadable.get_or_insert(boot));
        let presence = keeper.unwrap_or(Presence::Gone);
        if open.progress == RunProgress::Judged {
            return self.watch_judged(open, watched, presence, now, stepped).await;
        }
        let Some(decision) = unreadable(&open.run.schedule, keeper, lasts, &error.to_string())
        else {
            return Ok(());
        };
        self.kill(&open.run.id, watched).await;
        self.conclude(open, watched, presence, decision, now, stepped).await
    }

    async fn read_evidence(
        &self,
        open: &OpenRun,
        watched: &mut Watched,
    ) -> Result<(), KeeperError> {
        let reading = self.keepers.read(&open.run.id, watched.offset).await?;
        watched.unreadable = None;
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
        Ok(())
    }

    pub(super) async fn kill(&self, run: &RunId, watched: &mut Watched) {
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
            let context = self.context(open, &watched.observed, &occasion, facts, &incidents);
            let mut writes = while_running(&context);
            if writes.is_empty() {
                writes = match movement {
                    Movement::Moving => moving(&context),
                    Movement::Stalled => stalled(&context),
                    Movement::Ending => Vec::new(),
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

    pub(super) fn context<'a>(
        &'a self,
        open: &'a OpenRun,
        observed: &'a Observed,
        occasion: &'a Occasion,
        facts: &'a Facts,
        incidents: &'a [OpenIncident],
    ) -> RunContext<'a> {
        RunContext {
            instance: &self.instance,
            schedule: &open.run.schedule,
            occasion,
            observed,
            facts,
            open: incidents,
            boot: self.clock.boot(),
        }
    }
}
