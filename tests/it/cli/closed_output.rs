//! Standard output that can't be written: a reader that went away, and a full disk.
//!
//! The rule holds for every command: the list is the command line's own, so that a new command
//! fails here until it is in the table.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use clap::CommandFactory;
use lookout::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings};
use tempfile::TempDir;
use tokio::process::Command;

/// Longer than any command takes on a busy machine; one that hangs takes longer.
const LIMIT: Duration = Duration::from_secs(90);

/// What a command does with standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Prints and ends.
    Prints,
    /// Prints and goes on until it is stopped.
    Serves,
    /// Says nothing there.
    Silent,
}

use Kind::{Prints, Serves, Silent};

/// Every command, with arguments that make it print.
const COMMANDS: &[(&str, &[&str], Kind)] = &[
    ("alert dead", &[], Prints),
    ("alert replay", &["nothing"], Silent),
    ("alert test", &[], Prints),
    ("audit", &[], Prints),
    ("check", &[], Prints),
    ("demo", &["--once"], Prints),
    ("doctor", &[], Prints),
    ("history", &[], Prints),
    ("incident ack", &["1"], Prints),
    ("incidents", &[], Prints),
    ("init", &[], Prints),
    ("keeper", &["nothing"], Silent),
    ("next", &[], Prints),
    ("pause", &["job"], Prints),
    ("rerun", &["--from", "1d"], Prints),
    ("resume", &["job"], Prints),
    ("review", &["--limit", "1"], Prints),
    ("run", &["job"], Prints),
    ("run stop", &["nothing"], Silent),
    ("runs show", &["nothing"], Silent),
    ("serve", &[], Silent),
    ("simulate", &[], Prints),
    ("stand-in gemini", &["--port", "0"], Serves),
    ("status", &[], Prints),
];

/// The names of all commands that can be called, hidden ones too.
fn all_commands() -> BTreeSet<String> {
    fn add(command: &clap::Command, prefix: &str, names: &mut BTreeSet<String>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let name = format!("{prefix}{}", sub.get_name());
            if !sub.is_subcommand_required_set() {
                names.insert(name.clone());
            }
            add(sub, &format!("{name} "), names);
        }
    }
    let mut names = BTreeSet::new();
    let mut command = lookout::cli::Cli::command();
    command.build();
    add(&command, "", &mut names);
    names
}

#[test]
fn every_command_is_in_the_table() {
    let table: BTreeSet<String> = COMMANDS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(table, all_commands());
}

/// A folder with a job, a console channel and an image.
fn folder(gemini: &FakeGemini) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "lookout.toml",
        &format!(
            "[service]\nbind = \"127.0.0.1:0\"\n[records]\nkind = \"sqlite\"\n\
             [images]\nkind = \"folder\"\npath = \"images\"\n\
             [reviewer]\nkind = \"gemini\"\nbase_url = \"{}\"\n",
            gemini.base_url
        ),
    );
    write(
        "schedules/job.toml",
        "cron = \"0 4 1 1 *\"\nsignal = \"done\"\n[job]\nkind = \"command\"\nargv = [\"echo\", \"done\"]\n",
    );
    write("alerts/console.toml", "kind = \"console\"\nseverity = \"critical\"\n");
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos/text.jpg");
    std::fs::create_dir(folder.path().join("images")).unwrap();
    std::fs::copy(photo, folder.path().join("images/text.jpg")).unwrap();
    folder
}

fn command(folder: &Path, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lookout"));
    command
        .args(name.split(' '))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("TMPDIR", folder)
        .env("GEMINI_API_KEY", "fake-key-of-a-test")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Exit code and standard error.
async fn ended(mut command: Command, stdout: Stdio, what: &str) -> (i32, String) {
    let child = command.stdout(stdout).spawn().unwrap();
    // The parent's own copy of the write end would keep a pipe open.
    drop(command);
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("`{what}` hangs")).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "`{what}` panics: {stderr}");
    (output.status.code().unwrap_or(-1), stderr)
}

fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Processes that were started in this folder or on it.
fn processes(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let Ok(cwd) = std::fs::read_link(entry.path().join("cwd")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if cwd.starts_with(folder) || line.contains(folder.to_str().unwrap()) {
            found.push(line);
        }
    }
    found
}

async fn gemini() -> FakeGemini {
    let behaviour = Behaviour::default();
    FakeGemini::start(FakeGeminiSettings { port: 0, behaviour }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_went_away_ends_a_command_quietly_and_leaves_no_process() {
    let gemini = gemini().await;
    let mut wrong = Vec::new();
    for (name, arguments, kind) in COMMANDS.iter().filter(|(_, _, kind)| *kind != Serves) {
        if *name == "serve" {
            continue;
        }
        let folder = folder(&gemini);
        let command = command(folder.path(), name, arguments);
        let (code, stderr) = ended(command, closed_pipe(), name).await;
        let is_quiet = !stderr.contains("roken pipe");
        let left = processes(folder.path());
        if !is_quiet || !left.is_empty() || (*kind == Prints && ![0, 1].contains(&code)) {
            wrong.push(format!("{name}: exit code {code}, left {left:?}: {stderr}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_reported_and_fails_the_command() {
    let gemini = gemini().await;
    let mut wrong = Vec::new();
    for (name, arguments, _) in COMMANDS.iter().filter(|(_, _, kind)| *kind == Prints) {
        let folder = folder(&gemini);
        let command = command(folder.path(), name, arguments);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, stderr) = ended(command, full.into(), name).await;
        if code != 1 || !stderr.contains("No space left on device") {
            wrong.push(format!("{name}: exit code {code}: {stderr}"));
        }
        assert_eq!(processes(folder.path()), Vec::<String>::new(), "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn help_and_version_are_output_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--help"][..], &["--version"], &["rerun", "--help"]] {
        let help = || command(folder.path(), arguments[0], &arguments[1..]);
        assert_eq!(ended(help(), closed_pipe(), "help").await, (0, String::new()));
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, stderr) = ended(help(), full.into(), "help").await;
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("No space left on device"), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_standard_error_ends_no_command_in_a_panic() {
    let gemini = gemini().await;
    let folder = folder(&gemini);
    // Each writes to standard error; a panic would be exit code 101, wherever its text goes.
    for (name, arguments, expected) in [
        ("history", &["--no-such-option"][..], 2),
        ("review", &["--image", "nothing.jpg"], 1),
        ("run", &["nothing"], 2),
        ("rerun", &["--id", "nothing"], 1),
        ("runs show", &["nothing"], 2),
    ] {
        let mut command = command(folder.path(), name, arguments);
        let mut child = command.stdout(Stdio::null()).stderr(closed_pipe()).spawn().unwrap();
        let status = tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(expected), "{name}");
    }
}
