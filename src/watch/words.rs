//! Verdicts and incidents in the words that people use: on pages and on the command line.
//!
//! Messages have sentences of their own in `alert`; tables and JSON have the plain names.

use std::time::Duration;

use super::{IncidentKind, Verdict};

/// `45 s`, `2 min 5 s`, `12 min`, `1 h 12 min`, `1 day 3 h`: as exact as it matters.
#[must_use]
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let with_rest = |text: String, rest: u64, unit: &str| {
        if rest == 0 { text } else { format!("{text} {rest} {unit}") }
    };
    if days > 0 {
        let unit = if days == 1 { "day" } else { "days" };
        with_rest(format!("{days} {unit}"), hours % 24, "h")
    } else if hours > 0 {
        with_rest(format!("{hours} h"), minutes % 60, "min")
    } else if minutes >= 10 {
        format!("{minutes} min")
    } else if minutes > 0 {
        with_rest(format!("{minutes} min"), seconds % 60, "s")
    } else {
        format!("{seconds} s")
    }
}

/// What became of a run.
#[must_use]
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Completed => "completed",
        Verdict::NoSignal => "ended without saying it was done",
        Verdict::Failed => "failed",
        Verdict::TimedOut => "did not finish in time",
        Verdict::Stalled => "stood still, was stopped",
        Verdict::Interrupted => "was cut off",
        Verdict::Missed => "did not start",
        Verdict::Skipped => "skipped",
        Verdict::Unobserved => "not seen: Lookout was down",
    }
}

/// What is wrong.
#[must_use]
pub fn incident(kind: IncidentKind) -> &'static str {
    match kind {
        IncidentKind::RunMissed => "A run did not start",
        IncidentKind::RunStalled => "A run stands still",
        IncidentKind::RunTimedOut => "A run did not finish in time",
        IncidentKind::SignalMissing => "A run ended without saying it was done",
        IncidentKind::RunFailed => "A run failed",
        IncidentKind::ProviderUnavailable => "The vision service is unavailable",
        IncidentKind::ImagesUnavailable => "The images can't be fetched",
        IncidentKind::RecordsUnavailable => "The records can't be read or written",
        IncidentKind::CredentialsRejected => "A key was refused",
        IncidentKind::QuotaExhausted => "A quota, credit or budget is used up",
        IncidentKind::ImageErrors => "Too many images end in error",
        IncidentKind::ChannelBroken => "A channel refuses our messages",
        IncidentKind::OutboxDegraded => "Messages can't be delivered or recorded",
        IncidentKind::WasBlind => "Lookout itself was down",
        IncidentKind::LookoutImpaired => "A part of Lookout stands still",
        IncidentKind::ConfigurationBroken => "A configuration file can't be used",
        IncidentKind::BacklogGrowing => "The backlog grows with every run",
    }
}
