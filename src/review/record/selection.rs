//! Which rows a person means, how they were found, and what is to become of them.
//!
//! Pure; finding and changing is the port's business.
//! Invariant: a row is sent back only if it still is as it was found, so that what a review or a
//! person has done to it meanwhile stays.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Record, RecordId};
use crate::review::category::GOOD;

/// Rows that a service took before this and never brought back are stuck
/// (docs/legacy-service.md, "States").
pub const STUCK_AFTER: TimeDelta = TimeDelta::days(1);

/// `review_status` of a reviewed row that is to be looked at again.
pub const RERUN: &str = "rerun_for_clarity";

/// What the old service wrote into the details of rows whose answer it could not read, and which it
/// nevertheless called good (docs/legacy-service.md, "What went wrong with it").
pub const UNREADABLE: [&str; 2] =
    ["Error parsing response", "Analysis failed - invalid JSON response."];

/// Rows that a person means; all parts hold at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// `review_status` is one of these.
    pub statuses: Vec<String>,
    /// The category string holds one of these codes; empty: any.
    pub categories: Vec<String>,
    /// What stands in the details.
    pub details: Details,
    /// When it was last taken for a review (`updated_at`).
    pub taken: Taken,
}

/// What stands in a row's details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Details {
    /// Whatever.
    Any,
    /// The old service's words for an answer that it could not read.
    Unreadable,
}

/// When a row was last taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Whenever.
    Any,
    /// At or after the first, before the second. Rows without a time are not meant.
    Between(Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    /// Before this; for rows that say nothing about it, when they were made counts.
    LongBefore(DateTime<Utc>),
}

impl Selection {
    /// Rows that the old service called good because it could not read the answer.
    #[must_use]
    pub fn unreadable() -> Self {
        Self {
            statuses: vec![super::SUCCESS.to_owned()],
            categories: vec![GOOD.to_owned()],
            details: Details::Unreadable,
            taken: Taken::Any,
        }
    }

    /// Rows that were claimed before this time and never released.
    #[must_use]
    pub fn stuck(before: DateTime<Utc>) -> Self {
        Self {
            statuses: vec![super::PROCESSING.to_owned()],
            categories: Vec::new(),
            details: Details::Any,
            taken: Taken::LongBefore(before),
        }
    }
}

/// A row with what stands in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The row.
    pub record: Record,
    /// Category string, or the error status.
    pub auto_review_status: Option<String>,
    /// Sentence or error.
    pub auto_review_details: Option<String>,
    /// When it was last taken.
    pub updated_at: Option<DateTime<Utc>>,
}

/// What becomes of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendBack {
    /// [`RERUN`], with the category `good` (docs/legacy-service.md, "States").
    Rerun,
    /// Back among those that wait, with this status.
    Waiting(String),
}

impl SendBack {
    /// The new `review_status`.
    #[must_use]
    pub fn review_status(&self) -> &str {
        match self {
            Self::Rerun => RERUN,
            Self::Waiting(status) => status,
        }
    }

    /// The new `auto_review_status`; `None`: it stays as it is.
    #[must_use]
    pub fn auto_review_status(&self) -> Option<&'static str> {
        match self {
            Self::Rerun => Some(GOOD),
            Self::Waiting(_) => None,
        }
    }
}

/// Rows that were found in the same state: they are changed by one write under one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alike {
    /// Which.
    pub ids: Vec<RecordId>,
    /// `review_status` as found.
    pub status: String,
    /// `auto_review_status` as found.
    pub category: Option<String>,
    /// Nobody has taken a row since this, the latest `updated_at` among them; `None`: they have
    /// none. A later claim writes a later time.
    pub taken_until: Option<DateTime<Utc>>,
}

/// Found rows by the state in which they were found.
#[must_use]
pub fn alike(found: &[Found]) -> Vec<Alike> {
    let mut groups: Vec<Alike> = Vec::new();
    for row in found {
        let same = groups.iter_mut().find(|group| {
            group.status == row.record.status
                && group.category == row.auto_review_status
                && group.taken_until.is_some() == row.updated_at.is_some()
        });
        match same {
            Some(group) => {
                group.ids.push(row.record.id.clone());
                group.taken_until = group.taken_until.max(row.updated_at);
            }
            None => groups.push(Alike {
                ids: vec![row.record.id.clone()],
                status: row.record.status.clone(),
                category: row.auto_review_status.clone(),
                taken_until: row.updated_at,
            }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::record::{ERROR, SUCCESS};

    fn found(id: &str, status: &str, category: Option<&str>, at: Option<i64>) -> Found {
        Found {
            record: Record {
                id: RecordId(id.to_owned()),
                job_id: None,
                image_index: None,
                actual_image_url: None,
                status: status.to_owned(),
                created_at: None,
                columns: std::collections::BTreeMap::new(),
            },
            auto_review_status: category.map(str::to_owned),
            auto_review_details: None,
            updated_at: at.and_then(|at| DateTime::from_timestamp(at, 0)),
        }
    }

    #[test]
    fn rows_are_changed_together_only_if_they_were_found_in_the_same_state() {
        let groups = alike(&[
            found("a", SUCCESS, Some("good"), Some(5)),
            found("b", SUCCESS, Some("N1"), Some(5)),
            found("c", SUCCESS, Some("good"), Some(9)),
            found("d", SUCCESS, Some("good"), None),
            found("e", ERROR, Some(ERROR), Some(1)),
        ]);
        let ids: Vec<Vec<&str>> =
            groups.iter().map(|group| group.ids.iter().map(|id| id.0.as_str()).collect()).collect();
        assert_eq!(ids, [vec!["a", "c"], vec!["b"], vec!["d"], vec!["e"]]);
        assert_eq!(groups[0].taken_until, DateTime::from_timestamp(9, 0), "the latest of them");
        assert_eq!(groups[2].taken_until, None);
    }
}
