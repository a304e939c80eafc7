//! `lookout history`: recent runs, newest first; or of one image (`image.rs`).

mod image;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::output::table::{Cell, Table};
use super::output::time::{self, Span};
use super::output::{self, Format, JsonFlag, Output, Style, Tone};
use super::time_arg::When;
use super::{EXIT_OK, names, open_state};
use crate::app::open_state::OpenState;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::storage::StorageError;
use crate::watch::history::{SlotFilter, SlotRow, SlotState};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show only this schedule
    #[arg(value_name = "SCHEDULE")]
    pub schedule: Option<String>,
    /// Show one image instead: every try with file, prompt, model, cost, time and reason
    #[arg(long, value_name = "ID", conflicts_with_all = ["schedule", "number", "from", "to"])]
    pub images: Option<String>,
    /// Upper bound
    #[arg(short = 'n', long = "number", default_value_t = 20, value_name = "N")]
    pub number: u32,
    /// Show runs due at or after this time (24h, 2026-11-22, or an RFC 3339 time)
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub from: Option<When>,
    /// Show runs due before this time
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub to: Option<When>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flag documents itself")]
    pub json: JsonFlag,
}

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, args: &Args) -> u8 {
    if let Some(id) = &args.images {
        return image::run(file, id, args.json);
    }
    open_state::show(file, async |config, state| {
        let now = SystemClock.now();
        if let Some(name) = &args.schedule
            && let Some(code) = unknown(name, &config, &state).await?
        {
            return Ok(code);
        }
        let filter = SlotFilter {
            schedule: args.schedule.clone(),
            from: args.from.map(|when| when.before(now)),
            // What is written down for later has no history yet.
            until: Some(args.to.map_or(now + TimeDelta::seconds(1), |when| when.before(now))),
            limit: Some(args.number),
            ..SlotFilter::default()
        };
        let slots = state.history.slots(filter).await?;
        let mut out = Output::stdout();
        print(&slots, now, Format::choose(args.json), &mut out)?;
        Ok(out.end(EXIT_OK))
    })
}

/// The exit code for a schedule that neither is there nor ever was.
async fn unknown(
    name: &str,
    config: &Config,
    state: &OpenState,
) -> Result<Option<u8>, StorageError> {
    let known = names::schedules(config, state).await?;
    let ever =
        SlotFilter { schedule: Some(name.to_owned()), limit: Some(1), ..SlotFilter::default() };
    if known.contains(name) || !state.history.slots(ever).await?.is_empty() {
        return Ok(None);
    }
    Ok(Some(names::unknown("schedule", name, known.iter().map(String::as_str))))
}

/// Prints slots.
///
/// # Errors
/// When standard output is closed.
pub fn print(
    slots: &[SlotRow],
    now: DateTime<Utc>,
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    let style = match format {
        Format::Json => return output::print_json(out, &slots),
        Format::Text(_) if slots.is_empty() => return writeln!(out, "No runs."),
        Format::Text(style) => style,
    };
    if style != Style::Plain {
        return narrow(slots, now).print(out, style);
    }
    let mut table =
        Table::new(["DUE (UTC)", "LOCAL", "", "SCHEDULE", "VERDICT", "TOOK", "RUN", "WHY"]);
    for slot in slots {
        let zone = &slot.configuration.timezone;
        table.row([
            time::utc(slot.due_at).into(),
            time::local(slot.due_at, zone).into(),
            time::relative(slot.due_at, now).into(),
            slot.schedule.as_str().into(),
            verdict_cell(slot),
            took(slot).map_or_else(|| "-".to_owned(), |took| Span(took).to_string()).into(),
            slot.run.as_deref().map_or("-", short).into(),
            why(slot).into(),
        ]);
    }
    table.print(out, style)
}

/// For a terminal: what fits into 80 columns, with the reason below where it does not.
fn narrow(slots: &[SlotRow], now: DateTime<Utc>) -> Table {
    let mut table = Table::new(["DUE (UTC)", "LOCAL", "SCHEDULE", "VERDICT", "TOOK", "RUN", "WHY"]);
    for slot in slots {
        let zone = &slot.configuration.timezone;
        let took = took(slot).map_or_else(|| "-".to_owned(), |took| Span(took).to_string());
        table.row([
            time::short_utc(slot.due_at, now).into(),
            time::local_hour(slot.due_at, zone).into(),
            slot.schedule.as_str().into(),
            verdict_cell(slot),
            took.into(),
            slot.run.as_deref().map_or("-", short).into(),
            result(slot).into(),
        ]);
    }
    table
}

/// What came of the run in numbers, then why.
fn result(slot: &SlotRow) -> String {
    let count = |name: &str| slot.summary.counts.get(name).copied().filter(|n| *n > 0);
    let counted = [("succeeded", "reviewed"), ("errored", "errors"), ("returned", "returned")]
        .into_iter()
        .filter_map(|(name, word)| Some(format!("{} {word}", count(name)?)));
    let usd = slot.summary.usd.filter(|usd| *usd > 0.0).map(output::usd);
    let numbers = counted.chain(usd).collect::<Vec<_>>().join(", ");
    let why = why(slot);
    [numbers, why].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The verdict, or how far the slot is.
pub(super) fn verdict_cell(slot: &SlotRow) -> Cell {
    match (slot.verdict, slot.state) {
        (Some(verdict), _) => Cell::toned(verdict.as_str(), Tone::of(verdict)),
        (None, SlotState::Running) => Cell::toned("(running)", Tone::Bold),
        (None, SlotState::Planned) => Cell::toned("(planned)", Tone::Dim),
        (None, SlotState::Dropped | SlotState::Judged) => Cell::toned("(dropped)", Tone::Dim),
    }
}

/// As the keeper measured it, or by its times.
pub(super) fn took(slot: &SlotRow) -> Option<Duration> {
    let measured = slot.summary.seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
    measured.or_else(|| (slot.ended_at? - slot.started_at?).to_std().ok())
}

/// Ids are UUIDs of version 7: the first 13 characters are the millisecond, enough to tell runs
/// apart and to ask for one.
fn short(run: &str) -> &str {
    run.get(..13).unwrap_or(run)
}

fn why(slot: &SlotRow) -> String {
    let is_good = slot.verdict == Some(crate::watch::Verdict::Completed);
    let reason = slot.reason.iter().filter(|reason| !is_good && !reason.is_empty());
    reason.chain(&slot.findings).cloned().collect::<Vec<_>>().join("; ")
}
