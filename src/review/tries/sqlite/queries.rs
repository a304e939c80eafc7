//! What `review.db` tells without a review: who holds what, one image's story, what answers cost.
//!
//! Invariant: nothing is written, not even the file: where there was no review, there is nothing to
//! tell.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use serde::Serialize;

use super::schema::SCHEMA;
use super::{parse, unsigned};
use crate::review::record::RecordId;
use crate::sqlite;
use crate::storage::StorageError;

/// Answers that an average is made of: enough to even out large and small images, few enough that
/// a new prompt or model soon shows.
const RECENT_ANSWERS: u32 = 500;

/// One try of an image, as it was written down.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TryRow {
    /// The run that made it.
    pub run: String,
    /// When work on it began.
    pub begun_at: DateTime<Utc>,
    /// When it ended; `None`: it is under way, or its process died and no review has run since.
    pub ended_at: Option<DateTime<Utc>>,
    /// `answered`, `blocked`, `failed`, `fault`, `own_fault`, `returned`, `died`.
    pub outcome: Option<String>,
    /// Why it brought no answer.
    pub reason: Option<String>,
    /// Of the file.
    pub sha256: Option<String>,
    /// What was written into the row: category string or error status.
    pub category: Option<String>,
    /// And the details.
    pub details: Option<String>,
    /// Of prompt and settings.
    pub prompt_hash: Option<String>,
    /// Model that was asked.
    pub model: Option<String>,
    /// Model that says it answered.
    pub model_version: Option<String>,
    /// HTTP requests.
    pub attempts: u64,
    /// Of them without an answer that may have been billed.
    pub possibly_billed: u64,
    /// Input tokens.
    pub tokens_in: u64,
    /// Output tokens.
    pub tokens_out: u64,
    /// USD; `None`: unknown, or the provider was not asked.
    pub usd: Option<f64>,
    /// Of the provider's part.
    pub provider_ms: Option<u64>,
    /// Of the whole.
    pub took_ms: Option<u64>,
    /// It counts no more: the row got a result, or another process took it.
    pub cleared: bool,
    /// The records it belongs to.
    pub scope: String,
}

/// What an answer has taken on average of late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
    /// So many answers were looked at.
    pub answers: u64,
    /// Input tokens of one.
    pub tokens_in: f64,
    /// Output tokens of one.
    pub tokens_out: f64,
}

/// `review.db`, for looking at it.
#[derive(Debug)]
pub struct ReviewDb {
    connection: Connection,
}

impl ReviewDb {
    /// Opens it; `None` if there was no review yet.
    ///
    /// # Errors
    /// When there is a file and it can't be read.
    pub fn open(state_dir: &Path) -> Result<Option<Self>, StorageError> {
        let file = state_dir.join("review.db");
        if !file.exists() {
            return Ok(None);
        }
        let connection = connect(&file).map_err(translate)?;
        connection.busy_timeout(SCHEMA.busy_timeout).map_err(translate)?;
        let n_tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_master WHERE name = 'tries'", [], |row| {
                row.get(0)
            })
            .map_err(translate)?;
        Ok((n_tables > 0).then_some(Self { connection }))
    }

    /// Those of the records that a review has recorded as claimed: it, or the next one, releases
    /// them.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn in_hand(
        &self,
        scope: &str,
        ids: &[RecordId],
    ) -> Result<HashSet<RecordId>, StorageError> {
        let mut select = self
            .connection
            .prepare("SELECT 1 FROM claims WHERE scope = ?1 AND record_id = ?2")
            .map_err(translate)?;
        let mut held = HashSet::new();
        for id in ids {
            if select.exists(params![scope, id.0]).map_err(translate)? {
                held.insert(id.clone());
            }
        }
        Ok(held)
    }

    /// All tries of an image, oldest first, whatever the records it is in.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn story(&self, id: &RecordId) -> Result<Vec<TryRow>, StorageError> {
        let read = || {
            let mut select = self.connection.prepare(
                "SELECT run, begun_at, ended_at, outcome, reason, sha256, category, details,
                     prompt_hash, model, model_version, attempts, possibly_billed, tokens_in,
                     tokens_out, usd, provider_ms, took_ms, cleared, scope
                 FROM tries WHERE record_id = ?1 ORDER BY id",
            )?;
            select.query_map([&id.0], try_row)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(translate)
    }

    /// What the latest answers of a model have taken; `None` if it has given none.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn usual(&self, model: &str) -> Result<Option<Usual>, StorageError> {
        let row = self.connection.query_row(
            "SELECT count(*), avg(tokens_in), avg(tokens_out) FROM
                 (SELECT tokens_in, tokens_out FROM tries
                  WHERE model = ?1 AND outcome = 'answered' AND tokens_in > 0
                  ORDER BY id DESC LIMIT ?2)
             HAVING count(*) > 0",
            params![model, RECENT_ANSWERS],
            |row| {
                Ok(Usual {
                    answers: unsigned(row.get(0)?),
                    tokens_in: row.get(1)?,
                    tokens_out: row.get(2)?,
                })
            },
        );
        row.optional().map_err(translate)
    }
}

/// Reading a file in WAL mode makes two more beside it, unless it is opened as immutable; a writer
/// would have made these two.
fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let wal = PathBuf::from(format!("{}-wal", file.display()));
    match url::Url::from_file_path(file) {
        Ok(mut url) if !wal.exists() => {
            url.set_query(Some("immutable=1"));
            Connection::open_with_flags(url.as_str(), flags | OpenFlags::SQLITE_OPEN_URI)
        }
        Ok(_) | Err(()) => Connection::open_with_flags(file, flags),
    }
}

fn try_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<TryRow> {
    let time = |text: Option<String>| text.map(|text| parse(&text)).transpose();
    let count = |column: usize| row.get(column).map(unsigned);
    Ok(TryRow {
        run: row.get(0)?,
        begun_at: parse(&row.get::<_, String>(1)?)?,
        ended_at: time(row.get(2)?)?,
        outcome: row.get(3)?,
        reason: row.get(4)?,
        sha256: row.get(5)?,
        category: row.get(6)?,
        details: row.get(7)?,
        prompt_hash: row.get(8)?,
        model: row.get(9)?,
        model_version: row.get(10)?,
        attempts: count(11)?,
        possibly_billed: count(12)?,
        tokens_in: count(13)?,
        tokens_out: count(14)?,
        usd: row.get(15)?,
        provider_ms: row.get::<_, Option<i64>>(16)?.map(unsigned),
        took_ms: row.get::<_, Option<i64>>(17)?.map(unsigned),
        cleared: row.get(18)?,
        scope: row.get(19)?,
    })
}

fn translate(error: rusqlite::Error) -> StorageError {
    sqlite::translate(SCHEMA.file, &error)
}
