//! The environment as configuration sees it: `.env` under the variables of the process.
//!
//! Reads a passed map, never the process itself, and sets nothing. An empty value counts as not
//! set, as in the old service.
//! Invariant: a variable of the process wins over the same name in `.env`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::dotenv;
use super::problem::{Place, Problem};
use crate::placeholder::{self, Unfilled};

/// The file of variables beside the configuration.
const DOTENV: &str = ".env";

/// Variables with the place they come from.
#[derive(Clone, Default)]
pub(super) struct Variables {
    values: BTreeMap<String, (String, Place)>,
}

impl Variables {
    /// The value, if it is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(value, _)| value.trim()).filter(|value| !value.is_empty())
    }

    /// Where it was set; the environment if it was not.
    pub(super) fn place(&self, name: &str) -> Place {
        self.values.get(name).map_or_else(Place::environment, |(_, place)| place.clone())
    }

    /// `LOOKOUT__…` overrides, sorted by name.
    pub(super) fn overrides(&self) -> impl Iterator<Item = (&str, &str, &Place)> {
        self.values
            .iter()
            .filter(|(name, _)| name.starts_with("LOOKOUT__"))
            .map(|(name, (value, place))| (name.as_str(), value.as_str(), place))
    }

    /// The names that stand in `.env` and not in the environment of the process: no job has them
    /// unless its `[job.env]` says so.
    pub(super) fn only_in_dotenv(&self) -> BTreeSet<String> {
        let is_there = |place: &Place| place.file == DOTENV;
        self.values
            .iter()
            .filter(|(_, (_, place))| is_there(place))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The plain map, for `${NAME}` at the start of a run and for the redactor.
    pub(super) fn into_map(self) -> BTreeMap<String, String> {
        self.values.into_iter().map(|(name, (value, _))| (name, value)).collect()
    }
}

/// Merges the `.env` beside the configuration, if there is one, under the process's variables.
pub(super) fn read(
    root: &Path,
    process: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Variables {
    let mut values = BTreeMap::new();
    match std::fs::read(root.join(".env")) {
        Ok(bytes) => {
            let (text, wrong) = text_of(&bytes);
            problems.extend(wrong);
            let (assigned, bad) = dotenv::parse(&text, process);
            problems.extend(bad.into_iter().map(|bad| Problem {
                place: Place { file: ".env".to_owned(), line: Some(bad.line) },
                key: bad.name.unwrap_or_default(),
                what: bad.what,
                instead: "write NAME=value, or put # before a comment".to_owned(),
            }));
            values.extend(assigned.into_iter().map(|(name, entry)| {
                let place = Place { file: ".env".to_owned(), line: Some(entry.line) };
                (name, (entry.value, place))
            }));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => problems.push(Problem {
            place: Place::file(".env"),
            key: String::new(),
            what: format!("this file can't be read: {error}"),
            instead: "make it readable for the user that runs lookout".to_owned(),
        }),
    }
    for (name, value) in process {
        problems.extend(quoted(name, value));
        values.insert(name.clone(), (value.clone(), Place::environment()));
    }
    Variables { values }
}

/// The text of `.env`, and what is wrong with its encoding.
fn text_of(bytes: &[u8]) -> (String, Vec<Problem>) {
    let instead = || "save it as UTF-8".to_owned();
    if let Some(encoding) = other_encoding(bytes) {
        let problem = Problem {
            place: Place::file(".env"),
            key: String::new(),
            what: format!("this file is {encoding}"),
            instead: instead(),
        };
        return (String::new(), vec![problem]);
    }
    let mut problems = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let text = String::from_utf8_lossy(line);
        let assigned = text.split_once('=').filter(|_| !text.trim_start().starts_with('#'));
        if let (Err(_), Some((name, _))) = (std::str::from_utf8(line), assigned) {
            problems.push(Problem {
                place: Place { file: ".env".to_owned(), line: Some(index + 1) },
                key: name.trim().trim_start_matches("export ").to_owned(),
                what: "this line is not UTF-8".to_owned(),
                instead: instead(),
            });
        }
    }
    (String::from_utf8_lossy(bytes).into_owned(), problems)
}

/// UTF-16 by its mark, or by the zero in every other byte of ordinary letters.
pub(super) fn other_encoding(bytes: &[u8]) -> Option<&'static str> {
    let is_zero = |at: usize| bytes.get(at) == Some(&0);
    let is_utf16 = bytes.starts_with(&[0xff, 0xfe])
        || bytes.starts_with(&[0xfe, 0xff])
        || is_zero(0) && !is_zero(1)
        || !is_zero(0) && is_zero(1);
    is_utf16.then_some("UTF-16")
}

/// What `docker run --env-file` and systemd's `Environment=` leave in a value: its quotation marks.
fn quoted(name: &str, value: &str) -> Option<Problem> {
    let is_ours = OURS.iter().any(|start| name.starts_with(start)) || name == "LIMIT";
    let value = value.trim();
    let is_quoted =
        |quote: char| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    (is_ours && (is_quoted('"') || is_quoted('\''))).then(|| Problem {
        place: Place::environment(),
        key: name.to_owned(),
        what: "the value begins and ends with quotation marks".to_owned(),
        instead: "remove them: `docker run --env-file` passes them on as part of the value"
            .to_owned(),
    })
}

/// How the variables begin that Lookout reads by itself.
const OURS: [&str; 9] = [
    "ALERT_",
    "AWS_",
    "GEMINI_",
    "IMAGE_URL",
    "LOOKOUT_",
    "SLACK_",
    "SMTP_",
    "SUPABASE_",
    "GOOGLE_API",
];

/// Variables of alerts and pages begin like this: a review does without them.
const NOT_OF_REVIEWS: [&str; 4] = ["ALERT_", "SLACK_", "SMTP_", "LOOKOUT_TOKEN"];

/// Whether a problem with `.env` could change what a review does. A line that assigns nothing can't
/// (the old service passed over it, too); one whose value is lost can, as can a file that is unreadable.
pub(super) fn may_change_a_review(problem: &Problem) -> bool {
    let is_lost = !problem.key.is_empty();
    let is_of_reviews = !NOT_OF_REVIEWS.iter().any(|name| problem.key.starts_with(name));
    problem.place.line.is_none() || is_lost && is_of_reviews
}

/// The text with every `${NAME}` filled in.
pub(super) fn resolve(text: &str, variables: &Variables) -> Result<String, Vec<Unfilled>> {
    placeholder::fill(text, |name| variables.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(dotenv: &[u8], process: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), dotenv).unwrap();
        let process = process.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let mut problems = Vec::new();
        read(folder.path(), &process, &mut problems);
        problems
            .iter()
            .map(|problem| format!("{}: {}: {}", problem.place, problem.key, problem.what))
            .collect()
    }

    #[test]
    fn another_encoding_is_named_once() {
        let utf16 = |big: bool| -> Vec<u8> {
            let bytes = "A=1\nB=2\n".encode_utf16();
            bytes
                .flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() })
                .collect()
        };
        let marked = [&[0xff, 0xfe][..], &utf16(false)].concat();
        for bytes in [marked, utf16(false), utf16(true)] {
            assert_eq!(problems_of(&bytes, &[]), [".env: : this file is UTF-16"]);
        }
        let latin = b"# Schl\xfcssel\nA=gr\xfcn\nB=2\n";
        assert_eq!(problems_of(latin, &[]), [".env:2: A: this line is not UTF-8"]);
        assert_eq!(problems_of("\u{feff}A=grün\n".as_bytes(), &[]), Vec::<String>::new());
    }

    #[test]
    fn quotation_marks_that_docker_leaves_are_seen_in_variables_of_ours() {
        let wrong = [("GEMINI_API_KEY", "\"abc\""), ("LIMIT", "'5'"), ("SMTP_URL", " \"x\" ")];
        assert_eq!(problems_of(b"", &wrong).len(), 3);
        let right =
            [("GEMINI_API_KEY", "abc"), ("PS1", "\"$ \""), ("SMTP_URL", "\""), ("LIMIT", "5")];
        assert_eq!(problems_of(b"GEMINI_API_KEY=\"abc\"\n", &right), Vec::<String>::new());
    }

    #[test]
    fn the_process_wins_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), "A=file\nB=file\n").unwrap();
        let process = BTreeMap::from([("A".to_owned(), "process".to_owned())]);
        let variables = read(folder.path(), &process, &mut Vec::new());
        assert_eq!(variables.get("A"), Some("process"));
        assert_eq!(variables.get("B"), Some("file"));
        assert_eq!(variables.place("B").to_string(), ".env:2");
    }
}
