//! Whether the other loops of the daemon move.
//!
//! The watchdog's third half: a scheduler that does not tick, a conductor that hangs, a runtime that is
//! starved. It reads published beats and asks nobody. What can't be written down is another matter:
//! loops say that themselves.
//! Invariant: one incident for all that stands still; it is over when everything moves.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Stepped, Watchdog};
use crate::pulse::Beat;
use crate::storage::StorageError;
use crate::watch::incidents::{FaultKey, FaultWrite, IncidentWrite, Outcome};
use crate::watch::{Facts, IncidentKind, Severity};

/// When the watchdog itself has not stepped for so long, it can't say how long others have not.
const OWN_GAP: Duration = Duration::from_secs(3);

/// A loop of the daemon.
#[derive(Clone, Debug)]
pub struct WatchedLoop {
    /// For people: `the scheduler tick`.
    pub name: &'static str,
    /// What it publishes.
    pub beat: watch::Receiver<Beat>,
    /// Silent for longer, it stands still.
    pub dead_after: Duration,
    /// How bad that is.
    pub severity: Severity,
}

/// What is known of one.
#[derive(Debug)]
struct Known {
    watched: WatchedLoop,
    since_boot: Duration,
    /// On the timers' clock, which does not count sleep: all of us slept then.
    moved_at: Instant,
}

impl Known {
    fn silent(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.moved_at)
    }

    fn is_dead(&self, now: Instant) -> bool {
        self.silent(now) > self.watched.dead_after
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Loops {
    known: Vec<Known>,
    stepped_at: Option<Instant>,
    /// Who was written down as dead; `None`: nothing yet, an earlier daemon may have left an
    /// incident.
    written: Option<Vec<&'static str>>,
}

impl Loops {
    pub(super) fn of(loops: Vec<WatchedLoop>) -> Self {
        let moved_at = Instant::now();
        let known = loops
            .into_iter()
            .map(|watched| Known { watched, since_boot: Duration::ZERO, moved_at })
            .collect();
        Self { known, ..Self::default() }
    }

    /// Takes the newest beats.
    fn look(&mut self, now: Instant) {
        let was_away =
            self.stepped_at.is_none_or(|last| now.saturating_duration_since(last) > OWN_GAP);
        self.stepped_at = Some(now);
        for known in &mut self.known {
            let since_boot = known.watched.beat.borrow().since_boot;
            if since_boot != known.since_boot || was_away {
                known.since_boot = since_boot;
                known.moved_at = now;
            }
        }
    }

    fn fault(&self, instance: &str, now: Instant) -> Option<FaultWrite> {
        let dead: Vec<&Known> = self.known.iter().filter(|known| known.is_dead(now)).collect();
        let severity = dead.iter().map(|known| known.watched.severity).max()?;
        let names: Vec<&str> = dead.iter().map(|known| known.watched.name).collect();
        let details: Vec<String> = dead
            .iter()
            .map(|known| {
                format!(
                    "{} has not moved for {} s",
                    known.watched.name,
                    known.silent(now).as_secs()
                )
            })
            .collect();
        Some(FaultWrite {
            key: key(instance),
            severity,
            occasion: None,
            facts: Facts {
                provider: Some(names.join(", ")),
                detail: Some(details.join("; ")),
                ..Facts::default()
            },
            notify: Vec::new(),
        })
    }

    fn dead(&self, now: Instant) -> Vec<&'static str> {
        self.known.iter().filter(|it| it.is_dead(now)).map(|it| it.watched.name).collect()
    }

    /// Whether every loop has moved at least once.
    fn have_begun(&self) -> bool {
        self.known.iter().all(|known| known.watched.beat.borrow().since.is_some())
    }
}

fn key(instance: &str) -> FaultKey {
    FaultKey::new(instance, None, IncidentKind::LookoutImpaired)
}

impl Watchdog {
    /// Opens the incident of loops that stand still, or resolves it.
    pub(super) async fn judge_loops(
        &mut self,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let instant = Instant::now();
        self.loops.look(instant);
        let dead = self.loops.dead(instant);
        let is_known = self.loops.written.as_ref() == Some(&dead);
        // A daemon that has just begun can't say yet that all is well again.
        if is_known || self.loops.known.is_empty() || (dead.is_empty() && !self.loops.have_begun())
        {
            return Ok(());
        }
        let write = match self.loops.fault(&self.instance, instant) {
            Some(fault) => {
                tracing::error!(detail = fault.facts.detail, "a part of Lookout stands still");
                IncidentWrite::Fault(Box::new(fault))
            }
            None => IncidentWrite::Over {
                key: key(&self.instance).text(),
                facts: Box::new(Facts { recovered_at: Some(now), ..Facts::default() }),
            },
        };
        self.record(Outcome { incidents: vec![write], ..Outcome::default() }, now, stepped).await?;
        self.loops.written = Some(dead);
        Ok(())
    }
}
