//! How a durable store fails, as far as anybody decides by it.
//!
//! A leaf: ports return it, adapters make it, loops match on it. It says nothing of SQL; the one
//! thing that every SQLite file of ours has in common, its journal, is set here.

use rusqlite::{Connection, ErrorCode, Result};
use thiserror::Error;

/// Each attempt that fails means that another process has just moved on; a handful opens at once.
const SWITCHES: u32 = 100;

/// Why a row could not be read or written.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum StorageError {
    /// No space, a read-only file system, an I/O error: nothing can be recorded until somebody
    /// acts, so no run may be started; what people must know is told from memory.
    #[error("the state directory can't be written: {0}")]
    Unwritable(String),
    /// Another process holds the database longer than we wait: try again.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// The file is not a database we understand (damaged, or from a newer version).
    #[error("the database can't be read: {0}")]
    Unreadable(String),
}

/// Gives the file a write-ahead log that is safe from power cuts. SQLite waits for other processes
/// everywhere but in this step (its busy handler is not asked): while another one is at it, this
/// waits for that one's lock and looks again.
///
/// # Errors
/// What SQLite says, among it that the file was busy for longer than the connection's time limit.
pub fn write_ahead(connection: &Connection) -> Result<()> {
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
