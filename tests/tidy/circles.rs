//! No circles: a file may lead to another one that leads back only if one is the other's child.
//!
//! Reads `use` trees and paths, not what they are used for; test modules may import what they like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::{is_test, rust_files, without_tests};

/// What closes a circle today, as (from, to). May only become shorter: an entry that closes none
/// any more fails.
const STILL_THERE: &[(&str, &str)] = &[("config::files", "config::version")];

type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_two_files_lead_to_each_other() {
    let graph = graph();
    let mut without = graph.clone();
    for (from, to) in STILL_THERE {
        without.entry((*from).to_owned()).or_default().remove(*to);
    }
    let closing: Vec<String> = edges(&without)
        .filter(|(from, to)| leads_to(&without, to, from))
        .map(|(from, to)| format!("{from} → {to}"))
        .collect();
    assert!(closing.is_empty(), "these lead to each other:\n{}", closing.join("\n"));
    for (from, to) in STILL_THERE {
        let is_there = graph.get(*from).is_some_and(|known| known.contains(*to));
        assert!(
            is_there && leads_to(&without, to, from),
            "{from} → {to} closes no circle any more: take it off the list"
        );
    }
}

fn edges(graph: &Graph) -> impl Iterator<Item = (&String, &String)> {
    graph.iter().flat_map(|(from, known)| known.iter().map(move |to| (from, to)))
}

fn leads_to(graph: &Graph, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        if file == to {
            return true;
        }
        if seen.insert(file) {
            next.extend(graph.get(file).into_iter().flatten().map(String::as_str));
        }
    }
    false
}

/// Which file knows which, by their module paths (`run::ledger`).
fn graph() -> Graph {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: BTreeMap<Vec<String>, String> = rust_files("src")
        .iter()
        .filter(|file| !is_test(file))
        .map(|file| {
            (module_path(file.strip_prefix(&src).unwrap()), fs::read_to_string(file).unwrap())
        })
        .filter(|(path, _)| !path.is_empty())
        .collect();
    let mut graph = Graph::new();
    for (module, text) in &files {
        for path in paths_in(&without_tests_and_comments(text)) {
            let Some(absolute) = absolute(module, &path) else { continue };
            let known = (1..=absolute.len()).rev().map(|n| &absolute[..n]);
            let Some(to) = known.into_iter().find(|path| files.contains_key(*path)) else {
                continue;
            };
            let is_kin = to.starts_with(module) || module.starts_with(to);
            if !is_kin {
                graph.entry(module.join("::")).or_default().insert(to.join("::"));
            }
        }
    }
    graph
}

fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<String> =
        file.with_extension("").iter().map(|it| it.to_str().unwrap().to_owned()).collect();
    path.pop_if(|last| last == "mod" || last == "lib");
    path
}

fn without_tests_and_comments(text: &str) -> String {
    let code = without_tests(text);
    code.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Every path that begins with `crate`, `super` or `self`, the branches of `use` trees one by one.
fn paths_in(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for begin in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(begin) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '$')) {
                continue;
            }
            tree(&mut code[at..].chars().peekable(), &mut Vec::new(), &mut found);
        }
    }
    found
}

/// `a::b`, `a::{b, c::d}`: reads one tree and stops behind it.
fn tree(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    before: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) {
    let n_before = before.len();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.next_if_eq(&'{').is_some() {
            loop {
                tree(rest, before, found);
                while rest.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
                if rest.peek().is_none() || rest.next_if_eq(&'}').is_some() {
                    break;
                }
            }
            break;
        }
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || matches!(c, '_' | '*')) {
            name.push(c);
        }
        if name.is_empty() {
            // Nothing that a `use` tree may hold: skip it, or we would stand here for ever.
            rest.next();
            break;
        }
        before.push(name);
        if rest.next_if_eq(&':').is_none() || rest.next_if_eq(&':').is_none() {
            found.push(before.clone());
            // `as name` names nothing further.
            while rest.next_if(|c| !matches!(c, ',' | '}' | ';' | '{' | '(')).is_some() {}
            break;
        }
    }
    before.truncate(n_before);
}

fn absolute(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let n_up = path.iter().take_while(|it| *it == "super").count();
    let (base, rest) = match path.first()?.as_str() {
        "crate" => (&[][..], &path[1..]),
        "self" => (module, &path[1..]),
        _ => (&module[..module.len().checked_sub(n_up)?], &path[n_up..]),
    };
    Some(base.iter().chain(rest).cloned().collect())
}

#[test]
fn trees_are_read_branch_by_branch() {
    let paths =
        paths_in("use crate::a::{self, B, c::{D as E, f}};\nlet x = super::g::h(crate::i);");
    let paths: Vec<String> = paths.iter().map(|path| path.join("::")).collect();
    let expected =
        ["crate::a::self", "crate::a::B", "crate::a::c::D", "crate::a::c::f", "crate::i"];
    assert_eq!(paths, [&expected[..], &["super::g::h"]].concat());
}
