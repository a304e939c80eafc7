//! `lookout next` and `lookout simulate`: what the configuration alone says about the days to come.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use lookout::cli::output::{Format, Style};
use lookout::cli::{next, simulate};
use lookout::config::{Config, Location, load};
use lookout::timezone::TimeZones;

const NOW: &str = "2025-03-07T11:48:00Z";

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
}

/// A configuration with these schedule files, each a command that does nothing.
fn config(schedules: &[(&str, &str)]) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &Path, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for (name, text) in schedules {
        let job = "[job]\nkind = \"command\"\nargv = [\"true\"]\n";
        write(&folder.path().join(format!("schedules/{name}.toml")), &format!("{text}\n{job}"));
    }
    let location =
        Location { config: None, cwd: folder.path().to_owned(), zones: TimeZones::built_in() };
    match load(&location, &BTreeMap::new()) {
        Ok(config) => config,
        Err(problems) => panic!("{problems}"),
    }
}

fn next_text(config: &Config, number: usize, format: Format) -> String {
    let schedules: Vec<_> = config.schedules.iter().collect();
    let mut out = Vec::new();
    let ahead = next::Ahead { schedules: &schedules, pauses: &[], number, now: at(NOW) };
    next::print(&ahead, format, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

const BOXES: &str = "time_box = \"20m\"\nsignal_grace = \"2m\"";

#[test]
fn next_shows_all_schedules_in_one_order_with_utc_and_local_times() {
    let config = config(&[
        ("hourly", &format!("cron = \"0 * * * *\"\n{BOXES}")),
        ("nightly", &format!("cron = \"30 2 * * *\"\ntimezone = \"America/New_York\"\n{BOXES}")),
    ]);
    insta::assert_snapshot!(next_text(&config, 22, Format::Text(Style::Plain)));
}

#[test]
fn next_tells_what_the_clock_change_does_as_json_too() {
    let config = config(&[(
        "nightly",
        &format!("cron = \"0,30 2 * * *\"\ntimezone = \"America/New_York\"\n{BOXES}"),
    )]);
    let printed: serde_json::Value =
        serde_json::from_str(&next_text(&config, 3, Format::Json)).unwrap();
    assert_eq!(printed[2]["schedule"], "nightly");
    assert_eq!(printed[2]["due_at"], "2025-03-09T07:00:00Z");
    assert_eq!(printed[2]["local"], "2025-03-09T03:00:00-04:00");
    assert!(printed[2]["note"].as_str().unwrap().contains("do not exist"), "{printed}");
}

#[test]
fn simulate_shows_slots_clock_changes_maintenance_and_overlaps() {
    let config = config(&[
        (
            "fixed",
            &format!(
                "cron = \"30 1,2 * * *\"\ntimezone = \"America/New_York\"\n{BOXES}\n\
                 [[maintenance]]\nfrom = \"0 0 * * SUN\"\nlasts = \"2h\"\nreason = \"backup\""
            ),
        ),
        (
            "queued",
            "cron = \"0,30 * * * *\"\noverlap = \"queue\"\ntime_box = \"28m\"\n\
             signal_grace = \"3m\"\nstart_grace = \"2m\"",
        ),
        (
            "real-time",
            &format!("cron = \"*/30 2 * * *\"\ntimezone = \"America/New_York\"\n{BOXES}"),
        ),
    ]);
    let simulation = lookout::run::simulation::simulate(&config.schedules, 2, at(NOW), 3);
    let mut out = Vec::new();
    simulate::print(&simulation, Format::Text(Style::Plain), &mut out).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap());
    let json = serde_json::to_value(&simulation).unwrap();
    assert_eq!(json["schedules"][0]["clock_changes"][0]["at"], "2025-03-09T07:00:00Z");
    assert_eq!(json["schedules"][1]["n_slots"], 144);
}
