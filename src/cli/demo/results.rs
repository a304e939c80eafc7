//! What the records say after a run, for the narrator.
//!
//! Invariant: it reads the same rows that a user's own tools would read, and changes nothing.

use std::path::Path;

use crate::review::record::sqlite::SqliteRecords;
use crate::review::record::{ERROR, Records, SUCCESS};
use crate::review::settings::Columns;

/// A row that is done.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reviewed {
    /// The file, as the record knows it.
    pub(super) name: String,
    /// Category string, or `error`.
    pub(super) status: String,
    /// Sentence, or the reasons.
    pub(super) details: String,
}

/// All rows that are done, by name.
pub(super) async fn reviewed(root: &Path) -> anyhow::Result<Vec<Reviewed>> {
    let columns = Columns::default();
    let records = SqliteRecords::open(&root.join("state/records.db"), "midbot_images", &columns)?;
    let done = [SUCCESS.to_owned(), ERROR.to_owned()];
    // A visitor with more pictures than this has seen enough of them in the table.
    let page = records.candidates(&done, None, 1000).await?;
    let column = |row: &crate::review::record::Record, name: &str| {
        row.columns.get(name).cloned().unwrap_or_default()
    };
    let mut rows: Vec<Reviewed> = page
        .iter()
        .map(|row| Reviewed {
            name: row.job_id.clone().unwrap_or_default(),
            status: if row.status == ERROR {
                "error".to_owned()
            } else {
                column(row, &columns.auto_review_status)
            },
            details: column(row, &columns.auto_review_details),
        })
        .collect();
    rows.sort();
    Ok(rows)
}
