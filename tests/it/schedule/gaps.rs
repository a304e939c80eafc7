//! The shortest time between two slots: from the fields, and so the same on every day it is asked.

use std::time::Duration;

use lookout::schedule::cron::Expression;
use lookout::schedule::slot::{closer_at_a_clock_change, shortest_gap};
use lookout::schedule::{Cadence, Schedule};
use lookout::timezone::Zone;

use crate::guard::hourly;
use crate::past::{at, zone};

fn cron(expression: &str, timezone: Zone) -> Schedule {
    Schedule { cadence: Cadence::Cron(expression.into()), timezone, ..hourly("review") }
}

#[test]
fn the_shortest_gap_is_the_shortest_that_a_walk_through_a_cycle_of_the_calendar_finds() {
    // Without days of a leap year, 28 years hold every combination of date and weekday.
    let times = ["0 0", "30 5,17", "0,50 8-9", "59 23", "0,59 0,23", "17 1-23/11", "5 0,12,13"];
    let days = [
        "* * *",
        "* * 1-5",
        "* * SUN,WED",
        "*/7 * *",
        "*/10 * 1-5",
        "1,15 * *",
        "L * *",
        "15W * *",
        "1,L * *",
        "LW,1W * *",
        "31 * *",
        "* * 5L",
        "* * MON#1,FRI#5",
        "13 * +5",
        "28 2,3 *",
        "25-31 12 *",
        "* 6 6#2",
        "1 1 *",
        "31 12 +MON",
        "31 1,12 *",
    ];
    for time in times {
        for day in days {
            let expression = format!("{time} {day}");
            let understood = Expression::parse(&expression).unwrap();
            let until = at("2030-01-01T00:00:00Z");
            let slots: Vec<_> = understood
                .times(&Zone::utc(), at("2002-01-01T00:00:00Z"))
                .take_while(|at| *at < until)
                .collect();
            let walked = slots.windows(2).map(|two| (two[1] - two[0]).num_seconds()).min();
            let computed = understood.shortest_gap_s().map(i64::from);
            assert_eq!(computed, walked, "{expression}");
        }
    }
}

#[test]
fn dense_expressions_have_the_gap_of_their_closest_times_also_over_the_ends_of_minutes_and_hours() {
    for (expression, seconds) in [
        ("* * * * *", 60),
        ("*/5 * * * * *", 5),
        ("*/45 * * * * *", 15),
        ("0,59 * * * * *", 1),
        ("30 */7 * * * *", 240),
        ("0 * * * *", 3600),
        ("0,50 * * * *", 600),
        ("0-50/10,59 0-56/2,59 0-20/2,23 1-31/2 * *", 1),
        ("50 23,0 * * *", 3600),
        ("59 23 * * *", 86_400),
        ("0 0,23 * * *", 3600),
        ("0 0 29 2 *", 4 * 365 * 86_400 + 86_400),
    ] {
        assert_eq!(
            Expression::parse(expression).unwrap().shortest_gap_s(),
            Some(seconds),
            "{expression}"
        );
    }
}

#[test]
fn a_clock_change_that_brings_two_slots_together_is_named_with_the_gap_it_leaves() {
    let new_york = |expression: &str| cron(expression, zone("America/New_York"));
    let minutes = |n: u64| Duration::from_secs(n * 60);
    let closer = |schedule: &Schedule, least| {
        let (from, until) = (at("2025-01-15T00:00:00Z"), at("2026-01-15T00:00:00Z"));
        closer_at_a_clock_change(schedule, least, from, until)
    };
    // 02:50 is carried to 03:00 on 9 March, and 03:50 is then fifty minutes away.
    let tight = new_york("50 2,3 * * *");
    assert_eq!(shortest_gap(&tight), minutes(60));
    assert_eq!(closer(&tight, minutes(60)), Some((at("2025-03-09T07:50:00Z"), minutes(50))));
    assert_eq!(closer(&tight, minutes(50)), None);
    let daily = new_york("0 5 * * *");
    assert_eq!(shortest_gap(&daily), minutes(24 * 60));
    let (due_at, gap) = closer(&daily, minutes(24 * 60)).unwrap();
    assert_eq!((due_at, gap), (at("2025-03-09T09:00:00Z"), minutes(23 * 60)));
    // What keeps real time keeps its distance; UTC has no such night.
    assert_eq!(closer(&new_york("0 * * * *"), minutes(60)), None);
    assert_eq!(closer(&cron("50 2,3 * * *", Zone::utc()), minutes(60)), None);
}
