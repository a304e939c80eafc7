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
use tokio::sync::watch;

use crate::clock::Clock;
use crate::pulse::{Beat, Pulse};
use crate::storage::{StorageError, write_ahead};

/// How long we wait for the command line's own writes; they take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Tables in the order they came, one entry a version; entries are never changed, only appended.
const MIGRATIONS: &[&str] =
    &[include_str!("guard_tables.sql"), outbox::SCHEMA, WHY_ABSENT, ledger::spans::SCHEMA];

/// Rows from before the reason was known are of a daemon that was down, as far as anybody knew.
const WHY_ABSENT: &str = "ALTER TABLE absences ADD COLUMN why TEXT NOT NULL DEFAULT 'down';";

/// A handle to `guard.db`; clones share the connection.
#[derive(Clone, Debug)]
pub struct GuardDb {
    connection: Arc<Mutex<Connection>>,
    place: Place,
    /// How writing goes, for those who ask whether all is well.
    writing: Option<Arc<Writing>>,
}

/// Beats with every write.
#[derive(Debug)]
struct Writing {
    pulse: Pulse,
    clock: Arc<dyn Clock>,
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
        write_ahead(&connection).map_err(translate)?;
        connection.execute_batch("PRAGMA foreign_keys=ON;").map_err(translate)?;
        migrate(&mut connection)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), place, writing: None })
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
        if let Some(writing) = &self.writing {
            writing.pulse.begin(&*writing.clock);
        }
        let written = self
            .on_connection(|connection| {
                let transaction = connection
                    .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
                    .map_err(translate)?;
                let value = work(&transaction).map_err(translate)?;
                transaction.commit().map_err(translate)?;
                Ok(value)
            })
            .await;
        if let Some(writing) = &self.writing {
            let error = written.as_ref().err().map(StorageError::to_string);
            writing.pulse.end(&*writing.clock, error);
        }
        written
    }

    /// The same database, with a pulse: it beats with every write and says how the last one went.
    /// The loops' signs of life are writes, so that it never stays silent for long.
    #[must_use]
    pub fn with_pulse(mut self, clock: Arc<dyn Clock>) -> (Self, watch::Receiver<Beat>) {
        let pulse = Pulse::default();
        let beat = pulse.subscribe();
        self.writing = Some(Arc::new(Writing { pulse, clock }));
        (self, beat)
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

/// Applies what is missing, each version in a transaction of its own. Two processes may do so at
/// once (a daemon and `lookout status` on a fresh machine): each looks again under the write lock.
/// A database that is up to date is only read, so that a full disk hides nothing from anybody.
fn migrate(connection: &mut Connection) -> Result<(), StorageError> {
    while version(connection)? < MIGRATIONS.len() {
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(translate)?;
        let version = version(&transaction)?;
        let Some(sql) = MIGRATIONS.get(version) else { return Ok(()) };
        transaction.execute_batch(sql).map_err(translate)?;
        transaction.pragma_update(None, "user_version", version as u32 + 1).map_err(translate)?;
        transaction.commit().map_err(translate)?;
    }
    Ok(())
}

fn version(connection: &Connection) -> Result<usize, StorageError> {
    let version: u32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(translate)?;
    let (version, n_known) = (version as usize, MIGRATIONS.len());
    if version > n_known {
        return Err(StorageError::Unreadable(format!(
            "it was written by a newer Lookout (schema {version}, this one knows {n_known}); \
             start that version, or move the file away"
        )));
    }
    Ok(version)
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn many_processes_may_open_a_new_database_at_once() {
        for _ in 0..20 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("guard.db");
            let together = Barrier::new(8);
            std::thread::scope(|scope| {
                let open = || {
                    together.wait();
                    GuardDb::open(&path).map(drop)
                };
                let openers: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
                for opener in openers {
                    assert_eq!(opener.join().unwrap(), Ok(()));
                }
            });
        }
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guard.db");
        drop(GuardDb::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = GuardDb::open(&path).unwrap_err().to_string();
        assert!(error.contains("newer Lookout") && error.contains("start that version"), "{error}");
    }
}
