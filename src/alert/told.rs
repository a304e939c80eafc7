//! Who was told what: the deliveries of an incident's news, for `lookout audit` and pages.
//!
//! A port for reading only; `store` implements it.

use std::fmt::Debug;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::storage::StorageError;
use crate::watch::Change;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToldTo {
    /// For `lookout alert replay`.
    pub delivery: String,
    /// Which channel.
    pub channel: String,
    /// Which recipient; empty where there is only one.
    pub recipient: String,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// 1 for the opening, 2 for the next, …
    pub number: u32,
    /// What was new.
    pub change: Change,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// When it was handed to the channels; `None`: not yet.
    pub distributed_at: Option<DateTime<Utc>>,
    /// To whom; empty after it was handed on: no channel takes it.
    pub to: Vec<ToldTo>,
}

/// Reading who was told.
#[async_trait]
pub trait Tellings: Send + Sync + Debug {
    /// The news of an incident with their deliveries, oldest first.
    async fn told(&self, incident: i64) -> Result<Vec<Told>, StorageError>;
}
