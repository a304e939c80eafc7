//! A name that is mistyped: one answer and one exit code, whatever the command.

use std::path::Path;
use std::process::{Command, Output};

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("lookout.toml", "[service]\nbind = \"127.0.0.1:0\"\n");
    write(
        "schedules/nightly-export.toml",
        "cron = \"0 4 1 1 *\"\nsignal = \"done\"\n[job]\nkind = \"command\"\nargv = [\"echo\", \"done\"]\n",
    );
    write("alerts/console.toml", "kind = \"console\"\n");
    folder
}

fn lookout(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lookout"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_mistyped_name_is_wrong_usage_in_every_command_and_the_right_one_is_proposed() {
    let folder = folder();
    for (arguments, meant) in [
        (&["history", "nightly-exprot"][..], "nightly-export"),
        (&["next", "nightly-exprot"], "nightly-export"),
        (&["pause", "nightly-exprot"], "nightly-export"),
        (&["resume", "nightly-exprot"], "nightly-export"),
        (&["run", "nightly-exprot"], "nightly-export"),
        (&["run", "stop", "nightly-exprot"], "nightly-export"),
        (&["runs", "show", "nightly-exprot"], "nightly-export"),
        (&["alert", "test", "consol"], "console"),
    ] {
        let output = lookout(folder.path(), arguments);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(&format!("Did you mean `{meant}`?")), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_name_that_resembles_none_is_answered_with_what_there_is() {
    let folder = folder();
    let output = lookout(folder.path(), &["history", "zzz"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("Known: nightly-export."), "{}", said(&output));
    let output = lookout(folder.path(), &["run", "stop", "nightly-export"]);
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    assert!(text.contains("No run of nightly-export is in progress."), "{text}");
    let output = lookout(folder.path(), &["history", "nightly-export"]);
    assert_eq!(output.status.code(), Some(0), "it is there, and has no runs yet");
}
