//! Findings: what is worth knowing of a run besides its verdict.
//!
//! Pure. A finding never changes a verdict; some come to light only after it and are attached to it.
//! Invariant: each finding says its numbers.

use std::fmt;
use std::time::Duration;

use super::baseline::Unusual;
use super::observed::Observed;
use super::{Verdict, words};
use crate::rundir::StopReason;

/// What is worth knowing besides the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The signal came after the verdict.
    SignalledLate,
    /// It signalled, and its processes had to be stopped.
    SignalledButStopped,
    /// It signalled, and said by its exit that something was wrong.
    SignalledButFailed,
    /// Work was waiting, and nothing of it was done.
    NothingDone {
        /// What was left.
        remaining: u64,
    },
    /// Something held its output after the main process had ended.
    PipeHeld,
    /// Processes outlived the main process.
    Swept {
        /// How many.
        n_processes: u32,
    },
    /// Processes had to be killed.
    Killed {
        /// How many.
        n_processes: u32,
    },
    /// The keeper had to be stopped from outside.
    KeeperHung,
    /// The run goes on after its verdict was given.
    StartedLate,
    /// The box is full and there is work left.
    WorkLeft {
        /// How much.
        remaining: u64,
    },
    /// It ended much sooner than runs of this schedule do.
    MuchShorter(Unusual),
    /// It took much longer than runs of this schedule do.
    MuchLonger(Unusual),
    /// The machine slept meanwhile.
    Slept(Duration),
    /// It was run late, because Lookout was not there.
    CaughtUp,
    /// It was stopped because somebody asked, or for the run after it.
    StoppedOnRequest,
    /// The last note of the job.
    Note(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SignalledLate => f.write_str("signalled late, after it was given up"),
            Self::SignalledButStopped => f.write_str("signalled, but had to be stopped"),
            Self::SignalledButFailed => f.write_str("signalled, but ended with an error"),
            Self::NothingDone { remaining } => {
                write!(f, "nothing was done, although {remaining} were waiting")
            }
            Self::PipeHeld => f.write_str("something held its output open after it had ended"),
            Self::Swept { n_processes } => write!(f, "left {n_processes} processes behind"),
            Self::Killed { n_processes } => write!(f, "{n_processes} processes had to be killed"),
            Self::KeeperHung => f.write_str("its keeper did not react and was stopped"),
            Self::StartedLate => f.write_str("started after it was given up"),
            Self::WorkLeft { remaining } => write!(f, "{remaining} left for the next run"),
            Self::MuchShorter(unusual) => write!(f, "much shorter than usual: {unusual}"),
            Self::MuchLonger(unusual) => write!(f, "much longer than usual: {unusual}"),
            Self::Slept(time) => {
                write!(f, "the machine was asleep for {} meanwhile", words::duration(*time))
            }
            Self::CaughtUp => f.write_str("run late, because Lookout was not there"),
            Self::StoppedOnRequest => f.write_str("stopped on request"),
            Self::Note(text) => write!(f, "note: {text}"),
        }
    }
}

/// What is worth knowing besides the verdict, at the time of the verdict.
#[must_use]
pub fn findings(observed: &Observed, verdict: Verdict) -> Vec<Finding> {
    let mut found = Vec::new();
    let signalled = observed.signal.is_some();
    match verdict {
        Verdict::TimedOut | Verdict::Stalled if signalled => {
            found.push(Finding::SignalledButStopped);
        }
        Verdict::Failed if signalled => match observed.nothing_done() {
            Some(remaining) => found.push(Finding::NothingDone { remaining }),
            None => found.push(Finding::SignalledButFailed),
        },
        Verdict::Completed
        | Verdict::NoSignal
        | Verdict::Failed
        | Verdict::TimedOut
        | Verdict::Stalled
        | Verdict::Interrupted
        | Verdict::Missed
        | Verdict::Skipped
        | Verdict::Unobserved => {}
    }
    if verdict == Verdict::Completed && observed.count("remaining") > 0 {
        found.push(Finding::WorkLeft { remaining: observed.count("remaining") });
    }
    if matches!(observed.stopping, Some((_, StopReason::Asked))) {
        found.push(Finding::StoppedOnRequest);
    }
    found.extend(endings(observed));
    found.extend(observed.notes.iter().cloned().map(Finding::Note));
    found
}

/// What only the end of the processes shows.
fn endings(observed: &Observed) -> Vec<Finding> {
    let mut found = Vec::new();
    if observed.pipe_held {
        found.push(Finding::PipeHeld);
    }
    if !observed.slept.is_zero() {
        found.push(Finding::Slept(observed.slept));
    }
    if let Some(n_processes) = observed.n_killed {
        found.push(Finding::Killed { n_processes });
    }
    if let Some(n_processes) = observed.n_swept.filter(|n| *n > 0) {
        found.push(Finding::Swept { n_processes });
    }
    found
}

/// What came to light after the verdict: it does not change, but this is attached to it.
#[must_use]
pub fn late_findings(before: &Observed, after: &Observed, verdict: Verdict) -> Vec<Finding> {
    let mut found = Vec::new();
    if before.signal.is_none() && after.signal.is_some() {
        found.push(Finding::SignalledLate);
    }
    if verdict == Verdict::Missed && before.started.is_none() && after.started.is_some() {
        found.push(Finding::StartedLate);
    }
    let known = endings(before);
    found.extend(endings(after).into_iter().filter(|finding| !known.contains(finding)));
    found
}
