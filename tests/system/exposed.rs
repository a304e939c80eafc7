//! What others on the machine or the network can do to a daemon: take up its connections, and read
//! or replace what it writes.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::world::World;

const LIMIT: Duration = Duration::from_secs(60);

/// Descriptors that the daemon may have: half of what callers try to take.
const DESCRIPTORS: usize = 300;

const OFTEN: &str = "cron = \"*/4 * * * * *\"\ntime_box = \"2s\"\nsignal = \"done\"\n\
     signal_grace = \"1s\"\nstall_after = \"3s\"\n[job]\nkind = \"command\"\n\
     argv = [\"echo\", \"done\"]\n";

/// The daemon as it would be with few descriptors and an ordinary umask.
fn confine(world: &mut World) {
    let script = format!(
        "#!/bin/sh\numask 022\nulimit -n {DESCRIPTORS}\nexec {} \"$@\"\n",
        world.binary.display()
    );
    world.write("confined", &script);
    let path = world.path().join("confined");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    world.binary = path;
}

#[test]
#[expect(clippy::disallowed_methods, reason = "real processes are timed")]
fn callers_that_never_finish_a_request_stop_neither_runs_nor_the_end_of_the_daemon() {
    let mut world = World::new();
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let bind = format!("[service]\ninstance = \"test\"\nbind = \"{address}\"\n");
    world.write("lookout.toml", &bind);
    world.write("schedules/tick.toml", OFTEN);
    confine(&mut world);
    world.start_daemon();
    world.wait_for("listening", LIMIT, |_| TcpStream::connect(&address).ok());
    let mut callers = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        // What is not accepted waits in the system's queue, which may be full.
        let Ok(mut caller) =
            TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_millis(200))
        else {
            break;
        };
        caller.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").unwrap();
        callers.push(caller);
    }
    assert!(callers.len() > DESCRIPTORS / 2, "{}", callers.len());
    let judged = |world: &World| {
        world.slots().into_iter().filter(|slot| !slot["verdict"].is_null()).collect::<Vec<_>>()
    };
    let seen = judged(&world).len();
    world.wait_for("three more runs", LIMIT, |world| {
        (judged(world).len() >= seen + 3).then_some(())
    });
    for slot in judged(&world) {
        assert_eq!(slot["verdict"], "completed", "{slot}");
    }
    let began = std::time::Instant::now();
    assert_eq!(world.terminate_daemon(), Some(0));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");

    // The callers' turn being over: what was written is nobody else's.
    let mode = |name: &str| {
        world.path().join("state").join(name).metadata().unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(""), 0o700);
    assert_eq!((mode("guard.db"), mode("lock")), (0o600, 0o600));
}

#[test]
fn a_lock_that_is_a_link_is_refused_and_its_target_left_alone() {
    let world = World::new();
    world.write("victim", "precious");
    std::fs::create_dir(world.path().join("state")).unwrap();
    std::os::unix::fs::symlink("../victim", world.path().join("state/lock")).unwrap();
    let (code, out, err) = world.say(&["serve"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("state/lock is a link"), "{err}");
    assert_eq!(std::fs::read_to_string(world.path().join("victim")).unwrap(), "precious");
}
