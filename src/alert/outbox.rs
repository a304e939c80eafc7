//! The port to what is remembered of deliveries, so that a crash loses none.
//!
//! A delivery is one message to one recipient of one channel. It is `pending` until it is claimed,
//! `sending` while an attempt is made, and ends as `sent`, `merged` (a later message of the same
//! incident told it, too) or `dead` (given up, with the reason).
//! Invariants: one delivery for each news, channel and recipient; a claim is won once; what was
//! `sending` when the process died goes out again, marked as a possible repeat.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::channel::Arrival;
use super::retry;
use crate::storage::StorageError;
use crate::watch::{Change, News, Severity};

/// A delivery to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// Fixed before the first byte is sent; see [`delivery_id`].
    pub id: String,
    /// The news' row.
    pub news: i64,
    /// The incident.
    pub incident: i64,
    /// The news' number within it.
    pub number: u32,
    /// Which channel.
    pub channel: String,
    /// Which of its recipients; empty where there is only one.
    pub recipient: String,
    /// Lowest are given up first when too many wait.
    pub severity: Severity,
    /// When the news was decided.
    pub created_at: DateTime<Utc>,
    /// From then on it is not worth another attempt.
    pub expires_at: DateTime<Utc>,
    /// Why this channel is told in place of another.
    pub fallback_reason: Option<String>,
}

impl NewDelivery {
    /// The delivery of `news` to one recipient.
    #[must_use]
    pub fn new(news: &News, channel: &str, recipient: &str, now: DateTime<Utc>) -> Self {
        Self {
            id: delivery_id(news, channel, recipient),
            news: news.id,
            incident: news.incident.id,
            number: news.number,
            channel: channel.to_owned(),
            recipient: recipient.to_owned(),
            severity: news.incident.severity,
            created_at: news.at,
            expires_at: now + retry::time_to_live(news.incident.severity),
            fallback_reason: None,
        }
    }

    /// The same, in place of another channel.
    #[must_use]
    pub fn in_place_of(mut self, reason: &str) -> Self {
        self.fallback_reason = Some(reason.to_owned());
        self
    }
}

/// `msg_<instance>_<incident>_<opened>_<number>_<channel>…`: the same whenever it is made, without
/// dots (Standard Webhooks), and unique even if the state directory is thrown away and incidents
/// are counted from 1 again.
#[must_use]
pub fn delivery_id(news: &News, channel: &str, recipient: &str) -> String {
    let incident = &news.incident;
    let opened = incident.opened_at.timestamp();
    let mut id =
        format!("msg_{}_{}_{opened}_{}_{channel}", incident.instance, incident.id, news.number);
    if incident.id == 0 {
        // No row, no number: what it is about tells it from others of the same second.
        id.push('_');
        id.push_str(&short_digest(&format!("{} {:?}", incident.key, news.change)));
    }
    if !recipient.is_empty() {
        id.push('_');
        id.push_str(&short_digest(recipient));
    }
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

fn short_digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

/// A pending delivery with all that is needed to send it.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its id.
    pub id: String,
    /// What to tell.
    pub news: News,
    /// Which recipient.
    pub recipient: String,
    /// How many attempts have been made.
    pub attempts: u32,
    /// Whether one of them may have arrived.
    pub arrival: Arrival,
    /// When the oldest news in it was decided.
    pub created_at: DateTime<Utc>,
    /// From then on it is not worth another attempt.
    pub expires_at: DateTime<Utc>,
    /// The next attempt.
    pub due_at: DateTime<Utc>,
    /// How long that wait was meant to be: if the wall clock is set back, it is not stretched.
    pub wait: TimeDelta,
    /// Why this channel is told in place of another.
    pub fallback_reason: Option<String>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// Whether its fallback has been asked already.
    pub fallback: Fallback,
    /// Whether an earlier message of the incident reached this recipient.
    pub already_notified: AlreadyNotified,
    /// Other channels that were told the same in this one's place.
    pub others_notified: Vec<String>,
}

/// Whether the fallback of a delivery's channel has been asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Not yet.
    Open,
    /// Yes, or there is none.
    Asked,
}

/// Whether an earlier message of the same incident reached the same recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlreadyNotified {
    /// An earlier one did.
    Yes,
    /// None did.
    No,
}

/// Who got the delivery that was tried to be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// We: it is `sending`, and its attempts are counted.
    Won,
    /// Somebody else, or it is no longer pending.
    Lost,
}

/// How a delivery in `sending` went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted.
    Sent,
    /// Another attempt is due after `wait`.
    Again {
        /// So long from now.
        wait: TimeDelta,
        /// Why this one failed.
        error: String,
        /// Whether it may have arrived.
        arrival: Arrival,
    },
    /// Given up.
    Dead {
        /// Why.
        reason: String,
    },
    /// A later message of the same incident told it, too.
    Merged {
        /// That message.
        into: String,
    },
}

/// What was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadDelivery {
    /// For `lookout alert replay`.
    pub id: String,
    /// The incident.
    pub incident: i64,
    /// Its kind and change, as the message has them.
    pub kind: String,
    /// What was new.
    pub change: Change,
    /// Which channel.
    pub channel: String,
    /// Which recipient; empty where there is only one.
    pub recipient: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When the news was decided.
    pub created_at: DateTime<Utc>,
    /// When it was given up.
    pub given_up_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// What became of a wish to send a dead delivery again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It is pending again.
    Queued,
    /// It is not dead.
    NotDead,
    /// There is no such delivery.
    Unknown,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Deliveries pending or on their way.
    pub waiting: u64,
    /// Deliveries given up and kept.
    pub dead: u64,
    /// When the oldest waiting news was decided.
    pub oldest_waiting_since: Option<DateTime<Utc>>,
}

/// What is remembered of news and deliveries.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// News that have not been distributed, oldest first.
    async fn undistributed(&self) -> Result<Vec<News>, StorageError>;

    /// Names of channels with a delivery of this incident, whatever became of it.
    async fn channels_of(&self, incident: i64) -> Result<Vec<String>, StorageError>;

    /// Writes the deliveries of one piece of news and marks it distributed, in one transaction;
    /// deliveries that exist already stay as they are.
    async fn distribute(
        &self,
        news: i64,
        deliveries: Vec<NewDelivery>,
        now: DateTime<Utc>,
    ) -> Result<(), StorageError>;

    /// Writes deliveries for other channels and marks that this one's fallback was asked.
    async fn fall_back(&self, id: &str, instead: Vec<NewDelivery>) -> Result<(), StorageError>;

    /// What is pending for a channel, oldest first.
    async fn waiting(&self, channel: &str) -> Result<Vec<Delivery>, StorageError>;

    /// The news that opened an incident.
    async fn opening_of(&self, incident: i64) -> Result<Option<News>, StorageError>;

    /// Takes a pending delivery for an attempt, and merges others into it.
    async fn claim(&self, id: &str, merge: &[String]) -> Result<Claimed, StorageError>;

    /// Writes how it went on.
    async fn settle(
        &self,
        id: &str,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) -> Result<(), StorageError>;

    /// Makes what an earlier process left in `sending` pending again, as a possible repeat;
    /// returns how many.
    async fn recover(&self, channel: &str) -> Result<usize, StorageError>;

    /// Gives up what waits for channels that are no longer configured; returns how many.
    async fn dead_letter_removed_channels(
        &self,
        channels: &[String],
        now: DateTime<Utc>,
    ) -> Result<usize, StorageError>;

    /// What was given up, latest first.
    async fn dead(&self) -> Result<Vec<DeadDelivery>, StorageError>;

    /// Makes a dead delivery pending again, with a fresh lifetime.
    async fn replay(&self, id: &str, now: DateTime<Utc>) -> Result<Replayed, StorageError>;

    /// How much waits.
    async fn backlog(&self) -> Result<Backlog, StorageError>;

    /// Forgets deliveries that were settled before this; returns how many.
    async fn prune(&self, before: DateTime<Utc>) -> Result<usize, StorageError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::queue::tests::news;

    #[test]
    fn an_id_is_the_same_whenever_it_is_made_and_has_no_dots() {
        let news = news(7, 2, Change::Opened);
        let id = delivery_id(&news, "team.slack", "");
        assert_eq!(id, delivery_id(&news, "team.slack", ""));
        assert!(id.starts_with("msg_prod_7_"), "{id}");
        assert!(!id.contains('.'), "{id}");
        let one = delivery_id(&news, "mail", "a@example.org");
        assert_ne!(one, delivery_id(&news, "mail", "b@example.org"));
        assert!(!one.contains('@'));
    }

    #[test]
    fn what_has_no_row_is_distinguished_by_what_it_is_about() {
        let mut news = news(0, 1, Change::Opened);
        let one = delivery_id(&news, "slack", "");
        news.incident.key = "prod/other/run_missed".into();
        assert_ne!(one, delivery_id(&news, "slack", ""));
    }
}
