//! Keepers as processes of their own: `lookout keeper <directory>`.
//!
//! Such a keeper has its own process group and no standard input, so that it outlives a daemon
//! that is stopped, killed or replaced; what it says goes to `keeper.log` in the run's directory.
//! Invariant: a keeper that was started once for a run is found again, not started twice.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use async_trait::async_trait;
use tokio::process::Command;

use super::order::{Settings, order_for};
use super::{KeeperError, Keepers, Presence, Reading, StopHow};
use crate::process::ProcessIdentity;
use crate::process::cgroup::RunCgroup;
use crate::process::{
    RUN_ID_VARIABLE, descendants, identity_of, is_same_process, processes_of_run, signal_all,
};
use crate::run::RunId;
use crate::run::ledger::RunLease;
use crate::rundir::Event;
use crate::rundir::directory::RunDirectory;
use crate::rundir::journal::EvidenceReader;

/// Starts keepers below one state directory.
#[derive(Debug, Clone)]
pub struct KeeperProcesses {
    state_dir: PathBuf,
    settings: Settings,
}

impl KeeperProcesses {
    /// Keepers whose runs live in `state_dir/runs`.
    #[must_use]
    pub fn new(state_dir: PathBuf, settings: Settings) -> Self {
        Self { state_dir, settings }
    }

    fn directory(&self, run: &RunId) -> RunDirectory {
        RunDirectory::of(&self.state_dir, run.as_str())
    }

    fn spawn(&self, run: &RunId, directory: &RunDirectory) -> Result<ProcessIdentity, KeeperError> {
        let spawn_error = |error: std::io::Error| {
            KeeperError::Spawn(format!("{}: {error}", self.settings.program.display()))
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(directory.path().join("keeper.log"))
            .map_err(|error| directory_error(directory, &error))?;
        let mut command = Command::new(&self.settings.program);
        if let Some(config) = &self.settings.config {
            command.arg("--config").arg(config);
        }
        let mut child = command
            .arg("keeper")
            .arg(directory.path())
            // By this mark it is found before its first entry is on disk.
            .env(RUN_ID_VARIABLE, run.as_str())
            .current_dir(&self.settings.root)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().map_err(spawn_error)?))
            .stderr(Stdio::from(log))
            // Ctrl-C and a closed terminal are for the daemon, not for its runs.
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(spawn_error)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let identity = pid.and_then(identity_of);
        // Somebody has to wait for it, or it stays a zombie; dropping the task ends nothing.
        tokio::spawn(async move { child.wait().await });
        identity.ok_or_else(|| KeeperError::Spawn("it ended at once".to_owned()))
    }
}

fn directory_error(directory: &RunDirectory, error: &std::io::Error) -> KeeperError {
    KeeperError::Directory(format!("{}: {error}", directory.path().display()))
}

/// The keeper that a run already has, as its first entry says.
fn keeper_in(directory: &RunDirectory) -> Result<Option<ProcessIdentity>, KeeperError> {
    let (entries, _) = EvidenceReader::new(directory)
        .read_from(0)
        .map_err(|error| directory_error(directory, &error))?;
    Ok(entries.into_iter().find_map(|entry| {
        if let Event::KeeperStarted { keeper } = entry.event { Some(keeper) } else { None }
    }))
}

#[async_trait]
impl Keepers for KeeperProcesses {
    async fn start(&self, lease: &RunLease) -> Result<ProcessIdentity, KeeperError> {
        let run = lease.run();
        let directory = self.directory(&run.id);
        if directory.order_path().exists() {
            if let Some(keeper) = keeper_in(&directory)? {
                return Ok(keeper);
            }
            // Started by a daemon that died at once, and yet to write its first entry.
            let mut processes = processes_of_run(run.id.as_str());
            processes.sort_by_key(|process| process.start_ticks);
            if let Some(keeper) = processes.into_iter().next() {
                return Ok(keeper);
            }
        }
        directory
            .write_order(&order_for(run, &self.settings))
            .map_err(|error| directory_error(&directory, &error))?;
        self.spawn(&run.id, &directory)
    }

    async fn presence(&self, keeper: &ProcessIdentity) -> Presence {
        if is_same_process(keeper) { Presence::Alive } else { Presence::Gone }
    }

    async fn read(&self, run: &RunId, offset: u64) -> Result<Reading, KeeperError> {
        let directory = self.directory(run);
        let (entries, next_offset) = EvidenceReader::new(&directory)
            .read_from(offset)
            .map_err(|error| directory_error(&directory, &error))?;
        Ok(Reading { entries, next_offset })
    }

    async fn stop(&self, run: &RunId, how: StopHow) -> Result<(), KeeperError> {
        let directory = self.directory(run);
        match how {
            StopHow::Ask => {
                directory.request_stop().map_err(|error| directory_error(&directory, &error))
            }
            StopHow::Kill => {
                // Who can't be read of is found by the mark that its processes carry.
                let keeper = keeper_in(&directory).ok().flatten().filter(is_same_process);
                // The tree first: without its keeper, a child that left it has no parent of ours.
                let mut processes = keeper.map_or_else(Vec::new, |keeper| {
                    let mut tree = descendants(keeper.pid);
                    tree.push(keeper);
                    tree
                });
                processes.extend(processes_of_run(run.as_str()));
                let cgroup = RunCgroup::noted_in(&directory.cgroup_path());
                processes.extend(cgroup.iter().flat_map(RunCgroup::processes));
                signal_all(&processes, rustix::process::Signal::KILL);
                if let Some(cgroup) = cgroup {
                    cgroup.kill();
                    cgroup.remove();
                }
                Ok(())
            }
        }
    }

    async fn log_tail(&self, run: &RunId, n_lines: usize) -> Vec<String> {
        // A message without its last lines is better than no message.
        let log = self.directory(run).read_log().unwrap_or_default();
        let text = if log.tail.is_empty() { &log.head } else { &log.tail };
        let lines: Vec<&str> =
            text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(n_lines)..].iter().map(|line| (*line).to_owned()).collect()
    }
}
