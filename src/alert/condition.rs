//! What is wrong with the way to people itself, as incidents: a channel that refuses everything,
//! messages that wait too long.
//!
//! [`faults`] decides (pure); [`Conditions::step`] writes what has changed, through the port of `watch`,
//! so that these incidents are told, resolved and shown like any other.
//! Invariant: a broken channel is told by the other channels, never by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::dispatcher::{ChannelState, ChannelStatus, Handle};
use super::outbox::Backlog;
use crate::clock::Clock;
use crate::storage::StorageError;
use crate::watch::incidents::{FaultKey, FaultWrite, IncidentWrite, Incidents, Outcome};
use crate::watch::{Facts, IncidentKind, Severity};

/// Between two looks; a channel is probed every half hour, so sooner would tell nothing more.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A message that waits longer than this is late for whoever should act on it (`alerting.md` §3.1).
const WAITS_TOO_LONG: TimeDelta = TimeDelta::minutes(15);

/// One fault of the way to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Channels it is about.
    pub channels: Vec<String>,
    /// Channels that can tell it; empty: all.
    pub notify: Vec<String>,
    /// In plain words.
    pub detail: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
}

/// What is wrong now, by kind.
#[must_use]
pub fn faults(
    channels: &[ChannelStatus],
    backlog: &Backlog,
    now: DateTime<Utc>,
) -> BTreeMap<IncidentKind, Fault> {
    let mut found = BTreeMap::new();
    let broken: Vec<(&ChannelStatus, DateTime<Utc>, &str)> = channels
        .iter()
        .filter_map(|channel| match &channel.state {
            ChannelState::Broken { since, reason } => Some((channel, *since, reason.as_str())),
            ChannelState::Untried | ChannelState::Working | ChannelState::Trouble { .. } => None,
        })
        .collect();
    if !broken.is_empty() {
        let is_broken = |name: &str| broken.iter().any(|(channel, ..)| channel.name == name);
        let others = channels.iter().map(|channel| channel.name.clone());
        let details: Vec<String> = broken
            .iter()
            .map(|(channel, _, reason)| format!("{}: {reason}", channel.name))
            .collect();
        let fault = Fault {
            channels: broken.iter().map(|(channel, ..)| channel.name.clone()).collect(),
            notify: others.filter(|name| !is_broken(name)).collect(),
            detail: details.join("; "),
            since: broken.iter().map(|(_, since, _)| *since).min(),
        };
        found.insert(IncidentKind::ChannelBroken, fault);
    }
    // Cause before symptom: what waits for a broken channel is told as that.
    let late = backlog.oldest_waiting_since.filter(|at| now - *at > WAITS_TOO_LONG);
    if let Some(since) = late.filter(|_| broken.is_empty()) {
        let minutes = (now - since).num_minutes();
        let detail = format!("{} messages wait, the oldest for {minutes} minutes", backlog.waiting);
        let fault = Fault { channels: Vec::new(), notify: Vec::new(), detail, since: Some(since) };
        found.insert(IncidentKind::OutboxDegraded, fault);
    }
    found
}

/// The loop that looks at the way to people.
pub struct Conditions {
    handle: Handle,
    incidents: Arc<dyn Incidents>,
    clock: Arc<dyn Clock>,
    instance: String,
    /// What was written last; `None`: nothing yet, an earlier daemon may have left incidents.
    written: Option<Seen>,
    /// Channels of the incident that is open, or was last.
    broken: Vec<String>,
    /// Channels that were broken when an earlier daemon ended, and have accepted nothing since.
    doubtful: BTreeSet<String>,
}

/// What decides whether there is something to write.
#[derive(PartialEq, Eq)]
struct Seen {
    /// Who tells each fault.
    faults: BTreeMap<IncidentKind, Vec<String>>,
    doubtful: BTreeSet<String>,
}

/// Between names of channels in one incident.
const AND: &str = ", ";

impl Conditions {
    /// Looks at this dispatcher's channels and outbox.
    #[must_use]
    pub fn new(
        handle: Handle,
        incidents: Arc<dyn Incidents>,
        clock: Arc<dyn Clock>,
        instance: String,
    ) -> Self {
        let (broken, doubtful) = (Vec::new(), BTreeSet::new());
        Self { handle, incidents, clock, instance, written: None, broken, doubtful }
    }

    /// Looks every few seconds, until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            // What can't be written is decided again by the next look; the watchdog reports the disk.
            if let Err(error) = self.step().await {
                tracing::debug!(%error, "the state of the channels can't be written");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// One look.
    ///
    /// # Errors
    /// When the outbox can't be read or the incidents can't be written.
    pub async fn step(&mut self) -> Result<(), StorageError> {
        let now = self.clock.now();
        let backlog = self.handle.outbox().backlog().await?;
        let channels = self.handle.channel_states();
        if self.written.is_none() {
            self.doubtful = self.broken_before().await?;
            self.broken = self.doubtful.iter().cloned().collect();
        }
        self.doubtful.retain(|name| {
            channels.iter().any(|it| it.name == *name && it.state != ChannelState::Working)
        });
        let found = faults(&channels, &backlog, now);
        // Who is broken is what counts; a reason or a number that changes is no news.
        let faults = found.iter().map(|(kind, fault)| (*kind, fault.notify.clone())).collect();
        let seen = Seen { faults, doubtful: self.doubtful.clone() };
        if self.written.as_ref() == Some(&seen) {
            return Ok(());
        }
        let incidents = [IncidentKind::ChannelBroken, IncidentKind::OutboxDegraded]
            .into_iter()
            // That a channel has not been tried since the start does not mean that it works.
            .filter(|kind| {
                *kind != IncidentKind::ChannelBroken
                    || found.contains_key(kind)
                    || self.doubtful.is_empty()
            })
            .map(|kind| self.write_of(kind, found.get(&kind), now))
            .collect();
        if let Some(fault) = found.get(&IncidentKind::ChannelBroken) {
            self.broken.clone_from(&fault.channels);
        }
        self.incidents.record(Outcome { incidents, ..Outcome::default() }, now).await?;
        self.handle.nudge();
        self.written = Some(seen);
        Ok(())
    }

    async fn broken_before(&self) -> Result<BTreeSet<String>, StorageError> {
        let open = self.incidents.open_incidents().await?;
        let broken = open.into_iter().filter(|it| it.incident.kind == IncidentKind::ChannelBroken);
        let names = broken.filter_map(|it| it.facts.provider);
        Ok(names.flat_map(|it| it.split(AND).map(str::to_owned).collect::<Vec<_>>()).collect())
    }

    fn write_of(
        &self,
        kind: IncidentKind,
        fault: Option<&Fault>,
        now: DateTime<Utc>,
    ) -> IncidentWrite {
        let key = FaultKey { instance: self.instance.clone(), schedule: None, kind };
        match fault {
            Some(fault) => IncidentWrite::Fault(Box::new(FaultWrite {
                key,
                severity: Severity::Critical,
                occasion: None,
                facts: Facts {
                    provider: Some(fault.channels.join(AND)).filter(|it| !it.is_empty()),
                    detail: Some(fault.detail.clone()),
                    since: fault.since,
                    ..Facts::default()
                },
                notify: fault.notify.clone(),
            })),
            None => {
                let names = Some(self.broken.join(AND));
                let provider =
                    names.filter(|it| kind == IncidentKind::ChannelBroken && !it.is_empty());
                let facts = Facts { provider, recovered_at: Some(now), ..Facts::default() };
                IncidentWrite::Over { key: key.text(), facts: Box::new(facts) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str, state: ChannelState) -> ChannelStatus {
        ChannelStatus {
            name: name.into(),
            label: "webhook",
            state,
            last_accepted_at: None,
            waiting: 0,
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_broken_channel_is_told_by_the_others() {
        let state = ChannelState::Broken { since: at(0), reason: "404 no_service".into() };
        let channels = [channel("slack", state), channel("mail", ChannelState::Working)];
        let backlog = Backlog { waiting: 0, dead: 0, oldest_waiting_since: None };
        let found = faults(&channels, &backlog, at(60));
        let fault = &found[&IncidentKind::ChannelBroken];
        assert_eq!(fault.notify, ["mail"]);
        assert_eq!(fault.detail, "slack: 404 no_service");
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn messages_that_wait_for_a_quarter_of_an_hour_are_a_fault_of_their_own() {
        let backlog = Backlog { waiting: 3, dead: 0, oldest_waiting_since: Some(at(0)) };
        assert!(faults(&[], &backlog, at(900)).is_empty());
        let found = faults(&[], &backlog, at(961));
        let detail = &found[&IncidentKind::OutboxDegraded].detail;
        assert_eq!(detail, "3 messages wait, the oldest for 16 minutes");
    }
}
