//! Processes, recognised and found by `/proc`.
//!
//! A pid alone is no identity: it is reused, and after a reboot it means nothing. Start time and
//! boot id make it one. A run's processes carry `LOOKOUT_RUN_ID` in their environment, so that
//! the tree of a keeper that died can still be found.
//! Invariant: nothing is signalled here that was not recognised just before.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use super::ProcessIdentity;

/// The variable that marks a run's processes.
pub const RUN_ID_VARIABLE: &str = "LOOKOUT_RUN_ID";

/// What `/proc/PID/stat` says, as far as we need it.
#[derive(Clone, Copy, Debug)]
struct Stat {
    parent: i32,
    group: i32,
    start_ticks: u64,
    /// A zombie has ended; it only waits for its parent to look.
    is_alive: bool,
}

/// The identity of a process that runs now; `None` if there is none (a zombie has ended).
#[must_use]
pub fn identity_of(pid: i32) -> Option<ProcessIdentity> {
    let stat = read_stat(pid).filter(|stat| stat.is_alive)?;
    Some(ProcessIdentity { pid, start_ticks: stat.start_ticks, boot_id: boot_id()? })
}

/// The identity of a child that was not waited for yet, also when it has ended.
#[must_use]
pub fn identity_of_child(pid: i32) -> Option<ProcessIdentity> {
    Some(ProcessIdentity { pid, start_ticks: read_stat(pid)?.start_ticks, boot_id: boot_id()? })
}

/// The identity of this process.
#[must_use]
pub fn own_identity() -> Option<ProcessIdentity> {
    identity_of(rustix::process::getpid().as_raw_pid())
}

/// Whether that very process still runs.
#[must_use]
pub fn is_same_process(identity: &ProcessIdentity) -> bool {
    identity_of(identity.pid).is_some_and(|now| now == *identity)
}

/// All living descendants of a process, itself not included, the oldest first; children that left its process
/// group or session are among them as long as their chain of parents leads here.
#[must_use]
pub fn descendants(pid: i32) -> Vec<ProcessIdentity> {
    let Some(boot_id) = boot_id() else { return Vec::new() };
    let stats: HashMap<i32, Stat> =
        all_pids().filter_map(|pid| Some((pid, read_stat(pid)?))).collect();
    let mut found = HashSet::from([pid]);
    // A child's pid may be smaller than its parent's: repeat until nothing is new.
    loop {
        let before = found.len();
        for (child, stat) in &stats {
            if found.contains(&stat.parent) {
                found.insert(*child);
            }
        }
        if found.len() == before {
            break;
        }
    }
    found.remove(&pid);
    let mut alive: Vec<ProcessIdentity> = found
        .into_iter()
        .filter_map(|pid| Some((pid, stats.get(&pid).filter(|stat| stat.is_alive)?)))
        .map(|(pid, stat)| ProcessIdentity {
            pid,
            start_ticks: stat.start_ticks,
            boot_id: boot_id.clone(),
        })
        .collect();
    // A shell that is told to go after its child takes that for its child's own failure.
    alive.sort_by_key(|process| (process.start_ticks, process.pid));
    alive
}

/// All living processes that carry this run's id in their environment, wherever their parents
/// went; our own process is left out. Finds the tree of a keeper that was killed. A process that
/// emptied its environment is found by its parents alone ([`descendants`]).
#[must_use]
pub fn processes_of_run(run_id: &str) -> Vec<ProcessIdentity> {
    let own = rustix::process::getpid().as_raw_pid();
    let marker = format!("{RUN_ID_VARIABLE}={run_id}");
    all_pids()
        .filter(|pid| *pid != own)
        .filter(|pid| {
            // Another user's environment can't be read, nor could we signal the process.
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|env| env.split(|b| *b == 0).any(|var| var == marker.as_bytes()))
        })
        .filter_map(identity_of)
        .collect()
}

/// The living processes of a process group.
#[must_use]
pub fn members_of_group(group: i32) -> Vec<ProcessIdentity> {
    all_pids()
        .filter(|pid| read_stat(*pid).is_some_and(|stat| stat.group == group && stat.is_alive))
        .filter_map(identity_of)
        .collect()
}

/// Signals each process that is still the one it was; says how many.
pub fn signal_all(processes: &[ProcessIdentity], signal: Signal) -> u32 {
    let mut n_signalled = 0;
    for process in processes.iter().filter(|process| is_same_process(process)) {
        let sent = Pid::from_raw(process.pid).map(|pid| kill_process(pid, signal));
        // An error means that it ended in between, which is what we are after.
        if matches!(sent, Some(Ok(()))) {
            n_signalled += 1;
        }
    }
    n_signalled
}

fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

fn read_stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// `proc_pid_stat(5)`. The second field is the program's name in parentheses and may hold anything,
/// spaces and parentheses included; so what counts begins after the last `)`.
fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let end_of_name = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(stat.get(end_of_name + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // fields[0] is field 3 (state).
    Some(Stat {
        is_alive: !matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::{Child, Command, Stdio};

    /// A process that says when it runs and ends with its standard input.
    fn waiting_process(run_id: &str) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", "echo up; read line"])
            .env(RUN_ID_VARIABLE, run_id)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        child
    }

    fn pid_of(child: &Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = b"42 (a) Z (b) S 7 8 9 0 -1 0 1 2 3 4 5 6 7 8 9 10 11 12 4711 13";
        let stat = parse_stat(stat).unwrap();
        assert_eq!((stat.parent, stat.group, stat.start_ticks), (7, 8, 4711));
        assert!(stat.is_alive);
        assert!(parse_stat(b"garbage").is_none());
    }

    #[test]
    fn a_process_that_ended_is_gone_even_before_its_parent_looks() {
        let mut child = waiting_process("process-test-1");
        let identity = identity_of(pid_of(&child)).unwrap();
        assert!(is_same_process(&identity));
        let of_another_boot = ProcessIdentity { boot_id: "other".into(), ..identity.clone() };
        assert!(!is_same_process(&of_another_boot));
        let reused = ProcessIdentity { start_ticks: identity.start_ticks + 1, ..identity.clone() };
        assert!(!is_same_process(&reused));
        assert_eq!(signal_all(&[reused], Signal::KILL), 0);
        assert_eq!(signal_all(std::slice::from_ref(&identity), Signal::KILL), 1);
        // End of file says that it is dead; it is a zombie until `wait`.
        child.stdout.as_mut().unwrap().read_to_end(&mut Vec::new()).unwrap();
        child.wait().unwrap();
        assert!(!is_same_process(&identity));
    }

    #[test]
    fn the_processes_of_a_run_are_found_by_parents_and_by_their_environment() {
        let run_id = format!("process-test-{}", std::process::id());
        let mut child = waiting_process(&run_id);
        let identity = identity_of(pid_of(&child)).unwrap();
        assert_eq!(processes_of_run(&run_id), vec![identity.clone()]);
        assert!(descendants(rustix::process::getpid().as_raw_pid()).contains(&identity));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(processes_of_run(&run_id), Vec::new());
    }
}
