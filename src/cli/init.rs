//! `lookout init`: writes a first configuration, commented, into the working directory.
//!
//! What it writes is what the repository ships as examples, so both are tested by the same tests.
//! Invariant: a file that exists is never changed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;

use super::output::Output;

/// Files and their contents, in the order in which a person would look at them.
pub const FILES: [(&str, &str); 8] = [
    (".env.example", include_str!("../../.env.example")),
    ("lookout.toml", include_str!("../../lookout.example.toml")),
    ("schedules/image-review.toml", include_str!("init/image-review.toml")),
    ("schedules/old-service-http.toml", include_str!("../../schedules/old-service-http.toml")),
    ("schedules/old-driver-command.toml", include_str!("../../schedules/old-driver-command.toml")),
    ("alerts/team-slack.toml", include_str!("../../alerts/team-slack.toml")),
    ("alerts/oncall-email.toml", include_str!("../../alerts/oncall-email.toml")),
    ("alerts/own-software.toml", include_str!("../../alerts/own-software.toml")),
];

/// Whether a file was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Yes.
    Written,
    /// It was there before and is as it was.
    Kept,
}

/// Writes what is not there yet.
///
/// # Errors
/// When a folder or file can't be made.
pub fn write(folder: &Path) -> anyhow::Result<Vec<(&'static str, Outcome)>> {
    let mut outcomes = Vec::new();
    for (name, text) in FILES {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("the folder {} can't be made", parent.display()))?;
        }
        // `create_new` and not a look before: between look and write somebody may make the file.
        let outcome = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes())
                    .with_context(|| format!("{} can't be written", path.display()))?;
                Outcome::Written
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Outcome::Kept,
            Err(error) => {
                return Err(error).with_context(|| format!("{} can't be made", path.display()));
            }
        };
        outcomes.push((name, outcome));
    }
    Ok(outcomes)
}

/// Writes and says what was done.
///
/// # Errors
/// As [`write()`].
pub fn run(folder: &Path) -> anyhow::Result<u8> {
    let mut out = Output::stdout();
    for (name, outcome) in write(folder)? {
        match outcome {
            Outcome::Written => writeln!(out, "written  {name}")?,
            Outcome::Kept => writeln!(out, "kept     {name} (it was there before)")?,
        }
    }
    let keys = if folder.join(".env").exists() {
        "compare .env with .env.example"
    } else {
        "copy .env.example to .env and fill it in"
    };
    writeln!(
        out,
        "\nNext: {keys}, then run `lookout check`, `lookout doctor` and `lookout serve`."
    )?;
    Ok(out.end(super::EXIT_OK))
}
