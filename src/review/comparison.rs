//! Comparison: what we say of rows that have been reviewed before, beside what was said then.
//!
//! Pure; `sampling.rs` finds the rows, `looking.rs` looks at their pictures. Printing is the
//! command's business.
//! Invariant: a row counts for a code only if both answers can be asked about it.

pub mod looking;
pub mod sampling;

use std::collections::BTreeSet;

use crate::review::category::{Code, GOOD};
use crate::review::record::RecordId;

/// An answer as it stands in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Category string.
    pub categories: String,
    /// The sentence.
    pub details: String,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Which.
    pub id: RecordId,
    /// What stands in the table.
    pub old: Said,
    /// What we say, or why we say nothing.
    pub new: Result<Said, String>,
}

/// How often two answers agree about one code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Both give it.
    pub both: u64,
    /// Neither does.
    pub neither: u64,
    /// Only the answer in the table gives it.
    pub only_old: u64,
    /// Only ours does.
    pub only_new: u64,
}

impl Agreement {
    /// Rows that were asked about it.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.both + self.neither + self.only_old + self.only_new
    }

    /// The part of them in which both say the same; `None`: none was asked.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        let asked = self.asked();
        (asked > 0).then(|| (self.both + self.neither) as f64 / asked as f64)
    }
}

/// Rows side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// In the order in which they were answered.
    pub rows: Vec<Compared>,
}

impl Comparison {
    /// Rows with two answers, as (id, old, new).
    pub fn pairs(&self) -> impl Iterator<Item = (&RecordId, &Said, &Said)> {
        self.rows.iter().filter_map(|row| Some((&row.id, &row.old, row.new.as_ref().ok()?)))
    }

    /// Rows with two answers that say something else.
    pub fn differing(&self) -> impl Iterator<Item = (&RecordId, &Said, &Said)> {
        self.pairs().filter(|(_, old, new)| !is_same(&old.categories, &new.categories))
    }

    /// Rows that we could say nothing of, and why.
    pub fn unanswered(&self) -> impl Iterator<Item = (&RecordId, &str)> {
        self.rows.iter().filter_map(|row| Some((&row.id, row.new.as_ref().err()?.as_str())))
    }

    /// How often both agree about a code.
    #[must_use]
    pub fn about(&self, code: Code) -> Agreement {
        let mut agreement = Agreement::default();
        for (_, old, new) in self.pairs() {
            let (Some(old), Some(new)) =
                (gives(&old.categories, code), gives(&new.categories, code))
            else {
                continue;
            };
            let counter = match (old, new) {
                (true, true) => &mut agreement.both,
                (false, false) => &mut agreement.neither,
                (true, false) => &mut agreement.only_old,
                (false, true) => &mut agreement.only_new,
            };
            *counter += 1;
        }
        agreement
    }
}

/// The codes of a category string, whatever their order; `None`: it is none.
fn codes_of(categories: &str) -> Option<BTreeSet<Code>> {
    let categories = categories.trim();
    if categories.eq_ignore_ascii_case(GOOD) {
        return Some(BTreeSet::new());
    }
    categories.split(',').map(|name| Code::from_name(name.trim())).collect()
}

fn is_same(old: &str, new: &str) -> bool {
    match (codes_of(old), codes_of(new)) {
        (Some(old), Some(new)) => old == new,
        (None, _) | (_, None) => old == new,
    }
}

/// Whether a category string gives a code; `None`: it does not say. `H1` alone stands for people
/// with or without correct text (docs/legacy-service.md, "Category string").
fn gives(categories: &str, code: Code) -> Option<bool> {
    let codes = codes_of(categories)?;
    if code == Code::T1 && codes.len() == 1 && codes.contains(&Code::H1) {
        return None;
    }
    Some(codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(categories: &str) -> Said {
        Said { categories: categories.into(), details: "x".into() }
    }

    fn comparison(pairs: &[(&str, &str)]) -> Comparison {
        let rows = pairs.iter().enumerate().map(|(n, (old, new))| Compared {
            id: RecordId(n.to_string()),
            old: said(old),
            new: Ok(said(new)),
        });
        Comparison { rows: rows.collect() }
    }

    #[test]
    fn each_code_is_counted_by_itself() {
        let comparison =
            comparison(&[("good", "good"), ("W1", "good"), ("W1, BR", "BR, W1"), ("good", "BR")]);
        let about = |code| {
            let Agreement { both, neither, only_old, only_new } = comparison.about(code);
            (both, neither, only_old, only_new)
        };
        assert_eq!(about(Code::W1), (1, 2, 1, 0));
        assert_eq!(about(Code::BR), (1, 2, 0, 1));
        assert_eq!(about(Code::N1), (0, 4, 0, 0));
        assert_eq!(comparison.about(Code::W1).share(), Some(0.75));
        let differing: Vec<&str> = comparison.differing().map(|(id, ..)| id.0.as_str()).collect();
        assert_eq!(differing, ["1", "3"], "the order of codes does not matter");
    }

    #[test]
    fn people_alone_say_nothing_about_correct_text() {
        let comparison = comparison(&[("H1", "T1, W1, H1"), ("T1", "H1"), ("H1", "H1")]);
        assert_eq!(comparison.about(Code::T1).asked(), 0);
        assert_eq!(comparison.about(Code::T1).share(), None);
        assert_eq!(comparison.about(Code::H1).both, 2);
        assert_eq!(comparison.differing().count(), 2);
    }

    #[test]
    fn what_is_no_category_counts_for_no_code_and_differs() {
        let mut comparison = comparison(&[("error", "good"), ("", "good")]);
        assert_eq!(comparison.about(Code::W1).asked(), 0);
        assert_eq!(comparison.differing().count(), 2);
        comparison.rows[0].new = Err("404".into());
        assert_eq!(comparison.pairs().count(), 1);
        assert_eq!(comparison.unanswered().count(), 1);
    }
}
