//! Who holds claims: a process that can be told dead from alive, also after a reboot.
//!
//! Each review holds a lock on a file of its own for as long as it lives; the kernel frees it
//! however the process ends, and it works across containers that share the state directory, where
//! a pid means nothing. Pid, start time and boot id are kept for people, and because a reboot is no
//! image's fault.
//! Invariant: a file that is gone or whose lock is free belongs to no live process.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use uuid::Uuid;

use crate::process;

/// Below the state directory.
const FOLDER: &str = "reviews";

/// This process, as it stands in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) machine: String,
    pub(super) boot_id: String,
    pub(super) pid: i32,
    pub(super) start_ticks: i64,
}

impl Identity {
    /// Reads `/proc`; what can't be read stays empty, since the lock decides.
    pub(super) fn of_this_process() -> Self {
        let process = process::own_identity();
        let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let mut machine = machine.trim().to_owned();
        if machine.is_empty() {
            machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        }
        Self {
            machine,
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            start_ticks: process.as_ref().map_or(0, |it| it.start_ticks.cast_signed()),
            boot_id: process.map(|it| it.boot_id).unwrap_or_default(),
        }
    }
}

/// The lock that says that this process lives.
#[derive(Debug)]
pub(super) struct LivenessLock {
    /// Held, never read: closing it frees the lock.
    _file: File,
    path: PathBuf,
    pub(super) name: String,
}

impl LivenessLock {
    /// Makes and locks a file of its own.
    pub(super) fn begin(state_dir: &Path) -> Result<Self> {
        let folder = state_dir.join(FOLDER);
        fs::create_dir_all(&folder)
            .with_context(|| format!("the folder {} can't be made", folder.display()))?;
        let name = format!("{}.lock", Uuid::now_v7());
        let path = folder.join(&name);
        let file = File::create_new(&path)
            .with_context(|| format!("the lock file {} can't be made", path.display()))?;
        file.try_lock().with_context(|| {
            format!("{} can't be locked: does its file system know locks?", path.display())
        })?;
        Ok(Self { _file: file, path, name })
    }
}

impl Drop for LivenessLock {
    fn drop(&mut self) {
        // A file that stays is found free and removed by the next review.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the process that holds this lock file is alive. In doubt it is.
pub(super) fn is_alive(state_dir: &Path, name: &str) -> bool {
    let Ok(file) = File::open(state_dir.join(FOLDER).join(name)) else { return false };
    match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => true,
    }
}

/// Removes what a dead process has left.
pub(super) fn remove_lock(state_dir: &Path, name: &str) {
    // If it can't be removed, it is an empty file that no row of `holders` names.
    let _ = fs::remove_file(state_dir.join(FOLDER).join(name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_says_who_is_alive() {
        let folder = tempfile::tempdir().unwrap();
        let lock = LivenessLock::begin(folder.path()).unwrap();
        let name = lock.name.clone();
        assert!(is_alive(folder.path(), &name));
        drop(lock);
        assert!(!is_alive(folder.path(), &name));
    }

    #[test]
    fn this_process_has_an_identity() {
        let identity = Identity::of_this_process();
        assert!(!identity.machine.is_empty());
        assert!(!identity.boot_id.is_empty());
        assert!(identity.start_ticks > 0);
    }
}
