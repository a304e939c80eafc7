//! The SQLite files of our own: opened, migrated, used off the runtime, their errors translated.
//!
//! What stands in the tables is their owners' business ([`crate::store`] and the review's tries);
//! how a store fails, as far as anybody decides by it, is [`crate::storage`]'s.
//! Invariant: before the tables of a file change, a copy of it as it was lies beside it, and either
//! all missing migrations are applied or none. What a migration takes out for good is in neither.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::storage::StorageError;

/// Each attempt that fails means that another process has just moved on; a handful opens at once.
const SWITCHES: u32 = 100;

/// The owner's work on rows that must not survive as they are.
pub type Purge<'a> = dyn Fn(&Connection) -> rusqlite::Result<()> + 'a;

/// `application_id` of a file that is yet to be written anew ([`Migration::Compact`]), and of all
/// others: SQLite's own default.
const NOT_COMPACTED: i32 = 1;
const COMPACTED: i32 = 0;

/// Rows, reasons and addresses are nobody else's business.
const OWNER_ONLY: u32 = 0o600;

/// A step from one version of a file to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migration {
    /// These statements.
    Sql(&'static str),
    /// The owner's own work on rows that must not survive as they are, not even in the copy that is
    /// kept. It must do with a file of any earlier version.
    Purge,
    /// The file is written anew, so that nothing of what was taken out is left in free pages or in
    /// the write-ahead log.
    Compact,
}

/// A file of ours and how its tables came to be.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Its name, for messages.
    pub file: &'static str,
    /// One entry a version; entries are never changed, only appended.
    pub migrations: &'static [Migration],
    /// How long a write waits for another process's.
    pub busy_timeout: Duration,
}

/// An open file; clones share its connection.
#[derive(Clone, Debug)]
pub struct Database {
    connection: Arc<Mutex<Connection>>,
    file: &'static str,
    place: Place,
}

/// Where the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Disk,
    Memory,
}

impl Database {
    /// Opens or creates the file and brings its tables up to date. A file that is new belongs to
    /// its owner alone; SQLite gives its companions the same rights.
    ///
    /// # Errors
    /// When the file can't be opened, copied or written, or is from a newer version.
    pub fn open(path: &Path, schema: &Schema) -> Result<Self, StorageError> {
        Self::open_purging(path, schema, &|_| Ok(()))
    }

    /// As [`Database::open`], with the work of [`Migration::Purge`].
    ///
    /// # Errors
    /// The same.
    pub fn open_purging(
        path: &Path,
        schema: &Schema,
        purge: &Purge<'_>,
    ) -> Result<Self, StorageError> {
        create_private(path)
            .map_err(|error| StorageError::Unwritable(format!("{}: {error}", path.display())))?;
        let connection = Connection::open(path).map_err(|error| translate(schema.file, &error))?;
        let mut connection = prepare(connection, schema)?;
        migrate(&mut connection, Some(path), schema, purge)?;
        compact(&connection, schema)?;
        Ok(Self::of(connection, schema, Place::Disk))
    }

    /// A database that is gone with its last handle.
    ///
    /// # Errors
    /// When SQLite can't allocate it.
    pub fn in_memory(schema: &Schema) -> Result<Self, StorageError> {
        let connection =
            Connection::open_in_memory().map_err(|error| translate(schema.file, &error))?;
        let mut connection = prepare(connection, schema)?;
        migrate(&mut connection, None, schema, &|_| Ok(()))?;
        compact(&connection, schema)?;
        Ok(Self::of(connection, schema, Place::Memory))
    }

    fn of(connection: Connection, schema: &Schema, place: Place) -> Self {
        Self { connection: Arc::new(Mutex::new(connection)), file: schema.file, place }
    }

    /// Runs `work` in one transaction off the runtime; it is committed if `work` returns `Ok`.
    ///
    /// # Errors
    /// What SQLite says, as a [`StorageError`].
    pub async fn transact<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.on_connection(|connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }

    /// Runs `work` in one transaction that only reads, off the runtime. It works while the disk is
    /// full or read-only, when [`Database::transact`] does not.
    ///
    /// # Errors
    /// What SQLite says, as a [`StorageError`].
    pub async fn read<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.on_connection(|connection| work(&connection.transaction()?)).await
    }

    /// Runs `work` here and now, for what is done once before there is a runtime to wait on.
    ///
    /// # Errors
    /// What SQLite says, as a [`StorageError`].
    pub fn now<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StorageError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        work(&connection).map_err(|error| translate(self.file, &error))
    }

    async fn on_connection<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let file = self.file;
        let call = move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection).map_err(|error| translate(file, &error))
        };
        match self.place {
            // Nothing to wait for, and a simulated month has a million calls.
            Place::Memory => call(),
            Place::Disk => tokio::task::spawn_blocking(call).await.map_err(|error| {
                StorageError::Unreadable(format!("{file}: a database call panicked: {error}"))
            })?,
        }
    }
}

fn prepare(connection: Connection, schema: &Schema) -> Result<Connection, StorageError> {
    let set_up = || {
        connection.busy_timeout(schema.busy_timeout)?;
        write_ahead(&connection)?;
        connection.execute_batch("PRAGMA foreign_keys=ON;")
    };
    set_up().map_err(|error| translate(schema.file, &error))?;
    Ok(connection)
}

/// Makes an empty file for its owner alone. One that is there keeps the rights that somebody may have
/// given it on purpose; what else is wrong with the place is said by SQLite.
///
/// # Errors
/// When there is no file and none can be made.
pub fn create_private(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Gives the file a write-ahead log that is safe from power cuts. SQLite waits for other processes
/// everywhere but in this step (its busy handler is not asked): while another one is at it, this
/// waits for that one's lock and looks again.
///
/// # Errors
/// What SQLite says, among it that the file was busy for longer than the connection's time limit.
pub fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let switch = || connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;");
    for _ in 0..SWITCHES {
        match switch() {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                connection.execute_batch("BEGIN IMMEDIATE; COMMIT;")?;
            }
            done => return done,
        }
    }
    switch()
}

/// Applies what is missing in one transaction, after a copy was made. Two processes may do so at
/// once (a daemon and `lookout status`): each looks again under the write lock. A file that is up
/// to date is only read, so that a full disk hides nothing from anybody.
fn migrate(
    connection: &mut Connection,
    path: Option<&Path>,
    schema: &Schema,
    purge: &Purge<'_>,
) -> Result<(), StorageError> {
    let failed = |error: rusqlite::Error| translate(schema.file, &error);
    let newest = schema.migrations.len();
    let changes_tables = |missing: &[Migration]| missing.iter().any(|it| *it != Migration::Compact);
    if !changes_tables(schema.migrations.get(version(connection, schema)?..).unwrap_or_default()) {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let from = version(&transaction, schema)?;
    let missing = schema.migrations.get(from..).unwrap_or_default();
    if !changes_tables(missing) {
        return Ok(());
    }
    // A file without tables has nothing to lose.
    let copy = match path {
        Some(path) if from > 0 => {
            let purge = missing.contains(&Migration::Purge).then_some(purge);
            Some(keep_copy(path, newest, schema, purge)?)
        }
        Some(_) | None => None,
    };
    for migration in missing {
        match migration {
            Migration::Sql(sql) => transaction.execute_batch(sql),
            Migration::Purge => purge(&transaction),
            Migration::Compact => Ok(()),
        }
        .map_err(failed)?;
    }
    if from > 0 && missing.contains(&Migration::Compact) {
        // It stays so until that is done, also if this process dies before.
        transaction.pragma_update(None, "application_id", NOT_COMPACTED).map_err(failed)?;
    }
    transaction.pragma_update(None, "user_version", newest as u32).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    if let Some(copy) = copy {
        tracing::info!(
            file = schema.file,
            from,
            to = newest,
            copy = %copy.display(),
            "migrated the database; a copy of the old file is kept, delete it when you no longer \
             need to go back to the earlier version"
        );
    }
    Ok(())
}

/// Writes the file anew, if that is still to be done. That it can't be done now stops nobody: the
/// next one who opens the file does it.
fn compact(connection: &Connection, schema: &Schema) -> Result<(), StorageError> {
    let is_due: i32 = connection
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(|error| translate(schema.file, &error))?;
    if is_due != NOT_COMPACTED {
        return Ok(());
    }
    if let Err(error) = write_anew(connection) {
        tracing::warn!(
            file = schema.file,
            %error,
            "the database still holds what its migration took out; it is written anew when it is \
             opened next"
        );
    }
    Ok(())
}

fn write_anew(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("VACUUM;")?;
    // First, so that the log is not begun anew after it was emptied.
    connection.pragma_update(None, "application_id", COMPACTED)?;
    let is_busy: bool =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_busy {
        connection.pragma_update(None, "application_id", NOT_COMPACTED)?;
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(busy, None));
    }
    Ok(())
}

fn version(connection: &Connection, schema: &Schema) -> Result<usize, StorageError> {
    let version: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| translate(schema.file, &error))?;
    let (version, n_known) = (version as usize, schema.migrations.len());
    if version > n_known {
        return Err(StorageError::Unreadable(format!(
            "{} was written by a newer Lookout (schema {version}, this one knows {n_known}); \
             start that version, or move the file away",
            schema.file
        )));
    }
    Ok(version)
}

/// Writes the file as it is, its write-ahead log included, to `<file>.before-schema-<to>` beside
/// it. The caller holds the write lock, so that nothing is added meanwhile.
fn keep_copy(
    path: &Path,
    to: usize,
    schema: &Schema,
    purge: Option<&Purge<'_>>,
) -> Result<PathBuf, StorageError> {
    let copy = beside(path, &format!(".before-schema-{to}"));
    let unfinished = beside(&copy, ".new");
    let failed = |error: std::io::Error| {
        StorageError::Unwritable(format!(
            "{} was not migrated, because no copy of it could be kept at {}: {error}",
            schema.file,
            copy.display()
        ))
    };
    match fs::remove_file(&unfinished) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // `VACUUM INTO` takes an empty file as it is, with its rights.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(&unfinished)
        .map_err(failed)?;
    let name = unfinished.to_str().ok_or_else(|| failed(ErrorKind::InvalidFilename.into()))?;
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|reader| {
            reader.busy_timeout(schema.busy_timeout)?;
            reader.execute("VACUUM INTO ?1", [name])?;
            let Some(purge) = purge else { return Ok(()) };
            let copy = Connection::open(&unfinished)?;
            purge(&copy)?;
            copy.execute_batch("VACUUM;")
        })
        .map_err(|error| failed(std::io::Error::other(error)))?;
    let sync = |path: &Path| File::open(path)?.sync_all();
    sync(&unfinished).map_err(failed)?;
    fs::rename(&unfinished, &copy).map_err(failed)?;
    copy.parent().map_or(Ok(()), sync).map_err(failed)?;
    Ok(copy)
}

/// The path with something added to its last part.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(ending);
    PathBuf::from(name)
}

/// SQLite's error as far as anybody decides by it; `file` is named in its text.
#[must_use]
pub fn translate(file: &str, error: &rusqlite::Error) -> StorageError {
    let text = format!("{file}: {error}");
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
mod tests;
