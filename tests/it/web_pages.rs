//! The pages and the API, over real HTTP on loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use lookout::clock::Clock;
use lookout::run::ledger::{Ledger, Pause};
use lookout::schedule::{Schedule, ScheduleName};
use lookout::secret::Secret;
use lookout::watch::incidents::Incidents;
use lookout::watch::{IncidentKind, Severity, Verdict};
use lookout::web::access::Gate;
use lookout::web::status::{ChannelLine, Daemon, LoopPulse, PulseState, Sources};
use lookout::web::{Limits, STOP_TIMEOUT, Site, guarded, routes, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

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
        tokio::spawn(serve(listener, router, Limits::of(64), CancellationToken::new()));
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
async fn messages_that_do_not_get_through_make_healthz_red() {
    for kind in [IncidentKind::ChannelBroken, IncidentKind::OutboxDegraded] {
        let server = Server::start("127.0.0.1:0", None).await;
        server.past.fault("image-review", kind, NOW).await;
        let answer = server.get("/healthz").await;
        assert_eq!(answer.status(), 503);
        let body: serde_json::Value = answer.json().await.unwrap();
        assert!(body["degraded"][0].as_str().unwrap().starts_with("incident 1: "), "{body}");
        assert_eq!(server.get("/readyz").await.status(), 200);
    }
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

/// Whether the page's title and its top say this, and not that all is well.
async fn headline(server: &Server) -> String {
    let page = server.get("/").await.text().await.unwrap();
    let (_, title) = page.split_once("<title>prod: ").unwrap();
    let (title, _) = title.split_once("</title>").unwrap();
    let (_, banner) = page.split_once("<section class=\"banner ").unwrap();
    let (class, rest) = banner.split_once('"').unwrap();
    assert!(rest.contains(&format!("<h2>{title}</h2>")), "{rest}");
    format!("{class}: {title}")
}

#[tokio::test]
async fn the_headline_says_the_worst_that_is_true() {
    let server = Server::start("127.0.0.1:0", None).await;
    assert_eq!(headline(&server).await, "well: All is well");
    let pause = |schedule: &str, until: Option<&str>| Pause {
        schedule: ScheduleName::new(schedule),
        reason: "maintenance".to_owned(),
        until: until.map(at),
        paused_at: at(NOW),
    };
    server.past.db.pause(&pause("nightly-sort", None)).await.unwrap();
    assert_eq!(headline(&server).await, "trouble: 1 schedule paused");
    let until = Some("2026-11-22T13:30:00Z");
    server.past.db.pause(&pause("image-review", until)).await.unwrap();
    assert_eq!(headline(&server).await, "trouble: All schedules are paused");
    server.past.fault("image-review", IncidentKind::ImageErrors, NOW).await;
    assert_eq!(headline(&server).await, "unwell: 1 open incident");
    assert!(server.past.db.acknowledge(1).await.unwrap());
    assert_eq!(headline(&server).await, "trouble: 1 open incident (acknowledged)");
    let lost = vec![fault("image-review", IncidentKind::RunMissed)];
    let review = server.review().clone();
    let due = "2026-11-22T11:00:00Z";
    server.past.not_run(&review, due, Verdict::Missed, "not started", lost).await;
    assert_eq!(headline(&server).await, "unwell: 2 open incidents (1 acknowledged)");
    *server.daemon.state.lock().unwrap() = PulseState::Dead;
    assert_eq!(headline(&server).await, "unwell: Lookout itself is not working properly");
}

#[tokio::test]
async fn the_next_run_of_a_paused_schedule_is_the_first_after_the_pause() {
    let server = Server::start("127.0.0.1:0", None).await;
    let next = async || {
        let status: serde_json::Value = server.get("/api/status").await.json().await.unwrap();
        status["schedules"][0]["next_due_at"].clone()
    };
    assert_eq!(next().await, "2026-11-22T12:00:00Z");
    for (until, due) in [
        (Some("2026-11-22T13:30:00Z"), "2026-11-22T14:00:00Z".into()),
        (Some("2026-11-22T14:00:00Z"), "2026-11-22T14:00:00Z".into()),
        (None, serde_json::Value::Null),
    ] {
        let pause = Pause {
            schedule: ScheduleName::new("image-review"),
            reason: "maintenance".to_owned(),
            until: until.map(at),
            paused_at: at(NOW),
        };
        server.past.db.pause(&pause).await.unwrap();
        assert_eq!(next().await, due);
    }
}

/// A server with these limits, and the end of it.
async fn limited(limits: Limits) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let long = "x".repeat(32 << 20);
    let router = axum::Router::new()
        .route("/", axum::routing::get(|| async { "here" }))
        .route("/long", axum::routing::get(move || async move { long }))
        .route("/slow", axum::routing::get(std::future::pending::<()>));
    let stop = CancellationToken::new();
    let serving = serve(listener, router, limits, stop.clone());
    (address, stop, tokio::spawn(async move { serving.await.unwrap() }))
}

async fn connect(address: SocketAddr, sent: &[u8]) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

/// What comes until the other side closes.
async fn answer(mut stream: tokio::net::TcpStream) -> String {
    use tokio::io::AsyncReadExt;
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

const HALF: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n";
const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_come_to_its_end_is_given_up() {
    let limits = Limits::of(8);
    let (address, _stop, _serving) = limited(limits).await;
    for sent in [&b""[..], HALF, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let began = tokio::time::Instant::now();
        answer(connect(address, sent).await).await;
        let took = began.elapsed();
        assert!(took >= limits.head && took < 3 * limits.head, "{took:?}: {sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_is_given_up() {
    let limits = Limits::of(1);
    let (address, _stop, _serving) = limited(limits).await;
    let began = tokio::time::Instant::now();
    let unread = connect(address, b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let next = answer(connect(address, WHOLE).await).await;
    assert!(next.ends_with("here"), "{next}");
    assert!(began.elapsed() >= limits.write, "its place was taken until then");
    drop(unread);
}

#[tokio::test(start_paused = true)]
async fn more_connections_than_allowed_wait_until_one_is_free() {
    let limits = Limits::of(2);
    let (address, _stop, _serving) = limited(limits).await;
    let began = tokio::time::Instant::now();
    let taken = [connect(address, HALF).await, connect(address, HALF).await];
    let third = answer(connect(address, WHOLE).await).await;
    assert!(third.starts_with("HTTP/1.1 200"), "{third}");
    assert!(began.elapsed() >= limits.head, "not before one of the others was given up");
    drop(taken);
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_does_holds_up_the_end_for_seconds_at_most() {
    for sent in [&b""[..], HALF, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let (address, stop, serving) = limited(Limits::of(8)).await;
        let _open = connect(address, sent).await;
        // Served until there is nothing more to do.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        let began = tokio::time::Instant::now();
        stop.cancel();
        serving.await.unwrap();
        assert!(began.elapsed() <= STOP_TIMEOUT + std::time::Duration::from_secs(1), "{sent:?}");
    }
}

#[tokio::test]
async fn http_2_is_not_spoken_and_a_huge_head_is_refused() {
    let (address, _stop, _serving) = limited(Limits::of(8)).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answered = answer(connect(address, preface).await).await;
    assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 4"), "{answered}");
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(100));
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "b".repeat(64 << 10));
    for sent in [many, large] {
        let refused = answer(connect(address, sent.as_bytes()).await).await;
        assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431"), "{refused}");
    }
}

#[tokio::test]
async fn a_name_that_is_not_ours_a_proxy_and_a_foreign_page_get_no_answer_without_a_token() {
    let server = Server::start("127.0.0.1:0", None).await;
    lookout::http::install_crypto_provider();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let status = async |path: &str, name: &str, value: &str| {
        let request = client.get(format!("http://{}{path}", server.address)).header(name, value);
        request.send().await.unwrap().status().as_u16()
    };
    for path in ["/", "/api/status", "/style.css", "/healthz", "/nowhere"] {
        assert_eq!(status(path, "host", "evil.example:8720").await, 403, "{path}");
        assert_ne!(status(path, "host", "localhost:1").await, 403, "{path}");
        let proxied = status(path, "x-forwarded-for", "203.0.113.7").await;
        assert_eq!(proxied == 403, path != "/healthz", "{path}: {proxied}");
    }
    assert_eq!(status("/api/status", "sec-fetch-site", "cross-site").await, 403);
    assert_eq!(status("/", "sec-fetch-site", "cross-site").await, 200, "a link may lead here");
    let with_token = Server::start("127.0.0.1:0", Some("open sesame")).await;
    let request = client.get(format!("http://{}/api/status", with_token.address));
    let request = request.bearer_auth("open sesame").header("host", "lookout.example");
    let answer = request.header("x-forwarded-for", "203.0.113.7").send().await.unwrap();
    assert_eq!(answer.status(), 200, "the token makes any name and any way right");
}
