//! What is due when: schedules as checked values and the slots they make.
//!
//! `slot.rs` is pure arithmetic on them over the expressions of `cron.rs`, `ticker.rs` ticks. Knows nothing of runs,
//! processes or people. Invariant: a [`Schedule`] has been checked by `config`; every duration in
//! it is positive and its cron expression has a next time.

pub mod cron;
pub mod slot;
pub mod ticker;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::timezone::Zone;

/// The file name of the schedule without `.toml`: `[a-z0-9][a-z0-9_-]*`, at most 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScheduleName(String);

impl ScheduleName {
    /// Takes a name that `config` has checked.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScheduleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One schedule at one instant: the thing that gets exactly one verdict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// Whose slot.
    pub schedule: ScheduleName,
    /// When it is due, UTC, whole seconds (jitter excluded: it delays the start, not the slot).
    pub due_at: DateTime<Utc>,
}

/// A checked schedule. Serialised into each run, which is judged under the configuration it
/// started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The file's name.
    pub name: ScheduleName,
    /// When.
    pub cadence: Cadence,
    /// Where the expression's hours are meant.
    #[serde(flatten)]
    pub timezone: Zone,
    /// At most this much is added to the start, the same for the same slot; zero: none.
    pub jitter: Duration,
    /// Not started by then: `missed`.
    pub start_grace: Duration,
    /// At its end the job is told to wind down.
    pub time_box: Duration,
    /// How long after the box the signal may still come; then the tree is stopped.
    pub signal_grace: Duration,
    /// Between SIGTERM and SIGKILL of the tree.
    pub kill_grace: Duration,
    /// No activity for so long: stalled.
    pub stall_after: Duration,
    /// What counts as activity.
    pub stall_on: StallOn,
    /// What a stall does.
    pub on_stall: OnStall,
    /// The completion text, or for a review the `message` of its last line.
    pub signal: String,
    /// Where it must stand.
    #[serde(default)]
    pub signal_match: SignalMatch,
    /// What happens to a slot that is due while the run before it goes on.
    pub overlap: Overlap,
    /// What happens to slots that fell into our downtime.
    pub catch_up: CatchUp,
    /// Names of channels; empty: every channel.
    pub notify: Vec<String>,
    /// Texts of programs that can't be changed.
    pub patterns: Vec<Pattern>,
    /// Windows in which slots are skipped with the reason `maintenance`.
    pub maintenance: Vec<Maintenance>,
    /// A run whose images end in error: from this many …
    pub image_errors_at_least: u32,
    /// … and from this share on (percent) opens `image_errors`.
    pub image_errors_percent: u32,
    /// What is run.
    pub job: Job,
}

impl Schedule {
    /// `0 * * * * (Europe/Berlin)`, or that it runs all the time.
    #[must_use]
    pub fn cadence_text(&self) -> String {
        match &self.cadence {
            Cadence::Cron(expression) => format!("{expression} ({})", self.timezone),
            Cadence::Continuous => "continuous: one run after another".to_owned(),
        }
    }
}

/// When slots come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cadence {
    /// Five or six fields or an `@hourly` form, as written.
    Cron(String),
    /// Box after box.
    Continuous,
}

/// What counts as activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StallOn {
    /// Any output or progress.
    Output,
    /// Only a progress line whose `done` has risen.
    Progress,
}

/// Where the completion text must stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalMatch {
    /// Anywhere.
    #[default]
    Text,
    /// Alone on its line, but for blanks around it: a line that quotes it is no completion.
    Line,
}

/// What a stall does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStall {
    /// Somebody is told, the run goes on.
    Alert,
    /// The tree is stopped; verdict `stalled`.
    Stop,
}

/// Two runs of one schedule at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The later slot is skipped, visibly.
    Skip,
    /// One waits; a further one is skipped.
    Queue,
    /// The earlier run is stopped, then the later one starts.
    Replace,
}

/// Slots that fell into Lookout's own downtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// All become `unobserved`.
    None,
    /// The latest is run, in a box that ends before the next slot; the others are `unobserved`.
    Latest,
}

/// A text in a job's output that means something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// What is looked for.
    pub find: Find,
    /// The incident kind it speaks for (`provider_unavailable`, …) or `failure`.
    pub kind: String,
    /// How often before it counts.
    pub count: u32,
    /// Within how long; `None`: within the run.
    pub within: Option<Duration>,
}

/// A literal or an expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Find {
    /// Byte for byte, case-sensitive.
    Text(String),
    /// `regex` syntax, matched on bytes, line by line.
    Regex(String),
}

/// A window in which nothing is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Cron expression of its beginnings, in the schedule's zone.
    pub from: String,
    /// How long it lasts.
    pub lasts: Duration,
    /// Shown with each slot it skips.
    pub reason: String,
}

/// What is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Job {
    /// The built-in review, in a process of its own.
    Review {
        /// Records claimed at a time.
        batch: u32,
    },
    /// The user's own command.
    Command(CommandJob),
    /// An HTTP endpoint, called by the keeper.
    Http(HttpJob),
}

/// A command as the user wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandJob {
    /// Program and arguments; no shell.
    pub argv: Vec<String>,
    /// Working directory; `None`: beside the configuration file.
    pub cwd: Option<std::path::PathBuf>,
    /// Added to the environment; values may hold `${NAME}`, resolved when the run starts.
    pub env: BTreeMap<String, String>,
    /// What tells it to wind down at the box's end (`SIGTERM`, `SIGINT`, …).
    pub stop_signal: String,
    /// Unix user to run as; `None`: ours.
    pub user: Option<String>,
}

/// An endpoint as the user wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpJob {
    /// `POST`, `GET`, …
    pub method: String,
    /// May hold `${NAME}`, resolved when the run starts.
    pub url: String,
    /// Values may hold `${NAME}`.
    pub headers: BTreeMap<String, String>,
    /// Sent as it is.
    pub body: Option<String>,
    /// Call again until the box is full.
    pub repeat: bool,
    /// A body that holds this means "nothing to do".
    pub idle: Option<String>,
    /// Pause after such a body.
    pub idle_pause: Duration,
    /// A call that takes longer is a fault.
    pub call_timeout: Duration,
    /// Bytes of body read at most; more is a fault.
    pub max_body: u64,
}
