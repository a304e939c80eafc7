//! What was found, printed: a line a part, and what to do where something is wrong.
//!
//! Pure. Invariant: the summary says how much was not asked.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// How it stands with one part, from well to badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// It answers as it should.
    Good,
    /// Nobody asked it.
    NotChecked,
    /// It works, and is probably not meant like that.
    Warning,
    /// It does not answer just now; nothing here is wrong.
    Unavailable,
    /// It will not work until somebody repairs it.
    Failed,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::NotChecked => "not_checked",
            Self::Warning => "warning",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::NotChecked => "-",
            Self::Warning => "WARNING",
            Self::Unavailable => "NO ANSWER",
            Self::Failed => "FAILED",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// `records`, `images`, `reviewer`, `channel`, `job`, `state`, `clock`, `settings`.
    pub(super) part: &'static str,
    /// Which one, where there are several.
    pub(super) name: String,
    /// How it stands.
    pub(super) state: State,
    /// In plain words.
    pub(super) what: String,
    /// What to do; empty where nothing is to be done.
    pub(super) instead: String,
}

impl Finding {
    pub(super) fn good(part: &'static str, what: impl Into<String>) -> Self {
        Self::new(part, State::Good, what, "")
    }

    pub(super) fn new(
        part: &'static str,
        state: State,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) -> Self {
        Self { part, name: String::new(), state, what: what.into(), instead: instead.into() }
    }

    pub(super) fn of(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

/// For people.
pub(super) fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let name =
            if finding.name.is_empty() { String::new() } else { format!("{}: ", finding.name) };
        // Writing to a String can't fail.
        let _ = writeln!(
            out,
            "{:<10} {:<9} {name}{}",
            finding.state.mark(),
            finding.part,
            finding.what
        );
        if !finding.instead.is_empty() {
            let _ = writeln!(out, "{:20} {}", "", finding.instead);
        }
    }
    let count = |state: State| findings.iter().filter(|finding| finding.state == state).count();
    let (n_failed, n_silent) = (count(State::Failed), count(State::Unavailable));
    let summary = match (n_failed, n_silent) {
        (0, 0) => "Everything that was tested works.".to_owned(),
        (0, n) => format!("{n} did not respond; try again later."),
        (n, 0) => format!("{n} must be fixed."),
        (failed, silent) => format!("{failed} must be fixed, {silent} did not respond."),
    };
    let _ = writeln!(
        out,
        "\n{summary} Not tested: {}, marked -. Nothing was changed and no message was sent.",
        count(State::NotChecked)
    );
    out
}

/// For programs.
pub(super) fn object(findings: &[Finding]) -> Value {
    let is_ok = findings.iter().all(|finding| finding.state < State::Unavailable);
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "part": finding.part,
                "name": finding.name,
                "state": finding.state.as_str(),
                "what": finding.what,
                "instead": finding.instead,
            })
        })
        .collect();
    json!({ "ok": is_ok, "findings": findings })
}
