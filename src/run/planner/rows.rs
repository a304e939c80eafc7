//! Slots as rows before they are due, with their deadlines.
//!
//! Arithmetic is `schedule::slot`'s; this decides how far ahead, and how a changed schedule's rows
//! are exchanged.
//! Invariant: between two instants that a schedule has been planned for, no slot is left out.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Timelike, Utc};

use crate::run::ledger::{Ledger, Origin, Plan, PlannedSlot};
use crate::schedule::slot::{due_between, next_after, start_at};
use crate::schedule::{Schedule, ScheduleName, Slot};
use crate::storage::StorageError;

/// Rows are there so long before they are due: the watchdog finds a slot missed by its row, also
/// when planning has stopped.
const HORIZON: TimeDelta = TimeDelta::hours(2);

/// Planning happens at least this often.
const PLAN_EVERY: TimeDelta = TimeDelta::minutes(30);

/// Rows ahead at most: a schedule of every second has them for three minutes.
const MAX_AHEAD: usize = 200;

/// Slots of a downtime that get their rows in one step, a week of every minute; a longer one takes
/// more steps.
pub(in crate::run) const MAX_BEHIND: usize = 10_080;

/// Between the beginnings of two continuous boxes: with nothing to do, a box ends at once, and a job
/// that fails at once must not be started without pause.
pub(in crate::run) const CONTINUOUS_GAP: Duration = Duration::from_secs(60);

/// What planning came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Rows that were written, new or not.
    pub n_rows: usize,
    /// Rows that are new.
    pub n_new: usize,
    /// Slots up to here have rows. Earlier than now: a downtime with more slots than one step takes.
    pub until: DateTime<Utc>,
    /// When to plan again.
    pub again_at: DateTime<Utc>,
}

/// Whether a plan that was to be renewed at `again_at` is to be renewed now. One that is later than
/// any is from a clock that was ahead.
#[must_use]
pub fn is_due(again_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    again_at <= now || again_at > now + PLAN_EVERY
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
        downtime: None,
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
    let from = planned_until.filter(|until| !is_of_another_time(schedule, *until, now));
    write(ledger, schedule, from.unwrap_or(now), now, None).await
}

/// Whether a plan reaches further than any that is made now: it was made while the clock was ahead,
/// and says nothing about the slots before its own beginning. Those that have rows keep them.
fn is_of_another_time(schedule: &Schedule, until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    until > now + HORIZON && next_after(schedule, now).is_none_or(|next| until > next.due_at)
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

/// Writes down the slots of a plan up to now, under the configuration it was made with; as many as one
/// step takes.
///
/// # Errors
/// When it could not be written down.
pub async fn extend(
    ledger: &dyn Ledger,
    plan: &Plan,
    now: DateTime<Utc>,
) -> Result<Planned, StorageError> {
    if plan.until >= now || plan.schedule.cadence == crate::schedule::Cadence::Continuous {
        return Ok(Planned { n_rows: 0, n_new: 0, until: now, again_at: now });
    }
    let slots = due_between(&plan.schedule, plan.until, now, MAX_BEHIND);
    let until = cut_at(&slots).unwrap_or(now);
    let schedule = plan.schedule.clone();
    let n_rows = slots.len();
    let rows = rows(&schedule, slots);
    let n_new = ledger.plan(Plan { schedule, until }, rows, None).await?;
    Ok(Planned { n_rows, n_new, until, again_at: now })
}

/// The last of these slots, if they are as many as one step takes: there may be more.
fn cut_at(behind: &[Slot]) -> Option<DateTime<Utc>> {
    behind.get(MAX_BEHIND - 1).map(|last| last.due_at)
}

async fn write(
    ledger: &dyn Ledger,
    schedule: &Schedule,
    from: DateTime<Utc>,
    now: DateTime<Utc>,
    replace_after: Option<DateTime<Utc>>,
) -> Result<Planned, StorageError> {
    let mut slots = due_between(schedule, from, now, MAX_BEHIND);
    let (until, again_at) = match cut_at(&slots) {
        Some(last) => (last, now),
        None => {
            let ahead = ahead_of(schedule, from.max(now), now);
            let ends = ends_of(schedule, &ahead, from, now);
            slots.extend(ahead);
            ends
        }
    };
    let plan = Plan { schedule: schedule.clone(), until };
    let n_rows = slots.len();
    let n_new = ledger.plan(plan, rows(schedule, slots), replace_after).await?;
    Ok(Planned { n_rows, n_new, until, again_at })
}

fn ahead_of(schedule: &Schedule, from: DateTime<Utc>, now: DateTime<Utc>) -> Vec<Slot> {
    let mut ahead = due_between(schedule, from, now + HORIZON, MAX_AHEAD);
    if ahead.is_empty() && from <= now + HORIZON {
        ahead.extend(next_after(schedule, from));
    }
    ahead
}

/// Up to where a plan with these slots ahead reaches, and when it is to be renewed.
fn ends_of(
    schedule: &Schedule,
    ahead: &[Slot],
    from: DateTime<Utc>,
    now: DateTime<Utc>,
) -> (DateTime<Utc>, DateTime<Utc>) {
    // Where the limit cut the list, the plan ends with its last slot.
    let until = match ahead.last() {
        Some(last) if ahead.len() == MAX_AHEAD => last.due_at,
        Some(last) => last.due_at.max(now + HORIZON),
        None => from.max(now),
    };
    // Half of what is ahead is still there when the next is written.
    let latest = now + PLAN_EVERY - earlier(&schedule.name);
    let middle = ahead.get(ahead.len() / 2).map_or(latest, |slot| slot.due_at);
    (until, middle.clamp(now + TimeDelta::seconds(1), latest))
}

/// How much earlier than [`PLAN_EVERY`] this schedule is planned again: up to half of it, so that
/// thousands that were planned together are not renewed together.
fn earlier(name: &ScheduleName) -> TimeDelta {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    // The remainder fits: it is less than the half hour's milliseconds.
    let drawn = hasher.finish() % PLAN_EVERY.num_milliseconds().unsigned_abs();
    TimeDelta::milliseconds(drawn.cast_signed() / 2)
}

fn rows(schedule: &Schedule, slots: Vec<Slot>) -> Vec<PlannedSlot> {
    slots.into_iter().map(|slot| row(schedule, slot, Origin::Schedule)).collect()
}

/// Makes a slot of a continuous schedule now; how many rows are new.
///
/// # Errors
/// When it could not be written down.
pub async fn continuous(
    ledger: &dyn Ledger,
    schedule: &Schedule,
    now: DateTime<Utc>,
) -> Result<usize, StorageError> {
    let slot = Slot { schedule: schedule.name.clone(), due_at: whole_second(now) };
    let plan = Plan { schedule: schedule.clone(), until: now };
    ledger.plan(plan, vec![row(schedule, slot, Origin::Schedule)], None).await
}
