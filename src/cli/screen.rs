//! How the reading commands look: aligned tables, times that people can place, colour only where
//! somebody sees it.
//!
//! What is shown is each command's business. Invariant: the text without colour says everything;
//! colour only repeats it.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::{EXIT_FAILED, EXIT_OK, EXIT_USAGE};
use crate::watch::{Severity, Verdict};

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text(Style),
    /// One JSON array or object.
    Json,
}

/// With colour or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// A terminal, and `NO_COLOR` (no-color.org) is not set.
    Colour,
}

impl Format {
    /// By `--json`, by what standard output is, and by `NO_COLOR` (no-color.org).
    #[must_use]
    pub fn choose(json: JsonFlag) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let may_colour = !no_color && io::stdout().is_terminal();
        match json {
            JsonFlag { json: true } => Self::Json,
            JsonFlag { json: false } if may_colour => Self::Text(Style::Colour),
            JsonFlag { json: false } => Self::Text(Style::Plain),
        }
    }

    /// The style of text output; plain for JSON.
    #[must_use]
    pub fn style(self) -> Style {
        match self {
            Self::Text(style) => style,
            Self::Json => Style::Plain,
        }
    }
}

/// `--json`, as every reading command has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct JsonFlag {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Prints one JSON value, indented, with a line break.
///
/// # Errors
/// When standard output is closed.
pub fn print_json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// The exit code of a command that only had to print. A reader that went away (`| head`) is no
/// failure.
#[must_use]
pub fn end(printed: io::Result<()>) -> u8 {
    match printed {
        Ok(()) => EXIT_OK,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => EXIT_OK,
        Err(error) => fail(&error.to_string()),
    }
}

/// Says on standard error why the work failed; exit code 1.
#[must_use]
pub fn fail(why: &str) -> u8 {
    // Nobody to tell when standard error is closed; the exit code still says it.
    let _ = writeln!(io::stderr(), "{why}");
    EXIT_FAILED
}

/// Says on standard error why this can't be done as it was asked for; exit code 2.
#[must_use]
pub fn refuse(why: &str) -> u8 {
    let _ = writeln!(io::stderr(), "{why}");
    EXIT_USAGE
}

/// Good, bad or neither: what colour repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As the terminal has it.
    Plain,
    /// A heading.
    Bold,
    /// Less important.
    Dim,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Bad.
    Bad,
}

impl Tone {
    /// The verdict's.
    #[must_use]
    pub fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Completed => Self::Good,
            Verdict::Skipped => Self::Dim,
            Verdict::Unobserved | Verdict::Missed => Self::Warning,
            Verdict::NoSignal
            | Verdict::Failed
            | Verdict::TimedOut
            | Verdict::Stalled
            | Verdict::Interrupted => Self::Bad,
        }
    }

    /// The severity's.
    #[must_use]
    pub fn of_severity(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Plain,
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Bad,
        }
    }

    /// Select Graphic Rendition parameters (ECMA-48, 8.3.117).
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
        }
    }

    /// The text in this tone.
    #[must_use]
    pub fn paint(self, text: &str, style: Style) -> String {
        match style {
            Style::Colour if self != Self::Plain => format!("\x1b[{}m{text}\x1b[0m", self.code()),
            Style::Colour | Style::Plain => text.to_owned(),
        }
    }
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// In the given tone.
    #[must_use]
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        // A line break or an escape in a stored text must not break the table or the terminal.
        let text = text.into().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self { text, tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// An aligned table; the last column is not padded.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// With its headings.
    #[must_use]
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        let heading = headings.map(|text| Cell::toned(text, Tone::Dim));
        Self { rows: vec![heading.into()] }
    }

    /// Adds a row with as many cells as there are headings.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// Whether it has no row besides its headings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// Prints it.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn print(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let n_columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let widths = self.rows.iter().filter_map(|row| row.get(column));
            widths.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..n_columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width - cell.text.chars().count().min(*width);
                line.push_str(&cell.tone.paint(&cell.text, style));
                line.push_str(&" ".repeat(padding + 2));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `in 12 min`, `3 h ago`, `now`: the two largest parts that matter to a person.
#[must_use]
pub fn relative(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let ahead = at - now;
    if ahead.abs() < TimeDelta::seconds(1) {
        return "now".to_owned();
    }
    let text = Span(ahead.abs().to_std().unwrap_or_default()).to_string();
    if ahead > TimeDelta::zero() { format!("in {text}") } else { format!("{text} ago") }
}

/// A length of time for people: `45 s`, `12 min`, `1 h 5 min`, `3 d 4 h`.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        let two = |large: String, rest: u64, unit: &str| match rest {
            0 => large,
            rest => format!("{large} {rest} {unit}"),
        };
        let text = match seconds {
            0 => format!("{} ms", self.0.subsec_millis()),
            1..60 => format!("{seconds} s"),
            60..600 => two(format!("{minutes} min"), seconds % 60, "s"),
            600..3600 => format!("{minutes} min"),
            3600..86_400 => two(format!("{hours} h"), minutes % 60, "min"),
            _ => two(format!("{days} d"), hours % 24, "h"),
        };
        f.pad(&text)
    }
}

/// `2026-11-22 11:00:00`, for a column whose heading says UTC.
#[must_use]
pub fn utc(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// `Sun 12:00 CET`: what the clock on the wall says, with the day, because UTC may have another.
#[must_use]
pub fn local(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%a %H:%M %Z").to_string()
}

/// All three on one line: `11:00:00 UTC on 2026-11-22 (Sun 12:00 CET, 3 h ago)`.
#[must_use]
pub fn moment(at: DateTime<Utc>, zone: Option<Tz>, now: DateTime<Utc>) -> String {
    let ago = relative(at, now);
    match zone.filter(|zone| *zone != Tz::UTC) {
        Some(zone) => format!("{} UTC ({}, {ago})", utc(at), local(at, zone)),
        None => format!("{} UTC ({ago})", utc(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        let now = at("2026-11-22T11:00:00Z");
        for (when, said) in [
            ("2026-11-22T11:00:00.4Z", "now"),
            ("2026-11-22T11:00:45Z", "in 45 s"),
            ("2026-11-22T10:58:30Z", "1 min 30 s ago"),
            ("2026-11-22T11:45:20Z", "in 45 min"),
            ("2026-11-22T05:55:00Z", "5 h 5 min ago"),
            ("2026-11-22T17:00:00Z", "in 6 h"),
            ("2026-11-25T15:00:00Z", "in 3 d 4 h"),
            ("2026-11-15T11:00:00Z", "7 d ago"),
        ] {
            assert_eq!(relative(at(when), now), said, "{when}");
        }
        let berlin = Some(chrono_tz::Europe::Berlin);
        assert_eq!(
            moment(at("2026-11-22T23:30:00Z"), berlin, now),
            "2026-11-22 23:30:00 UTC (Mon 00:30 CET, in 12 h 30 min)"
        );
    }

    #[test]
    fn tables_are_aligned_and_hold_no_control_characters_of_stored_texts() {
        let mut table = Table::new(["NAME", "WHY"]);
        table.row(["a".into(), Cell::toned("bad\x1b[2J\nnews", Tone::Bad)]);
        table.row(["längst".into(), "".into()]);
        let print = |style| {
            let mut out = Vec::new();
            table.print(&mut out, style).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(print(Style::Plain), "NAME    WHY\na       bad [2J news\nlängst\n");
        assert!(print(Style::Colour).contains("\x1b[31mbad [2J news\x1b[0m"));
    }
}
