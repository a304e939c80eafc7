//! What evidence means: verdicts of slots, incidents, and the news of them.
//!
//! `judge.rs` and `faults.rs` are pure, `watchdog.rs` is the loop that applies them and writes
//! verdict, incident and news in one transaction. Who is told and how is `alert`'s business.
//! Invariant: a slot has exactly one verdict, and a fault has at most one open incident.

pub mod audit;
pub mod baseline;
pub mod delivery_log;
pub mod facts;
pub mod faults;
pub mod findings;
pub mod history;
pub mod incident;
pub mod incident_policy;
pub mod incidents;
pub mod judge;
pub mod moment;
pub mod observed;
pub mod unpersisted;
pub mod watchdog;
pub mod words;

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use crate::run::ledger::DowntimeCause;

/// What became of a slot. Written once, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// In time, exit 0, with the signal.
    Completed,
    /// Ended with exit 0 but without the signal.
    NoSignal,
    /// Non-zero exit, HTTP error, failure pattern; also signal and non-zero exit.
    Failed,
    /// Had to be stopped after the grace, or ended by the wind-down without having signalled.
    TimedOut,
    /// Stopped because nothing moved.
    Stalled,
    /// The machine or the keeper died.
    Interrupted,
    /// Not started within the start grace.
    Missed,
    /// Overlap, pause, maintenance; with the reason.
    Skipped,
    /// Lookout was down, or the clock jumped over it.
    Unobserved,
}

impl Verdict {
    /// Whether somebody must be told. A skipped slot is visible with its reason.
    #[must_use]
    pub fn is_bad(self) -> bool {
        match self {
            Self::Completed | Self::Skipped => false,
            Self::NoSignal
            | Self::Failed
            | Self::TimedOut
            | Self::Stalled
            | Self::Interrupted
            | Self::Missed
            | Self::Unobserved => true,
        }
    }

    /// The incident that it is where no cause is known; `unobserved` slots share one digest.
    #[must_use]
    pub fn symptom(self) -> Option<IncidentKind> {
        match self {
            Self::Completed | Self::Skipped => None,
            Self::NoSignal => Some(IncidentKind::SignalMissing),
            Self::Failed | Self::Interrupted => Some(IncidentKind::RunFailed),
            Self::TimedOut => Some(IncidentKind::RunTimedOut),
            Self::Stalled => Some(IncidentKind::RunStalled),
            Self::Missed => Some(IncidentKind::RunMissed),
            Self::Unobserved => Some(IncidentKind::WasBlind),
        }
    }

    /// As stored and printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::NoSignal => "no_signal",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Stalled => "stalled",
            Self::Interrupted => "interrupted",
            Self::Missed => "missed",
            Self::Skipped => "skipped",
            Self::Unobserved => "unobserved",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an incident is about; also the `kind=` of problem lines and patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// Not started in time.
    RunMissed,
    /// Nothing moved for `stall_after`.
    RunStalled,
    /// Had to be stopped.
    RunTimedOut,
    /// Ended without the signal.
    SignalMissing,
    /// Non-zero exit, failure pattern, interrupted.
    RunFailed,
    /// Gemini (or another reviewer) down or unreachable.
    ProviderUnavailable,
    /// The bucket is down or refuses everything.
    ImagesUnavailable,
    /// Supabase is down or refuses us.
    RecordsUnavailable,
    /// A key was refused.
    CredentialsRejected,
    /// Quota, credit or budget used up.
    QuotaExhausted,
    /// Too many images of a run ended in error.
    ImageErrors,
    /// A channel refuses our messages.
    ChannelBroken,
    /// Messages wait too long or could not be recorded.
    OutboxDegraded,
    /// Lookout itself was down.
    WasBlind,
    /// A part of Lookout stands still while the rest goes on.
    LookoutImpaired,
    /// A file of the configuration can't be used; what was read from it before still holds.
    ConfigurationBroken,
    /// Run after run leaves more behind than the one before it.
    BacklogGrowing,
}

/// Every kind, for parsing and pages.
pub const INCIDENT_KINDS: [IncidentKind; 17] = [
    IncidentKind::RunMissed,
    IncidentKind::RunStalled,
    IncidentKind::RunTimedOut,
    IncidentKind::SignalMissing,
    IncidentKind::RunFailed,
    IncidentKind::ProviderUnavailable,
    IncidentKind::ImagesUnavailable,
    IncidentKind::RecordsUnavailable,
    IncidentKind::CredentialsRejected,
    IncidentKind::QuotaExhausted,
    IncidentKind::ImageErrors,
    IncidentKind::ChannelBroken,
    IncidentKind::OutboxDegraded,
    IncidentKind::WasBlind,
    IncidentKind::LookoutImpaired,
    IncidentKind::ConfigurationBroken,
    IncidentKind::BacklogGrowing,
];

impl IncidentKind {
    /// As stored and printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunMissed => "run_missed",
            Self::RunStalled => "run_stalled",
            Self::RunTimedOut => "run_timed_out",
            Self::SignalMissing => "signal_missing",
            Self::RunFailed => "run_failed",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::ImagesUnavailable => "images_unavailable",
            Self::RecordsUnavailable => "records_unavailable",
            Self::CredentialsRejected => "credentials_rejected",
            Self::QuotaExhausted => "quota_exhausted",
            Self::ImageErrors => "image_errors",
            Self::ChannelBroken => "channel_broken",
            Self::OutboxDegraded => "outbox_degraded",
            Self::WasBlind => "was_blind",
            Self::LookoutImpaired => "lookout_impaired",
            Self::ConfigurationBroken => "configuration_broken",
            Self::BacklogGrowing => "backlog_growing",
        }
    }

    /// Whether a job's output can say it, by a problem line or a pattern: what it meets, not what
    /// becomes of its run. Anything else that a job calls a problem makes its run a failed one.
    #[must_use]
    pub fn is_for_jobs_to_say(self) -> bool {
        match self {
            Self::ProviderUnavailable
            | Self::ImagesUnavailable
            | Self::RecordsUnavailable
            | Self::CredentialsRejected
            | Self::QuotaExhausted
            | Self::ImageErrors => true,
            Self::RunMissed
            | Self::RunStalled
            | Self::RunTimedOut
            | Self::RunFailed
            | Self::SignalMissing
            | Self::ChannelBroken
            | Self::OutboxDegraded
            | Self::WasBlind
            | Self::LookoutImpaired
            | Self::ConfigurationBroken
            | Self::BacklogGrowing => false,
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        INCIDENT_KINDS.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for IncidentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How bad it is. Rises, never falls, within one incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look within the day.
    Warning,
    /// Somebody should look now.
    Critical,
}

impl Severity {
    /// As stored and printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Where an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Open.
    Open,
    /// A person has taken it: no more reminders, but its resolution is still told.
    Acked,
    /// Over.
    Resolved,
}

/// An open problem, or one that was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// A small number that people say to each other.
    pub id: i64,
    /// `<instance>/<schedule>/<kind>`; `-` where no schedule is concerned.
    pub key: String,
    /// `[service] instance`.
    pub instance: String,
    /// Which schedule, if one is concerned.
    pub schedule: Option<String>,
    /// What it is about.
    pub kind: IncidentKind,
    /// How bad it is now.
    pub severity: Severity,
    /// Where it stands.
    pub state: IncidentState,
    /// Since when.
    pub opened_at: DateTime<Utc>,
    /// Until when.
    pub resolved_at: Option<DateTime<Utc>>,
    /// How many runs it has touched.
    pub runs_affected: u32,
}

/// What is new about an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It began.
    Opened,
    /// It got worse.
    Raised,
    /// It is still there.
    Reminder,
    /// It is over.
    Resolved,
}

/// One change of an incident, as a row: the hand-over from `watch` to `alert`. Holds everything a
/// message needs, so that a message can be written hours later without asking anybody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// Row id, rising.
    pub id: i64,
    /// The incident as it was at that moment.
    pub incident: Incident,
    /// What is new.
    pub change: Change,
    /// 1 for the opening, 2 for the next, …
    pub number: u32,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// Names of channels; empty: every channel.
    pub notify: Vec<String>,
    /// What is known.
    pub facts: Facts,
}

/// What is known at the moment of a change; everything optional, texts redacted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The slot's instant.
    pub due_at: Option<DateTime<Utc>>,
    /// The schedule's zone, for local times.
    pub timezone: Option<String>,
    /// The run.
    pub run: Option<String>,
    /// What became of the slot.
    pub verdict: Option<Verdict>,
    /// When the job started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The box, in seconds.
    pub time_box_seconds: Option<u64>,
    /// The text that was waited for.
    pub signal: Option<String>,
    /// `exit code 1`, `killed by signal 9`, `HTTP 500`.
    pub ending: Option<String>,
    /// Done so far.
    pub done: Option<u64>,
    /// Of how many.
    pub total: Option<u64>,
    /// Of what (`images`).
    pub unit: Option<String>,
    /// Counts of the run's totals, by name.
    pub counts: std::collections::BTreeMap<String, u64>,
    /// Cost, if known.
    pub usd: Option<f64>,
    /// Whether the schedule's job is the review: only then there are images to speak of.
    pub reviews_images: bool,
    /// Why nothing more will come of it (`was removed or switched off`), said of its schedule.
    pub withdrawn: Option<String>,
    /// Who was unavailable or refused us (`gemini`, `supabase`, `images`).
    pub provider: Option<String>,
    /// What a channel refuses while it takes the rest (`some messages`, a recipient).
    pub refused: Option<String>,
    /// HTTP status; absent when it could not be reached at all.
    pub status: Option<u16>,
    /// Faults.
    pub faults: Option<u64>,
    /// Of how many calls.
    pub calls: Option<u64>,
    /// Since when the fault was seen.
    pub since: Option<DateTime<Utc>>,
    /// Last moment at which something moved.
    pub last_activity_at: Option<DateTime<Utc>>,
    /// The last error, one line.
    pub detail: Option<String>,
    /// What it is in a few words, if it does not pass by itself.
    pub title: Option<String>,
    /// What a person must do about it, if it does not pass by itself.
    pub action: Option<String>,
    /// Last lines of output.
    pub log_tail: Vec<String>,
    /// When Lookout tries again by itself.
    pub next_due_at: Option<DateTime<Utc>>,
    /// Other findings and symptoms taken in ("signalled, but exit code 1").
    pub also: Vec<String>,
    /// How many slots were missed or went unobserved.
    pub n_slots: Option<u32>,
    /// Why Lookout was not there.
    #[serde(rename = "away")]
    pub downtime_cause: Option<DowntimeCause>,
    /// When the thing that failed worked again (on resolve).
    pub recovered_at: Option<DateTime<Utc>>,
}
