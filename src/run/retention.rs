//! Retention: how much of what runs have written stays on the disk, in all and for each schedule.
//!
//! [`too_old`] decides, [`Sweeper`] looks and removes; how much one run may write is its keeper's
//! business. The rows of a run stay when its files are gone.
//! Invariant: a run that goes on keeps its files, and so does the last one of each schedule.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use crate::rundir::directory::RunDirectory;
use crate::storage::StorageError;

/// Between two looks. A job that runs every second and fills its log each time writes 400 MB within
/// it; any other one less than a hundredth of that.
const POLL_INTERVAL: Duration = Duration::from_secs(300);

/// How much stays, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionLimits {
    /// Of one schedule.
    pub per_schedule: u64,
    /// Of all together.
    pub in_all: u64,
}

/// A run's files.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    /// `None`: its order can't be read.
    schedule: Option<String>,
    n_bytes: u64,
}

/// The runs whose files go, given all of them with the newest first.
fn too_old<'a>(
    newest_first: impl Iterator<Item = (&'a str, &'a Files)>,
    open: &HashSet<String>,
    limits: RetentionLimits,
) -> Vec<String> {
    let mut in_all = 0;
    let mut of_schedule: HashMap<Option<&str>, u64> = HashMap::new();
    let mut gone = Vec::new();
    for (run, files) in newest_first {
        let schedule = files.schedule.as_deref();
        let is_last = schedule.is_some() && !of_schedule.contains_key(&schedule);
        let sum = of_schedule.entry(schedule).or_default();
        let fits = sum.saturating_add(files.n_bytes) <= limits.per_schedule
            && in_all + files.n_bytes <= limits.in_all;
        if fits || is_last || open.contains(run) {
            *sum = sum.saturating_add(files.n_bytes);
            in_all += files.n_bytes;
        } else {
            // Nor is there room for anything older of it.
            *sum = u64::MAX;
            gone.push(run.to_owned());
        }
    }
    gone
}

/// The loop.
#[derive(Debug)]
pub struct Sweeper {
    state_dir: PathBuf,
    ledger: Arc<dyn Ledger>,
    limits: RetentionLimits,
    /// Runs that are over, whose files no longer change.
    measured: HashMap<String, Files>,
}

impl Sweeper {
    /// Of the runs below one state directory.
    #[must_use]
    pub fn new(state_dir: PathBuf, ledger: Arc<dyn Ledger>, limits: RetentionLimits) -> Self {
        Self { state_dir, ledger, limits, measured: HashMap::new() }
    }

    /// Looks every few minutes until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            match self.step().await {
                Ok(0) => {}
                Ok(n) => tracing::info!(runs = n, "removed the files of old runs"),
                Err(error) => tracing::warn!(%error, "the files of old runs can't be removed"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }

    /// One look; returns of how many runs the files went.
    ///
    /// # Errors
    /// When the database or the folder can't be read, or a file can't be removed.
    pub async fn step(&mut self) -> Result<usize, StorageError> {
        let state_dir = self.state_dir.clone();
        // The folder first: what is in it then and not open after has ended.
        let found = off_the_runtime(move || runs_in(&state_dir)).await?;
        let open: HashSet<String> = (self.ledger.open_runs().await?.into_iter())
            .map(|open| open.run.id.as_str().to_owned())
            .collect();
        let (state_dir, limits) = (self.state_dir.clone(), self.limits);
        let measured = std::mem::take(&mut self.measured);
        let (measured, gone) =
            off_the_runtime(move || sweep(&state_dir, found, &open, measured, limits)).await?;
        self.measured = measured;
        Ok(gone)
    }
}

/// Measures what is new, removes what is too old; returns what stays and how many went.
fn sweep(
    state_dir: &Path,
    found: HashSet<String>,
    open: &HashSet<String>,
    mut measured: HashMap<String, Files>,
    limits: RetentionLimits,
) -> io::Result<(HashMap<String, Files>, usize)> {
    measured.retain(|run, _| found.contains(run));
    for run in found {
        measured.entry(run).or_insert_with_key(|run| measure(state_dir, run));
    }
    let mut all: Vec<(&str, &Files)> =
        measured.iter().map(|(run, files)| (run.as_str(), files)).collect();
    // Their names begin with the time at which they were claimed.
    all.sort_unstable_by(|a, b| b.0.cmp(a.0));
    let gone = too_old(all.into_iter(), open, limits);
    let mut first_error = None;
    for run in &gone {
        match std::fs::remove_dir_all(RunDirectory::of(state_dir, run).path()) {
            Ok(()) => {}
            // Somebody was quicker.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // One that can't go must not keep the others.
            Err(error) => {
                first_error.get_or_insert(error);
                continue;
            }
        }
        measured.remove(run);
    }
    if let Some(error) = first_error {
        return Err(error);
    }
    // Those that go on grow.
    measured.retain(|run, _| !open.contains(run));
    Ok((measured, gone.len()))
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.flatten().map_err(|error| StorageError::Unwritable(error.to_string()))
}

/// The names below `runs/`.
fn runs_in(state_dir: &Path) -> io::Result<HashSet<String>> {
    let entries = match std::fs::read_dir(state_dir.join("runs")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(error),
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn measure(state_dir: &Path, run: &str) -> Files {
    let directory = RunDirectory::of(state_dir, run);
    // What can't be read, or has just been removed by somebody, counts as nothing.
    let entries = std::fs::read_dir(directory.path()).into_iter().flatten().flatten();
    let n_bytes = entries.filter_map(|entry| entry.metadata().ok()).map(|it| it.len()).sum();
    Files { schedule: directory.read_order().ok().map(|order| order.schedule), n_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RetentionLimits = RetentionLimits { per_schedule: 100, in_all: 250 };

    fn files(schedule: &str, n_bytes: u64) -> Files {
        Files { schedule: (!schedule.is_empty()).then(|| schedule.to_owned()), n_bytes }
    }

    fn gone(newest_first: &[(&str, Files)], open: &[&str]) -> Vec<String> {
        let open = open.iter().map(|run| (*run).to_owned()).collect();
        too_old(newest_first.iter().map(|(run, files)| (*run, files)), &open, LIMITS)
    }

    #[test]
    fn the_oldest_runs_of_a_schedule_go_when_it_has_written_too_much() {
        let runs = [
            ("4", files("a", 40)),
            ("3", files("a", 60)),
            ("2", files("b", 9)),
            ("1", files("a", 1)),
        ];
        assert_eq!(gone(&runs, &[]), ["1"]);
    }

    #[test]
    fn all_together_have_a_limit_too() {
        let runs = [
            ("5", files("a", 100)),
            ("4", files("b", 100)),
            ("3", files("c", 40)),
            ("2", files("c", 40)),
            ("1", files("c", 5)),
        ];
        assert_eq!(gone(&runs, &[]), ["2", "1"]);
    }

    #[test]
    fn the_last_run_of_a_schedule_and_one_that_goes_on_are_kept_whatever_they_take() {
        let runs = [("3", files("a", 500)), ("2", files("b", 500)), ("1", files("b", 500))];
        assert_eq!(gone(&runs, &["1"]), Vec::<String>::new());
        assert_eq!(gone(&runs, &[]), ["1"]);
    }

    #[test]
    fn what_is_no_runs_is_kept_as_long_as_there_is_room() {
        assert_eq!(gone(&[("2", files("", 60)), ("1", files("", 60))], &[]), ["1"]);
    }
}
