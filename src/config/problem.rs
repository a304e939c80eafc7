//! Problems: what is wrong in the configuration, where, and what to write instead.
//!
//! Collected, never thrown: a person who corrects one file sees all that is wrong in all of them.
//! Invariant: a problem never repeats the value of a secret.

use std::fmt;

/// Where something was written: a file and its line, or the environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// File as a person would name it (`schedules/image-review.toml`), or `environment`.
    pub file: String,
    /// Counted from 1; `None` when a whole file, or the process environment, is meant.
    pub line: Option<usize>,
}

impl Place {
    /// A file as a whole.
    pub(super) fn file(file: impl Into<String>) -> Self {
        Self { file: file.into(), line: None }
    }

    /// The environment of the process.
    pub(super) fn environment() -> Self {
        Self::file("environment")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// Path of the setting, or name of the variable: `job.url`, `SUPABASE_KEY`.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub instead: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n    {}", self.what, self.instead)
    }
}

/// All problems of all files, in the order of files and lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// In the order of files and lines, each once.
    pub(super) fn sorted(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self(problems)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => writeln!(f, "1 problem in the configuration:")?,
            n => writeln!(f, "{n} problems in the configuration:")?,
        }
        for problem in &self.0 {
            write!(f, "\n{problem}\n")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The known word nearest to `word`, if it is near enough to have been meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        // A third of the word may be wrong: `web_hook` is `webhook_url`'s neighbour, `x` nobody's.
        .filter(|(distance, candidate)| {
            *distance <= candidate.len().max(word.len()) / 3
                || (word.len() >= 4 && candidate.starts_with(&word))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, change, or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let changed = last[j] + usize::from(a[i] != b[j]);
            let mut best = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_word_that_was_meant() {
        let known = ["time_box", "timezone", "signal", "signal_grace", "webhook_url"];
        assert_eq!(nearest("timebox", known), Some("time_box"));
        assert_eq!(nearest("time_zone", known), Some("timezone"));
        assert_eq!(nearest("Signal", known), Some("signal"));
        assert_eq!(nearest("singal", known), Some("signal"));
        assert_eq!(nearest("webhook", known), Some("webhook_url"));
        assert_eq!(nearest("colour", known), None);
    }
}
