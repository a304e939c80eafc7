//! What of a configuration that is broken somewhere is used: by those who run or show something, and by
//! a review.

use std::collections::BTreeMap;

use lookout::config::problem::Problems;
use lookout::config::{Config, LastGood, Location, for_review, usable};
use lookout::timezone::TimeZones;

use crate::config::folder;

fn look_at(files: &[(&str, &str)]) -> Result<(Config, Problems), Problems> {
    let folder = folder(files);
    let location = location(folder.path());
    let usable = usable(&location, &BTreeMap::new(), &LastGood::default())?;
    Ok((usable.config, Problems(usable.problems)))
}

fn location(folder: &std::path::Path) -> Location {
    Location { config: None, cwd: folder.to_owned(), zones: TimeZones::built_in() }
}

fn review(files: &[(&str, &str)]) -> Result<Config, Problems> {
    let folder = folder(files);
    for_review(&location(folder.path()), &BTreeMap::new())
}

const COMMAND: &str = "cron = \"0 * * * *\"\n[job]\nkind = \"command\"\nargv = [\"true\"]\n";

#[test]
fn a_broken_schedule_hides_neither_the_state_nor_the_other_schedules() {
    let (config, problems) = look_at(&[
        ("lookout.toml", "[service]\nstate_dir = \"elsewhere\"\n[picture]\nquality = 900\n"),
        ("schedules/broken.toml", "cron = \"every now and then\"\n"),
        ("schedules/right.toml", COMMAND),
    ])
    .unwrap();
    assert!(config.service.state_dir.ends_with("elsewhere"));
    let names: Vec<&str> = config.schedules.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["right"]);
    let files: Vec<&str> = problems.0.iter().map(|it| it.place.file.as_str()).collect();
    assert!(files.contains(&"schedules/broken.toml") && files.contains(&"lookout.toml"));
}

#[test]
fn a_state_directory_that_nobody_can_know_is_refused() {
    assert!(look_at(&[("lookout.toml", "[service\n")]).is_err());
    assert!(look_at(&[("lookout.toml", "[service]\nstate_dir = 7\n")]).is_err());
    assert!(look_at(&[("lookout.toml", "[service]\n")]).is_ok());
}

/// Mistakes that change nothing about a review.
const ELSEWHERE: [(&str, &str); 8] = [
    ("schedules/a.toml", "cron = \"every now and then\"\n"),
    ("schedules/b.toml", "[[["),
    ("schedules/Not A Name.toml", COMMAND),
    ("alerts/team.toml", "kind = \"slack\"\nwebhook_url = \"${NOT_SET}\"\n"),
    ("alerts/other.toml", "\u{0}"),
    ("lookout.toml", "[service]\nbind = \"nowhere\"\ninstance = \"\"\nxyz = 1\n"),
    (".env", "a bare word\nSLACK_WEBHOOK_URL=\"open\nGEMINI_API_KEY=k1\n"),
    ("schedules", "a file in a folder's place"),
];

#[test]
fn a_review_reads_nothing_but_what_it_needs() {
    for (name, text) in ELSEWHERE {
        review(&[(name, text)]).unwrap_or_else(|problems| panic!("{name}: {problems}"));
    }
}

#[test]
fn a_review_refuses_what_could_change_what_it_reviews_or_at_what_cost() {
    for (name, text) in [
        ("lookout.toml", "[reviewer]\nmodle = \"x\"\n"),
        ("lookout.toml", "[budgt]\nusd_per_run = 5.0\n"),
        ("lookout.toml", "[budget]\nusd_per_run = \"much\"\n"),
        ("lookout.toml", "[records]\nkind = \"postgres\"\n"),
        ("lookout.toml", "[images\n"),
        ("lookout.toml", "[service]\nstate_dir = 7\n"),
        ("lookout.toml", "service = 7\n"),
        (".env", "LIMIT=many\n"),
        (".env", "SUPABASE_URL=\"https://open.supabase.co\n"),
        (".env", "LOOKOUT__BUDGET__USD_PER_RUN=much\n"),
        (".env", "SUPABASE_URL=https://x.supabase.co\nSUPABASE_KEY=fake-key-fake-key\n"),
    ] {
        assert!(review(&[(name, text)]).is_err(), "{name}: {text}");
    }
}

#[test]
fn a_name_that_may_be_a_slip_of_service_leaves_open_where_the_state_is() {
    assert!(look_at(&[("lookout.toml", "[servce]\nstate_dir = \"x\"\n")]).is_err());
    let (_, problems) = look_at(&[("lookout.toml", "[reviewer]\nmodle = \"x\"\n")]).unwrap();
    assert_eq!(problems.0.len(), 1, "{problems}");
}
