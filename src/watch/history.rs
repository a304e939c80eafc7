//! What was: slots with their verdicts, incidents with their news, for pages and the command line.
//!
//! A port for reading only; `store` implements it. Rows serialise with the words of the glossary, so
//! that `--json` prints them as they are.
//! Invariant: nothing here changes anything.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Incident, Verdict};
use crate::run::ledger::{Cause, Origin};
use crate::schedule::Schedule;
use crate::storage::StorageError;

/// What a run came to, as far as it said so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// When the job started.
    pub started_at: Option<DateTime<Utc>>,
    /// When its main process ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How long that took, on the boot clock.
    pub seconds: Option<f64>,
    /// `exit code 1`, `killed by signal 9`, `HTTP 500`.
    pub ending: Option<String>,
    /// When the signal came.
    pub signal_at: Option<DateTime<Utc>>,
    /// Done.
    pub done: Option<u64>,
    /// Of how many.
    pub total: Option<u64>,
    /// Of what.
    pub unit: Option<String>,
    /// Totals by name.
    pub counts: BTreeMap<String, u64>,
    /// US dollars, if known.
    pub usd: Option<f64>,
    /// The incident kind of somebody else's fault, if one was the cause.
    pub cause: Option<super::IncidentKind>,
}

/// How far a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Written down, not claimed.
    Planned,
    /// Claimed: its run goes on.
    Running,
    /// It will not be run; its verdict comes in a moment.
    Dropped,
    /// It has its verdict.
    Judged,
}

/// A slot with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlotRow {
    /// Whose slot.
    pub schedule: String,
    /// Its instant.
    pub due_at: DateTime<Utc>,
    /// Not started by then: missed.
    pub start_by: DateTime<Utc>,
    /// Where it came from.
    pub origin: Origin,
    /// How far it is.
    pub state: SlotState,
    /// Its run, if it came to one.
    pub run: Option<String>,
    /// What became of it.
    pub verdict: Option<Verdict>,
    /// Why.
    pub reason: Option<String>,
    /// What else is worth knowing.
    pub findings: Vec<String>,
    /// Why it was not run.
    pub cause: Option<Cause>,
    /// When its keeper was started, or the job, as soon as that is known.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub ended_at: Option<DateTime<Utc>>,
    /// When the verdict was written.
    pub judged_at: Option<DateTime<Utc>>,
    /// What the run came to.
    pub summary: Summary,
    /// The configuration it was planned or started with.
    #[serde(skip)]
    pub configuration: Box<Schedule>,
}

/// A time in which a schedule was in effect: each of its slots has a row, also those that did not run.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// As it was then.
    pub schedule: Schedule,
    /// Slots later than this …
    pub since: DateTime<Utc>,
    /// … and up to and with this.
    pub until: DateTime<Utc>,
}

/// Which slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotFilter {
    /// Of this schedule.
    pub schedule: Option<String>,
    /// Due at or after.
    pub from: Option<DateTime<Utc>>,
    /// Due before.
    pub until: Option<DateTime<Utc>>,
    /// With this verdict.
    pub verdict: Option<Verdict>,
    /// At most so many, newest first; `None`: all.
    pub limit: Option<u32>,
}

/// Which incidents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncidentFilter {
    /// Those that are not resolved.
    #[default]
    Open,
    /// All, newest first.
    All,
}

/// Reading what was.
#[async_trait]
pub trait History: Send + Sync + Debug {
    /// Slots, newest first.
    async fn slots(&self, filter: SlotFilter) -> Result<Vec<SlotRow>, StorageError>;

    /// When which schedule was in effect, as far as that reaches into `[from, until]`.
    async fn spans(
        &self,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<Span>, StorageError>;

    /// The slot of a run; the beginning of its id is enough where it is the only one.
    async fn slot_of_run(&self, run: &str) -> Result<Option<SlotRow>, StorageError>;

    /// Incidents, newest first.
    async fn incidents(
        &self,
        filter: IncidentFilter,
        limit: u32,
    ) -> Result<Vec<Incident>, StorageError>;
}
