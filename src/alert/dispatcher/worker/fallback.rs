//! What happens when this channel can't: its fallback is told, and what is too old is given up.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::{SILENT, Worker};
use crate::alert::channel::ConfiguredChannel;
use crate::alert::dispatcher::memory::Unpersisted;
use crate::alert::health::ChannelState;
use crate::alert::message;
use crate::alert::outbox::{Delivery, Fallback, NewDelivery, Outcome};
use crate::storage::StorageError;

impl Worker {
    /// Too old for another attempt; everything gets at least one, however long we were away.
    pub(super) async fn give_up_expired(
        &mut self,
        waiting: &[Delivery],
        now: DateTime<Utc>,
    ) -> Result<bool, StorageError> {
        let expired = waiting.iter().filter(|it| it.attempts > 0 && now >= it.expires_at);
        let mut any = false;
        for delivery in expired {
            let last = delivery.last_error.as_deref().unwrap_or("no answer");
            let tried = message::in_words(now - delivery.created_at);
            let reason = format!("not delivered within {tried}: {last}");
            self.give_up(delivery, reason, now).await?;
            any = true;
        }
        Ok(any)
    }

    pub(super) async fn give_up(
        &mut self,
        delivery: &Delivery,
        reason: String,
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        tracing::error!(
            channel = self.channel.name,
            id = delivery.id,
            reason,
            "a message was given up"
        );
        if delivery.fallback == Fallback::Open {
            self.tell_instead(delivery, &reason, now).await?;
        }
        self.context.outbox.settle(&delivery.id, &Outcome::Dead { reason }, now).await
    }

    /// Tells the fallback of what this channel can't deliver now.
    pub(super) async fn ask_fallback(
        &mut self,
        waiting: &[Delivery],
        now: DateTime<Utc>,
    ) -> Result<bool, StorageError> {
        let failing = self.health.failing_for(Instant::now());
        let mut any = false;
        for delivery in waiting.iter().filter(|it| it.fallback == Fallback::Open) {
            let incident = delivery.news.incident.id;
            let refused = self.health.refusal_of(incident, &delivery.recipient);
            let (reason, silent_for) = match (refused, self.health.state()) {
                (Some(refusal), _) => (refusal.reason.clone(), Duration::ZERO),
                (None, ChannelState::Untried | ChannelState::Working) => continue,
                (None, ChannelState::Failing { reason, .. }) => (reason.clone(), SILENT),
                (None, ChannelState::Broken { reason, .. }) => (reason.clone(), Duration::ZERO),
            };
            let seen = self.seen.get(&delivery.id).map_or(Duration::ZERO, Instant::elapsed);
            if seen.min(failing) >= silent_for {
                any |= self.tell_instead(delivery, &reason, now).await?;
            }
        }
        Ok(any)
    }

    /// Returns whether there is a fallback.
    pub(super) async fn tell_instead(
        &mut self,
        delivery: &Delivery,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StorageError> {
        let Some(target) = self.fallback() else {
            return Ok(false);
        };
        let because = format!("{} could not deliver it: {reason}", self.channel.name);
        let instead: Vec<NewDelivery> = target
            .channel
            .recipients()
            .iter()
            .map(|it| NewDelivery::new(&delivery.news, &target.name, it, now).in_place_of(&because))
            .collect();
        if let Err(error) = self.context.outbox.fall_back(&delivery.id, instead.clone()).await {
            if self.asked.insert(delivery.id.clone()) {
                for new in instead {
                    let news = message::redacted(&delivery.news, &self.context.redactor);
                    self.context.memories.give(&target.name, Unpersisted::new(news, new));
                }
            }
            return Err(error);
        }
        tracing::warn!(
            channel = self.channel.name,
            instead = target.name,
            reason,
            "told by the fallback"
        );
        Ok(true)
    }

    pub(super) fn fallback(&self) -> Option<ConfiguredChannel> {
        let name = self.channel.fallback.as_deref()?;
        self.context
            .channels
            .iter()
            .find(|it| it.name == name && it.name != self.channel.name)
            .cloned()
    }
}
