//! Every message through real protocols. Run by `tests/real/alerts.sh`, which starts the
//! receivers and lets others judge what they got; not part of a bare `cargo test`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic: that is how it fails"
)]

#[path = "../it/alert/news.rs"]
mod alert_news;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alert_news::{opened, reminder, resolved};
use lookout::alert::channel::{
    Arrival, Channel, ChannelKind, ChannelSettings, Envelope, SendError, build,
};
use lookout::alert::message::{self, AlreadyNotified, Annotation, Message, compose};
use lookout::alert::outbox::delivery_id;
use lookout::clock::{Clock, SystemClock};
use lookout::redact::Redactor;
use lookout::secret::Secret;
use lookout::watch::{INCIDENT_KINDS, IncidentKind, News, Severity};

fn folder() -> PathBuf {
    std::env::var_os("LOOKOUT_ALERT_RECEIVERS").expect("run tests/real/alerts.sh").into()
}

fn port(name: &str) -> u64 {
    let ports = std::fs::read_to_string(folder().join("ports.json")).unwrap();
    let ports: serde_json::Value = serde_json::from_str(&ports).unwrap();
    ports[name].as_u64().unwrap()
}

fn channel(kind: ChannelKind) -> Arc<dyn Channel> {
    let name = "real".to_owned();
    build(&ChannelSettings { name, severity: Severity::Info, fallback: None, kind }).unwrap()
}

fn mail(url: &str, to: &str) -> Arc<dyn Channel> {
    channel(ChannelKind::Email {
        smtp_url: Secret::new(url),
        from: Some("Lookout <lookout@example.org>".into()),
        to: vec![to.to_owned()],
    })
}

fn plain_mail(to: &str) -> Arc<dyn Channel> {
    mail(&format!("smtp+insecure://127.0.0.1:{}", port("plain")), to)
}

async fn send(channel: &Arc<dyn Channel>, news: &News, message: &Message) -> Result<(), SendError> {
    let recipient = channel.recipients().remove(0);
    let id = delivery_id(news, "real", &recipient).replace("142", &news.incident.kind.to_string());
    channel.send(message, &Envelope { id, recipient, at: SystemClock.now() }).await
}

fn message(news: &News, annotations: Vec<Annotation>) -> Message {
    let news = message::redacted(news, &Redactor::default());
    compose(&news, AlreadyNotified::No(&news), annotations)
}

async fn try_mail(
    channel: &Arc<dyn Channel>,
    annotations: Vec<Annotation>,
) -> Result<(), SendError> {
    let news = opened(IncidentKind::SignalMissing);
    send(channel, &news, &message(&news, annotations)).await
}

#[tokio::test]
async fn every_message_is_taken_by_every_channel() {
    let http = port("http");
    let secret = std::fs::read_to_string(folder().join("secret")).unwrap();
    let channels = [
        plain_mail("ok@example.org"),
        channel(ChannelKind::Slack {
            webhook_url: Secret::new(format!("http://127.0.0.1:{http}/slack")),
        }),
        channel(ChannelKind::Webhook {
            url: Secret::new(format!("http://127.0.0.1:{http}/hook")),
            signing_secret: Some(Secret::new(secret)),
        }),
    ];
    let mut hostile = reminder(&opened(IncidentKind::RunFailed));
    let text =
        format!("<!channel> *x* ``` & <img src=x>\r\nBcc: a@b.test\u{0}{}", "&😀".repeat(9000));
    hostile.facts.detail = Some(text.clone());
    hostile.facts.ending = Some(text.clone());
    hostile.facts.also = vec![text.clone(); 9];
    hostile.facts.log_tail = vec![text; 99];
    for channel in channels {
        for kind in INCIDENT_KINDS {
            let opening = opened(kind);
            send(&channel, &opening, &message(&opening, vec![])).await.unwrap();
            let end = resolved(&opening);
            let over = compose(&end, AlreadyNotified::Yes, vec![Annotation::PossibleRepeat]);
            send(&channel, &end, &over).await.unwrap();
        }
        hostile.number = 9;
        send(&channel, &hostile, &message(&hostile, vec![])).await.unwrap();
    }
}

#[tokio::test]
async fn every_fault_of_a_mail_server_is_told_apart() {
    let by = async |to: &str| try_mail(&plain_mail(to), vec![]).await;
    assert!(matches!(
        by("temp451@example.org").await,
        Err(SendError::Transient { arrival: Arrival::No, .. })
    ));
    let Err(SendError::Refused { reason, .. }) = by("perm550@example.org").await else {
        panic!("550")
    };
    assert!(reason.contains("no such user"), "{reason}");
    by("big552@example.org").await.expect("goes again as text only");
    by("slow@example.org").await.unwrap();
    let dropped = by("dropafter@example.org").await;
    assert!(matches!(dropped, Err(SendError::Transient { arrival: Arrival::Unknown, .. })));
    let again = plain_mail("dropafter@example.org");
    let _ = try_mail(&again, vec![Annotation::PossibleRepeat]).await;
}

#[tokio::test]
async fn tls_is_demanded_and_a_bad_certificate_or_password_breaks_the_channel() {
    let password = "right%20password";
    for (name, scheme, login) in
        [("starttls", "smtp", format!("me:{password}@")), ("implicit", "smtps", String::new())]
    {
        let url = format!("{scheme}://{login}localhost:{}", port(name));
        try_mail(&mail(&url, "tls@example.org"), vec![]).await.expect(name);
    }
    for (name, url, why) in [
        ("no STARTTLS", format!("smtp://me:{password}@localhost:{}", port("plain")), "STARTTLS"),
        ("expired", format!("smtp://me:{password}@localhost:{}", port("expired")), "expired"),
        ("password", format!("smtp://me:hunter22@localhost:{}", port("starttls")), "login"),
    ] {
        let error = try_mail(&mail(&url, "tls@example.org"), vec![]).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(error, SendError::Broken { .. }), "{name}: {text}");
        assert!(text.contains(why) && !text.contains("hunter22"), "{name}: {text}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_costs_half_a_minute_and_nobody_there_nothing() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = mail(&format!("smtps://localhost:{}", closed.port()), "a@example.org");
    let error = try_mail(&nobody, vec![]).await.unwrap_err();
    assert!(matches!(error, SendError::Transient { arrival: Arrival::No, .. }), "{error:?}");
    for scheme in ["smtp", "smtps"] {
        let silent = mail(&format!("{scheme}://localhost:{}", port("silent")), "a@example.org");
        tokio::time::pause();
        let started = tokio::time::Instant::now();
        let error = try_mail(&silent, vec![]).await.unwrap_err();
        assert!(matches!(error, SendError::Transient { .. }), "{scheme}: {error:?}");
        assert!(started.elapsed() <= Duration::from_secs(33), "{:?}", started.elapsed());
        tokio::time::resume();
    }
}
