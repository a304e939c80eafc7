//! Slots that came to no run: skipped, unobserved, missed.
//!
//! The watchdog's second half; what it finds here it finds in rows and deadlines alone.
//! Invariant: a downtime is told once, however many slots fell into it.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::{Stepped, Watchdog};
use crate::run::Scope;
use crate::run::downtime::excuse;
use crate::run::ledger::{Cause, DroppedSlot, Origin, PlannedSlot, RecordedDowntime};
use crate::storage::StorageError;
use crate::watch::history::Summary;
use crate::watch::incident_policy::{RunContext, at_the_end};
use crate::watch::incidents::{FaultKey, FaultWrite, IncidentWrite, Judgement, Occasion, Outcome};
use crate::watch::observed::Observed;
use crate::watch::{Facts, IncidentKind, Severity, Verdict, facts};

impl Watchdog {
    /// Verdicts of slots that the conductor will not run.
    pub(super) async fn judge_dropped(
        &mut self,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        // Those of a downtime are told with it.
        let (absent, dropped): (Vec<DroppedSlot>, Vec<DroppedSlot>) = self
            .ledger
            .dropped()
            .await?
            .into_iter()
            .partition(|dropped| dropped.cause == Cause::Downtime);
        let judgements: Vec<Judgement> =
            dropped.into_iter().map(|dropped| without_run(dropped, now)).collect();
        if !judgements.is_empty() {
            self.record(Outcome { judgements, ..Outcome::default() }, now, stepped).await?;
        }
        self.report_downtimes(absent, now, stepped).await
    }

    /// One digest for each downtime, with the verdicts of its slots.
    async fn report_downtimes(
        &mut self,
        dropped: Vec<DroppedSlot>,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let downtimes = self.ledger.unreported_downtimes().await?;
        let mut told = HashSet::new();
        for downtime in &downtimes {
            let judgements = dropped
                .iter()
                .filter(|dropped| dropped.downtime == Some(downtime.id))
                .map(|dropped| without_run(dropped.clone(), now))
                .collect();
            told.insert(downtime.id);
            let outcome = Outcome {
                judgements,
                incidents: vec![self.notice(downtime)],
                reported_downtimes: vec![downtime.id],
                ..Outcome::default()
            };
            self.record(outcome, now, stepped).await?;
        }
        // A caught-up slot that turned out to be too late: its downtime is told already.
        let rest: Vec<Judgement> = dropped
            .into_iter()
            .filter(|dropped| dropped.downtime.is_none_or(|id| !told.contains(&id)))
            .map(|dropped| without_run(dropped, now))
            .collect();
        if rest.is_empty() {
            return Ok(());
        }
        self.record(Outcome { judgements: rest, ..Outcome::default() }, now, stepped).await
    }

    fn notice(&self, downtime: &RecordedDowntime) -> IncidentWrite {
        let mut also = Vec::new();
        if downtime.n_unobserved > 0 {
            also.push(format!("{} runs did not take place", downtime.n_unobserved));
        }
        if downtime.n_caught_up > 0 {
            also.push(format!("{} are run now", downtime.n_caught_up));
        }
        let facts = Facts {
            since: Some(downtime.from),
            recovered_at: Some(downtime.to),
            downtime_cause: Some(downtime.cause),
            n_slots: Some(downtime.n_unobserved + downtime.n_caught_up),
            also,
            ..Facts::default()
        };
        IncidentWrite::Notice(Box::new(FaultWrite {
            key: FaultKey::new(&self.instance, None, IncidentKind::WasBlind),
            severity: Severity::Warning,
            occasion: None,
            facts,
            notify: Vec::new(),
        }))
    }

    /// Slots that nobody started in time.
    pub(super) async fn judge_overdue(
        &mut self,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let mut fallen = Vec::new();
        for slot in self.ledger.overdue(now).await? {
            match self.gap {
                Some((gap, until)) if gap.holds(slot.start_by) => {
                    // The conductor says what becomes of it; if it does not, we do.
                    if now >= until && self.scope == Scope::Everything {
                        fallen.push(slot);
                    }
                }
                Some(_) | None if self.scope == Scope::Asked && slot.origin == Origin::Schedule => {
                }
                Some(_) | None => self.judge_missed(slot, now, stepped).await?,
            }
        }
        if fallen.is_empty() {
            return Ok(());
        }
        self.judge_fallen(fallen, now, stepped).await
    }

    async fn judge_missed(
        &mut self,
        slot: PlannedSlot,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let incidents = self.incidents.open_incidents().await?;
        let runs = self.ledger.open_runs().await?;
        let before = runs.iter().find(|open| open.run.slot.schedule == slot.slot.schedule);
        let mut reason = format!("not started by {} UTC", slot.start_by.format("%H:%M:%S"));
        if let Some(open) = before {
            let due = open.run.slot.due_at.format("%H:%M");
            reason.push_str(&format!("; the {due} UTC run is still going on"));
        }
        let observed = Observed::default();
        let occasion = Occasion::Slot(slot.slot.due_at);
        let facts = Facts {
            verdict: Some(Verdict::Missed),
            detail: Some(reason.clone()),
            ..facts::with_next(facts::of_slot(&slot.schedule, &slot.slot), &slot.schedule, now)
        };
        let mut context = RunContext {
            instance: &self.instance,
            schedule: &slot.schedule,
            occasion: &occasion,
            observed: &observed,
            facts: &facts,
            open: &incidents,
            boot: self.clock.boot(),
        };
        let n_slots = Some(n_missed(&context));
        let facts = Facts { n_slots, ..facts.clone() };
        context.facts = &facts;
        let outcome = Outcome {
            incidents: at_the_end(&context, Verdict::Missed),
            judgements: vec![Judgement {
                slot: slot.slot.clone(),
                run: None,
                verdict: Verdict::Missed,
                reason,
                findings: Vec::new(),
                summary: Summary::default(),
                at: now,
            }],
            ..Outcome::default()
        };
        self.record(outcome, now, stepped).await
    }

    async fn judge_fallen(
        &mut self,
        fallen: Vec<PlannedSlot>,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let Some((gap, _)) = self.gap else { return Ok(()) };
        let pauses = self.ledger.pauses(gap.from).await?;
        let excuse = |slot: &PlannedSlot| excuse(slot, &slot.schedule, &pauses);
        let (excused, fallen): (Vec<PlannedSlot>, Vec<PlannedSlot>) =
            fallen.into_iter().partition(|slot| excuse(slot).is_some());
        let mut judgements: Vec<Judgement> =
            excused.iter().filter_map(excuse).map(|dropped| without_run(dropped, now)).collect();
        let n_unobserved = u32::try_from(fallen.len()).unwrap_or(u32::MAX);
        let downtime = RecordedDowntime {
            id: 0,
            from: gap.from,
            to: gap.to,
            cause: gap.cause,
            n_unobserved,
            n_caught_up: 0,
        };
        judgements.extend(fallen.into_iter().map(|slot| {
            let reason = "Lookout was not there, and nobody took it up later".to_owned();
            let cause = Cause::Downtime;
            without_run(DroppedSlot { slot: slot.slot, cause, reason, downtime: None }, now)
        }));
        let incidents = if n_unobserved > 0 { vec![self.notice(&downtime)] } else { Vec::new() };
        self.record(Outcome { judgements, incidents, ..Outcome::default() }, now, stepped).await
    }
}

/// Missed slots in a row, this one included.
fn n_missed(context: &RunContext<'_>) -> u32 {
    let before = context
        .open
        .iter()
        .find(|open| {
            open.incident.kind == IncidentKind::RunMissed
                && open.incident.schedule.as_deref() == Some(context.schedule.name.as_str())
        })
        .map_or(0, |open| open.incident.runs_affected);
    before + 1
}

/// The verdict of a slot that came to no run.
fn without_run(dropped: DroppedSlot, now: DateTime<Utc>) -> Judgement {
    let verdict = match dropped.cause {
        Cause::Downtime => Verdict::Unobserved,
        Cause::Overlap | Cause::Paused | Cause::Maintenance | Cause::Removed => Verdict::Skipped,
    };
    Judgement {
        slot: dropped.slot,
        run: None,
        verdict,
        reason: dropped.reason,
        findings: Vec::new(),
        summary: Summary::default(),
        at: now,
    }
}
