//! Slots of a schedule between two instants, their jitter, maintenance windows and caught-up boxes.

use std::time::Duration;

use chrono::TimeDelta;
use lookout::schedule::slot::{
    box_for_catch_up, due_between, in_maintenance, next_after, shortest_gap, start_at,
};
use lookout::schedule::{Cadence, Job, Maintenance, Schedule, Slot};
use lookout::timezone::Zone;

use crate::guard::hourly;
use crate::past::at;

fn schedule(cadence: Cadence, timezone: Zone) -> Schedule {
    Schedule { cadence, timezone, job: Job::Review { batch: 100 }, ..hourly("review") }
}

fn cron(expression: &str) -> Schedule {
    schedule(Cadence::Cron(expression.to_owned()), Zone::utc())
}

fn cron_in(expression: &str, zone: &str) -> Schedule {
    schedule(Cadence::Cron(expression.to_owned()), Zone::built_in(zone).unwrap())
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
    let always = schedule(Cadence::Continuous, Zone::utc());
    let next = next_after(&always, at("2025-01-01T05:00:00.400Z")).unwrap();
    assert_eq!(next.due_at, at("2025-01-01T05:00:01Z"));
    let owed = due_between(&always, at("2025-01-01T05:00:00Z"), at("2025-01-01T10:00:00Z"), 100);
    assert_eq!(owed.len(), 1);
    assert_eq!(shortest_gap(&always), Duration::MAX);
}

#[test]
fn a_broken_expression_has_no_slot_instead_of_a_loop() {
    assert_eq!(next_after(&cron("0 0 30 2 *"), at("2025-01-01T00:00:00Z")), None);
    assert_eq!(next_after(&cron("nonsense"), at("2025-01-01T00:00:00Z")), None);
}

#[test]
fn jitter_is_bounded_the_same_for_the_same_slot_and_spread_over_slots() {
    let mut hourly = cron("0 * * * *");
    let slots = due_between(&hourly, at("2025-01-01T00:00:00Z"), at("2025-02-01T00:00:00Z"), 500);
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
fn a_maintenance_window_holds_its_first_instant_and_not_its_last() {
    let mut hourly = cron_in("0 * * * *", "Europe/Berlin");
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
    let hourly = cron_in("0 * * * *", "America/New_York");
    let (from, until) = (at("2025-01-01T00:00:00Z"), at("2035-01-01T00:00:00Z"));
    let slots = due_between(&hourly, from, until, usize::MAX);
    // Wildcards keep real time: one slot an hour, clock changes or not; 3,652 days.
    assert_eq!(slots.len(), 3652 * 24);
    assert!(slots.windows(2).all(|two| two[1].due_at - two[0].due_at == TimeDelta::hours(1)));
}
