//! Wall clocks that jump, with real processes under libfaketime. Run by `tests/real/clock.sh`, which
//! has the library; not part of a bare `cargo test`.
//!
//! Only the wall clock is faked: boot time goes on, as it does when an administrator sets a clock.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic: that is how it fails"
)]

#[path = "../system/world.rs"]
#[allow(dead_code, reason = "the world of tests/system, of which this needs a part")]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use lookout::clock::{Clock, SystemClock};
use serde_json::Value;

use world::{World, pause};

/// A world whose processes read the wall clock through the file `clock`.
fn faked() -> World {
    let library = std::env::var("LOOKOUT_FAKETIME").expect("run tests/real/clock.sh");
    let mut world = World::new();
    let file = world.path().join("clock").to_str().unwrap().to_owned();
    world.environment = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", &file),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        // Files keep their true times: SQLite and the keeper compare those with each other only.
        ("NO_FAKE_STAT", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    world.write("lookout.toml", "[service]\ninstance = \"test\"\nbind = \"127.0.0.1:0\"\n");
    world
}

fn set(world: &World, at: DateTime<Utc>) {
    let by = (at - SystemClock.now().trunc_subsecs(0)).num_seconds();
    let half_written = world.path().join("clock.new");
    std::fs::write(&half_written, format!("{by:+}\n")).unwrap();
    std::fs::rename(half_written, world.path().join("clock")).unwrap();
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn schedule(cron: &str) -> String {
    format!(
        "cron = \"{cron}\"\ntimezone = \"America/New_York\"\ntime_box = \"5s\"\nstart_grace = \"4s\"\n\
         signal_grace = \"1s\"\nkill_grace = \"1s\"\nsignal = \"done\"\n[job]\nkind = \"command\"\n\
         argv = [\"sh\", \"-c\", \"echo $LOOKOUT_RUN_ID >> ran.txt; echo done\"]\n"
    )
}

/// Lets the daemon live through the instant `at`, from five seconds before it to the verdicts of
/// what was due then, and stops it.
fn live_through(world: &mut World, at: &str, due: &[&str]) {
    set(world, time(at) - TimeDelta::seconds(5));
    world.start_daemon();
    if due.is_empty() {
        pause(Duration::from_secs(10));
    }
    for schedule in due {
        world.wait_for(&format!("{schedule} at {at}"), Duration::from_secs(30), |world| {
            let is_it = |slot: &&Value| {
                slot["schedule"] == *schedule && slot["due_at"].as_str().map(time) == Some(time(at))
            };
            let slots = world.slots();
            let slot = slots.iter().find(is_it)?;
            (!slot["verdict"].is_null()).then_some(())
        });
    }
    world.terminate_daemon();
}

/// `schedule due_at` of the completed ones, and that nothing was run twice or came to a bad end.
fn completed(world: &World) -> Vec<String> {
    let ran = std::fs::read_to_string(world.path().join("ran.txt")).unwrap_or_default();
    let mut n_of: BTreeMap<&str, u32> = BTreeMap::new();
    for run in ran.lines() {
        *n_of.entry(run).or_default() += 1;
    }
    assert!(n_of.values().all(|n| *n == 1), "a run twice: {n_of:?}");
    let slots = world.slots();
    let mut found = Vec::new();
    for slot in slots.iter().filter(|slot| !slot["verdict"].is_null()) {
        assert_eq!(slot["verdict"], "completed", "{slot:#}");
        assert_eq!(n_of.remove(slot["run"].as_str().unwrap()), Some(1), "{slot:#}");
        let due = time(slot["due_at"].as_str().unwrap());
        found.push(format!("{} {}", slot["schedule"].as_str().unwrap(), due.format("%H:%M")));
    }
    assert!(n_of.is_empty(), "runs without a slot: {n_of:?}");
    assert!(world.messages().is_empty(), "{:#?}", world.messages());
    found.sort();
    found
}

#[test]
fn the_night_that_skips_an_hour_loses_no_slot_and_runs_none_twice() {
    let mut world = faked();
    world.write("schedules/hourly.toml", &schedule("0 * * * *"));
    world.write("schedules/nightly.toml", &schedule("30 2 * * *"));
    // 01:00 EST, then 03:00 EDT, which 02:30 moves to, then 04:00 EDT.
    live_through(&mut world, "2025-03-09T06:00:00Z", &["hourly"]);
    live_through(&mut world, "2025-03-09T07:00:00Z", &["hourly", "nightly"]);
    live_through(&mut world, "2025-03-09T08:00:00Z", &["hourly"]);
    let expected = ["hourly 06:00", "hourly 07:00", "hourly 08:00", "nightly 07:00"];
    assert_eq!(completed(&world), expected);
}

#[test]
fn the_night_that_has_an_hour_twice_runs_hourly_twice_and_nightly_once() {
    let mut world = faked();
    world.write("schedules/hourly.toml", &schedule("0 * * * *"));
    world.write("schedules/nightly.toml", &schedule("30 1 * * *"));
    // 01:00 and 01:30 EDT, then both again in EST, then 02:00 EST.
    live_through(&mut world, "2025-11-02T05:00:00Z", &["hourly"]);
    live_through(&mut world, "2025-11-02T05:30:00Z", &["nightly"]);
    live_through(&mut world, "2025-11-02T06:00:00Z", &["hourly"]);
    live_through(&mut world, "2025-11-02T06:30:00Z", &[]);
    live_through(&mut world, "2025-11-02T07:00:00Z", &["hourly"]);
    let expected = ["hourly 05:00", "hourly 06:00", "hourly 07:00", "nightly 05:30"];
    assert_eq!(completed(&world), expected);
}

#[test]
fn a_clock_that_is_set_three_hours_on_and_one_back_loses_no_slot_and_runs_none_twice() {
    let mut world = faked();
    world.write("schedules/often.toml", &schedule("*/10 * * * * *"));
    let begin = time("2025-06-01T12:00:00Z");
    set(&world, begin);
    world.start_daemon();
    let completed_after = |world: &World, after: DateTime<Utc>, n: usize| {
        world.wait_for(&format!("{n} runs after {after}"), Duration::from_secs(60), |world| {
            let is_it = |slot: &&Value| {
                slot["verdict"] == "completed" && time(slot["due_at"].as_str().unwrap()) > after
            };
            (world.slots().iter().filter(is_it).count() >= n).then_some(())
        });
    };
    completed_after(&world, begin, 2);
    let three_hours_on = begin + TimeDelta::hours(3);
    set(&world, three_hours_on);
    completed_after(&world, three_hours_on, 2);

    let n_ran = || std::fs::read_to_string(world.path().join("ran.txt")).unwrap().lines().count();
    set(&world, begin + TimeDelta::hours(2));
    // A run that began before the step may be counted late.
    pause(Duration::from_secs(2));
    let before = n_ran();
    pause(Duration::from_secs(12));
    assert_eq!(n_ran(), before, "a slot that has its verdict was run again");

    let later = begin + TimeDelta::hours(3) + TimeDelta::minutes(5);
    set(&world, later);
    completed_after(&world, later, 2);
    world.kill_daemon();
    every_slot_has_one_verdict(&world, begin, later);
}

fn every_slot_has_one_verdict(world: &World, begin: DateTime<Utc>, end: DateTime<Utc>) {
    let slots = world.slots();
    let mut verdicts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut due = BTreeSet::new();
    let mut caught_up = 0;
    for slot in &slots {
        let at = time(slot["due_at"].as_str().unwrap());
        assert!(due.insert(at), "two slots at {at}");
        if at > begin && at < end {
            let verdict = slot["verdict"].as_str().unwrap_or_else(|| panic!("{slot:#}"));
            *verdicts.entry(verdict).or_default() += 1;
            let started = slot["started_at"].as_str().map(time);
            caught_up += u32::from(started.is_some_and(|s| s - at > TimeDelta::seconds(10)));
        }
    }
    println!("{verdicts:?}, {caught_up} caught up");
    let n_due = (end - begin).num_seconds() / 10 - 1;
    assert!(i64::from(verdicts.values().sum::<u32>()) >= n_due, "{verdicts:?}, {n_due} were due");
    assert!(caught_up <= 2, "one a step at most");
    let bad = ["missed", "timed_out", "no_signal", "failed", "interrupted"];
    assert!(bad.iter().all(|bad| !verdicts.contains_key(bad)), "{verdicts:?}");
    let kinds: Vec<String> =
        world.messages().iter().map(|(_, body)| body["data"]["kind"].to_string()).collect();
    assert!(kinds.len() <= 4, "a flood: {kinds:?}");
    // The steps are told; nothing of Lookout's own stood still because of them.
    assert!(kinds.iter().all(|kind| kind == "\"was_blind\""), "{kinds:?}");
}
