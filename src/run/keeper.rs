//! Keepers as the daemon sees them: started, found again, read, stopped.
//!
//! A port: production spawns a process ([`process`]), simulated weeks use a scripted one.
//! Invariant: a keeper is started only with a [`RunLease`], and starting it again for the same run
//! never makes two jobs.

pub mod order;
pub mod process;

use std::fmt::Debug;

use async_trait::async_trait;
use thiserror::Error;

use crate::process::ProcessIdentity;
use crate::run::RunId;
use crate::run::ledger::RunLease;
use crate::rundir::Entry;

/// Why a keeper could not be started or asked.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum KeeperError {
    /// The run's directory can't be written or read.
    #[error("the run's directory can't be used: {0}")]
    Directory(String),
    /// The process could not be started.
    #[error("the keeper could not be started: {0}")]
    Spawn(String),
}

/// Whether a keeper is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Alive,
    /// It is not, or another process has its pid.
    Gone,
}

/// How a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopHow {
    /// The keeper is asked to stop its job and to write down what it sees.
    Ask,
    /// The keeper and every process of the run are killed; for a keeper that does not react,
    /// and for what a dead one left behind.
    Kill,
}

/// Entries of a run's evidence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// In the order they were written.
    pub entries: Vec<Entry>,
    /// Where to go on.
    pub next_offset: u64,
}

/// Keepers.
#[async_trait]
pub trait Keepers: Send + Sync + Debug {
    /// Starts the keeper of a claimed run. If one was started for it before, that one is returned.
    async fn start(&self, lease: &RunLease) -> Result<ProcessIdentity, KeeperError>;

    /// Whether this very process is alive.
    async fn presence(&self, keeper: &ProcessIdentity) -> Presence;

    /// What the keeper saw, from an offset on.
    async fn read(&self, run: &RunId, offset: u64) -> Result<Reading, KeeperError>;

    /// Stops a run.
    async fn stop(&self, run: &RunId, how: StopHow) -> Result<(), KeeperError>;

    /// The last lines of its output, secrets redacted.
    async fn log_tail(&self, run: &RunId, n_lines: usize) -> Vec<String>;
}
