//! What is foretold for the days to come, also for many and dense schedules.

use chrono::{DateTime, TimeDelta, Utc};
use lookout::run::simulation::{Simulation, simulate};
use lookout::schedule::slot::due_between;
use lookout::schedule::{Cadence, Maintenance, Overlap, Schedule};
use lookout::timezone::Zone;

use crate::guard::hourly;
use crate::guard::scripts::secs;
use crate::past::{at, zone};

const FROM: &str = "2026-03-20T12:34:56Z";

/// Busy for `busy_s` at most.
fn short(name: &str, cron: &str, timezone: Zone, busy_s: u64) -> Schedule {
    Schedule {
        cadence: Cadence::Cron(cron.into()),
        timezone,
        overlap: Overlap::Queue,
        time_box: secs(busy_s - 2),
        signal_grace: secs(1),
        kill_grace: secs(1),
        ..hourly(name)
    }
}

fn days(schedules: &[Schedule], days: u32) -> Simulation {
    simulate(schedules, 50, at(FROM), days)
}

#[test]
fn every_slot_is_counted_however_many_there_are() {
    for (cron, n_days, n_slots) in [
        ("* * * * *", 366, 366 * 24 * 60),
        ("*/10 * * * * *", 40, 40 * 24 * 360),
        ("* * * * * *", 10, 10 * 86_400),
    ] {
        let simulation = days(&[short("x", cron, Zone::utc(), 3)], n_days);
        let forecast = &simulation.schedules[0];
        assert_eq!(forecast.n_slots, n_slots, "{cron}");
        assert!(simulation.to - forecast.last_due_at.unwrap() <= TimeDelta::minutes(1), "{cron}");
    }
}

#[test]
fn what_was_not_counted_to_the_end_says_so() {
    // Each run meets the next, which must be decided slot by slot.
    let dense = short("x", "* * * * * *", Zone::utc(), 30);
    let simulation = days(&[dense], 10);
    let forecast = &simulation.schedules[0];
    assert_eq!(forecast.n_slots, 10 * 86_400);
    let until = forecast.counted_until.expect("there are more than are decided");
    assert!(until > at(FROM) + TimeDelta::days(5) && until < simulation.to);
    assert!(forecast.n_overlaps > 0);
    let few = short("x", "*/10 * * * *", Zone::utc(), 900);
    assert_eq!(days(&[few], 10).schedules[0].counted_until, None);
}

#[test]
fn the_slots_around_a_clock_change_are_listed_up_to_a_limit_and_all_counted() {
    let berlin = zone("Europe/Berlin");
    let simulation = days(&[short("x", "* * * * *", berlin, 3)], 300);
    let changes = &simulation.schedules[0].clock_changes;
    let counted: Vec<_> =
        changes.iter().map(|it| (it.slots.len(), it.n_slots, it.n_lost)).collect();
    // Sixty minutes do not exist in March; in October each of sixty comes twice.
    assert_eq!(counted, [(0, 0, 60), (8, 120, 0)]);
}

/// The first second in which most runs go on, looked for second by second.
fn busiest_by_hand(schedules: &[Schedule], n_days: u32) -> (DateTime<Utc>, usize) {
    let (from, until) = (at(FROM), at(FROM) + TimeDelta::days(n_days.into()));
    let mut runs = Vec::new();
    for schedule in schedules {
        let busy = schedule.time_box + schedule.signal_grace + schedule.kill_grace;
        for slot in due_between(schedule, from, until, usize::MAX) {
            runs.push((slot.due_at, slot.due_at + busy));
        }
    }
    let going_on = |at| runs.iter().filter(|(from, until)| *from <= at && at < *until).count();
    let mut begins: Vec<_> = runs.iter().map(|(from, _)| *from).collect();
    begins.sort();
    let mut best = (from, 0);
    for at in begins {
        let n = going_on(at);
        if n > best.1 {
            best = (at, n);
        }
    }
    best
}

#[test]
fn the_busiest_second_is_the_one_that_a_search_second_by_second_finds() {
    let expressions =
        ["0 * * * *", "*/7 3-9 * * *", "30 2 * * *", "0,20 */5 * * *", "5 12 * * MON"];
    for seed in 0..6_u64 {
        let schedules: Vec<Schedule> = (0..14)
            .map(|n| {
                let cron = expressions[((seed * 7 + n * 3) % 5) as usize];
                let place = if n % 2 == 0 { "Europe/Berlin" } else { "America/New_York" };
                short(&format!("s{n}"), cron, zone(place), 60 + (seed * 37 + n * 61) % 170)
            })
            .collect();
        let busiest = days(&schedules, 12).busiest.unwrap();
        assert_eq!((busiest.at, busiest.n_running), busiest_by_hand(&schedules, 12), "{seed}");
        assert_eq!(busiest.schedules.len(), busiest.n_running);
    }
}

#[test]
fn schedules_that_do_the_same_are_told_apart_by_name_window_and_jitter() {
    let plain = short("a", "0 * * * *", Zone::utc(), 60);
    let window =
        Maintenance { from: "0 3 * * *".into(), lasts: secs(3600), reason: "backup".into() };
    let schedules = [
        plain.clone(),
        Schedule { name: lookout::schedule::ScheduleName::new("b"), ..plain.clone() },
        Schedule { maintenance: vec![window], ..short("c", "0 * * * *", Zone::utc(), 60) },
        Schedule { jitter: secs(900), ..short("d", "0 * * * *", Zone::utc(), 60) },
    ];
    let simulation = days(&schedules, 4);
    let seen: Vec<_> = simulation
        .schedules
        .iter()
        .map(|it| (it.schedule.as_str(), it.n_slots, it.n_in_maintenance))
        .collect();
    assert_eq!(seen, [("a", 96, 0), ("b", 96, 0), ("c", 96, 4), ("d", 96, 0)]);
    let busiest = simulation.busiest.unwrap();
    assert!(busiest.schedules.starts_with(&["a".into(), "b".into(), "c".into()]), "{busiest:?}");
}
