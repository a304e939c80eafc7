//! What commands that only look make of a configuration that is broken somewhere.

use std::collections::BTreeMap;

use lookout::config::problem::Problems;
use lookout::config::{Config, Location, look};

use lookout::timezone::TimeZones;

use crate::config::folder;

fn look_at(files: &[(&str, &str)]) -> Result<(Config, Problems), Problems> {
    let folder = folder(files);
    let location =
        Location { config: None, cwd: folder.path().to_owned(), zones: TimeZones::built_in() };
    look(&location, &BTreeMap::new())
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
