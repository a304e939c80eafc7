//! Commands in a folder that has nothing to do with Lookout, and what looking leaves behind.

use std::path::Path;

use crate::world::World;

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

const COMMANDS: [&[&str]; 14] = [
    &["status"],
    &["status", "--json"],
    &["incidents"],
    &["history"],
    &["runs", "show", "x"],
    &["audit"],
    &["next"],
    &["pause", "image-review"],
    &["resume", "image-review"],
    &["run", "image-review"],
    &["run", "stop", "x"],
    &["incident", "ack", "1"],
    &["alert", "dead"],
    &["doctor"],
];

#[test]
fn commands_in_a_folder_without_configuration_say_where_they_looked_and_create_nothing() {
    let world = World::new();
    let nowhere = tempfile::tempdir().unwrap();
    for arguments in COMMANDS {
        let output = world.lookout(arguments).current_dir(nowhere.path()).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {err}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let here = nowhere.path().display().to_string();
        assert!(err.contains(&here) && err.contains("/etc/lookout"), "{arguments:?}: {err}");
        assert_eq!(files(nowhere.path()), Vec::<String>::new(), "{arguments:?}");
    }
}

#[test]
fn looking_at_a_lookout_that_never_ran_creates_nothing() {
    let world = World::new();
    let before = files(world.path());
    for arguments in [&["status"][..], &["incidents"], &["history"], &["audit"], &["next"]] {
        let (code, out, err) = world.say(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        assert_eq!(files(world.path()), before, "{arguments:?}");
    }
}
