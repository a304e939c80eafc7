//! What the evidence of a run comes to, entry by entry.
//!
//! A fold: a daemon that reads the file again from its beginning comes to the same. It keeps
//! moments and counts, no judgement; that is [`super::judge`]'s.
//! Invariant: memory does not grow with the length of a run, save for one sample a problem entry
//! within the window of [`super::faults`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::IncidentKind;
use super::faults::{self, Faults, Source};
use super::moment::Moment;
use crate::process::ProcessIdentity;
use crate::rundir::{CallOutcome, Entry, Event, StopReason};
use crate::schedule::StallOn;

/// Notes kept for the pages; a job may print thousands.
const MAX_NOTES: usize = 20;

/// How the main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// When.
    pub moment: Moment,
    /// Exit code, if it exited.
    pub code: Option<i32>,
    /// Signal number, if it was killed.
    pub signal: Option<i32>,
}

/// One HTTP call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Status, if there was an answer.
    pub status: Option<u16>,
    /// What it brought.
    pub outcome: CallOutcome,
    /// One line for people.
    pub detail: String,
}

/// How far the job is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Done so far.
    pub done: u64,
    /// Of how many.
    pub total: Option<u64>,
    /// Of what.
    pub unit: String,
}

/// Everything that was seen of a run so far.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Who writes the evidence.
    pub keeper: Option<ProcessIdentity>,
    /// Since when the job runs.
    pub started: Option<Moment>,
    /// The job is no process but an endpoint that is called.
    pub is_endpoint: bool,
    /// Why it could not be started at all.
    pub could_not_start: Option<String>,
    /// Last output or progress (or the start).
    pub last_activity: Option<Moment>,
    /// Last time `done` rose (or the start).
    pub last_progress: Option<Moment>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Faults by kind.
    pub faults: Faults,
    /// The last failure pattern; of an endpoint: since its last good call.
    pub failure: Option<String>,
    /// Totals by name.
    pub counts: BTreeMap<String, u64>,
    /// US dollars, if known.
    pub usd: Option<f64>,
    /// The last notes.
    pub notes: Vec<String>,
    /// When the completion text was first seen.
    pub signal: Option<Moment>,
    /// Calls that ended.
    pub n_calls: u64,
    /// The last of them.
    pub last_call: Option<Call>,
    /// When the box was full.
    pub box_ended: Option<Moment>,
    /// When and why the tree was stopped.
    pub stopping: Option<(Moment, StopReason)>,
    /// Processes that had to be killed.
    pub n_killed: Option<u32>,
    /// How the main process ended.
    pub exit: Option<Exit>,
    /// Something held the pipe after that.
    pub pipe_held: bool,
    /// How long the machine slept meanwhile.
    pub slept: Duration,
    /// Processes that outlived it and were ended.
    pub n_swept: Option<u32>,
    /// When the keeper was done.
    pub ended: Option<Moment>,
    /// Bytes of output.
    pub bytes: u64,
    /// When the newest entry was written.
    pub latest: Option<Moment>,
}

impl Observed {
    /// Takes one more entry.
    pub fn take(&mut self, entry: &Entry) {
        let moment = Moment { at: entry.at, boot: Duration::from_millis(entry.boot_ms) };
        self.latest = Some(moment);
        match &entry.event {
            Event::KeeperStarted { keeper } => self.keeper = Some(keeper.clone()),
            Event::JobStarted { job, .. } => {
                self.is_endpoint = job.is_none();
                self.started = Some(moment);
                self.last_activity = Some(moment);
                self.last_progress = Some(moment);
            }
            Event::CouldNotStart { error } => self.could_not_start = Some(error.clone()),
            Event::Activity { bytes } => {
                self.bytes = *bytes;
                // What a shell prints because it is stopped is no sign of life.
                if !self.is_asked_to_end() {
                    self.last_activity = Some(moment);
                }
            }
            Event::Progress { done, total, unit } => {
                self.last_activity = Some(moment);
                self.take_progress(moment, *done, *total, unit);
            }
            Event::Problem { kind, provider, status, count, calls, detail, title, action } => {
                let problem = faults::Problem {
                    provider: provider.clone(),
                    status: *status,
                    count: *count,
                    calls: *calls,
                    detail: detail.clone(),
                    title: title.clone(),
                    action: action.clone(),
                    source: Source::default(),
                };
                self.take_problem(moment, kind, problem);
            }
            Event::Recovered { kind } => {
                if let Some(kind) = IncidentKind::parse(kind) {
                    self.faults.recovered(kind, moment);
                }
            }
            Event::Totals { counts, usd } => {
                self.counts.clone_from(counts);
                self.usd = *usd;
            }
            Event::Note { text } => self.take_note(text),
            Event::Signal { .. } => self.signal = self.signal.or(Some(moment)),
            Event::Call { status, outcome, detail, .. } => {
                let (status, outcome, detail) = (*status, *outcome, detail.clone());
                self.take_call(moment, Call { status, outcome, detail });
            }
            Event::BoxEnded => self.box_ended = Some(moment),
            Event::Stopping { reason } => {
                self.stopping = self.stopping.or(Some((moment, *reason)));
            }
            Event::Killed { n_processes } => self.n_killed = Some(*n_processes),
            Event::Exited { code, signal } => {
                self.exit = Some(Exit { moment, code: *code, signal: *signal });
            }
            Event::PipeHeld => self.pipe_held = true,
            Event::Slept { seconds } => self.slept = Duration::from_secs(*seconds),
            Event::Swept { n_processes } => self.n_swept = Some(*n_processes),
            Event::Ended { bytes, .. } => {
                self.bytes = *bytes;
                self.ended = Some(moment);
            }
        }
    }

    fn take_problem(&mut self, moment: Moment, kind: &str, problem: faults::Problem) {
        match IncidentKind::parse(kind).filter(|kind| kind.is_for_jobs_to_say()) {
            Some(kind) => {
                let source = self.source_of(kind, problem.calls);
                self.faults.problem(kind, moment, faults::Problem { source, ..problem });
            }
            None => self.failure = Some(problem.detail),
        }
    }

    /// Problem lines of the provider that say how many calls there were report every fault;
    /// everything else has been counted by whoever reports it.
    fn source_of(&self, kind: IncidentKind, calls: Option<u64>) -> Source {
        let is_raw = kind == IncidentKind::ProviderUnavailable && calls.is_some();
        if is_raw && !self.is_endpoint { Source::Raw } else { Source::Counted }
    }

    fn take_note(&mut self, text: &str) {
        if self.notes.len() == MAX_NOTES {
            self.notes.remove(0);
        }
        self.notes.push(text.to_owned());
    }

    /// A call that came back is how far an HTTP job is: it prints no progress lines.
    fn take_call(&mut self, moment: Moment, call: Call) {
        self.n_calls += 1;
        self.last_activity = Some(moment);
        self.last_progress = Some(moment);
        match call.outcome {
            // The last call decides: a gateway's 502 an hour ago says nothing of this run.
            CallOutcome::Signal | CallOutcome::Idle => self.failure = None,
            CallOutcome::Other | CallOutcome::Failed | CallOutcome::TimedOut => {}
        }
        self.last_call = Some(call);
    }

    fn take_progress(&mut self, moment: Moment, done: u64, total: Option<u64>, unit: &str) {
        if self.progress.as_ref().is_none_or(|before| done > before.done) {
            self.last_progress = Some(moment);
        }
        self.progress = Some(Progress { done, total, unit: unit.to_owned() });
    }

    /// Whether the box was over or the tree was stopped.
    #[must_use]
    pub fn is_asked_to_end(&self) -> bool {
        self.box_ended.is_some() || self.stopping.is_some()
    }

    /// What is left, when totals say that work was waiting and nothing of it was done.
    #[must_use]
    pub fn nothing_done(&self) -> Option<u64> {
        let done = ["succeeded", "errored", "blocked"].map(|name| self.count(name));
        let remaining = self.count("remaining");
        (remaining > 0 && done.iter().sum::<u64>() == 0).then_some(remaining)
    }

    /// The last moment at which something moved, in the schedule's sense.
    #[must_use]
    pub fn moved(&self, on: StallOn) -> Option<Moment> {
        match on {
            StallOn::Output => self.last_activity,
            StallOn::Progress => self.last_progress,
        }
    }

    /// One of the totals; 0 when it was not printed.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }
}
