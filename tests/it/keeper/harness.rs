//! A keeper under test: the real binary on a run directory of its own, and what it wrote.
//!
//! Waits on the evidence file and on the process, never on time alone.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use chrono::DateTime;
use lookout::process::processes_of_run;
use lookout::rundir::directory::RunDirectory;
use lookout::rundir::journal::EvidenceReader;
use lookout::rundir::{Entry, Event, Order, Pattern, Signal, Work};

/// The old service's completion text.
pub(crate) const SIGNAL: &str = "Bulk processing completed.";

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// An order with an hour's box, so that only a test that wants it meets its end.
pub(crate) fn order(work: Work) -> Order {
    // Unique, because processes are found by it.
    let run = format!("it-{}-{}", std::process::id(), fastrand::u64(..));
    Order {
        run,
        schedule: "nightly".into(),
        due_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        work,
        time_box: Duration::from_secs(3600),
        signal_grace: Duration::from_secs(300),
        kill_grace: Duration::from_secs(10),
        stop_when_stalled: None,
        signal: Signal::Text(SIGNAL.into()),
        patterns: vec![],
        log_head_bytes: 64 * 1024,
        log_tail_bytes: 64 * 1024,
    }
}

/// A shell script as a job.
pub(crate) fn shell(script: &str) -> Order {
    command(&["sh", "-c", script])
}

/// A command as a job.
pub(crate) fn command(argv: &[&str]) -> Order {
    order(Work::Command {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        cwd: "/".into(),
        env: BTreeMap::new(),
        stop_signal: "SIGINT".into(),
        user: None,
    })
}

/// A text of a program that can't be changed.
pub(crate) fn pattern(text: &str, kind: &str) -> Pattern {
    Pattern { text: Some(text.into()), regex: None, kind: kind.into(), count: 1, within: None }
}

/// A keeper that runs.
pub(crate) struct Keeper {
    folder: tempfile::TempDir,
    directory: RunDirectory,
    run: String,
    child: tokio::process::Child,
}

/// What is left when it is done.
pub(crate) struct Kept {
    _folder: tempfile::TempDir,
    pub(crate) directory: RunDirectory,
    pub(crate) entries: Vec<Entry>,
    pub(crate) is_success: bool,
}

impl Keeper {
    /// Starts one; `env` is added to its environment.
    pub(crate) fn start(order: &Order, env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::of(folder.path(), &order.run);
        directory.write_order(order).unwrap();
        let child = Self::spawn(&directory, env);
        Self { folder, directory, run: order.run.clone(), child }
    }

    pub(crate) fn spawn(directory: &RunDirectory, env: &[(&str, &str)]) -> tokio::process::Child {
        tokio::process::Command::new(env!("CARGO_BIN_EXE_lookout"))
            .arg("keeper")
            .arg(directory.path())
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id().unwrap()).unwrap()
    }

    pub(crate) fn directory(&self) -> &RunDirectory {
        &self.directory
    }

    /// Waits for an entry.
    pub(crate) async fn wait_for(&self, what: impl Fn(&Event) -> bool) -> Entry {
        let reader = EvidenceReader::new(&self.directory);
        let found = async {
            loop {
                let (entries, _) = reader.read_from(0).unwrap();
                if let Some(entry) = entries.into_iter().find(|entry| what(&entry.event)) {
                    return entry;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the entry never came")
    }

    /// Waits until the keeper has ended; nothing of the run may be left then.
    pub(crate) async fn done(mut self) -> Kept {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        assert_eq!(processes_of_run(&self.run), vec![], "survivors");
        let (entries, _) = EvidenceReader::new(&self.directory).read_from(0).unwrap();
        assert!(matches!(entries.first().unwrap().event, Event::KeeperStarted { .. }));
        assert!(matches!(entries.last().unwrap().event, Event::Ended { .. }), "{entries:#?}");
        Kept {
            _folder: self.folder,
            directory: self.directory,
            entries,
            is_success: status.success(),
        }
    }
}

impl Kept {
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.entries.iter().map(|entry| &entry.event)
    }

    pub(crate) fn has(&self, what: impl Fn(&Event) -> bool) -> bool {
        self.events().any(what)
    }

    pub(crate) fn position(&self, what: impl Fn(&Event) -> bool) -> usize {
        self.events().position(what).unwrap_or_else(|| panic!("not in {:#?}", self.entries))
    }

    pub(crate) fn has_signal(&self) -> bool {
        self.has(|event| matches!(event, Event::Signal { .. }))
    }

    /// How the main process ended: exit code and signal.
    pub(crate) fn exit(&self) -> (Option<i32>, Option<i32>) {
        self.events()
            .find_map(|event| {
                if let Event::Exited { code, signal } = event {
                    Some((*code, *signal))
                } else {
                    None
                }
            })
            .unwrap_or_else(|| panic!("no exit in {:#?}", self.entries))
    }

    /// Kind, provider, status and detail of each problem.
    pub(crate) fn problems(&self) -> Vec<(&str, Option<&str>, Option<u16>, &str)> {
        self.events()
            .filter_map(|event| {
                if let Event::Problem { kind, provider, status, detail, .. } = event {
                    Some((kind.as_str(), provider.as_deref(), *status, detail.as_str()))
                } else {
                    None
                }
            })
            .collect()
    }

    /// From the first to the last entry.
    pub(crate) fn took(&self) -> Duration {
        let first = self.entries.first().unwrap().boot_ms;
        Duration::from_millis(self.entries.last().unwrap().boot_ms - first)
    }
}

/// One run from start to end.
pub(crate) async fn keep(order: &Order) -> Kept {
    Keeper::start(order, &[]).done().await
}
