//! A mistake in a file of schedules or alerts: it stops no review and no other command, at whatever
//! moment it is made, and people are told of it.

use std::time::Duration;

use lookout::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings};

use crate::world::World;

const LIMIT: Duration = Duration::from_secs(60);

/// What is broken: a schedule, an alert file without its variable, and one that is no text.
fn break_files(world: &World) {
    world.write("schedules/typo.toml", "cron = \"0 4 1 1 *\"\nsingal = \"x\"\n");
    world.write("alerts/no-variable.toml", "kind = \"slack\"\nwebhook_url = \"${NOT_SET}\"\n");
    std::fs::write(world.path().join("alerts/no-text.toml"), b"kind = \"\xff\xfe\"\n").unwrap();
}

#[test]
fn a_review_and_every_command_that_helps_go_on_beside_broken_files() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let settings = FakeGeminiSettings { port: 0, behaviour: Behaviour::default() };
    let gemini = runtime.block_on(FakeGemini::start(settings)).unwrap();
    let world = World::new();
    world.write_settings(&gemini.base_url, "");
    world.add_pictures("a", 2);
    break_files(&world);

    let (code, out, err) = world.say(&["check"]);
    assert_eq!(code, 78, "{out}{err}");
    for place in ["schedules/typo.toml:2: singal", "alerts/no-variable.toml:2", "alerts/no-text"] {
        assert!(err.contains(place), "{place}: {err}");
    }
    let (code, out, err) = world.say(&["review"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("Bulk processing completed."), "{out}");

    for arguments in [&["next"][..], &["status"], &["alert", "test", "hook"], &["alert", "dead"]] {
        let (code, out, err) = world.say(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        assert!(err.contains("schedules/typo.toml:2: singal"), "{arguments:?}: {err}");
    }
    let (code, _, err) = world.say(&["history", "--images", "nobody"]);
    assert_eq!(code, 1, "{err}");
    let (code, out, err) = world.say(&["doctor"]);
    assert_eq!(code, 78, "{out}{err}");
    assert!(out.contains("schedules/typo.toml:2") && out.contains("hook"), "{out}{err}");
    let (code, _, err) = world.say(&["run", "typo"]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("schedules/typo.toml can't be used"), "{err}");
}

#[test]
fn a_daemon_starts_with_the_files_that_are_right_and_tells_of_the_others_once() {
    let mut world = World::new();
    world.write("lookout.toml", "[service]\ninstance = \"test\"\nbind = \"127.0.0.1:0\"\n");
    let right = "cron = \"0 4 1 1 *\"\nsignal = \"done\"\n[job]\nkind = \"command\"\n\
                 argv = [\"echo\", \"done\"]\n";
    world.write("schedules/right.toml", right);
    world.write("schedules/other.toml", right);
    world.start_daemon();
    world.wait_for("both plans", LIMIT, |world| (world.n_plans() == 2).then_some(()));
    world.wait_for("the files to be remembered", LIMIT, |world| {
        let db = rusqlite::Connection::open(world.path().join("state/guard.db")).unwrap();
        let sql = "SELECT count(*) FROM good_files";
        let n: i64 = db.query_row(sql, [], |row| row.get(0)).unwrap_or(0);
        (n == 3).then_some(())
    });
    assert_eq!(world.terminate_daemon(), Some(0));

    break_files(&world);
    world.write("schedules/other.toml", "cron = \"0 4 1 1 *");
    for _ in 0..2 {
        world.start_daemon();
        // Else a run by hand could be the first to take the state directory, and keep the daemon out.
        world.wait_for("the daemon's lock", LIMIT, |world| {
            let holder = std::fs::read_to_string(world.path().join("state/lock")).ok()?;
            (holder.trim() == world.daemon()?.to_string()).then_some(())
        });
        let told = |world: &World, file: &str| {
            let words = format!("{file} can't be used");
            world.messages().iter().filter(|(_, body)| body.to_string().contains(&words)).count()
        };
        world.wait_for("the messages", LIMIT, |world| {
            (told(world, "schedules/other.toml") + told(world, "schedules/typo.toml") == 2)
                .then_some(())
        });
        // The version that was right last can be run.
        let (code, out, err) = world.say(&["run", "other"]);
        assert_eq!(code, 0, "{out}{err}");
        assert_eq!(world.n_plans(), 2, "neither the broken new one nor the built-in one");
        assert_eq!(told(&world, "schedules/other.toml"), 1);
        let code = world.terminate_daemon();
        assert_eq!(code, Some(0), "{}", world.log());
    }
}
