//! The files of a run's directory, both ends: the order to the keeper and what the keeper saw.
//!
//! `order.json` is written once by the daemon before the keeper starts. `evidence.jsonl` is
//! appended by the keeper alone, one JSON object a line, fsynced; the daemon reads it from an
//! offset and may be gone for hours in between. `log.head` and `log.tail` hold the output.
//! Invariant: entries are never changed, and after [`Event::Ended`] nothing follows.
//!
//! This file holds the types; [`directory`] has the paths, [`journal`] writes and reads the evidence.
//! A leaf, since daemon and keeper meet here and nowhere else.

pub mod directory;
pub mod journal;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::process::ProcessIdentity;

/// The order to a keeper. Holds no secret: `${NAME}` is resolved by the keeper from its own
/// environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// `LOOKOUT_RUN_ID`.
    pub run: String,
    /// `LOOKOUT_SCHEDULE`.
    pub schedule: String,
    /// The slot's instant.
    pub due_at: DateTime<Utc>,
    /// What to do.
    pub work: Work,
    /// From the job's start to wind-down, on the boot clock.
    pub time_box: Duration,
    /// From wind-down to SIGTERM of the tree.
    pub signal_grace: Duration,
    /// From SIGTERM to SIGKILL.
    pub kill_grace: Duration,
    /// Stop the tree after this time without activity; `None`: the keeper only reports.
    pub stop_when_stalled: Option<Stall>,
    /// What the completion looks like.
    pub signal: Signal,
    /// Texts to look for.
    pub patterns: Vec<Pattern>,
    /// Bytes of output kept from the beginning.
    pub log_head_bytes: u64,
    /// Bytes of output kept from the end.
    pub log_tail_bytes: u64,
}

/// When the keeper itself stops a stalled job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Time without activity.
    pub after: Duration,
    /// Only progress counts, not output.
    pub on_progress: bool,
}

/// What the completion looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// These bytes anywhere in one stream (or body).
    Text(String),
    /// A whole line of one stream, but for blanks around it.
    Line(String),
    /// A line that is a JSON object with this `message` and `run` equal to the order's run.
    Review {
        /// The `message`.
        message: String,
    },
}

/// A text that means something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// Literal text; exactly one of `text` and `regex` is set.
    pub text: Option<String>,
    /// Regular expression on a line's bytes.
    pub regex: Option<String>,
    /// Incident kind, or `failure`.
    pub kind: String,
    /// How often before it counts.
    pub count: u32,
    /// Within how long; `None`: within the run.
    pub within: Option<Duration>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Work {
    /// Start a process in its own group.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Working directory.
        cwd: PathBuf,
        /// Added to the keeper's own environment; values may hold `${NAME}`.
        env: BTreeMap<String, String>,
        /// Sent to the job's processes at the box's end.
        stop_signal: String,
        /// Unix user.
        user: Option<String>,
    },
    /// Call an endpoint.
    Http {
        /// Verb.
        method: String,
        /// May hold `${NAME}`.
        url: String,
        /// Values may hold `${NAME}`.
        headers: BTreeMap<String, String>,
        /// May hold `${NAME}`.
        body: Option<String>,
        /// Until the box is full.
        repeat: bool,
        /// "Nothing to do".
        idle: Option<String>,
        /// Pause after idle.
        idle_pause: Duration,
        /// Longest call.
        call_timeout: Duration,
        /// Most bytes of a body.
        max_body: u64,
    },
}

/// One line of the evidence file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Wall time, for people.
    pub at: DateTime<Utc>,
    /// Boot time in milliseconds, for durations within one boot.
    pub boot_ms: u64,
    /// What was seen.
    #[serde(flatten)]
    pub event: Event,
}

/// Which stream a byte came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The body of an HTTP answer.
    Body,
}

/// Why the keeper stopped the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Box and grace were over.
    TimedOut,
    /// No activity, and the schedule says stop.
    Stalled,
    /// A person asked (`lookout run stop`), or `overlap = "replace"`.
    Asked,
}

/// What the keeper saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// The keeper is up; the first entry.
    KeeperStarted {
        /// Who writes this file.
        keeper: ProcessIdentity,
    },
    /// The job runs (for HTTP: the first call is about to be made). The box counts from here.
    JobStarted {
        /// The main process; `None` for HTTP.
        job: Option<ProcessIdentity>,
        /// When the box ends, wall time as planned.
        box_ends_at: DateTime<Utc>,
        /// When the grace ends.
        grace_ends_at: DateTime<Utc>,
    },
    /// It could not be started at all (no such file, no permission, no process).
    CouldNotStart {
        /// What failed, with what, redacted.
        error: String,
    },
    /// There was output since the last entry of this kind; written at most once a second
    /// unless there is none.
    Activity {
        /// Bytes of both streams so far.
        bytes: u64,
    },
    /// `::lookout::progress`, at most one a second and always the last.
    Progress {
        /// Done so far in this run.
        done: u64,
        /// Of how many, if known.
        total: Option<u64>,
        /// Of what.
        unit: String,
    },
    /// `::lookout::problem`, or a pattern that reached its count.
    Problem {
        /// Incident kind or `failure`.
        kind: String,
        /// Who.
        provider: Option<String>,
        /// HTTP status, if it was one.
        status: Option<u16>,
        /// Faults so far.
        count: u64,
        /// Calls so far, if known.
        calls: Option<u64>,
        /// One line for people, redacted.
        detail: String,
        /// What it is in a few words, if it does not pass by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// What a person must do about it, if it does not pass by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        action: Option<String>,
    },
    /// `::lookout::recovered`.
    Recovered {
        /// Incident kind.
        kind: String,
    },
    /// `::lookout::totals`; cumulative, the last one counts. Keys as printed.
    Totals {
        /// Whole numbers, by name (`succeeded`, `errored`, `blocked`, `returned`, `remaining`, …).
        counts: BTreeMap<String, u64>,
        /// US dollars, if known.
        usd: Option<f64>,
    },
    /// `::lookout::note`.
    Note {
        /// One line, redacted.
        text: String,
    },
    /// The completion text was seen; only the first time.
    Signal {
        /// Where.
        stream: Stream,
        /// Bytes before its first byte in that stream.
        offset: u64,
    },
    /// One HTTP call ended.
    Call {
        /// Status, if there was an answer.
        status: Option<u16>,
        /// How long it took.
        millis: u64,
        /// What it brought.
        outcome: CallOutcome,
        /// One line for people, redacted.
        detail: String,
    },
    /// The box is full: the job was asked to wind down.
    BoxEnded,
    /// SIGTERM to the tree.
    Stopping {
        /// Why.
        reason: StopReason,
    },
    /// SIGKILL to the tree: it did not go within the kill grace.
    Killed {
        /// How many processes were still there.
        n_processes: u32,
    },
    /// The main process ended (HTTP: the last call is over).
    Exited {
        /// Exit code, if it exited.
        code: Option<i32>,
        /// Signal number, if it was killed.
        signal: Option<i32>,
    },
    /// Something held the pipe after the main process ended; it was not waited for.
    PipeHeld,
    /// The machine was asleep while the job ran; boxes and graces count that.
    Slept {
        /// In all so far.
        seconds: u64,
    },
    /// Processes of the tree that outlived the main process and were ended.
    Swept {
        /// How many.
        n_processes: u32,
    },
    /// The keeper is done; the last entry.
    Ended {
        /// Bytes of output in all.
        bytes: u64,
        /// Bytes that neither head nor tail keeps.
        log_dropped_bytes: u64,
    },
}

/// How often an event may come, by its nature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frequency<'a> {
    /// A few times in a run.
    Seldom,
    /// As often as the job prints a note.
    Noted,
    /// As often as there is output; the newest says everything.
    Output,
    /// The same for progress.
    Progress,
    /// The same for totals.
    Totals,
    /// The same for faults of one kind.
    Fault(&'a str),
}

impl Event {
    /// How often it may come: what a job can print without end is not written without end.
    #[must_use]
    pub fn frequency(&self) -> Frequency<'_> {
        match self {
            Self::Activity { .. } => Frequency::Output,
            Self::Progress { .. } => Frequency::Progress,
            Self::Totals { .. } => Frequency::Totals,
            Self::Problem { kind, .. } | Self::Recovered { kind } => Frequency::Fault(kind),
            Self::Note { .. } => Frequency::Noted,
            Self::KeeperStarted { .. }
            | Self::JobStarted { .. }
            | Self::CouldNotStart { .. }
            | Self::Signal { .. }
            | Self::Call { .. }
            | Self::BoxEnded
            | Self::Stopping { .. }
            | Self::Killed { .. }
            | Self::Exited { .. }
            | Self::PipeHeld
            | Self::Slept { .. }
            | Self::Swept { .. }
            | Self::Ended { .. } => Frequency::Seldom,
        }
    }
}

/// What one HTTP call brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// The signal.
    Signal,
    /// Nothing to do.
    Idle,
    /// A success without either.
    Other,
    /// A failure pattern, a status of 400 and more, a broken or oversized answer.
    Failed,
    /// Longer than `call_timeout`.
    TimedOut,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An order of a small command, for tests of both ends.
    pub(crate) fn order(run: &str) -> Order {
        Order {
            run: run.to_owned(),
            schedule: "nightly".to_owned(),
            due_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            work: Work::Command {
                argv: vec!["true".to_owned()],
                cwd: PathBuf::from("/"),
                env: BTreeMap::from([("A".to_owned(), "${B}".to_owned())]),
                stop_signal: "SIGINT".to_owned(),
                user: None,
            },
            time_box: Duration::from_secs(45 * 60),
            signal_grace: Duration::from_secs(300),
            kill_grace: Duration::from_secs(10),
            stop_when_stalled: None,
            signal: Signal::Text("done".to_owned()),
            patterns: Vec::new(),
            log_head_bytes: 1024,
            log_tail_bytes: 1024,
        }
    }

    #[test]
    fn every_event_reads_back_from_its_line() {
        let keeper = ProcessIdentity { pid: 1, start_ticks: 2, boot_id: "b".into() };
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        for event in [
            Event::KeeperStarted { keeper: keeper.clone() },
            Event::JobStarted { job: Some(keeper), box_ends_at: at, grace_ends_at: at },
            Event::Totals { counts: [("succeeded".to_owned(), 90)].into(), usd: Some(0.063) },
            Event::Signal { stream: Stream::Body, offset: u64::MAX },
            Event::BoxEnded,
            Event::Stopping { reason: StopReason::Stalled },
            Event::Exited { code: None, signal: Some(9) },
            Event::Ended { bytes: 1, log_dropped_bytes: 0 },
        ] {
            let entry = Entry { at, boot_ms: 7, event };
            let line = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entry, "{line}");
        }
    }
}
