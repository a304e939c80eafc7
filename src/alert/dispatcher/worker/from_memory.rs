//! Telling what can't be written down, and remembering how it ended until it can.

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::Worker;
use crate::alert::channel::{Arrival, SendError};
use crate::alert::dispatcher::memory::Unpersisted;
use crate::alert::health::Attempt;
use crate::alert::message;
use crate::alert::outbox::{self, Delivery, Fallback, NewDelivery, Outcome};
use crate::alert::queue::Candidate;
use crate::watch::{Change, News};

impl Worker {
    /// A row whose end could not be written: it is settled as soon as that works. If another
    /// attempt is due, that one is made from memory.
    pub(super) fn remember(&mut self, head: &Delivery, outcome: Outcome) {
        match outcome {
            Outcome::Again { wait, arrival, .. } => {
                let news = message::redacted(&head.news, &self.context.redactor);
                let mut unpersisted = Unpersisted::of_row(head, news);
                unpersisted.attempts += 1;
                unpersisted.arrival = arrival;
                unpersisted.due = Instant::now() + wait.to_std().unwrap_or_default();
                self.memory.push(unpersisted);
            }
            Outcome::Sent | Outcome::Dead { .. } | Outcome::Merged { .. } => {
                self.memory.settle_row(&head.id, outcome);
            }
        }
    }

    /// Rows that could not be claimed go out from memory.
    pub(super) fn take_over(&mut self, candidate: &Candidate) {
        let head = &candidate.head;
        for older in &candidate.merged {
            self.memory.settle_row(older, Outcome::Merged { into: head.id.clone() });
        }
        let news = message::redacted(&head.news, &self.context.redactor);
        self.memory.push(Unpersisted::of_row(head, news));
    }

    pub(super) async fn send_from_memory(&mut self, mut unpersisted: Unpersisted) {
        let already_notified = match unpersisted.news.change {
            Change::Resolved => outbox::AlreadyNotified::Yes,
            Change::Opened | Change::Raised | Change::Reminder => outbox::AlreadyNotified::No,
        };
        let message =
            self.compose(&unpersisted.news, already_notified, None, unpersisted.annotations());
        unpersisted.attempts += 1;
        let (news, recipient) = (unpersisted.news.clone(), unpersisted.recipient.clone());
        let attempt =
            Attempt { news: &news, recipient: &recipient, n_attempts: unpersisted.attempts };
        let (error, now) = match self.attempt(&message, &unpersisted.id, &attempt).await {
            Ok(_) => return self.memory.settle(&unpersisted, Outcome::Sent),
            Err(failed) => failed,
        };
        let outcome = self.failed(&error, &attempt, now);
        let gave_up = matches!(outcome, Outcome::Dead { .. });
        if (gave_up || self.health.is_broken())
            && unpersisted.fallback_reason.is_none()
            && unpersisted.fallback == Fallback::Open
        {
            unpersisted.fallback = Fallback::Asked;
            self.tell_instead_from_memory(&unpersisted.news, &error, now);
        }
        match outcome {
            Outcome::Again { wait, arrival, .. } => {
                unpersisted.due = Instant::now() + wait.to_std().unwrap_or_default();
                if arrival == Arrival::Unknown {
                    unpersisted.arrival = Arrival::Unknown;
                }
                self.memory.push(unpersisted);
            }
            Outcome::Sent | Outcome::Dead { .. } | Outcome::Merged { .. } => {
                self.memory.settle(&unpersisted, outcome);
            }
        }
    }

    pub(super) fn tell_instead_from_memory(
        &self,
        news: &News,
        error: &SendError,
        now: DateTime<Utc>,
    ) {
        let Some(target) = self.fallback() else { return };
        let reason = self.context.redactor.redact(&error.to_string()).into_owned();
        let because = format!("{} could not deliver it: {reason}", self.channel.name);
        for recipient in target.channel.recipients() {
            let instead =
                NewDelivery::new(news, &target.name, &recipient, now).in_place_of(&because);
            self.context.memories.give(&target.name, Unpersisted::new(news.clone(), instead));
        }
    }
}
