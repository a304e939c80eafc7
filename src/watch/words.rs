//! Verdicts and incidents in the words that people use: on pages and on the command line.
//!
//! Messages have sentences of their own in `alert`; tables and JSON have the plain names.

use super::{IncidentKind, Verdict};
pub use crate::duration::spoken as duration;

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
