//! What goes over the wire to Slack and webhooks, and what their answers mean.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use lookout::alert::channel::{
    Arrival, Channel, ChannelKind, ChannelSettings, Envelope, Scope, SendError, build,
};
use lookout::alert::message::{AlreadyNotified, Message, compose};
use lookout::cli::alert as command;
use lookout::clock::SystemClock;
use lookout::redact::Redactor;
use lookout::secret::Secret;
use lookout::watch::{IncidentKind, Severity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::alert::news::{at, opened};

/// A receiver that gives these answers in turn, and remembers what it got.
#[derive(Clone, Default)]
struct Receiver {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

type Answer = (u16, &'static [(&'static str, &'static str)], &'static str);

async fn receive(State(it): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    it.got.lock().unwrap().push((headers, body));
    let answer = it.answers.lock().unwrap().pop_front();
    let (status, headers, body) = answer.unwrap_or((200, &[], "ok"));
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

impl Receiver {
    /// Starts it; returns it with its address.
    async fn start(answers: &[Answer]) -> (Self, String) {
        let receiver =
            Self { answers: Arc::new(Mutex::new(answers.to_vec().into())), ..Self::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/services/T0/B0/hidden-token", listener.local_addr().unwrap());
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    fn n_got(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    fn json(&self, n: usize) -> serde_json::Value {
        serde_json::from_slice(&self.got.lock().unwrap()[n].1).unwrap()
    }
}

fn settings(kind: ChannelKind) -> ChannelSettings {
    ChannelSettings { name: "team".into(), severity: Severity::Info, fallback: None, kind }
}

fn channel(kind: ChannelKind) -> Arc<dyn Channel> {
    build(&settings(kind)).unwrap()
}

fn slack(url: &str) -> Arc<dyn Channel> {
    channel(ChannelKind::Slack { webhook_url: Secret::new(url) })
}

fn webhook(url: &str, secret: Option<&str>) -> Arc<dyn Channel> {
    let signing_secret = secret.map(Secret::new);
    channel(ChannelKind::Webhook { url: Secret::new(url), signing_secret })
}

fn message() -> Message {
    let news = opened(IncidentKind::SignalMissing);
    compose(&news, AlreadyNotified::No(&news), vec![])
}

async fn send(channel: &Arc<dyn Channel>) -> Result<(), SendError> {
    let envelope = Envelope {
        id: "msg_prod_142_1".into(),
        recipient: String::new(),
        at: at("2026-03-04T05:00:00Z"),
    };
    channel.send(&message(), &envelope).await
}

/// The error's class in a word, with whether it may have arrived.
fn class(sent: Result<(), SendError>) -> &'static str {
    match sent {
        Ok(()) => "accepted",
        Err(SendError::Transient { arrival: Arrival::No, .. }) => "transient, not arrived",
        Err(SendError::Transient { arrival: Arrival::Unknown, .. }) => "transient",
        Err(SendError::Throttled { retry_after: Some(_), .. }) => "throttled with a time",
        Err(SendError::Throttled { retry_after: None, .. }) => "throttled",
        Err(SendError::Doubtful { .. }) => "doubtful",
        Err(SendError::Refused { scope: Scope::Message, .. }) => "message refused",
        Err(SendError::Refused { scope: Scope::Recipient, .. }) => "recipient refused",
        Err(SendError::Broken { .. }) => "broken",
    }
}

#[tokio::test]
async fn an_answer_in_slacks_form_means_what_the_table_says() {
    for (status, headers, body, expected) in [
        (200, &[][..], "ok", "accepted"),
        (200, &[], "", "accepted"),
        (201, &[], "created", "accepted"),
        (200, &[], "{\"ok\":true}", "accepted"),
        (200, &[], "{\"success\":true,\"error\":null}", "accepted"),
        (200, &[], "{\"ok\":false,\"error\":\"invalid_auth\"}", "broken"),
        (200, &[], "{\"ok\":false}", "message refused"),
        (200, &[], "{\"success\":false}", "message refused"),
        (200, &[], "{\"error\":\"no such channel\"}", "message refused"),
        (200, &[], "<html>please log in</html>", "doubtful"),
        (200, &[], "  <!DOCTYPE html><title>Sign in</title>", "doubtful"),
        (400, &[], "<html><h1>400 Bad Request</h1></html>", "doubtful"),
        (400, &[], "invalid_token", "broken"),
        (403, &[], "action_prohibited", "broken"),
        (404, &[], "no_service", "broken"),
        (410, &[], "channel_is_archived", "broken"),
        (429, &[("retry-after", "2")], "{\"retry_after\":2}", "throttled with a time"),
        (429, &[("retry-after", "-1")], "rate_limited", "throttled"),
        (500, &[], "rollup_error", "transient"),
        (302, &[("location", "http://127.0.0.1:1/")], "", "doubtful"),
        (418, &[], "", "doubtful"),
    ] {
        let (receiver, url) = Receiver::start(&[(status, headers, body)]).await;
        assert_eq!(class(send(&slack(&url)).await), expected, "{status} {body}");
        assert_eq!(receiver.n_got(), 1, "{status} {body}");
    }
}

#[tokio::test]
async fn blocks_that_slack_refuses_go_again_as_text_once() {
    let (receiver, url) = Receiver::start(&[(400, &[], "invalid_blocks")]).await;
    assert_eq!(class(send(&slack(&url)).await), "accepted");
    assert!(receiver.json(0)["blocks"].is_array());
    assert!(receiver.json(1)["blocks"].is_null());
    let text = receiver.json(1)["text"].as_str().unwrap().to_owned();
    assert!(text.contains("lookout run image-review") && text.chars().count() <= 3000, "{text}");

    let refusals = [(400, &[][..], "invalid_blocks"), (400, &[], "no_text")];
    let (receiver, url) = Receiver::start(&refusals).await;
    assert_eq!(class(send(&slack(&url)).await), "message refused");
    assert_eq!(receiver.n_got(), 2);
}

#[tokio::test]
async fn a_webhook_succeeds_by_its_status_and_a_500_is_not_sent() {
    for (status, headers, expected) in [
        (200, &[][..], "accepted"),
        (204, &[], "accepted"),
        (301, &[("location", "http://127.0.0.1:1/")], "doubtful"),
        // What is wrong with one message …
        (400, &[], "message refused"),
        (413, &[], "message refused"),
        (415, &[], "message refused"),
        (422, &[], "message refused"),
        // … and with the address.
        (401, &[], "doubtful"),
        (403, &[], "doubtful"),
        (404, &[], "doubtful"),
        (405, &[], "doubtful"),
        (408, &[], "transient"),
        (410, &[], "broken"),
        (425, &[], "transient"),
        (429, &[("retry-after", "Wed, 04 Mar 2026 05:00:30 GMT")], "throttled with a time"),
        (429, &[], "throttled"),
        (500, &[], "transient"),
        (503, &[("retry-after", "30")], "throttled with a time"),
        (504, &[], "transient"),
    ] {
        let (receiver, url) = Receiver::start(&[(status, headers, "")]).await;
        assert_eq!(class(send(&webhook(&url, None)).await), expected, "{status}");
        assert_eq!(receiver.n_got(), 1);
    }
}

#[tokio::test]
async fn a_webhook_that_says_in_its_body_that_it_failed_is_believed() {
    for (body, expected) in [
        ("thanks", "accepted"),
        ("{\"ok\":true}", "accepted"),
        ("{\"errors\":[]}", "accepted"),
        ("{\"error\":false}", "accepted"),
        ("{\"ok\":false}", "message refused"),
        ("{\"success\":false}", "message refused"),
        ("{\"error\":{\"code\":7}}", "message refused"),
        ("<html>Sign in</html>", "doubtful"),
    ] {
        let (_, url) = Receiver::start(&[(200, &[], body)]).await;
        assert_eq!(class(send(&webhook(&url, None)).await), expected, "{body}");
    }
}

/// Says this, and keeps the connection open without an end of the body.
async fn dragging(head: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hidden-token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 65_536];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(head.as_bytes()).await;
            kept.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn a_body_that_never_ends_takes_nothing_of_its_status_back() {
    let ok = dragging("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nfi").await;
    let fault = dragging("HTTP/1.1 503 No\r\nContent-Length: 500\r\n\r\nfi").await;
    assert_eq!(class(send(&webhook(&ok, None)).await), "accepted");
    assert_eq!(class(send(&slack(&ok)).await), "accepted");
    assert_eq!(class(send(&webhook(&fault, None)).await), "transient");
}

#[tokio::test]
async fn a_webhook_carries_its_id_its_time_and_a_signature_if_there_is_a_secret() {
    let (receiver, url) = Receiver::start(&[]).await;
    send(&webhook(&url, None)).await.unwrap();
    let secret = format!("whsec_{}", "bG9va291dC10ZXN0LXNlY3JldC0zMmJ5dGVzLWxvbmch");
    send(&webhook(&url, Some(&secret))).await.unwrap();
    let got = receiver.got.lock().unwrap().clone();
    for (headers, _) in &got {
        assert_eq!(headers["webhook-id"], "msg_prod_142_1");
        assert_eq!(headers["webhook-timestamp"], "1772600400");
        assert_eq!(headers["content-type"], "application/json");
    }
    assert!(!got[0].0.contains_key("webhook-signature"));
    assert!(got[1].0["webhook-signature"].to_str().unwrap().starts_with("v1,"));
    assert_eq!(receiver.json(0)["type"], "lookout.incident.opened");
    assert_eq!(receiver.json(0)["id"], "msg_prod_142_1");
}

/// Accepts, reads the whole request, and then does `then`.
async fn raw(then: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hidden-token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 65_536];
            let _ = stream.read(&mut buffer).await;
            if then == "hang" {
                kept.push(stream);
            }
        }
    });
    url
}

#[tokio::test]
async fn a_connection_that_breaks_off_after_the_message_may_have_brought_it() {
    let url = raw("drop").await;
    for channel in [slack(&url), webhook(&url, None)] {
        let error = send(&channel).await.unwrap_err();
        assert!(!error.to_string().contains("hidden-token"), "{error}");
        assert_eq!(class(Err(error)), "transient");
    }
}

#[tokio::test]
async fn nobody_there_is_certainly_not_arrived_and_no_address_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hidden-token", listener.local_addr().unwrap());
    drop(listener);
    for channel in [slack(&url), webhook(&url, None)] {
        let error = send(&channel).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hidden-token"), "{text}");
        assert!(text.contains("could not be reached"), "{text}");
        assert_eq!(class(Err(error)), "transient, not arrived");
    }
}

#[tokio::test]
async fn a_receiver_that_never_answers_costs_ten_seconds() {
    let url = raw("hang").await;
    // Paused from here on, so that the ten seconds pass as soon as nothing else can happen.
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    assert_eq!(class(send(&webhook(&url, None)).await), "transient");
    assert!(started.elapsed() <= Duration::from_secs(11), "{:?}", started.elapsed());
}

#[tokio::test]
async fn impossible_settings_are_refused_without_repeating_them() {
    for kind in [
        ChannelKind::Slack { webhook_url: Secret::new("hidden-token") },
        ChannelKind::Slack { webhook_url: Secret::new("http://hooks.example.org/hidden-token") },
        ChannelKind::Webhook { url: Secret::new("ftp://h/hidden-token"), signing_secret: None },
    ] {
        let error = build(&settings(kind)).err().unwrap();
        assert!(error.to_string().starts_with("channel team: the "), "{error}");
        assert!(!format!("{error} {error:?}").contains("hidden-token"), "{error}");
    }
}

#[tokio::test]
async fn the_test_command_asks_the_channel_and_says_what_it_said() {
    let answers = [(200, &[][..], "ok"), (404, &[], "no_service")];
    let (receiver, url) = Receiver::start(&answers).await;
    let channels = [settings(ChannelKind::Slack { webhook_url: Secret::new(url) })];
    let ask = async |only: Option<&str>| {
        let mut out = Vec::new();
        let redactor = Redactor::default();
        let code = command::test(&channels, only, "prod", &SystemClock, &redactor, &mut out).await;
        (code.unwrap(), String::from_utf8(out).unwrap())
    };
    assert_eq!(ask(Some("team")).await, (0, "team (Slack): accepted\n".into()));
    let refused = "team (Slack): NOT accepted: Slack refused: 404 no_service\n";
    assert_eq!(ask(None).await, (1, refused.into()));
    assert_eq!(ask(Some("other")).await, (2, String::new()));
    assert_eq!(receiver.json(0)["text"], "TEST prod: messages by team arrive");
}
