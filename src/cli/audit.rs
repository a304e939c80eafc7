//! `lookout audit`: proves that every slot has its verdict, and every bad one reached somebody.
//!
//! The proof is [`crate::watch::audit`]'s; this prints it.
//! Invariant: exit code 0 exactly when nothing is missing.

use std::io::{self, Write};
use std::path::PathBuf;

use super::output::table::{Cell, Table};
use super::output::time::utc;
use super::output::{self, Format, JsonFlag, Output, Tone};
use super::time_arg::When;
use super::{EXIT_FAILED, EXIT_OK, open_state};
use crate::clock::{Clock, SystemClock};
use crate::watch::audit::{Outcome, Report};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start of the period (7d, 2026-11-22, or an RFC 3339 time)
    #[arg(long, default_value = "7d", value_name = "WHEN", value_parser = When::parse)]
    pub from: When,
    /// End of the period [default: now]
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub to: Option<When>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flag documents itself")]
    pub json: JsonFlag,
}

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, args: &Args) -> u8 {
    open_state::show(file, async |_, state| {
        let now = SystemClock.now();
        let from = args.from.before(now);
        let to = args.to.map_or(now, |when| when.before(now));
        let report = state.audit(from, to, now).await?;
        let mut out = Output::stdout();
        print(&report, Format::choose(args.json), &mut out)?;
        Ok(out.end(if report.ok { EXIT_OK } else { EXIT_FAILED }))
    })
}

/// Prints it.
///
/// # Errors
/// When standard output is closed.
pub fn print(report: &Report, format: Format, out: &mut impl Write) -> io::Result<()> {
    let style = match format {
        Format::Json => return output::print_json(out, report),
        Format::Text(style) => style,
    };
    let (from, to) = (utc(report.from), utc(report.to));
    writeln!(out, "Runs due from {from} to {to} UTC: {}", report.n_slots)?;
    for (verdict, count) in &report.verdicts {
        writeln!(out, "  {count:>6}  {verdict}")?;
    }
    if report.n_open > 0 {
        writeln!(out, "  {:>6}  without a verdict", report.n_open)?;
    }
    if !report.bad.is_empty() {
        writeln!(out)?;
        let mut table =
            Table::new(["DUE (UTC)", "SCHEDULE", "VERDICT", "INCIDENT", "MESSAGE", "HOW"]);
        for bad in &report.bad {
            let (message, tone) = match bad.outcome {
                Outcome::Delivered => ("delivered", Tone::Good),
                Outcome::Suppressed => ("told to nobody", Tone::Bad),
                Outcome::Forgotten => ("no longer kept", Tone::Warning),
                Outcome::DeadLettered => ("undelivered", Tone::Bad),
                Outcome::Waiting => ("being sent", Tone::Warning),
                Outcome::Missing => ("missing", Tone::Bad),
            };
            table.row([
                utc(bad.due_at).into(),
                bad.schedule.as_str().into(),
                Cell::toned(bad.verdict.as_str(), Tone::of(bad.verdict)),
                bad.incident.map_or_else(|| "-".to_owned(), |id| format!("#{id}")).into(),
                Cell::toned(message, tone),
                bad.detail.as_str().into(),
            ]);
        }
        table.print(out, style)?;
    }
    writeln!(out)?;
    if report.ok {
        let words = "Complete: every run has its verdict, and every bad run its message.";
        return writeln!(out, "{}", Tone::Good.paint(words, style));
    }
    let words = match report.problems.len() {
        1 => "1 problem:".to_owned(),
        n => format!("{n} problems:"),
    };
    writeln!(out, "{}", Tone::Bad.paint(&words, style))?;
    for problem in &report.problems {
        let due = utc(problem.due_at);
        writeln!(out, "  {due} UTC  {}  {}", problem.schedule, problem.what)?;
    }
    Ok(())
}
