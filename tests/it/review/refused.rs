//! Refusals that do not pass by themselves, and runs of which every image fails for one reason: what
//! is sent, what becomes of the rows, who is told, and when.

use std::sync::Arc;
use std::time::Duration;

use lookout::drill::fake_gemini::{Behaviour, FakeGemini, Outcome, Raw};
use lookout::protocol::Line;
use lookout::review::report::Exit;
use lookout::review::reviewer::Fault;
use lookout::review::source::SourceError;
use lookout::watch::{Change, IncidentKind};
use serde_json::{Value, json};

use super::provider::USED_UP;
use super::wire::{Spoken, news_of, run, shipped, stand_in};
use super::world::{Ran, World, answer, names, unreadable};
use crate::gemini_bodies::body;

/// A body that every request meets; the requests of a first round take a while, as real ones do.
async fn always(status: u16, body: String) -> FakeGemini {
    let raw = Outcome::Raw(Raw { status, body, content_type: None });
    let latency = Duration::from_millis(400);
    stand_in(Behaviour { latency, ..Behaviour::always(raw) }).await
}

fn recorded(name: &str) -> String {
    String::from_utf8(body(name)).unwrap()
}

fn over_quota(violations: Value, message: &str) -> String {
    let details = json!([
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "26s"}]);
    let status = "RESOURCE_EXHAUSTED";
    let error = json!({"code": 429, "message": message, "status": status, "details": details});
    json!({ "error": error }).to_string()
}

/// Status, body, incident, exit, a part of the title, of what is said, and of what to do.
fn refusals() -> Vec<(u16, String, IncidentKind, Exit, [&'static str; 3])> {
    let zero = "* Quota exceeded for metric: x, limit: 0, model: m\nPlease retry in 26s.";
    let day = json!([{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
        "quotaValue": "0"}]);
    let minute = json!([{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]);
    let no_quota = ["grants no quota for gemini-3.5-flash-lite", "no quota", "link billing"];
    let gone = ["gemini-3.5-flash-lite is not available", "model", "[reviewer] model"];
    let quota = IncidentKind::QuotaExhausted;
    vec![
        (
            429,
            recorded("err-429-spend-cap"),
            quota,
            Exit::TryLater,
            ["Gemini spend cap reached", "no image is reviewed until", "ai.studio/spend"],
        ),
        (429, over_quota(day, "quota"), quota, Exit::Configuration, no_quota),
        (429, over_quota(minute, zero), quota, Exit::Configuration, no_quota),
        (
            400,
            recorded("err-400-api-key-invalid"),
            IncidentKind::CredentialsRejected,
            Exit::Failed,
            ["rejects API key …main", "is not valid", "GEMINI_API_KEY"],
        ),
        (
            402,
            recorded("err-402-prepay-depleted"),
            quota,
            Exit::TryLater,
            ["prepaid credit used up", "credit", "ai.studio/projects"],
        ),
        (
            404,
            recorded("err-404-model-not-found"),
            IncidentKind::ProviderUnavailable,
            Exit::Configuration,
            gone,
        ),
        (
            404,
            recorded("err-404-model-retired-new-users"),
            IncidentKind::ProviderUnavailable,
            Exit::Configuration,
            gone,
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_permanent_refusal_is_told_once_within_seconds_and_nothing_more_is_sent() {
    for (status, body, kind, exit, words) in refusals() {
        let stand_in = always(status, body).await;
        let mut world = World::with(names(100)).await;
        let spoken = run(&mut world, &shipped(&stand_in, 16)).await;
        let case = format!("{}: {:?}", words[0], spoken.report);
        assert_eq!(spoken.report.exit(), exit, "{case}");
        assert_eq!(spoken.report.signal_line(None), None, "{case}");
        assert_eq!(world.statuses(), [("downloaded".to_owned(), 100)].into(), "{case}");
        assert_eq!(world.noted(USED_UP), 0, "{case}");
        // Twelve of sixteen may begin together; whoever was not under way is never sent.
        let stats = stand_in.stats();
        assert_eq!(stats.calls, stats.most_in_flight, "{case}");
        assert!(stats.calls <= 12, "{case}");
        let problems: Vec<_> = spoken
            .heard
            .iter()
            .filter_map(|(at, line)| {
                let Line::Problem(problem) = line else { return None };
                Some((at.as_secs(), problem.clone()))
            })
            .collect();
        let [(at, problem)] = problems.as_slice() else { panic!("{case}: {problems:?}") };
        assert!(*at <= 5, "{case}");
        assert!(problem.title.as_ref().unwrap().contains(words[0]), "{problem:?}");
        assert!(problem.detail.contains(words[1]), "{problem:?}");
        assert!(problem.action.as_ref().unwrap().contains(words[2]), "{problem:?}");
        let news = news_of(&spoken).await;
        // It is open for an hour, so it is reminded of.
        let told: Vec<_> = news.iter().map(|news| (news.1, news.2)).collect();
        let expected = [Change::Opened, Change::Reminder, Change::Resolved];
        assert_eq!(told, expected.map(|change| (kind, change)), "{case}");
        assert!(news[0].0 <= 5, "{news:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_faults_that_passed_is_not_called_over_by_the_end_of_its_run() {
    let rules = vec![
        lookout::drill::fake_gemini::Rule {
            times: Some(3),
            ..lookout::drill::fake_gemini::Rule::new(Outcome::HighDemand)
        },
        lookout::drill::fake_gemini::Rule::new(Outcome::Raw(Raw {
            status: 404,
            body: recorded("err-404-model-not-found"),
            content_type: None,
        })),
    ];
    let stand_in = stand_in(Behaviour { rules, ..Behaviour::default() }).await;
    let mut world = World::with(names(20)).await;
    let spoken = run(&mut world, &shipped(&stand_in, 16)).await;
    assert!(!spoken.has_line("::lookout::recovered"), "{:?}", spoken.heard);
    assert_eq!(image_errors(&spoken), None);
}

/// The detail of the line that tells that every image failed for one reason.
fn image_errors(spoken: &Spoken) -> Option<String> {
    spoken.heard.iter().find_map(|(_, line)| match line {
        Line::Problem(problem) if problem.kind == "image_errors" => Some(problem.detail.clone()),
        Line::Problem(_)
        | Line::Progress { .. }
        | Line::Recovered { .. }
        | Line::Totals(_)
        | Line::Note { .. } => None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_model_that_says_nothing_to_every_image_costs_no_try_and_is_told() {
    let candidate = json!({"content": {"role": "model"}, "finishReason": "STOP"});
    let stand_in = always(200, json!({"candidates": [candidate]}).to_string()).await;
    let mut world = World::with(names(9)).await;
    let spoken = run(&mut world, &shipped(&stand_in, 16)).await;
    assert_eq!(spoken.report.exit(), Exit::TryLater, "{:?}", spoken.report);
    assert_eq!(world.statuses(), [("downloaded".to_owned(), 9)].into());
    assert_eq!(world.noted(USED_UP), 0);
    let news = news_of(&spoken).await;
    let kind = IncidentKind::ProviderUnavailable;
    assert_eq!(news.first().map(|news| (news.1, news.2)), Some((kind, Change::Opened)));
    assert!(news[0].0 <= 120, "{news:?}");
    // One at a time, as in any outage: each is paid for.
    assert!(stand_in.stats().calls <= 60, "{:?}", stand_in.stats());
}

fn tells_image_errors(ran: &Ran) -> bool {
    ran.has_line("::lookout::problem kind=image_errors")
}

/// A run of so many images of which each meets what the world makes of it.
async fn run_of(n: usize, prepare: impl FnOnce(&mut World)) -> Ran {
    let mut world = World::with(names(n)).await;
    prepare(&mut world);
    world.run().await
}

#[tokio::test(start_paused = true)]
async fn every_image_failing_for_the_models_or_the_providers_reason_is_told_whatever_the_number() {
    for n in [1, 2, 9] {
        let ran = run_of(n, |world| world.provider = Arc::new(|_, _, _| Err(unreadable()))).await;
        assert_eq!(ran.report.counts.errored, n as u64);
        assert!(tells_image_errors(&ran), "{n} unreadable: {:?}", ran.lines);
        let blocked = || Fault::Blocked { reason: "SAFETY".into(), sexually_explicit: false };
        let ran = run_of(n, |world| world.provider = Arc::new(move |_, _, _| Err(blocked()))).await;
        assert_eq!(ran.report.counts.blocked, n as u64);
        assert!(tells_image_errors(&ran), "{n} blocked: {:?}", ran.lines);
    }
}

#[tokio::test(start_paused = true)]
async fn every_image_failing_for_its_own_reason_is_told_from_three_on() {
    for (n, is_told) in [(1, false), (2, false), (3, true), (4, true)] {
        let missing = || SourceError::Picture("404: not found".into());
        let ran = run_of(n, |world| world.bucket = Arc::new(move |_, _| Err(missing()))).await;
        assert_eq!(ran.report.counts.errored, n as u64, "{:?}", ran.report);
        assert_eq!(tells_image_errors(&ran), is_told, "{n} missing: {:?}", ran.lines);
        let mut world = World::with((0..n).map(|n| format!("broken{n}"))).await;
        let ran = world.run().await;
        assert_eq!(ran.report.counts.errored, n as u64, "{:?}", ran.report);
        assert_eq!(tells_image_errors(&ran), is_told, "{n} damaged: {:?}", ran.lines);
    }
}

#[tokio::test(start_paused = true)]
async fn one_image_that_is_reviewed_or_fails_for_another_reason_makes_it_no_one_reason() {
    let ran = run_of(9, |world| {
        world.provider = Arc::new(|name, _, _| match name {
            "p0004" => Ok(answer()),
            _ => Err(unreadable()),
        });
    })
    .await;
    assert!(!tells_image_errors(&ran), "{:?}", ran.lines);
    let mut world = World::with(["broken", "p1", "p2", "p3"]).await;
    world.provider = Arc::new(|_, _, _| Err(unreadable()));
    let ran = world.run().await;
    assert!(!tells_image_errors(&ran), "{:?}", ran.lines);
}

/// The records' own rule: no details that hold this word.
const FORBIDS: &str = "CREATE TRIGGER forbids BEFORE UPDATE ON midbot_images
    WHEN NEW.auto_review_details LIKE '%forbidden%'
    BEGIN SELECT RAISE(ABORT, 'a rule of this table'); END";

fn with_details(details: &str) -> lookout::review::reviewer::Answer {
    lookout::review::reviewer::Answer { details: details.into(), ..answer() }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_does_not_take_its_result_ends_as_an_error_and_the_others_go_on() {
    let mut world = World::with(names(20)).await;
    world.records_rule(FORBIDS);
    world.provider = Arc::new(|name, _, _| {
        Ok(with_details(if name == "p0007" || name == "p0008" { "forbidden" } else { "fine" }))
    });
    let ran = world.run().await;
    let counts = ran.report.counts;
    assert_eq!((counts.succeeded, counts.errored), (18, 2), "{:?}", ran.report);
    assert!(ran.report.signal_line(None).is_some());
    let (status, category, details) = world.row("p0007");
    assert_eq!([status, category], ["auto_review_error"; 2]);
    assert!(details.contains("could not be written into this row"), "{details}");
    assert_eq!(ran.report.spent.tries, 20, "what was paid for is counted");
}

#[tokio::test(start_paused = true)]
async fn a_table_that_takes_no_result_at_all_ends_the_run_before_the_backlog_is_paid_for() {
    let mut world = World::with(names(200)).await;
    world.records_rule(FORBIDS);
    world.provider = Arc::new(|_, _, _| Ok(with_details("forbidden")));
    let ran = world.run().await;
    assert_eq!(ran.report.exit(), Exit::Configuration, "{:?}", ran.report);
    assert!(ran.reviewer.n_calls() <= 40, "{}", ran.reviewer.n_calls());
    let statuses = world.statuses();
    assert!(!statuses.contains_key("processing"), "{statuses:?}");
}
