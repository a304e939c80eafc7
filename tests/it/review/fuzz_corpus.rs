//! What the fuzzers found interesting, and what is real, again in every test run.

use std::path::{Path, PathBuf};

#[path = "../../../fuzz/properties.rs"]
mod properties;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} is empty", folder.display());
    found
}

#[test]
fn no_reply_of_the_corpus_is_half_understood() {
    for path in files("fuzz/corpus/reply").into_iter().chain(files("tests/fixtures/gemini")) {
        properties::reply(&std::fs::read(path).unwrap());
    }
}

#[test]
fn no_picture_of_the_corpus_asks_for_more_than_the_limits_allow() {
    for folder in ["fuzz/corpus/picture", "tests/photos", "tests/photos/formats"] {
        for path in files(folder) {
            let bytes = std::fs::read(path).unwrap();
            properties::picture(&bytes);
            // Every file also without its end, and every small one cut at each of its bytes.
            properties::picture(&bytes[..bytes.len() / 2]);
            for length in 0..bytes.len().min(600) {
                properties::picture(&bytes[..length]);
            }
        }
    }
}
