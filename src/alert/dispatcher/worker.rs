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
use super::status::{ChannelStatus, Overdue};
use super::store_failure::StoreFailure;
use super::{DRAIN, POLL};
use crate::alert::channel::{Arrival, ConfiguredChannel, Envelope, SendError};
use crate::alert::health::{Attempt, FailedAt, Health, Next};
use crate::alert::message::Message;
use crate::alert::outbox::{Claimed, Delivery, Outbox, Outcome};
use crate::alert::pace::{Pace, Urgency};
use crate::alert::queue::{self, Candidate};
use crate::clock::Clock;
use crate::redact::Redactor;
use crate::storage::StorageError;

mod fallback;
mod from_memory;
mod wording;

/// A channel that fails for so long is silent: its fallback is told.
const SILENT: Duration = Duration::from_secs(3 * 60);

/// A message that is so late says so.
const LATE: TimeDelta = TimeDelta::minutes(5);

/// Adapters bound their attempts themselves (a mail twice 30 s); this is the belt to their braces.
const MAX_ATTEMPT: Duration = Duration::from_secs(75);

/// What the worker needs besides its channel.
pub(super) struct Context {
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
    context: Context,
    memory: Memory,
    status: watch::Sender<ChannelStatus>,
    waker: Arc<Notify>,
    pace: Pace,
    health: Health,
    /// Since when each waiting delivery has been seen, for the fallback.
    seen: HashMap<String, Instant>,
    /// When it last took a message again after it had failed: what failed before is due at once.
    recovered_at: Option<DateTime<Utc>>,
    /// Deliveries whose fallback was asked in memory, because that could not be written.
    asked: HashSet<String>,
    recovered: bool,
    store_failure: StoreFailure,
}

impl Worker {
    pub(super) fn new(
        channel: ConfiguredChannel,
        context: Context,
        memory: Memory,
        status: watch::Sender<ChannelStatus>,
    ) -> Self {
        let health = Health::new(channel.channel.recipients());
        Self {
            channel,
            context,
            memory,
            status,
            waker: Arc::new(Notify::new()),
            pace: Pace::default(),
            health,
            seen: HashMap::new(),
            recovered_at: None,
            asked: HashSet::new(),
            recovered: false,
            store_failure: StoreFailure::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.channel.name
    }

    /// Wakes it.
    pub(super) fn waker(&self) -> Arc<Notify> {
        Arc::clone(&self.waker)
    }

    /// Sends until `drain`, then what is due, for [`DRAIN`] at most. An attempt that is cut off
    /// there stays claimed.
    pub(super) async fn run(mut self, drain: CancellationToken) {
        let waker = self.waker();
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
                    () = waker.notified() => {}
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
            && let Some(unpersisted) = self.memory.take_due(now)
        {
            self.send_from_memory(unpersisted).await;
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
            Some(error) => self.store_failure.seen(&self.channel.name, &error),
            None => self.store_failure.gone(&self.channel.name),
        }
        worked
    }

    /// `failed` takes what could not be written; that must not keep a message from going out.
    async fn step_rows(
        &mut self,
        failed: &mut Option<StorageError>,
    ) -> Result<Worked, StorageError> {
        if !self.recovered {
            match self.context.outbox.recover(&self.channel.name).await {
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
        let mut waiting = self.context.outbox.waiting(&self.channel.name).await?;
        if let Err(error) = self.catch_up(&mut waiting).await {
            *failed = Some(error);
        }
        self.see(&waiting);
        let now = self.context.clock.now();
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
            self.context.outbox.settle(&id, &outcome, self.context.clock.now()).await?;
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
        self.health.keep_only(|incident, recipient| {
            let is_it =
                |it: &&Delivery| it.news.incident.id == incident && it.recipient == recipient;
            waiting.iter().any(|it| is_it(&it))
        });
        self.publish(waiting);
    }

    fn publish(&self, waiting: &[Delivery]) {
        let overdue = self.overdue(waiting);
        self.status.send_if_modified(|status| {
            let now = ChannelStatus {
                state: self.health.state().clone(),
                refusals: self.health.refusals(),
                accepted_recipients: self.health.accepted_recipients().clone(),
                waiting: waiting.len(),
                retrying: waiting.iter().filter(|it| it.attempts > 0).count(),
                overdue,
                ..status.clone()
            };
            let is_new = *status != now;
            *status = now;
            is_new
        });
    }

    /// What is late because no attempt succeeds: not what the pace holds back, not what is refused by
    /// itself, and by our own clock, so that an old row at the start is not late before its attempt.
    fn overdue(&self, waiting: &[Delivery]) -> Option<Overdue> {
        let now = Instant::now();
        let failing = self.health.failing_for(now);
        let waited = |it: &Delivery| {
            let seen = self.seen.get(&it.id).map_or(Duration::ZERO, |at| now - *at);
            seen.min(failing)
        };
        let late: Vec<Duration> = waiting
            .iter()
            .filter(|it| it.attempts > 0)
            .filter(|it| self.health.refusal_of(it.news.incident.id, &it.recipient).is_none())
            .map(waited)
            .collect();
        let oldest = late.iter().max().filter(|it| !it.is_zero())?;
        Some(Overdue { n: late.len(), waited: *oldest })
    }

    fn may_send(&self) -> bool {
        self.health.hold_until().is_none_or(|until| Instant::now() >= until)
    }

    async fn send_next(
        &mut self,
        waiting: &[Delivery],
        now: DateTime<Utc>,
        failed: &mut Option<StorageError>,
    ) -> Result<Worked, StorageError> {
        if !self.may_send() {
            let wait = self.health.hold_until().map_or(POLL, |until| until - Instant::now());
            return Ok(Worked::Idle(wait.min(POLL)));
        }
        let due = queue::due(waiting, now, self.recovered_at);
        // A probe of a broken channel is one that it has refused least often: it may be only that
        // message, or that recipient.
        let next = if self.health.is_broken() {
            due.iter().min_by_key(|it| it.head.attempts)
        } else {
            due.first()
        };
        let Some(candidate) = next else {
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
        match self.context.outbox.claim(&candidate.head.id, &candidate.merged).await {
            Ok(Claimed::Won) => {
                let held_back = self.held_back(&due, &candidate.head.id);
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
    fn held_back(&mut self, due: &[Candidate], except: &str) -> usize {
        let instant = Instant::now();
        let soon = instant + Duration::from_secs(60);
        let others = due.iter().filter(|it| it.head.id != except);
        others.filter(|it| self.pace.may_send_at(it.urgency, instant) > soon).count()
    }

    /// One attempt for a claimed row.
    async fn deliver(
        &mut self,
        candidate: &Candidate,
        held_back: usize,
    ) -> Result<(), StorageError> {
        let head = &candidate.head;
        let now = self.context.clock.now();
        if !self.channel.channel.recipients().contains(&head.recipient) {
            let reason = format!("{} is no longer a recipient", head.recipient);
            return self.give_up(head, reason, now).await;
        }
        let opening = self.opening(head).await;
        let annotations = self.annotations(head, held_back);
        let message =
            self.compose(&head.news, head.already_notified, opening.as_ref(), annotations);
        let attempt =
            Attempt { news: &head.news, recipient: &head.recipient, n_attempts: head.attempts + 1 };
        let (outcome, now) = match self.attempt(&message, &head.id, &attempt).await {
            Ok(now) => (Outcome::Sent, now),
            Err((error, now)) => (self.failed(&error, &attempt, now), now),
        };
        let settled = match &outcome {
            Outcome::Dead { reason } => self.give_up(head, reason.clone(), now).await,
            Outcome::Sent | Outcome::Again { .. } | Outcome::Merged { .. } => {
                self.context.outbox.settle(&head.id, &outcome, now).await
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
        attempt: &Attempt<'_>,
    ) -> Result<DateTime<Utc>, (SendError, DateTime<Utc>)> {
        self.pace.attempted(Instant::now());
        let envelope = Envelope {
            id: id.to_owned(),
            recipient: attempt.recipient.to_owned(),
            at: self.context.clock.now(),
        };
        let sent =
            tokio::time::timeout(MAX_ATTEMPT, self.channel.channel.send(message, &envelope)).await;
        let now = self.context.clock.now();
        let sent = sent.unwrap_or_else(|_| {
            Err(SendError::Transient {
                reason: "the attempt did not come to an end".to_owned(),
                arrival: Arrival::Unknown,
            })
        });
        if let Err(error) = sent {
            return Err((error, now));
        }
        if self.health.accepted(attempt) {
            self.recovered_at = Some(now);
        }
        self.pace.accepted(Instant::now());
        self.seen.clear();
        self.status.send_modify(|status| {
            status.state = self.health.state().clone();
            status.last_accepted_at = Some(now);
        });
        tracing::info!(channel = self.channel.name, id, "a message was delivered");
        Ok(now)
    }

    /// What a failure means for the channel, and for this delivery.
    fn failed(&mut self, error: &SendError, attempt: &Attempt<'_>, now: DateTime<Utc>) -> Outcome {
        let reason = self.context.redactor.redact(&error.to_string()).into_owned();
        let n_attempts = attempt.n_attempts;
        tracing::warn!(
            channel = self.channel.name,
            n_attempts,
            reason,
            "a message was not accepted"
        );
        let moment = FailedAt { at: now, instant: Instant::now() };
        let next = self.health.failed(error, &reason, attempt, moment, fastrand::f64());
        self.status.send_modify(|status| {
            status.state = self.health.state().clone();
            status.refusals = self.health.refusals();
        });
        match next {
            Next::Again(wait) => Outcome::Again {
                wait: TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX),
                error: reason,
                arrival: error.arrival(),
            },
            Next::GiveUp => Outcome::Dead { reason },
        }
    }
}
