//! An upgrade in the middle of a run: the daemon goes, another build of it comes.

use std::time::Duration;

use crate::world::World;

const SCHEDULE: &str = "cron = \"*/20 * * * * *\"\ntime_box = \"15s\"\nsignal_grace = \"1s\"\n\
     kill_grace = \"1s\"\nstart_grace = \"2s\"\nsignal = \"export finished\"\n[job]\n\
     kind = \"command\"\nargv = [\"sh\", \"-c\", \"echo $LOOKOUT_RUN_ID >> ran.txt; \
     for i in 1 2 3 4 5 6 7 8; do echo part $i; sleep 1; done; echo export finished\"]\n";

/// How the old daemon goes.
#[derive(Clone, Copy)]
enum Goes {
    Killed,
    Asked,
}

fn a_run_outlives_its_daemon(goes: Goes) {
    let mut world = World::new();
    world.write("lookout.toml", "[service]\ninstance = \"test\"\nbind = \"127.0.0.1:0\"\n");
    world.write("schedules/export.toml", SCHEDULE);
    let shipped = std::fs::read(&world.binary).unwrap();
    let old = world.path().join("lookout-old");
    std::fs::copy(&world.binary, &old).unwrap();
    world.binary.clone_from(&old);
    world.start_daemon();
    world.wait_for("the run", Duration::from_secs(40), |world| {
        std::fs::read_to_string(world.path().join("ran.txt")).ok().filter(|ran| !ran.is_empty())
    });
    match goes {
        Goes::Killed => world.kill_daemon(),
        Goes::Asked => assert_eq!(world.terminate_daemon(), Some(0)),
    }
    // The keeper's own program file is gone, too, as after a package upgrade.
    std::fs::remove_file(&old).unwrap();
    let new = world.path().join("lookout-new");
    std::fs::copy(env!("CARGO_BIN_EXE_lookout"), &new).unwrap();
    // Another file with other bytes that does the same.
    std::fs::write(&new, [shipped.as_slice(), b"another build"].concat()).unwrap();
    world.binary = new;
    world.start_daemon();

    let slots = world.wait_for("the verdict", Duration::from_secs(40), |world| {
        let slots = world.slots();
        slots
            .iter()
            .any(|slot| !slot["verdict"].is_null() && !slot["run"].is_null())
            .then_some(slots)
    });
    let judged: Vec<_> = slots.iter().filter(|s| !s["run"].is_null()).collect();
    let first = judged.last().unwrap();
    assert_eq!(first["verdict"], "completed", "{slots:#?}");
    let ran = std::fs::read_to_string(world.path().join("ran.txt")).unwrap();
    let n_of_it = ran.lines().filter(|line| *line == first["run"].as_str().unwrap()).count();
    assert_eq!(n_of_it, 1, "{ran}");
    assert_eq!(ran.lines().count(), judged.len(), "{ran}");
    assert!(world.messages().is_empty(), "{:#?}", world.messages());
}

#[test]
fn a_daemon_that_is_killed_and_replaced_by_another_build_judges_the_run_that_goes_on() {
    a_run_outlives_its_daemon(Goes::Killed);
}

#[test]
fn a_daemon_that_is_stopped_and_replaced_by_another_build_judges_the_run_that_goes_on() {
    a_run_outlives_its_daemon(Goes::Asked);
}
