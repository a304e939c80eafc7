//! kill -9 of daemon, keeper and review at random moments.
//!
//! Afterwards each due slot has exactly one verdict, no row is left in `processing`, and every
//! incident was told, never twice without the mark of a possible repeat.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::world::{World, kill_9, pause};
use lookout::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings};

/// Of each kind; `.ci/soak` raises it.
#[expect(clippy::disallowed_methods, reason = "a test's size comes from the environment")]
fn n_kills() -> usize {
    std::env::var("LOOKOUT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

const SCHEDULE: &str = "cron = \"*/5 * * * * *\"\ntime_box = \"3s\"\nsignal_grace = \"1s\"\n\
     kill_grace = \"1s\"\nstart_grace = \"2s\"\nstall_after = \"3s\"\n[job]\nkind = \"review\"\nbatch = 20\n";

#[test]
fn killing_daemon_keeper_and_review_at_random_loses_no_slot_no_row_and_no_message() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gemini = runtime
        .block_on(FakeGemini::start(FakeGeminiSettings {
            port: 0,
            behaviour: Behaviour::slow(Duration::from_millis(150)),
        }))
        .unwrap();
    let mut world = World::new();
    world.write_settings(&gemini.base_url, "max_in_flight = 4");
    world.write("schedules/review.toml", SCHEDULE);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    world.start_daemon();
    let n_rounds = n_kills();
    for round in 0..n_rounds {
        world.add_pictures(&format!("r{round:03}"), 15);
        for victim in ["serve", "keeper", "review"] {
            pause(Duration::from_millis(random.u64(50..2500)));
            if victim == "serve" {
                world.kill_daemon();
                pause(Duration::from_millis(random.u64(0..400)));
                world.start_daemon();
            } else {
                for pid in world.processes(victim) {
                    kill_9(pid);
                }
            }
        }
    }
    settle(&world);
    every_due_slot_has_one_verdict(&world);
    no_row_is_left_in_processing(&world, n_rounds * 15);
    every_incident_was_told(&world);
    world.kill_daemon();
    drop(gemini);
}

/// Waits until everything is reviewed and all is quiet.
fn settle(world: &World) {
    world.wait_for("the review of all pictures", Duration::from_secs(240), |world| {
        let rows = rows_by_status(world);
        let open: u64 = ["downloaded", "processing"].iter().filter_map(|s| rows.get(*s)).sum();
        (open == 0 && rows.contains_key("auto_review_success")).then_some(())
    });
    world.wait_for("the end of every incident", Duration::from_secs(60), |world| {
        world.json(&["incidents", "--json"]).as_array().unwrap().is_empty().then_some(())
    });
}

fn every_due_slot_has_one_verdict(world: &World) {
    let slots = world.json(&["history", "--json", "-n", "100000"]);
    let slots = slots.as_array().unwrap();
    let newest_judged = slots
        .iter()
        .filter(|s| !s["verdict"].is_null())
        .map(|s| s["due_at"].as_str().unwrap())
        .max();
    let mut seen = BTreeSet::new();
    for slot in slots {
        let due_at = slot["due_at"].as_str().unwrap();
        assert!(seen.insert(due_at), "two slots at {due_at}");
        if Some(due_at) < newest_judged {
            assert!(!slot["verdict"].is_null(), "no verdict: {slot:#}");
        }
    }
    assert!(seen.len() >= n_kills() / 2, "only {} slots", seen.len());
    // Computed from the schedule, not from the rows: a slot that was never written is missing here.
    let audit = world.json(&["audit", "--from", "1d", "--json"]);
    assert_eq!(audit["ok"], true, "{audit:#}");
}

fn no_row_is_left_in_processing(world: &World, n_pictures: usize) {
    let rows = rows_by_status(world);
    assert_eq!(rows.get("auto_review_success"), Some(&(n_pictures as u64)), "{rows:?}");
}

fn rows_by_status(world: &World) -> BTreeMap<String, u64> {
    let records = world.path().join("state/records.db");
    let Ok(records) =
        rusqlite::Connection::open_with_flags(records, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
    else {
        return BTreeMap::new();
    };
    let Ok(mut query) =
        records.prepare("SELECT review_status, count(*) FROM midbot_images GROUP BY review_status")
    else {
        return BTreeMap::new();
    };
    query
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn every_incident_was_told(world: &World) {
    let incidents = world.json(&["incidents", "--all", "--json"]);
    let messages = world.messages();
    for incident in incidents.as_array().unwrap() {
        let number = incident["id"].as_i64().unwrap();
        let told = messages.iter().any(|(_, body)| body["data"]["incident_id"] == number);
        assert!(told, "incident {number} was told to nobody: {incident:#}");
    }
    let mut by_id: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for (id, body) in &messages {
        by_id.entry(id).or_default().push(body["data"]["possible_repeat"] == true);
    }
    for (id, marks) in by_id {
        assert!(
            marks.iter().skip(1).all(|marked| *marked),
            "{id} arrived {} times, not all repeats marked: {marks:?}",
            marks.len()
        );
    }
}
