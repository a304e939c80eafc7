//! An unreadable answer never becomes `good`: recorded bodies and broken ones go the whole way,
//! from the wire through client and loop to the row.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lookout::clock::{Clock, SystemClock};
use lookout::review::category::category;
use lookout::review::pipeline::{self, Plan, Ports, Preparer, StopRequest};
use lookout::review::prompt::Prompt;
use lookout::review::record::sqlite::{NewRecord, SqliteRecords};
use lookout::review::record::{Record, RecordId};
use lookout::review::reviewer::gemini::backoff::Backoff;
use lookout::review::reviewer::gemini::client::Gemini;
use lookout::review::reviewer::{Answer, Prepared};
use lookout::review::settings::{BudgetSettings, Columns, OnBlocked, Project, ReviewerSettings};
use lookout::review::settle::Policy;
use lookout::review::source::{Source, SourceError};
use lookout::review::tries::sqlite::{HolderSettings, SqliteTries};
use lookout::secret::Secret;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::world::{Ear, answer};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gemini");

/// How many bodies are broken.
const N_MUTATIONS: usize = 200;

/// The picture of a row is its number: the service finds the body by it.
struct NumbersAsPictures;

#[async_trait]
impl Source for NumbersAsPictures {
    async fn fetch(&self, record: &Record) -> Result<Bytes, SourceError> {
        Ok(Bytes::from(record.id.0.clone()))
    }
}

#[async_trait]
impl Preparer for NumbersAsPictures {
    async fn prepare(&self, bytes: Bytes) -> Result<Prepared, String> {
        let sha256 = "0".repeat(64);
        Ok(Prepared { mime_type: "image/jpeg", bytes, width: 1, height: 1, sha256 })
    }
}

/// Answers every call with the body that the picture names.
async fn serve(bodies: Vec<Vec<u8>>) -> String {
    let answering = |State(bodies): State<Arc<Vec<Vec<u8>>>>, request: String| async move {
        let request: Value = serde_json::from_str(&request).unwrap();
        let data = picture(&request).unwrap();
        let number = String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
        let number: usize = number.parse().unwrap();
        ([(CONTENT_TYPE, "application/json; charset=UTF-8")], bodies[number].clone())
    };
    let router = Router::new().fallback(answering).with_state(Arc::new(bodies));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// `data` of the first inline picture, wherever it stands.
fn picture(value: &Value) -> Option<&str> {
    match value {
        Value::Object(fields) => match fields.get("data") {
            Some(Value::String(data)) => Some(data),
            _ => fields.values().find_map(picture),
        },
        Value::Array(values) => values.iter().find_map(picture),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// What a body says, read as strictly as can be: the category it deserves, if it deserves one.
fn deserves(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let candidate = body.get("candidates")?.get(0)?;
    if candidate.get("finishReason")? != "STOP" {
        return None;
    }
    let parts = candidate.get("content")?.get("parts")?.as_array()?;
    let text: String = parts
        .iter()
        .filter(|part| part.get("thought") != Some(&Value::Bool(true)))
        .filter_map(|part| part.get("text")?.as_str())
        .collect();
    let answer: Answer = serde_json::from_str(text.trim()).ok()?;
    Some(category(&answer))
}

/// A whole answer that nothing was found: what a broken one must not be taken for.
fn nothing_found() -> Vec<u8> {
    let answer = Answer { humans: false, details: "A plain stone wall.".into(), ..answer() };
    let text = serde_json::to_string(&answer).unwrap();
    json!({
        "candidates": [{
            "content": { "parts": [{ "text": text }], "role": "model" },
            "finishReason": "STOP",
            "index": 0,
        }],
        "usageMetadata": { "promptTokenCount": 1600, "candidatesTokenCount": 80 },
        "modelVersion": "gemini-3.5-flash-lite",
    })
    .to_string()
    .into_bytes()
}

/// Cuts, flips, drops, doubles; it still begins as an object, since what does not is no answer of
/// the service's at all, and that is another story (`provider.rs`).
fn mutate(body: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..random.usize(1..4) {
        if body.len() < 2 {
            break;
        }
        let at = random.usize(1..body.len());
        match random.u8(..5) {
            0 => body.truncate(at),
            1 => body[at] ^= 1 << random.u8(..8),
            2 => drop(body.remove(at)),
            3 => body.insert(at, body[at]),
            _ => {
                let end = (at + random.usize(1..40)).min(body.len());
                body.drain(at..end);
            }
        }
    }
    body
}

fn bodies(seed: u64) -> Vec<Vec<u8>> {
    let mut bodies = vec![nothing_found()];
    for entry in std::fs::read_dir(FIXTURES).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_body = ["ok-", "blocked-", "finish-", "max-tokens", "refusal-"]
            .iter()
            .any(|start| name.starts_with(start));
        if is_body {
            bodies.push(std::fs::read(path).unwrap());
        }
    }
    assert!(bodies.len() > 15, "{}", bodies.len());
    let mut random = fastrand::Rng::with_seed(seed);
    let n_whole = bodies.len();
    for n in 0..N_MUTATIONS {
        // Every second one is the dangerous one.
        let whole = if n % 2 == 0 { 0 } else { random.usize(..n_whole) };
        let mutated = mutate(&bodies[whole], &mut random);
        bodies.push(mutated);
    }
    bodies
}

fn settings(base_url: String) -> ReviewerSettings {
    ReviewerSettings {
        model: "gemini-3.5-flash-lite".into(),
        base_url,
        api_version: "v1beta".into(),
        max_in_flight: 16,
        connect_timeout: Duration::from_secs(5),
        attempt_timeout: Duration::from_secs(20),
        try_timeout: Duration::from_secs(60),
        give_up_after: Duration::from_secs(60),
        on_blocked: OnBlocked::Error,
        projects: vec![Project {
            name: "main".into(),
            keys: vec![Secret::new("fake-key-of-a-test")],
        }],
        prompt_file: None,
        prices: BTreeMap::new(),
    }
}

async fn review(folder: &Path, base_url: String, n_rows: usize) {
    let records =
        SqliteRecords::open(&folder.join("records.db"), "t", &Columns::default()).unwrap();
    let rows = (0..n_rows).map(|number| NewRecord {
        id: RecordId(number.to_string()),
        job_id: String::new(),
        url: String::new(),
    });
    let now = SystemClock.now();
    records.insert_new(rows.collect(), "downloaded", now).await.unwrap();
    let holder = HolderSettings {
        run: "run".into(),
        scope: "test".into(),
        started_at: now,
        lease_until: now + chrono::TimeDelta::hours(1),
    };
    let short = Duration::from_millis(1);
    let backoff =
        Backoff { pause: short, max_pause: short, probe: short, max_probe: short, vague: short };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let gemini =
        Gemini::with_backoff(&settings(base_url), Prompt::built_in(), Arc::clone(&clock), backoff);
    let ports = Ports {
        records: Arc::new(records),
        source: Arc::new(NumbersAsPictures),
        preparer: Arc::new(NumbersAsPictures),
        reviewer: Arc::new(gemini.unwrap()),
        tries: Arc::new(SqliteTries::open(folder, &holder).unwrap()),
        clock,
    };
    let plan = Plan {
        run: "run".into(),
        pick_up: vec!["downloaded".into()],
        parked: None,
        batch: 100,
        limit: None,
        only: None,
        policy: Policy { on_blocked: OnBlocked::Error, waits: [short; 2] },
        budget: BudgetSettings::default(),
        give_up_after: Duration::from_secs(60),
        box_end: None,
        grace_end: None,
        grace: Duration::from_secs(60),
    };
    let (_wish, wishes) = watch::channel(StopRequest::None);
    let report = pipeline::run(ports, plan, wishes, Arc::new(Ear::default())).await;
    assert!(report.signal_line(None).is_some(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_answer_never_becomes_good() {
    lookout::http::install_crypto_provider();
    let seed = u64::from(std::process::id());
    let bodies = bodies(seed);
    let folder = tempfile::tempdir().unwrap();
    let base_url = serve(bodies.clone()).await;
    review(folder.path(), base_url, bodies.len()).await;
    let connection = Connection::open(folder.path().join("records.db")).unwrap();
    let mut select =
        connection.prepare("SELECT id, review_status, auto_review_status FROM t").unwrap();
    let rows = select
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })
        .unwrap();
    let mut n_good = 0;
    for row in rows {
        let (id, status, categories) = row.unwrap();
        let body = &bodies[id.parse::<usize>().unwrap()];
        let shown = String::from_utf8_lossy(body);
        match status.as_str() {
            "auto_review_success" => {
                assert_eq!(Some(categories), deserves(body), "seed {seed}: {shown}");
                n_good += 1;
            }
            "auto_review_error" => assert_eq!(categories, "auto_review_error"),
            other => panic!("{other}, seed {seed}: {shown}"),
        }
    }
    assert!(n_good >= 1, "at least the whole one is reviewed");
}
