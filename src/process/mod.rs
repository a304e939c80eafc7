//! Processes, recognised and found by `/proc`.
//!
//! A pid alone is no identity: it is reused, and after a reboot it means nothing. Start time and
//! boot id make it one. A run's processes carry `LOOKOUT_RUN_ID` in their environment, so that
//! the tree of a keeper that died can still be found.
//! Invariant: nothing is signalled here that was not recognised just before.

pub mod cgroup;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process that can be recognised again after pid reuse and reboots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`, clock ticks since boot.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// The variable that marks a run's processes.
pub const RUN_ID_VARIABLE: &str = "LOOKOUT_RUN_ID";

/// What `/proc/PID/stat` says, as far as we need it.
#[derive(Clone, Copy, Debug)]
struct Stat {
    parent: i32,
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
    // A shell that is signalled after its child takes that for a failure of the child.
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

/// Those that read their standard input from another one of them, through a pipe, and the others.
#[must_use]
pub fn split_by_input(
    processes: Vec<ProcessIdentity>,
) -> (Vec<ProcessIdentity>, Vec<ProcessIdentity>) {
    let written: Vec<(i32, PathBuf)> = processes
        .iter()
        .flat_map(|process| pipes_written_by(process.pid).map(|pipe| (process.pid, pipe)))
        .collect();
    processes.into_iter().partition(|process| {
        fs::read_link(format!("/proc/{}/fd/0", process.pid)).is_ok_and(|input| {
            written.iter().any(|(writer, pipe)| *writer != process.pid && *pipe == input)
        })
    })
}

/// The pipes that a process may write to, as `/proc/PID/fd` names them: `pipe:[4711]`.
fn pipes_written_by(pid: i32) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    entries.filter_map(move |entry| {
        let entry = entry.ok()?;
        let pipe = fs::read_link(entry.path()).ok()?;
        let info = Path::new("/proc").join(pid.to_string()).join("fdinfo").join(entry.file_name());
        let is_pipe = pipe.as_os_str().as_encoded_bytes().starts_with(b"pipe:");
        (is_pipe && is_for_writing(&fs::read_to_string(info).ok()?)).then_some(pipe)
    })
}

/// `proc_pid_fdinfo(5)`: `flags:` in octal; its last two bits are the access mode of `open(2)`.
fn is_for_writing(fdinfo: &str) -> bool {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & 3 != 0)
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
        assert_eq!((stat.parent, stat.start_ticks), (7, 4711));
        assert!(stat.is_alive);
        assert!(parse_stat(b"garbage").is_none());
    }

    #[test]
    fn a_process_that_reads_from_another_one_is_known_by_its_pipe() {
        let mut source = waiting_process("process-test-input");
        let input = Stdio::from(source.stdout.take().unwrap());
        let mut reader = Command::new("cat").stdin(input).stdout(Stdio::null()).spawn().unwrap();
        let identity = |child: &Child| identity_of(pid_of(child)).unwrap();
        let (source_id, reader_id) = (identity(&source), identity(&reader));
        let split = split_by_input(vec![source_id.clone(), reader_id.clone()]);
        assert_eq!(split, (vec![reader_id.clone()], vec![source_id]));
        // Who writes to it is none of those that are asked for.
        assert_eq!(split_by_input(vec![reader_id.clone()]), (vec![], vec![reader_id]));
        drop(source.stdin.take());
        source.wait().unwrap();
        reader.wait().unwrap();
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
