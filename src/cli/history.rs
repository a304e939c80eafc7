//! `lookout history`: what became of the runs, newest first; or of one image (`image.rs`).

mod image;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::output::table::{Cell, Table};
use super::output::time::{self, Span};
use super::output::{self, Format, JsonFlag, Output, Tone};
use super::time_arg::When;
use super::{EXIT_OK, open_state};
use crate::clock::{Clock, SystemClock};
use crate::watch::history::{SlotFilter, SlotRow, SlotState};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this schedule
    #[arg(value_name = "SCHEDULE")]
    pub schedule: Option<String>,
    /// One image instead: each try with file, prompt, model, cost, time and reason
    #[arg(long, value_name = "ID", conflicts_with_all = ["schedule", "number", "from", "to"])]
    pub images: Option<String>,
    /// How many
    #[arg(short = 'n', long = "number", default_value_t = 20, value_name = "N")]
    pub number: u32,
    /// Since when (`24h`, a day, or an RFC 3339 time)
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub from: Option<When>,
    /// Until when
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
    open_state::with(file, async |_, state| {
        let now = SystemClock.now();
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
        Format::Text(_) if slots.is_empty() => return writeln!(out, "No runs yet."),
        Format::Text(style) => style,
    };
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
