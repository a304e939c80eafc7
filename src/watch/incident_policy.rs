//! Which incidents a run opens, raises and resolves.
//!
//! Pure. Cause before symptom: a run that failed because somebody else was down touches that
//! incident, and its own failure is told there. One fault is one incident, however many runs show it.
//! Invariant: every bad verdict touches exactly one incident of its own or of its cause; a good one
//! opens none but `image_errors`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::baseline::{self, Backlog};
use super::faults::{CAUSES, Fault, Source, Standing};
use super::history::Summary;
use super::incidents::{FaultKey, FaultWrite, IncidentWrite, Occasion, OpenIncident};
use super::judge::cause_of;
use super::observed::Observed;
use super::{Facts, IncidentKind, IncidentState, Severity, Verdict, facts};
use crate::schedule::{Job, Schedule};

/// Incidents that a good run of the schedule resolves.
const RESOLVED_BY_A_GOOD_RUN: [IncidentKind; 11] = [
    IncidentKind::RunMissed,
    IncidentKind::RunStalled,
    IncidentKind::RunTimedOut,
    IncidentKind::SignalMissing,
    IncidentKind::RunFailed,
    IncidentKind::ProviderUnavailable,
    IncidentKind::ImagesUnavailable,
    IncidentKind::RecordsUnavailable,
    IncidentKind::CredentialsRejected,
    IncidentKind::QuotaExhausted,
    IncidentKind::ImageErrors,
];

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct RunContext<'a> {
    /// `[service] instance`.
    pub instance: &'a str,
    /// The configuration the run started with.
    pub schedule: &'a Schedule,
    /// The run, or the slot.
    pub occasion: &'a Occasion,
    /// What was seen; nothing, for a slot without a run.
    pub observed: &'a Observed,
    /// What is known, the end's reason as `detail`.
    pub facts: &'a Facts,
    /// Incidents that are not resolved.
    pub open: &'a [OpenIncident],
    /// Boot time now.
    pub boot: Duration,
}

impl RunContext<'_> {
    fn key(&self, kind: IncidentKind) -> FaultKey {
        FaultKey::new(self.instance, Some(self.schedule.name.as_str()), kind)
    }

    fn open(&self, kind: IncidentKind) -> Option<&OpenIncident> {
        let key = self.key(kind).text();
        self.open.iter().find(|open| open.incident.key == key)
    }

    /// Whether this occasion has touched the incident already.
    fn is_known(&self, kind: IncidentKind) -> bool {
        self.open(kind).is_some_and(|open| open.last_occasion.as_ref() == Some(self.occasion))
    }

    /// Which occasion in a row this is for the incident: 1 opens it.
    fn nth(&self, kind: IncidentKind) -> u32 {
        match self.open(kind) {
            None => 1,
            Some(open) if self.is_known(kind) => open.incident.runs_affected,
            Some(open) => open.incident.runs_affected + 1,
        }
    }

    fn fault(&self, kind: IncidentKind, severity: Severity, facts: Facts) -> IncidentWrite {
        // What does not pass by itself is as bad as it gets: nothing works until a person acts.
        let severity = if facts.action.is_some() { Severity::Critical } else { severity };
        IncidentWrite::Fault(Box::new(FaultWrite {
            key: self.key(kind),
            severity,
            occasion: Some(self.occasion.clone()),
            facts,
            notify: self.schedule.notify.clone(),
        }))
    }
}

/// How bad a fault is when it shows for the nth time in a row.
fn severity(kind: IncidentKind, nth: u32) -> Severity {
    match kind {
        IncidentKind::SignalMissing
        | IncidentKind::CredentialsRejected
        | IncidentKind::ChannelBroken
        | IncidentKind::OutboxDegraded => Severity::Critical,
        IncidentKind::RunMissed
        | IncidentKind::RunTimedOut
        | IncidentKind::RunFailed
        | IncidentKind::ProviderUnavailable
        | IncidentKind::ImagesUnavailable
        | IncidentKind::RecordsUnavailable
        | IncidentKind::QuotaExhausted
            if nth >= 2 =>
        {
            Severity::Critical
        }
        IncidentKind::RunMissed
        | IncidentKind::RunTimedOut
        | IncidentKind::RunFailed
        | IncidentKind::ProviderUnavailable
        | IncidentKind::ImagesUnavailable
        | IncidentKind::RecordsUnavailable
        | IncidentKind::QuotaExhausted
        | IncidentKind::RunStalled
        | IncidentKind::ImageErrors
        | IncidentKind::WasBlind
        | IncidentKind::LookoutImpaired
        | IncidentKind::ConfigurationBroken
        | IncidentKind::BacklogGrowing => Severity::Warning,
    }
}

/// Whether the faults of this kind are an outage now.
fn stands(fault: &Fault, boot: Duration) -> Standing {
    fault.standing(fault.last.source, boot)
}

/// While a run goes on: outages that begin or end.
#[must_use]
pub fn while_running(context: &RunContext<'_>) -> Vec<IncidentWrite> {
    let mut writes = Vec::new();
    for (kind, fault) in context.observed.faults.iter().filter(|(kind, _)| CAUSES.contains(kind)) {
        let facts = || facts::with_fault(context.facts.clone(), context.observed, kind);
        match stands(fault, context.boot) {
            Standing::Open if !context.is_known(kind) => {
                writes.push(context.fault(kind, severity(kind, context.nth(kind)), facts()));
            }
            Standing::Recovered if context.open(kind).is_some() => {
                let key = context.key(kind).text();
                writes.push(IncidentWrite::Over { key, facts: Box::new(facts()) });
            }
            Standing::Open | Standing::Recovered | Standing::Noise => {}
        }
    }
    writes
}

/// The run has stalled. An open outage of the same run takes it in.
#[must_use]
pub fn stalled(context: &RunContext<'_>) -> Vec<IncidentWrite> {
    let cause = CAUSES.into_iter().find(|kind| context.is_known(*kind));
    match cause {
        Some(kind) => {
            let line = "the run stands still".to_owned();
            let is_known = context.open(kind).is_some_and(|open| open.facts.also.contains(&line));
            if is_known {
                return Vec::new();
            }
            let mut facts = facts::with_fault(context.facts.clone(), context.observed, kind);
            facts.also.push(line);
            vec![context.fault(kind, severity(kind, context.nth(kind)), facts)]
        }
        None if context.is_known(IncidentKind::RunStalled) => Vec::new(),
        None => {
            let kind = IncidentKind::RunStalled;
            vec![context.fault(kind, severity(kind, 1), context.facts.clone())]
        }
    }
}

/// The run moves again: its stall is over.
#[must_use]
pub fn moving(context: &RunContext<'_>) -> Vec<IncidentWrite> {
    if !context.is_known(IncidentKind::RunStalled) {
        return Vec::new();
    }
    let key = context.key(IncidentKind::RunStalled).text();
    let facts = Facts { recovered_at: context.facts.last_activity_at, ..context.facts.clone() };
    vec![IncidentWrite::Over { key, facts: Box::new(facts) }]
}

/// The run, or the slot without one, has its verdict.
#[must_use]
pub fn at_the_end(context: &RunContext<'_>, verdict: Verdict) -> Vec<IncidentWrite> {
    let mut writes = while_running(context);
    if verdict == Verdict::Completed {
        writes.retain(|write| !is_over_by_a_good_end(context, write));
    }
    let has_image_errors = has_image_errors(context.schedule, context.observed);
    if has_image_errors {
        let kind = IncidentKind::ImageErrors;
        let facts = facts::with_fault(context.facts.clone(), context.observed, kind);
        writes.push(context.fault(kind, severity(kind, 1), facts));
    }
    if verdict == Verdict::Completed {
        let kept = if has_image_errors { Some(IncidentKind::ImageErrors) } else { None };
        writes.extend(good_run(context, kept));
        return writes;
    }
    let Some(symptom) = verdict.symptom().filter(|it| *it != IncidentKind::WasBlind) else {
        // `unobserved` slots are told in one digest, by the watchdog.
        return writes;
    };
    // Cause before symptom: a run that stood still until it was stopped did not lack time.
    let symptom = match verdict {
        Verdict::TimedOut if context.is_known(IncidentKind::RunStalled) => IncidentKind::RunStalled,
        Verdict::TimedOut
        | Verdict::NoSignal
        | Verdict::Failed
        | Verdict::Stalled
        | Verdict::Interrupted
        | Verdict::Missed
        | Verdict::Completed
        | Verdict::Skipped
        | Verdict::Unobserved => symptom,
    };
    let Some(cause) = cause_of(context.observed, context.boot) else {
        let mut severity = severity(symptom, context.nth(symptom));
        if symptom == IncidentKind::RunStalled {
            // It was not only noticed: the run had to be killed for it.
            severity = Severity::Critical;
        }
        writes.push(context.fault(symptom, severity, context.facts.clone()));
        return writes;
    };
    let mut facts = facts::with_fault(context.facts.clone(), context.observed, cause);
    facts.also.insert(0, as_symptom(verdict, context.facts));
    writes.retain(|write| !is_fault_of(write, cause));
    writes.push(context.fault(cause, severity(cause, context.nth(cause)), facts));
    writes
}

/// What a good run left behind, beside what the ones before it did.
#[must_use]
pub fn left_over(context: &RunContext<'_>, before: &[Summary]) -> Option<IncidentWrite> {
    let kind = IncidentKind::BacklogGrowing;
    match baseline::backlog(context.facts.counts.get("remaining").copied(), before) {
        Backlog::Growing(lefts) => {
            let numbers: Vec<String> = lefts.iter().map(u64::to_string).collect();
            let line = format!("left after the last {} runs: {}", lefts.len(), numbers.join(", "));
            let facts = Facts { detail: Some(line), ..context.facts.clone() };
            Some(context.fault(kind, severity(kind, 1), facts))
        }
        Backlog::NotGrowing if context.open(kind).is_some() => {
            let key = context.key(kind).text();
            let recovered_at = context.facts.ended_at;
            let facts = Box::new(Facts { recovered_at, ..context.facts.clone() });
            Some(IncidentWrite::Over { key, facts })
        }
        Backlog::NotGrowing | Backlog::Unknown => None,
    }
}

/// Patterns never say that something is over; a run that ends well does. The review says itself
/// what is over: a key that was dropped is still dead when the others have done the work.
fn is_over_by_a_good_end(context: &RunContext<'_>, write: &IncidentWrite) -> bool {
    CAUSES.into_iter().any(|kind| {
        let fault = context.observed.faults.of(kind);
        is_fault_of(write, kind) && fault.is_some_and(|fault| ends_with_the_run(context, fault))
    })
}

fn ends_with_the_run(context: &RunContext<'_>, fault: &Fault) -> bool {
    match context.schedule.job {
        Job::Review { .. } => false,
        Job::Command(_) | Job::Http(_) => fault.last.source == Source::Counted,
    }
}

fn is_fault_of(write: &IncidentWrite, kind: IncidentKind) -> bool {
    match write {
        IncidentWrite::Fault(fault) | IncidentWrite::Notice(fault) => fault.key.kind == kind,
        IncidentWrite::Over { .. } | IncidentWrite::Remind { .. } => false,
    }
}

/// `the 05:00 run failed: exit code 75`.
fn as_symptom(verdict: Verdict, facts: &Facts) -> String {
    let what = match verdict {
        Verdict::NoSignal => "ended without its signal",
        Verdict::Failed => "failed",
        Verdict::Interrupted => "was interrupted",
        Verdict::TimedOut => "timed out",
        Verdict::Stalled => "stalled and was stopped",
        Verdict::Missed => "did not start",
        Verdict::Completed | Verdict::Skipped | Verdict::Unobserved => "ended",
    };
    let due = facts.due_at.map_or_else(String::new, |due| due.format("%H:%M UTC ").to_string());
    match &facts.detail {
        Some(detail) => format!("the {due}run {what}: {detail}"),
        None => format!("the {due}run {what}"),
    }
}

/// A good run resolves what is open for its schedule, unless the same trouble is still there.
fn good_run(context: &RunContext<'_>, kept: Option<IncidentKind>) -> Vec<IncidentWrite> {
    let mut writes = Vec::new();
    for kind in RESOLVED_BY_A_GOOD_RUN {
        let still_there = kept == Some(kind)
            || context.observed.faults.of(kind).is_some_and(|fault| {
                match stands(fault, context.boot) {
                    // Told by `while_running`.
                    Standing::Recovered => true,
                    Standing::Open => !ends_with_the_run(context, fault),
                    Standing::Noise => false,
                }
            });
        if still_there || context.open(kind).is_none() {
            continue;
        }
        let recovered_at = context.facts.ended_at;
        let facts = Facts { recovered_at, ..context.facts.clone() };
        let key = context.key(kind).text();
        writes.push(IncidentWrite::Over { key, facts: Box::new(facts) });
    }
    writes
}

/// Whether too many images of the run ended in error, by its totals or by what a pattern counted.
fn has_image_errors(schedule: &Schedule, observed: &Observed) -> bool {
    let counted = observed.faults.of(IncidentKind::ImageErrors);
    if counted.is_some_and(|fault| fault.recovered.is_none()) {
        return true;
    }
    let bad = observed.count("errored") + observed.count("blocked");
    let all = bad + observed.count("succeeded");
    bad > 0
        && bad >= u64::from(schedule.image_errors_at_least)
        && bad * 100 >= u64::from(schedule.image_errors_percent) * all
}

/// Whether somebody should hear of an open incident again: critical ones after 1 h, 4 h, then daily;
/// the others daily. What a person has taken is not reminded of.
#[must_use]
pub fn is_reminder_due(open: &OpenIncident, now: DateTime<Utc>) -> bool {
    let wait = match (open.incident.severity, open.n_reminders) {
        (Severity::Info, _) => return false,
        (Severity::Critical, 0) => TimeDelta::hours(1),
        (Severity::Critical, 1) => TimeDelta::hours(3),
        (Severity::Critical | Severity::Warning, _) => TimeDelta::hours(24),
    };
    open.incident.state == IncidentState::Open && now - open.notified_at >= wait
}
