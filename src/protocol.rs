//! The `::lookout::` lines: how a job tells its keeper more than an exit code can.
//!
//! `::lookout::progress done=12 total=100 unit=images`, `problem`, `recovered`, `totals`, `note`.
//! Values with spaces stand in double quotes, `\"` and `\\` inside; counters are cumulative for
//! the run. Both halves need it: the review prints, the keeper parses.
//! Invariant: `parse(line.to_string()) == Some(line)`; a line that is not understood is output
//! like any other, never an error.

use std::collections::BTreeMap;
use std::fmt;

/// How every such line begins.
pub const PREFIX: &str = "::lookout::";

/// Longest line that is looked at, in bytes; a longer one is plain output. Bounds the memory of
/// a keeper whose job prints without newlines.
pub const LONGEST_LINE: usize = 16 * 1024;

/// One line, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// How far the job is.
    Progress {
        /// Done so far in this run.
        done: u64,
        /// Of how many, if known.
        total: Option<u64>,
        /// Of what; `items` when not said.
        unit: String,
    },
    /// Something outside is broken.
    Problem(Problem),
    /// It works again.
    Recovered {
        /// Incident kind.
        kind: String,
    },
    /// Where everything went; cumulative.
    Totals(Totals),
    /// For people.
    Note {
        /// One line.
        text: String,
    },
}

/// Something outside is broken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Incident kind (`provider_unavailable`, …).
    pub kind: String,
    /// Who (`gemini`).
    pub provider: Option<String>,
    /// HTTP status; absent when it could not be reached at all.
    pub status: Option<u16>,
    /// Faults so far in this outage.
    pub count: u64,
    /// Calls in the same time.
    pub calls: Option<u64>,
    /// The last error, one line.
    pub detail: String,
    /// What it is in a few words that stay the same for as long as it lasts; present when it does
    /// not pass by itself (`Gemini monthly spend cap reached`).
    pub title: Option<String>,
    /// What a person must do about it; present when it does not pass by itself.
    pub action: Option<String>,
}

/// Where everything went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// `succeeded`, `errored`, `blocked`, `returned`, `remaining`, `tokens_in`, `tokens_out`, …
    pub counts: BTreeMap<String, u64>,
    /// US dollars; absent when a price is unknown.
    pub usd: Option<f64>,
}

impl Line {
    /// Understands one line without its newline; `None` for anything else.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let rest = line.trim_end_matches('\r').strip_prefix(PREFIX)?;
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut fields = parse_fields(rest)?;
        match word {
            "progress" => Some(Self::Progress {
                done: fields.get("done")?.parse().ok()?,
                total: fields.get("total").and_then(|v| v.parse().ok()),
                unit: fields.remove("unit").unwrap_or_else(|| "items".to_owned()),
            }),
            "problem" => Some(Self::Problem(Problem {
                kind: fields.remove("kind")?,
                provider: fields.remove("provider"),
                status: fields.get("status").and_then(|v| v.parse().ok()),
                count: fields.get("count").and_then(|v| v.parse().ok()).unwrap_or(1),
                calls: fields.get("calls").and_then(|v| v.parse().ok()),
                detail: fields.remove("detail").unwrap_or_default(),
                title: fields.remove("title"),
                action: fields.remove("action"),
            })),
            "recovered" => Some(Self::Recovered { kind: fields.remove("kind")? }),
            "totals" => {
                let usd = fields.remove("usd").and_then(|v| v.parse().ok());
                let counts =
                    fields.into_iter().filter_map(|(k, v)| Some((k, v.parse().ok()?))).collect();
                Some(Self::Totals(Totals { counts, usd }))
            }
            "note" => Some(Self::Note { text: fields.remove("text")? }),
            _ => None,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Progress { done, total, unit } => {
                write!(f, "{PREFIX}progress done={done}")?;
                if let Some(total) = total {
                    write!(f, " total={total}")?;
                }
                write!(f, " unit={}", Quoted(unit))
            }
            Self::Problem(problem) => {
                write!(f, "{PREFIX}problem kind={}", Quoted(&problem.kind))?;
                if let Some(provider) = &problem.provider {
                    write!(f, " provider={}", Quoted(provider))?;
                }
                if let Some(status) = problem.status {
                    write!(f, " status={status}")?;
                }
                write!(f, " count={}", problem.count)?;
                if let Some(calls) = problem.calls {
                    write!(f, " calls={calls}")?;
                }
                write!(f, " detail={}", Quoted(&problem.detail))?;
                if let Some(title) = &problem.title {
                    write!(f, " title={}", Quoted(title))?;
                }
                if let Some(action) = &problem.action {
                    write!(f, " action={}", Quoted(action))?;
                }
                Ok(())
            }
            Self::Recovered { kind } => write!(f, "{PREFIX}recovered kind={}", Quoted(kind)),
            Self::Totals(totals) => {
                write!(f, "{PREFIX}totals")?;
                for (name, count) in &totals.counts {
                    write!(f, " {name}={count}")?;
                }
                match totals.usd {
                    Some(usd) => write!(f, " usd={usd}"),
                    None => Ok(()),
                }
            }
            Self::Note { text } => write!(f, "{PREFIX}note text={}", Quoted(text)),
        }
    }
}

/// Writes a value so that `parse_fields` reads it back; line breaks become spaces, because a
/// line is all there is.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = !self.0.is_empty()
            && !self.0.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
        if plain {
            return f.write_str(self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                c if c.is_control() => f.write_str(" ")?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// `a=1 b="two words"` → map; `None` if it is not of that form.
fn parse_fields(text: &str) -> Option<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return None;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => parse_quoted(quoted)?,
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        fields.insert(name.to_owned(), value);
        rest = after.trim_start();
    }
    Some(fields)
}

/// The text up to the closing quote, unescaped, and what follows it.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_reads_back_as_it_was_written() {
        for line in [
            Line::Progress { done: 12, total: Some(100), unit: "images".into() },
            Line::Progress { done: 0, total: None, unit: "two words".into() },
            Line::Problem(Problem {
                kind: "provider_unavailable".into(),
                provider: Some("gemini".into()),
                status: Some(503),
                count: 7,
                calls: Some(9),
                detail: r#"said "overloaded" \o/ = bad"#.into(),
                title: Some("a title".into()),
                action: Some("do \"this\"".into()),
            }),
            Line::Recovered { kind: "provider_unavailable".into() },
            Line::Totals(Totals {
                counts: [("succeeded".to_owned(), 90), ("remaining".to_owned(), 1240)].into(),
                usd: Some(0.063),
            }),
            Line::Note { text: String::new() },
        ] {
            assert_eq!(Line::parse(&line.to_string()), Some(line.clone()), "{line}");
        }
    }

    #[test]
    fn a_line_break_in_a_value_cannot_start_a_line_of_its_own() {
        let line = Line::Note { text: "one\n::lookout::recovered kind=x".into() };
        assert!(!line.to_string().contains('\n'));
    }

    #[test]
    fn what_is_not_understood_is_no_line() {
        for text in [
            "",
            "::lookout::",
            "::lookout::progress",
            "::lookout::progress done=x",
            "::lookout::note text=\"open",
            "::lookout::dance",
            "x ::lookout::note text=a",
            "::lookout::problem detail=x",
        ] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
    }
}
