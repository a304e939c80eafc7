//! What the standard statuses (docs/legacy-service.md, "States") are called in the user's table.
//!
//! Everything but the adapters and what is shown to people speaks the standard words; here they are
//! turned into the table's and back. `auto_review_status` is no status of this kind: what stands there
//! (category string, `auto_review_error`) is the same in every table.
//! Invariant: both ways lose nothing: a word of the table that only looks like a standard one comes in
//! quotes, so that nobody takes its row for one of ours.

use super::selection::RERUN;
use super::{ERROR, PROCESSING, SUCCESS};

/// The table's words, `[records.statuses]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the standard status of the same meaning")]
pub struct Statuses {
    pub processing: String,
    pub success: String,
    pub error: String,
    pub rerun: String,
}

impl Default for Statuses {
    fn default() -> Self {
        Self {
            processing: PROCESSING.to_owned(),
            success: SUCCESS.to_owned(),
            error: ERROR.to_owned(),
            rerun: RERUN.to_owned(),
        }
    }
}

impl Statuses {
    /// The key in the configuration, the standard word and the table's.
    #[must_use]
    pub fn all(&self) -> [(&'static str, &'static str, &str); 4] {
        [
            ("processing", PROCESSING, &self.processing),
            ("success", SUCCESS, &self.success),
            ("error", ERROR, &self.error),
            ("rerun", RERUN, &self.rerun),
        ]
    }

    /// The table's word for a status.
    #[must_use]
    pub fn in_table<'a>(&'a self, status: &'a str) -> &'a str {
        if let Some((_, _, word)) = self.all().into_iter().find(|(_, ours, _)| *ours == status) {
            return word;
        }
        let quoted = status.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        quoted.filter(|word| is_standard(word)).unwrap_or(status)
    }

    /// The same for a list.
    #[must_use]
    pub fn all_in_table(&self, statuses: &[String]) -> Vec<String> {
        statuses.iter().map(|status| self.in_table(status).to_owned()).collect()
    }

    /// The status that a word of the table means.
    #[must_use]
    pub fn meant_by(&self, word: &str) -> String {
        match self.all().into_iter().find(|(_, _, theirs)| *theirs == word) {
            Some((_, ours, _)) => ours.to_owned(),
            None if is_standard(word) => format!("\"{word}\""),
            None => word.to_owned(),
        }
    }
}

/// Whether it is one of the words that Lookout and the old service give a meaning to.
#[must_use]
pub fn is_standard(word: &str) -> bool {
    [PROCESSING, SUCCESS, ERROR, RERUN].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_lose_nothing() {
        let statuses = Statuses {
            processing: "in_review".into(),
            success: "reviewed".into(),
            ..Statuses::default()
        };
        for word in [
            "in_review",
            "reviewed",
            "auto_review_error",
            "downloaded",
            "processing",
            "auto_review_success",
            "\"x\"",
            "",
        ] {
            assert_eq!(statuses.in_table(&statuses.meant_by(word)), word);
        }
        assert_eq!(statuses.meant_by("in_review"), PROCESSING);
        assert_eq!(statuses.in_table(SUCCESS), "reviewed");
        assert_ne!(statuses.meant_by("processing"), PROCESSING, "it is another's word here");
    }
}
