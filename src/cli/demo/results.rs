//! What the records say after a run, for the narrator.
//!
//! It reads the table with plain SQL, as a user's own tool would, because that is what the demo is to
//! show: the rows are there for anybody. Invariant: it opens the file for reading only.

use std::path::Path;

use anyhow::Context;
use rusqlite::{Connection, OpenFlags};

use crate::review::record::ERROR;

/// A row that is done.
#[derive(Debug, PartialEq, Eq)]
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
    let path = root.join("state/records.db");
    tokio::task::spawn_blocking(move || read(&path)).await?.context("can't read the demo's records")
}

fn read(path: &Path) -> rusqlite::Result<Vec<Reviewed>> {
    let records = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut select = records.prepare(
        "SELECT job_id, auto_review_status, auto_review_details FROM midbot_images \
         WHERE review_status IN ('auto_review_success', 'auto_review_error') ORDER BY job_id",
    )?;
    let rows = select.query_map([], |row| {
        let status: String = row.get(1)?;
        Ok(Reviewed {
            name: row.get(0)?,
            status: if status == ERROR { "error".to_owned() } else { status },
            details: row.get(2)?,
        })
    })?;
    rows.collect()
}
