//! Schedules and channels that change under a running daemon.

use std::time::Duration;

use crate::world::World;

const LIMIT: Duration = Duration::from_secs(60);

fn waits_for(file: &str) -> String {
    format!(
        "cron = \"0 4 1 1 *\"\nsignal = \"done\"\n[job]\nkind = \"command\"\n\
         argv = [\"sh\", \"-c\", \"touch begun; while ! test -e {file}; do sleep 0.1; done; echo done\"]\n"
    )
}

#[test]
fn a_schedule_that_is_removed_while_it_runs_is_judged_and_a_broken_one_is_told_once() {
    let mut world = World::new();
    world.write("lookout.toml", "[service]\ninstance = \"test\"\nbind = \"127.0.0.1:0\"\n");
    world.write("schedules/long.toml", &waits_for("go-on"));
    world.write("schedules/other.toml", &waits_for("never"));
    world.start_daemon();
    // Else `lookout run` finds no daemon and is one itself.
    world.wait_for("the plan", LIMIT, |world| (world.n_plans() > 0).then_some(()));
    let mut asking = world.lookout(&["run", "long"]).spawn().unwrap();
    world.wait_for("the job", LIMIT, |world| world.path().join("begun").exists().then_some(()));

    std::fs::remove_file(world.path().join("schedules/long.toml")).unwrap();
    world.write("schedules/other.toml", "cron = \"0 4 1 1 *\"\nsingal = \"x\"\n");
    world.write("schedules/third.toml", "cron = \"* * * * * *\"\ntime_box = \"200ms\"\nsignal_grace = \"200ms\"\nstall_after = \"200ms\"\nsignal = \"done\"\n[job]\nkind = \"command\"\nargv = [\"echo\", \"done\"]\n");
    let hang_up = || {
        for pid in world.processes("serve") {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        }
    };
    hang_up();
    let told = |world: &World, words: &str| {
        world.messages().iter().filter(|(_, body)| body.to_string().contains(words)).count()
    };
    world.wait_for("the message", LIMIT, |world| {
        (told(world, "schedules/other.toml can't be used") > 0).then_some(())
    });
    world.wait_for("a run of the third", LIMIT, |world| {
        let db = rusqlite::Connection::open(world.path().join("state/guard.db")).unwrap();
        let sql = "SELECT count(*) FROM slots WHERE schedule = 'third' AND verdict = 'completed'";
        let n: i64 = db.query_row(sql, [], |row| row.get(0)).unwrap();
        (n > 0).then_some(())
    });
    hang_up();
    world.write("go-on", "");
    assert!(asking.wait().unwrap().success(), "judged under the configuration it started with");
    assert_eq!(told(&world, "schedules/other.toml can't be used"), 1, "{:#?}", world.messages());

    // Also without a signal, by looking at the files.
    world.write("schedules/other.toml", &waits_for("never"));
    world.wait_for("the end of it", LIMIT, |world| {
        (told(world, "the configuration is right again") > 0).then_some(())
    });
    // A new channel is used from then on.
    let hook = std::fs::read_to_string(world.path().join("alerts/hook.toml")).unwrap();
    world.write("alerts/second.toml", &hook);
    world.wait_for("two channels", LIMIT, |w| w.log().contains("n_channels=2").then_some(()));
    world.write("schedules/third.toml", "nonsense");
    world.wait_for("the message by both channels", LIMIT, |world| {
        (told(world, "schedules/third.toml can't be used") == 2).then_some(())
    });
}
