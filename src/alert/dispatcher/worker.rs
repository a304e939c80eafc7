//! One channel's sender: what is due goes out, one message at a time.
//!
//! It claims a delivery before the attempt and settles it after; a crash in between leaves it
//! claimed, and the next start sends it again, marked. It asks the fallback when the channel is
//! broken or stays silent, and goes on trying itself.
//! Invariant: at most one attempt is under way, and each ends within the adapter's time limit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::memory::{Memory, Senders};
use super::status::{ChannelState, ChannelStatus};
use super::store_trouble::StoreTrouble;
use super::{DRAIN, POLL};
use crate::alert::channel::{Arrival, ConfiguredChannel, Envelope, SendError};
use crate::alert::message::Message;
use crate::alert::outbox::{Claimed, Delivery, Outbox, Outcome};
use crate::alert::pace::{Pace, Urgency};
use crate::alert::queue::{self, Candidate};
use crate::alert::retry::{self, Next};
use crate::clock::Clock;
use crate::redact::Redactor;
use crate::storage::StorageError;

mod fallback;
mod from_memory;
mod wording;

/// A claim is good for so long; an attempt takes at most 30 s, and a text-only second one as much.
const LEASE: TimeDelta = TimeDelta::minutes(2);

/// A channel that fails for so long is silent: its fallback is told.
const SILENT: Duration = Duration::from_secs(3 * 60);

/// A message that is so late says so.
const LATE: TimeDelta = TimeDelta::minutes(5);

/// Adapters bound their attempts themselves (a mail twice 30 s); this is the belt to their braces.
const LONGEST: Duration = Duration::from_secs(75);

/// What the worker needs besides its channel.
pub(super) struct Surroundings {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) channels: Arc<Vec<ConfiguredChannel>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) redactor: Arc<Redactor>,
    pub(super) memories: Senders,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worked {
    /// An attempt, or something in the store: look again at once.
    Busy,
    /// Something is due, but a moment must pass between two messages.
    Paced(Duration),
    /// Nothing is due for so long.
    Idle(Duration),
}

/// One channel's sender.
pub(super) struct Worker {
    channel: ConfiguredChannel,
    around: Surroundings,
    memory: Memory,
    status: watch::Sender<ChannelStatus>,
    bell: Arc<Notify>,
    pace: Pace,
    /// Nothing is sent before this.
    hold_until: Option<Instant>,
    /// Since when each waiting delivery has been seen, for the fallback.
    seen: HashMap<String, Instant>,
    /// Since when no attempt has succeeded.
    failing_since: Option<Instant>,
    /// Deliveries whose fallback was asked in memory, because that could not be written.
    asked: HashSet<String>,
    recovered: bool,
    trouble: StoreTrouble,
}

impl Worker {
    pub(super) fn new(
        channel: ConfiguredChannel,
        around: Surroundings,
        memory: Memory,
        status: watch::Sender<ChannelStatus>,
    ) -> Self {
        Self {
            channel,
            around,
            memory,
            status,
            bell: Arc::new(Notify::new()),
            pace: Pace::default(),
            hold_until: None,
            seen: HashMap::new(),
            failing_since: None,
            asked: HashSet::new(),
            recovered: false,
            trouble: StoreTrouble::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.channel.name
    }

    /// Rings it awake.
    pub(super) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// Sends until `drain`, then what is due, for [`DRAIN`] at most. An attempt that is cut off
    /// there stays claimed.
    pub(super) async fn run(mut self, drain: CancellationToken) {
        let bell = self.bell();
        let deadline = async {
            drain.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::pin!(deadline);
        loop {
            let worked = tokio::select! {
                biased;
                () = &mut deadline => return,
                worked = self.step() => worked,
            };
            match worked {
                Worked::Busy => {}
                Worked::Paced(wait) => tokio::time::sleep(wait).await,
                Worked::Idle(_) if drain.is_cancelled() => return,
                Worked::Idle(wait) => tokio::select! {
                    () = bell.notified() => {}
                    () = drain.cancelled() => {}
                    () = tokio::time::sleep(wait) => {}
                },
            }
        }
    }

    /// Makes at most one attempt.
    pub(super) async fn step(&mut self) -> Worked {
        self.memory.receive();
        let now = Instant::now();
        if self.may_send()
            && self.pace.may_send_at(Urgency::Now, now) <= now
            && let Some(unrecorded) = self.memory.take_due(now)
        {
            self.tell_from_memory(unrecorded).await;
            return Worked::Busy;
        }
        let mut failed = None;
        let worked = match self.step_rows(&mut failed).await {
            Ok(worked) => worked,
            Err(error) => {
                failed = Some(error);
                Worked::Idle(POLL)
            }
        };
        match failed {
            Some(error) => self.trouble.seen(&self.channel.name, &error),
            None => self.trouble.gone(&self.channel.name),
        }
        worked
    }

    /// `failed` takes what could not be written; that must not keep a message from going out.
    async fn step_rows(
        &mut self,
        failed: &mut Option<StorageError>,
    ) -> Result<Worked, StorageError> {
        if !self.recovered {
            match self.around.outbox.recover(&self.channel.name).await {
                Ok(n) => {
                    self.recovered = true;
                    if n > 0 {
                        let channel = &self.channel.name;
                        tracing::info!(channel, n, "messages were on their way at the last end");
                    }
                }
                Err(error) => *failed = Some(error),
            }
        }
        let mut waiting = self.around.outbox.waiting(&self.channel.name).await?;
        if let Err(error) = self.catch_up(&mut waiting).await {
            *failed = Some(error);
        }
        self.see(&waiting);
        let now = self.around.clock.now();
        let given_up = self.give_up_expired(&waiting, now).await;
        let told_instead = self.ask_fallback(&waiting, now).await;
        match (given_up, told_instead) {
            (Ok(false), Ok(false)) => {}
            (Ok(_), Ok(_)) => return Ok(Worked::Busy),
            (Err(error), _) | (_, Err(error)) => *failed = Some(error),
        }
        self.send_next(&waiting, now, failed).await
    }

    /// Settles what was told from memory, and leaves in `waiting` only what was not.
    async fn catch_up(&mut self, waiting: &mut Vec<Delivery>) -> Result<(), StorageError> {
        let settled = self.memory.to_settle(waiting);
        waiting.retain(|it| !self.memory.knows(&it.id));
        for (id, outcome) in settled {
            self.around.outbox.settle(&id, &outcome, self.around.clock.now()).await?;
            self.memory.forget(&id);
        }
        Ok(())
    }

    /// Keeps the list of what waits, and since when.
    fn see(&mut self, waiting: &[Delivery]) {
        let now = Instant::now();
        self.seen.retain(|id, _| waiting.iter().any(|it| it.id == *id));
        for delivery in waiting {
            self.seen.entry(delivery.id.clone()).or_insert(now);
        }
        self.status.send_if_modified(|status| {
            let changed = status.waiting != waiting.len();
            status.waiting = waiting.len();
            changed
        });
    }

    fn may_send(&self) -> bool {
        self.hold_until.is_none_or(|until| Instant::now() >= until)
    }

    async fn send_next(
        &mut self,
        waiting: &[Delivery],
        now: DateTime<Utc>,
        failed: &mut Option<StorageError>,
    ) -> Result<Worked, StorageError> {
        if !self.may_send() {
            let wait = self.hold_until.map_or(POLL, |until| until - Instant::now());
            return Ok(Worked::Idle(wait.min(POLL)));
        }
        let due = queue::due(waiting, now);
        let Some(candidate) = due.first() else {
            let wait = queue::next_due_in(waiting, now).unwrap_or(POLL);
            return Ok(Worked::Idle(wait.min(POLL)));
        };
        let instant = Instant::now();
        let free_at = self.pace.may_send_at(candidate.urgency, instant);
        if free_at > instant {
            let wait = free_at - instant;
            let worked = if wait <= POLL { Worked::Paced(wait) } else { Worked::Idle(POLL) };
            return Ok(worked);
        }
        let lease = now + LEASE;
        match self.around.outbox.claim(&candidate.head.id, &candidate.merged, lease).await {
            Ok(Claimed::Won) => {
                let held_back = self.held_back(&due);
                *failed = self.deliver(candidate, held_back).await.err();
            }
            Ok(Claimed::Lost) => {}
            Err(StorageError::Busy(error)) => return Err(StorageError::Busy(error)),
            Err(error) => {
                // What can't be written down must be told all the same.
                *failed = Some(error);
                self.take_over(candidate);
            }
        }
        Ok(Worked::Busy)
    }

    /// How many others are due but have no place in this hour.
    fn held_back(&mut self, due: &[Candidate]) -> usize {
        let instant = Instant::now();
        let soon = instant + Duration::from_secs(60);
        due.iter().skip(1).filter(|it| self.pace.may_send_at(it.urgency, instant) > soon).count()
    }

    /// One attempt for a claimed row.
    async fn deliver(
        &mut self,
        candidate: &Candidate,
        held_back: usize,
    ) -> Result<(), StorageError> {
        let head = &candidate.head;
        let opening = self.opening(head).await;
        let marks = self.marks(head, held_back);
        let message = self.compose(&head.news, head.heard, opening.as_ref(), marks);
        let attempts = head.attempts + 1;
        let (outcome, now) = match self.attempt(&message, &head.id, &head.recipient).await {
            Ok(now) => (Outcome::Sent, now),
            Err((error, now)) => (self.failed(&error, attempts, now), now),
        };
        let settled = match &outcome {
            Outcome::Dead { reason } => self.give_up(head, reason.clone(), now).await,
            Outcome::Sent | Outcome::Again { .. } | Outcome::Merged { .. } => {
                self.around.outbox.settle(&head.id, &outcome, now).await
            }
        };
        if settled.is_err() {
            self.remember(head, outcome);
        }
        settled
    }

    /// The attempt itself; returns when it ended.
    async fn attempt(
        &mut self,
        message: &Message,
        id: &str,
        recipient: &str,
    ) -> Result<DateTime<Utc>, (SendError, DateTime<Utc>)> {
        self.pace.attempted(Instant::now());
        let envelope = Envelope {
            id: id.to_owned(),
            recipient: recipient.to_owned(),
            at: self.around.clock.now(),
        };
        let sent =
            tokio::time::timeout(LONGEST, self.channel.channel.send(message, &envelope)).await;
        let now = self.around.clock.now();
        let sent = sent.unwrap_or_else(|_| {
            Err(SendError::Transient {
                reason: "the attempt did not come to an end".to_owned(),
                arrival: Arrival::Perhaps,
            })
        });
        if let Err(error) = sent {
            self.failing_since.get_or_insert_with(Instant::now);
            return Err((error, now));
        }
        self.failing_since = None;
        self.pace.accepted(Instant::now());
        self.hold_until = None;
        self.seen.clear();
        self.status.send_modify(|status| {
            status.state = ChannelState::Working;
            status.last_accepted_at = Some(now);
        });
        tracing::info!(channel = self.channel.name, id, "a message was delivered");
        Ok(now)
    }

    /// What a failure means for the channel, and for this delivery.
    fn failed(&mut self, error: &SendError, attempts: u32, now: DateTime<Utc>) -> Outcome {
        let reason = self.around.redactor.redact(&error.to_string()).into_owned();
        tracing::warn!(channel = self.channel.name, attempts, reason, "a message was not accepted");
        let since = self.status.borrow().state.failing_since().unwrap_or(now);
        let next = retry::after(error, attempts, fastrand::f64());
        let (wait, state) = match next {
            Next::Again(wait) => (wait, ChannelState::Trouble { since, reason: reason.clone() }),
            Next::Hold(wait) => {
                self.hold_until = Some(Instant::now() + wait);
                (wait, ChannelState::Trouble { since, reason: reason.clone() })
            }
            Next::Broken => {
                self.hold_until = Some(Instant::now() + retry::LAST_STEP);
                // The channel waits, not the row: whatever matters most then is the probe.
                (Duration::ZERO, ChannelState::Broken { since, reason: reason.clone() })
            }
            // One recipient's or one message's fault says nothing about the channel.
            Next::GiveUp => return Outcome::Dead { reason },
        };
        self.status.send_modify(|status| status.state = state);
        Outcome::Again {
            wait: TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX),
            error: reason,
            arrival: error.arrival(),
        }
    }
}
