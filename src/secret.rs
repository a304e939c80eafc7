//! Values that never print: keys, passwords, webhook addresses.
//!
//! Invariant: neither `Debug`, `Display` nor `Serialize` of a [`Secret`] exists in a form that
//! shows the value; the only way out is [`Secret::expose`], which is easy to search for.

use std::fmt;

/// A value from the environment or a file that must not reach a log, an alert, a page, a
/// database or `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Takes the value as it is; surrounding white space is the reader's business.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `…` and the last four characters, so that a person can tell two keys apart; nothing at
    /// all of values shorter than 12 characters, where four would be too much.
    #[must_use]
    pub fn hint(&self) -> String {
        let n_chars = self.0.chars().count();
        if n_chars < 12 {
            return "…".to_owned();
        }
        format!("…{}", self.0.chars().skip(n_chars - 4).collect::<String>())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = Secret::new("not-a-real-key-12345");
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(secret.hint(), "…2345");
        assert_eq!(Secret::new("short").hint(), "…");
    }
}
