//! The keeper: one process a run, which holds the job and outlives the daemon.
//!
//! It reads an [`crate::rundir::Order`] from the run's directory, does what it says, and writes what it
//! saw to the evidence file. It decides nothing about verdicts or people.
//! Invariant: what is not in the evidence file, fsynced, did not happen.
//!
//! In reading order: [`crate::rundir`] is what the daemon shares with it. `control` keeps the `time_box`;
//! `job` and `http_job` are the two kinds of work. What they print goes through
//! `output_observer`, which lets `output_scanner` (with `rules`, `line`, `stream_search`) find what it
//! means, keeps some of it (`log`), and hands entries to `recorder`.
//!
//! **Asking it to stop:** [`crate::rundir::directory::RunDirectory::request_stop`], or SIGTERM. Other
//! signals that end a process are ignored. There is no way to make it begin again.

use std::fs::OpenOptions;
use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::clock::Clock;
use crate::redact::Redactor;

use self::control::{Control, Signals};
use self::environment::Variables;
use self::output_observer::OutputObserver;
use self::recorder::Outcome;
use self::rules::Rules;
use crate::process;
use crate::rundir::directory::RunDirectory;
use crate::rundir::{Event, Order, Work};

mod control;
pub mod environment;
mod http_job;
mod job;
mod line;
mod log;
mod output_observer;
mod output_scanner;
mod recorder;
mod rules;
mod stream_search;
mod time_box;

/// Why a keeper could not do its work; whatever a job does is no error of the keeper.
#[derive(Debug, Error)]
pub enum KeepError {
    /// Nothing was done.
    #[error("the order in {directory} can't be read: {source}")]
    NoOrder {
        /// The run's directory.
        directory: String,
        /// What failed.
        source: io::Error,
    },
    /// Nothing was done: each run has one keeper.
    #[error("{directory} has evidence already: another keeper has this run")]
    AlreadyKept {
        /// The run's directory.
        directory: String,
    },
    /// Nothing was done.
    #[error("the keeper can't be set up: {0}")]
    Setup(io::Error),
    /// The job is over, but what was seen is not all on disk.
    #[error("the evidence in {directory} could not be written to its end")]
    Incomplete {
        /// The run's directory.
        directory: String,
    },
}

/// Holds one run from its start to its end. The job's own failures are in the evidence.
///
/// Waits for all children of this process: it must be a process of its own.
///
/// # Errors
/// When there is no order, another keeper, or the evidence can't be completed.
pub async fn run(
    directory: &RunDirectory,
    clock: Arc<dyn Clock>,
    variables: &Variables,
) -> Result<(), KeepError> {
    let name = || directory.path().display().to_string();
    // Before anything else, so that a signal that comes now ends nothing half-done.
    let signals = Signals::take().map_err(KeepError::Setup)?;
    // The spawner may have done it; then this process leads its group and can't again.
    let _ = rustix::process::setsid();
    let order = directory
        .read_order()
        .map_err(|source| KeepError::NoOrder { directory: name(), source })?;
    if !claim(directory) {
        return Err(KeepError::AlreadyKept { directory: name() });
    }
    let (work, secrets) = prepare(&order, variables);
    let redactor = Redactor::from_environment(
        variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain(secrets.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
    );
    let (rules, work) = match (Rules::new(&order), work) {
        (Ok(rules), work) => (rules, work),
        (Err(error), _) => (Rules::default(), Err(error)),
    };
    let observer = OutputObserver::new(clock, directory.clone(), redactor, &order, rules)
        .map(Arc::new)
        .map_err(KeepError::Setup)?;
    if let Some(keeper) = process::own_identity() {
        observer.record(Event::KeeperStarted { keeper });
    }
    hold(&order, work, directory, &observer, signals).await;
    // Readers are gone by now; if one is not, its entries can no longer be waited for.
    let outcome = match Arc::try_unwrap(observer) {
        Ok(observer) => observer.finish().await,
        Err(_) => Outcome::Incomplete,
    };
    match outcome {
        Outcome::Complete => Ok(()),
        Outcome::Incomplete => Err(KeepError::Incomplete { directory: name() }),
    }
}

/// Work whose words are settled.
enum Prepared {
    Command(job::Prepared),
    Http(Box<http_job::Prepared>),
}

/// Values that only this job has, with names that make the redactor take them.
type Secrets = Vec<(String, String)>;

fn prepare(order: &Order, variables: &Variables) -> (Result<Prepared, String>, Secrets) {
    let prepared = match &order.work {
        Work::Command { argv, cwd, env, stop_signal, user } => {
            let user = user.as_deref();
            job::Prepared::new(job::Ordered { argv, cwd, env, stop_signal, user }, variables)
                .map(Prepared::Command)
        }
        Work::Http {
            method,
            url,
            headers,
            body,
            repeat,
            idle: _,
            idle_pause,
            call_timeout,
            max_body,
        } => {
            let rhythm = if *repeat {
                http_job::Rhythm::Repeat { idle_pause: *idle_pause }
            } else {
                http_job::Rhythm::Once
            };
            let body = body.as_deref();
            let (call_timeout, max_body) = (*call_timeout, *max_body);
            let ordered =
                http_job::Ordered { method, url, headers, body, rhythm, call_timeout, max_body };
            http_job::Prepared::new(ordered, variables).map(|p| Prepared::Http(Box::new(p)))
        }
    };
    let secrets = match &prepared {
        Ok(Prepared::Command(command)) => {
            command.env().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        }
        Ok(Prepared::Http(http)) => {
            http.secrets().iter().map(|value| ("SECRET".to_owned(), value.clone())).collect()
        }
        Err(_) => Secrets::new(),
    };
    (prepared, secrets)
}

async fn hold(
    order: &Order,
    work: Result<Prepared, String>,
    directory: &RunDirectory,
    observer: &Arc<OutputObserver>,
    signals: Signals,
) {
    let mut control = Control::new(order, directory.clone(), Arc::clone(observer), signals);
    match work {
        Ok(Prepared::Command(command)) => job::run(order, &command, observer, &mut control).await,
        Ok(Prepared::Http(http)) => http_job::run(&http, observer, &mut control).await,
        Err(error) => observer.record(Event::CouldNotStart { error: observer.say(&error) }),
    }
}

/// Makes the evidence file; `false` if there is one. A disk that is full is no reason not to hold
/// the job: the recorder goes on trying.
fn claim(directory: &RunDirectory) -> bool {
    let made = OpenOptions::new().write(true).create_new(true).open(directory.evidence_path());
    !made.is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
}
