//! What is wrong with the way to people itself, as incidents: a channel that refuses everything, or a
//! recipient, or a message; messages that are late because no attempt succeeds.
//!
//! [`faults`] decides (pure); [`DeliveryHealth::step`] writes what has changed, through the port of
//! `watch`, so that these incidents are told, resolved and shown like any other. Each channel has
//! incidents of its own, so that the second that breaks is told as well as the first.
//! Invariants: a broken channel is told by the other channels, never by itself; it is over when the
//! channel has accepted a message, or is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::dispatcher::{ChannelStatus, Handle};
use super::health::{ChannelState, RefusedSubject};
use crate::clock::Clock;
use crate::storage::StorageError;
use crate::watch::incidents::{FaultKey, FaultWrite, IncidentWrite, Incidents, Outcome};
use crate::watch::{Facts, IncidentKind, Severity};

/// Between two looks; a channel is probed every half hour, so sooner would tell nothing more.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// A message that waits longer than this is late for whoever should act on it.
const OVERDUE_AFTER: Duration = Duration::from_secs(15 * 60);

/// What the messages that a channel refuses are called, as [`Facts::refused`].
const SOME_MESSAGES: &str = "some messages";

/// Which fault: its kind, and what of a channel it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId {
    /// `channel_broken` or `outbox_degraded`.
    pub kind: IncidentKind,
    /// The channel; `None`: all that are late.
    pub channel: Option<String>,
    /// What the channel refuses; `None`: everything.
    pub refused: Option<RefusedSubject>,
}

impl FaultId {
    fn key(&self, instance: &str) -> FaultKey {
        let part = self.channel.as_ref().map(|channel| match &self.refused {
            None => channel.clone(),
            Some(RefusedSubject::Messages) => format!("{channel}/messages"),
            Some(RefusedSubject::Recipient(name)) => format!("{channel}/{name}"),
        });
        FaultKey { part, ..FaultKey::new(instance, None, self.kind) }
    }

    /// As [`Facts::refused`].
    fn refused_in_words(&self) -> Option<String> {
        self.refused.as_ref().map(|it| match it {
            RefusedSubject::Messages => SOME_MESSAGES.to_owned(),
            RefusedSubject::Recipient(name) => name.clone(),
        })
    }
}

/// One fault of the way to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How bad.
    pub severity: Severity,
    /// Channels that can tell it; empty: all.
    pub notify: Vec<String>,
    /// In plain words.
    pub detail: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
}

/// What is wrong now.
#[must_use]
pub fn faults(channels: &[ChannelStatus]) -> BTreeMap<FaultId, Fault> {
    let mut found = BTreeMap::new();
    let is_broken = |it: &ChannelStatus| matches!(it.state, ChannelState::Broken { .. });
    let names = |which: &dyn Fn(&ChannelStatus) -> bool| -> Vec<String> {
        channels.iter().filter(|it| which(it)).map(|it| it.name.clone()).collect()
    };
    for channel in channels {
        let id = |refused| FaultId {
            kind: IncidentKind::ChannelBroken,
            channel: Some(channel.name.clone()),
            refused,
        };
        if let ChannelState::Broken { since, reason } = &channel.state {
            let fault = Fault {
                severity: Severity::Critical,
                notify: names(&|it| !is_broken(it)),
                detail: reason.clone(),
                since: Some(*since),
            };
            found.insert(id(None), fault);
        }
        for (subject, refusal) in &channel.refusals {
            let fault = Fault {
                severity: refusal.severity,
                // The channel itself takes other messages: whether it takes this one shows, too,
                // whether it was only that message.
                notify: names(&|it| !is_broken(it)),
                detail: refusal.reason.clone(),
                since: Some(refusal.since),
            };
            found.insert(id(Some(subject.clone())), fault);
        }
    }
    // Cause before symptom: what waits for a broken channel is told as that.
    let late = channels.iter().filter(|it| !is_broken(it)).filter_map(|it| it.overdue);
    let late: Vec<_> = late.filter(|it| it.waited > OVERDUE_AFTER).collect();
    if let Some(oldest) = late.iter().map(|it| it.waited).max() {
        let (n, minutes) = (late.iter().map(|it| it.n).sum::<usize>(), oldest.as_secs() / 60);
        let messages = if n == 1 { "1 message waits" } else { &format!("{n} messages wait") };
        let fault = Fault {
            severity: Severity::Critical,
            notify: Vec::new(),
            detail: format!("{messages}, the oldest for {minutes} minutes"),
            since: channels.iter().filter_map(|it| it.state.failing_since()).min(),
        };
        let kind = IncidentKind::OutboxDegraded;
        found.insert(FaultId { kind, channel: None, refused: None }, fault);
    }
    found
}

/// The loop that looks at the way to people.
pub struct DeliveryHealth {
    handle: Handle,
    incidents: Arc<dyn Incidents>,
    clock: Arc<dyn Clock>,
    instance: String,
    /// Incidents that are open, by their key, as far as we know; `None`: not read yet, an earlier
    /// daemon may have left some.
    open: Option<BTreeMap<String, OpenFault>>,
}

/// An incident of ours that is not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OpenFault {
    kind: IncidentKind,
    /// Which channels it is about; several in incidents of earlier versions.
    channels: Vec<String>,
    refused: Option<String>,
    /// Who tells it, and how bad it was when that was written.
    written: Option<(Vec<String>, Severity)>,
}

/// How an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    /// A message was accepted, or nothing waits in vain any more.
    Recovered,
    /// The channel or the recipient is no longer configured.
    Removed,
}

/// Between names of channels in one incident of earlier versions.
const AND: &str = ", ";

impl DeliveryHealth {
    /// Looks at this dispatcher's channels.
    #[must_use]
    pub fn new(
        handle: Handle,
        incidents: Arc<dyn Incidents>,
        clock: Arc<dyn Clock>,
        instance: String,
    ) -> Self {
        Self { handle, incidents, clock, instance, open: None }
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
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }

    /// One look.
    ///
    /// # Errors
    /// When the incidents can't be read or written.
    pub async fn step(&mut self) -> Result<(), StorageError> {
        let now = self.clock.now();
        let channels = self.handle.channel_states();
        let mut open = match self.open.clone() {
            Some(open) => open,
            None => self.left_open().await?,
        };
        let mut writes = Vec::new();
        let found = faults(&channels);
        let mut there = Vec::new();
        for (id, fault) in &found {
            let key = id.key(&self.instance);
            there.push(key.text());
            let known = open.entry(key.text()).or_insert_with(|| OpenFault {
                kind: id.kind,
                channels: id.channel.iter().cloned().collect(),
                refused: id.refused_in_words(),
                written: None,
            });
            // Who tells it and how bad it is count; a reason or a number that changes is no news.
            let state = Some((fault.notify.clone(), fault.severity));
            if known.written != state {
                known.written = state;
                writes.push(fault_write(key, id, fault));
            }
        }
        let ended: Vec<(String, End)> = open
            .iter()
            .filter(|(key, _)| !there.contains(key))
            .map(|(key, fault)| (key.clone(), end_of(fault, &channels)))
            .filter(|(_, end)| *end != End::NotYet)
            .collect();
        for (key, end) in ended {
            if let Some(fault) = open.remove(&key) {
                writes.push(end_write(key, &fault, end, now));
            }
        }
        if !writes.is_empty() {
            self.incidents.record(Outcome { incidents: writes, ..Outcome::default() }, now).await?;
            self.handle.nudge();
        }
        self.open = Some(open);
        Ok(())
    }

    /// Incidents that an earlier daemon, or an earlier set of channels, left open.
    async fn left_open(&self) -> Result<BTreeMap<String, OpenFault>, StorageError> {
        let open = self.incidents.open_incidents().await?;
        let ours = open.into_iter().filter(|it| {
            matches!(it.incident.kind, IncidentKind::ChannelBroken | IncidentKind::OutboxDegraded)
        });
        let fault = |facts: Facts, kind| OpenFault {
            kind,
            channels: facts
                .provider
                .map(|names| names.split(AND).map(str::to_owned).collect())
                .unwrap_or_default(),
            refused: facts.refused,
            written: None,
        };
        Ok(ours.map(|it| (it.incident.key, fault(it.facts, it.incident.kind))).collect())
    }
}

/// Whether an incident of something that is not wrong any more is over. That a channel has not been
/// tried since the start does not mean that it works.
fn end_of(fault: &OpenFault, channels: &[ChannelStatus]) -> End {
    if fault.kind != IncidentKind::ChannelBroken {
        let is_failing = |it: &ChannelStatus| it.retrying > 0 && it.overdue.is_some();
        return if channels.iter().any(is_failing) { End::NotYet } else { End::Recovered };
    }
    let works = |it: bool| if it { End::Recovered } else { End::NotYet };
    let mut end = End::Removed;
    for channel in channels.iter().filter(|it| fault.channels.contains(&it.name)) {
        let one = match fault.refused.as_deref() {
            None => works(channel.state == ChannelState::Working),
            Some(SOME_MESSAGES) => {
                works(channel.state == ChannelState::Working && channel.retrying == 0)
            }
            Some(name) if !channel.recipients.iter().any(|it| it == name) => End::Removed,
            Some(name) => works(channel.accepted_recipients.contains(name)),
        };
        end = match (end, one) {
            (End::NotYet, _) | (_, End::NotYet) => End::NotYet,
            (End::Recovered, _) | (_, End::Recovered) => End::Recovered,
            (End::Removed, End::Removed) => End::Removed,
        };
    }
    end
}

fn fault_write(key: FaultKey, id: &FaultId, fault: &Fault) -> IncidentWrite {
    IncidentWrite::Fault(Box::new(FaultWrite {
        key,
        severity: fault.severity,
        occasion: None,
        facts: Facts {
            provider: id.channel.clone(),
            refused: id.refused_in_words(),
            detail: Some(fault.detail.clone()),
            since: fault.since,
            ..Facts::default()
        },
        notify: fault.notify.clone(),
    }))
}

fn end_write(key: String, fault: &OpenFault, end: End, now: DateTime<Utc>) -> IncidentWrite {
    let withdrawn = (end == End::Removed).then(|| "is no longer configured".to_owned());
    let facts = Facts {
        provider: Some(fault.channels.join(AND)).filter(|it| !it.is_empty()),
        refused: fault.refused.clone(),
        recovered_at: Some(now),
        withdrawn,
        ..Facts::default()
    };
    IncidentWrite::Over { key, facts: Box::new(facts) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::alert::dispatcher::Overdue;
    use crate::alert::health::Refusal;

    fn channel(name: &str, state: ChannelState) -> ChannelStatus {
        ChannelStatus {
            name: name.into(),
            state,
            refusals: BTreeMap::new(),
            accepted_recipients: BTreeSet::new(),
            recipients: vec![String::new()],
            last_accepted_at: None,
            waiting: 0,
            retrying: 0,
            overdue: None,
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn broken() -> ChannelState {
        ChannelState::Broken { since: at(0), reason: "404 no_service".into() }
    }

    #[test]
    fn each_broken_channel_is_a_fault_of_its_own_that_the_working_ones_tell() {
        let channels = [
            channel("slack", broken()),
            channel("mail", broken()),
            channel("hook", ChannelState::Working),
        ];
        let found = faults(&channels);
        assert_eq!(found.len(), 2);
        for (id, fault) in &found {
            assert_eq!(fault.notify, ["hook"]);
            assert_eq!(fault.detail, "404 no_service");
            let name = id.channel.as_deref().unwrap();
            assert_eq!(id.key("prod").text(), format!("prod/-/channel_broken/{name}"));
        }
    }

    #[test]
    fn a_refusal_is_reported_by_every_channel_that_works_as_bad_as_what_was_refused() {
        let refusal =
            Refusal { severity: Severity::Warning, since: at(0), reason: "550 unknown".into() };
        let subject = RefusedSubject::Recipient("a@x.example".into());
        let mut mail = channel("mail", ChannelState::Working);
        mail.refusals.insert(subject, refusal);
        let found = faults(&[mail, channel("slack", broken())]);
        let fault = found.iter().find(|(id, _)| id.refused.is_some()).unwrap();
        assert_eq!(fault.1.severity, Severity::Warning);
        assert_eq!(fault.1.notify, ["mail"]);
        assert_eq!(fault.0.key("prod").text(), "prod/-/channel_broken/mail/a@x.example");
    }

    #[test]
    fn messages_that_wait_in_vain_for_a_quarter_of_an_hour_are_late() {
        let since = at(0);
        let mut mail = channel("mail", ChannelState::Failing { since, reason: "away".into() });
        for (seconds, is_late) in [(900, false), (961, true)] {
            mail.overdue = Some(Overdue { n: 3, waited: Duration::from_secs(seconds) });
            let found = faults(&[mail.clone()]);
            assert_eq!(!found.is_empty(), is_late, "{seconds}");
            for fault in found.values() {
                assert_eq!(fault.detail, "3 messages wait, the oldest for 16 minutes");
            }
        }
        mail.state = broken();
        let found = faults(&[mail]);
        assert_eq!(found.len(), 1, "the broken channel is the cause");
    }

    #[test]
    fn an_incident_is_over_when_its_channel_accepted_something_or_is_gone() {
        let open = |refused: Option<&str>| OpenFault {
            kind: IncidentKind::ChannelBroken,
            channels: vec!["mail".into()],
            refused: refused.map(str::to_owned),
            written: None,
        };
        let failing = ChannelState::Failing { since: at(0), reason: "500".into() };
        for state in [ChannelState::Untried, failing] {
            assert_eq!(end_of(&open(None), &[channel("mail", state)]), End::NotYet);
        }
        let mut works = channel("mail", ChannelState::Working);
        works.recipients = vec!["a".into(), "b".into()];
        works.accepted_recipients = ["b".to_owned()].into();
        let all = [works];
        assert_eq!(end_of(&open(None), &all), End::Recovered);
        assert_eq!(end_of(&open(Some("a")), &all), End::NotYet, "only b has taken one");
        assert_eq!(end_of(&open(Some("b")), &all), End::Recovered);
        assert_eq!(end_of(&open(Some("c")), &all), End::Removed);
        assert_eq!(end_of(&open(None), &[]), End::Removed);
    }
}
