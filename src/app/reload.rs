//! Files that change while the daemon runs: looked at every few seconds, and at once on SIGHUP.
//!
//! What is right goes to the conductor and to the part that sends messages; what is broken is told
//! once a file, and told again when it is right. Which is which is `config::reload`'s business.
//! Invariant: a file that is being written is not read before it has been left alone for one look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::alert::channel::ChannelSettings;
use crate::clock::Clock;
use crate::config::problem::Problem;
use crate::config::reload::{Fingerprint, reload};
use crate::config::{Config, LastGood, Location, Usable};
use crate::redact::Redactor;
use crate::schedule::Schedule;
use crate::storage::StorageError;
use crate::store::GuardDb;
use crate::watch::incidents::{FaultKey, FaultWrite, IncidentWrite, Incidents, Outcome};
use crate::watch::{Facts, IncidentKind, Severity};

/// Between two looks at the files: a person who saved one waits so long, twice at most.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Of the time that passes, a look takes no more than one part in so many: ten thousand files take
/// 40 ms, which every two seconds would be 2 % of a core for nothing.
const SHARE: u32 = 400;

/// But nobody waits longer than this, however long reading them or a busy database took.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(30);

/// Problems of one file in a message; `lookout check` shows all.
const MOST_PROBLEMS: usize = 5;

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub struct Files {
    /// The files.
    pub location: Location,
    /// The variables of the process.
    pub process: BTreeMap<String, String>,
}

impl Files {
    /// What to tell somebody who asks in a folder that has nothing to do with Lookout.
    #[must_use]
    pub fn not_configured(&self) -> Option<String> {
        let set = self.process.iter().filter(|(_, value)| !value.trim().is_empty());
        self.location.not_configured(set.map(|(name, _)| name.as_str()))
    }
}

/// What the part that sends messages goes by.
#[derive(Clone)]
pub struct Alerting {
    /// Who is told.
    pub channels: Vec<ChannelSettings>,
    /// Hides what must not leave.
    pub redactor: Arc<Redactor>,
}

impl Alerting {
    /// Of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { channels: config.channels.clone(), redactor: Arc::new(config.redactor()) }
    }
}

/// Whether to read files that have not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Only what has changed and is settled.
    Changed,
    /// Everything, now.
    Everything,
}

/// What one look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Nothing was read.
    Unchanged,
    /// The files were read.
    Read,
}

/// The loop.
pub struct Reloader {
    files: Files,
    config: Config,
    db: GuardDb,
    clock: Arc<dyn Clock>,
    /// The files' last good versions.
    good: LastGood,
    /// What of them is in `guard.db`; `None`: nobody knows.
    remembered: Option<LastGood>,
    schedules: watch::Sender<Vec<Schedule>>,
    alerting: watch::Sender<Alerting>,
    /// The files as they were when they were read last.
    read: Fingerprint,
    /// The files as they were at the last look.
    seen: Fingerprint,
    /// What is broken, by whose incident it is.
    broken: BTreeMap<Option<String>, Vec<Problem>>,
    /// What of it has been written down; `None`: nothing yet, an earlier daemon may have left incidents.
    written: Option<BTreeMap<Option<String>, Vec<Problem>>>,
}

impl Reloader {
    /// Follows the files of a configuration that has just been read.
    #[must_use]
    pub fn new(files: Files, read: Usable, db: GuardDb, clock: Arc<dyn Clock>) -> Self {
        let Usable { config, problems, good } = read;
        let fingerprint = Fingerprint::take(&files.location);
        Self {
            files,
            db,
            clock,
            good,
            remembered: None,
            schedules: watch::Sender::new(config.schedules.clone()),
            alerting: watch::Sender::new(Alerting::of(&config)),
            seen: fingerprint.clone(),
            read: fingerprint,
            config,
            broken: by_incident(problems),
            written: None,
        }
    }

    /// The schedules as they are now.
    #[must_use]
    pub fn schedules(&self) -> watch::Receiver<Vec<Schedule>> {
        self.schedules.subscribe()
    }

    /// The channels as they are now.
    #[must_use]
    pub fn alerting(&self) -> watch::Receiver<Alerting> {
        self.alerting.subscribe()
    }

    /// Looks every few seconds (less often where there are thousands of files), and at once when it
    /// is asked to, until it is told to stop.
    pub async fn run(mut self, asked: Arc<Notify>, stop: CancellationToken) {
        let mut look = Look::Changed;
        loop {
            let began = Instant::now();
            // What can't be written is written by the next look; the watchdog reports the disk.
            if let Err(error) = self.step(look, self.clock.now()).await {
                tracing::debug!(%error, "broken files can't be told");
            }
            look = tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause_after(began.elapsed())) => Look::Changed,
                () = asked.notified() => Look::Everything,
            };
        }
    }

    /// One look.
    ///
    /// # Errors
    /// When what is broken can't be written down; what is right is in effect all the same.
    pub async fn step(&mut self, look: Look, now: DateTime<Utc>) -> Result<Looked, StorageError> {
        let looked = self.read_what_changed(look).await;
        if self.remembered.as_ref() != Some(&self.good) {
            self.db.remember_good_files(self.good.0.clone()).await?;
            self.remembered = Some(self.good.clone());
        }
        if self.written.as_ref() != Some(&self.broken) {
            self.write(now).await?;
            self.written = Some(self.broken.clone());
        }
        Ok(looked)
    }

    async fn read_what_changed(&mut self, look: Look) -> Looked {
        let files = self.files.clone();
        let taken = tokio::task::spawn_blocking(move || Fingerprint::take(&files.location)).await;
        // It panics only with the process.
        let Ok(on_disk) = taken else { return Looked::Unchanged };
        let is_settled = on_disk == self.seen;
        self.seen.clone_from(&on_disk);
        let is_due = match look {
            Look::Everything => true,
            Look::Changed => is_settled && on_disk != self.read,
        };
        if !is_due {
            return Looked::Unchanged;
        }
        let (before, files, good) = (self.config.clone(), self.files.clone(), self.good.clone());
        let reading = tokio::task::spawn_blocking(move || {
            reload(&before, &files.location, &files.process, &good)
        });
        let Ok(reloaded) = reading.await else { return Looked::Unchanged };
        self.read = on_disk;
        self.take(reloaded);
        Looked::Read
    }

    fn take(&mut self, reloaded: Usable) {
        let Usable { config, problems, good } = reloaded;
        tracing::info!(
            n_schedules = config.schedules.len(),
            n_channels = config.channels.len(),
            n_problems = problems.len(),
            "the configuration was read again"
        );
        for problem in &problems {
            tracing::warn!(problem = in_one_line(problem), "a file can't be used as it is");
        }
        if config.schedules != self.config.schedules {
            self.schedules.send_replace(config.schedules.clone());
        }
        if config.channels != self.config.channels || config.environment != self.config.environment
        {
            self.alerting.send_replace(Alerting::of(&config));
        }
        self.config = config;
        self.good = good;
        self.broken = by_incident(problems);
    }

    async fn write(&self, now: DateTime<Utc>) -> Result<(), StorageError> {
        let mut over: BTreeSet<String> = BTreeSet::new();
        for open in self.db.open_incidents().await? {
            if open.incident.kind == IncidentKind::ConfigurationBroken {
                over.insert(open.incident.key);
            }
        }
        let mut incidents = Vec::new();
        for (schedule, problems) in &self.broken {
            let fault = self.fault(schedule.as_deref(), problems);
            over.remove(&fault.key.text());
            incidents.push(IncidentWrite::Fault(Box::new(fault)));
        }
        incidents.extend(over.into_iter().map(|key| IncidentWrite::Over {
            key,
            facts: Box::new(Facts { recovered_at: Some(now), ..Facts::default() }),
        }));
        if incidents.is_empty() {
            return Ok(());
        }
        self.db.record(Outcome { incidents, ..Outcome::default() }, now).await?;
        Ok(())
    }

    fn fault(&self, schedule: Option<&str>, problems: &[Problem]) -> FaultWrite {
        let files: BTreeSet<&str> = problems.iter().map(|it| it.place.file.as_str()).collect();
        let files: Vec<&str> = files.into_iter().collect();
        let details: Vec<String> = problems.iter().take(MOST_PROBLEMS).map(in_one_line).collect();
        FaultWrite {
            key: FaultKey::new(
                &self.config.service.instance,
                schedule,
                IncidentKind::ConfigurationBroken,
            ),
            severity: Severity::Warning,
            occasion: None,
            facts: Facts {
                provider: Some(files.join(", ")),
                detail: Some(details.join("\n")),
                ..Facts::default()
            },
            notify: Vec::new(),
        }
    }
}

/// Until the next look, after one that took so long.
fn pause_after(took: Duration) -> Duration {
    took.saturating_mul(SHARE).clamp(LOOK_EVERY, LOOK_AT_LEAST_EVERY)
}

fn by_incident(problems: Vec<Problem>) -> BTreeMap<Option<String>, Vec<Problem>> {
    let mut broken: BTreeMap<_, Vec<Problem>> = BTreeMap::new();
    for problem in problems {
        broken.entry(schedule_of(&problem)).or_default().push(problem);
    }
    broken
}

/// Each schedule's file has an incident of its own; all other files share one.
fn schedule_of(problem: &Problem) -> Option<String> {
    let name = problem.place.file.strip_prefix("schedules/")?;
    Some(name.trim_end_matches(".toml").to_owned())
}

/// A problem as a log line or a message has it.
pub(super) fn in_one_line(problem: &Problem) -> String {
    let key = if problem.key.is_empty() { String::new() } else { format!("{}: ", problem.key) };
    format!("{}: {key}{}", problem.place, problem.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_files_are_looked_at_less_often() {
        assert_eq!(pause_after(Duration::from_millis(1)), LOOK_EVERY);
        assert_eq!(pause_after(Duration::from_millis(40)), Duration::from_secs(16));
        assert_eq!(pause_after(Duration::from_secs(13)), LOOK_AT_LEAST_EVERY);
    }
}
