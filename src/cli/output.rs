//! How commands print: one writer for standard output, colour only on a terminal.
//!
//! `table.rs` aligns, `time.rs` prints times; what is shown is each command's business.
//! Invariants: the text without colour says everything; output that can't be written ends no
//! command early and panics nowhere, but the exit code tells of it.

pub mod table;
pub mod time;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::{EXIT_FAILED, EXIT_OK, EXIT_USAGE};
use crate::text;
use crate::watch::{Severity, Verdict};

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text(Style),
    /// One JSON array or object.
    Json,
}

/// Where text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Into a file or a pipe: no colour, and one line a row, however long.
    Plain,
    /// To a person.
    Terminal {
        /// Whether it shows colours.
        colours: Colours,
        /// How many characters fit into a line.
        columns: usize,
    },
}

/// Whether colours are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// Yes.
    Shown,
    /// No: `NO_COLOR` (no-color.org) is set, or the terminal is a dumb one.
    Off,
}

/// What a terminal that does not tell its size has; also the least that is laid out for.
const COLUMNS: usize = 80;

impl Style {
    /// Of standard output.
    fn of_stdout() -> Self {
        let out = io::stdout();
        if !out.is_terminal() {
            return Self::Plain;
        }
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
        let colours = if no_color || is_dumb { Colours::Off } else { Colours::Shown };
        let size = rustix::termios::tcgetwinsize(&out).map_or(0, |size| usize::from(size.ws_col));
        let columns = if size == 0 { COLUMNS } else { size.max(COLUMNS) };
        Self::Terminal { colours, columns }
    }

    /// How many characters fit into a line; `None`: any number.
    #[must_use]
    pub fn columns(self) -> Option<usize> {
        match self {
            Self::Plain => None,
            Self::Terminal { columns, .. } => Some(columns),
        }
    }
}

impl Format {
    /// By `--json` and by what standard output is.
    #[must_use]
    pub fn choose(json: JsonFlag) -> Self {
        if json.json { Self::Json } else { Self::Text(Style::of_stdout()) }
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

/// Standard output, as every command writes it.
///
/// The first failure is remembered and everything after it dropped, so that a command that holds
/// rows or processes goes on to its end; [`Output::end`] turns the failure into the exit code.
#[derive(Debug)]
pub struct Output<W: Write = io::Stdout> {
    inner: W,
    failure: Option<io::Error>,
}

impl Output {
    /// Of this process.
    #[must_use]
    pub fn stdout() -> Self {
        Self::new(io::stdout())
    }
}

impl<W: Write> Output<W> {
    /// Writes to this.
    #[must_use]
    pub fn new(inner: W) -> Self {
        Self { inner, failure: None }
    }

    /// Whether nothing arrives any more: the reader went away, or the disk is full.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.failure.is_some()
    }

    /// The command's exit code, which `code` would be if all was written. A reader that went away
    /// (`| head`) has what it wanted; any other failure is reported.
    #[must_use]
    pub fn end(mut self, code: u8) -> u8 {
        let _ = self.flush();
        match self.failure {
            None => code,
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => code,
            Some(error) => {
                let failed = fail(&format!("lookout: can't write to standard output: {error}"));
                if code == EXIT_OK { failed } else { code }
            }
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Ok(bytes.len());
        }
        match self.inner.write(bytes) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.failure = Some(error);
                Ok(bytes.len())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failure.is_none() {
            self.failure = self.inner.flush().err();
        }
        Ok(())
    }
}

/// An amount for people: cents, and below a cent the two digits that say something.
#[must_use]
pub fn usd(amount: f64) -> String {
    match amount {
        it if it >= 0.01 || it <= 0.0 => format!("{it:.2} USD"),
        it if it >= 0.0001 => format!("{it:.4} USD"),
        it => format!("{it:.6} USD"),
    }
}

/// Prints a command's only text, and ends it with this exit code.
#[must_use]
pub fn print(text: &str, code: u8) -> u8 {
    let mut out = Output::stdout();
    let _ = out.write_all(text.as_bytes());
    out.end(code)
}

/// Writes a line to standard error, without anything in it that a terminal would obey. `eprintln!`
/// would panic where that is closed.
pub fn complain(text: &str) {
    // Nobody is left to tell; the exit code still says it.
    let _ = writeln!(io::stderr(), "{}", text::printable(text));
}

/// Says on standard error why the work failed; exit code 1.
#[must_use]
pub fn fail(why: &str) -> u8 {
    complain(why);
    EXIT_FAILED
}

/// Says on standard error why this can't be done as it was asked for; exit code 2.
#[must_use]
pub fn refuse(why: &str) -> u8 {
    complain(why);
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
            Style::Terminal { colours: Colours::Shown, .. } if self != Self::Plain => {
                format!("\x1b[{}m{text}\x1b[0m", self.code())
            }
            Style::Terminal { .. } | Style::Plain => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_went_away_leaves_the_exit_code_and_a_full_disk_does_not() {
        for (kind, code, ended) in [
            (io::ErrorKind::BrokenPipe, EXIT_OK, EXIT_OK),
            (io::ErrorKind::BrokenPipe, 75, 75),
            (io::ErrorKind::StorageFull, EXIT_OK, EXIT_FAILED),
            (io::ErrorKind::StorageFull, 75, 75),
        ] {
            let mut out = Output::new(Broken(kind));
            writeln!(out, "a line").unwrap();
            assert!(out.is_broken());
            assert_eq!(out.end(code), ended, "{kind:?}");
        }
    }
}
