//! Which incidents a run opens, raises and resolves.
//!
//! Pure. Cause before symptom: a run that failed because somebody else was down touches that
//! incident, and its own failure is told there. One fault is one incident, however many runs show it.
//! Invariant: every bad verdict touches exactly one incident of its own or of its cause; a good one
//! opens none but `image_errors`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::faults::{CAUSES, Fault, Source, Standing};
use super::history::Summary;
use super::incidents::{FaultKey, FaultWrite, IncidentWrite, Occasion, OpenIncident};
use super::judge::cause_of;
use super::observed::Observed;
use super::usual::{self, Backlog};
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

/// What a diagnosis is made from.
#[derive(Clone, Copy, Debug)]
pub struct Patient<'a> {
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

impl Patient<'_> {
    fn key(&self, kind: IncidentKind) -> FaultKey {
        let schedule = Some(self.schedule.name.as_str().to_owned());
        FaultKey { instance: self.instance.to_owned(), schedule, kind }
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

/// The incident a bad verdict is, if nobody else is the cause.
fn symptom(verdict: Verdict) -> Option<IncidentKind> {
    match verdict {
        Verdict::NoSignal => Some(IncidentKind::SignalMissing),
        Verdict::Failed | Verdict::Interrupted => Some(IncidentKind::RunFailed),
        Verdict::TimedOut => Some(IncidentKind::RunTimedOut),
        Verdict::Stalled => Some(IncidentKind::RunStalled),
        Verdict::Missed => Some(IncidentKind::RunMissed),
        // Visible, with their reason; `unobserved` is told in one digest.
        Verdict::Completed | Verdict::Skipped | Verdict::Unobserved => None,
    }
}

/// Whether the faults of this kind are an outage now.
fn stands(fault: &Fault, boot: Duration) -> Standing {
    fault.standing(fault.last.source, boot)
}

/// While a run goes on: outages that begin or end.
#[must_use]
pub fn while_running(patient: &Patient<'_>) -> Vec<IncidentWrite> {
    let mut writes = Vec::new();
    for (kind, fault) in patient.observed.faults.iter().filter(|(kind, _)| CAUSES.contains(kind)) {
        let facts = || facts::with_fault(patient.facts.clone(), patient.observed, kind);
        match stands(fault, patient.boot) {
            Standing::Open if !patient.is_known(kind) => {
                writes.push(patient.fault(kind, severity(kind, patient.nth(kind)), facts()));
            }
            Standing::Recovered if patient.open(kind).is_some() => {
                let key = patient.key(kind).text();
                writes.push(IncidentWrite::Over { key, facts: Box::new(facts()) });
            }
            Standing::Open | Standing::Recovered | Standing::Noise => {}
        }
    }
    writes
}

/// The run has stalled. An open outage of the same run takes it in.
#[must_use]
pub fn stalled(patient: &Patient<'_>) -> Vec<IncidentWrite> {
    let cause = CAUSES.into_iter().find(|kind| patient.is_known(*kind));
    match cause {
        Some(kind) => {
            let line = "the run stands still".to_owned();
            let is_told = patient.open(kind).is_some_and(|open| open.facts.also.contains(&line));
            if is_told {
                return Vec::new();
            }
            let mut facts = facts::with_fault(patient.facts.clone(), patient.observed, kind);
            facts.also.push(line);
            vec![patient.fault(kind, severity(kind, patient.nth(kind)), facts)]
        }
        None if patient.is_known(IncidentKind::RunStalled) => Vec::new(),
        None => {
            let kind = IncidentKind::RunStalled;
            vec![patient.fault(kind, severity(kind, 1), patient.facts.clone())]
        }
    }
}

/// The run moves again: its stall is over.
#[must_use]
pub fn moving(patient: &Patient<'_>) -> Vec<IncidentWrite> {
    if !patient.is_known(IncidentKind::RunStalled) {
        return Vec::new();
    }
    let key = patient.key(IncidentKind::RunStalled).text();
    let facts = Facts { recovered_at: patient.facts.last_activity_at, ..patient.facts.clone() };
    vec![IncidentWrite::Over { key, facts: Box::new(facts) }]
}

/// The run, or the slot without one, has its verdict.
#[must_use]
pub fn at_the_end(patient: &Patient<'_>, verdict: Verdict) -> Vec<IncidentWrite> {
    let mut writes = while_running(patient);
    if verdict == Verdict::Completed {
        writes.retain(|write| !is_over_by_a_good_end(patient, write));
    }
    let has_image_errors = has_image_errors(patient.schedule, patient.observed);
    if has_image_errors {
        let kind = IncidentKind::ImageErrors;
        let facts = facts::with_fault(patient.facts.clone(), patient.observed, kind);
        writes.push(patient.fault(kind, severity(kind, 1), facts));
    }
    if verdict == Verdict::Completed {
        let kept = if has_image_errors { Some(IncidentKind::ImageErrors) } else { None };
        writes.extend(good_run(patient, kept));
        return writes;
    }
    let Some(symptom) = symptom(verdict) else { return writes };
    let Some(cause) = cause_of(patient.observed, patient.boot) else {
        let mut severity = severity(symptom, patient.nth(symptom));
        if verdict == Verdict::Stalled {
            // It was not only noticed: the run had to be killed for it.
            severity = Severity::Critical;
        }
        writes.push(patient.fault(symptom, severity, patient.facts.clone()));
        return writes;
    };
    let mut facts = facts::with_fault(patient.facts.clone(), patient.observed, cause);
    facts.also.insert(0, told_as_symptom(verdict, patient.facts));
    writes.retain(|write| !is_fault_of(write, cause));
    writes.push(patient.fault(cause, severity(cause, patient.nth(cause)), facts));
    writes
}

/// What a good run left behind, beside what the ones before it did.
#[must_use]
pub fn left_over(patient: &Patient<'_>, before: &[Summary]) -> Option<IncidentWrite> {
    let kind = IncidentKind::BacklogGrowing;
    match usual::backlog(patient.facts.counts.get("remaining").copied(), before) {
        Backlog::Growing(lefts) => {
            let numbers: Vec<String> = lefts.iter().map(u64::to_string).collect();
            let line = format!("left after the last {} runs: {}", lefts.len(), numbers.join(", "));
            let facts = Facts { detail: Some(line), ..patient.facts.clone() };
            Some(patient.fault(kind, severity(kind, 1), facts))
        }
        Backlog::NotGrowing if patient.open(kind).is_some() => {
            let key = patient.key(kind).text();
            let recovered_at = patient.facts.ended_at;
            let facts = Box::new(Facts { recovered_at, ..patient.facts.clone() });
            Some(IncidentWrite::Over { key, facts })
        }
        Backlog::NotGrowing | Backlog::Unknown => None,
    }
}

/// Patterns never say that something is over; a run that ends well does. The review says itself
/// what is over: a key that was dropped is still dead when the others have done the work.
fn is_over_by_a_good_end(patient: &Patient<'_>, write: &IncidentWrite) -> bool {
    CAUSES.into_iter().any(|kind| {
        let fault = patient.observed.faults.of(kind);
        is_fault_of(write, kind) && fault.is_some_and(|fault| ends_with_the_run(patient, fault))
    })
}

fn ends_with_the_run(patient: &Patient<'_>, fault: &Fault) -> bool {
    match patient.schedule.job {
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
fn told_as_symptom(verdict: Verdict, facts: &Facts) -> String {
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
fn good_run(patient: &Patient<'_>, kept: Option<IncidentKind>) -> Vec<IncidentWrite> {
    let mut writes = Vec::new();
    for kind in RESOLVED_BY_A_GOOD_RUN {
        let still_there = kept == Some(kind)
            || patient.observed.faults.of(kind).is_some_and(|fault| {
                match stands(fault, patient.boot) {
                    // Told by `while_running`.
                    Standing::Recovered => true,
                    Standing::Open => !ends_with_the_run(patient, fault),
                    Standing::Noise => false,
                }
            });
        if still_there || patient.open(kind).is_none() {
            continue;
        }
        let recovered_at = patient.facts.ended_at;
        let facts = Facts { recovered_at, ..patient.facts.clone() };
        let key = patient.key(kind).text();
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
    open.incident.state == IncidentState::Open && now - open.told_at >= wait
}
