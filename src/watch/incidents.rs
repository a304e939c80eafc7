//! Where verdicts, incidents and news are written: one port, so that they are one transaction.
//!
//! `store` implements it. Who decides what is written is [`super::watchdog`] (and `alert`, for its own
//! channels); who reads the news is `alert`.
//! Invariant: a slot's verdict, what it does to incidents and the news of it are all there or
//! all absent; a fault key has at most one incident that is not resolved.

use std::fmt::Debug;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::history::Summary;
use super::{Facts, Incident, IncidentKind, News, Severity, Verdict};
use crate::run::RunId;
use crate::schedule::Slot;
use crate::storage::StorageError;

/// The verdict of a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Which slot.
    pub slot: Slot,
    /// Its run; `None` for a slot that nobody claimed. Must be as it is in the ledger, so that
    /// a slot that was claimed a moment ago is not judged as one that was not.
    pub run: Option<RunId>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, for people.
    pub reason: String,
    /// What else is worth knowing.
    pub findings: Vec<String>,
    /// What the run came to.
    pub summary: Summary,
    /// When it was decided.
    pub at: DateTime<Utc>,
}

/// What happens to an incident.
#[derive(Clone, Debug, PartialEq)]
pub enum IncidentWrite {
    /// The fault is there: opens an incident, or touches the one that is open. News if it is
    /// new or got worse.
    Fault(Box<FaultWrite>),
    /// It is over: resolves the incident, if one is open.
    Over {
        /// Which fault.
        key: String,
        /// What is known.
        facts: Box<Facts>,
    },
    /// It is still there, and somebody should hear of it again.
    Remind {
        /// Which fault.
        key: String,
    },
    /// Something that is over when it is told (`was_blind`): one piece of news, nothing open.
    Notice(Box<FaultWrite>),
}

/// A fault as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultWrite {
    /// Which fault.
    pub key: FaultKey,
    /// How bad it is; an open incident never becomes less severe by this.
    pub severity: Severity,
    /// The run it shows in, or the slot where there was no run; each counts once.
    pub occasion: Option<Occasion>,
    /// What is known.
    pub facts: Facts,
    /// Names of channels; empty: every channel.
    pub notify: Vec<String>,
}

/// What a fault is counted by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// A run.
    Run(RunId),
    /// A slot that came to no run.
    Slot(DateTime<Utc>),
}

/// `<instance>/<schedule>/<kind>`, and `/<part>` where one schedule or none has several of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultKey {
    /// `[service] instance`.
    pub instance: String,
    /// Which schedule, if one is concerned.
    pub schedule: Option<String>,
    /// What it is about.
    pub kind: IncidentKind,
    /// Which of several (a channel).
    pub part: Option<String>,
}

impl FaultKey {
    /// Of a fault that is the only one of its kind.
    #[must_use]
    pub fn new(instance: &str, schedule: Option<&str>, kind: IncidentKind) -> Self {
        let schedule = schedule.map(str::to_owned);
        Self { instance: instance.to_owned(), schedule, kind, part: None }
    }

    /// As stored: `-` where no schedule is concerned.
    #[must_use]
    pub fn text(&self) -> String {
        let schedule = self.schedule.as_deref().unwrap_or("-");
        let part = self.part.as_ref().map_or_else(String::new, |part| format!("/{part}"));
        format!("{}/{schedule}/{}{part}", self.instance, self.kind)
    }
}

/// An incident that is not resolved, with what its next message needs.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenIncident {
    /// The incident.
    pub incident: Incident,
    /// What is known.
    pub facts: Facts,
    /// Who is told.
    pub notify: Vec<String>,
    /// When the last news of it was written.
    pub notified_at: DateTime<Utc>,
    /// How many reminders there were.
    pub n_reminders: u32,
    /// Where it was last seen.
    pub last_occasion: Option<Occasion>,
}

/// One transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Verdicts; each must be its slot's first, or nothing of this outcome is written.
    pub judgements: Vec<Judgement>,
    /// Runs whose processes are known to be gone.
    pub closed: Vec<(RunId, DateTime<Utc>)>,
    /// Findings attached to runs that have their verdict already.
    pub late: Vec<(RunId, Vec<String>)>,
    /// What happens to incidents.
    pub incidents: Vec<IncidentWrite>,
    /// Absences that are told by this.
    pub reported_downtimes: Vec<i64>,
}

impl Outcome {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a transaction came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// Written, with this news.
    Written(Vec<News>),
    /// A slot of it had its verdict already (or is claimed, for a slot that was thought
    /// unclaimed); nothing was written.
    AlreadyJudged,
}

/// Verdicts, incidents and news.
#[async_trait]
pub trait Incidents: Send + Sync + Debug {
    /// Incidents that are not resolved, oldest first.
    async fn open_incidents(&self) -> Result<Vec<OpenIncident>, StorageError>;

    /// Writes an outcome in one transaction.
    async fn record(&self, outcome: Outcome, at: DateTime<Utc>) -> Result<Recorded, StorageError>;

    /// Takes an incident: no more reminders. Says whether there was one to take.
    async fn acknowledge(&self, incident: i64) -> Result<bool, StorageError>;
}
