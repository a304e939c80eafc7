//! Every recorded body of Gemini through the whole review: what becomes of the rows, of the run and
//! of the key, and what a person is told.
//!
//! `gemini_bodies.rs` has what each means to the classifier; here is what follows from it.

use std::collections::BTreeSet;

use lookout::drill::fake_gemini::{Behaviour, Outcome, Raw, Rule};
use lookout::protocol::Line;
use lookout::review::report::Exit;
use lookout::review::settings::Project;
use lookout::secret::Secret;

use super::provider::USED_UP;
use super::wire::{Spoken, run, shipped, stand_in};
use super::world::World;
use crate::gemini_bodies::{body, folder, status_of};

/// What becomes of a run that meets nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alone {
    /// It stops at once; the rows go back untouched; a person must see to the key.
    Credentials,
    /// It stops; the rows go back untouched; later there is quota again.
    Quota,
    /// It stops; the rows go back untouched; a person must see to the configuration.
    Setup,
    /// It waits, gives up and says that the provider is away; the rows go back untouched.
    Outage,
    /// It goes on; each row is an error after three tries.
    Error,
    /// It goes on; each row is an error after one call, for a person to look at.
    Blocked,
}

/// What a second project's key, which works, makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spare {
    /// The first key is left alone, and every row is reviewed with the second.
    Helps,
    /// It is not asked: the same would happen, or it is nobody's key that is at fault.
    NotAsked,
}

use Alone::{Blocked, Credentials, Error, Outage, Quota, Setup};
use Spare::{Helps, NotAsked};

/// Body, effect on run and tries, effect on the key, and a part of what a person reads.
type Row = (&'static str, Alone, Spare, &'static str);

#[rustfmt::skip]
const BODIES: [Row; 51] = [
    ("batch-get-succeeded-file", Outage, NotAsked, "without an answer"),
    ("blocked-prompt-other", Blocked, NotAsked, "blocked by Gemini: OTHER"),
    ("blocked-prompt-prohibited-content-images", Blocked, NotAsked, "blocked by Gemini: PROHIBITED_CONTENT"),
    ("blocked-prompt-safety-ratings", Blocked, NotAsked, "blocked by Gemini: PROHIBITED_CONTENT"),
    ("counttokens-ok", Outage, NotAsked, "without an answer"),
    ("err-400-api-key-expired", Credentials, Helps, "has expired: make a new one"),
    ("err-400-api-key-invalid", Credentials, Helps, "the API key is not valid"),
    ("err-400-generic-image", Error, NotAsked, "Gemini can't read this picture"),
    ("err-400-location", Setup, Helps, "may not be used from here"),
    ("err-400-token-limit", Error, NotAsked, "too long for the model"),
    ("err-400-unknown-field", Setup, NotAsked, "Unknown name"),
    ("err-401-access-token-type-unsupported", Credentials, Helps, "bound to a service account"),
    ("err-402-prepay-depleted", Quota, Helps, "prepaid credit is used up"),
    ("err-403-leaked-key", Credentials, Helps, "found published: make a new one"),
    ("err-403-no-key", Credentials, Helps, "no API key arrived"),
    ("err-403-project-denied", Credentials, Helps, "ask Google's support"),
    ("err-403-service-blocked", Credentials, Helps, "allow it in the key's restrictions"),
    ("err-403-service-disabled", Credentials, Helps, "not switched on in the project"),
    ("err-404-counttokens", Setup, NotAsked, "nonexistent-model"),
    ("err-404-model-not-found", Setup, NotAsked, "asked for gemini-3.5-flash-lite under v1beta"),
    ("err-404-model-retired-new-users", Setup, Helps, "use models/gemini-3.5-flash-lite"),
    ("err-429-free-all-three-quotas", Quota, Helps, "quota for today is used up"),
    ("err-429-free-tokens-per-minute", Quota, Helps, "limit: 250000 input tokens a minute"),
    ("err-429-help-only", Quota, Helps, "too many requests"),
    ("err-429-no-details", Quota, Helps, "too many requests"),
    ("err-429-paid-tokens-per-minute-gemini38", Quota, Helps, "limit: 3000000 input tokens a minute"),
    ("err-429-spend-cap", Quota, Helps, "monthly spend cap"),
    ("err-429-spend-rate", Quota, NotAsked, "all its projects must wait"),
    ("err-499-cancelled", Outage, NotAsked, "Gemini answered 499"),
    ("err-500-internal", Outage, NotAsked, "Gemini answered 500"),
    ("err-503-deadline-expired", Outage, NotAsked, "Deadline expired"),
    ("err-503-high-demand", Outage, NotAsked, "currently experiencing high demand"),
    ("err-503-overloaded", Outage, NotAsked, "Gemini answered 503"),
    ("err-504-deadline-exceeded", Outage, NotAsked, "Gemini answered 504"),
    ("finish-safety-empty-content", Blocked, NotAsked, "blocked by Gemini: SAFETY"),
    ("max-tokens-content-empty-object-gemini38-flash", Error, NotAsked, "cut off at"),
    ("max-tokens-no-parts-gemini25-pro", Error, NotAsked, "cut off at"),
    ("max-tokens-truncated-text", Error, NotAsked, "cut off at"),
    ("models-list-ok", Outage, NotAsked, "without an answer"),
    ("ok-gemini31-flash-lite", Error, NotAsked, "prose"),
    ("ok-gemini35-flash", Error, NotAsked, "prose"),
    ("ok-gemini36-flash-functioncall", Error, NotAsked, "holds no text"),
    ("ok-gemini38-flash", Error, NotAsked, "prose"),
    ("ok-image-gemini20-flash", Error, NotAsked, "prose"),
    ("ok-image-gemini25-flash", Error, NotAsked, "prose"),
    ("ok-image-gemini3-flash", Error, NotAsked, "prose"),
    ("ok-structured-json-gemini25-flash-thinking", Error, NotAsked, "agreed form"),
    ("ok-structured-json-gemini3-flash", Error, NotAsked, "agreed form"),
    ("ok-thought-parts-gemini3-pro", Error, NotAsked, "prose"),
    ("ok-two-images-gemini3-flash", Error, NotAsked, "prose"),
    ("refusal-as-text-stop", Error, NotAsked, "I am programmed to be"),
];

const MAIN: &str = "fake-key-main";

/// A run of two rows whose every call with the main key meets this body, and most calls that one
/// picture made.
async fn meet(name: &str, keys: &[&str]) -> (World, Spoken, u64) {
    let body = String::from_utf8(body(name)).unwrap();
    let raw = Outcome::Raw(Raw { status: status_of(name), body, content_type: None });
    let rule = Rule { key: Some(MAIN.into()), ..Rule::new(raw) };
    let stand_in = stand_in(Behaviour { rules: vec![rule], ..Behaviour::default() }).await;
    let mut settings = shipped(&stand_in, 16);
    let projects = keys
        .iter()
        .enumerate()
        .map(|(n, key)| Project { name: format!("project-{n}"), keys: vec![Secret::new(*key)] });
    settings.projects = projects.collect();
    let mut world = World::with(["a", "b"]).await;
    let spoken = run(&mut world, &settings).await;
    let most_calls = stand_in.stats().most_calls_of_one_picture;
    (world, spoken, most_calls)
}

/// Everything that a person can read of it.
fn words(world: &World, spoken: &Spoken) -> String {
    let lines: Vec<String> = spoken.heard.iter().map(|(_, line)| line.to_string()).collect();
    let complaint = spoken.report.complaint().unwrap_or_default();
    format!("{}\n{complaint}\n{}", lines.join("\n"), world.row("a").2)
}

fn check(name: &str, alone: Alone, met: &(World, Spoken, u64)) {
    let (world, spoken, most_calls) = met;
    let report = &spoken.report;
    let (exit, kind) = match alone {
        Credentials => (Exit::Failed, "credentials_rejected"),
        Quota => (Exit::TryLater, "quota_exhausted"),
        Setup => (Exit::Configuration, "provider_unavailable"),
        Outage => (Exit::TryLater, "provider_unavailable"),
        // The service's word on the picture itself: two of them are told of nobody.
        Error if name.starts_with("err-400") => (Exit::Done, ""),
        Error | Blocked => (Exit::Done, "image_errors"),
    };
    assert_eq!(report.exit(), exit, "{name}: {report:?}");
    assert_eq!(report.signal_line(None).is_some(), exit == Exit::Done, "{name}: signal");
    let problems: BTreeSet<&str> = spoken
        .heard
        .iter()
        .filter_map(|(_, line)| {
            let Line::Problem(problem) = line else { return None };
            Some(problem.kind.as_str())
        })
        .collect();
    let (status, used_up, calls) = match alone {
        Credentials | Quota | Setup | Outage => ("downloaded", 0, 1..=80),
        Error => ("auto_review_error", 6, 3..=12),
        Blocked => ("auto_review_error", 0, 1..=1),
    };
    assert_eq!(world.statuses(), [(status.to_owned(), 2)].into(), "{name}");
    assert_eq!(world.noted(USED_UP), used_up, "{name}: tries");
    assert!(calls.contains(most_calls), "{name}: {most_calls} calls of one picture");
    match kind {
        // A 429 that says nothing may be an overload as well.
        "quota_exhausted" => assert!(problems.contains(kind), "{name}: {problems:?}"),
        "" => assert!(problems.is_empty(), "{name}: {problems:?}"),
        kind => assert_eq!(problems, [kind].into(), "{name}"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_recorded_body_has_its_effect_on_rows_run_and_key_and_is_told() {
    for (name, alone, spare, told) in BODIES {
        let met = meet(name, &[MAIN]).await;
        check(name, alone, &met);
        let words = words(&met.0, &met.1);
        assert!(words.contains(told), "{name}: {words}");
        assert!(!words.contains(MAIN), "{name} tells the key: {words}");
        let met = meet(name, &[MAIN, "fake-key-spare"]).await;
        match spare {
            Helps => {
                assert_eq!(met.1.report.counts.succeeded, 2, "{name}: {:?}", met.1.report);
                assert_eq!(met.0.noted(USED_UP), 0, "{name}");
            }
            NotAsked => check(name, alone, &met),
        }
    }
}

#[test]
fn no_recorded_body_is_left_out() {
    let known: BTreeSet<String> = BODIES.iter().map(|row| row.0.to_owned()).collect();
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(known, there);
}
