//! How many files and sockets the daemon may have open.
//!
//! Invariant: connections never take more than half of it, so that a run can always be started.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Enough for hundreds of runs at once. Jobs inherit the limit, and some old programs go through every
/// number below it when they start, so a hard limit of a thousand million is not taken up.
const MAX_OPEN: u64 = 65_536;

/// What is assumed where the system sets no limit.
const UNLIMITED: u64 = MAX_OPEN;

/// Files and sockets that are no connection's: databases, logs, and for each run that starts the
/// keeper's pipes and files.
const RESERVED: u64 = 256;

/// More connections than a machine's people and probes need; each costs about 100 kB.
const MAX_CONNECTIONS: u64 = 512;

/// One browser has six.
const MIN_CONNECTIONS: u64 = 8;

/// Raises the soft limit to the hard one, as the shell's usual 1,024 are for programs that do not ask.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(UNLIMITED).min(MAX_OPEN);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// How many connections the pages may have.
pub(super) fn connections() -> usize {
    connections_within(getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED))
}

fn connections_within(open: u64) -> usize {
    let most = (open.saturating_sub(RESERVED) / 2).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS);
    usize::try_from(most).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_more_than_half_of_the_descriptors_to_runs() {
        for (open, connections) in [(64, 8), (512, 128), (1024, 384), (65_536, 512)] {
            assert_eq!(connections_within(open), connections, "{open}");
        }
    }
}
