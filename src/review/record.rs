//! Records: the rows to review, and the port to where they are.
//!
//! Invariant: a row is changed only by conditional writes; what came back changed is ours, and
//! nothing else is.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use thiserror::Error;

use self::selection::{Found, Selection, SendBack};

pub mod folder_listing;
pub mod selection;
pub mod sqlite;
pub mod statuses;
pub mod supabase;

/// `review_status` of a row that a review is working on. These are the standard words
/// (docs/legacy-service.md, "States"); [`statuses::Statuses`] knows what a table calls them.
pub const PROCESSING: &str = "processing";
/// `review_status` of a reviewed row.
pub const SUCCESS: &str = "auto_review_success";
/// `review_status` and `auto_review_status` of a row whose tries failed.
pub const ERROR: &str = "auto_review_error";

/// Primary key, as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub String);

/// A row to review.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Primary key.
    pub id: RecordId,
    /// First part of the object's name.
    pub job_id: Option<String>,
    /// Second part, as it stands in the table: `003` and `3` name two images.
    pub image_index: Option<String>,
    /// Full URL of older rows; `file://…` for a folder.
    pub actual_image_url: Option<String>,
    /// `review_status` as read (before a claim: where it came from).
    pub status: String,
    /// Work order.
    pub created_at: Option<DateTime<Utc>>,
    /// Every further column, as text, for the URL template.
    pub columns: BTreeMap<String, String>,
}

/// Where a page of candidates ended: the sort key of its last row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// `created_at` of that row.
    pub created_at: Option<DateTime<Utc>>,
    /// Its id.
    pub id: RecordId,
}

/// A row that is ours until it is settled or given back.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// The row; `status` is where it came from.
    pub record: Record,
    /// `updated_at` as written by the claim: the fence of later writes.
    pub claimed_at: DateTime<Utc>,
}

/// What a reviewed row becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// `review_status`: [`SUCCESS`] or [`ERROR`].
    pub review_status: String,
    /// Category string, or [`ERROR`].
    pub auto_review_status: String,
    /// Sentence, or the error with all reasons.
    pub auto_review_details: String,
}

/// Whether a fenced write found its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Yes.
    Yes,
    /// The row is not ours any more; nothing was changed.
    Lost,
}

/// Why the records could not be read or written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// Down, unreachable, overloaded: try again later; no image's fault.
    #[error("{0}")]
    Unavailable(String),
    /// Key refused, no permission, row-level security: a person must act.
    #[error("{0}")]
    Refused(String),
    /// The database does not take the content of this write (a check, a length, a type, a trigger):
    /// this row's matter as long as others are written.
    #[error("{0}")]
    Rejected(String),
    /// Table, column or type is not as configured: a person must act.
    #[error("{0}")]
    Misconfigured(String),
}

/// Where rows are. All lists are oldest first, `created_at` then `id`.
#[async_trait]
pub trait Records: Send + Sync {
    /// One page of rows with one of these statuses, after the cursor. A page shorter than `limit`
    /// is not the end; an empty one is.
    async fn candidates(
        &self,
        statuses: &[String],
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Record>, RecordError>;

    /// Takes those of `ids` that still have status `from`: `processing`, `updated_at = at`.
    /// Returns the rows it changed, with `status = from`. At most 100 ids.
    async fn claim(
        &self,
        ids: &[RecordId],
        from: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<Claimed>, RecordError>;

    /// Writes the result, if the row is still ours.
    async fn settle(
        &self,
        claimed: &Claimed,
        settlement: &Settlement,
    ) -> Result<Written, RecordError>;

    /// Puts the row back to where it came from, if it is still ours.
    async fn release(&self, claimed: &Claimed) -> Result<Written, RecordError>;

    /// How many rows have one of these statuses.
    async fn count(&self, statuses: &[String]) -> Result<u64, RecordError>;

    /// One row by id.
    async fn get(&self, id: &RecordId) -> Result<Option<Record>, RecordError>;

    /// Those of the rows that are there, in any order.
    async fn rows_by_id(&self, ids: &[RecordId]) -> Result<Vec<Found>, RecordError>;

    /// One page of the rows that a person means, after the cursor; as [`Records::candidates`], only
    /// an empty page is the end.
    async fn find(
        &self,
        selection: &Selection,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Found>, RecordError>;

    /// How many rows a person means.
    async fn count_of(&self, selection: &Selection) -> Result<u64, RecordError>;

    /// Changes those of the rows that still are as they were found. Returns the ids of those it
    /// changed.
    async fn send_back(&self, found: &[Found], to: &SendBack)
    -> Result<Vec<RecordId>, RecordError>;
}
