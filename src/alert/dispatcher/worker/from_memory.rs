//! Telling what can't be written down, and remembering how it ended until it can.

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::Worker;
use crate::alert::channel::{Arrival, SendError};
use crate::alert::dispatcher::memory::Unrecorded;
use crate::alert::dispatcher::status::ChannelState;
use crate::alert::message;
use crate::alert::outbox::{self, Delivery, NewDelivery, Outcome};
use crate::alert::queue::Candidate;
use crate::watch::{Change, News};

impl Worker {
    /// A row whose end could not be written: it is settled as soon as that works. If another
    /// attempt is due, that one is made from memory.
    pub(super) fn remember(&mut self, head: &Delivery, outcome: Outcome) {
        match outcome {
            Outcome::Again { wait, arrival, .. } => {
                let news = message::redacted(&head.news, &self.around.redactor);
                let mut unrecorded = Unrecorded::of_row(head, news);
                unrecorded.attempts += 1;
                unrecorded.arrival = arrival;
                unrecorded.due = Instant::now() + wait.to_std().unwrap_or_default();
                self.memory.push(unrecorded);
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
        let news = message::redacted(&head.news, &self.around.redactor);
        self.memory.push(Unrecorded::of_row(head, news));
    }

    pub(super) async fn tell_from_memory(&mut self, mut unrecorded: Unrecorded) {
        let heard = match unrecorded.news.change {
            Change::Resolved => outbox::Heard::Before,
            Change::Opened | Change::Raised | Change::Reminder => outbox::Heard::Nothing,
        };
        let message = self.compose(&unrecorded.news, heard, None, unrecorded.marks());
        unrecorded.attempts += 1;
        let (error, now) = match self.attempt(&message, &unrecorded.id, &unrecorded.recipient).await
        {
            Ok(_) => return self.memory.settle(&unrecorded, Outcome::Sent),
            Err(failed) => failed,
        };
        let was_broken = matches!(self.status.borrow().state, ChannelState::Broken { .. });
        let outcome = self.failed(&error, unrecorded.attempts, now);
        let is_broken = matches!(self.status.borrow().state, ChannelState::Broken { .. });
        let gave_up = matches!(outcome, Outcome::Dead { .. });
        if (gave_up || (is_broken && !was_broken)) && unrecorded.because.is_none() {
            self.tell_instead_from_memory(&unrecorded.news, &error, now);
        }
        match outcome {
            Outcome::Again { wait, arrival, .. } => {
                unrecorded.due = Instant::now() + wait.to_std().unwrap_or_default();
                if arrival == Arrival::Perhaps {
                    unrecorded.arrival = Arrival::Perhaps;
                }
                self.memory.push(unrecorded);
            }
            Outcome::Sent | Outcome::Dead { .. } | Outcome::Merged { .. } => {
                self.memory.settle(&unrecorded, outcome);
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
        let reason = self.around.redactor.redact(&error.to_string()).into_owned();
        let because = format!("{} could not deliver it: {reason}", self.channel.name);
        for recipient in target.channel.recipients() {
            let instead = NewDelivery::new(news, &target.name, &recipient, now).because(&because);
            self.around.memories.give(&target.name, Unrecorded::new(news.clone(), instead));
        }
    }
}
