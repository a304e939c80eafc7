//! The embedded records: the standard table in a SQLite file of our own, filled from a folder.
//!
//! `records.db` may be read by other programs at any time (WAL), and one may change statuses in it
//! as one would in Supabase; the same conditional writes hold.
//! Invariant: a row is inserted once a file, never deleted, and changed only while it is ours.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params, params_from_iter};

use super::selection::{Found, Selection, SendBack};
use super::statuses::Statuses;
use super::{Claimed, Cursor, Record, RecordError, RecordId, Records, Settlement, Written};
use crate::review::settings::Columns;
use crate::sqlite::{create_private, write_ahead};
use crate::storage::private_folder;

mod selection;

/// Another review commits a row in milliseconds; on a slow disk many may queue.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A row to insert, if it is not there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Primary key.
    pub id: RecordId,
    /// First part of the object's name.
    pub job_id: String,
    /// Where it is.
    pub url: String,
}

/// The port on SQLite.
#[derive(Clone, Debug)]
pub struct SqliteRecords {
    connection: Arc<Mutex<Connection>>,
    sql: Arc<Statements>,
}

impl SqliteRecords {
    /// Opens or creates the file and the table.
    ///
    /// # Errors
    /// When the file can't be opened or written, or the table has other columns.
    pub fn open(path: &Path, table: &str, columns: &Columns) -> Result<Self, RecordError> {
        if let Some(folder) = path.parent() {
            private_folder(folder).map_err(|error| {
                RecordError::Unavailable(format!(
                    "the folder {} can't be made: {error}",
                    folder.display()
                ))
            })?;
        }
        create_private(path)
            .map_err(|error| RecordError::Unavailable(format!("{}: {error}", path.display())))?;
        let records = Self::with(Connection::open(path), table, columns)?;
        records.prepare_table().map_err(|error| translate(&error))?;
        Ok(records)
    }

    /// Opens the file if it is there, and makes nothing in it.
    ///
    /// # Errors
    /// When there is no file, it can't be opened, or the table is not there with its columns.
    pub fn open_existing(path: &Path, table: &str, columns: &Columns) -> Result<Self, RecordError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let records = Self::with(Connection::open_with_flags(path, flags), table, columns)?;
        records.check_table().map_err(|error| translate(&error))?;
        Ok(records)
    }

    fn with(
        connection: rusqlite::Result<Connection>,
        table: &str,
        columns: &Columns,
    ) -> Result<Self, RecordError> {
        let translate = |error| translate(&error);
        let connection = connection.map_err(translate)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(translate)?;
        // Else SQLite takes the quoted name of a column that is not there for a text.
        for option in [DbConfig::SQLITE_DBCONFIG_DQS_DML, DbConfig::SQLITE_DBCONFIG_DQS_DDL] {
            connection.set_db_config(option, false).map_err(translate)?;
        }
        let sql = Arc::new(Statements::new(table, columns));
        Ok(Self { connection: Arc::new(Mutex::new(connection)), sql })
    }

    /// The same records in a table that has words of its own for the standard statuses.
    #[must_use]
    pub fn with_statuses(self, statuses: &Statuses) -> Self {
        let sql = Statements { statuses: statuses.clone(), ..Arc::unwrap_or_clone(self.sql) };
        Self { sql: Arc::new(sql), ..self }
    }

    fn prepare_table(&self) -> rusqlite::Result<()> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        write_ahead(&connection)?;
        connection.execute_batch(&self.sql.create)?;
        drop(connection);
        self.check_table()
    }

    /// A table of another shape is found here, not in the middle of a run.
    fn check_table(&self) -> rusqlite::Result<()> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.prepare(&self.sql.get).map(drop)
    }

    /// Inserts those that are not there yet, in this order. Returns how many are new.
    ///
    /// # Errors
    /// When the file can't be written.
    pub async fn insert_new(
        &self,
        records: Vec<NewRecord>,
        status: &str,
        at: DateTime<Utc>,
    ) -> Result<u64, RecordError> {
        let status = status.to_owned();
        self.transact(move |transaction, sql| {
            let mut insert = transaction.prepare_cached(&sql.insert)?;
            let mut n_new = 0;
            let mut created_at = at;
            for record in records {
                let n_rows = insert.execute(params![
                    record.id.0,
                    record.job_id,
                    status,
                    stamp(created_at),
                    record.url
                ])?;
                n_new += n_rows as u64;
                // The order of the list is the order of work.
                created_at += TimeDelta::microseconds(1);
            }
            Ok(n_new)
        })
        .await
    }

    async fn transact<T, F>(&self, work: F) -> Result<T, RecordError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>, &Statements) -> rusqlite::Result<T> + Send + 'static,
    {
        let (connection, sql) = (Arc::clone(&self.connection), Arc::clone(&self.sql));
        tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let value = work(&transaction, &sql)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
        .map_err(|error| RecordError::Unavailable(format!("a database call panicked: {error}")))?
        .map_err(|error| translate(&error))
    }
}

#[async_trait]
impl Records for SqliteRecords {
    async fn candidates(
        &self,
        statuses: &[String],
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Record>, RecordError> {
        let statuses = statuses.to_vec();
        // The empty string sorts before every date and every id.
        let (created_at, id) = match after {
            Some(cursor) => (cursor.created_at.map(stamp).unwrap_or_default(), cursor.id.0.clone()),
            None => (String::new(), String::new()),
        };
        self.transact(move |transaction, sql| {
            let query = sql.candidates(statuses.len());
            let mut values = vec![created_at, id];
            values.extend(sql.statuses.all_in_table(&statuses));
            let mut select = transaction.prepare_cached(&query)?;
            select
                .query_map(params_from_iter(values), |row| sql.read(row))
                .and_then(|rows| rows.take(limit as usize).collect())
        })
        .await
    }

    async fn claim(
        &self,
        ids: &[RecordId],
        from: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<Claimed>, RecordError> {
        let (ids, from) = (ids.to_vec(), from.to_owned());
        self.transact(move |transaction, sql| {
            let mut update = transaction.prepare_cached(&sql.claim)?;
            let mut claimed = Vec::new();
            for id in ids {
                let mut rows = update.query(params![
                    sql.statuses.processing,
                    stamp(at),
                    id.0,
                    sql.statuses.in_table(&from)
                ])?;
                if let Some(row) = rows.next()? {
                    let record = Record { status: from.clone(), ..sql.read(row)? };
                    claimed.push(Claimed { record, claimed_at: at });
                }
            }
            Ok(claimed)
        })
        .await
    }

    async fn settle(
        &self,
        claimed: &Claimed,
        settlement: &Settlement,
    ) -> Result<Written, RecordError> {
        let (claimed, settlement) = (claimed.clone(), settlement.clone());
        self.transact(move |transaction, sql| {
            let n_rows = transaction.prepare_cached(&sql.settle)?.execute(params![
                sql.statuses.in_table(&settlement.review_status),
                settlement.auto_review_status,
                settlement.auto_review_details,
                claimed.record.id.0,
                sql.statuses.processing,
                stamp(claimed.claimed_at),
            ])?;
            Ok(written(n_rows))
        })
        .await
    }

    async fn release(&self, claimed: &Claimed) -> Result<Written, RecordError> {
        let claimed = claimed.clone();
        self.transact(move |transaction, sql| {
            let n_rows = transaction.prepare_cached(&sql.release)?.execute(params![
                sql.statuses.in_table(&claimed.record.status),
                claimed.record.id.0,
                sql.statuses.processing,
                stamp(claimed.claimed_at),
            ])?;
            Ok(written(n_rows))
        })
        .await
    }

    async fn count(&self, statuses: &[String]) -> Result<u64, RecordError> {
        let statuses = statuses.to_vec();
        self.transact(move |transaction, sql| {
            let query = sql.count(statuses.len());
            let statuses = sql.statuses.all_in_table(&statuses);
            transaction.query_row(&query, params_from_iter(statuses), |row| {
                row.get::<_, i64>(0).map(|count| u64::try_from(count).unwrap_or(0))
            })
        })
        .await
    }

    async fn get(&self, id: &RecordId) -> Result<Option<Record>, RecordError> {
        let id = id.0.clone();
        self.transact(move |transaction, sql| {
            let mut select = transaction.prepare_cached(&sql.get)?;
            let mut rows = select.query([id])?;
            rows.next()?.map(|row| sql.read(row)).transpose()
        })
        .await
    }

    async fn rows_by_id(&self, ids: &[RecordId]) -> Result<Vec<Found>, RecordError> {
        let ids = ids.to_vec();
        self.transact(move |transaction, sql| selection::rows(transaction, sql, &ids)).await
    }

    async fn find(
        &self,
        selection: &Selection,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Found>, RecordError> {
        let (selection, after) = (selection.clone(), after.cloned());
        self.transact(move |transaction, sql| {
            selection::find(transaction, sql, &selection, after.as_ref(), limit)
        })
        .await
    }

    async fn count_of(&self, selection: &Selection) -> Result<u64, RecordError> {
        let selection = selection.clone();
        self.transact(move |transaction, sql| selection::count(transaction, sql, &selection)).await
    }

    async fn send_back(
        &self,
        found: &[Found],
        to: &SendBack,
    ) -> Result<Vec<RecordId>, RecordError> {
        let (found, to) = (found.to_vec(), to.clone());
        self.transact(move |transaction, sql| selection::send_back(transaction, sql, &found, &to))
            .await
    }
}

/// The statements, with the user's names in them.
#[derive(Clone, Debug)]
struct Statements {
    statuses: Statuses,
    create: String,
    insert: String,
    get: String,
    claim: String,
    settle: String,
    release: String,
    candidates_head: String,
    candidates_tail: String,
    count_head: String,
    selection: selection::Names,
}

impl Statements {
    fn new(table: &str, columns: &Columns) -> Self {
        let t = quote(table);
        let index = quote(&format!("{table}_by_status"));
        let [id, job, image_index, status, auto, details, created, updated, url] = [
            &columns.id,
            &columns.job_id,
            &columns.image_index,
            &columns.review_status,
            &columns.auto_review_status,
            &columns.auto_review_details,
            &columns.created_at,
            &columns.updated_at,
            &columns.actual_image_url,
        ]
        .map(|name| quote(name));
        let all = format!("{id}, {job}, {image_index}, {url}, {status}, {created}");
        let ours = format!("{id} = ? AND {status} = ? AND {updated} = ?");
        Self {
            statuses: Statuses::default(),
            create: format!(
                "CREATE TABLE IF NOT EXISTS {t} ({id} TEXT PRIMARY KEY, {job} TEXT,
                     {image_index} INTEGER, {status} TEXT, {auto} TEXT, {details} TEXT,
                     {created} TEXT, {updated} TEXT, {url} TEXT);
                 CREATE INDEX IF NOT EXISTS {index} ON {t} ({status}, {created}, {id});"
            ),
            insert: format!(
                "INSERT INTO {t} ({id}, {job}, {image_index}, {status}, {created}, {url})
                 VALUES (?, ?, 0, ?, ?, ?) ON CONFLICT DO NOTHING"
            ),
            get: format!("SELECT {all}, {updated}, {auto}, {details} FROM {t} WHERE {id} = ?"),
            claim: format!(
                "UPDATE {t} SET {status} = ?, {updated} = ?
                 WHERE {id} = ? AND {status} = ? RETURNING {all}"
            ),
            settle: format!("UPDATE {t} SET {status} = ?, {auto} = ?, {details} = ? WHERE {ours}"),
            release: format!("UPDATE {t} SET {status} = ? WHERE {ours}"),
            candidates_head: format!(
                "SELECT {all} FROM {t}
                 WHERE (coalesce({created}, ''), {id}) > (?, ?) AND {status} IN "
            ),
            candidates_tail: format!(" ORDER BY coalesce({created}, ''), {id}"),
            count_head: format!("SELECT count(*) FROM {t} WHERE {status} IN "),
            selection: selection::Names {
                found: format!("{all}, {updated}, {auto}, {details}"),
                table: t,
                id,
                status,
                category: auto,
                details,
                created,
                updated,
            },
        }
    }

    fn candidates(&self, n_statuses: usize) -> String {
        let Self { candidates_head, candidates_tail, .. } = self;
        format!("{candidates_head}({}){candidates_tail}", places(n_statuses))
    }

    fn count(&self, n_statuses: usize) -> String {
        format!("{}({})", self.count_head, places(n_statuses))
    }

    fn read(&self, row: &rusqlite::Row<'_>) -> rusqlite::Result<Record> {
        let created_at: Option<String> = row.get(5)?;
        let status: String = row.get(4)?;
        Ok(Record {
            id: RecordId(row.get(0)?),
            job_id: row.get(1)?,
            image_index: text(row, 2)?,
            actual_image_url: row.get(3)?,
            status: self.statuses.meant_by(&status),
            created_at: created_at
                .and_then(|text| DateTime::parse_from_rfc3339(&text).ok())
                .map(|at| at.to_utc()),
            columns: std::collections::BTreeMap::new(),
        })
    }
}

/// A column as text, whatever its type: the table may be another program's.
fn text(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get(column)? {
        Value::Null | Value::Blob(_) => None,
        Value::Integer(number) => Some(number.to_string()),
        Value::Real(number) => Some(number.to_string()),
        Value::Text(text) => Some(text),
    })
}

fn places(n: usize) -> String {
    vec!["?"; n].join(", ")
}

/// A name of the user's as an SQL identifier.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn written(n_rows: usize) -> Written {
    if n_rows == 1 { Written::Yes } else { Written::Lost }
}

/// As `PostgreSQL` would keep it: to the microsecond, and sortable as text.
fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn translate(error: &rusqlite::Error) -> RecordError {
    let text = format!("the records can't be read or written: {error}");
    if matches!(error, rusqlite::Error::SqlInputError { .. }) {
        return RecordError::Misconfigured(text);
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            RecordError::Refused(text)
        }
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig) => RecordError::Rejected(text),
        Some(ErrorCode::NotADatabase | ErrorCode::TypeMismatch) => RecordError::Misconfigured(text),
        _ => RecordError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests;
