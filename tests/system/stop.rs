//! SIGTERM in the middle of a run: the daemon goes, the run stays and is judged by the next one.

use std::time::Duration;

use crate::world::World;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn sigterm_ends_the_daemon_at_once_and_leaves_the_run_to_the_next() {
    let mut world = World::new();
    world.write("lookout.toml", "[service]\ninstance = \"test\"\nbind = \"127.0.0.1:0\"\n");
    world.write(
        "schedules/long.toml",
        "cron = \"0 4 1 1 *\"\nsignal = \"done\"\n[job]\nkind = \"command\"\n\
         argv = [\"sh\", \"-c\", \"touch begun; while ! test -e go; do sleep 0.1; done; echo done\"]\n",
    );
    world.start_daemon();
    // Else `lookout run` finds no daemon and is one itself.
    world.wait_for("the plan", LIMIT, |world| (world.n_plans() == 1).then_some(()));
    let mut asking = world.lookout(&["run", "long"]).spawn().unwrap();
    world.wait_for("the job", LIMIT, |w| w.path().join("begun").exists().then_some(()));
    let keepers = world.processes("keeper");
    assert_eq!(keepers.len(), 1);

    let code = world.terminate_daemon();
    assert_eq!(code, Some(0), "{}", world.log());
    assert_eq!(world.processes("keeper"), keepers, "the run goes on without it");
    world.write("go", "");
    world.wait_for("the keeper's end", LIMIT, |w| w.processes("keeper").is_empty().then_some(()));
    world.start_daemon();
    assert!(asking.wait().unwrap().success(), "judged by the next: {}", world.log());
    assert_eq!(world.messages().len(), 0, "{:#?}", world.messages());
}
