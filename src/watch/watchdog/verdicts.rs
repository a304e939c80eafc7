//! The verdict of a run with all that follows from it, and what still comes to light afterwards.
//!
//! Invariant: a verdict is written once; what is seen later is attached as a finding.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{LOG_TAIL_LINES, Stepped, Watchdog, Watched, facts_of};
use crate::run::RunId;
use crate::run::keeper::Presence;
use crate::run::ledger::OpenRun;
use crate::storage::StorageError;
use crate::watch::baseline::{self, Length, RUNS_LOOKED_AT};
use crate::watch::findings::{Finding, findings, late_findings};
use crate::watch::history::{SlotFilter, Summary};
use crate::watch::incident_policy::{at_the_end, left_over};
use crate::watch::incidents::{Judgement, Occasion, Outcome};
use crate::watch::judge::{Decision, KEEPER_ENDS_WITHIN, cause_of};
use crate::watch::observed::Observed;
use crate::watch::{Verdict, facts};

impl Watchdog {
    /// Writes the verdict of a run with all that follows from it.
    pub(super) async fn conclude(
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
        let before = self.good_runs_before(open).await?;
        let summary = facts::summary(&observed, verdict, cause_of(&observed, self.clock.boot()));
        let mut found = findings(&observed, verdict);
        found.extend(unusual(&summary, verdict, &before));
        if open.downtime.is_some() {
            found.push(Finding::CaughtUp);
        }
        if verdict == Verdict::TimedOut && watched.overdue {
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
        let open_incidents = self.incidents.open_incidents().await?;
        let occasion = Occasion::Run(open.run.id.clone());
        let context = self.context(open, &observed, &occasion, &facts, &open_incidents);
        let mut incidents = at_the_end(&context, verdict);
        if verdict == Verdict::Completed {
            incidents.extend(left_over(&context, &before));
        }
        let outcome = Outcome {
            judgements: vec![Judgement {
                slot: open.run.slot.clone(),
                run: Some(open.run.id.clone()),
                verdict,
                reason: decision.reason,
                findings: found,
                summary,
                at: now,
            }],
            closed: self.closed(open, &observed, presence, now),
            incidents,
            ..Outcome::default()
        };
        watched.at_verdict = Some(observed);
        watched.verdict = Some(verdict);
        self.record(outcome, now, stepped).await
    }

    /// What the last good runs of the schedule came to, newest first.
    async fn good_runs_before(&self, open: &OpenRun) -> Result<Vec<Summary>, StorageError> {
        let Some(history) = &self.history else { return Ok(Vec::new()) };
        let slot = &open.run.slot;
        let filter = SlotFilter {
            schedule: Some(slot.schedule.to_string()),
            until: Some(slot.due_at),
            verdict: Some(Verdict::Completed),
            limit: Some(RUNS_LOOKED_AT),
            ..SlotFilter::default()
        };
        let slots = history.slots(filter).await?;
        Ok(slots.into_iter().map(|slot| slot.summary).collect())
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
    pub(super) async fn watch_judged(
        &mut self,
        open: &OpenRun,
        watched: &mut Watched,
        presence: Presence,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let observed = &watched.observed;
        let verdict = watched.verdict.unwrap_or_else(|| verdict_before_us(open, observed));
        let before = watched.at_verdict.clone().unwrap_or_else(|| {
            // What an earlier watchdog had seen nobody knows: only a start is surely late.
            if verdict == Verdict::Missed { Observed::default() } else { observed.clone() }
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
}

/// What an earlier watchdog judged of a run whose processes are still there: a job that started in
/// time and that its keeper did not stop outlasted all its limits.
fn verdict_before_us(open: &OpenRun, observed: &Observed) -> Verdict {
    let started_in_time = observed.started.is_some_and(|started| started.at <= open.start_by);
    if observed.stopping.is_some() || started_in_time { Verdict::TimedOut } else { Verdict::Missed }
}

/// A good run whose length is out of the ordinary. One with nothing to do is short for that reason.
fn unusual(summary: &Summary, verdict: Verdict, before: &[Summary]) -> Option<Finding> {
    let had_nothing_to_do =
        !summary.counts.is_empty() && summary.counts.values().all(|count| *count == 0);
    if verdict != Verdict::Completed || had_nothing_to_do {
        return None;
    }
    let took = Duration::try_from_secs_f64(summary.seconds?).ok()?;
    Some(match baseline::length(took, before)? {
        Length::Short(unusual) => Finding::MuchShorter(unusual),
        Length::Long(unusual) => Finding::MuchLonger(unusual),
    })
}
