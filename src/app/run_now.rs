//! One run now: asked of the daemon, followed to its verdict and to the end of its processes.
//!
//! It looks at rows and evidence, as anybody beside the daemon can. Invariants: whoever follows
//! learns within seconds that no daemon is left to give the verdict; a run is reported as over only
//! when its keeper is gone, and with it every process of the job.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::lock;
use super::open_state::OpenState;
use crate::clock::{Clock, SystemClock};
use crate::process::ProcessIdentity;
use crate::process::is_same_process;
use crate::run::ledger::{Answer, Request};
use crate::rundir::Event;
use crate::rundir::directory::RunDirectory;
use crate::rundir::journal::EvidenceReader;
use crate::schedule::ScheduleName;
use crate::watch::history::{SlotFilter, SlotRow, SlotState};

/// How often rows are read: a person waits, and a read takes microseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The daemon answers within a second; after this it is there, and not well.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How long another daemon may take to come up: systemd waits 2 s before it starts one again
/// (`RestartSec`), and one that is upgraded reads its files and migrates first.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);

/// What a keeper needs after the kill grace to reap the tree and to write its last entry.
const KEEPER_MARGIN: Duration = Duration::from_secs(30);

/// Who gives the verdict.
#[derive(Clone, Debug)]
pub enum Judge {
    /// This process, which is the daemon for this run.
    Here,
    /// The daemon that holds this state directory.
    Daemon(PathBuf),
}

/// A run that somebody waits for.
#[derive(Clone)]
pub struct RunNow<'a> {
    state: &'a OpenState,
    schedule: ScheduleName,
    judge: Judge,
}

impl<'a> RunNow<'a> {
    /// Where it is looked at.
    #[must_use]
    pub fn state(&self) -> &'a OpenState {
        self.state
    }

    /// Of this schedule.
    #[must_use]
    pub fn new(state: &'a OpenState, schedule: ScheduleName, judge: Judge) -> Self {
        Self { state, schedule, judge }
    }

    /// Asks for the run; the time at which it is due.
    ///
    /// # Errors
    /// When it is refused, or no daemon takes the request.
    pub async fn ask(&self) -> anyhow::Result<DateTime<Utc>> {
        let ledger = &self.state.ledger;
        let request = Request::Run { schedule: self.schedule.clone() };
        let id = ledger.ask(&request, SystemClock.now()).await.context("can't ask for a run")?;
        let mut presence = Presence::of(&self.judge);
        let asked_at = Instant::now();
        loop {
            match ledger.answer_to(id).await? {
                Some(Answer::Planned { due_at }) => return Ok(due_at),
                Some(Answer::Refused { reason }) => bail!("{reason}"),
                Some(Answer::Done) => {
                    bail!("the daemon planned no run; is it of another version?")
                }
                None => {}
            }
            if presence.is_lost() {
                bail!(
                    "the daemon stopped before it took the request; the next `lookout serve` \
                     starts the run"
                );
            }
            if asked_at.elapsed() > ANSWER_LIMIT {
                bail!("the daemon does not answer; see `lookout status`");
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits for the verdict. `seen` gets the row each time it is read, before the verdict too.
    ///
    /// # Errors
    /// When the rows can't be read, or no daemon is left.
    pub async fn verdict(
        &self,
        due_at: DateTime<Utc>,
        mut seen: impl FnMut(&SlotRow),
    ) -> anyhow::Result<SlotRow> {
        let filter = SlotFilter {
            schedule: Some(self.schedule.as_str().to_owned()),
            from: Some(due_at),
            until: Some(due_at + TimeDelta::seconds(1)),
            ..SlotFilter::default()
        };
        let mut presence = Presence::of(&self.judge);
        loop {
            let row = self.state.history.slots(filter.clone()).await?.into_iter().next();
            if let Some(row) = row {
                seen(&row);
                if row.verdict.is_some() {
                    return Ok(row);
                }
            }
            if presence.is_lost() {
                bail!(
                    "the daemon stopped while the run was going on. The run goes on with its \
                     keeper; the next `lookout serve` judges it"
                );
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until no process of the run is left; `false`: some still are, after every limit.
    pub async fn processes_ended(&self, row: &SlotRow) -> bool {
        let Some(run) = &row.run else { return true };
        let limit = row.configuration.kill_grace + KEEPER_MARGIN;
        keeper_ended(&self.state.state_dir, run, limit).await
    }
}

/// How far a run is, as its keeper has noted it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Where the next entries stand, once the run's directory is known.
    reader: Option<(EvidenceReader, u64)>,
    last: Option<String>,
}

impl Progress {
    /// Reads what is new; `412 of 900 images`, as long as the job says so.
    pub fn read(&mut self, state: &OpenState, row: &SlotRow) -> Option<&str> {
        if let (None, Some(run)) = (&self.reader, &row.run) {
            let directory = RunDirectory::of(&state.state_dir, run);
            self.reader = Some((EvidenceReader::new(&directory), 0));
        }
        if let Some((reader, offset)) = &mut self.reader
            && let Ok((entries, next)) = reader.read_from(*offset)
        {
            *offset = next;
            for entry in entries {
                if let Event::Progress { done, total, unit } = entry.event {
                    let total = total.map(|total| format!(" of {total}")).unwrap_or_default();
                    self.last = Some(format!("{done}{total} {unit}"));
                }
            }
        }
        self.last.as_deref()
    }
}

/// Stops every run that is going on in a state directory without a daemon, and waits for its end.
///
/// # Errors
/// When the rows can't be read or a request can't be written.
pub async fn stop_all(state: &OpenState) -> anyhow::Result<()> {
    let rows = state.history.slots(SlotFilter::default()).await?;
    for row in rows.iter().filter(|row| row.state == SlotState::Running) {
        let Some(run) = &row.run else { continue };
        RunDirectory::of(&state.state_dir, run).request_stop()?;
        let limit = row.configuration.kill_grace + KEEPER_MARGIN;
        keeper_ended(&state.state_dir, run, limit).await;
    }
    Ok(())
}

/// Waits for the end of a run's keeper, which ends after the last process of its job.
async fn keeper_ended(state_dir: &Path, run: &str, limit: Duration) -> bool {
    let directory = RunDirectory::of(state_dir, run);
    let began = Instant::now();
    while keeper_of(&directory).is_some_and(|keeper| is_same_process(&keeper)) {
        if began.elapsed() > limit {
            return false;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    true
}

/// The keeper, if its evidence is there.
fn keeper_of(directory: &RunDirectory) -> Option<ProcessIdentity> {
    let (entries, _) = EvidenceReader::new(directory).read_from(0).ok()?;
    entries.into_iter().find_map(|entry| {
        if let Event::KeeperStarted { keeper } = entry.event { Some(keeper) } else { None }
    })
}

/// Whether there is a daemon, and how long there has been none.
struct Presence<'a> {
    state_dir: Option<&'a Path>,
    absent_since: Option<Instant>,
}

impl<'a> Presence<'a> {
    fn of(judge: &'a Judge) -> Self {
        let state_dir = match judge {
            Judge::Here => None,
            Judge::Daemon(state_dir) => Some(state_dir.as_path()),
        };
        Self { state_dir, absent_since: None }
    }

    /// None is there, and none has taken over in time.
    fn is_lost(&mut self) -> bool {
        let Some(state_dir) = self.state_dir else { return false };
        if lock::is_held(state_dir) {
            self.absent_since = None;
            return false;
        }
        self.absent_since.get_or_insert_with(Instant::now).elapsed() > TAKEOVER_LIMIT
    }
}
