//! What became of news: the deliveries of an incident's messages, for `lookout audit`.
//!
//! A port for reading only, the far end of the hand-over to `alert`; `store` implements it.
//! Invariant: nothing here changes anything.

use std::fmt::Debug;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::Change;
use crate::storage::StorageError;

/// How long settled deliveries are kept: for `lookout alert dead`, for the audit, and to know who was
/// told the beginning of an incident.
pub const KEPT_FOR: TimeDelta = TimeDelta::days(90);

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Waits for its first or next attempt.
    Pending,
    /// An attempt is being made.
    Sending,
    /// Accepted.
    Sent,
    /// A later message of the same incident told it, too.
    Merged,
    /// Given up.
    Dead,
}

/// One message to one recipient of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Which channel.
    pub channel: String,
    /// How far it is.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was sent or given up.
    pub settled_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// One piece of news of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifiedEvent {
    /// What was new.
    pub change: Change,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// When it was handed to the channels; `None`: not yet.
    pub distributed_at: Option<DateTime<Utc>>,
    /// To whom; empty after it was handed on: no channel takes it.
    pub recipients: Vec<Recipient>,
}

/// Reading who was notified.
#[async_trait]
pub trait DeliveryLog: Send + Sync + Debug {
    /// The news of an incident with their deliveries, oldest first.
    async fn events_of(&self, incident: i64) -> Result<Vec<NotifiedEvent>, StorageError>;
}
