//! How a durable store fails, as far as anybody decides by it.
//!
//! Ports return it, adapters make it, loops match on it. It says nothing of what the store is:
//! what is particular to SQLite is [`crate::sqlite`]'s.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use thiserror::Error;

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

/// Makes a folder for state, and those above it, for this user alone; one that is there stays as it is.
///
/// # Errors
/// When it can't be made.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
