//! What is known of a run at a moment, for the news of it and for the history.
//!
//! Pure. A message is written from facts alone, perhaps hours later, so that nothing may be left
//! out here that it needs.
//! Invariant: a fault without an HTTP status stays without one; nobody is told of a 503 that was not.

use chrono::{DateTime, Utc};

use super::history::Summary;
use super::judge::ending;
use super::observed::Observed;
use super::{Facts, IncidentKind, Verdict};
use crate::run::RunId;
use crate::schedule::slot::next_after;
use crate::schedule::{Job, Schedule, Slot};

/// Facts of a slot, whatever became of it.
#[must_use]
pub fn of_slot(schedule: &Schedule, slot: &Slot) -> Facts {
    Facts {
        due_at: Some(slot.due_at),
        timezone: Some(schedule.timezone.name().to_owned()),
        time_box_seconds: Some(schedule.time_box.as_secs()),
        signal: Some(schedule.signal.clone()),
        reviews_images: matches!(schedule.job, Job::Review { .. }),
        ..Facts::default()
    }
}

/// The same with when Lookout tries again by itself. Apart, because expressions take their time, and
/// a run is looked at twice a second.
#[must_use]
pub fn with_next(facts: Facts, schedule: &Schedule, now: DateTime<Utc>) -> Facts {
    let after = facts.due_at.map_or(now, |due_at| now.max(due_at));
    Facts { next_due_at: next_after(schedule, after).map(|next| next.due_at), ..facts }
}

/// Facts of a run so far.
#[must_use]
pub fn of_run(schedule: &Schedule, slot: &Slot, run: &RunId, observed: &Observed) -> Facts {
    let progress = observed.progress.as_ref();
    Facts {
        run: Some(run.as_str().to_owned()),
        started_at: observed.started.map(|moment| moment.at),
        ended_at: ended_at(observed),
        ending: ending(observed),
        done: progress.map(|progress| progress.done),
        total: progress.and_then(|progress| progress.total),
        unit: progress.map(|progress| progress.unit.clone()),
        counts: observed.counts.clone(),
        usd: observed.usd,
        last_activity_at: observed.moved(schedule.stall_on).map(|moment| moment.at),
        ..of_slot(schedule, slot)
    }
}

/// The same with what is known of a fault of somebody else.
#[must_use]
pub fn with_fault(facts: Facts, observed: &Observed, kind: IncidentKind) -> Facts {
    let Some(fault) = observed.faults.of(kind) else { return facts };
    Facts {
        provider: fault.last.provider.clone(),
        status: fault.last.status,
        faults: Some(fault.last.count),
        calls: fault.last.calls,
        since: Some(fault.since.at),
        detail: Some(fault.last.detail.clone()).filter(|detail| !detail.is_empty()),
        title: fault.last.title.clone(),
        action: fault.last.action.clone(),
        recovered_at: fault.recovered.map(|moment| moment.at),
        ..facts
    }
}

/// When the main process ended, or the keeper was done.
#[must_use]
pub fn ended_at(observed: &Observed) -> Option<DateTime<Utc>> {
    observed.exit.map(|exit| exit.moment.at).or(observed.ended.map(|moment| moment.at))
}

/// What the run came to, for the history.
#[must_use]
pub fn summary(observed: &Observed, verdict: Verdict, cause: Option<IncidentKind>) -> Summary {
    let progress = observed.progress.as_ref();
    let end = observed.exit.map(|exit| exit.moment).or(observed.ended);
    let seconds = match (observed.started, end) {
        (Some(start), Some(end)) => Some(end.boot.saturating_sub(start.boot).as_secs_f64()),
        (Some(_) | None, Some(_) | None) => None,
    };
    Summary {
        started_at: observed.started.map(|moment| moment.at),
        ended_at: ended_at(observed),
        seconds,
        ending: ending(observed),
        signal_at: observed.signal.map(|moment| moment.at),
        done: progress.map(|progress| progress.done),
        total: progress.and_then(|progress| progress.total),
        unit: progress.map(|progress| progress.unit.clone()),
        counts: observed.counts.clone(),
        usd: observed.usd,
        cause: cause.filter(|_| verdict != Verdict::Completed),
    }
}
