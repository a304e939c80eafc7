//! The environment as configuration sees it: `.env` under the variables of the process.
//!
//! Reads a passed map, never the process itself, and sets nothing. An empty value counts as not
//! set, as in the old service.
//! Invariant: a variable of the process wins over the same name in `.env`.

use std::collections::BTreeMap;
use std::path::Path;

use super::dotenv;
use super::problem::{Place, Problem};

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
            let (assigned, bad) = dotenv::parse(&String::from_utf8_lossy(&bytes));
            problems.extend(bad.into_iter().map(|bad| Problem {
                place: Place { file: ".env".to_owned(), line: Some(bad.line) },
                key: String::new(),
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
        values.insert(name.clone(), (value.clone(), Place::environment()));
    }
    Variables { values }
}

/// Why `${…}` could not be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// No such variable.
    Missing(String),
    /// `${` without `}` or without a name.
    Malformed,
}

/// The text with every `${NAME}` filled in.
pub(super) fn resolve(text: &str, variables: &Variables) -> Result<String, Vec<Unresolved>> {
    let mut out = String::new();
    let mut unresolved = Vec::new();
    for part in parts(text) {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Name(name) => match variables.get(name) {
                Some(value) => out.push_str(value),
                None => unresolved.push(Unresolved::Missing(name.to_owned())),
            },
            Part::Malformed => unresolved.push(Unresolved::Malformed),
        }
    }
    if unresolved.is_empty() { Ok(out) } else { Err(unresolved) }
}

/// The text without its `${NAME}`s: what somebody really typed.
pub(super) fn typed(text: &str) -> String {
    parts(text)
        .filter_map(|part| match part {
            Part::Text(text) => Some(text),
            Part::Name(_) | Part::Malformed => None,
        })
        .collect()
}

enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
    Malformed,
}

fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match rest.find("${") {
            Some(0) => match rest.find('}') {
                Some(end) => {
                    let name = &rest[2..end];
                    rest = &rest[end + 1..];
                    Some(if dotenv::is_name(name) { Part::Name(name) } else { Part::Malformed })
                }
                None => {
                    rest = "";
                    Some(Part::Malformed)
                }
            },
            at => {
                let (text, after) = rest.split_at(at.unwrap_or(rest.len()));
                rest = after;
                Some(Part::Text(text))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        let process = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let mut problems = Vec::new();
        read(Path::new("/nonexistent"), &process, &mut problems)
    }

    #[test]
    fn names_are_filled_in_and_missing_ones_are_all_named() {
        let variables = variables(&[("HOST", "mail.example"), ("EMPTY", "")]);
        assert_eq!(resolve("smtp://${HOST}:25", &variables).unwrap(), "smtp://mail.example:25");
        assert_eq!(resolve("costs $5", &variables).unwrap(), "costs $5");
        assert_eq!(
            resolve("${A}${EMPTY}${oops", &variables).unwrap_err(),
            [
                Unresolved::Missing("A".into()),
                Unresolved::Missing("EMPTY".into()),
                Unresolved::Malformed
            ]
        );
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
