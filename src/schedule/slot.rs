//! Which slots a schedule makes: pure arithmetic, no clock and no waiting.
//!
//! What an expression means on the nights of a clock change is [`cron`](super::cron)'s business;
//! whether a slot is run, skipped or caught up is the conductor's.
//! Invariant: slots come in rising order, at whole seconds, each at most once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use sha2::{Digest, Sha256};

use super::cron::{Expression, SlotError, transitions};
use super::{Cadence, Schedule, Slot};

/// How far [`shortest_gap`] looks: a year with both clock changes, and a month to spare.
const GAP_HORIZON: TimeDelta = TimeDelta::days(400);

/// Slots that [`shortest_gap`] looks at from the beginning. Enough for hourly slots over the whole
/// horizon (9,600); denser expressions repeat within it, and the nights of a clock change are
/// looked at apart.
const GAP_SLOTS: usize = 10_000;

/// Slots that it looks at around one clock change: two days, minute by minute (2,880).
const GAP_SLOTS_AROUND_A_CHANGE: usize = 3_000;

/// Understands an expression of five or six fields or an `@…` form.
///
/// # Errors
/// Text for the person who wrote it; also for an expression that no date fits.
pub fn parse(expression: &str) -> Result<Expression, SlotError> {
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

/// The shortest time between two slots in the 400 days after `from`, clock changes included.
/// [`Duration::MAX`] if slots can't collide: a continuous schedule, or fewer than two to come.
#[must_use]
pub fn shortest_gap(schedule: &Schedule, from: DateTime<Utc>) -> Duration {
    let (Some(slots), Cadence::Cron(_)) = (Slots::of(schedule), &schedule.cadence) else {
        return Duration::MAX;
    };
    let until = from + GAP_HORIZON;
    let mut shortest = slots.shortest_of(from, until, GAP_SLOTS);
    for change in transitions(schedule.timezone, from, until) {
        let day = TimeDelta::days(1);
        let around = (change.at - day).max(from);
        let gap = slots.shortest_of(around, change.at + day, GAP_SLOTS_AROUND_A_CHANGE);
        shortest = shortest.min(gap);
    }
    shortest
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
                expression.next_after(schedule.timezone, at.checked_sub_signed(lasts)?)
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
        let due_at = match &self.expression {
            Some(expression) => expression.next_after(self.schedule.timezone, after)?,
            None => after.with_nanosecond(0)?.checked_add_signed(TimeDelta::seconds(1))?,
        };
        Some(Slot { schedule: self.schedule.name.clone(), due_at })
    }

    /// All slots after `after`, without end.
    pub fn after(&self, after: DateTime<Utc>) -> impl Iterator<Item = Slot> {
        std::iter::successors(self.next_after(after), |slot| self.next_after(slot.due_at))
    }

    /// The expression; `None` for a continuous schedule.
    #[must_use]
    pub fn expression(&self) -> Option<&Expression> {
        self.expression.as_ref()
    }

    /// The shortest gap whose first slot is in `(from, until]`, among the first `n_slots` slots.
    fn shortest_of(&self, from: DateTime<Utc>, until: DateTime<Utc>, n_slots: usize) -> Duration {
        let mut shortest = Duration::MAX;
        let mut before: Option<DateTime<Utc>> = None;
        for slot in self.after(from).take(n_slots) {
            if let Some(before) = before {
                let gap = (slot.due_at - before).to_std().unwrap_or(Duration::ZERO);
                shortest = shortest.min(gap);
            }
            if slot.due_at > until {
                break;
            }
            before = Some(slot.due_at);
        }
        shortest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{CatchUp, Job, Maintenance, OnStall, Overlap, ScheduleName, StallOn};

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
    }

    fn schedule(cadence: Cadence, timezone: chrono_tz::Tz) -> Schedule {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Schedule {
            name: ScheduleName::new("image-review"),
            cadence,
            timezone,
            jitter: Duration::ZERO,
            start_grace: minutes(2),
            time_box: minutes(45),
            signal_grace: minutes(5),
            kill_grace: Duration::from_secs(10),
            stall_after: minutes(10),
            stall_on: StallOn::Output,
            on_stall: OnStall::Alert,
            signal: "Bulk processing completed.".to_owned(),
            signal_match: crate::schedule::SignalMatch::Text,
            overlap: Overlap::Skip,
            catch_up: CatchUp::Latest,
            notify: Vec::new(),
            patterns: Vec::new(),
            maintenance: Vec::new(),
            image_errors_at_least: 20,
            image_errors_percent: 10,
            job: Job::Review { batch: 100 },
        }
    }

    fn cron(expression: &str) -> Schedule {
        schedule(Cadence::Cron(expression.to_owned()), chrono_tz::UTC)
    }

    fn cron_in(expression: &str, zone: chrono_tz::Tz) -> Schedule {
        schedule(Cadence::Cron(expression.to_owned()), zone)
    }

    #[test]
    fn slots_between_two_instants_exclude_the_first_and_include_the_last() {
        let hourly = cron("0 * * * *");
        let due = |limit| -> Vec<_> {
            due_between(&hourly, at("2025-01-01T05:00:00Z"), at("2025-01-01T08:00:00Z"), limit)
                .into_iter()
                .map(|slot| slot.due_at)
                .collect()
        };
        let all = ["06", "07", "08"].map(|h| at(&format!("2025-01-01T{h}:00:00Z")));
        assert_eq!(due(10), all);
        assert_eq!(due(2), all[..2]);
    }

    #[test]
    fn a_continuous_schedule_is_due_at_the_next_second_and_owes_no_missed_ones() {
        let always = schedule(Cadence::Continuous, chrono_tz::UTC);
        let next = next_after(&always, at("2025-01-01T05:00:00.400Z")).unwrap();
        assert_eq!(next.due_at, at("2025-01-01T05:00:01Z"));
        let owed =
            due_between(&always, at("2025-01-01T05:00:00Z"), at("2025-01-01T10:00:00Z"), 100);
        assert_eq!(owed.len(), 1);
        assert_eq!(shortest_gap(&always, at("2025-01-01T00:00:00Z")), Duration::MAX);
    }

    #[test]
    fn a_broken_expression_has_no_slot_instead_of_a_loop() {
        assert_eq!(next_after(&cron("0 0 30 2 *"), at("2025-01-01T00:00:00Z")), None);
        assert_eq!(next_after(&cron("nonsense"), at("2025-01-01T00:00:00Z")), None);
    }

    #[test]
    fn jitter_is_bounded_the_same_for_the_same_slot_and_spread_over_slots() {
        let mut hourly = cron("0 * * * *");
        let slots =
            due_between(&hourly, at("2025-01-01T00:00:00Z"), at("2025-02-01T00:00:00Z"), 500);
        assert_eq!(start_at(&hourly, &slots[0]), slots[0].due_at);
        hourly.jitter = Duration::from_secs(60);
        let delays: Vec<i64> = slots
            .iter()
            .map(|slot| (start_at(&hourly, slot) - slot.due_at).num_milliseconds())
            .collect();
        assert!(delays.iter().all(|delay| (0..=60_000).contains(delay)));
        let mean = delays.iter().sum::<i64>() / delays.len() as i64;
        assert!((25_000..35_000).contains(&mean), "{mean}");
        assert_eq!(start_at(&hourly, &slots[7]), start_at(&hourly, &slots[7]));
    }

    #[test]
    fn the_shortest_gap_counts_the_nights_of_a_clock_change() {
        let from = at("2025-01-15T00:00:00Z");
        let new_york = chrono_tz::America::New_York;
        let gap = |e, zone| shortest_gap(&cron_in(e, zone), from).as_secs() / 60;
        assert_eq!(gap("0 * * * *", chrono_tz::UTC), 60);
        assert_eq!(gap("0 * * * *", new_york), 60);
        assert_eq!(gap("0,50 * * * *", chrono_tz::UTC), 10);
        assert_eq!(gap("0 5 * * *", new_york), 23 * 60);
        // 02:50 is carried to 03:00, and 03:10 is then ten minutes away, not twenty.
        assert_eq!(gap("50 2 * * *", new_york), 23 * 60 + 10);
        assert_eq!(gap("30 0,4 * * *", new_york), 3 * 60);
        assert_eq!(gap("* * * * *", new_york), 1);
        assert_eq!(gap("*/5 * * * * *", new_york), 0);
        assert_eq!(shortest_gap(&cron("*/5 * * * * *"), from), Duration::from_secs(5));
        assert_eq!(shortest_gap(&cron("0 0 29 2 *"), from), Duration::MAX);
        assert_eq!(gap("0 0 1 * *", chrono_tz::UTC), 28 * 24 * 60);
    }

    #[test]
    fn a_maintenance_window_holds_its_first_instant_and_not_its_last() {
        let mut hourly = cron_in("0 * * * *", chrono_tz::Europe::Berlin);
        hourly.maintenance = vec![Maintenance {
            from: "0 3 * * SUN".to_owned(),
            lasts: Duration::from_secs(2 * 3600),
            reason: "database upgrade".to_owned(),
        }];
        // Sunday, 5 January 2025, 03:00 in Berlin is 02:00 UTC.
        assert_eq!(in_maintenance(&hourly, at("2025-01-05T01:59:59Z")), None);
        assert_eq!(in_maintenance(&hourly, at("2025-01-05T02:00:00Z")), Some("database upgrade"));
        assert_eq!(in_maintenance(&hourly, at("2025-01-05T03:59:59Z")), Some("database upgrade"));
        assert_eq!(in_maintenance(&hourly, at("2025-01-05T04:00:00Z")), None);
        assert_eq!(in_maintenance(&hourly, at("2025-01-06T02:30:00Z")), None);
    }

    #[test]
    fn a_caught_up_run_ends_before_the_next_slot() {
        let hourly = cron("0 * * * *");
        let slot = Slot { schedule: hourly.name.clone(), due_at: at("2025-01-01T05:00:00Z") };
        let room = |now: &str| box_for_catch_up(&hourly, &slot, at(now)).as_secs();
        assert_eq!(room("2025-01-01T05:01:00Z"), 45 * 60);
        assert_eq!(room("2025-01-01T05:30:00Z"), (30 - 5) * 60 - 10);
        assert_eq!(room("2025-01-01T05:58:00Z"), 0);
        // Asked three hours later, the next slot is the one after now.
        assert_eq!(room("2025-01-01T08:30:00Z"), (30 - 5) * 60 - 10);
    }

    #[test]
    fn ten_years_of_hourly_slots_with_both_nights_take_no_time_and_lose_none() {
        let hourly = cron_in("0 * * * *", chrono_tz::America::New_York);
        let (from, until) = (at("2025-01-01T00:00:00Z"), at("2035-01-01T00:00:00Z"));
        let slots = due_between(&hourly, from, until, usize::MAX);
        // Wildcards keep real time: one slot an hour, clock changes or not; 3,652 days.
        assert_eq!(slots.len(), 3652 * 24);
        assert!(slots.windows(2).all(|two| two[1].due_at - two[0].due_at == TimeDelta::hours(1)));
    }
}
