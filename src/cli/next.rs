//! `lookout next`: what will start when, by the configuration alone.

use std::io::{self, Write};
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::output::table::{Cell, Table};
use super::output::time;
use super::output::{self, Format, JsonFlag, Output, Tone};
use super::{EXIT_OK, load_config};
use crate::clock::{Clock, SystemClock};
use crate::schedule::Schedule;
use crate::schedule::slot::{Slots, in_maintenance, start_at};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this schedule
    #[arg(value_name = "SCHEDULE")]
    pub schedule: Option<String>,
    /// How many runs
    #[arg(short = 'n', long = "number", default_value_t = 10, value_name = "N")]
    pub number: usize,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flag documents itself")]
    pub json: JsonFlag,
}

/// One coming slot.
#[derive(Debug, Serialize)]
struct Coming<'a> {
    schedule: &'a str,
    /// `None`: box after box, begun by the end of the one before.
    due_at: Option<DateTime<Utc>>,
    start_at: Option<DateTime<Utc>>,
    /// On the wall of the schedule's zone, with its offset.
    local: Option<String>,
    timezone: &'a str,
    /// Reason of the maintenance window that skips it.
    maintenance: Option<&'a str>,
    /// What a clock change does to it.
    note: Option<String>,
}

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, args: &Args) -> u8 {
    let config = match load_config::configuration(file) {
        Ok(config) => config,
        Err(error) => return load_config::refused(&error),
    };
    let wanted = |schedule: &&Schedule| {
        args.schedule.as_ref().is_none_or(|name| name == schedule.name.as_str())
    };
    let schedules: Vec<&Schedule> = config.schedules.iter().filter(wanted).collect();
    if let (Some(name), true) = (&args.schedule, schedules.is_empty()) {
        return output::refuse(&format!("There is no schedule `{name}` (or it is switched off)."));
    }
    let format = Format::choose(args.json);
    let mut out = Output::stdout();
    // An `Output` remembers what can't be written.
    let _ = print(&schedules, args.number, SystemClock.now(), format, &mut out);
    out.end(EXIT_OK)
}

/// Prints the next `number` slots of all the given schedules.
///
/// # Errors
/// When standard output is closed.
pub fn print(
    schedules: &[&Schedule],
    number: usize,
    now: DateTime<Utc>,
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut coming: Vec<Coming<'_>> =
        schedules.iter().flat_map(|schedule| coming_of(schedule, number, now)).collect();
    coming.sort_by_key(|slot| (slot.due_at, slot.schedule));
    let n_continuous = coming.iter().filter(|slot| slot.due_at.is_none()).count();
    coming.truncate(number + n_continuous);
    match format {
        Format::Json => output::print_json(out, &coming),
        Format::Text(_) if coming.is_empty() => writeln!(out, "No schedule is switched on."),
        Format::Text(style) => {
            let mut table = Table::new(["WHEN", "DUE (UTC)", "LOCAL", "SCHEDULE", ""]);
            for slot in &coming {
                table.row(text_row(slot, schedules, now));
            }
            table.print(out, style)
        }
    }
}

fn coming_of(schedule: &Schedule, number: usize, now: DateTime<Utc>) -> Vec<Coming<'_>> {
    let name = schedule.name.as_str();
    let timezone = schedule.timezone.name();
    let Some(slots) = Slots::of(schedule) else { return Vec::new() };
    let Some(expression) = slots.expression() else {
        let (due_at, start_at, local) = (None, None, None);
        let (maintenance, note) = (in_maintenance(schedule, now), None);
        return vec![Coming {
            schedule: name,
            due_at,
            start_at,
            local,
            timezone,
            maintenance,
            note,
        }];
    };
    let coming = slots.after(now).take(number).map(|slot| {
        let local = slot.due_at.with_timezone(&schedule.timezone);
        let note = expression.dst_note(&schedule.timezone, slot.due_at);
        Coming {
            schedule: name,
            due_at: Some(slot.due_at),
            start_at: Some(start_at(schedule, &slot)),
            local: Some(local.to_rfc3339_opts(SecondsFormat::Secs, false)),
            timezone,
            maintenance: in_maintenance(schedule, slot.due_at),
            note: note.map(|note| note.to_string()),
        }
    });
    coming.collect()
}

fn text_row(slot: &Coming<'_>, schedules: &[&Schedule], now: DateTime<Utc>) -> [Cell; 5] {
    let schedule = schedules.iter().find(|schedule| schedule.name.as_str() == slot.schedule);
    let mut remarks = Vec::new();
    if let Some(reason) = slot.maintenance {
        remarks.push(format!("skipped: maintenance ({reason})"));
    }
    remarks.extend(slot.note.clone());
    let (when, due, local) = match (slot.due_at, schedule) {
        (Some(due_at), Some(schedule)) => (
            time::relative(due_at, now),
            time::utc(due_at),
            time::local(due_at, &schedule.timezone),
        ),
        _ => ("always".to_owned(), "box after box".to_owned(), String::new()),
    };
    let remarks = Cell::toned(remarks.join("; "), Tone::Warning);
    [when.into(), due.into(), local.into(), slot.schedule.into(), remarks]
}
