//! A control group for one run's job, where the kernel and our rights allow one (cgroup v2, Linux 5.14).
//!
//! Nothing that a process does takes it out of its group: not `setsid`, not another parent, not an
//! emptied environment. So the end of a run is one write to `cgroup.kill`. Where there is none, the
//! tree is found by parents and by environment, as [`super`] does it.
//! Invariant: the keeper is in the group only while it starts the job, and a group that it could not
//! leave is never killed by it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{ProcessIdentity, identity_of};

/// The group of one run.
#[derive(Clone, Debug)]
pub struct RunCgroup {
    path: PathBuf,
}

impl RunCgroup {
    /// Makes one below the group that we are in; `None` where that can't be.
    #[must_use]
    pub fn make(run: &str) -> Option<Self> {
        let path = own_group()?.join(format!("lookout-{run}"));
        fs::create_dir(&path).ok()?;
        let group = Self { path };
        if group.path.join("cgroup.kill").exists() {
            return Some(group);
        }
        group.remove();
        None
    }

    /// The one that a keeper noted in this file.
    #[must_use]
    pub fn noted_in(file: &Path) -> Option<Self> {
        let path = PathBuf::from(fs::read_to_string(file).ok()?);
        path.join("cgroup.procs").exists().then_some(Self { path })
    }

    /// Notes it in a file of the run, for whoever finds the keeper dead.
    pub fn note_in(&self, file: &Path) {
        // On a full disk the run is swept without it.
        let _ = fs::write(file, self.path.as_os_str().as_encoded_bytes());
    }

    /// Starts something inside: a child is born into its parent's group, so that nothing can slip out
    /// before it is put there.
    ///
    /// # Errors
    /// Those of `start`.
    pub fn start_in<T>(&self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let own = std::process::id().to_string();
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let entered = fs::write(self.path.join("cgroup.procs"), &own);
        let started = start();
        if entered.is_ok()
            && let Err(error) = fs::write(parent.join("cgroup.procs"), &own)
        {
            tracing::warn!(%error, "the keeper can't leave its job's control group");
        }
        started
    }

    /// Living processes inside, ourselves left out.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessIdentity> {
        let own = rustix::process::getpid().as_raw_pid();
        let pids = self.pids();
        pids.into_iter().filter(|pid| *pid != own).filter_map(identity_of).collect()
    }

    /// Kills everything inside at once, also what is being born; unless we are inside ourselves.
    pub fn kill(&self) {
        let own = rustix::process::getpid().as_raw_pid();
        if !self.pids().contains(&own) {
            // An error means that it is gone, which is what we are after.
            let _ = fs::write(self.path.join("cgroup.kill"), "1");
        }
    }

    /// Removes it, if it is empty.
    pub fn remove(&self) {
        // One that is left behind holds nothing and costs some kilobytes until the next boot.
        let _ = fs::remove_dir(&self.path);
    }

    fn pids(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }
}

/// Where our own group is in the file system.
fn own_group() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    locate(&mounts, &groups)
}

/// `proc_pid_mountinfo(5)`: `… root mount-point … - cgroup2 …`; `cgroups(7)`: `0::/path`.
fn locate(mounts: &str, groups: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Outside of what this namespace shows.
    if own.contains("..") {
        return None;
    }
    mounts.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        if !kind.starts_with("cgroup2 ") {
            return None;
        }
        let mut fields = fields.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        let below = own.strip_prefix(root.trim_end_matches('/'))?;
        Some(Path::new(mount_point).join(below.trim_start_matches('/')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_group_is_found_wherever_it_is_mounted() {
        let unified = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let found = |mounts: &str, groups: &str| locate(mounts, groups);
        assert_eq!(
            found(unified, "0::/system.slice/lookout.service\n"),
            Some(PathBuf::from("/sys/fs/cgroup/system.slice/lookout.service"))
        );
        let hybrid = "31 24 0:5 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      42 24 0:6 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            found(hybrid, "4:cpu:/x\n0::/\n"),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        let container = "50 40 0:6 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(found(container, "0::/docker/abc/x\n"), Some("/sys/fs/cgroup/x".into()));
        assert_eq!(found(container, "0::/elsewhere\n"), None);
        assert_eq!(found(unified, "0::/../other\n"), None);
        assert_eq!(found("", "0::/\n"), None);
    }
}
