//! A disk that is really full, under the daemon as it is shipped: its state directory is a file system
//! of a few megabytes.
//!
//! That has to be mounted, which takes root or a user namespace (`unshare -rm cargo test`). Where
//! neither is allowed these tests fail and say so; they are never skipped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::world::{World, pause};

const LIMIT: Duration = Duration::from_secs(90);

/// A small file system, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let out = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "lookout-test"])
            .arg(at)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "this test needs a file system that can be filled, and mounting one is not allowed \
             here ({}): run it as root, or as `unshare -rm cargo test --test system`",
            String::from_utf8_lossy(&out.stderr).trim()
        );
        Self(at.to_owned())
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        for size in [65_536, 4096, 1] {
            let bytes = vec![0; size];
            while file.write_all(&bytes).is_ok() {}
        }
        let error = file.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The status code of `/healthz`; 0 when nobody answers.
fn health(address: SocketAddr) -> u16 {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn lines(world: &World, file: &str) -> usize {
    std::fs::read_to_string(world.path().join(file)).unwrap_or_default().lines().count()
}

fn command(cron: &str, script: &str) -> String {
    format!(
        "cron = \"{cron}\"\ntime_box = \"2s\"\nsignal_grace = \"500ms\"\nstall_after = \"2s\"\n\
         start_grace = \"2s\"\nsignal = \"done\"\ncatch_up = \"none\"\n[job]\nkind = \"command\"\n\
         argv = [\"sh\", \"-c\", \"{script}\"]\n"
    )
}

fn count(world: &World, condition: &str) -> i64 {
    let db = rusqlite::Connection::open(world.path().join("state/guard.db")).unwrap();
    let sql = format!("SELECT count(*) FROM slots WHERE {condition}");
    db.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn on_a_full_disk_nothing_is_started_people_are_told_and_it_goes_on_without_a_restart() {
    let mut world = World::new();
    let disk = SmallDisk::mount(&world.path().join("state"));
    let address = free_address();
    world.write("lookout.toml", &format!("[service]\ninstance = \"test\"\nbind = \"{address}\"\n"));
    world
        .write("schedules/often.toml", &command("*/4 * * * * *", "echo ran >> ran.log; echo done"));
    world.write(
        "schedules/long.toml",
        &command("0 4 1 1 *", "touch begun; while ! test -e go; do sleep 0.1; done; head -c 3000000 /dev/zero; touch drained; echo done")
            .replace("time_box = \"2s\"", "time_box = \"5m\""),
    );
    world.start_daemon();
    world.wait_for("a good run", LIMIT, |w| (lines(w, "ran.log") > 0).then_some(()));
    let mut asking = world.lookout(&["run", "long"]).spawn().unwrap();
    world.wait_for("the long job", LIMIT, |w| w.path().join("begun").exists().then_some(()));
    assert_eq!(health(address), 200);

    disk.fill();
    world.wait_for("red health", LIMIT, |_| (health(address) == 503).then_some(()));
    world.wait_for("the message from memory", LIMIT, |w| {
        let messages = w.messages();
        messages.iter().any(|(_, body)| body.to_string().contains("Not recorded")).then_some(())
    });
    // What was claimed before is over by now; from here on nothing may begin.
    pause(Duration::from_secs(5));
    let n_before = lines(&world, "ran.log");
    let n_log_before = world.log().lines().count();
    pause(Duration::from_secs(13));
    assert_eq!(lines(&world, "ran.log"), n_before, "a run that could not be recorded was started");
    let n_log = world.log().lines().count() - n_log_before;
    assert!(n_log < 20, "its own log grows by {n_log} lines in 13 s:\n{}", world.log());
    // The job that was going on is not touched, and its end is not lost.
    world.write("go", "");
    world.wait_for("the job's last output, while nothing can be kept of it", LIMIT, |w| {
        w.path().join("drained").exists().then_some(())
    });

    std::fs::remove_file(disk.filler()).unwrap();
    world.wait_for("green health", LIMIT, |_| (health(address) == 200).then_some(()));
    world.wait_for("a good run", LIMIT, |w| (lines(w, "ran.log") > n_before).then_some(()));
    assert!(asking.wait().unwrap().success(), "the long run was good");
    world.wait_for("all verdicts", LIMIT, |w| {
        let before = "due_at < 1000 * CAST(strftime('%s', 'now') - 8 AS INTEGER)";
        (count(w, &format!("verdict IS NULL AND {before}")) == 0).then_some(())
    });
    assert!(count(&world, "verdict = 'missed'") > 0, "slots of the full disk were missed");
    world.wait_for("the end of it", LIMIT, |w| {
        let messages = w.messages();
        let over = "messages are written down and sent in time again";
        messages.iter().any(|(_, body)| body.to_string().contains(over)).then_some(())
    });
    world.wait_for("a clean audit", LIMIT, |w| {
        (w.say(&["audit", "--from", "1h", "--to", "10s"]).0 == 0).then_some(())
    });
}

#[test]
fn a_state_directory_that_can_only_be_read_is_refused_at_the_start_with_what_to_do() {
    let world = World::new();
    let disk = SmallDisk::mount(&world.path().join("state"));
    world.write("lookout.toml", "[service]\ninstance = \"test\"\nbind = \"127.0.0.1:0\"\n");
    world.write("schedules/often.toml", &command("0 4 1 1 *", "echo done"));
    assert!(world.say(&["run", "often"]).0 == 0);
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).output().unwrap();
    assert!(remounted.status.success(), "{remounted:?}");
    let (code, out, err) = world.say(&["serve"]);
    assert_eq!(code, 1, "{out}\n{err}");
    let said = format!("{out}{err}");
    assert!(said.contains("can't use the state directory"), "{said}");
    assert!(said.contains("let this user write to it"), "{said}");
}
