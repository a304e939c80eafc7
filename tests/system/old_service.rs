//! The old Python service as it is, hour-long hang and all, guarded with the shipped examples.
//!
//! Its times are the real ones divided by a hundred: a hung call takes 6.6 s instead of 660.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;

use crate::world::World;

const HANGS_FOR: Duration = Duration::from_millis(6600);

/// What it says after such a call; from the night's log.
const UNREACHABLE: &str = r#"{"message":"Gemini API key validation failed: Timeout of 600.0s exceeded, last exception: 503 failed to connect to all addresses; last error: UNKNOWN: ipv4:142.250.0.1:443: tcp handshaker shutdown"}"#;

/// Its earlier driver: calls on and on, prints what it is told, finishes its batch on SIGINT. The
/// hung call is a sleep, since a machine that tests this needs no HTTP client.
const DRIVER: &str = r#"stop=; n=0
trap stop=1 INT
while [ -z "$stop" ]; do
    n=$((n + 1))
    sleep 6.6
    touch call-ended
    echo "Batch $n: $(cat answer.json)"
done
echo "Total batches: $n"
echo "Bulk auto review process completed."
"#;

/// How many calls have begun, and how many have ended.
#[derive(Clone, Default)]
struct Calls {
    begun: Arc<AtomicU32>,
    ended: Arc<AtomicU32>,
}

struct OldService {
    url: String,
    calls: Calls,
    _runtime: tokio::runtime::Runtime,
}

impl OldService {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let calls = Calls::default();
        let router = Router::new().route("/bulk_auto_review", post(hang)).with_state(calls.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/bulk_auto_review", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url, calls, _runtime: runtime }
    }

    /// Whether a call has ended.
    fn has_ended(&self) -> bool {
        self.calls.ended.load(Ordering::SeqCst) > 0
    }

    fn has_begun(&self) -> bool {
        self.calls.begun.load(Ordering::SeqCst) > 0
    }
}

async fn hang(State(calls): State<Calls>) -> &'static str {
    calls.begun.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(HANGS_FOR).await;
    calls.ended.fetch_add(1, Ordering::SeqCst);
    UNREACHABLE
}

/// The shipped example, switched on, a hundred times faster, with the changes of `edits`.
fn example(name: &str, edits: &[(&str, &str)]) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schedules").join(name);
    let mut text = std::fs::read_to_string(path).unwrap();
    let common = [
        ("enabled = false", "enabled = true"),
        ("cron = \"0 * * * *\"", "cron = \"*/30 * * * * *\""),
        ("time_box = \"45m\"", "time_box = \"20s\""),
        ("signal_grace = \"12m\"", "signal_grace = \"7200ms\"\nkill_grace = \"500ms\""),
    ];
    for (from, to) in common.iter().chain(edits) {
        assert!(text.contains(from), "{name} no longer has {from}");
        text = text.replace(from, to);
    }
    text
}

/// The shipped example for the endpoint.
fn endpoint_example(service: &OldService, call_timeout: &str) -> String {
    let call_timeout = format!("call_timeout = \"{call_timeout}\"");
    let edits = [
        ("http://127.0.0.1:8000/bulk_auto_review", service.url.as_str()),
        ("stall_after = \"14m\"", "stall_after = \"8400ms\""),
        ("idle_pause = \"1m\"", "idle_pause = \"600ms\""),
        ("call_timeout = \"12m\"", call_timeout.as_str()),
    ];
    example("old-service-http.toml", &edits)
}

struct Told {
    text: String,
    /// From the moment that was waited for.
    after: Duration,
}

/// Runs the daemon until its first message; times it from the moment that a call has come so far.
#[expect(clippy::disallowed_methods, reason = "real processes are timed")]
fn first_message(world: &mut World, call_has_come_so_far: impl Fn(&World) -> bool) -> Told {
    world.write("lookout.toml", "[service]\ninstance = \"test\"\nbind = \"127.0.0.1:0\"\n");
    world.start_daemon();
    let mut since = None;
    world.wait_for("the first message", Duration::from_secs(60), |world| {
        if since.is_none() && call_has_come_so_far(world) {
            since = Some(Instant::now());
        }
        let text = world.messages().first().map(|(_, body)| body.to_string())?;
        Some(Told { text, after: since.map_or(Duration::MAX, |since| since.elapsed()) })
    })
}

fn it_names_the_cause(told: &Told) {
    let text = &told.text;
    assert!(text.contains("provider_unavailable"), "{text}");
    assert!(text.contains("Gemini could not be reached"), "{text}");
    assert!(!text.contains("signal_missing"), "{text}");
    assert!(told.after < Duration::from_secs(2), "told after {:?}: {text}", told.after);
}

#[test]
fn the_old_endpoint_is_told_about_when_its_first_hung_call_ends() {
    let service = OldService::start();
    let mut world = World::new();
    world.write("schedules/old.toml", &endpoint_example(&service, "7200ms"));
    let told = first_message(&mut world, |_| service.has_ended());
    it_names_the_cause(&told);
    println!("told {:?} after the hung call", told.after);
}

#[test]
fn the_old_endpoint_is_told_about_when_a_call_reaches_its_time_limit() {
    let service = OldService::start();
    let mut world = World::new();
    world.write("schedules/old.toml", &endpoint_example(&service, "2s"));
    let told = first_message(&mut world, |_| service.has_begun());
    let limit = Duration::from_secs(2);
    assert!(told.after >= limit, "told before the limit: {:?}", told.after);
    it_names_the_cause(&Told { after: told.after.saturating_sub(limit), ..told });
    assert!(!service.has_ended(), "the call was cut off");
}

#[test]
fn the_old_driver_is_told_about_when_its_first_hung_call_ends() {
    let mut world = World::new();
    world.write("driver.sh", DRIVER);
    world.write("answer.json", UNREACHABLE);
    let cwd = format!("cwd = {:?}", world.path().to_str().unwrap());
    let edits = [
        ("argv = [\"python3\", \"run_bulk_auto_review.py\"]", "argv = [\"sh\", \"driver.sh\"]"),
        ("cwd = \"/srv/review\"", cwd.as_str()),
        ("stall_after = \"15m\"", "stall_after = \"9s\""),
    ];
    world.write("schedules/old.toml", &example("old-driver-command.toml", &edits));
    let told = first_message(&mut world, |world| world.path().join("call-ended").exists());
    it_names_the_cause(&told);
    println!("told {:?} after the hung call", told.after);
}
