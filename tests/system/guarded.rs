//! What people are told when the vision service is away, and when a job never says it is done.

use std::time::{Duration, Instant};

use crate::world::World;
use lookout::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings, Outcome};

fn start(behaviour: Behaviour) -> (tokio::runtime::Runtime, FakeGemini) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gemini =
        runtime.block_on(FakeGemini::start(FakeGeminiSettings { port: 0, behaviour })).unwrap();
    (runtime, gemini)
}

const LIMITS: &str = "connect_timeout = \"2s\"\nattempt_timeout = \"2s\"\ngive_up_after = \"10s\"";

#[test]
#[expect(clippy::disallowed_methods, reason = "real processes are timed")]
fn a_service_that_never_answers_costs_no_try_and_the_message_says_it_could_not_be_reached() {
    let (_runtime, gemini) = start(Behaviour::always(Outcome::NeverAnswers));
    let world = World::new();
    world.write_settings(&gemini.base_url, LIMITS);
    world.write("schedules/review.toml", "cron = \"0 4 1 1 *\"\n[job]\nkind = \"review\"\n");
    world.add_pictures("p", 100);

    let begun = Instant::now();
    let (code, out, err) = world.say(&["review"]);
    let took = begun.elapsed();
    assert_eq!(code, 75, "{out}\n{err}");
    assert!(took < Duration::from_secs(30), "it took {took:?}");
    assert!(!out.contains("Bulk processing completed."), "{out}");
    let records = rusqlite::Connection::open(world.path().join("state/records.db")).unwrap();
    let back: i64 = records
        .query_row(
            "SELECT count(*) FROM midbot_images WHERE review_status = 'downloaded'",
            [],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!(back, 100);

    let (code, out, err) = world.say(&["run", "review"]);
    assert_eq!(code, 75, "{out}\n{err}");
    let incidents = world.json(&["incidents", "--all", "--json"]);
    let kinds: Vec<_> = incidents.as_array().unwrap().iter().map(|i| i["kind"].clone()).collect();
    assert_eq!(kinds, ["provider_unavailable"], "{incidents:#}");
    let messages = world.messages();
    assert_eq!(messages.len(), 1, "{messages:#?}");
    let text = messages[0].1.to_string();
    assert!(text.contains("could not be reached") || text.contains("can't be reached"), "{text}");
    assert!(!text.contains("503"), "{text}");
}

#[test]
fn a_job_that_never_says_it_is_done_makes_one_message_and_its_next_good_run_another() {
    let world = World::new();
    world.write(
        "schedules/export.toml",
        "cron = \"0 4 1 1 *\"\nsignal = \"export finished\"\n[job]\nkind = \"command\"\n\
         argv = [\"sh\", \"-c\", \"echo exporting; cat done.txt\"]\n",
    );
    world.write("done.txt", "not yet\n");
    let (code, out, err) = world.say(&["run", "export"]);
    assert_eq!(code, 1, "{out}\n{err}");
    world.write("done.txt", "export finished\n");
    let (code, out, err) = world.say(&["run", "export"]);
    assert_eq!(code, 0, "{out}\n{err}");
    let types: Vec<String> = world
        .messages()
        .iter()
        .map(|(_, body)| format!("{} {}", body["type"], body["data"]["kind"]))
        .collect();
    assert_eq!(
        types,
        [
            "\"lookout.incident.opened\" \"signal_missing\"",
            "\"lookout.incident.resolved\" \"signal_missing\""
        ]
    );
}
