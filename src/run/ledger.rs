//! The ledger: slots written down before they are due, claims, runs, pauses and requests.
//!
//! A port; `store` implements it on `guard.db`. The conductor writes what will run and what will
//! not, and why; what became of it (the verdict) is written by `watch`, never here.
//! Invariant: a slot is claimed at most once, and only [`claim`] makes a [`RunLease`].

use std::fmt::Debug;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::process::ProcessIdentity;
use crate::run::{Extent, Run, RunId};
use crate::schedule::{Schedule, ScheduleName, Slot};
use crate::storage::StorageError;

/// Where a slot came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The schedule's own cadence.
    Schedule,
    /// Somebody asked for a run (`lookout run`).
    Asked,
}

impl Origin {
    /// As stored and printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Asked => "asked",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Schedule, Self::Asked].into_iter().find(|origin| origin.as_str() == name)
    }
}

/// A slot that nobody has claimed or dropped yet, with its deadline, as written down.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedSlot {
    /// Which one.
    pub slot: Slot,
    /// The configuration it was planned under; it is judged under this one.
    pub schedule: Schedule,
    /// Where it came from.
    pub origin: Origin,
    /// Due time plus jitter.
    pub start_at: DateTime<Utc>,
    /// Not started by then: missed.
    pub start_by: DateTime<Utc>,
    /// The downtime it fell into, if it is being caught up.
    pub downtime: Option<i64>,
}

/// How far a schedule's slots have been written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// As it was then.
    pub schedule: Schedule,
    /// Slots up to here, inclusive, have rows.
    pub until: DateTime<Utc>,
}

/// Why a slot is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The run before it goes on.
    Overlap,
    /// Somebody paused the schedule.
    Paused,
    /// A maintenance window of the schedule.
    Maintenance,
    /// The schedule was removed, renamed or disabled before it could start.
    Removed,
    /// It fell into a time in which Lookout was not there.
    #[serde(rename = "absent")]
    Downtime,
}

impl Cause {
    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Paused => "paused",
            Self::Maintenance => "maintenance",
            Self::Removed => "removed",
            Self::Downtime => "absent",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Overlap, Self::Paused, Self::Maintenance, Self::Removed, Self::Downtime]
            .into_iter()
            .find(|cause| cause.as_str() == name)
    }
}

/// A slot that will not be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedSlot {
    /// Which one.
    pub slot: Slot,
    /// Why.
    pub cause: Cause,
    /// The same for people.
    pub reason: String,
    /// The downtime it fell into ([`Cause::Downtime`]).
    pub downtime: Option<i64>,
}

/// Why Lookout was not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DowntimeCause {
    /// It was not running.
    Down,
    /// The machine slept.
    Suspended,
    /// The wall clock was set forward over it.
    ClockSet,
    /// It was running and made no progress: stopped, or starved.
    HeldUp,
}

impl DowntimeCause {
    /// The beginning of a sentence that goes on "from … to …".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Down => "Lookout was not running",
            Self::Suspended => "the machine was asleep",
            Self::ClockSet => "the clock was set forward",
            Self::HeldUp => "Lookout made no progress",
        }
    }
}

/// A time in which Lookout was not there, with the slots that fell into it. Told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedDowntime {
    /// Row id.
    pub id: i64,
    /// Last sign of life before it.
    pub from: DateTime<Utc>,
    /// First one after it.
    pub to: DateTime<Utc>,
    /// What it was.
    pub cause: DowntimeCause,
    /// Its slots that will not be run.
    pub n_unobserved: u32,
    /// Its slots that are run late.
    pub n_caught_up: u32,
}

/// What becomes of the slots of a downtime, or of some of them; written in one transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct DowntimeAccount {
    /// Last sign of life before it.
    pub from: DateTime<Utc>,
    /// First one after it.
    pub to: DateTime<Utc>,
    /// What it was.
    pub cause: DowntimeCause,
    /// Whether these are the last of its slots; until then nobody is told.
    pub extent: Extent,
    /// Slots that will not be run.
    pub unobserved: Vec<(Slot, String)>,
    /// Slots that are run late, with their new deadlines.
    pub caught_up: Vec<(Slot, DateTime<Utc>)>,
}

/// A run whose processes are not known to be gone.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenRun {
    /// The run, with the configuration it started with.
    pub run: Run,
    /// Where its slot came from.
    pub origin: Origin,
    /// Not started by then: missed.
    pub start_by: DateTime<Utc>,
    /// The downtime its slot fell into, if it is being caught up.
    pub downtime: Option<i64>,
    /// Why its keeper could not be started, if it could not.
    pub start_error: Option<String>,
    /// Whether its slot has its verdict already; the run is watched on for late findings.
    pub progress: RunProgress,
}

/// How far `watch` is with an open run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunProgress {
    /// No verdict yet.
    Undecided,
    /// The verdict is written, the processes may still be there.
    Judged,
}

/// A pause of one schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Whose.
    pub schedule: ScheduleName,
    /// Shown with each slot it skips.
    pub reason: String,
    /// Until when; `None`: until somebody resumes it.
    pub until: Option<DateTime<Utc>>,
    /// Since when.
    pub paused_at: DateTime<Utc>,
}

/// What a person asks the daemon for, as a row that the command line or a page inserts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Request {
    /// One run now.
    Run {
        /// Of this schedule.
        schedule: ScheduleName,
    },
    /// Stop a run.
    Stop {
        /// Which.
        run: RunId,
    },
    /// Skip the schedule's slots.
    Pause {
        /// Whose.
        schedule: ScheduleName,
        /// Why.
        reason: String,
        /// Until when.
        until: Option<DateTime<Utc>>,
    },
    /// End its pause.
    Resume {
        /// Whose.
        schedule: ScheduleName,
    },
    /// No more reminders of this incident.
    Ack {
        /// Its number.
        incident: i64,
    },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// Done.
    Done,
    /// A slot was made for it: follow this one.
    Planned {
        /// Its instant.
        due_at: DateTime<Utc>,
    },
    /// It can't be done, for this reason.
    Refused {
        /// For people.
        reason: String,
    },
}

/// Whose sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// `run::conductor`.
    Conductor,
    /// `watch::watchdog`.
    Watchdog,
}

impl Loop {
    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conductor => "conductor",
            Self::Watchdog => "watchdog",
        }
    }
}

/// What a claim writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Which slot.
    pub slot: Slot,
    /// For which run.
    pub run: RunId,
    /// The configuration of the run (a caught-up run has a shorter box than its schedule).
    pub schedule: Schedule,
    /// When.
    pub at: DateTime<Utc>,
}

/// The ledger.
#[async_trait]
pub trait Ledger: Send + Sync + Debug {
    /// How far each schedule is written down.
    async fn plans(&self) -> Result<Vec<Plan>, StorageError>;

    /// Writes down slots that have no row yet and how far the schedule is now planned. With
    /// `replace_after`, unclaimed slots of the schedule's cadence that are due later than that
    /// are withdrawn first: its expression or settings have changed. Says how many rows are new.
    async fn plan(
        &self,
        plan: Plan,
        slots: Vec<PlannedSlot>,
        replace_after: Option<DateTime<Utc>>,
    ) -> Result<usize, StorageError>;

    /// Forgets a schedule that is gone: its plan and its unclaimed slots that are due later.
    async fn forget(
        &self,
        schedule: &ScheduleName,
        after: DateTime<Utc>,
    ) -> Result<(), StorageError>;

    /// Unclaimed slots whose start has come, earliest first.
    async fn due(&self, now: DateTime<Utc>) -> Result<Vec<PlannedSlot>, StorageError>;

    /// When the next unclaimed slot after `now` is to start, for loops that sleep until then.
    async fn next_start(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StorageError>;

    /// The conditional write behind [`claim`]: whether this claim won. It loses when the slot
    /// is claimed, dropped or judged already, when its deadline has passed, or when another run
    /// of the schedule is open.
    async fn try_claim(&self, claim: &Claim) -> Result<Claimed, StorageError>;

    /// Records that the run's keeper was started.
    async fn keeper_started(
        &self,
        lease: &RunLease,
        keeper: &ProcessIdentity,
        at: DateTime<Utc>,
    ) -> Result<(), StorageError>;

    /// Records that the run's keeper could not be started.
    async fn keeper_refused(&self, lease: &RunLease, error: &str) -> Result<(), StorageError>;

    /// Records that slots will not be run; those that are claimed meanwhile are left alone.
    async fn drop_slots(&self, slots: Vec<DroppedSlot>) -> Result<(), StorageError>;

    /// Moves the deadline of an unclaimed slot that waits for the run before it.
    async fn extend(&self, slot: &Slot, start_by: DateTime<Utc>) -> Result<(), StorageError>;

    /// Records a downtime and what becomes of its slots. Parts of it, up to and with the one that
    /// makes it whole, are one downtime; without any slot it is none.
    async fn record_downtime(&self, account: DowntimeAccount) -> Result<(), StorageError>;

    /// Runs whose processes are not known to be gone, earliest first.
    async fn open_runs(&self) -> Result<Vec<OpenRun>, StorageError>;

    /// Records that a run's processes are gone.
    async fn close_run(&self, run: &RunId, ended_at: DateTime<Utc>) -> Result<(), StorageError>;

    /// Unclaimed slots whose deadline has passed, earliest first.
    async fn overdue(&self, now: DateTime<Utc>) -> Result<Vec<PlannedSlot>, StorageError>;

    /// Dropped slots that have no verdict yet.
    async fn dropped(&self) -> Result<Vec<DroppedSlot>, StorageError>;

    /// Downtimes that nobody was told of yet.
    async fn unreported_downtimes(&self) -> Result<Vec<RecordedDowntime>, StorageError>;

    /// The schedule's newest slot that was due by `now`, for a continuous cadence.
    async fn last_slot(
        &self,
        schedule: &ScheduleName,
        now: DateTime<Utc>,
    ) -> Result<Option<LastSlot>, StorageError>;

    /// Pauses that hold at `now` or later.
    async fn pauses(&self, now: DateTime<Utc>) -> Result<Vec<Pause>, StorageError>;

    /// Begins or changes a pause.
    async fn pause(&self, pause: &Pause) -> Result<(), StorageError>;

    /// Ends a pause; says whether there was one.
    async fn resume(&self, schedule: &ScheduleName) -> Result<bool, StorageError>;

    /// Inserts a request; its number.
    async fn ask(&self, request: &Request, at: DateTime<Utc>) -> Result<i64, StorageError>;

    /// Requests without an answer, oldest first.
    async fn requests(&self) -> Result<Vec<(i64, Request)>, StorageError>;

    /// Answers a request.
    async fn answer(&self, id: i64, answer: &Answer) -> Result<(), StorageError>;

    /// Makes a slot for a request to run now, and answers it, in one transaction. The slot's
    /// instant moves on by whole seconds until it is free.
    async fn plan_asked(&self, id: i64, slot: PlannedSlot) -> Result<Slot, StorageError>;

    /// The answer to a request, as soon as there is one.
    async fn answer_to(&self, id: i64) -> Result<Option<Answer>, StorageError>;

    /// When this loop was last seen alive.
    async fn last_seen(&self, who: Loop) -> Result<Option<DateTime<Utc>>, StorageError>;

    /// Records a sign of life.
    async fn seen(&self, who: Loop, at: DateTime<Utc>) -> Result<(), StorageError>;
}

/// What a conditional claim came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The slot is ours.
    Won,
    /// Somebody else has it, or it is too late.
    Lost,
}

/// The newest slot of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSlot {
    /// Its instant.
    pub due_at: DateTime<Utc>,
    /// Whether it is planned or runs.
    pub is_open: bool,
    /// When its run ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Proof that a slot was claimed for a run: without one no keeper is started.
#[derive(Debug)]
pub struct RunLease {
    run: Run,
}

impl RunLease {
    /// The run.
    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Takes up the lease of a run that a daemon before us claimed. There is one daemon a state
    /// directory (its lock file), so nobody else holds it.
    #[must_use]
    pub fn resume(open: OpenRun) -> Self {
        Self { run: open.run }
    }
}

/// Claims a slot for a new run; `None`: somebody else has it, or it is too late.
///
/// # Errors
/// When the claim could not be recorded: then nothing may be started.
pub async fn claim(
    ledger: &dyn Ledger,
    slot: Slot,
    schedule: Schedule,
    run: RunId,
    now: DateTime<Utc>,
) -> Result<Option<RunLease>, StorageError> {
    let claim = Claim { slot, run, schedule, at: now };
    match ledger.try_claim(&claim).await? {
        Claimed::Lost => Ok(None),
        Claimed::Won => Ok(Some(RunLease {
            run: Run {
                id: claim.run,
                slot: claim.slot,
                schedule: claim.schedule,
                claimed_at: now,
                started_at: None,
                keeper: None,
                ended_at: None,
            },
        })),
    }
}
