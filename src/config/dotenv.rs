//! Reads `.env` as the old service's `python-dotenv` did, so that an old file means the same here.
//!
//! Not `dotenvy`: that expands `$word` inside values (a password `pa$word` would lose its end
//! without a sound) and refuses unquoted values with spaces, both of which `python-dotenv` takes
//! literally. Never touches the environment of the process.
//! Invariant: every line is an assignment, a comment, blank, or a problem with its line number.

use std::collections::BTreeMap;

use crate::placeholder::is_name;

/// A value and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) value: String,
    pub(super) line: usize,
}

/// A line that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    pub(super) line: usize,
    /// Whose value is lost; `None`: the line assigns nothing.
    pub(super) name: Option<String>,
    pub(super) what: String,
}

/// What the file assigns (the last assignment of a name wins) and the lines that make no sense.
pub(super) fn parse(
    text: &str,
    process: &BTreeMap<String, String>,
) -> (BTreeMap<String, Assigned>, Vec<BadLine>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut assigned = BTreeMap::new();
    let mut bad = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let start = line;
        let (statement, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let trimmed = statement.trim();
        let trimmed = trimmed.strip_prefix("export ").map_or(trimmed, str::trim_start);
        line += 1;
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = after;
            continue;
        }
        let Some((name, value)) = trimmed.split_once('=') else {
            let what = "there is no `=` in this line".to_owned();
            bad.push(BadLine { line: start, name: None, what });
            rest = after;
            continue;
        };
        let name = name.trim().trim_matches('\'');
        rest = after;
        if !is_name(name) {
            bad.push(BadLine {
                line: start,
                name: None,
                what: "the part before `=` is not the name of a variable".to_owned(),
            });
            continue;
        }
        let value = value.trim_start();
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => match quoted(&value[1..], after, quote) {
                Some((value, n_more_lines)) => {
                    for _ in 0..n_more_lines {
                        rest = rest.split_once('\n').map_or("", |(_, after)| after);
                    }
                    line += n_more_lines;
                    value
                }
                None => {
                    bad.push(BadLine {
                        line: start,
                        name: Some(name.to_owned()),
                        what: format!("the quotation mark ({quote}) of {name} is never closed"),
                    });
                    continue;
                }
            },
            Some(_) | None => unquoted(value).to_owned(),
        };
        assigned.insert(name.to_owned(), Assigned { value, line: start });
    }
    let names: Vec<String> = assigned.keys().cloned().collect();
    for name in names {
        if let Some(entry) = assigned.get(&name) {
            let value = expand(&entry.value, &assigned, process);
            if let Some(entry) = assigned.get_mut(&name) {
                entry.value = value;
            }
        }
    }
    (assigned, bad)
}

/// Up to a ` #` comment, without surrounding space.
fn unquoted(value: &str) -> &str {
    if value.starts_with('#') {
        return "";
    }
    let end = [" #", "\t#"].iter().filter_map(|mark| value.find(mark)).min();
    value[..end.unwrap_or(value.len())].trim_end()
}

/// The quoted value that begins here, and over how many further lines it goes.
fn quoted(first: &str, following: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut n_more_lines = 0;
    let mut escaped = false;
    for letter in first.chars().chain(['\n']).chain(following.chars()) {
        if escaped {
            value.push_str(&unescape(letter, quote));
            escaped = false;
        } else if letter == '\\' {
            escaped = true;
        } else if letter == quote {
            return Some((value, n_more_lines));
        } else {
            value.push(letter);
        }
        n_more_lines += usize::from(letter == '\n');
    }
    None
}

/// What `\letter` means: in double quotes as in C, in single quotes only `\'` and `\\`.
fn unescape(letter: char, quote: char) -> String {
    match (letter, quote) {
        ('n', '"') => "\n".to_owned(),
        ('r', '"') => "\r".to_owned(),
        ('t', '"') => "\t".to_owned(),
        ('\\' | '\'', _) | ('"', '"') => letter.to_string(),
        (other, _) => format!("\\{other}"),
    }
}

/// `${NAME}` and `${NAME:-default}`, of the process's variables and those of the same file; what is set
/// in neither is empty (python-dotenv's `resolve_variables`).
fn expand(
    value: &str,
    assigned: &BTreeMap<String, Assigned>,
    process: &BTreeMap<String, String>,
) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        let Some(length) = rest[at..].find('}') else { break };
        let inner = &rest[at + 2..at + length];
        let (name, default) =
            inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
        out.push_str(&rest[..at]);
        let of_file = || assigned.get(name).map(|other| other.value.as_str());
        let known = process.get(name).map(String::as_str).or_else(of_file);
        out.push_str(known.or(default).unwrap_or_default());
        rest = &rest[at + length + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> String {
        let (assigned, bad) = parse(text, &BTreeMap::new());
        assert_eq!(bad, [], "{text}");
        assigned["A"].value.clone()
    }

    #[test]
    fn values_mean_what_they_meant_to_the_old_service() {
        for (text, expected) in [
            ("A=plain", "plain"),
            ("export A = spaced words # comment", "spaced words"),
            ("A=pa$word#1", "pa$word#1"),
            ("A='single $x \\' quote'", "single $x ' quote"),
            ("A=\"two\\nlines\" # comment", "two\nlines"),
            ("A=\"two\nlines\"\nB=1", "two\nlines"),
            ("B=host\nA=https://${B}/x", "https://host/x"),
            ("A=${MISSING:-none}", "none"),
            ("A=https://b/{job_id}__{image_index}.jpg", "https://b/{job_id}__{image_index}.jpg"),
            ("A=", ""),
            ("A=#", ""),
            ("\u{feff}A=1\r\nB=2\r\n", "1"),
            ("A=first\nA=second", "second"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn names_are_filled_in_from_the_process_before_the_file() {
        let process = BTreeMap::from([("HOME".to_owned(), "/root".to_owned())]);
        let value = |text: &str| parse(text, &process).0["A"].value.clone();
        assert_eq!(value("A=${HOME}/x"), "/root/x");
        assert_eq!(value("HOME=/file\nA=${HOME}/x"), "/root/x");
        assert_eq!(value("B=/file\nA=${B}/x${NOWHERE}"), "/file/x");
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named_and_the_others_still_count() {
        let (assigned, bad) = parse("# one\nnonsense\nB=2\n3C=4\nD=\"open\nE=5", &BTreeMap::new());
        assert_eq!(bad.iter().map(|b| b.line).collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!(assigned["B"], Assigned { value: "2".into(), line: 3 });
        assert_eq!(assigned["E"].line, 6);
    }

    #[test]
    fn line_numbers_go_on_rightly_after_a_value_of_several_lines() {
        let (assigned, _) = parse("A=\"1\n2\n3\"\nB=4", &BTreeMap::new());
        assert_eq!(assigned["B"].line, 4);
    }
}
