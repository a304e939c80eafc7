//! The files of `schedules/` and `alerts/` as they are on disk, each read for itself.
//!
//! What a file says is `schedule.rs`'s and `channel.rs`'s business, what becomes of a broken one
//! `version.rs`'s. Invariant: whatever is called `*.toml` there is in the list, readable or not: what
//! was passed over in silence would count as removed.

use std::io;
use std::path::Path;

use super::document::{self, Table, Value};
use super::environment::other_encoding;
use super::problem::{Place, Problem};
use super::version::LastGood;

/// One file of `schedules/` or `alerts/`.
pub(super) struct NamedFile {
    /// Without `.toml`.
    pub(super) stem: String,
    /// `schedules/x.toml`.
    pub(super) name: String,
    /// As it was read, bytes that are no UTF-8 replaced; `None`: it can't be read at all.
    pub(super) text: Option<String>,
    /// `None`: no TOML.
    pub(super) table: Option<Table>,
    /// What is wrong with the file as such.
    pub(super) problems: Vec<Problem>,
}

/// All files of a folder.
pub(super) struct Folder {
    /// By name; in a folder that can't be read, those that were there when it last could.
    pub(super) files: Vec<NamedFile>,
    /// Why it can't be read.
    pub(super) problem: Option<Problem>,
}

/// The TOML files of a folder by name; a folder that is not there has none.
pub(super) fn folder(root: &Path, folder: &str, last_good: &LastGood) -> Folder {
    let listed = match root.join(folder).read_dir() {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<String>>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let mut stems: Vec<String> = match &listed {
        Ok(names) => names.iter().filter_map(|name| stem(name)).map(str::to_owned).collect(),
        Err(_) => last_good.stems(folder),
    };
    stems.sort();
    let problem = listed.err().map(|error| Problem {
        place: Place::file(folder),
        key: String::new(),
        what: format!("this folder can't be read: {error}"),
        instead: "make it readable for the user that runs lookout".to_owned(),
    });
    let files = stems.into_iter().map(|stem| match &problem {
        None => NamedFile::read(root, folder, stem),
        Some(_) => NamedFile {
            name: format!("{folder}/{stem}.toml"),
            stem,
            text: None,
            table: None,
            // The folder's problem is reported once, not once a file.
            problems: Vec::new(),
        },
    });
    Folder { files: files.collect(), problem }
}

/// Hidden files are an editor's.
fn stem(name: &str) -> Option<&str> {
    name.strip_suffix(".toml").filter(|stem| !stem.starts_with('.') && !stem.is_empty())
}

impl NamedFile {
    fn read(root: &Path, folder: &str, stem: String) -> Self {
        let name = format!("{folder}/{stem}.toml");
        let mut problems = Vec::new();
        if !is_good_name(&stem) {
            problems.push(Problem {
                place: Place::file(&name),
                key: String::new(),
                what: "this file name can't be used in messages and addresses".to_owned(),
                instead: "rename it: small letters, digits, `-` and `_`, at most 64".to_owned(),
            });
        }
        let (text, table) = match read_text(&root.join(&name)) {
            Err(why) => {
                problems.push(unreadable(&name, &why));
                (None, None)
            }
            Ok(Text { text, encoding: Some(encoding) }) => {
                problems.push(unreadable(&name, encoding));
                (Some(text), None)
            }
            Ok(Text { text, encoding: None }) => match document::parse(&name, &text) {
                Ok(table) => (Some(text), Some(table)),
                Err(wrong) => {
                    problems.extend(wrong);
                    (Some(text), None)
                }
            },
        };
        Self { stem, name, text, table, problems }
    }
}

/// `lookout.toml`.
pub(super) fn read_toml(path: &Path, name: &str) -> Result<Table, Vec<Problem>> {
    match read_text(path) {
        Err(why) => Err(vec![unreadable(name, &why)]),
        Ok(Text { encoding: Some(encoding), .. }) => Err(vec![unreadable(name, encoding)]),
        Ok(Text { text, encoding: None }) => document::parse(name, &text),
    }
}

struct Text {
    text: String,
    /// What is wrong with it.
    encoding: Option<&'static str>,
}

/// A pipe in a file's place would keep whoever opens it waiting for ever.
fn read_text(path: &Path) -> Result<Text, String> {
    let why = |error: io::Error| error.to_string();
    let kind = path.metadata().map_err(why)?.file_type();
    if !kind.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let bytes = std::fs::read(path).map_err(why)?;
    let is_utf16 = other_encoding(&bytes).is_some();
    Ok(match String::from_utf8(bytes) {
        Ok(text) if !is_utf16 => Text { text, encoding: None },
        Ok(text) => Text { text, encoding: Some("it is UTF-16") },
        Err(error) => Text {
            text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            encoding: Some(if is_utf16 { "it is UTF-16" } else { "it is not UTF-8" }),
        },
    })
}

fn unreadable(name: &str, why: &str) -> Problem {
    Problem {
        place: Place::file(name),
        key: String::new(),
        what: format!("this file can't be read: {why}"),
        instead: "save it as UTF-8, readable for the user who runs lookout".to_owned(),
    }
}

fn is_good_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 64
        && name.starts_with(good)
        && name.chars().all(|c| good(c) || matches!(c, '-' | '_'))
}

/// Whether a file is to be used; only `enabled = false` switches it off.
pub(super) fn is_on(table: &Table) -> bool {
    let enabled = table.entries.get("enabled");
    !enabled.is_some_and(|entry| matches!(entry.node.value, Value::Flag(false)))
}

/// Whether a text stands anywhere in a file's values.
pub(super) fn mentions(table: &Table, text: &str) -> bool {
    table.entries.values().any(|entry| value_mentions(&entry.node.value, text))
}

fn value_mentions(value: &Value, wanted: &str) -> bool {
    match value {
        Value::Text(text) => text.contains(wanted),
        Value::List(items) => items.iter().any(|item| value_mentions(&item.value, wanted)),
        Value::Table(table) => mentions(table, wanted),
        Value::Integer(_) | Value::Float(_) | Value::Flag(_) | Value::Date | Value::Untyped(_) => {
            false
        }
    }
}
