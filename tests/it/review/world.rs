//! The world of the review's stories: rows in a real `records.db`, a bucket and a provider that do
//! what a script says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use lookout::clock::{Clock, SimClock};
use lookout::protocol::Line;
use lookout::review::pipeline::{self, Plan, Ports, Preparer, StopRequest};
use lookout::review::record::sqlite::{NewRecord, SqliteRecords};
use lookout::review::record::{Record, RecordId};
use lookout::review::report::{Observer, Report, ReviewEvent};
use lookout::review::reviewer::{
    Answer, AttemptCounts, CallRecord, Fault, Health, Outcome, Prepared, Refusal, RefusalCause,
    ReviewRequest, Reviewer,
};
use lookout::review::settings::{BudgetSettings, Columns, OnBlocked};
use lookout::review::settle::Policy;
use lookout::review::source::{Source, SourceError};
use lookout::review::tries::sqlite::{HolderSettings, SqliteTries};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::sync::watch;

/// What the bucket has for a picture: its name and how often it was asked for it before.
pub(super) type Bucket = dyn Fn(&str, u32) -> Result<(), SourceError> + Send + Sync;

/// What the provider says to a picture: its name, how often it was asked before, seconds since the
/// start.
pub(super) type Provider = dyn Fn(&str, u32, u64) -> Result<Answer, Fault> + Send + Sync;

pub(super) fn answer() -> Answer {
    Answer {
        text_present: false,
        text_correct: false,
        text_errors: false,
        watermark: false,
        humans: true,
        nudity: false,
        blood: false,
        brands: false,
        copyright: false,
        places: false,
        people: false,
        details: "Somebody.".into(),
    }
}

pub(super) fn unavailable(status: Option<u16>) -> Fault {
    Fault::Unavailable { status, reason: format!("no answer but {status:?}") }
}

pub(super) fn refused(cause: RefusalCause) -> Fault {
    let title = "Gemini refuses us, reviews stopped".to_owned();
    let (reason, action) = ("it refuses us".to_owned(), "do something".to_owned());
    Fault::Refused(Refusal { cause, title, reason, action, until: None })
}

pub(super) fn unreadable() -> Fault {
    Fault::Unreadable { reason: "cut off".into(), correction: "answer in full".into() }
}

struct ScriptedSource {
    bucket: Arc<Bucket>,
    fetches: Mutex<BTreeMap<String, u32>>,
}

#[async_trait]
impl Source for ScriptedSource {
    async fn fetch(&self, record: &Record) -> Result<Bytes, SourceError> {
        let name = record.job_id.clone().unwrap();
        let n_before = count(&self.fetches, &name);
        tokio::time::sleep(Duration::from_millis(50)).await;
        (self.bucket)(&name, n_before)?;
        Ok(Bytes::from(name))
    }
}

struct ScriptedPreparer;

#[async_trait]
impl Preparer for ScriptedPreparer {
    async fn prepare(&self, bytes: Bytes) -> Result<Prepared, String> {
        if bytes.starts_with(b"broken") {
            return Err("the JPEG is cut off".into());
        }
        let sha256 = "0".repeat(64);
        Ok(Prepared { mime_type: "image/jpeg", bytes, width: 1, height: 1, sha256 })
    }
}

/// The provider: answers after `latency`, counts what it sees.
pub(super) struct ScriptedReviewer {
    provider: Arc<Provider>,
    latency: Duration,
    capacity: u32,
    usd: Option<f64>,
    start: tokio::time::Instant,
    pub(super) asked: Mutex<BTreeMap<String, u32>>,
    pub(super) corrections: Mutex<Vec<String>>,
    health: Mutex<Health>,
    now: Mutex<(u32, u32)>,
}

impl ScriptedReviewer {
    /// Most pictures that were with it at the same time.
    pub(super) fn most_at_once(&self) -> u32 {
        self.now.lock().unwrap().1
    }

    pub(super) fn n_calls(&self) -> u64 {
        self.health.lock().unwrap().calls
    }
}

#[async_trait]
impl Reviewer for ScriptedReviewer {
    async fn review(&self, ask: ReviewRequest<'_>) -> Outcome {
        let name = String::from_utf8(ask.picture.bytes.to_vec()).unwrap();
        let n_before = count(&self.asked, &name);
        self.corrections.lock().unwrap().extend(ask.correction.map(str::to_owned));
        {
            let mut now = self.now.lock().unwrap();
            now.0 += 1;
            now.1 = now.1.max(now.0);
        }
        let fared = |health: &Health| AttemptCounts {
            answered: health.calls - health.faults,
            faults: health.faults,
        };
        let before = fared(&self.health());
        let until = tokio::time::Instant::now() + self.latency;
        tokio::time::sleep_until(until.min(ask.deadline)).await;
        self.now.lock().unwrap().0 -= 1;
        let result = if until > ask.deadline {
            Err(Fault::OutOfTime)
        } else {
            (self.provider)(&name, n_before, self.start.elapsed().as_secs())
        };
        let mut health = self.health.lock().unwrap();
        let peers = fared(&health).since(before);
        health.calls += 1;
        if let Err(Fault::Unavailable { status, reason }) = &result {
            health.faults += 1;
            health.last_status = *status;
            health.last_detail = Some(reason.clone());
        }
        let call = CallRecord {
            model: "scripted".into(),
            attempts: 1,
            tokens_in: 100,
            tokens_out: 10,
            usd: self.usd,
            prompt_hash: "hash".into(),
            took: self.latency,
            peers,
            ..CallRecord::default()
        };
        Outcome { result, call }
    }

    fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }

    fn concurrency(&self) -> u32 {
        self.capacity
    }

    fn usd_per_try(&self) -> Option<f64> {
        self.usd
    }
}

fn count(counts: &Mutex<BTreeMap<String, u32>>, name: &str) -> u32 {
    let mut counts = counts.lock().unwrap();
    let count = counts.entry(name.to_owned()).or_default();
    *count += 1;
    *count - 1
}

/// A line, and how long after the run's start it was said.
pub(super) type Heard = (Duration, Line);

/// Keeps what was told.
pub(super) struct Ear {
    since: tokio::time::Instant,
    heard: Mutex<Vec<Heard>>,
    results: Mutex<u64>,
}

impl Default for Ear {
    fn default() -> Self {
        let since = tokio::time::Instant::now();
        Self { since, heard: Mutex::default(), results: Mutex::default() }
    }
}

impl Observer for Ear {
    fn on_event(&self, event: &ReviewEvent) {
        match event {
            ReviewEvent::Line(line) => {
                self.heard.lock().unwrap().push((self.since.elapsed(), line.clone()));
            }
            ReviewEvent::Progress { .. } => {}
            ReviewEvent::Result(_) => *self.results.lock().unwrap() += 1,
        }
    }
}

/// One directory of state with its rows.
pub(super) struct World {
    folder: TempDir,
    clock: Arc<SimClock>,
    pub(super) bucket: Arc<Bucket>,
    pub(super) provider: Arc<Provider>,
    pub(super) latency: Duration,
    pub(super) capacity: u32,
    pub(super) usd: Option<f64>,
    pub(super) budget: BudgetSettings,
    pub(super) box_lasts: Option<Duration>,
    pub(super) limit: Option<u64>,
    n_runs: u32,
}

/// What came of one run.
pub(super) struct Ran {
    pub(super) report: Report,
    pub(super) reviewer: Arc<ScriptedReviewer>,
    pub(super) lines: Vec<String>,
}

impl Ran {
    pub(super) fn has_line(&self, start: &str) -> bool {
        self.lines.iter().any(|line| line.starts_with(start))
    }
}

impl World {
    /// With these pictures, oldest first. Everything works, an answer takes a second, 8 at once.
    pub(super) async fn with<I: IntoIterator<Item = S>, S: Into<String>>(names: I) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let epoch = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let world = Self {
            folder,
            clock: Arc::new(SimClock::new(epoch)),
            bucket: Arc::new(|_, _| Ok(())),
            provider: Arc::new(|_, _, _| Ok(answer())),
            latency: Duration::from_secs(1),
            capacity: 8,
            usd: Some(0.001),
            budget: BudgetSettings::default(),
            box_lasts: None,
            limit: None,
            n_runs: 0,
        };
        let rows = names.into_iter().map(|name| {
            let name = name.into();
            NewRecord { id: RecordId(name.clone()), url: format!("file:///{name}"), job_id: name }
        });
        let records = world.records();
        records.insert_new(rows.collect(), "downloaded", world.clock.now()).await.unwrap();
        world
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn records(&self) -> SqliteRecords {
        let path = self.folder.path().join("records.db");
        SqliteRecords::open(&path, "midbot_images", &Columns::default()).unwrap()
    }

    /// Gives the table of the records a rule of its own.
    pub(super) fn records_rule(&self, sql: &str) {
        // Makes the table, if nobody has.
        drop(self.records());
        let connection = Connection::open(self.folder.path().join("records.db")).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    pub(super) async fn run(&mut self) -> Ran {
        let (_wish, wishes) = watch::channel(StopRequest::None);
        self.run_with(wishes).await
    }

    /// One run with the scripted provider.
    pub(super) async fn run_with(&mut self, wishes: watch::Receiver<StopRequest>) -> Ran {
        let now = tokio::time::Instant::now();
        let reviewer = Arc::new(ScriptedReviewer {
            provider: Arc::clone(&self.provider),
            latency: self.latency,
            capacity: self.capacity,
            usd: self.usd,
            start: now,
            asked: Mutex::default(),
            corrections: Mutex::default(),
            health: Mutex::default(),
            now: Mutex::default(),
        });
        let asked = Arc::clone(&reviewer) as Arc<dyn Reviewer>;
        let (report, heard) = self.review_by(asked, Arc::new(ScriptedPreparer), wishes).await;
        let lines = heard.iter().map(|(_, line)| line.to_string()).collect();
        Ran { report, reviewer, lines }
    }

    /// One run, in this process but with a state of its own, as a new process would have.
    pub(super) async fn review_by(
        &mut self,
        reviewer: Arc<dyn Reviewer>,
        preparer: Arc<dyn Preparer>,
        wishes: watch::Receiver<StopRequest>,
    ) -> (Report, Vec<Heard>) {
        self.n_runs += 1;
        let now = tokio::time::Instant::now();
        let run = format!("run-{}", self.n_runs);
        let clock: Arc<dyn Clock> = self.clock.clone();
        let holder = HolderSettings {
            run: run.clone(),
            scope: "test".into(),
            started_at: clock.now(),
            lease_until: clock.now() + chrono::TimeDelta::hours(1),
        };
        let bucket = Arc::clone(&self.bucket);
        let ports = Ports {
            records: Arc::new(self.records()),
            source: Arc::new(ScriptedSource { bucket, fetches: Mutex::default() }),
            preparer,
            reviewer,
            tries: Arc::new(SqliteTries::open(self.folder.path(), &holder).unwrap()),
            clock,
        };
        let plan = Plan {
            run,
            pick_up: vec!["downloaded".into()],
            parked: None,
            batch: 100,
            limit: self.limit,
            only: None,
            policy: Policy { on_blocked: OnBlocked::Error, waits: Policy::WAITS },
            budget: self.budget,
            give_up_after: Duration::from_secs(600),
            box_end: self.box_lasts.map(|lasts| now + lasts),
            grace_end: self.box_lasts.map(|lasts| now + lasts + Duration::from_secs(300)),
            grace: Duration::from_secs(60),
        };
        let ear = Arc::new(Ear::default());
        let report =
            pipeline::run(ports, plan, wishes, Arc::clone(&ear) as Arc<dyn Observer>).await;
        let heard = ear.heard.lock().unwrap().clone();
        assert_eq!(*ear.results.lock().unwrap(), report.counts.settled());
        (report, heard)
    }

    /// `review_status` → how many rows have it.
    pub(super) fn statuses(&self) -> BTreeMap<String, u64> {
        let sql = "SELECT review_status, count(*) FROM midbot_images GROUP BY 1";
        let connection = Connection::open(self.folder.path().join("records.db")).unwrap();
        let mut select = connection.prepare(sql).unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// Status, category and details of a row.
    pub(super) fn row(&self, name: &str) -> (String, String, String) {
        let connection = Connection::open(self.folder.path().join("records.db")).unwrap();
        let sql = "SELECT review_status, coalesce(auto_review_status, ''),
                       coalesce(auto_review_details, '') FROM midbot_images WHERE id = ?1";
        connection
            .query_row(sql, [name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap()
    }

    /// One number of `review.db`.
    pub(super) fn noted(&self, sql: &str) -> i64 {
        let connection = Connection::open(self.folder.path().join("review.db")).unwrap();
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

/// `n` names that sort as they are made.
pub(super) fn names(n: usize) -> Vec<String> {
    (0..n).map(|number| format!("p{number:04}")).collect()
}
