//! The pages and the API, over real HTTP on loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use lookout::clock::Clock;
use lookout::run::ledger::{Ledger, Pause};
use lookout::schedule::{Schedule, ScheduleName};
use lookout::secret::Secret;
use lookout::watch::{IncidentKind, Severity, Verdict};
use lookout::web::access::Gate;
use lookout::web::status::{ChannelLine, Daemon, LoopPulse, PulseState, Sources};
use lookout::web::{Site, guarded, routes, serve};
use tokio::net::TcpListener;

use crate::past::{Past, at, fault, schedule, zone};

const NOW: &str = "2026-11-22T11:48:00Z";

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> DateTime<Utc> {
        at(NOW)
    }

    fn boot(&self) -> std::time::Duration {
        std::time::Duration::from_secs(1)
    }
}

#[derive(Debug)]
struct Scripted {
    schedules: Vec<Schedule>,
    state: Mutex<PulseState>,
}

impl Daemon for Scripted {
    fn schedules(&self) -> Vec<Schedule> {
        self.schedules.clone()
    }

    fn channels(&self) -> Vec<ChannelLine> {
        vec![ChannelLine {
            channel: "team-slack".to_owned(),
            kind: "slack",
            severity: Severity::Warning,
            fallback: Some("oncall-email".to_owned()),
        }]
    }

    fn pulse(&self) -> Vec<LoopPulse> {
        let pulse = |name: &str, state| LoopPulse {
            name: name.to_owned(),
            last_at: Some(at("2026-11-22T11:47:59Z")),
            state,
            doing: "waits for the next second".to_owned(),
        };
        vec![pulse("conductor", *self.state.lock().unwrap()), pulse("watchdog", PulseState::Alive)]
    }
}

/// A server with two schedules and two days of history.
struct Server {
    address: SocketAddr,
    daemon: Arc<Scripted>,
    past: Past,
}

impl Server {
    async fn start(bind: &str, token: Option<&str>) -> Self {
        let berlin = schedule("image-review", "0 * * * *", zone("Europe/Berlin"));
        let nightly = schedule("nightly-sort", "30 2 * * *", zone("UTC"));
        let past = Past::new();
        let daemon = Arc::new(Scripted {
            schedules: vec![berlin, nightly],
            state: Mutex::new(PulseState::Alive),
        });
        let sources = Sources {
            instance: "prod".to_owned(),
            ledger: Arc::clone(&past.db) as _,
            history: Arc::clone(&past.db) as _,
            clock: Arc::new(Fixed),
        };
        let site = Site { sources, daemon: Arc::clone(&daemon) as _ };
        let bind: SocketAddr = bind.parse().unwrap();
        let gate = Gate::new(bind, token.map(Secret::new)).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = guarded(routes(site), gate);
        tokio::spawn(serve(listener, router, std::future::pending()));
        Self { address, daemon, past }
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.get_with(path, None).await
    }

    async fn get_with(&self, path: &str, token: Option<&str>) -> reqwest::Response {
        lookout::http::install_crypto_provider();
        let request = reqwest::Client::new().get(format!("http://{}{path}", self.address));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap()
    }

    fn review(&self) -> &Schedule {
        &self.daemon.schedules[0]
    }
}

#[tokio::test]
async fn healthz_says_what_the_loops_say() {
    let server = Server::start("127.0.0.1:0", None).await;
    let answer = server.get("/healthz").await;
    assert_eq!(answer.status(), 200);
    for state in [PulseState::Dead, PulseState::Failing] {
        *server.daemon.state.lock().unwrap() = state;
        let answer = server.get("/healthz").await;
        assert_eq!(answer.status(), 503);
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["ok"], false);
        assert_eq!(body["loops"][0]["name"], "conductor");
    }
    assert_eq!(server.get("/readyz").await.status(), 503);
}

#[tokio::test]
async fn an_open_incident_does_not_make_healthz_red() {
    let server = Server::start("127.0.0.1:0", None).await;
    server.past.fault("image-review", IncidentKind::ProviderUnavailable, NOW).await;
    assert_eq!(server.get("/healthz").await.status(), 200);
    assert_eq!(server.get("/readyz").await.status(), 200);
}

#[tokio::test]
async fn elsewhere_than_on_loopback_everything_but_the_probes_needs_the_token() {
    let server = Server::start("0.0.0.0:8720", Some("open sesame")).await;
    for path in ["/", "/api/status", "/style.css", "/no-such-page"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status(), 401, "{path}");
        assert!(answer.headers().contains_key("www-authenticate"));
        assert_eq!(server.get_with(path, Some("wrong")).await.status(), 401);
    }
    assert_eq!(server.get_with("/", Some("open sesame")).await.status(), 200);
    let probe: serde_json::Value = server.get("/healthz").await.json().await.unwrap();
    assert_eq!(probe, serde_json::json!({ "ok": true }), "no details without the token");
    let full = server.get_with("/healthz", Some("open sesame")).await;
    let full: serde_json::Value = full.json().await.unwrap();
    assert_eq!(full["loops"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_api_tells_schedules_incidents_channels_and_pulse() {
    let server = Server::start("127.0.0.1:0", None).await;
    let counts = [("succeeded", 90), ("remaining", 1240)];
    let review = server.review().clone();
    server.past.judged(&review, "2026-11-22T10:00:00Z", 44, Verdict::Completed, "", &counts).await;
    server.past.started(&review, "2026-11-22T11:00:00Z", "run-now").await;
    server.past.fault("image-review", IncidentKind::ImageErrors, "2026-11-22T10:44:00Z").await;
    let pause = Pause {
        schedule: ScheduleName::new("nightly-sort"),
        reason: "disk is being replaced".to_owned(),
        until: None,
        paused_at: at(NOW),
    };
    server.past.db.pause(&pause).await.unwrap();
    let answer = server.get("/api/status").await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let status: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(status["condition"], "trouble");
    let first = &status["schedules"][0];
    assert_eq!(first["schedule"], "image-review");
    assert_eq!(first["next_due_at"], "2026-11-22T12:00:00Z");
    assert_eq!(first["last"]["verdict"], "completed");
    assert_eq!(first["running"]["run"], "run-now");
    assert_eq!(first["backlog"], 1240);
    assert_eq!(first["n_open_incidents"], 1);
    assert_eq!(status["schedules"][1]["paused"]["reason"], "disk is being replaced");
    assert_eq!(status["incidents"][0]["kind"], "image_errors");
    assert_eq!(status["channels"][0]["channel"], "team-slack");
    assert_eq!(status["loops"][1]["state"], "alive");
}

#[tokio::test]
async fn the_page_shows_hostile_texts_as_texts_and_forbids_everything_inline() {
    let server = Server::start("127.0.0.1:0", None).await;
    let review = server.review().clone();
    let hostile = "<script>alert(1)</script> \" onload='x'";
    server.past.judged(&review, "2026-11-22T10:00:00Z", 3, Verdict::Failed, hostile, &[]).await;
    let answer = server.get("/").await;
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let page = answer.text().await.unwrap();
    assert!(!page.contains("<script"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &quot; onload=&#39;x&#39;"));
    assert!(!page.contains(" style=") && !page.contains(" onload='"));
}

#[tokio::test]
async fn the_page_tells_results_by_shape_and_words_not_by_colour_alone() {
    let server = Server::start("127.0.0.1:0", None).await;
    let review = server.review().clone();
    server.past.judged(&review, "2026-11-22T09:00:00Z", 44, Verdict::Completed, "", &[]).await;
    let reason = "nothing moved for 10 min";
    server.past.judged(&review, "2026-11-22T10:00:00Z", 30, Verdict::Stalled, reason, &[]).await;
    let lost = "not started within 2 min";
    let missed = vec![fault("image-review", IncidentKind::RunMissed)];
    server.past.not_run(&review, "2026-11-22T11:00:00Z", Verdict::Missed, lost, missed).await;
    let page = server.get("/").await.text().await.unwrap();
    assert!(page.contains("did not start (not started within 2 min)"));
    assert!(page.contains("The last 3 runs of image-review, oldest first; 2 went wrong"));
    assert!(
        page.contains("Sun 22 Nov 11:00 CET: stood still, was stopped (nothing moved for 10 min)")
    );
    assert!(
        page.contains("<use href=\"#g-stalled\"/>") && page.contains("<symbol id=\"g-stalled\"")
    );
}

#[tokio::test]
async fn a_fresh_installation_has_a_page_that_says_what_is_missing() {
    let server = Server::start("127.0.0.1:0", None).await;
    let page = server.get("/").await.text().await.unwrap();
    assert!(page.contains("All is well") && page.contains("No run yet."));
    assert!(page.contains("next run in 12 min"), "{page}");
}
