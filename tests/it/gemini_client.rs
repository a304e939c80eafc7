//! The client against a service that misbehaves in every way we know of.
//!
//! The service is a real HTTP server in this process that answers by a script; pauses are
//! milliseconds, so that nothing here takes long.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use lookout::clock::SystemClock;
use lookout::review::prompt::Prompt;
use lookout::review::reviewer::gemini::backoff::Backoff;
use lookout::review::reviewer::gemini::check::Finding;
use lookout::review::reviewer::gemini::client::Gemini;
use lookout::review::reviewer::{
    DropCause, Fault, Outcome, Prepared, Refusal, RefusalCause, ReviewRequest, Reviewer,
};
use lookout::review::settings::{OnBlocked, Price, Project, ReviewerSettings};
use lookout::secret::Secret;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::gemini_bodies::{GOOD, body, reply, status_of};

/// What the service does with one request.
#[derive(Clone)]
enum Act {
    Answer(u16, Vec<u8>),
    /// The same after a while.
    Late(Duration, u16, Vec<u8>),
    Hang,
}

/// A request as it arrived.
struct Seen {
    at: Instant,
    path: String,
    query: Option<String>,
    key: String,
    server_timeout: Option<String>,
    body: Value,
}

#[derive(Default)]
struct Service {
    script: Mutex<VecDeque<Act>>,
    /// When the script is at its end.
    always: Mutex<Option<Act>>,
    seen: Mutex<Vec<Seen>>,
    arrived: Notify,
}

impl Service {
    fn seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn keys(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.key.clone()).collect()
    }

    fn then_always(&self, act: Act) {
        *self.always.lock().unwrap() = Some(act);
    }

    fn config(&self, n: usize) -> Value {
        self.seen.lock().unwrap()[n].body["generationConfig"].clone()
    }
}

async fn serve(State(service): State<Arc<Service>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 50_000_000).await.unwrap();
    let header =
        |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    service.seen.lock().unwrap().push(Seen {
        at: Instant::now(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        key: header("x-goog-api-key").unwrap_or_default(),
        server_timeout: header("x-server-timeout"),
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    });
    let scripted = service.script.lock().unwrap().pop_front();
    let act = scripted.or_else(|| service.always.lock().unwrap().clone());
    service.arrived.notify_one();
    match act.unwrap_or_else(good) {
        Act::Answer(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Act::Late(wait, status, body) => {
            tokio::time::sleep(wait).await;
            (StatusCode::from_u16(status).unwrap(), body).into_response()
        }
        Act::Hang => std::future::pending().await,
    }
}

fn good() -> Act {
    said(GOOD)
}

fn said(text: &str) -> Act {
    Act::Answer(200, serde_json::to_vec(&reply(text)).unwrap())
}

fn finished(reason: &str) -> Act {
    let mut value = reply(GOOD);
    value["candidates"][0]["finishReason"] = json!(reason);
    Act::Answer(200, serde_json::to_vec(&value).unwrap())
}

fn recorded(name: &str) -> Act {
    Act::Answer(status_of(name), body(name))
}

fn error(status: u16, message: &str) -> Act {
    let value = json!({"error": {"code": status, "message": message, "status": "X"}});
    Act::Answer(status, serde_json::to_vec(&value).unwrap())
}

fn minute_quota(delay: &str) -> Act {
    let value = json!({"error": {"code": 429, "message": "quota", "details": [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]}});
    Act::Answer(429, serde_json::to_vec(&value).unwrap())
}

const PATIENCE: Backoff = Backoff {
    pause: Duration::from_millis(2),
    max_pause: Duration::from_millis(10),
    probe: Duration::from_millis(150),
    max_probe: Duration::from_millis(300),
    vague: Duration::from_millis(5),
};

fn project(name: &str, keys: &[&str]) -> Project {
    Project { name: name.into(), keys: keys.iter().map(|key| Secret::new(*key)).collect() }
}

pub(crate) fn settings(base_url: &str) -> ReviewerSettings {
    ReviewerSettings {
        model: "gemini-3.5-flash-lite".into(),
        base_url: base_url.into(),
        api_version: "v1beta".into(),
        max_in_flight: 16,
        connect_timeout: Duration::from_secs(2),
        attempt_timeout: Duration::from_secs(20),
        try_timeout: Duration::from_secs(60),
        give_up_after: Duration::from_secs(600),
        on_blocked: OnBlocked::Error,
        projects: vec![project("main", &["fake-key-of-main"])],
        prompt_file: None,
        prices: BTreeMap::new(),
    }
}

fn client(settings: &ReviewerSettings) -> Gemini {
    let clock = Arc::new(SystemClock);
    Gemini::with_backoff(settings, Prompt::built_in(), clock, PATIENCE).unwrap()
}

async fn listen(listener: tokio::net::TcpListener, service: &Arc<Service>) {
    let router = Router::new().fallback(serve).with_state(Arc::clone(service));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
}

async fn service(script: impl IntoIterator<Item = Act>) -> (Arc<Service>, ReviewerSettings) {
    let service = Arc::new(Service::default());
    service.script.lock().unwrap().extend(script);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = settings(&format!("http://{}", listener.local_addr().unwrap()));
    listen(listener, &service).await;
    (service, settings)
}

fn picture() -> Prepared {
    Prepared {
        mime_type: "image/jpeg",
        bytes: Bytes::from_static(b"not really a jpeg"),
        width: 1,
        height: 1,
        sha256: String::new(),
    }
}

async fn review(gemini: &Gemini) -> Outcome {
    review_until(gemini, Duration::from_secs(120), None).await
}

async fn review_until(gemini: &Gemini, limit: Duration, correction: Option<&str>) -> Outcome {
    let picture = picture();
    // Each is about another image.
    let image = fastrand::u64(..).to_string();
    let deadline = Instant::now() + limit;
    gemini.review(ReviewRequest { image: &image, picture: &picture, correction, deadline }).await
}

fn fault(outcome: Outcome) -> Fault {
    outcome.result.expect_err("an answer where there should be none")
}

#[tokio::test]
async fn a_good_call_is_as_documented_and_its_key_is_in_the_header_only() {
    let (service, settings) = service([]).await;
    let outcome = review(&client(&settings)).await;
    let answer = outcome.result.unwrap();
    assert!(answer.humans && answer.details == "A person on a beach.");
    let call = outcome.call;
    assert_eq!((call.attempts, call.tokens_in, call.tokens_out), (1, 1620, 100));
    let usd = call.usd.unwrap();
    assert!((usd - (1620.0 * 0.30 + 100.0 * 2.50) / 1e6).abs() < 1e-12, "{usd}");
    assert_eq!(call.model_version.as_deref(), Some("gemini-3.5-flash-lite"));
    assert_eq!(call.prompt_hash, Prompt::built_in().hash());
    let seen = service.seen.lock().unwrap();
    assert_eq!(seen[0].path, "/v1beta/models/gemini-3.5-flash-lite:generateContent");
    assert_eq!((seen[0].query.as_deref(), seen[0].key.as_str()), (None, "fake-key-of-main"));
    assert_eq!(seen[0].server_timeout.as_deref(), Some("18"));
}

#[tokio::test]
async fn a_single_503_is_healed_within_the_try_and_counted() {
    let (service, settings) =
        service([recorded("err-503-high-demand"), recorded("err-500-internal")]).await;
    let gemini = client(&settings);
    let outcome = review(&gemini).await;
    assert!(outcome.result.is_ok());
    assert_eq!((outcome.call.attempts, service.seen()), (3, 3));
    let health = gemini.health();
    assert_eq!((health.calls, health.faults, health.last_status), (3, 2, Some(500)));
    assert!(!health.breaker_open);
}

#[tokio::test]
async fn a_refused_connection_is_no_503_and_opens_the_breaker() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut settings = settings(&format!("http://{address}"));
    settings.try_timeout = Duration::from_millis(1000);
    let gemini = client(&settings);
    let outcome = review(&gemini).await;
    assert_eq!(outcome.call.attempts, 5);
    let Fault::Unavailable { status: None, reason } = fault(outcome) else { panic!("status") };
    assert!(reason.starts_with("Gemini could not be reached"), "{reason}");
    assert!(!reason.contains("503") && !reason.contains(&address.to_string()), "{reason}");
    assert!(!gemini.health().breaker_open, "one picture alone is no outage");
    let outcome = review(&gemini).await;
    assert!(matches!(fault(outcome), Fault::Unavailable { status: None, .. }));
    assert!(gemini.health().breaker_open);
    // The service comes up; the next probe finds it.
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let service = Arc::new(Service::default());
    listen(listener, &service).await;
    assert!(review(&gemini).await.result.is_ok());
    assert!(!gemini.health().breaker_open);
}

#[tokio::test]
async fn a_tls_handshake_that_is_cut_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = settings(&format!("https://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let Fault::Unavailable { status: None, reason } = fault(review(&client(&settings)).await)
    else {
        panic!("not unavailable");
    };
    assert!(reason.starts_with("Gemini could not be reached"), "{reason}");
}

#[tokio::test]
async fn a_service_that_never_answers_is_left_after_the_attempts_limit() {
    let (service, mut settings) = service([]).await;
    service.then_always(Act::Hang);
    settings.attempt_timeout = Duration::from_millis(250);
    settings.try_timeout = Duration::from_millis(900);
    let started = Instant::now();
    let outcome = review(&client(&settings)).await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!((2..=4).contains(&outcome.call.attempts), "{}", outcome.call.attempts);
    assert_eq!(outcome.call.possibly_billed, outcome.call.attempts);
    let Fault::Unavailable { status: None, reason } = fault(outcome) else { panic!("status") };
    assert!(reason.starts_with("Gemini did not answer"), "{reason}");
}

#[tokio::test]
async fn no_attempt_lasts_beyond_the_askers_deadline() {
    let (service, settings) = service([]).await;
    service.then_always(Act::Hang);
    let gemini = client(&settings);
    let started = Instant::now();
    let outcome = review_until(&gemini, Duration::from_millis(400), None).await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(fault(outcome), Fault::OutOfTime);
    assert_eq!(gemini.health().faults, 0, "our own deadline is nobody's fault");
}

#[tokio::test]
async fn an_outage_lets_one_probe_through_at_a_time_and_ends_with_the_first_answer() {
    let (service, settings) = service([]).await;
    service.then_always(recorded("err-503-overloaded"));
    let gemini = Arc::new(client(&settings));
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let gemini = Arc::clone(&gemini);
        tries.spawn(async move { review(&gemini).await });
    }
    // What is under way when it opens comes to its end; every request after that is a probe.
    let (under_way, n_probes) = (5 + 16, 3);
    while service.seen() < under_way + n_probes {
        service.arrived.notified().await;
    }
    assert!(gemini.health().breaker_open);
    let arrivals: Vec<Instant> = service.seen.lock().unwrap().iter().map(|s| s.at).collect();
    for pair in arrivals[under_way..].windows(2) {
        let apart = pair[1] - pair[0];
        assert!(apart >= PATIENCE.probe, "probes {apart:?} apart");
    }
    service.then_always(good());
    let mut answers = 0;
    while let Some(outcome) = tries.join_next().await {
        answers += usize::from(outcome.unwrap().result.is_ok());
    }
    assert!(answers >= 15, "{answers}");
    assert!(!gemini.health().breaker_open);
}

#[tokio::test]
async fn who_waited_for_quota_while_the_service_went_away_does_not_pass_the_breaker() {
    let away = Act::Late(Duration::from_millis(150), 503, body("err-503-overloaded"));
    let under_way = 7;
    let (service, settings) =
        service([minute_quota("0.5s")].into_iter().chain(vec![away; under_way - 1])).await;
    service.then_always(recorded("err-503-overloaded"));
    let gemini = Arc::new(client(&settings));
    let mut tries = tokio::task::JoinSet::new();
    let mut begin = |n: usize| {
        for _ in 0..n {
            let gemini = Arc::clone(&gemini);
            tries.spawn(async move { review(&gemini).await });
        }
    };
    begin(under_way);
    while service.seen() < under_way {
        service.arrived.notified().await;
    }
    while gemini.health().calls == 0 {
        tokio::task::yield_now().await;
    }
    // The project rests, the breaker is closed.
    begin(16);
    while service.seen() < under_way + 4 {
        service.arrived.notified().await;
    }
    let arrivals: Vec<Instant> = service.seen.lock().unwrap().iter().map(|s| s.at).collect();
    assert!(arrivals[under_way] - arrivals[0] >= Duration::from_millis(500), "the rest was kept");
    for pair in arrivals[under_way..].windows(2) {
        let apart = pair[1] - pair[0];
        assert!(apart >= PATIENCE.probe, "probes {apart:?} apart");
    }
}

#[tokio::test]
async fn a_picture_that_always_draws_a_500_does_not_stop_the_others() {
    let (service, settings) = service([]).await;
    let gemini = client(&settings);
    service.script.lock().unwrap().extend([good(), good()]);
    service.then_always(recorded("err-500-internal"));
    assert!(review(&gemini).await.result.is_ok());
    assert!(review(&gemini).await.result.is_ok());
    let fault = fault(review(&gemini).await);
    assert!(matches!(fault, Fault::Unavailable { status: Some(500), .. }), "{fault:?}");
    assert!(!gemini.health().breaker_open);
    service.then_always(good());
    assert!(review(&gemini).await.result.is_ok());
}

#[tokio::test]
async fn a_dead_key_is_not_used_again_and_the_last_one_stops_the_run() {
    let (service, mut settings) = service([recorded("err-403-leaked-key")]).await;
    settings.projects = vec![project("main", &["fake-key-number-1", "fake-key-number-2"])];
    let gemini = client(&settings);
    assert!(review(&gemini).await.result.is_ok());
    assert!(review(&gemini).await.result.is_ok());
    assert_eq!(service.keys(), ["fake-key-number-1", "fake-key-number-2", "fake-key-number-2"]);
    service.then_always(recorded("err-400-api-key-invalid"));
    let Fault::Refused(Refusal { cause: RefusalCause::Key, reason, .. }) =
        fault(review(&gemini).await)
    else {
        panic!("kind")
    };
    assert!(reason.contains("…er-1 of project main: Google has blocked"), "{reason}");
    assert!(reason.contains("…er-2 of project main: the API key is not valid"), "{reason}");
    let n_calls = service.seen();
    assert!(matches!(fault(review(&gemini).await), Fault::Refused(_)));
    assert_eq!(service.seen(), n_calls, "nothing is sent any more");
}

#[tokio::test]
async fn what_was_dropped_is_named_while_another_key_lives() {
    let script = [recorded("err-403-leaked-key"), recorded("err-402-prepay-depleted")];
    let (service, mut settings) = service(script).await;
    settings.projects = vec![
        project("main", &["fake-key-number-1", "fake-key-number-2"]),
        project("spare", &["fake-key-of-spare"]),
    ];
    let gemini = client(&settings);
    assert_eq!(gemini.health().dropped, []);
    assert!(review(&gemini).await.result.is_ok());
    assert_eq!(service.seen(), 3);
    let dropped = gemini.health().dropped;
    let named: Vec<_> =
        dropped.iter().map(|d| (d.project.as_str(), d.key.as_deref(), d.cause)).collect();
    let expected =
        [("main", Some("…er-1"), DropCause::Rejected), ("main", None, DropCause::OutOfCredit)];
    assert_eq!(named, expected);
    assert!(dropped[0].reason.contains("…er-1 of project main: Google has blocked"));
    assert!(!format!("{dropped:?}").contains("fake-key"), "{dropped:?}");
}

#[tokio::test]
async fn a_limit_by_the_minute_is_waited_for_with_the_same_key() {
    let (service, mut settings) = service([minute_quota("0.3s")]).await;
    settings.projects = vec![project("main", &["fake-key-number-1", "fake-key-number-2"])];
    let gemini = client(&settings);
    let started = Instant::now();
    assert!(review(&gemini).await.result.is_ok());
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(service.keys(), ["fake-key-number-1", "fake-key-number-1"]);
    assert_eq!(gemini.health().faults, 0, "a limit is no fault");
    let most = settings.max_in_flight;
    assert_eq!(gemini.concurrency(), most * 3 / 8, "half of the three quarters it began with");
}

#[tokio::test]
async fn a_used_up_day_moves_on_to_the_next_project_and_then_ends_the_run() {
    let (service, mut settings) = service([recorded("err-429-free-all-three-quotas")]).await;
    settings.projects =
        vec![project("main", &["fake-key-of-main"]), project("spare", &["fake-key-of-spare"])];
    let gemini = client(&settings);
    assert!(review(&gemini).await.result.is_ok());
    assert_eq!(service.keys(), ["fake-key-of-main", "fake-key-of-spare"]);
    service.then_always(recorded("err-429-free-all-three-quotas"));
    let Fault::Quota { until: Some(until), reason } = fault(review(&gemini).await) else {
        panic!("kind");
    };
    assert!(reason.contains("quota for today is used up"), "{reason}");
    let hour = until.format("%M:%S").to_string();
    assert_eq!(hour, "00:00");
}

#[tokio::test]
async fn what_concerns_a_project_is_asked_of_the_next_one_once() {
    for (name, expected) in [
        ("err-400-location", RefusalCause::Model),
        ("err-404-model-retired-new-users", RefusalCause::Model),
        ("err-402-prepay-depleted", RefusalCause::Credit),
        ("err-429-spend-cap", RefusalCause::SpendCap),
        ("err-403-service-disabled", RefusalCause::Key),
    ] {
        let (service, mut settings) = service([]).await;
        service.then_always(recorded(name));
        settings.projects =
            vec![project("main", &["fake-key-of-main"]), project("spare", &["fake-key-of-spare"])];
        let fault = fault(review(&client(&settings)).await);
        let Fault::Refused(Refusal { cause, .. }) = &fault else { panic!("{name}: {fault:?}") };
        assert_eq!(*cause, expected, "{name}");
        assert_eq!(service.seen(), 2, "{name}");
    }
}

#[tokio::test]
async fn a_form_of_schema_that_is_refused_is_changed_once_and_never_both_are_sent() {
    let refusal = error(400, "response_json_schema is not supported by this model");
    let (service, settings) = service([refusal.clone()]).await;
    let gemini = client(&settings);
    assert!(review(&gemini).await.result.is_ok());
    assert!(review(&gemini).await.result.is_ok());
    for (n, has_old, has_new) in [(0, true, false), (1, false, true), (2, false, true)] {
        let config = service.config(n);
        assert_eq!(config.get("responseJsonSchema").is_some(), has_old, "{n}");
        assert_eq!(config.get("responseFormat").is_some(), has_new, "{n}");
    }
    service.then_always(error(400, "response_format is not supported"));
    let Fault::Refused(Refusal { cause: RefusalCause::Request, reason, .. }) =
        fault(review(&gemini).await)
    else {
        panic!("kind")
    };
    assert!(reason.contains("response_format is not supported"), "{reason}");
    assert_eq!(service.seen(), 4);
}

#[tokio::test]
async fn a_thinking_level_that_is_refused_is_left_out_from_then_on() {
    let refusal = error(400, "Thinking level MINIMAL is not supported for this model.");
    let (service, settings) = service([refusal]).await;
    let gemini = client(&settings);
    assert!(review(&gemini).await.result.is_ok());
    assert!(review(&gemini).await.result.is_ok());
    assert!(service.config(0).get("thinkingConfig").is_some());
    assert!(service.config(1).get("thinkingConfig").is_none());
    assert!(service.config(2).get("thinkingConfig").is_none());
}

#[tokio::test]
async fn an_answer_that_was_cut_is_asked_for_once_more_with_more_room() {
    let (service, settings) = service([finished("MAX_TOKENS")]).await;
    let gemini = client(&settings);
    assert!(review(&gemini).await.result.is_ok());
    assert!(review(&gemini).await.result.is_ok());
    let caps: Vec<Value> = (0..3).map(|n| service.config(n)["maxOutputTokens"].clone()).collect();
    assert_eq!(caps, [2048, 4096, 4096], "what worked is remembered");
    service.then_always(recorded("max-tokens-truncated-text"));
    let Fault::Unreadable { reason, .. } = fault(review(&gemini).await) else { panic!("kind") };
    assert!(reason.contains("cut off at 8192 tokens"), "{reason}");
    assert_eq!(service.seen(), 5);
}

#[tokio::test]
async fn a_refusal_in_prose_is_asked_once_more_and_is_then_a_failed_try() {
    let (service, settings) = service([recorded("refusal-as-text-stop")]).await;
    let gemini = client(&settings);
    assert!(review(&gemini).await.result.is_ok());
    assert_eq!(service.seen(), 2);
    service.then_always(recorded("refusal-as-text-stop"));
    let outcome = review(&gemini).await;
    assert_eq!(outcome.call.usd, None, "a reply that does not tell its tokens has no price");
    let Fault::Unreadable { reason, .. } = fault(outcome) else { panic!("kind") };
    assert!(reason.contains("I am programmed to be"), "{reason}");
    assert_eq!(service.seen(), 4);
}

#[tokio::test]
async fn an_answer_that_breaks_the_schema_is_a_failed_try_and_the_next_is_told() {
    let (service, settings) = service([recorded("ok-structured-json-gemini3-flash")]).await;
    let gemini = client(&settings);
    let Fault::Unreadable { reason, correction } = fault(review(&gemini).await) else {
        panic!("kind");
    };
    assert!(reason.contains("does not have the agreed form"), "{reason}");
    assert_eq!(service.seen(), 1, "the same request would bring the same answer");
    let limit = Duration::from_secs(60);
    assert!(review_until(&gemini, limit, Some(&correction)).await.result.is_ok());
    let seen = service.seen.lock().unwrap();
    let text = seen[1].body["contents"][0]["parts"][1]["text"].as_str().unwrap();
    assert!(text.contains("twelve keys"), "{text}");
}

#[tokio::test]
async fn what_is_blocked_is_sent_once_and_paid_for() {
    for (name, expected, tokens) in [
        ("blocked-prompt-prohibited-content-images", "PROHIBITED_CONTENT", 8028),
        ("blocked-prompt-safety-ratings", "PROHIBITED_CONTENT", 638),
        ("finish-safety-empty-content", "SAFETY", 14),
    ] {
        let (service, settings) = service([recorded(name)]).await;
        let outcome = review(&client(&settings)).await;
        assert_eq!(outcome.call.tokens_in, tokens, "{name}");
        let Fault::Blocked { reason, .. } = fault(outcome) else { panic!("{name}") };
        assert_eq!((reason.as_str(), service.seen()), (expected, 1), "{name}");
    }
}

#[tokio::test]
async fn a_reason_that_is_new_to_us_is_a_failed_try_after_three_attempts() {
    for reason in ["RECITATION", "NEW_THING"] {
        let (service, settings) = service([]).await;
        service.then_always(finished(reason));
        let Fault::Unreadable { reason: says, .. } = fault(review(&client(&settings)).await) else {
            panic!("kind");
        };
        assert!(says.contains(reason), "{says}");
        assert_eq!(service.seen(), 3);
    }
}

/// A reply of a model that is done and has said nothing, in the forms it comes in.
fn empty_replies() -> Vec<Act> {
    let parts = [
        json!(null),
        json!([]),
        json!([{"text": ""}]),
        json!([{"text": " \n"}]),
        json!([{"text": "thinking…", "thought": true}]),
        json!([{"thoughtSignature": "REDACTED"}]),
    ];
    let with = |parts: Value| {
        let mut value = reply("");
        value["candidates"][0]["content"] = json!({"role": "model", "parts": parts});
        Act::Answer(200, serde_json::to_vec(&value).unwrap())
    };
    let mut replies: Vec<Act> = parts.into_iter().map(with).collect();
    let mut without = reply("");
    without["candidates"][0]["content"] = json!({});
    replies.push(Act::Answer(200, serde_json::to_vec(&without).unwrap()));
    replies.push(Act::Answer(200, serde_json::to_vec(&json!({"candidates": []})).unwrap()));
    replies
}

#[tokio::test]
async fn an_empty_answer_is_asked_for_again_within_the_try() {
    for act in empty_replies() {
        let (service, settings) = service([act]).await;
        let gemini = client(&settings);
        let outcome = review(&gemini).await;
        assert!(outcome.result.is_ok(), "{:?}", outcome.result);
        assert_eq!((service.seen(), outcome.call.attempts), (2, 2));
    }
}

#[tokio::test]
async fn a_model_that_always_says_nothing_is_at_fault_and_not_the_picture() {
    for act in empty_replies() {
        let (service, settings) = service([]).await;
        service.then_always(act);
        let gemini = client(&settings);
        let outcome = review(&gemini).await;
        let Err(Fault::Unavailable { status: Some(200), reason }) = outcome.result else {
            panic!("{:?}", outcome.result);
        };
        assert!(reason.contains("answer"), "{reason}");
        // It is paid for each time; without a count of tokens the reservation holds two.
        assert!((2..=3).contains(&service.seen()), "{}", service.seen());
        assert_eq!(gemini.health().faults, service.seen() as u64);
    }
}

#[tokio::test]
async fn a_model_that_does_not_exist_is_asked_once() {
    let (service, settings) = service([]).await;
    service.then_always(recorded("err-404-model-not-found"));
    let gemini = client(&settings);
    for _ in 0..3 {
        let fault = fault(review(&gemini).await);
        let Fault::Refused(Refusal { cause: RefusalCause::Model, title, action, .. }) = fault
        else {
            panic!("{fault:?}");
        };
        assert_eq!(title, "Gemini model gemini-3.5-flash-lite is not available, reviews stopped");
        assert!(action.contains("[reviewer] model"), "{action}");
    }
    assert_eq!(service.seen(), 1);
}

#[tokio::test]
async fn a_page_where_the_answer_should_be_is_the_providers_fault_and_no_word_on_the_picture() {
    let page = Act::Answer(200, b"<html><title>Please log in</title></html>".to_vec());
    let (service, settings) = service([page.clone()]).await;
    let gemini = client(&settings);
    assert!(review(&gemini).await.result.is_ok(), "a single one is healed within the try");
    assert_eq!((gemini.health().calls, gemini.health().faults), (2, 1));
    service.then_always(page);
    let Fault::Unavailable { status: Some(200), reason } = fault(review(&gemini).await) else {
        panic!("kind");
    };
    assert!(reason.starts_with("the answer is not Gemini's: it begins with \"<html>"), "{reason}");
    assert_eq!(service.seen(), 2 + 5);
    assert_eq!(gemini.health().last_status, Some(200));
    assert!(!gemini.health().breaker_open, "one picture alone is no outage");
    let limit = Duration::from_millis(400);
    assert!(review_until(&gemini, limit, None).await.result.is_err());
    assert!(gemini.health().breaker_open);
}

#[tokio::test]
async fn a_limited_account_is_left_alone_and_the_picture_goes_back() {
    let (service, settings) = service([finished("PUP_LIMITED_DISABLED")]).await;
    let gemini = client(&settings);
    let Fault::Refused(Refusal { cause: RefusalCause::Key, reason, .. }) =
        fault(review(&gemini).await)
    else {
        panic!("kind")
    };
    assert!(reason.contains("PUP_LIMITED_DISABLED"), "{reason}");
    assert!(review(&gemini).await.result.is_err());
    assert_eq!(service.seen(), 1);
}

#[tokio::test]
async fn a_picture_that_met_the_limit_of_an_account_is_not_sent_through_another() {
    let (service, mut settings) = service([finished("PUP_LIMITED_DISABLED")]).await;
    settings.projects =
        vec![project("main", &["fake-key-of-main"]), project("spare", &["fake-key-of-spare"])];
    let gemini = client(&settings);
    assert_eq!(fault(review(&gemini).await), Fault::OutOfTime, "it goes back");
    assert_eq!(service.seen(), 1);
    assert!(review(&gemini).await.result.is_ok(), "the others go on");
    assert_eq!(service.keys(), ["fake-key-of-main", "fake-key-of-spare"]);
}

#[tokio::test]
async fn one_unreadable_picture_is_its_own_fault_but_ten_in_a_row_are_not() {
    let (service, settings) = service([]).await;
    let gemini = client(&settings);
    service.then_always(error(400, "Request contains an invalid argument."));
    for _ in 0..9 {
        assert!(matches!(fault(review(&gemini).await), Fault::Picture { .. }));
    }
    let Fault::Refused(Refusal { cause: RefusalCause::Request, reason, .. }) =
        fault(review(&gemini).await)
    else {
        panic!("kind")
    };
    assert!(reason.contains("10 images one after another"), "{reason}");
}

#[tokio::test]
async fn a_key_in_an_error_text_never_gets_out() {
    let message = "Permission denied: Consumer 'api_key:fake-key-of-main' has been suspended.";
    for status in [400, 403, 404, 429, 500] {
        let (service, settings) = service([]).await;
        service.then_always(error(status, message));
        let gemini = client(&settings);
        let outcome = review_until(&gemini, Duration::from_secs(2), None).await;
        let text = format!("{:?} {:?}", outcome, gemini.health());
        assert!(!text.contains("fake-key-of-main"), "{status}: {text}");
        assert!(service.seen() > 0);
    }
    let text = format!("{:?}", client(&settings("http://127.0.0.1:9")));
    assert!(!text.contains("fake-key-of-main"), "{text}");
}

#[tokio::test]
async fn an_unknown_price_is_unknown_and_a_configured_one_counts() {
    let (_service, mut settings) = service([]).await;
    settings.model = "gemini-9-neon".into();
    let gemini = client(&settings);
    assert_eq!(review(&gemini).await.call.usd, None);
    assert_eq!((gemini.estimate().usual, gemini.usd_per_try()), (None, None));
    settings.prices.insert("gemini-9-neon".into(), Price { input: 1.0, output: 2.0 });
    let gemini = client(&settings);
    let usd = review(&gemini).await.call.usd.unwrap();
    assert!((usd - (1620.0 + 200.0) / 1e6).abs() < 1e-12, "{usd}");
    let estimate = gemini.estimate();
    assert!(estimate.usual.unwrap() < estimate.at_most.unwrap());
    assert!(usd <= estimate.at_most.unwrap());
}

#[tokio::test]
async fn a_try_that_may_have_been_billed_in_vain_makes_no_attempt_beyond_its_reservation() {
    let late = recorded("err-504-deadline-exceeded");
    let scripts =
        [(vec![], 2), (vec![finished("MAX_TOKENS")], 1), (vec![finished("RECITATION")], 2)];
    for (script, n_lost) in scripts {
        let n_told = script.len();
        let (service, settings) = service(script).await;
        service.then_always(late.clone());
        let gemini = client(&settings);
        let reserved = gemini.usd_per_try().unwrap();
        let call = review(&gemini).await.call;
        assert_eq!((service.seen(), call.attempts as usize), (n_told + n_lost, n_told + n_lost));
        assert_eq!(call.possibly_billed as usize, n_lost);
        let (known, at_most) = (call.usd.unwrap(), call.usd_at_most.unwrap());
        assert!(at_most > known && at_most <= reserved, "{known} to {at_most} of {reserved}");
    }
    let (service, settings) = service([late, finished("MAX_TOKENS")]).await;
    let fault = fault(review(&client(&settings)).await);
    assert!(matches!(fault, Fault::Unreadable { .. }), "{fault:?}");
    assert_eq!(service.seen(), 2, "a larger cap would cost more than is left");
}

#[tokio::test]
async fn every_model_of_the_price_list_has_its_price() {
    for (model, input, output) in [
        ("gemini-3.1-pro-preview", 2.0, 12.0),
        ("gemini-3-flash-preview", 0.5, 3.0),
        ("gemini-2.5-flash-lite", 0.1, 0.4),
    ] {
        let (_service, mut settings) = service([]).await;
        settings.model = model.into();
        let usd = review(&client(&settings)).await.call.usd.unwrap();
        assert!((usd - (1620.0 * input + 100.0 * output) / 1e6).abs() < 1e-12, "{model}: {usd}");
    }
}

#[tokio::test]
async fn a_call_at_a_cheaper_tier_costs_less() {
    let mut value = reply(GOOD);
    value["usageMetadata"]["serviceTier"] = json!("flex");
    let flex = Act::Answer(200, serde_json::to_vec(&value).unwrap());
    let (_service, settings) = service([good(), flex]).await;
    let gemini = client(&settings);
    let standard = review(&gemini).await.call.usd.unwrap();
    let cheaper = review(&gemini).await.call.usd.unwrap();
    assert!((cheaper * 2.0 - standard).abs() < 1e-12);
}

#[tokio::test]
async fn no_recorded_body_becomes_an_answer_on_its_way_through_the_client() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gemini");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (service, mut settings) = service([]).await;
        service.then_always(recorded(&name));
        settings.try_timeout = Duration::from_millis(800);
        let outcome = review(&client(&settings)).await;
        assert!(outcome.result.is_err(), "{name}");
        assert!((1..=5).contains(&service.seen()), "{name}: {} requests", service.seen());
    }
}

#[tokio::test]
async fn the_doctor_learns_about_key_and_model_and_never_calls_an_outage_a_bad_key() {
    let model = json!({"name": "models/gemini-3.5-flash-lite", "displayName": "Flash-Lite",
        "supportedGenerationMethods": ["generateContent"]});
    let model = Act::Answer(200, serde_json::to_vec(&model).unwrap());
    for (act, expected) in [
        (model, "good"),
        (recorded("err-400-api-key-invalid"), "key"),
        (recorded("err-403-leaked-key"), "key"),
        (recorded("err-404-model-not-found"), "model"),
        (Act::Answer(200, b"<html>welcome</html>".to_vec()), "model"),
        (recorded("err-503-high-demand"), "unknown"),
        (recorded("err-429-no-details"), "unknown"),
    ] {
        let (service, settings) = service([act]).await;
        let checks = client(&settings).check_key_and_model().await;
        let found = match &checks[0].finding {
            Finding::Good { .. } => "good",
            Finding::KeyRefused { .. } => "key",
            Finding::ModelRefused { .. } => "model",
            Finding::Refused(_) => "refused",
            Finding::Unknown { .. } => "unknown",
        };
        assert_eq!(found, expected, "{checks:?}");
        assert_eq!(service.seen.lock().unwrap()[0].path, "/v1beta/models/gemini-3.5-flash-lite");
    }
    let checks = client(&settings("http://127.0.0.1:9")).check_key_and_model().await;
    assert!(matches!(checks[0].finding, Finding::Unknown { .. }), "{checks:?}");
}

#[tokio::test]
async fn a_small_real_request_shows_what_a_free_check_does_not() {
    let zero = error(429, "Quota exceeded for metric: free_tier_requests, limit: 0, model: m");
    for (act, expected) in [
        (good(), "good"),
        (finished("MAX_TOKENS"), "good"),
        (recorded("err-429-spend-cap"), "refused"),
        (recorded("err-402-prepay-depleted"), "refused"),
        (zero, "refused"),
        (recorded("err-400-api-key-invalid"), "key"),
        (recorded("err-404-model-not-found"), "model"),
        (recorded("err-404-model-retired-new-users"), "model"),
        (recorded("err-429-free-all-three-quotas"), "unknown"),
        (recorded("err-503-high-demand"), "unknown"),
        (Act::Answer(200, b"{}".to_vec()), "model"),
    ] {
        let (service, settings) = service([act]).await;
        let checks = client(&settings).try_one_request().await;
        let found = match &checks[0].finding {
            Finding::Good { .. } => "good",
            Finding::KeyRefused { .. } => "key",
            Finding::ModelRefused { .. } => "model",
            Finding::Refused(_) => "refused",
            Finding::Unknown { .. } => "unknown",
        };
        assert_eq!(found, expected, "{checks:?}");
        assert_eq!(service.seen(), 1);
        let path = service.seen.lock().unwrap()[0].path.clone();
        assert_eq!(path, "/v1beta/models/gemini-3.5-flash-lite:generateContent");
    }
}
