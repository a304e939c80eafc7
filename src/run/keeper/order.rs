//! From a schedule to the order its keeper gets.
//!
//! Pure. What a job is in configuration (`review`, `command`, `http`) becomes what a keeper can do:
//! hold a process, or call an endpoint.
//! Invariant: an order holds no secret; `${NAME}` stays as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::run::Run;
use crate::rundir::{Order, Pattern, Signal, Stall, Work};
use crate::schedule::{Find, Job, OnStall, Schedule, SignalMatch, StallOn};

/// Output kept from the beginning: enough for a stack trace and what led to it.
const LOG_HEAD_BYTES: u64 = 256 * 1024;
/// Output kept from the end: the last words matter more than the first.
const LOG_TAIL_BYTES: u64 = 1024 * 1024;

/// What every order of this daemon has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This program, for the built-in review.
    pub program: PathBuf,
    /// `-c`, if there is a configuration file.
    pub config: Option<PathBuf>,
    /// Working directory of jobs that name none: beside the configuration file.
    pub root: PathBuf,
}

/// The order of a run.
#[must_use]
pub fn order_for(run: &Run, settings: &Settings) -> Order {
    let schedule = &run.schedule;
    Order {
        run: run.id.as_str().to_owned(),
        schedule: schedule.name.as_str().to_owned(),
        due_at: run.slot.due_at,
        work: work(schedule, settings),
        time_box: schedule.time_box,
        signal_grace: schedule.signal_grace,
        kill_grace: schedule.kill_grace,
        stop_when_stalled: match schedule.on_stall {
            OnStall::Alert => None,
            OnStall::Stop => Some(Stall {
                after: schedule.stall_after,
                on_progress: schedule.stall_on == StallOn::Progress,
            }),
        },
        signal: match schedule.job {
            Job::Review { .. } => Signal::Review { message: schedule.signal.clone() },
            Job::Command(_) | Job::Http(_) => match schedule.signal_match {
                SignalMatch::Text => Signal::Text(schedule.signal.clone()),
                SignalMatch::Line => Signal::Line(schedule.signal.trim().to_owned()),
            },
        },
        patterns: schedule.patterns.iter().map(pattern).collect(),
        log_head_bytes: LOG_HEAD_BYTES,
        log_tail_bytes: LOG_TAIL_BYTES,
    }
}

fn work(schedule: &Schedule, settings: &Settings) -> Work {
    match &schedule.job {
        Job::Review { batch } => Work::Command {
            argv: review_argv(settings),
            cwd: settings.root.clone(),
            // The old service's name for the size of a batch, which the review reads anyway.
            env: BTreeMap::from([("LIMIT".to_owned(), batch.to_string())]),
            stop_signal: "SIGTERM".to_owned(),
            user: None,
        },
        Job::Command(job) => Work::Command {
            argv: job.argv.clone(),
            cwd: job.cwd.as_deref().map_or(settings.root.clone(), |cwd| settings.root.join(cwd)),
            env: job.env.clone(),
            stop_signal: job.stop_signal.clone(),
            user: job.user.clone(),
        },
        Job::Http(job) => Work::Http {
            method: job.method.clone(),
            url: job.url.clone(),
            headers: job.headers.clone(),
            body: job.body.clone(),
            repeat: job.repeat,
            idle: job.idle.clone(),
            idle_pause: job.idle_pause,
            call_timeout: job.call_timeout,
            max_body: job.max_body,
        },
    }
}

/// The review learns its box from `LOOKOUT_BOX_ENDS_AT`, which the keeper sets: the box begins
/// with the job, and only the keeper knows when that was.
fn review_argv(settings: &Settings) -> Vec<String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut argv = vec![text(&settings.program)];
    if let Some(config) = &settings.config {
        argv.extend(["--config".to_owned(), text(config)]);
    }
    argv.push("review".to_owned());
    argv
}

fn pattern(pattern: &crate::schedule::Pattern) -> Pattern {
    let (text, regex) = match &pattern.find {
        Find::Text(text) => (Some(text.clone()), None),
        Find::Regex(regex) => (None, Some(regex.clone())),
    };
    Pattern {
        text,
        regex,
        kind: pattern.kind.clone(),
        count: pattern.count,
        within: pattern.within,
    }
}
