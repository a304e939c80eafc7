//! Tries: what a review must not forget, and the port to it.
//!
//! Claims are noted before they are made and dropped after the row is settled or given back; a try
//! is written down when work on an image begins and again when it ends. So whatever kills the
//! process, the next one knows which rows it had claimed and on which it was working.
//! Invariant: a noted row belongs to one process; money is reserved before it is spent.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::review::record::{Claimed, RecordId};
use crate::review::reviewer::CallRecord;
use crate::review::settings::BudgetSettings;
use crate::review::settle::History;
use crate::storage::StorageError;

pub mod sqlite;

/// A try that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TryId(pub i64);

/// What begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Begin {
    /// Which image.
    pub id: RecordId,
    /// When.
    pub at: DateTime<Utc>,
    /// Whether it is the only one in progress: only then a death of the process is attributed to it.
    pub isolation: Isolation,
    /// USD to set aside; `None`: the price is unknown.
    pub reserve: Option<f64>,
}

/// Whether other images are in progress at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Nothing else is.
    Exclusive,
    /// Others may be.
    Shared,
}

/// Whether it may begin.
#[derive(Clone, Debug, PartialEq)]
pub enum Begun {
    /// Yes; the money is set aside.
    Yes(TryId),
    /// A cap of `[budget]` would be exceeded; nothing was written.
    OverBudget {
        /// For people.
        reason: String,
    },
}

/// What a try ended as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryOutcome {
    /// An answer.
    Answered,
    /// Blocked by the provider: for a person to look at.
    Blocked,
    /// The image's own fault: a try is used up.
    Failed,
    /// A fault of provider or bucket: no try is used up.
    Fault,
    /// The same, while others succeeded.
    OwnFault,
    /// Given back before it ended.
    Returned,
}

impl TryOutcome {
    /// As it stands in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
            Self::Fault => "fault",
            Self::OwnFault => "own_fault",
            Self::Returned => "returned",
        }
    }
}

/// What is known at a try's end.
#[derive(Clone, Debug, PartialEq)]
pub struct TryEnd {
    /// What it ended as.
    pub outcome: TryOutcome,
    /// When.
    pub at: DateTime<Utc>,
    /// Why, if it brought no answer.
    pub reason: Option<String>,
    /// SHA-256 of the file, once there was one.
    pub sha256: Option<String>,
    /// What was written to the row, if it was: category (or the error status) and details.
    pub result: Option<(String, String)>,
    /// What the reviewer did; `None`: it was not asked.
    pub call: Option<CallRecord>,
    /// Of the whole try, fetching included.
    pub took: Duration,
    /// What it counts as against the budget: spent, or possibly spent.
    pub cost: f64,
}

/// What becomes of the row with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// It stays claimed.
    Kept,
    /// It has a terminal status: its tries are cleared, its claim is dropped.
    Settled,
    /// It is back where it came from: its claim is dropped, its tries are remembered.
    Returned,
}

/// A row that a dead process left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Which.
    pub id: RecordId,
    /// Where it came from.
    pub from: String,
    /// The fence of its claim.
    pub claimed_at: DateTime<Utc>,
    /// How sure that is.
    pub fence: Fence,
    /// With the death counted, if it was the only one in progress.
    pub history: History,
}

/// How sure it is which time a claim has left in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// The row is known to have it, or the table keeps the time it is given.
    Sure,
    /// It is the time that was given; the answer did not come, and the table is known to write
    /// times of its own (a trigger, `moddatetime`).
    Doubtful,
}

/// What tries have cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Tries that reached the provider.
    pub tries: u64,
    /// Input tokens.
    pub tokens_in: u64,
    /// Output tokens.
    pub tokens_out: u64,
    /// USD, without what was possibly billed; `None`: at least one price is unknown.
    pub usd: Option<f64>,
    /// Calls without an answer that may have been billed all the same.
    pub possibly_billed: u64,
    /// Tries of a model with a known price whose answers did not say what they took.
    pub not_told: u64,
}

/// What a review must not forget. One value belongs to one process and one run.
#[async_trait]
pub trait Tries: Send + Sync {
    /// Takes over the claims of processes of this machine that are dead, and of any whose lease is
    /// over, and counts deaths: an image alone in progress has used up a try, its neighbours become
    /// suspects.
    async fn take_over(&self, now: DateTime<Utc>) -> Result<Vec<Orphan>, StorageError>;

    /// Notes claims before they are made. Returns those noted; the others are in the hands of
    /// another process.
    async fn record_claims(
        &self,
        ids: &[RecordId],
        from: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<RecordId>, StorageError>;

    /// Notes that rows carry another time than the one their claim gave them: later writes, and the
    /// next process if this one dies, need it. The table is known to write its own from then on.
    async fn record_fences(&self, claimed: &[Claimed]) -> Result<(), StorageError>;

    /// How sure the time of a claim is whose answer did not come.
    async fn fence_without_answer(&self) -> Result<Fence, StorageError>;

    /// Drops claims of rows that are not ours (any more).
    async fn drop_claims(&self, ids: &[RecordId]) -> Result<(), StorageError>;

    /// Forgets a row's tries: it has a terminal status, or another process has taken it.
    async fn clear(&self, id: &RecordId) -> Result<(), StorageError>;

    /// What is remembered of each.
    async fn histories(&self, ids: &[RecordId]) -> Result<Vec<History>, StorageError>;

    /// Work on an image begins.
    async fn begin(&self, begin: &Begin, budget: &BudgetSettings) -> Result<Begun, StorageError>;

    /// Work on an image has ended.
    async fn finish(&self, id: TryId, end: &TryEnd, row: Row) -> Result<(), StorageError>;

    /// What this run has cost.
    async fn spent(&self) -> Result<Spent, StorageError>;
}
