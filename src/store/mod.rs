//! `guard.db`: what the daemon must not forget. Implements the ports of `run`, `watch` and `alert`.
//!
//! One connection behind a mutex, calls off the runtime (`spawn_blocking`), WAL with
//! `synchronous=FULL`: a committed row survives a power cut. Each file brings its tables.
//! Invariant: every claim is one conditional write whose row count names the winner.

mod history;
mod incidents;
mod ledger;
mod outbox;
mod rows;
mod told;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::storage::StorageError;

/// How long we wait for the command line's own writes; they take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Tables in the order they came, one entry a version; entries are never changed, only appended.
const MIGRATIONS: &[&str] = &[include_str!("guard_tables.sql"), outbox::SCHEMA];

/// A handle to `guard.db`; clones share the connection.
#[derive(Clone, Debug)]
pub struct GuardDb {
    connection: Arc<Mutex<Connection>>,
    place: Place,
}

/// Where the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Disk,
    Memory,
}

impl GuardDb {
    /// Opens or creates the file and brings its tables up to date.
    ///
    /// # Errors
    /// When the file can't be opened, written, or is from a newer version.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let connection = Connection::open(path).map_err(translate)?;
        Self::prepare(connection, Place::Disk)
    }

    /// A database that is gone with its last handle.
    ///
    /// # Errors
    /// When SQLite can't allocate it.
    pub fn in_memory() -> Result<Self, StorageError> {
        Self::prepare(Connection::open_in_memory().map_err(translate)?, Place::Memory)
    }

    fn prepare(mut connection: Connection, place: Place) -> Result<Self, StorageError> {
        connection.busy_timeout(BUSY_TIMEOUT).map_err(translate)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
            )
            .map_err(translate)?;
        migrate(&mut connection)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), place })
    }

    /// Runs `work` in one transaction off the runtime; it is committed if `work` returns `Ok`.
    ///
    /// # Errors
    /// What SQLite says, as a [`StorageError`].
    pub async fn transact<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.on_connection(|connection| {
            let transaction = connection
                .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
                .map_err(translate)?;
            let value = work(&transaction).map_err(translate)?;
            transaction.commit().map_err(translate)?;
            Ok(value)
        })
        .await
    }

    /// Runs `work` in one transaction that only reads, off the runtime. It works while the disk is
    /// full or read-only, when [`GuardDb::transact`] does not.
    ///
    /// # Errors
    /// What SQLite says, as a [`StorageError`].
    pub async fn read<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.on_connection(|connection| {
            let transaction = connection.transaction().map_err(translate)?;
            work(&transaction).map_err(translate)
        })
        .await
    }

    async fn on_connection<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StorageError> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let call = move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner));
        match self.place {
            // Nothing to wait for, and a simulated month has a million calls.
            Place::Memory => call(),
            Place::Disk => tokio::task::spawn_blocking(call).await.map_err(|error| {
                StorageError::Unreadable(format!("a database call panicked: {error}"))
            })?,
        }
    }
}

/// Applies what is missing, each version in a transaction of its own.
fn migrate(connection: &mut Connection) -> Result<(), StorageError> {
    let version: u32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(translate)?;
    let version = version as usize;
    if version > MIGRATIONS.len() {
        return Err(StorageError::Unreadable(format!(
            "it was written by a newer Lookout (schema {version}, this one knows {}); \
             start that version, or move the file away",
            MIGRATIONS.len()
        )));
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction().map_err(translate)?;
        transaction.execute_batch(sql).map_err(translate)?;
        transaction.pragma_update(None, "user_version", index as u32 + 1).map_err(translate)?;
        transaction.commit().map_err(translate)?;
    }
    Ok(())
}

/// SQLite's error as far as anybody decides by it.
pub(crate) fn translate(error: rusqlite::Error) -> StorageError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied,
        ) => StorageError::Unwritable(text),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StorageError::Busy(text),
        _ => StorageError::Unreadable(text),
    }
}
