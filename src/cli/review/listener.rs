//! What a review says while it goes on: a bar on a terminal, lines otherwise.
//!
//! Invariant: not on a terminal there is no carriage return and no escape code; every line is
//! flushed, since a keeper that hears nothing takes a review for dead.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Form;
use crate::cli::output;
use crate::protocol::Line;
use crate::redact::Redactor;
use crate::review::report::{Observer, ReviewEvent, RowResult};
use crate::text;

/// Where it says it.
pub(super) struct Screen {
    redactor: Redactor,
    form: Form,
    bar: Option<ProgressBar>,
    results: Mutex<Vec<RowResult>>,
}

impl Screen {
    /// Looks whether there is a terminal.
    pub(super) fn new(redactor: Redactor, form: Form) -> Self {
        let bar = io::stdout().is_terminal().then(new_bar);
        Self { redactor, form, bar, results: Mutex::default() }
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// What has come so far; empty unless results are printed.
    pub(super) fn results(&self) -> MutexGuard<'_, Vec<RowResult>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to stdout.
    pub(super) fn print(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text::printable(&self.redactor.redact(text)).as_bytes())?;
        out.flush()
    }

    fn line(&self, line: &Line) {
        match &self.bar {
            // A person needs no totals, and sees progress in the bar.
            Some(bar) => {
                if let Some(words) = words(line) {
                    bar.suspend(|| self.complain(&words));
                }
            }
            None => {
                // Nobody reads any more: the last lines will find out.
                let _ = self.print(&format!("{line}\n"));
            }
        }
    }

    fn complain(&self, words: &str) {
        output::complain(&self.redactor.redact(words));
    }
}

impl Observer for Screen {
    fn on_event(&self, event: &ReviewEvent) {
        match event {
            ReviewEvent::Line(line) => self.line(line),
            ReviewEvent::Progress { done, total } => match &self.bar {
                Some(bar) => {
                    bar.set_length(*total);
                    bar.set_position(*done);
                }
                None => self.line(&Line::Progress {
                    done: *done,
                    total: Some(*total),
                    unit: "images".to_owned(),
                }),
            },
            ReviewEvent::Result(result) => match self.form {
                Form::Json => self.results().push(result.clone()),
                Form::Text => {}
            },
        }
    }
}

/// Drawn whatever `NO_COLOR` says: it asks for no colours, not for no bar.
pub(super) fn new_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
    // The template is ours; were it wrong, the default bar would do.
    let style = ProgressStyle::with_template(
        "{elapsed_precise} [{wide_bar}] {pos}/{len} images, {per_sec}, {eta} left",
    );
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// A line as a person at a terminal would want it.
fn words(line: &Line) -> Option<String> {
    match line {
        Line::Problem(problem) => Some(format!(
            "{}: {} ({} times)",
            problem.kind.replace('_', " "),
            problem.detail,
            problem.count
        )),
        Line::Recovered { kind } => Some(format!("{}: works again", kind.replace('_', " "))),
        Line::Note { text } => Some(text.clone()),
        Line::Progress { .. } | Line::Totals(_) => None,
    }
}
