//! `lookout run` as a script sees it: it ends, whatever becomes of the daemon, and ends no earlier
//! than the job's last process.

use std::time::Duration;

use crate::world::{World, pause};

const LIMIT: Duration = Duration::from_secs(60);

/// A job that ignores SIGTERM, and a child of it that does so too.
const STUBBORN: &str = "cron = \"0 4 1 1 *\"\nsignal = \"done\"\ntime_box = \"2s\"\n\
     signal_grace = \"1s\"\nstall_after = \"2s\"\nkill_grace = \"4s\"\n[job]\nkind = \"command\"\n\
     argv = [\"sh\", \"-c\", \"trap '' TERM; (while :; do sleep 0.2; done) & \
     while :; do sleep 0.2; done\", \"stubborn-job\"]\n";

const LONG: &str = "cron = \"0 4 1 1 *\"\nsignal = \"done\"\n[job]\nkind = \"command\"\n\
     argv = [\"sh\", \"-c\", \"touch begun; while ! test -e go; do sleep 0.1; done; echo done\"]\n";

fn world() -> World {
    let world = World::new();
    world.write("lookout.toml", "[service]\ninstance = \"test\"\nbind = \"127.0.0.1:0\"\n");
    world
}

fn start_daemon(world: &mut World) {
    world.start_daemon();
    // Else `lookout run` finds no daemon and is one itself.
    world.wait_for("the plan", LIMIT, |world| (world.n_plans() == 1).then_some(()));
}

#[test]
fn with_and_without_a_daemon_it_returns_only_after_the_last_process_of_the_job() {
    for has_daemon in [false, true] {
        let mut world = world();
        world.write("schedules/stubborn.toml", STUBBORN);
        if has_daemon {
            start_daemon(&mut world);
        }
        let (code, out, err) = world.say(&["run", "stubborn"]);
        assert_eq!(code, 1, "{out}{err}");
        let left = world.processes("stubborn-job").len() + world.processes("keeper").len();
        assert_eq!(left, 0, "with a daemon: {has_daemon}");
    }
}

#[test]
fn it_ends_when_the_daemon_that_it_waits_for_is_gone_and_none_takes_over() {
    let mut world = world();
    world.write("schedules/long.toml", LONG);
    start_daemon(&mut world);
    let mut command = world.lookout(&["run", "long"]);
    let mut asking = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    world.wait_for("the job", LIMIT, |w| w.path().join("begun").exists().then_some(()));
    world.kill_daemon();
    let mut waited = Duration::ZERO;
    while asking.try_wait().unwrap().is_none() {
        assert!(waited < LIMIT, "`lookout run` hangs");
        pause(Duration::from_millis(100));
        waited += Duration::from_millis(100);
    }
    let output = asking.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("the daemon stopped while the run was going on"), "{err}");
    assert_eq!(world.processes("keeper").len(), 1, "the run goes on");
}
