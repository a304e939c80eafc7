//! How soon runs start and troubles are found, measured on real processes.
//!
//! A start is when the run's keeper has been started, as the daemon writes it down; it is compared
//! with a bare timer in this process at the same moments. When the job's own first process begins
//! is printed, too: two programs have been loaded by then. The strict limits are `.ci/soak`'s, in
//! release and on a machine that has nothing else to do; CI's has, so there only a start that waits
//! for the next tick of the scheduler fails.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::world::{World, is_soak};

/// Lookout's schedule and its job: says when it began, and the signal.
const EVERY_SECOND: &str = "cron = \"* * * * * *\"\ntime_box = \"700ms\"\nsignal = \"done\"\n\
     start_grace = \"900ms\"\nsignal_grace = \"100ms\"\nkill_grace = \"100ms\"\n[job]\nkind = \"command\"\n\
     argv = [\"echo\", \"done\"]\n";

#[test]
fn a_job_every_second_starts_as_soon_as_a_bare_timer_rings() {
    let seconds = if is_soak() { 600 } else { 20 };
    let mut world = World::new();
    world.write("lookout.toml", "[service]\ninstance = \"test\"\nbind = \"127.0.0.1:0\"\n");
    world.write("schedules/tick.toml", EVERY_SECOND);
    world.start_daemon();
    world.wait_for("the first run", Duration::from_secs(30), |world| {
        world.json(&["history", "--json"]).as_array().map(Vec::len).filter(|n| *n > 2)
    });
    let bare = lateness_of_a_bare_timer(seconds);
    let slots = world.json(&["history", "--json", "-n", "100000"]);
    let begun = lateness_of_jobs(slots.as_array().unwrap());
    let started = lateness_of_starts(&world);
    println!("bare timer {bare:?}\nstarts {started:?}\njobs' own processes {begun:?}");
    assert!(started.n >= bare.n, "{started:?}");
    assert!(started.median >= 0.0, "before its time: {started:?}");
    let (median, worst) = if is_soak() { (5.0, 100.0) } else { (150.0, 900.0) };
    assert!(started.median < bare.median + median, "{started:?}, a bare timer {bare:?}");
    assert!(started.worst < bare.worst + worst, "{started:?}, a bare timer {bare:?}");
}

/// Milliseconds.
#[derive(Debug)]
struct Lateness {
    n: usize,
    median: f64,
    worst: f64,
}

impl Lateness {
    fn of(mut late: Vec<f64>) -> Self {
        late.sort_by(f64::total_cmp);
        Self { n: late.len(), median: late[late.len() / 2], worst: late[late.len() - 1] }
    }
}

fn wall() -> f64 {
    let at = clock_gettime(ClockId::Realtime);
    at.tv_sec as f64 * 1e3 + at.tv_nsec as f64 / 1e6
}

fn lateness_of_a_bare_timer(seconds: u32) -> Lateness {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut late = Vec::new();
        for _ in 0..seconds {
            let now = wall();
            let due = (now / 1e3).floor() * 1e3 + 1e3;
            let wait = Duration::from_secs_f64((due - now) / 1e3);
            tokio::time::sleep_until(tokio::time::Instant::now() + wait).await;
            late.push(wall() - due);
        }
        Lateness::of(late)
    })
}

fn lateness_of_jobs(slots: &[Value]) -> Lateness {
    let time = |slot: &Value, name: &str| {
        slot[name].as_str().map(|text| text.parse::<DateTime<Utc>>().unwrap())
    };
    let late = slots
        .iter()
        .filter_map(|slot| {
            let late: TimeDelta = time(slot, "started_at")? - time(slot, "due_at")?;
            Some(late.num_microseconds().unwrap() as f64 / 1e3)
        })
        .collect();
    Lateness::of(late)
}

fn lateness_of_starts(world: &World) -> Lateness {
    let ledger = rusqlite::Connection::open(world.path().join("state/guard.db")).unwrap();
    let sql = "SELECT keeper_started_at - due_at FROM slots WHERE keeper IS NOT NULL";
    let mut query = ledger.prepare(sql).unwrap();
    let late = query.query_map([], |row| row.get::<_, f64>(0)).unwrap().map(Result::unwrap);
    Lateness::of(late.collect())
}
