//! Slots as rows before they are due, with their deadlines.
//!
//! Arithmetic is `schedule::slot`'s; this decides how far ahead, and how a changed schedule's rows
//! are exchanged.
//! Invariant: between two instants that a schedule has been planned for, no slot is left out.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Timelike, Utc};

use super::ledger::{Ledger, Origin, Plan, PlannedSlot};
use crate::schedule::slot::{due_between, next_after, start_at};
use crate::schedule::{Schedule, Slot};
use crate::storage::StorageError;

/// Rows are there so long before they are due: the watchdog finds a slot missed by its row, also
/// when planning has stopped.
const HORIZON: TimeDelta = TimeDelta::hours(2);

/// Planning happens at least this often.
const PLAN_EVERY: TimeDelta = TimeDelta::minutes(30);

/// Rows ahead at most: a schedule of every second has them for three minutes.
const MOST_AHEAD: usize = 200;

/// Slots of an absence that get rows; a week of every minute, a year of every hour.
const MOST_BEHIND: usize = 10_080;

/// Between the beginnings of two continuous boxes: with nothing to do, a box ends at once, and a job
/// that fails at once must not be started without pause.
const CONTINUOUS_GAP: TimeDelta = TimeDelta::seconds(60);

/// What planning came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Rows that are new.
    pub n_new: usize,
    /// When to plan again.
    pub again_at: DateTime<Utc>,
}

/// A slot as a row.
#[must_use]
pub fn row(schedule: &Schedule, slot: Slot, origin: Origin) -> PlannedSlot {
    let start_at = match origin {
        Origin::Schedule => start_at(schedule, &slot),
        Origin::Asked => slot.due_at,
    };
    PlannedSlot {
        start_by: start_at + delta(schedule.start_grace),
        start_at,
        slot,
        schedule: schedule.clone(),
        origin,
        absence: None,
    }
}

/// A slot of its own for a run that somebody asked for.
#[must_use]
pub fn asked(schedule: &Schedule, now: DateTime<Utc>) -> PlannedSlot {
    let slot = Slot { schedule: schedule.name.clone(), due_at: whole_second(now) };
    row(schedule, slot, Origin::Asked)
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

fn whole_second(at: DateTime<Utc>) -> DateTime<Utc> {
    at.with_nanosecond(0).unwrap_or(at)
}

/// Plans ahead from where the schedule is planned to; a schedule without a plan begins now.
///
/// # Errors
/// When it could not be written down.
pub async fn ahead(
    ledger: &dyn Ledger,
    schedule: &Schedule,
    planned_until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<Planned, StorageError> {
    write(ledger, schedule, planned_until.unwrap_or(now), now, None).await
}

/// Plans a changed schedule: what is ahead is exchanged.
///
/// # Errors
/// When it could not be written down.
pub async fn replace(
    ledger: &dyn Ledger,
    schedule: &Schedule,
    now: DateTime<Utc>,
) -> Result<Planned, StorageError> {
    write(ledger, schedule, now, now, Some(now)).await
}

/// Writes down the slots of a plan up to now, under the configuration it was made with.
///
/// # Errors
/// When it could not be written down.
pub async fn extend(
    ledger: &dyn Ledger,
    plan: &Plan,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    if plan.until >= now || plan.schedule.cadence == crate::schedule::Cadence::Continuous {
        return Ok(());
    }
    let slots = rows(&plan.schedule, due_between(&plan.schedule, plan.until, now, MOST_BEHIND));
    ledger.plan(Plan { schedule: plan.schedule.clone(), until: now }, slots, None).await?;
    Ok(())
}

async fn write(
    ledger: &dyn Ledger,
    schedule: &Schedule,
    from: DateTime<Utc>,
    now: DateTime<Utc>,
    replace_after: Option<DateTime<Utc>>,
) -> Result<Planned, StorageError> {
    let mut slots = due_between(schedule, from, now, MOST_BEHIND);
    let ahead_from = from.max(now);
    let mut ahead = due_between(schedule, ahead_from, now + HORIZON, MOST_AHEAD);
    if ahead.is_empty() && ahead_from <= now + HORIZON {
        ahead.extend(next_after(schedule, ahead_from));
    }
    // Where the limit cut the list, the plan ends with its last slot.
    let until = match ahead.last() {
        Some(last) if ahead.len() == MOST_AHEAD => last.due_at,
        Some(last) => last.due_at.max(now + HORIZON),
        None => from.max(now),
    };
    // Half of what is ahead is still there when the next is written.
    let middle = ahead.get(ahead.len() / 2).map_or(now + PLAN_EVERY, |slot| slot.due_at);
    slots.extend(ahead);
    let plan = Plan { schedule: schedule.clone(), until };
    let n_new = ledger.plan(plan, rows(schedule, slots), replace_after).await?;
    Ok(Planned { n_new, again_at: middle.clamp(now + TimeDelta::seconds(1), now + PLAN_EVERY) })
}

fn rows(schedule: &Schedule, slots: Vec<Slot>) -> Vec<PlannedSlot> {
    slots.into_iter().map(|slot| row(schedule, slot, Origin::Schedule)).collect()
}

/// Makes the next slot of a continuous schedule, if the one before it is over.
///
/// # Errors
/// When it could not be read or written down.
pub async fn continuous(
    ledger: &dyn Ledger,
    schedule: &Schedule,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    let last = ledger.last_slot(&schedule.name).await?;
    // The clock may have been set back: a last slot in the future holds up nothing for ever.
    let is_too_early = last.as_ref().is_some_and(|last| {
        last.is_open || (last.due_at <= now && now - last.due_at < CONTINUOUS_GAP)
    });
    if is_too_early {
        return Ok(());
    }
    let slot = Slot { schedule: schedule.name.clone(), due_at: whole_second(now) };
    let plan = Plan { schedule: schedule.clone(), until: now };
    ledger.plan(plan, vec![row(schedule, slot, Origin::Schedule)], None).await?;
    Ok(())
}
