//! One daemon a state directory: a lock that the kernel gives back when the process dies.
//!
//! Invariant: whoever holds a [`StateLock`] is the only one that plans, claims and judges.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// How often a lock is asked for while only [`is_held`] has it: that holds it for microseconds.
const ATTEMPTS: u32 = 1_000;

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
        source: io::Error,
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
        if !is_taken(&file).map_err(unusable)? {
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

/// Takes the lock; `false`: another process has it. A shared lock is no daemon's, but of somebody
/// who looks whether there is one, and is gone a moment later.
fn is_taken(file: &File) -> io::Result<bool> {
    for _ in 0..ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        match file.try_lock_shared() {
            Ok(()) => std::thread::yield_now(),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => return Ok(false),
        }
    }
    Ok(false)
}

/// Whether a daemon has the lock of this state directory right now. Nothing is made or changed.
#[must_use]
pub fn is_held(state_dir: &Path) -> bool {
    let Ok(file) = File::open(state_dir.join("lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_for_a_daemon_makes_nothing_and_keeps_none_from_starting() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_held(directory.path()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        drop(StateLock::take(directory.path()).unwrap());
        let path = directory.path().to_owned();
        let looking = std::thread::spawn(move || (0..2_000).filter(|_| is_held(&path)).count());
        for _ in 0..200 {
            StateLock::take(directory.path()).unwrap();
        }
        looking.join().unwrap();
    }

    #[test]
    fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateLock::take(directory.path()).unwrap();
        let error = StateLock::take(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        assert!(is_held(directory.path()));
        drop(first);
        assert!(!is_held(directory.path()));
        StateLock::take(directory.path()).unwrap();
    }
}
