//! Names that a reader of this field knows: none of the words that were given up, and no type name
//! that means three things.
//!
//! Looks at names of files, types, functions, constants and fields, not at texts, and not at tests,
//! whose names are sentences. What is still there is listed by its name, so that moving a file
//! changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::{is_test, rust_files, without_tests};

/// Words that meant something here only. The glossary in `ARCHITECTURE.md` has what is said instead.
const RETIRED: [&str; 23] = [
    "desk",
    "bell",
    "witness",
    "seat",
    "patience",
    "hear",
    "hearing",
    "told",
    "telling",
    "tellings",
    "eyes",
    "trouble",
    "relief",
    "absolve",
    "bury",
    "ringer",
    "troubled",
    "perhaps",
    "strangers",
    "surroundings",
    "wish",
    "company",
    "workbench",
];

/// Names that still hold one of them. May only become shorter: an entry that nothing is called any
/// more fails.
const STILL_CALLED: &[&str] = &["not_told", "read_again_when_told", "stop_when_told", "told_as"];

/// Public types that share their name with two others or more. May only become shorter as well.
const STILL_SHARED: &[&str] = &["Claimed", "Fault", "Outcome", "Problem", "Refusal", "Stepped"];

#[test]
fn nothing_is_called_by_a_word_that_was_given_up() {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files("src").into_iter().filter(|file| !is_test(file)) {
        let text = without_tests(&fs::read_to_string(&file).unwrap());
        let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
        for name in names_in(&text).into_iter().chain([stem]) {
            if words(&name).iter().any(|word| RETIRED.contains(&word.as_str())) {
                found.entry(name).or_default().insert(file.display().to_string());
            }
        }
    }
    let new: Vec<String> = found
        .iter()
        .filter(|(name, _)| !STILL_CALLED.contains(&name.as_str()))
        .map(|(name, files)| format!("{name}: {files:?}"))
        .collect();
    assert!(new.is_empty(), "give these the name that the field uses:\n{}", new.join("\n"));
    let gone: Vec<_> = STILL_CALLED.iter().filter(|name| !found.contains_key(**name)).collect();
    assert!(gone.is_empty(), "take these off the list, nothing is called so any more: {gone:?}");
}

#[test]
fn no_public_type_shares_its_name_with_two_others() {
    let mut counted: BTreeMap<String, u32> = BTreeMap::new();
    for file in rust_files("src") {
        let text = fs::read_to_string(&file).unwrap();
        for name in public_types_in(&text) {
            *counted.entry(name).or_default() += 1;
        }
    }
    // Every command has its own.
    counted.remove("Args");
    let shared: BTreeSet<&str> =
        counted.iter().filter(|(_, n)| **n > 2).map(|(name, _)| name.as_str()).collect();
    let allowed: BTreeSet<&str> = STILL_SHARED.iter().copied().collect();
    assert!(shared.is_subset(&allowed), "three things of one name: {:?}", &shared - &allowed);
    assert!(allowed.is_subset(&shared), "take these off the list: {:?}", &allowed - &shared);
}

/// Names that are given in a text: of types, functions, modules, constants, fields and parameters.
fn names_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or("").trim();
        let rest = without_visibility(code);
        let mut tokens = rest.split_whitespace();
        let first = tokens.find(|word| !matches!(*word, "async" | "unsafe" | "const" | "static"));
        let name = match first {
            Some("fn" | "struct" | "enum" | "trait" | "type" | "mod" | "union") => {
                tokens.next().map(leading_name)
            }
            // A field or a parameter on a line of its own: `name: Type,`.
            Some(word) if word.ends_with(':') && !word.ends_with("::") => Some(leading_name(word)),
            Some(_) | None => None,
        };
        names.extend(name.filter(|name| !name.is_empty()));
    }
    names
}

fn without_visibility(code: &str) -> &str {
    let Some(rest) = code.strip_prefix("pub") else { return code };
    match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(')').map_or(code, |(_, rest)| rest.trim_start()),
        None if rest.starts_with(' ') => rest.trim_start(),
        None => code,
    }
}

fn public_types_in(text: &str) -> Vec<String> {
    let kinds = ["pub struct ", "pub enum ", "pub trait ", "pub type "];
    text.lines()
        .filter_map(|line| kinds.iter().find_map(|kind| line.strip_prefix(kind)))
        .map(leading_name)
        .collect()
}

fn leading_name(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// `ToldTo` and `told_to`: told, to.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || letter.is_uppercase() && !name.chars().all(|c| !c.is_lowercase()) {
            words.push(String::new());
        }
        if letter != '_'
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
    }
    words
}

#[test]
fn names_are_found_where_they_are_given_and_taken_apart() {
    let text = "pub(super) struct ToldTo {\n    pub told_at: u32,\n}\npub const fn hear_it() {}\n\
                // fn bell() {}\n    heard: x,\nconst MOST_TOLD: u8 = 1;";
    assert_eq!(names_in(text), ["ToldTo", "told_at", "hear_it", "heard", "MOST_TOLD"]);
    assert_eq!(words("ToldTo"), ["", "told", "to"]);
    assert_eq!(words("MOST_TOLD"), ["most", "told"]);
    assert_eq!(words("retold_at"), ["retold", "at"]);
}
