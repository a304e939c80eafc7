//! Real processes that die: by a picture, by kill -9, and two that work side by side.
//!
//! The process that dies is this test program itself, started again with a folder in its
//! environment; the shipped binary knows nothing of it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lookout::clock::{Clock, SystemClock};
use lookout::review::pipeline::{self, Plan, Ports, Preparer, StopRequest};
use lookout::review::record::sqlite::{NewRecord, SqliteRecords};
use lookout::review::record::{Record, RecordId};
use lookout::review::report::{Observer, ReviewEvent};
use lookout::review::reviewer::{CallRecord, Health, Outcome, Prepared, ReviewRequest, Reviewer};
use lookout::review::settings::{BudgetSettings, Columns, OnBlocked};
use lookout::review::settle::Policy;
use lookout::review::source::{Source, SourceError};
use lookout::review::tries::sqlite::{HolderSettings, SqliteTries};
use rusqlite::Connection;
use tokio::sync::watch;

use super::world::{answer, names};

/// Tells the child where to work.
const FOLDER: &str = "LOOKOUT_TEST_REVIEW_FOLDER";

/// A picture of this name kills the process.
const POISON: &str = "p0250";

struct NamesAsPictures;

#[async_trait]
impl Source for NamesAsPictures {
    async fn fetch(&self, record: &Record) -> Result<Bytes, SourceError> {
        Ok(Bytes::from(record.id.0.clone()))
    }
}

#[async_trait]
impl Preparer for NamesAsPictures {
    async fn prepare(&self, bytes: Bytes) -> Result<Prepared, String> {
        if bytes.ends_with(b"broken") {
            return Err("the JPEG is cut off".into());
        }
        let sha256 = "0".repeat(64);
        Ok(Prepared { mime_type: "image/jpeg", bytes, width: 1, height: 1, sha256 })
    }
}

/// Writes each call down, and dies of the poison.
struct Mortal {
    calls: PathBuf,
    capacity: u32,
    poisonous: bool,
    in_flight: AtomicU32,
}

#[async_trait]
impl Reviewer for Mortal {
    async fn review(&self, ask: ReviewRequest<'_>) -> Outcome {
        let name = String::from_utf8(ask.picture.bytes.to_vec()).unwrap();
        let mut calls = OpenOptions::new().append(true).create(true).open(&self.calls).unwrap();
        calls.write_all(format!("{name}\n").as_bytes()).unwrap();
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if self.poisonous && name == POISON {
            std::process::abort();
        }
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        Outcome { result: Ok(answer()), call: CallRecord { attempts: 1, ..CallRecord::default() } }
    }

    fn health(&self) -> Health {
        Health::default()
    }

    fn concurrency(&self) -> u32 {
        self.capacity
    }

    fn usd_per_try(&self) -> Option<f64> {
        None
    }
}

struct Deaf;

impl Observer for Deaf {
    fn on_event(&self, _news: &ReviewEvent) {}
}

fn records(folder: &Path) -> SqliteRecords {
    let path = folder.join("records.db");
    SqliteRecords::open(&path, "midbot_images", &Columns::default()).unwrap()
}

/// The child's whole life. Without its folder it is no child, and there is nothing to do.
#[test]
fn the_process_that_may_die() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let capacity = std::fs::read_to_string(folder.join("capacity")).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let now = SystemClock.now();
    let run = format!("run-{}", std::process::id());
    let holder = HolderSettings {
        run: run.clone(),
        scope: "test".into(),
        started_at: now,
        lease_until: now + chrono::TimeDelta::hours(1),
    };
    let reviewer = Mortal {
        calls: folder.join("calls"),
        capacity,
        poisonous: folder.join("poisonous").exists(),
        in_flight: AtomicU32::new(0),
    };
    let ports = Ports {
        records: Arc::new(records(&folder)),
        source: Arc::new(NamesAsPictures),
        preparer: Arc::new(NamesAsPictures),
        reviewer: Arc::new(reviewer),
        tries: Arc::new(SqliteTries::open(&folder, &holder).unwrap()),
        clock: Arc::new(SystemClock),
    };
    let plan = Plan {
        run,
        pick_up: vec!["downloaded".into()],
        parked: None,
        batch: 100,
        limit: None,
        only: None,
        policy: Policy { on_blocked: OnBlocked::Error, waits: [Duration::from_millis(50); 2] },
        budget: BudgetSettings::default(),
        give_up_after: Duration::from_secs(60),
        box_end: None,
        grace_end: None,
        grace: Duration::from_secs(60),
    };
    let (_wish, wishes) = watch::channel(StopRequest::None);
    let report = runtime.block_on(pipeline::run(ports, plan, wishes, Arc::new(Deaf)));
    assert!(report.signal_line(None).is_some(), "{report:?}");
}

fn start_child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["review::crash::the_process_that_may_die", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn folder_with(names: Vec<String>, capacity: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("capacity"), capacity.to_string()).unwrap();
    let rows = names
        .into_iter()
        .map(|name| NewRecord { id: RecordId(name.clone()), url: String::new(), job_id: name })
        .collect();
    records(folder.path()).insert_new(rows, "downloaded", SystemClock.now()).await.unwrap();
    folder
}

fn statuses(folder: &Path) -> BTreeMap<String, i64> {
    let connection = Connection::open(folder.join("records.db")).unwrap();
    let mut select =
        connection.prepare("SELECT review_status, count(*) FROM midbot_images GROUP BY 1").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn calls(folder: &Path) -> Vec<String> {
    let calls = std::fs::read_to_string(folder.join("calls")).unwrap_or_default();
    calls.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_picture_that_kills_the_process_ends_as_an_error_and_its_neighbours_lose_nothing() {
    let folder = folder_with(names(501), 64).await;
    let folder = folder.path();
    std::fs::write(folder.join("poisonous"), "").unwrap();
    let mut n_deaths = 0;
    while !start_child(folder).wait().unwrap().success() {
        n_deaths += 1;
        assert!(n_deaths <= 4, "{:?}", statuses(folder));
    }
    // Once among its neighbours, which costs nothing, and three times alone.
    assert_eq!(n_deaths, 4);
    let expected = [("auto_review_error".to_owned(), 1), ("auto_review_success".to_owned(), 500)];
    assert_eq!(statuses(folder), expected.into());
    let connection = Connection::open(folder.join("records.db")).unwrap();
    let details: String = connection
        .query_row("SELECT auto_review_details FROM midbot_images WHERE id = ?1", [POISON], |row| {
            row.get(0)
        })
        .unwrap();
    assert!(details.contains("3 tries") && details.contains("process died"), "{details}");
}

/// How often a review is killed; `.ci/soak` raises it.
#[expect(clippy::disallowed_methods, reason = "a test's size comes from the environment")]
fn n_kills() -> u64 {
    std::env::var("LOOKOUT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

#[tokio::test]
async fn kill_9_at_any_moment_loses_no_row_and_leaves_none_in_processing() {
    const CAPACITY: u32 = 16;
    let n_kills = n_kills();
    // So many that they outlast the kills.
    let n_rows = 2000.max(n_kills * 80);
    let mut rows = names(usize::try_from(n_rows).unwrap());
    // Sick ones among them, which end as errors whoever dies.
    rows.extend((0..20).map(|n| format!("p{:04}-broken", n * 97)));
    let folder = folder_with(rows, CAPACITY).await;
    let folder = folder.path();
    let seed = u64::from(std::process::id());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut n_in_the_middle = 0;
    for _ in 0..n_kills {
        let mut child = start_child(folder);
        // Long enough to begin in most cases, short enough to be in the middle.
        let backoff = Duration::from_millis(random.u64(20..500));
        tokio::time::sleep(backoff).await;
        n_in_the_middle += u64::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(n_in_the_middle, n_kills, "it was done before the last kill, seed {seed}");
    assert!(start_child(folder).wait().unwrap().success(), "seed {seed}");
    let expected =
        [("auto_review_error".to_owned(), 20), ("auto_review_success".to_owned(), n_rows as i64)];
    assert_eq!(statuses(folder), expected.into(), "seed {seed}");
    let n_calls = calls(folder).len() as u64;
    assert!(n_calls <= n_rows + n_kills * u64::from(CAPACITY), "{n_calls} calls, seed {seed}");
    let connection = Connection::open(folder.join("review.db")).unwrap();
    let n_claims: i64 =
        connection.query_row("SELECT count(*) FROM claims", [], |row| row.get(0)).unwrap();
    assert_eq!(n_claims, 0, "seed {seed}");
}

#[tokio::test]
async fn two_reviews_at_once_review_each_row_exactly_once() {
    let folder = folder_with(names(2000), 16).await;
    let folder = folder.path();
    let mut children = [start_child(folder), start_child(folder)];
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(statuses(folder), [("auto_review_success".to_owned(), 2000)].into());
    let mut called = calls(folder);
    called.sort();
    assert_eq!(called, names(2000));
}
