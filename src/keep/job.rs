//! A command as a job: started in a process group of its own, read, wound down, stopped, swept.
//!
//! The keeper is the subreaper of everything below it, so that a child which left its group, its
//! session or its parent is still found. What the output means is [`super::output_observer`]'s business.
//! Invariant: the run is over when the main process is, or, once the job was asked to end, when its
//! tree is gone or has given the signal; nothing of the tree is left then.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, WaitStatus};
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::environment::{User, Variables, resolve, user};
use super::output_observer::OutputObserver;
use super::time_box::Due;
use crate::process::ProcessIdentity;
use crate::process::cgroup::RunCgroup;
use crate::process::{
    RUN_ID_VARIABLE, descendants, identity_of_child, processes_of_run, signal_all, split_by_input,
};
use crate::rundir::{Event, Order, Stream};

/// What is still in the pipe when the main process has ended is read in milliseconds; after this
/// time another process holds it open.
const DRAIN: Duration = Duration::from_secs(2);

/// A pipe as wide as an unprivileged process may have it (`/proc/sys/fs/pipe-max-size`): the job
/// waits for us less often.
const PIPE_BYTES: usize = 1024 * 1024;

/// A process that SIGKILL does not end within this time hangs in the kernel (a dead disk, NFS);
/// nobody can do more.
const UNKILLABLE_AFTER: Duration = Duration::from_secs(60);

/// How often a tree that is being killed is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How often a tree that finishes its work without its main process is checked. Long enough for
/// what has lost its input to have ended by itself.
const AWAIT_INTERVAL: Duration = Duration::from_millis(250);

/// A command whose words and variables are settled.
#[derive(Debug)]
pub(super) struct Prepared {
    program: String,
    arguments: Vec<String>,
    cwd: std::path::PathBuf,
    env: BTreeMap<String, String>,
    stop_signal: rustix::process::Signal,
    user: Option<User>,
}

/// A command as the order has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ordered<'a> {
    pub(super) argv: &'a [String],
    pub(super) cwd: &'a Path,
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) stop_signal: &'a str,
    pub(super) user: Option<&'a str>,
}

impl Prepared {
    /// Settles what can be known before the start.
    ///
    /// # Errors
    /// When it can't be started like this; for people.
    pub(super) fn new(ordered: Ordered<'_>, variables: &Variables) -> Result<Self, String> {
        let (program, arguments) =
            ordered.argv.split_first().ok_or("`argv` is empty: name a program")?;
        // Without this check the error of a missing directory reads like one of the program.
        if !ordered.cwd.is_dir() {
            return Err(format!("its directory `{}` does not exist", ordered.cwd.display()));
        }
        let env = ordered
            .env
            .iter()
            .map(|(name, value)| Ok((name.clone(), resolve(value, variables)?)))
            .collect::<Result<_, String>>()?;
        Ok(Self {
            program: program.clone(),
            arguments: arguments.to_vec(),
            cwd: ordered.cwd.to_owned(),
            env,
            stop_signal: stop_signal(ordered.stop_signal)?,
            user: ordered.user.map(user).transpose()?,
        })
    }

    /// Variables that only the job gets, for the redactor.
    pub(super) fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    fn command(&self, order: &Order, control: &Control) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(&self.cwd)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(user) = &self.user {
            // As root the standard library drops the supplementary groups along with it.
            command.uid(user.uid).gid(user.gid);
            command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
        }
        let time = |at: chrono::DateTime<chrono::Utc>| {
            at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        };
        command
            .envs(&self.env)
            .env(RUN_ID_VARIABLE, &order.run)
            .env("LOOKOUT_SCHEDULE", &order.schedule)
            .env("LOOKOUT_BOX_ENDS_AT", time(control.box_ends_at()))
            .env("LOOKOUT_GRACE_ENDS_AT", time(control.grace_ends_at()));
        command
    }
}

/// The job while it runs.
struct Job<'a> {
    order: &'a Order,
    observer: Arc<OutputObserver>,
    main: Pid,
    /// Holds the whole tree, where there is one.
    cgroup: Option<RunCgroup>,
    stop_signal: rustix::process::Signal,
    status: Option<WaitStatus>,
    child_ended: Signal,
    killed_at: Option<Duration>,
    /// Processes that the stop signal has not reached: they end with their input.
    unsignalled: Vec<ProcessIdentity>,
}

/// Runs the command to its end. Must be the only one in the process that waits for children.
pub(super) async fn run(
    order: &Order,
    prepared: &Prepared,
    observer: &Arc<OutputObserver>,
    control: &mut Control,
) {
    let started = start(order, prepared, observer, control);
    let (mut job, readers, stop_reading) = match started {
        Ok(started) => started,
        Err(error) => {
            // It may have failed after the process was there, and nobody would hold it.
            signal_all(&tree(&order.run, None), rustix::process::Signal::KILL);
            let error =
                observer.say(&format!("`{}` could not be started: {error}", prepared.program));
            observer.record(Event::CouldNotStart { error });
            return;
        }
    };
    job.hold(control).await;
    job.drain(readers, &stop_reading).await;
    job.sweep(control).await;
    if let Some(cgroup) = &job.cgroup {
        cgroup.remove();
    }
}

type Started<'a> = (Job<'a>, Vec<JoinHandle<()>>, CancellationToken);

fn start<'a>(
    order: &'a Order,
    prepared: &Prepared,
    observer: &Arc<OutputObserver>,
    control: &Control,
) -> std::io::Result<Started<'a>> {
    // Without it (not Linux, or forbidden) orphans are still found by their environment.
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        tracing::warn!(%error, "not a subreaper");
    }
    // Before the start, or a job that ends at once is never noticed.
    let child_ended = signal(SignalKind::child())?;
    let cgroup = RunCgroup::make(&order.run);
    let mut command = prepared.command(order, control);
    let mut child = match &cgroup {
        Some(cgroup) => {
            cgroup.note_in(&control.directory().cgroup_path());
            cgroup.start_in(|| command.spawn())?
        }
        None => command.spawn()?,
    };
    let main = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| std::io::Error::other("the process has no id"))?;
    control.job_started(identity_of_child(main.as_raw_pid()));
    let stop_reading = CancellationToken::new();
    let mut readers = Vec::new();
    let out = child.stdout.take().map(OwnedFd::from).map(|fd| (fd, Stream::Stdout));
    let err = child.stderr.take().map(OwnedFd::from).map(|fd| (fd, Stream::Stderr));
    for (fd, stream) in out.into_iter().chain(err) {
        // Refused when the user's pipes are many already; it is only slower then.
        let _ = rustix::pipe::fcntl_setpipe_size(&fd, PIPE_BYTES);
        let pipe = pipe::Receiver::from_owned_fd(fd)?;
        let (observer, stop) = (Arc::clone(observer), stop_reading.clone());
        readers.push(tokio::spawn(async move { observer.read(stream, pipe, stop).await }));
    }
    let job = Job {
        order,
        observer: Arc::clone(observer),
        main,
        cgroup,
        stop_signal: prepared.stop_signal,
        status: None,
        child_ended,
        killed_at: None,
        unsignalled: Vec::new(),
    };
    Ok((job, readers, stop_reading))
}

impl Job<'_> {
    /// Keeps the time box until the main process has ended.
    async fn hold(&mut self, control: &mut Control) {
        loop {
            self.reap();
            if let Some(status) = self.status
                && !self.is_awaited(control)
            {
                self.observer.record(Event::Exited {
                    code: status.exit_status(),
                    signal: status.terminating_signal(),
                });
                return;
            }
            let hangs = self
                .killed_at
                .is_some_and(|at| self.observer.now().saturating_sub(at) >= UNKILLABLE_AFTER);
            if hangs {
                self.observer.record(Event::Exited { code: None, signal: None });
                return;
            }
            tokio::select! {
                _ = self.child_ended.recv() => {}
                due = control.next_due() => self.act(due),
                // A child that is born while the tree is being killed must go, too.
                () = tokio::time::sleep(POLL_INTERVAL), if self.killed_at.is_some() => {
                    self.kill_tree();
                }
                () = tokio::time::sleep(AWAIT_INTERVAL),
                    if self.status.is_some() && self.killed_at.is_none() => self.signal_those_left(),
            }
        }
    }

    /// A shell that ends by the stop signal leaves behind the program that finishes its work; what
    /// that still says counts, until box and grace are over.
    fn is_awaited(&self, control: &Control) -> bool {
        control.is_ending()
            && self.killed_at.is_none()
            && !self.observer.has_signal()
            && !self.tree().is_empty()
    }

    /// Tells the whole tree, since nobody knows which of its processes does the work. What reads
    /// from another one of it (`tee` behind a program) ends with its input, and must live that long
    /// to pass the last words on.
    fn wind_down(&mut self) {
        let (fed, sources) = split_by_input(self.tree());
        signal_all(&sources, self.stop_signal);
        self.unsignalled = fed;
    }

    /// Whose input is gone and who is still there was not waiting for it.
    fn signal_those_left(&mut self) {
        if self.unsignalled.is_empty() {
            return;
        }
        let (fed, others) = split_by_input(self.tree());
        let (left, _): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|process| self.unsignalled.contains(process));
        signal_all(&left, self.stop_signal);
        self.unsignalled.retain(|process| fed.contains(process));
    }

    fn act(&mut self, due: Due) {
        match due {
            Due::WindDown => {
                self.observer.record(Event::BoxEnded);
                self.wind_down();
            }
            Due::Stop(reason) => {
                self.observer.record(Event::Stopping { reason });
                signal_all(&self.tree(), rustix::process::Signal::TERM);
            }
            Due::Kill => self.kill(),
            Due::Nothing { .. } => {}
        }
    }

    fn kill(&mut self) {
        let n_processes = self.kill_tree();
        self.killed_at = Some(self.observer.now());
        self.observer.record(Event::Killed { n_processes });
    }

    /// What is left in the pipes, but not what a grandchild may still print.
    async fn drain(&self, readers: Vec<JoinHandle<()>>, stop_reading: &CancellationToken) {
        let mut all = futures_util::future::join_all(readers);
        if tokio::time::timeout(DRAIN, &mut all).await.is_err() {
            self.observer.record(Event::PipeHeld);
            stop_reading.cancel();
            all.await;
        }
    }

    /// Ends what outlived the main process: SIGTERM, and SIGKILL after the kill grace, which
    /// counts from the stop if there was one. Only then it is an escalation that people are
    /// told of; else that there was something to sweep says enough.
    async fn sweep(&mut self, control: &mut Control) {
        self.reap();
        let survivors = self.tree();
        if survivors.is_empty() {
            return;
        }
        let n_processes = u32::try_from(survivors.len()).unwrap_or(u32::MAX);
        self.observer.record(Event::Swept { n_processes });
        let kill_at = self.observer.now() + self.order.kill_grace;
        if !control.is_stopping() {
            signal_all(&survivors, rustix::process::Signal::TERM);
        }
        while !self.tree().is_empty() {
            let now = self.observer.now();
            match self.killed_at {
                Some(at) if now.saturating_sub(at) >= UNKILLABLE_AFTER => return,
                Some(_) => {
                    self.kill_tree();
                }
                None if now >= kill_at => {
                    self.kill_tree();
                    self.killed_at = Some(now);
                }
                None => {}
            }
            tokio::select! {
                _ = self.child_ended.recv() => {}
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                due = control.next_due(), if control.is_stopping() && self.killed_at.is_none() => {
                    self.act(due);
                }
            }
            self.reap();
        }
    }

    fn tree(&self) -> Vec<ProcessIdentity> {
        tree(&self.order.run, self.cgroup.as_ref())
    }

    /// SIGKILL to everything of the run; says how many there were.
    fn kill_tree(&self) -> u32 {
        let n_processes = signal_all(&self.tree(), rustix::process::Signal::KILL);
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        n_processes
    }

    /// Waits for every child that has ended: the main process, and orphans that became ours.
    fn reap(&mut self) {
        // An error says that there are no children left.
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.main {
                self.status = Some(status);
            }
        }
    }
}

/// Everything of this run but the keeper.
fn tree(run: &str, cgroup: Option<&RunCgroup>) -> Vec<ProcessIdentity> {
    let mut tree = descendants(rustix::process::getpid().as_raw_pid());
    let inside = cgroup.map(RunCgroup::processes).unwrap_or_default();
    for process in inside.into_iter().chain(processes_of_run(run)) {
        if !tree.contains(&process) {
            tree.push(process);
        }
    }
    tree
}

/// The signals that make sense as a request to wind down.
fn stop_signal(name: &str) -> Result<rustix::process::Signal, String> {
    use rustix::process::Signal;
    match name.trim_start_matches("SIG") {
        "INT" => Ok(Signal::INT),
        "TERM" => Ok(Signal::TERM),
        "HUP" => Ok(Signal::HUP),
        "QUIT" => Ok(Signal::QUIT),
        "USR1" => Ok(Signal::USR1),
        "USR2" => Ok(Signal::USR2),
        _ => Err(format!(
            "`stop_signal = \"{name}\"` is none of SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2"
        )),
    }
}
