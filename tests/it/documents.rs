//! The documents against the tree: what they name exists, what can be configured is in them, and the
//! examples in them work.
//!
//! Invariant: links, pointers, keys and examples are found by their form, so that a new one is tried
//! without a change here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lookout::protocol::{Line, PREFIX};
use regex::Regex;

use crate::config::{folder, load_folder};

/// Documents whose examples users copy.
const FOR_USERS: [&str; 4] =
    ["README.md", "docs/configuration.md", "docs/job-protocol.md", "deploy/README.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found
}

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [".", "docs", "deploy"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 7, "{found:?}");
    found
}

/// Headings outside of code blocks, without their marks.
fn headings(text: &str) -> Vec<String> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if !in_code && line.starts_with('#') {
            found.push(line.trim_start_matches('#').trim().replace(['`', '\\'], ""));
        }
    }
    found
}

/// What GitHub makes of a heading: lower case, spaces to dashes, other signs left out.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// Code before the unit tests at a file's end.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let link = Regex::new(r"\]\(([^)#:]*)(?:#([^)]*))?\)").unwrap();
    let (mut wrong, mut n_links) = (Vec::new(), 0);
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for found in link.captures_iter(&text) {
            n_links += 1;
            let path = found.get(1).map_or("", |m| m.as_str());
            let target = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let is_there = match found.get(2).map(|m| m.as_str()) {
                None => target.exists(),
                Some(wanted) => fs::read_to_string(&target)
                    .is_ok_and(|text| headings(&text).iter().any(|it| anchor(it) == wanted)),
            };
            if !is_there {
                wrong.push(format!("{}: {}", document.display(), &found[0]));
            }
        }
    }
    assert!(
        wrong.is_empty() && n_links > 40,
        "{n_links} links; these lead nowhere:\n{}",
        wrong.join("\n")
    );
}

/// `docs/decisions.md, "One clock"`, also where a comment breaks the line.
#[test]
fn every_comment_that_names_a_document_names_one_with_that_section() {
    let pointer = Regex::new(r#"(docs/[\w-]+\.md)(?:, "([^"]+)")?"#).unwrap();
    let comment = Regex::new(r"(?m)\n\s*//[/!]? ?").unwrap();
    let (mut wrong, mut n_pointers) = (Vec::new(), 0);
    for file in rust_files("src").into_iter().chain(rust_files("tests")) {
        let text = fs::read_to_string(&file).unwrap();
        if file.ends_with("it/documents.rs") {
            continue;
        }
        for found in pointer.captures_iter(&comment.replace_all(&text, " ")) {
            n_pointers += 1;
            let document = fs::read_to_string(root().join(&found[1])).unwrap_or_default();
            let is_there = match found.get(2) {
                None => !document.is_empty(),
                Some(title) => headings(&document).iter().any(|it| it == title.as_str()),
            };
            if !is_there {
                wrong.push(format!("{}: {}", file.display(), &found[0]));
            }
        }
    }
    assert!(
        wrong.is_empty() && n_pointers > 15,
        "{n_pointers} pointers; wrong:\n{}",
        wrong.join("\n")
    );
}

/// A file that ARCHITECTURE.md names is there, by its path below `src` or a part of it.
#[test]
fn the_map_names_files_that_are_there() {
    let named = Regex::new(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+\.rs)`").unwrap();
    let files: Vec<PathBuf> = rust_files("src").into_iter().chain(rust_files("tests")).collect();
    let text = read("ARCHITECTURE.md");
    let missing: Vec<&str> = named
        .captures_iter(&text)
        .filter_map(|found| found.get(1).map(|path| path.as_str()))
        .filter(|path| !files.iter().any(|file| file.ends_with(path)))
        .collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names {missing:?}");
}

/// Words in backticks and in headings.
fn words_of(document: &str) -> BTreeSet<String> {
    let text = read(document);
    let spans: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let headings = headings(&text);
    let all = spans.into_iter().chain(headings.iter().map(String::as_str));
    all.flat_map(|span| span.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_key_of_the_configuration_is_documented() {
    let getters = Regex::new(r"fn (\w+)(?:<[^(]*>)?\(\s*&self,\s*key: &str").unwrap();
    let section = read("src/config/section.rs");
    // Besides the getters, the readers' own short forms for them.
    let mut names: Vec<&str> = vec!["column", "status", "needed", "check_name"];
    names.extend(getters.captures_iter(&section).map(|found| found.get(1).unwrap().as_str()));
    let asked = format!(r#"\b(?:{})\(\s*(?:&?section,\s*)?"([a-z][a-z0-9_]*)""#, names.join("|"));
    let asked = Regex::new(&asked).unwrap();
    let mut keys = BTreeSet::new();
    for file in rust_files("src/config").into_iter().filter(|it| !it.ends_with("section.rs")) {
        let text = fs::read_to_string(file).unwrap();
        keys.extend(asked.captures_iter(without_tests(&text)).map(|found| found[1].to_owned()));
    }
    for known in ["bind", "actual_image_url", "smtp_url", "usd_per_day", "catch_up", "max_body"] {
        assert!(keys.contains(known), "{known} is read, but was not found in src/config: {keys:?}");
    }
    let documented = words_of("docs/configuration.md");
    // `token_file` is the same for every secret, and described once.
    let missing: Vec<&String> =
        keys.iter().filter(|key| !key.ends_with("_file") && !documented.contains(*key)).collect();
    assert!(missing.is_empty(), "docs/configuration.md does not have the keys {missing:?}");
}

#[test]
fn every_variable_of_the_environment_is_documented() {
    let of_ours = Regex::new(r#""(LOOKOUT_[A-Z]+(?:_[A-Z]+)*)""#).unwrap();
    let of_configuration = Regex::new(r#"\(\s*"([A-Z]+(?:_[A-Z]+)+)""#).unwrap();
    let mut variables = BTreeSet::new();
    for file in rust_files("src") {
        let text = fs::read_to_string(&file).unwrap();
        let text = without_tests(&text);
        let mut add = |names: &Regex| {
            variables.extend(names.captures_iter(text).map(|found| found[1].to_owned()));
        };
        add(&of_ours);
        if file.starts_with(root().join("src/config")) {
            add(&of_configuration);
        }
    }
    assert!(variables.contains("LOOKOUT_LOG") && variables.contains("AWS_REGION"), "{variables:?}");
    let mut documented = words_of("docs/configuration.md");
    documented.extend(words_of("docs/job-protocol.md"));
    let missing: Vec<&String> = variables.iter().filter(|it| !documented.contains(*it)).collect();
    assert!(missing.is_empty(), "docs/configuration.md does not have {missing:?}");
}

/// Code blocks of a language, without their fences.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let found = text.split(&opening).skip(1);
    found.map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_schedule_in_the_documents_is_right() {
    let mut n_examples = 0;
    for document in FOR_USERS {
        for block in blocks(&read(document), "toml") {
            let name = block.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap();
            let folder = folder(&[(name, &block)]);
            let loaded = load_folder(folder.path(), &[("API_TOKEN", "a-token-for-a-test")]);
            let config = loaded.unwrap_or_else(|problems| panic!("{document}: {problems}"));
            assert_eq!(format!("schedules/{}.toml", config.schedules[0].name), name);
            n_examples += 1;
        }
    }
    assert!(n_examples >= 2, "{n_examples}");
}

#[test]
fn every_protocol_line_in_the_documents_is_understood() {
    let mut words = BTreeSet::new();
    for line in read("docs/job-protocol.md").lines().filter(|line| line.starts_with(PREFIX)) {
        assert!(Line::parse(line).is_some(), "{line}");
        words.insert(line.trim_start_matches(PREFIX).split(' ').next().unwrap().to_owned());
    }
    let known = ["note", "problem", "progress", "recovered", "totals"].map(str::to_owned);
    assert_eq!(words.into_iter().collect::<Vec<_>>(), known, "one example of each, and no other");
}
