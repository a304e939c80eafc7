//! Many schedules at once: on the same minute, idle, and past their deadlines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use lookout::clock::{Clock, SystemClock};
use serde_json::Value;

use crate::world::{World, is_soak, pause};

fn world_with(settings: &str) -> World {
    let world = World::new();
    world.write(
        "lookout.toml",
        &format!("[service]\ninstance = \"test\"\nbind = \"127.0.0.1:0\"\n{settings}\n"),
    );
    world
}

fn time(row: &Value, name: &str) -> Option<DateTime<Utc>> {
    row[name].as_str().map(|text| text.parse().unwrap())
}

/// A cron expression that fits the second which is `ahead` from now.
fn at(ahead: Duration) -> (String, DateTime<Utc>) {
    let at = SystemClock.now() + TimeDelta::from_std(ahead).unwrap();
    let at = at.with_nanosecond(0).unwrap();
    (at.format("%S %M %H * * *").to_string(), at)
}

#[test]
fn hundreds_of_schedules_on_one_second_all_start_within_their_grace() {
    let n = if is_soak() { 1000 } else { 100 };
    let mut world = world_with("max_running = 50");
    let (cron, _) = at(Duration::from_secs(if is_soak() { 60 } else { 15 }));
    for number in 0..n {
        world.write(
            &format!("schedules/s{number}.toml"),
            &format!(
                "cron = \"{cron}\"\ntimezone = \"UTC\"\ntime_box = \"1m\"\nsignal = \"done\"\n\
                 [job]\nkind = \"command\"\nargv = [\"echo\", \"done\"]\n"
            ),
        );
    }
    world.start_daemon();
    let slots = world.wait_for("every run", Duration::from_secs(300), |world| {
        let mut slots = world.slots();
        slots.retain(|slot| !slot["verdict"].is_null());
        (slots.len() >= n).then_some(slots)
    });
    let pid = world.daemon().unwrap();
    let megabytes = lookout_memory(pid);
    let mut latest = TimeDelta::zero();
    for slot in &slots {
        assert_eq!(slot["verdict"], "completed", "{slot:#}");
        latest = latest.max(time(slot, "started_at").unwrap() - time(slot, "due_at").unwrap());
    }
    println!("{n} schedules on one second: the last started after {latest}; {megabytes} MB");
    assert!(latest < TimeDelta::minutes(2), "{latest}");
    assert!(megabytes < 100, "{megabytes} MB");
    assert!(world.messages().is_empty(), "{:#?}", world.messages());
}

#[test]
fn thousands_of_idle_schedules_cost_next_to_nothing() {
    let (n, watched) = if is_soak() { (10_000, 60) } else { (1_000, 10) };
    let mut world = world_with("");
    for number in 0..n {
        let (minute, hour) = (number % 60, number / 60 % 24);
        world.write(
            &format!("schedules/s{number}.toml"),
            &format!(
                "cron = \"{minute} {hour} 29 2 *\"\n[job]\nkind = \"command\"\nargv = [\"true\"]\n"
            ),
        );
    }
    let begun = SystemClock.boot();
    world.start_daemon();
    world.wait_for("the plan of every schedule", Duration::from_secs(300), |world| {
        (world.n_plans() == n).then_some(())
    });
    let loaded = SystemClock.boot().saturating_sub(begun);
    let pid = world.daemon().unwrap();
    let before = processor_time(pid);
    pause(Duration::from_secs(watched));
    let used = (processor_time(pid) - before) / watched as f64;
    let megabytes = lookout_memory(pid);
    println!(
        "{n} idle schedules: loaded in {loaded:.1?}, {:.2} % of a core, {megabytes} MB",
        used * 100.0
    );
    assert!(used < 0.01 || (cfg!(debug_assertions) && used < 0.1), "{used}");
    assert!(megabytes < 100 || is_soak(), "{megabytes} MB");
}

#[test]
fn a_deadline_that_passes_is_an_incident_within_a_second() {
    let n = if is_soak() { 100 } else { 50 };
    let mut world = world_with(&format!("max_running = {n}"));
    let start = Duration::from_secs(10);
    for number in 0..n {
        let (cron, _) = at(start + Duration::from_millis(number as u64 * 400));
        world.write(&format!("schedules/hangs-{number}.toml"), &hanging(&cron));
    }
    world.start_daemon();
    let incidents = world.wait_for("every incident", Duration::from_secs(120), |world| {
        let incidents = world.json(&["incidents", "--all", "--json", "-n", "1000"]);
        (incidents.as_array()?.len() == n).then_some(incidents)
    });
    let slots = world.slots();
    assert_eq!(slots.iter().filter(|slot| slot["started_at"].is_string()).count(), n);
    let opened: BTreeMap<&str, DateTime<Utc>> = incidents
        .as_array()
        .unwrap()
        .iter()
        .map(|incident| {
            (incident["schedule"].as_str().unwrap(), time(incident, "opened_at").unwrap())
        })
        .collect();
    let mut late: Vec<TimeDelta> = slots
        .iter()
        .filter(|slot| slot["started_at"].is_string())
        .map(|slot| {
            let deadline = time(slot, "started_at").unwrap() + TimeDelta::seconds(2);
            opened[slot["schedule"].as_str().unwrap()] - deadline
        })
        .collect();
    late.sort();
    let mut shown = String::new();
    for share in [0, n / 2, n * 9 / 10, n - 1] {
        let _ = write!(shown, "{} ", late[share]);
    }
    println!("deadline to incident, least, median, 9 of 10, worst: {shown}");
    // All but one.
    assert!(late[n - 2] < TimeDelta::seconds(1), "{late:?}");
}

/// Says nothing for ever; the two seconds after which that is a stall are its deadline.
fn hanging(cron: &str) -> String {
    format!(
        "cron = \"{cron}\"\ntimezone = \"UTC\"\ntime_box = \"2m\"\nstall_after = \"2s\"\n\
         signal = \"done\"\n[job]\nkind = \"command\"\nargv = [\"sleep\", \"600\"]\n"
    )
}

/// The most resident memory so far, in megabytes.
fn lookout_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024 / 1_000_000
}

/// Seconds of processor time so far (proc(5): fields 14 and 15, in ticks of 10 ms).
fn processor_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
