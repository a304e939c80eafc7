//! One daemon a state directory: a lock that the kernel gives back when the process dies.
//!
//! Invariant: whoever holds a [`StateLock`] is the only one that plans, claims and judges.

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

/// The lock; given back when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Why the lock could not be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error(
        "another Lookout (pid {pid}) is already using {directory}; stop it first, or give this one a [service] state_dir of its own"
    )]
    Held {
        /// Whose it is, as far as the file says.
        pid: String,
        /// The state directory.
        directory: PathBuf,
    },
    /// The directory can't be used.
    #[error(
        "can't use the state directory {directory}: {source}; create it and let this user write to it"
    )]
    Unusable {
        /// The state directory.
        directory: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl LockError {
    /// Whether another daemon is there.
    #[must_use]
    pub fn is_held(&self) -> bool {
        match self {
            Self::Held { .. } => true,
            Self::Unusable { .. } => false,
        }
    }
}

impl StateLock {
    /// Takes the lock of a state directory, which is created if it is not there.
    ///
    /// # Errors
    /// When another process holds it, or the directory can't be used.
    pub fn take(state_dir: &Path) -> Result<Self, LockError> {
        let unusable = |source| LockError::Unusable { directory: state_dir.to_owned(), source };
        std::fs::create_dir_all(state_dir).map_err(unusable)?;
        let path = state_dir.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(unusable)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let pid = std::fs::read_to_string(&path).unwrap_or_default();
            let pid = if pid.trim().is_empty() { "unknown" } else { pid.trim() }.to_owned();
            return Err(LockError::Held { pid, directory: state_dir.to_owned() });
        }
        // The pid is for the error message of the next one only; the lock is what counts.
        file.set_len(0).map_err(unusable)?;
        file.rewind().map_err(unusable)?;
        writeln!(file, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateLock::take(directory.path()).unwrap();
        let error = StateLock::take(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        StateLock::take(directory.path()).unwrap();
    }
}
