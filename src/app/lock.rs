//! One daemon a state directory: a lock that the kernel gives back when the process dies.
//!
//! The directory must be ours: whoever else may write to it decides what runs as this user.
//! Invariant: whoever holds a [`StateLock`] is the only one that plans, claims and judges.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use thiserror::Error;

use crate::storage::private_folder;

/// How often a lock is asked for while only [`is_held`] has it: that holds it for microseconds.
const ATTEMPTS: u32 = 1_000;

/// What is opened by name in the state directory: a link would have us write somewhere else.
const OWN: [&str; 5] = ["guard.db", "guard.db-wal", "guard.db-shm", "review.db", "runs"];

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
    /// The file system has no locks, or too many are held.
    #[error(
        "can't lock the state directory {directory}: {source}; give [service] state_dir a folder on a file system that has locks"
    )]
    NoLocks {
        /// The state directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else could make us write, or run, what they like.
    #[error("the state directory {directory} is not safe to use: {why}")]
    Unsafe {
        /// The state directory.
        directory: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
}

impl LockError {
    /// Whether another daemon is there.
    #[must_use]
    pub fn is_held(&self) -> bool {
        match self {
            Self::Held { .. } => true,
            Self::Unusable { .. } | Self::NoLocks { .. } | Self::Unsafe { .. } => false,
        }
    }
}

impl StateLock {
    /// Takes the lock of a state directory, which is created if it is not there.
    ///
    /// # Errors
    /// When another process holds it, or the directory can't be used or is not ours alone.
    pub fn take(state_dir: &Path) -> Result<Self, LockError> {
        let directory = || state_dir.to_owned();
        let unusable = |source| LockError::Unusable { directory: directory(), source };
        private_folder(state_dir).map_err(unusable)?;
        let path = state_dir.join("lock");
        if let Some(why) = danger(state_dir).map_err(unusable)? {
            // Who asks a daemon of another user for a run needs its lock only to see that it is there.
            if is_held(state_dir) {
                return Err(held(state_dir));
            }
            return Err(LockError::Unsafe { directory: directory(), why });
        }
        let mut file = open(OpenOptions::new().create(true), &path).map_err(unusable)?;
        match is_taken(&file) {
            Ok(true) => {}
            Ok(false) => return Err(held(state_dir)),
            Err(source) => return Err(LockError::NoLocks { directory: directory(), source }),
        }
        // The pid is for the error message of the next one only; the lock is what counts.
        file.set_len(0).map_err(unusable)?;
        file.rewind().map_err(unusable)?;
        writeln!(file, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let no_links = OFlags::NOFOLLOW.bits().cast_signed();
    options.truncate(false).read(true).write(true).mode(0o600).custom_flags(no_links).open(path)
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
    let path = state_dir.join("lock");
    let no_links = OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(no_links).open(path);
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn held(state_dir: &Path) -> LockError {
    let pid = std::fs::read_to_string(state_dir.join("lock")).unwrap_or_default();
    let pid = if pid.trim().is_empty() { "unknown" } else { pid.trim() }.to_owned();
    LockError::Held { pid, directory: state_dir.to_owned() }
}

/// Why the directory is not ours alone. Rights that earlier versions left to others are taken away.
fn danger(state_dir: &Path) -> io::Result<Option<String>> {
    let found = state_dir.metadata()?;
    let us = geteuid().as_raw();
    if found.uid() != us {
        return Ok(Some(format!(
            "it belongs to the user with id {}, and this is {us}; run lookout as that user, or give \
             this one a [service] state_dir of its own",
            found.uid()
        )));
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Ok(Some(format!(
            "every user can write to it (mode {mode:04o}); if nobody has, run: chmod 700 {}",
            state_dir.display()
        )));
    }
    for name in OWN.iter().chain(&["lock"]) {
        let path = state_dir.join(name);
        if path.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
            return Ok(Some(format!(
                "{} is a link; take it away, or set [service] state_dir to the folder that is meant",
                path.display()
            )));
        }
    }
    if mode & 0o007 != 0 {
        std::fs::set_permissions(state_dir, Permissions::from_mode(mode & !0o007))?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

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
        let error = StateLock::take(directory.path()).unwrap_err();
        assert!(error.is_held() && is_held(directory.path()));
        let error = error.to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        StateLock::take(directory.path()).unwrap();
    }

    #[test]
    fn a_new_state_directory_is_its_owners_alone_and_an_older_one_becomes_so() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("new/state");
        drop(StateLock::take(&state).unwrap());
        assert_eq!((mode(&state), mode(&state.join("lock"))), (0o700, 0o600));
        std::fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
        drop(StateLock::take(&state).unwrap());
        assert_eq!(mode(&state), 0o750, "a group may be meant to look");
    }

    #[test]
    fn a_state_directory_that_every_user_can_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o777, 0o1777, 0o702] {
            std::fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
            let error = StateLock::take(directory.path()).unwrap_err();
            assert!(matches!(error, LockError::Unsafe { .. }), "{error}");
            assert!(!directory.path().join("lock").exists(), "nothing was written");
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_file_of_ours_is_not_followed() {
        for name in OWN.iter().chain(&["lock"]) {
            let directory = tempfile::tempdir().unwrap();
            let victim = directory.path().join("victim");
            std::fs::write(&victim, "precious").unwrap();
            std::os::unix::fs::symlink(&victim, directory.path().join(name)).unwrap();
            let error = StateLock::take(directory.path()).unwrap_err();
            assert!(matches!(error, LockError::Unsafe { .. }), "{name}: {error}");
            assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        }
    }
}
