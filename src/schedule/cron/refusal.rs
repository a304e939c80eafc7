//! Why an expression is refused, for the person who wrote it: what is wrong, and what to write.
//!
//! Invariant: no text is longer than a few lines or holds a control character, whatever was written.

use std::fmt::Write as _;

use thiserror::Error;

/// Characters of an expression that a message repeats; the longest sensible ones have fewer.
const MAX_QUOTED_CHARS: usize = 80;

/// Of each half of a message; the longest that is not made of somebody's input has half of it.
const MAX_TEXT_CHARS: usize = 320;

/// An expression that is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{what}: {instead}")]
pub struct Refusal {
    /// What is wrong, with the expression.
    pub what: String,
    /// What to write instead.
    pub instead: String,
}

impl Refusal {
    pub(super) fn new(what: impl Into<String>, instead: impl Into<String>) -> Self {
        let bounded = |text: String| written_out(&text, MAX_TEXT_CHARS);
        Self { what: bounded(what.into()), instead: bounded(instead.into()) }
    }

    /// The same, saying in which expression.
    pub(super) fn within(self, expression: &str) -> Self {
        let what = format!("{} in the cron expression {}", self.what, quote(expression));
        Self { what, ..self }
    }
}

/// A text between backquotes: shortened, and with control characters written out.
pub(super) fn quote(text: &str) -> String {
    format!("`{}`", written_out(text, MAX_QUOTED_CHARS))
}

/// The beginning of a text, with control characters written out.
fn written_out(text: &str, max_chars: usize) -> String {
    let mut written = String::new();
    for (n_chars, char) in text.chars().enumerate() {
        if n_chars == max_chars {
            written.push('…');
            break;
        }
        if char.is_control() {
            let _ = write!(written, "{}", char.escape_unicode());
        } else {
            written.push(char);
        }
    }
    written
}
