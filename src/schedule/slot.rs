//! Which slots a schedule makes: pure arithmetic, no clock and no waiting.
//!
//! What an expression means on the nights of a clock change is [`cron`](super::cron)'s business;
//! whether a slot is run, skipped or caught up is the conductor's.
//! Invariant: slots come in rising order, at whole seconds, each at most once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use sha2::{Digest, Sha256};

use super::cron::{Expression, Refusal, Times, transitions};
use super::{Cadence, Schedule, Slot};

/// Clocks are changed by up to two hours (Antarctica/Troll).
const LONGEST_CHANGE: TimeDelta = TimeDelta::hours(2);

/// Understands an expression of five or six fields or an `@…` form.
///
/// # Errors
/// Text for the person who wrote it; also for an expression that no date fits.
pub fn parse(expression: &str) -> Result<Expression, Refusal> {
    Expression::parse(expression)
}

/// The first slot after `after`. For a continuous schedule the conductor decides when the next box
/// begins; it then is the next whole second. `None`: there is no further slot.
#[must_use]
pub fn next_after(schedule: &Schedule, after: DateTime<Utc>) -> Option<Slot> {
    Slots::of(schedule)?.next_after(after)
}

/// The slots in `(after, until]`, the earliest `limit` of them. A continuous schedule has at most one:
/// hours in which nobody could start a box are not hours of missed seconds.
#[must_use]
pub fn due_between(
    schedule: &Schedule,
    after: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: usize,
) -> Vec<Slot> {
    let Some(slots) = Slots::of(schedule) else { return Vec::new() };
    let limit = match schedule.cadence {
        Cadence::Cron(_) => limit,
        Cadence::Continuous => limit.min(1),
    };
    slots.after(after).take_while(|slot| slot.due_at <= until).take(limit).collect()
}

/// When the slot's run is to start: its due time plus the schedule's jitter, which is drawn from the
/// slot itself, so that a restarted daemon comes to the same answer.
#[must_use]
pub fn start_at(schedule: &Schedule, slot: &Slot) -> DateTime<Utc> {
    let longest_ms = u64::try_from(schedule.jitter.as_millis()).unwrap_or(u64::MAX);
    if longest_ms == 0 {
        return slot.due_at;
    }
    let mut hash = Sha256::new();
    hash.update(slot.schedule.as_str().as_bytes());
    hash.update(slot.due_at.timestamp().to_be_bytes());
    let digest = hash.finalize();
    let drawn = digest.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let jitter_ms = drawn % longest_ms.saturating_add(1);
    slot.due_at + TimeDelta::milliseconds(i64::try_from(jitter_ms).unwrap_or(0))
}

/// The shortest time between two slots on a calendar without clock changes, whenever it is asked.
/// [`Duration::MAX`] if slots can't collide: a continuous schedule, or a single slot.
#[must_use]
pub fn shortest_gap(schedule: &Schedule) -> Duration {
    let gap_s = match &schedule.cadence {
        Cadence::Cron(text) => Expression::parse(text).ok().and_then(|it| it.shortest_gap_s()),
        Cadence::Continuous => None,
    };
    gap_s.map_or(Duration::MAX, |gap_s| Duration::from_secs(u64::from(gap_s)))
}

/// The first clock change in `(from, until]` around which two slots come closer than `least`,
/// though they never do otherwise: the later one's time, and how far it is from the one before.
#[must_use]
pub fn closer_at_a_clock_change(
    schedule: &Schedule,
    least: Duration,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Option<(DateTime<Utc>, Duration)> {
    let slots = Slots::of(schedule)?;
    slots.expression()?;
    let least = TimeDelta::from_std(least).ok()?;
    let changes = transitions(&schedule.timezone, from, until);
    changes.into_iter().find_map(|change| {
        let mut before: Option<DateTime<Utc>> = None;
        let near = slots.times_after(change.at.checked_sub_signed(least)?);
        for due_at in near.take_while(|due_at| *due_at <= change.at + least + LONGEST_CHANGE) {
            let gap = before.map(|before| due_at - before).filter(|gap| *gap < least);
            if let Some(gap) = gap {
                return Some((due_at, gap.to_std().ok()?));
            }
            before = Some(due_at);
        }
        None
    })
}

/// The reason of the maintenance window that `at` falls into, if any. A window holds its first
/// instant and not its last.
#[must_use]
pub fn in_maintenance(schedule: &Schedule, at: DateTime<Utc>) -> Option<&str> {
    schedule
        .maintenance
        .iter()
        .find(|window| {
            let lasts = TimeDelta::from_std(window.lasts).unwrap_or(TimeDelta::MAX);
            let begins = Expression::parse(&window.from).ok().and_then(|expression| {
                expression.next_after(&schedule.timezone, at.checked_sub_signed(lasts)?)
            });
            begins.is_some_and(|begins| begins <= at)
        })
        .map(|window| window.reason.as_str())
}

/// The box of a run that starts at `now` for an earlier slot: as long as the schedule's, but short
/// enough that box, grace and kill are over before the next slot. Zero: there is no room left.
#[must_use]
pub fn box_for_catch_up(schedule: &Schedule, slot: &Slot, now: DateTime<Utc>) -> Duration {
    let next = match schedule.cadence {
        Cadence::Cron(_) => next_after(schedule, now.max(slot.due_at)),
        Cadence::Continuous => None,
    };
    let Some(next) = next else { return schedule.time_box };
    let room = (next.due_at - now).to_std().unwrap_or(Duration::ZERO);
    let after_box = schedule.signal_grace + schedule.kill_grace;
    schedule.time_box.min(room.saturating_sub(after_box))
}

/// A schedule with its expression understood once, for those who want many slots of it.
#[derive(Debug)]
pub struct Slots<'a> {
    schedule: &'a Schedule,
    expression: Option<Expression>,
}

impl<'a> Slots<'a> {
    /// `None` if the expression can't be understood, which `config` has ruled out.
    #[must_use]
    pub fn of(schedule: &'a Schedule) -> Option<Self> {
        let expression = match &schedule.cadence {
            Cadence::Cron(text) => Some(Expression::parse(text).ok()?),
            Cadence::Continuous => None,
        };
        Some(Self { schedule, expression })
    }

    /// See [`next_after`].
    #[must_use]
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<Slot> {
        self.after(after).next()
    }

    /// All slots after `after`, without end.
    pub fn after(&self, after: DateTime<Utc>) -> impl Iterator<Item = Slot> {
        let name = &self.schedule.name;
        self.times_after(after).map(|due_at| Slot { schedule: name.clone(), due_at })
    }

    /// When they are due.
    pub fn times_after(&self, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        match &self.expression {
            Some(expression) => SlotTimes::Cron(expression.times(&self.schedule.timezone, after)),
            None => SlotTimes::Continuous(after),
        }
    }

    /// The expression; `None` for a continuous schedule.
    #[must_use]
    pub fn expression(&self) -> Option<&Expression> {
        self.expression.as_ref()
    }
}

enum SlotTimes<'a> {
    Cron(Times<'a>),
    /// Every whole second after this.
    Continuous(DateTime<Utc>),
}

impl Iterator for SlotTimes<'_> {
    type Item = DateTime<Utc>;

    fn next(&mut self) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(times) => times.next(),
            Self::Continuous(last) => {
                *last = last.with_nanosecond(0)?.checked_add_signed(TimeDelta::seconds(1))?;
                Some(*last)
            }
        }
    }
}
