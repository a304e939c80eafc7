//! Structure as a test: who may import whom, file heads, banned names.
//!
//! The import table is `ARCHITECTURE.md`'s; a wrong direction fails with the file that has it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic: that is how it fails"
)]

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/names.rs"]
mod names;

use std::fs;
use std::path::{Path, PathBuf};

const LEAVES: [&str; 15] = [
    "clock",
    "duration",
    "http",
    "placeholder",
    "process",
    "protocol",
    "pulse",
    "redact",
    "regular_file",
    "rundir",
    "secret",
    "sqlite",
    "storage",
    "text",
    "timezone",
];

/// Module → what it may import besides the leaves and itself.
const MAY_IMPORT: [(&str, &[&str]); 13] = [
    ("schedule", &[]),
    ("keep", &[]),
    ("run", &["schedule"]),
    ("watch", &["schedule", "run"]),
    ("alert", &["watch"]),
    ("review", &[]),
    ("store", &["schedule", "run", "watch", "alert"]),
    ("web", &["schedule", "run", "watch", "alert"]),
    ("drill", &["review"]),
    ("config", &["schedule", "keep", "run", "watch", "alert", "review", "web"]),
    (
        "app",
        &["schedule", "keep", "run", "watch", "alert", "review", "store", "web", "drill", "config"],
    ),
    ("cli", &["app", "config", "schedule", "keep", "run", "watch", "alert", "review", "drill"]),
    ("main", &["cli"]),
];

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
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
    found.sort();
    found
}

/// A file of tests beside what it tests.
fn is_test(file: &Path) -> bool {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
    stem == "tests" || stem.ends_with("_tests")
}

/// A file without the module of tests at its end.
fn without_tests(text: &str) -> String {
    let end = ["#[cfg(test)]\nmod ", "#[cfg(test)]\npub(crate) mod "]
        .iter()
        .filter_map(|begin| text.find(begin))
        .min();
    text[..end.unwrap_or(text.len())].to_owned()
}

/// First component below `src`, without `.rs`.
fn module_of(file: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = file.strip_prefix(src).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Every `crate::name` in the code (comments left out).
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                found.push((number + 1, name));
            }
        }
    }
    found
}

#[test]
fn imports_point_up_the_story() {
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let module = module_of(&file);
        if module == "lib" {
            continue;
        }
        let allowed = MAY_IMPORT.iter().find(|(name, _)| *name == module).map_or(&[][..], |m| m.1);
        assert!(
            LEAVES.contains(&module.as_str()) || MAY_IMPORT.iter().any(|(name, _)| *name == module),
            "{} belongs to no module of the table",
            file.display()
        );
        let text = fs::read_to_string(&file).unwrap();
        for (line, name) in imports(&text) {
            let is_leaf = LEAVES.contains(&name.as_str());
            let leaf_itself = LEAVES.contains(&module.as_str()) && is_leaf && name != "clock";
            if name != module && !(is_leaf || allowed.contains(&name.as_str())) && !leaf_itself {
                wrong.push(format!("{}:{line}: {module} must not import {name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    for folder in ["src", "tests"] {
        for file in rust_files(folder) {
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//!"), "{} does not open with //!", file.display());
        }
    }
}

#[test]
fn no_file_has_grown_out_of_sight() {
    for file in rust_files("src") {
        let n_lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(n_lines <= 600, "{} has {n_lines} lines: two jobs in one file?", file.display());
    }
}

#[test]
fn no_file_is_named_after_nothing() {
    for file in rust_files("src").into_iter().chain(rust_files("tests")) {
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let banned = ["utils", "util", "helpers", "common", "misc", "manager"];
        assert!(!banned.contains(&stem), "{}: name it after what it holds", file.display());
    }
}

/// Linux is the platform; crates for others are not built and not looked at.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Licences that let a proprietary product ship the crate. MPL-2.0 is for `webpki-roots`, a list of
/// certificates that comes with `postgrest` and is never opened here.
const LICENCES: [&str; 16] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "IJG",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[test]
fn every_dependency_has_a_permissive_licence() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", PLATFORM])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if name == "lookout" {
            continue;
        }
        let licence = package["license"].as_str().unwrap_or("none").replace(['(', ')'], "");
        let licence = licence.replace('/', " OR ").replace("  ", " ");
        let permissive = licence
            .split(" AND ")
            .all(|part| part.split(" OR ").any(|choice| LICENCES.contains(&choice.trim())));
        assert!(permissive, "{name} is under {licence}");
    }
}
