//! `lookout next`: what will start when, by the configuration and the pauses that hold.
//!
//! Invariant: no run is listed that a pause will skip; nothing is made or changed.

use std::io::{self, Write};
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;

use super::output::table::{Cell, Table, folded};
use super::output::time;
use super::output::{self, Format, JsonFlag, Output, Style, Tone};
use super::{EXIT_OK, load_config, names};
use crate::app::open_state::{Access, OpenState};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::run::ledger::Pause;
use crate::schedule::Schedule;
use crate::schedule::slot::{Slots, in_maintenance, start_at};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show only this schedule
    #[arg(value_name = "SCHEDULE")]
    pub schedule: Option<String>,
    /// Upper bound
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
    let config = match load_config::usable_aloud(file) {
        Ok(config) => config,
        Err(error) => return load_config::refused(&error),
    };
    let wanted = |schedule: &&Schedule| {
        args.schedule.as_ref().is_none_or(|name| name == schedule.name.as_str())
    };
    let schedules: Vec<&Schedule> = config.schedules.iter().filter(wanted).collect();
    if let (Some(name), true) = (&args.schedule, schedules.is_empty()) {
        let known = config.schedules.iter().map(|schedule| schedule.name.as_str());
        return names::unknown("schedule", name, known);
    }
    let now = SystemClock.now();
    let pauses = match super::on_a_runtime(pauses(&config, now)) {
        Ok(pauses) => pauses,
        Err(error) => return output::fail(&format!("lookout next: {error:#}")),
    };
    let mut out = Output::stdout();
    let coming = Ahead { schedules: &schedules, pauses: &pauses, number: args.number, now };
    // An `Output` remembers what can't be written.
    let _ = print(&coming, Format::choose(args.json), &mut out);
    out.end(EXIT_OK)
}

/// The pauses that hold; without a state there is none, and none is made.
async fn pauses(config: &Config, now: DateTime<Utc>) -> anyhow::Result<Vec<Pause>> {
    Ok(OpenState::open(config, Access::Look)?.ledger.pauses(now).await?)
}

/// What is looked ahead at.
#[derive(Clone, Copy, Debug)]
pub struct Ahead<'a> {
    /// These schedules.
    pub schedules: &'a [&'a Schedule],
    /// Their runs are not listed while one of these holds.
    pub pauses: &'a [Pause],
    /// Runs of all together.
    pub number: usize,
    /// From when.
    pub now: DateTime<Utc>,
}

impl Ahead<'_> {
    fn pause_of(&self, schedule: &Schedule) -> Option<&Pause> {
        self.pauses.iter().find(|pause| pause.schedule == schedule.name)
    }
}

/// Prints the next slots of the given schedules that will run.
///
/// # Errors
/// When standard output is closed.
pub fn print(ahead: &Ahead<'_>, format: Format, out: &mut impl Write) -> io::Result<()> {
    let Ahead { schedules, number, now, .. } = *ahead;
    let mut coming: Vec<Coming<'_>> =
        schedules.iter().flat_map(|schedule| coming_of(schedule, ahead)).collect();
    coming.sort_by_key(|slot| (slot.due_at, slot.schedule));
    let n_continuous = coming.iter().filter(|slot| slot.due_at.is_none()).count();
    coming.truncate(number + n_continuous);
    match format {
        Format::Json => output::print_json(out, &coming),
        Format::Text(_) if schedules.is_empty() => writeln!(out, "No schedule is switched on."),
        Format::Text(style) if coming.is_empty() => print_pauses(ahead, style, out),
        Format::Text(style) => {
            let mut table = Table::new(["WHEN", "DUE (UTC)", "LOCAL", "SCHEDULE", ""]);
            for slot in &coming {
                table.row(text_row(slot, schedules, now));
            }
            table.print(out, style)?;
            print_pauses(ahead, style, out)
        }
    }
}

/// A line for each schedule that is paused.
fn print_pauses(ahead: &Ahead<'_>, style: Style, out: &mut impl Write) -> io::Result<()> {
    for schedule in ahead.schedules {
        let Some(pause) = ahead.pause_of(schedule) else { continue };
        let line = paused_text(pause, schedule, ahead.now);
        for line in folded(&line, style.columns().unwrap_or(usize::MAX)) {
            writeln!(out, "{}", Tone::Warning.paint(&line, style))?;
        }
    }
    Ok(())
}

/// `image-review is paused until …: moving house`.
#[must_use]
pub fn paused_text(pause: &Pause, schedule: &Schedule, now: DateTime<Utc>) -> String {
    let until = match pause.until {
        Some(at) => time::moment(at, Some(&schedule.timezone), now),
        None => format!("`lookout resume {}`", schedule.name),
    };
    format!("{} is paused until {until}: {}", schedule.name, pause.reason)
}

/// A pause skips the slots before its end.
fn coming_of<'a>(schedule: &'a Schedule, ahead: &Ahead<'_>) -> Vec<Coming<'a>> {
    let Ahead { number, now, .. } = *ahead;
    let pause = ahead.pause_of(schedule);
    let from = match pause.map(|pause| pause.until) {
        None => now,
        Some(None) => return Vec::new(),
        // The slot at the very end of a pause runs.
        Some(Some(until)) => now.max(until - TimeDelta::milliseconds(1)),
    };
    let name = schedule.name.as_str();
    let timezone = schedule.timezone.name();
    let Some(slots) = Slots::of(schedule) else { return Vec::new() };
    let Some(expression) = slots.expression() else {
        if pause.is_some() {
            return Vec::new();
        }
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
    let coming = slots.after(from).take(number).map(|slot| {
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
        _ => ("always".to_owned(), "back to back".to_owned(), String::new()),
    };
    let remarks = Cell::toned(remarks.join("; "), Tone::Warning);
    [when.into(), due.into(), local.into(), slot.schedule.into(), remarks]
}
