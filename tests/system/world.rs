//! A folder with a configuration, a vision service, a receiver, and the daemon as a process.
//!
//! Invariant: dropping it leaves no process behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::Value;
use tempfile::TempDir;

/// What the receiver took in: webhook id and body.
pub(crate) type Inbox = Arc<Mutex<Vec<(String, Value)>>>;

pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) inbox: Inbox,
    /// The program that is run.
    pub(crate) binary: PathBuf,
    /// What its environment has beside the bare necessities.
    pub(crate) environment: Vec<(String, String)>,
    daemon: Option<Child>,
    _runtime: tokio::runtime::Runtime,
    alerts_url: String,
}

impl World {
    /// An empty folder and a receiver on loopback.
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let inbox = Inbox::default();
        let router = Router::new().route("/alerts", post(take)).with_state(Arc::clone(&inbox));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let alerts_url = format!("http://{}/alerts", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await });
        let directory = tempfile::tempdir().unwrap();
        let world = Self {
            directory,
            inbox,
            binary: env!("CARGO_BIN_EXE_lookout").into(),
            environment: Vec::new(),
            daemon: None,
            _runtime: runtime,
            alerts_url,
        };
        world.write(
            ".env",
            &format!("GEMINI_API_KEY=not-a-real-key\nHOOK_URL={}\n", world.alerts_url),
        );
        world.write(
            "alerts/hook.toml",
            "kind = \"webhook\"\nurl = \"${HOOK_URL}\"\nseverity = \"info\"\n",
        );
        world
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// `lookout.toml` with embedded records, the folder `images`, and this vision service.
    pub(crate) fn write_settings(&self, gemini: &str, reviewer: &str) {
        self.write(
            "lookout.toml",
            &format!(
                "[service]\ninstance = \"test\"\nbind = \"127.0.0.1:0\"\n\
                 [records]\nkind = \"sqlite\"\n[images]\nkind = \"folder\"\npath = \"images\"\n\
                 [reviewer]\nkind = \"gemini\"\nbase_url = \"{gemini}\"\n{reviewer}\n\
                 [[reviewer.project]]\nname = \"test\"\nkeys = [\"${{GEMINI_API_KEY}}\"]\n"
            ),
        );
    }

    /// Copies of a small photograph; one byte after the end differs, so that each is its own file.
    pub(crate) fn add_pictures(&self, prefix: &str, n: usize) {
        let photo =
            std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos/text.jpg"))
                .unwrap();
        let folder = self.path().join("images");
        std::fs::create_dir_all(&folder).unwrap();
        for index in 0..n {
            let mut bytes = photo.clone();
            bytes.extend_from_slice(format!("{prefix}{index}").as_bytes());
            std::fs::write(folder.join(format!("{prefix}{index:04}.jpg")), bytes).unwrap();
        }
    }

    /// The command line in this folder, with an environment of its own.
    pub(crate) fn lookout(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.path())
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end; its exit code, standard output and standard error.
    pub(crate) fn say(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.lookout(arguments).output().unwrap();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// The JSON that a command prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let (code, out, err) = self.say(arguments);
        serde_json::from_str(&out)
            .unwrap_or_else(|e| panic!("{arguments:?} (exit {code}): {e}\n{out}\n{err}"))
    }

    /// Starts `lookout serve`; its log goes to `serve.log`.
    pub(crate) fn start_daemon(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path().join("serve.log"))
            .unwrap();
        let child =
            self.lookout(&["serve"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.daemon = Some(child);
    }

    /// kill -9 and wait until it is gone.
    pub(crate) fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// SIGTERM; waits until it is gone and gives its exit code.
    pub(crate) fn terminate_daemon(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().unwrap();
        let pid = i32::try_from(daemon.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM).unwrap();
        daemon.wait().unwrap().code()
    }

    /// Its process id, while it runs.
    pub(crate) fn daemon(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// How many schedules a daemon has planned; 0 while there is none.
    pub(crate) fn n_plans(&self) -> i64 {
        let path = self.path().join("state/guard.db");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let Ok(ledger) = rusqlite::Connection::open_with_flags(path, flags) else { return 0 };
        ledger.query_row("SELECT count(*) FROM plans", [], |row| row.get(0)).unwrap_or(0)
    }

    /// The slots' rows, newest first.
    pub(crate) fn slots(&self) -> Vec<Value> {
        self.json(&["history", "--json", "-n", "100000"]).as_array().unwrap().clone()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("serve.log")).unwrap_or_default()
    }

    /// Bodies that the receiver took in so far.
    pub(crate) fn messages(&self) -> Vec<(String, Value)> {
        self.inbox.lock().unwrap().clone()
    }

    /// Pids of processes of this world whose command line holds `word`.
    pub(crate) fn processes(&self, word: &str) -> Vec<i32> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
                continue;
            };
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let Ok(cwd) = std::fs::read_link(entry.path().join("cwd")) else { continue };
            let words: Vec<String> = line
                .split(|b| *b == 0)
                .map(|part| String::from_utf8_lossy(part).into_owned())
                .collect();
            let ours = cwd.starts_with(self.path())
                || words.iter().any(|w| Path::new(w).starts_with(self.path()));
            if ours && words.iter().any(|w| w == word) {
                found.push(pid);
            }
        }
        found
    }

    /// Waits until `seen` answers `Some`, at most so long; panics with the daemon's log.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        at_most: Duration,
        mut seen: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(value) = seen(self) {
                return value;
            }
            assert!(
                waited < at_most,
                "{what} did not happen within {at_most:?}\n--- serve.log\n{}\n--- messages\n{:#?}",
                self.log(),
                self.messages()
            );
            pause(Duration::from_millis(100));
            waited += Duration::from_millis(100);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_daemon();
        for word in ["keeper", "review"] {
            for pid in self.processes(word) {
                kill_9(pid);
            }
        }
    }
}

/// Real time passes because real processes are watched.
#[expect(clippy::disallowed_methods, reason = "other processes are watched, in real time")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Whether `.ci/soak` runs the tests, with larger numbers.
pub(crate) fn is_soak() -> bool {
    std::env::var_os("LOOKOUT_SOAK").is_some()
}

/// kill -9; a process that is gone already is fine.
pub(crate) fn kill_9(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

async fn take(State(inbox): State<Inbox>, headers: HeaderMap, body: String) {
    let id = headers.get("webhook-id").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    inbox.lock().unwrap().push((id, serde_json::from_str(&body).unwrap()));
}
