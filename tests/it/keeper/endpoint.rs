//! A keeper holds an endpoint: the old service as its log shows it, and servers that behave worse.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use futures_util::{StreamExt, stream};
use lookout::rundir::{CallOutcome, Event, Order, StopReason, Stream, Work};

use crate::keeper::harness::{Keeper, Kept, SIGNAL, keep, order, pattern};

const TIMEOUT: &str = r#"{"message":"Gemini API key validation failed: Timeout of 600.0s exceeded, last exception: 503 failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:443: tcp handshaker shutdown"}"#;
const WRONG_KEY: &str = r#"{"message":"Gemini API key validation failed: 400 API key not valid. Please pass a valid API key. [reason: \"API_KEY_INVALID\"\ndomain: \"googleapis.com\"]"}"#;
const IDLE: &str = r#"{"message":"No images found with review_status='downloaded'."}"#;
const DONE: &str = r#"{"message":"Bulk processing completed.","results":[{"image_id":"1","status":"error","error":"503 overloaded"}]}"#;

/// The old service's place: answers each call by what is given, and counts them.
struct Endpoint {
    address: SocketAddr,
    n_calls: Arc<AtomicU32>,
}

impl Endpoint {
    async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(u32, HeaderMap) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        let n_calls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&n_calls);
        let handler =
            move |headers: HeaderMap| answer(counter.fetch_add(1, Ordering::SeqCst), headers);
        let router = Router::new().route("/bulk_auto_review", post(handler));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, n_calls }
    }

    /// Answers every call with this.
    async fn saying(text: &'static str) -> Self {
        Self::start(move |_, _| async move { text.into_response() }).await
    }

    fn n_calls(&self) -> u32 {
        self.n_calls.load(Ordering::SeqCst)
    }

    /// The shipped example's order: repeated calls, the old service's texts.
    fn order(&self) -> Order {
        let mut order = order(Work::Http {
            method: "POST".into(),
            url: format!("http://{}/bulk_auto_review", self.address),
            headers: BTreeMap::new(),
            body: None,
            repeat: true,
            idle: Some("No images found with review_status".into()),
            idle_pause: Duration::from_secs(60),
            call_timeout: Duration::from_secs(30),
            max_body: 1024 * 1024,
        });
        order.time_box = Duration::from_secs(3);
        order.patterns = vec![
            pattern("Gemini API key validation failed", "provider_unavailable"),
            pattern("API_KEY_INVALID", "credentials_rejected"),
        ];
        order
    }

    fn once(&self) -> Order {
        let mut order = self.order();
        if let Work::Http { repeat, .. } = &mut order.work {
            *repeat = false;
        }
        order
    }
}

fn outcomes(kept: &Kept) -> Vec<CallOutcome> {
    kept.events()
        .filter_map(
            |event| {
                if let Event::Call { outcome, .. } = event { Some(*outcome) } else { None }
            },
        )
        .collect()
}

fn call_detail(kept: &Kept) -> &str {
    kept.events()
        .find_map(
            |event| {
                if let Event::Call { detail, .. } = event { Some(detail.as_str()) } else { None }
            },
        )
        .unwrap()
}

#[tokio::test]
async fn the_old_service_is_called_until_the_box_is_full() {
    let endpoint = Endpoint::saying(DONE).await;
    let kept = keep(&endpoint.order()).await;
    assert!((2..=4).contains(&endpoint.n_calls()), "{}", endpoint.n_calls());
    assert!(outcomes(&kept).iter().all(|outcome| *outcome == CallOutcome::Signal));
    assert!(kept.has(|event| matches!(event, Event::Signal { stream: Stream::Body, .. })));
    assert!(kept.has(|event| *event == Event::BoxEnded));
    assert_eq!(kept.exit(), (Some(0), None));
    assert_eq!(kept.problems(), vec![]);
    assert!(kept.has(|event| matches!(event, Event::JobStarted { job: None, .. })));
}

#[tokio::test]
async fn an_outage_of_gemini_is_told_with_the_first_answer_and_not_called_again_at_once() {
    let endpoint = Endpoint::saying(TIMEOUT).await;
    let kept = keep(&endpoint.order()).await;
    assert_eq!(endpoint.n_calls(), 1, "the old driver called a dead Gemini for hours");
    let problems = kept.problems();
    assert_eq!(problems.len(), 1);
    let (kind, provider, status, detail) = problems[0];
    assert_eq!((kind, provider, status), ("provider_unavailable", Some("gemini"), None));
    assert!(detail.starts_with("Gemini API key validation failed: Timeout of 600.0s"), "{detail}");
    assert!(detail.ends_with("tcp handshaker shutdown"), "{detail}");
    let told = kept.position(|event| matches!(event, Event::Problem { .. }));
    let box_end = kept.position(|event| *event == Event::BoxEnded);
    assert!(told < box_end);
    assert_eq!(outcomes(&kept), vec![CallOutcome::Failed]);
    assert_eq!(kept.exit(), (Some(1), None));
    assert!(!kept.has_signal());
}

#[tokio::test]
async fn a_wrong_key_ends_the_run_at_once() {
    let endpoint = Endpoint::saying(WRONG_KEY).await;
    let mut order = endpoint.order();
    order.time_box = Duration::from_secs(3600);
    let kept = keep(&order).await;
    assert_eq!(endpoint.n_calls(), 1);
    let kinds: Vec<_> = kept.problems().iter().map(|p| (p.0, p.2)).collect();
    assert_eq!(kinds, vec![("credentials_rejected", Some(400))], "and not an outage");
    assert!(kept.problems()[0].3.contains(r#"[reason: "API_KEY_INVALID" domain"#));
    assert_eq!(kept.exit(), (Some(1), None));
    assert!(!kept.has(|event| *event == Event::BoxEnded));
}

#[tokio::test]
async fn an_hour_with_nothing_to_do_is_a_good_one() {
    let endpoint = Endpoint::saying(IDLE).await;
    let kept = keep(&endpoint.order()).await;
    assert_eq!(outcomes(&kept), vec![CallOutcome::Idle]);
    assert_eq!(kept.exit(), (Some(0), None));
    assert_eq!(kept.problems(), vec![]);
    assert!(kept.took() >= Duration::from_secs(3), "it pauses to the end of the box");
}

#[tokio::test]
async fn a_call_that_hangs_is_told_when_it_reaches_its_timeout() {
    let endpoint = Endpoint::start(|_, _| std::future::pending()).await;
    let mut order = endpoint.order();
    order.time_box = Duration::from_secs(4);
    if let Work::Http { call_timeout, .. } = &mut order.work {
        *call_timeout = Duration::from_secs(1);
    }
    let kept = keep(&order).await;
    assert_eq!(outcomes(&kept), vec![CallOutcome::TimedOut]);
    assert_eq!(call_detail(&kept), "no answer within 1 s");
    let problems = kept.problems();
    assert_eq!(problems.len(), 1);
    let (kind, provider, status, _) = problems[0];
    assert_eq!((kind, provider, status), ("provider_unavailable", Some("gemini"), None));
    let told = kept.entries[kept.position(|event| matches!(event, Event::Problem { .. }))].boot_ms;
    let began =
        kept.entries[kept.position(|event| matches!(event, Event::JobStarted { .. }))].boot_ms;
    assert!((900..3000).contains(&(told - began)), "{} ms", told - began);
}

#[tokio::test]
async fn the_last_call_decides() {
    let good_then_bad = |n, _| async move {
        if n == 0 { DONE.into_response() } else { StatusCode::BAD_GATEWAY.into_response() }
    };
    let endpoint = Endpoint::start(good_then_bad).await;
    let kept = keep(&endpoint.order()).await;
    assert_eq!(outcomes(&kept), vec![CallOutcome::Signal, CallOutcome::Failed]);
    assert!(kept.has_signal());
    assert_eq!(kept.exit(), (Some(1), None));
    let problems: Vec<_> = kept.problems().iter().map(|p| (p.0, p.2)).collect();
    assert_eq!(problems, vec![("failure", Some(502))]);
}

#[tokio::test]
async fn one_call_without_signal_ends_without_failure() {
    let endpoint = Endpoint::saying(r#"{"message":"hello"}"#).await;
    let kept = keep(&endpoint.once()).await;
    assert_eq!(endpoint.n_calls(), 1);
    assert_eq!(outcomes(&kept), vec![CallOutcome::Other]);
    assert_eq!(kept.exit(), (Some(0), None));
    assert!(!kept.has_signal());
}

#[tokio::test]
async fn an_answer_that_never_ends_counts_once_it_has_said_it() {
    let endpoint = Endpoint::start(|_, _| async {
        let halves = ["x".repeat(100_000) + "Bulk processing com", "pleted.".to_owned()];
        let text = stream::iter(halves).map(|half| Ok::<_, Infallible>(Bytes::from(half)));
        Body::from_stream(text.chain(stream::pending())).into_response()
    })
    .await;
    let kept = keep(&endpoint.once()).await;
    assert_eq!(outcomes(&kept), vec![CallOutcome::Signal]);
    assert!(kept.has(|event| *event == Event::Signal { stream: Stream::Body, offset: 100_000 }));
    assert_eq!(kept.exit(), (Some(0), None));
}

#[tokio::test]
async fn an_error_page_that_quotes_the_signal_is_an_error() {
    let endpoint = Endpoint::start(|_, _| async {
        (StatusCode::INTERNAL_SERVER_ERROR, SIGNAL).into_response()
    })
    .await;
    let kept = keep(&endpoint.once()).await;
    assert!(!kept.has_signal());
    assert_eq!(kept.exit(), (Some(1), None));
    assert_eq!(call_detail(&kept), format!("answered 500: {SIGNAL}"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let endpoint =
        Endpoint::start(|_, _| async { Redirect::temporary("/bulk_auto_review").into_response() })
            .await;
    let kept = keep(&endpoint.once()).await;
    assert_eq!(endpoint.n_calls(), 1);
    assert_eq!(outcomes(&kept), vec![CallOutcome::Failed]);
    assert!(call_detail(&kept).contains("redirects are not followed"));
}

#[tokio::test]
async fn an_answer_without_measure_is_cut_off() {
    let endpoint = Endpoint::start(|_, _| async {
        let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![b'x'; 65536])));
        Body::from_stream(endless).into_response()
    })
    .await;
    let kept = keep(&endpoint.once()).await;
    assert_eq!(outcomes(&kept), vec![CallOutcome::Failed]);
    assert_eq!(call_detail(&kept), "answered with more than 1048576 bytes");
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_no_outage_of_gemini() {
    let endpoint = Endpoint::saying(DONE).await;
    let mut order = endpoint.once();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    if let Work::Http { url, .. } = &mut order.work {
        *url = format!("http://{free}/hidden-path");
    }
    let kept = keep(&order).await;
    assert_eq!(outcomes(&kept), vec![CallOutcome::Failed]);
    let problems = kept.problems();
    assert_eq!((problems[0].0, problems[0].2), ("failure", None));
    assert!(problems[0].3.starts_with("127.0.0.1: could not be reached"), "{}", problems[0].3);
    assert!(!problems[0].3.contains("hidden-path"));
}

#[tokio::test]
async fn the_call_in_hand_when_the_box_ends_may_finish() {
    let answer = Arc::new(tokio::sync::Notify::new());
    let may_answer = Arc::clone(&answer);
    let endpoint = Endpoint::start(move |_, _| {
        let may_answer = Arc::clone(&may_answer);
        async move {
            may_answer.notified().await;
            DONE.into_response()
        }
    })
    .await;
    let mut order = endpoint.order();
    order.time_box = Duration::from_secs(1);
    let keeper = Keeper::start(&order, &[]);
    keeper.wait_for(|event| *event == Event::BoxEnded).await;
    answer.notify_one();
    let kept = keeper.done().await;
    assert_eq!(endpoint.n_calls(), 1);
    let box_end = kept.position(|event| *event == Event::BoxEnded);
    let call = kept.position(|event| matches!(event, Event::Call { .. }));
    assert!(box_end < call);
    assert_eq!(kept.exit(), (Some(0), None));
}

#[tokio::test]
async fn the_call_in_hand_when_the_grace_ends_is_broken_off() {
    let endpoint = Endpoint::start(|_, _| std::future::pending()).await;
    let mut order = endpoint.order();
    order.time_box = Duration::from_secs(1);
    order.signal_grace = Duration::from_secs(1);
    let kept = keep(&order).await;
    assert!(kept.has(|event| *event == Event::Stopping { reason: StopReason::TimedOut }));
    assert_eq!(outcomes(&kept), vec![CallOutcome::TimedOut]);
    assert_eq!(kept.exit(), (Some(1), None));
}

#[tokio::test]
async fn a_person_can_stop_a_pause() {
    let endpoint = Endpoint::saying(IDLE).await;
    let mut order = endpoint.order();
    order.time_box = Duration::from_secs(3600);
    let keeper = Keeper::start(&order, &[]);
    keeper.wait_for(|event| matches!(event, Event::Call { .. })).await;
    keeper.directory().request_stop().unwrap();
    let kept = keeper.done().await;
    assert!(kept.has(|event| *event == Event::Stopping { reason: StopReason::Asked }));
}

#[tokio::test]
async fn headers_and_address_may_hold_secrets_that_are_not_told() {
    let endpoint = Endpoint::start(|_, headers: HeaderMap| async move {
        let sent = headers.get("x-pass").unwrap().to_str().unwrap().to_owned();
        format!("you sent {sent}").into_response()
    })
    .await;
    let mut order = endpoint.once();
    if let Work::Http { headers, .. } = &mut order.work {
        headers.insert("X-Pass".into(), "${LOOKOUT_TEST_PASS}".into());
    }
    let value = "open-sesame-0123456789";
    let kept = Keeper::start(&order, &[("LOOKOUT_TEST_PASS", value)]).done().await;
    assert_eq!(call_detail(&kept), "you sent [redacted]");
    assert_eq!(kept.directory.read_log().unwrap().head, "you sent [redacted]\n");
}

#[tokio::test]
async fn a_fault_inside_a_good_batch_is_told_and_the_batch_stays_good() {
    let endpoint = Endpoint::saying(DONE).await;
    let mut order = endpoint.order();
    order.patterns.push(pattern("overloaded", "provider_unavailable"));
    let kept = keep(&order).await;
    assert!(outcomes(&kept).iter().all(|outcome| *outcome == CallOutcome::Signal));
    assert_eq!(kept.problems()[0].2, Some(503));
    assert_eq!(kept.exit(), (Some(0), None));
}
