//! The tables of the two nights a year: New York, Berlin, Lord Howe, Cairo.

use chrono::{DateTime, Utc};
use lookout::schedule::cron::{Expression, transitions};
use lookout::timezone::Zone;

use crate::past::zone;

fn new_york() -> Zone {
    zone("America/New_York")
}

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
}

/// Local times with their zone's letters between two instants, `(from, until]`.
fn times(expression: &str, zone: &Zone, from: &str, until: &str) -> Vec<String> {
    let expression = Expression::parse(expression).unwrap();
    let until = at(until);
    let mut found = Vec::new();
    let mut last = at(from);
    while let Some(next) = expression.next_after(zone, last).filter(|next| *next <= until) {
        assert!(next > last);
        found.push(next.with_timezone(zone).format("%H:%M %Z").to_string());
        last = next;
    }
    found
}

/// 9 March 2025: 02:00 EST becomes 03:00 EDT at 07:00 UTC.
fn gap_night(expression: &str) -> Vec<String> {
    times(expression, &new_york(), "2025-03-09T05:30:00Z", "2025-03-09T09:30:00Z")
}

/// 2 November 2025: 02:00 EDT becomes 01:00 EST at 06:00 UTC.
fn overlap_night(expression: &str) -> Vec<String> {
    times(expression, &new_york(), "2025-11-02T04:30:00Z", "2025-11-02T08:30:00Z")
}

#[test]
fn a_fixed_time_in_the_gap_runs_once_right_after_it() {
    for (expression, expected) in [
        ("30 2 * * *", vec!["03:00 EDT"]),
        ("0,30 2 * * *", vec!["03:00 EDT"]),
        ("0-59/15 2 * * *", vec!["03:00 EDT"]),
        ("30 1,2,3 * * *", vec!["01:30 EST", "03:00 EDT", "03:30 EDT"]),
        ("0 1-4 * * *", vec!["01:00 EST", "03:00 EDT", "04:00 EDT"]),
        ("0 2,3 * * *", vec!["03:00 EDT"]),
        ("0 3 * * *", vec!["03:00 EDT"]),
        ("*/20 30 2 * * *", vec!["03:00 EDT"]),
        ("30 2 9 3 *", vec!["03:00 EDT"]),
        ("30 2 * * SUN#2", vec!["03:00 EDT"]),
        ("30 1 * * *", vec!["01:30 EST"]),
    ] {
        assert_eq!(gap_night(expression), expected, "{expression}");
    }
}

#[test]
fn a_wildcard_in_minute_or_hour_keeps_real_time_through_the_gap() {
    assert_eq!(gap_night("0 * * * *"), ["01:00 EST", "03:00 EDT", "04:00 EDT", "05:00 EDT"]);
    assert_eq!(gap_night("@hourly"), ["01:00 EST", "03:00 EDT", "04:00 EDT", "05:00 EDT"]);
    assert_eq!(gap_night("*/15 2 * * *"), Vec::<String>::new());
    assert_eq!(gap_night("*/30 1-3 * * *"), ["01:00 EST", "01:30 EST", "03:00 EDT", "03:30 EDT"]);
    assert_eq!(gap_night("0 */2 * * *"), ["04:00 EDT"]);
}

#[test]
fn a_fixed_time_that_comes_twice_runs_the_first_time_only() {
    for (expression, expected) in [
        ("30 1 * * *", vec!["01:30 EDT"]),
        ("0,30 1 * * *", vec!["01:00 EDT", "01:30 EDT"]),
        ("0 1,2 * * *", vec!["01:00 EDT", "02:00 EST"]),
        ("0 1-3 * * *", vec!["01:00 EDT", "02:00 EST", "03:00 EST"]),
        ("0 0-23 * * *", vec!["01:00 EDT", "02:00 EST", "03:00 EST"]),
        ("15,45 0-1 * * *", vec!["00:45 EDT", "01:15 EDT", "01:45 EDT"]),
        ("0 2 * * *", vec!["02:00 EST"]),
    ] {
        assert_eq!(overlap_night(expression), expected, "{expression}");
    }
}

#[test]
fn a_wildcard_runs_through_both_passes_of_a_repeated_hour() {
    assert_eq!(overlap_night("0 * * * *"), ["01:00 EDT", "01:00 EST", "02:00 EST", "03:00 EST"]);
    assert_eq!(overlap_night("*/30 1 * * *"), ["01:00 EDT", "01:30 EDT", "01:00 EST", "01:30 EST"]);
    let day = times("0 * * * *", &new_york(), "2025-11-02T03:59:59Z", "2025-11-03T04:59:59Z");
    assert_eq!(day.len(), 25);
    let day = times("0 * * * *", &new_york(), "2025-03-09T04:59:59Z", "2025-03-10T03:59:59Z");
    assert_eq!(day.len(), 23);
}

#[test]
fn berlin_obeys_the_same_rules_on_its_own_nights() {
    let gap = |e| times(e, &zone("Europe/Berlin"), "2025-03-29T23:30:00Z", "2025-03-30T02:30:00Z");
    assert_eq!(gap("30 2 * * *"), ["03:00 CEST"]);
    assert_eq!(gap("0,30 2 * * *"), ["03:00 CEST"]);
    assert_eq!(gap("0 * * * *"), ["01:00 CET", "03:00 CEST", "04:00 CEST"]);
    let overlap =
        |e| times(e, &zone("Europe/Berlin"), "2025-10-25T23:30:00Z", "2025-10-26T02:30:00Z");
    assert_eq!(overlap("0,30 2 * * *"), ["02:00 CEST", "02:30 CEST"]);
    assert_eq!(overlap("0 2,3 * * *"), ["02:00 CEST", "03:00 CET"]);
    assert_eq!(overlap("0 * * * *"), ["02:00 CEST", "02:00 CET", "03:00 CET"]);
}

#[test]
fn lord_howe_moves_by_half_an_hour() {
    let zone = &zone("Australia/Lord_Howe");
    // 5 October 2025: 02:00 +1030 becomes 02:30 +11 at 15:30 UTC of the day before.
    let gap = |e| times(e, zone, "2025-10-04T15:00:00Z", "2025-10-04T16:15:00Z");
    assert_eq!(gap("15 2 * * *"), ["02:30 +11"]);
    assert_eq!(gap("0,15,30,45 2 * * *"), ["02:30 +11", "02:45 +11"]);
    assert_eq!(
        gap("*/15 * * * *"),
        ["01:45 +1030", "02:30 +11", "02:45 +11", "03:00 +11", "03:15 +11"]
    );
    // 6 April 2025: 02:00 +11 becomes 01:30 +1030 at 15:00 UTC of the day before.
    let overlap = |e| times(e, zone, "2025-04-05T14:20:00Z", "2025-04-05T15:50:00Z");
    assert_eq!(overlap("45 1 * * *"), ["01:45 +11"]);
    assert_eq!(overlap("30,45 1 * * *"), ["01:30 +11", "01:45 +11"]);
    assert_eq!(
        overlap("*/15 * * * *"),
        ["01:30 +11", "01:45 +11", "01:30 +1030", "01:45 +1030", "02:00 +1030", "02:15 +1030"]
    );
}

#[test]
fn a_day_that_begins_with_a_gap_still_has_its_midnight_run() {
    // Cairo, 25 April 2025: 00:00 becomes 01:00.
    let zone = &zone("Africa/Cairo");
    let night = |e| times(e, zone, "2025-04-24T20:30:00Z", "2025-04-24T23:30:00Z");
    assert_eq!(night("0 0 * * *"), ["01:00 EEST"]);
    assert_eq!(night("30 0 25 4 *"), ["01:00 EEST"]);
    assert_eq!(night("@daily"), ["01:00 EEST"]);
}

#[test]
fn what_the_clock_change_did_can_be_told() {
    let note = |expression: &str, due: &str| {
        Expression::parse(expression).unwrap().dst_note(&new_york(), at(due)).map(|n| n.to_string())
    };
    assert_eq!(
        note("30 2 * * *", "2025-03-09T07:00:00Z").unwrap(),
        "02:30 does not exist that night; runs after the gap"
    );
    assert_eq!(
        note("0,30 2 * * *", "2025-03-09T07:00:00Z").unwrap(),
        "02:00 and 1 more do not exist that night; run once, after the gap"
    );
    assert_eq!(note("0 3 * * *", "2025-03-09T07:00:00Z"), None);
    assert_eq!(note("0 * * * *", "2025-03-09T07:00:00Z"), None);
    assert_eq!(
        note("30 1 * * *", "2025-11-02T05:30:00Z").unwrap(),
        "comes twice that night; runs the first time only"
    );
    assert_eq!(
        note("0 * * * *", "2025-11-02T06:00:00Z").unwrap(),
        "the hour comes twice; second pass"
    );
    let changes = transitions(&new_york(), at("2025-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
    assert_eq!(
        changes.iter().map(|c| c.at).collect::<Vec<_>>(),
        [at("2025-03-09T07:00:00Z"), at("2025-11-02T06:00:00Z")]
    );
    let lost = |e: &str| Expression::parse(e).unwrap().n_lost_in_gap(&changes[0]);
    assert_eq!(lost("*/15 2 * * *"), 4);
    assert_eq!(lost("0,30 2 * * *"), 0);
}

#[test]
fn six_fields_begin_with_seconds_and_at_forms_are_known() {
    let utc = &Zone::utc();
    let next = |e: &str| {
        let next = Expression::parse(e).unwrap().next_after(utc, at("2025-01-01T00:00:00Z"));
        next.unwrap().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    };
    assert_eq!(next("*/10 * * * * *"), "2025-01-01T00:00:10Z");
    assert_eq!(next("* * * * *"), "2025-01-01T00:01:00Z");
    assert_eq!(next(" 5  4 * * mon "), "2025-01-06T04:05:00Z");
    assert_eq!(next("@hourly"), "2025-01-01T01:00:00Z");
    assert_eq!(next("@Daily"), "2025-01-02T00:00:00Z");
    assert_eq!(next("@weekly"), "2025-01-05T00:00:00Z");
    assert_eq!(next("@monthly"), "2025-02-01T00:00:00Z");
    assert_eq!(next("@yearly"), "2026-01-01T00:00:00Z");
    assert_eq!(next("0 0 29 2 *"), "2028-02-29T00:00:00Z");
    assert_eq!(next("0 12 L * *"), "2025-01-31T12:00:00Z");
    assert_eq!(next("0 0 * JAN,mar SUN"), "2025-01-05T00:00:00Z");
}

#[test]
fn leap_day_schedules_skip_the_year_2100() {
    let leap = Expression::parse("0 0 29 2 *").unwrap();
    let next = leap.next_after(&Zone::utc(), at("2096-02-29T00:00:00Z")).unwrap();
    assert_eq!(next, at("2104-02-29T00:00:00Z"));
}

#[test]
fn a_fraction_of_a_second_neither_repeats_nor_loses_a_slot() {
    let hourly = Expression::parse("0 * * * *").unwrap();
    let next = |from| hourly.next_after(&Zone::utc(), at(from)).unwrap();
    assert_eq!(next("2025-01-01T04:59:59.999Z"), at("2025-01-01T05:00:00Z"));
    assert_eq!(next("2025-01-01T05:00:00Z"), at("2025-01-01T06:00:00Z"));
    assert_eq!(next("2025-01-01T05:00:00.001Z"), at("2025-01-01T06:00:00Z"));
}
