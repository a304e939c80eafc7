//! `lookout status`: the daemon, each schedule, open incidents.
//!
//! Invariant: on a terminal it fits into 80 columns, with names of usual length.

use std::io::{self, Write};
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};

use super::next::paused_text;
use super::output::table::{Cell, Table, folded, printable};
use super::output::time;
use super::output::{self, Format, JsonFlag, Output, Style, Tone};
use super::{EXIT_OK, open_state};
use crate::app::open_state::{ScheduleStatus, Status};
use crate::watch::{Incident, IncidentState, words};

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, json: JsonFlag) -> u8 {
    open_state::show(file, async |config, state| {
        let status = state.status(&config).await?;
        let mut out = Output::stdout();
        print(&status, Format::choose(json), &mut out)?;
        Ok(out.end(EXIT_OK))
    })
}

/// Prints it.
///
/// # Errors
/// When standard output is closed.
pub fn print(status: &Status, format: Format, out: &mut impl Write) -> io::Result<()> {
    let style = match format {
        Format::Json => return output::print_json(out, status),
        Format::Text(style) => style,
    };
    for pulse in &status.loops {
        let tone = if pulse.is_well() { Tone::Good } else { Tone::Bad };
        let last = pulse.last_at.map(|at| format!(" ({})", time::relative(at, status.at)));
        let line = format!("{}: {}{}", pulse.name, pulse.doing, last.unwrap_or_default());
        writeln!(out, "{}", tone.paint(&line, style))?;
    }
    for warning in &status.warnings {
        for line in folded(warning, style.columns().unwrap_or(usize::MAX)) {
            writeln!(out, "{}", Tone::Warning.paint(&line, style))?;
        }
    }
    print_schedules(status, style, out)?;
    writeln!(out)?;
    print_incidents(&status.incidents, status.at, style, out)
}

/// The schedules, one a line, and below them why one does not run.
fn print_schedules(status: &Status, style: Style, out: &mut impl Write) -> io::Result<()> {
    if status.schedules.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let now = status.at;
    let mut table = Table::new(["SCHEDULE", "NOW", "NEXT", "LAST", "LEFT"]);
    for schedule in &status.schedules {
        let last = schedule.last.as_ref();
        let last = last.and_then(|slot| slot.verdict.map(|verdict| (slot, verdict)));
        let last = last.map_or_else(
            || Cell::from("-"),
            |(slot, verdict)| {
                let ago = time::relative(slot.due_at, now);
                Cell::toned(format!("{verdict}, {ago}"), Tone::of(verdict))
            },
        );
        let backlog = schedule.backlog.map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.row([
            schedule.schedule.as_str().into(),
            now_cell(schedule),
            next(schedule, now).into(),
            last,
            backlog.into(),
        ]);
    }
    table.print(out, style)?;
    for schedule in &status.schedules {
        let why = match (&schedule.paused, &schedule.maintenance) {
            (Some(pause), _) => paused_text(pause, &schedule.settings, now),
            (None, Some(reason)) => format!("{}: maintenance: {reason}", schedule.schedule),
            (None, None) => continue,
        };
        for line in folded(&printable(&why), style.columns().unwrap_or(usize::MAX)) {
            writeln!(out, "{}", Tone::Warning.paint(&line, style))?;
        }
    }
    Ok(())
}

fn now_cell(schedule: &ScheduleStatus) -> Cell {
    match (&schedule.running, &schedule.paused, &schedule.maintenance) {
        (Some(_), _, _) => Cell::toned("running", Tone::Bold),
        (None, Some(_), _) => Cell::toned("paused", Tone::Warning),
        (None, None, Some(_)) => Cell::toned("maintenance", Tone::Warning),
        (None, None, None) => "waiting".into(),
    }
}

/// When it runs next; the day where it is not within a day.
fn next(schedule: &ScheduleStatus, now: DateTime<Utc>) -> String {
    let zone = &schedule.settings.timezone;
    match schedule.next_due_at {
        Some(at) if at - now < TimeDelta::days(1) => {
            format!("{} ({})", time::relative(at, now), time::local_hour(at, zone))
        }
        Some(at) => format!("{} ({})", time::relative(at, now), time::local(at, zone)),
        None if schedule.cron.is_none() && schedule.paused.is_none() => "back to back".to_owned(),
        None => "-".to_owned(),
    }
}

/// Incidents, one a line.
///
/// # Errors
/// When standard output is closed.
pub fn print_incidents(
    incidents: &[Incident],
    now: DateTime<Utc>,
    style: Style,
    out: &mut impl Write,
) -> io::Result<()> {
    if incidents.is_empty() {
        return writeln!(out, "{}", Tone::Good.paint("No open incidents.", style));
    }
    if style != Style::Plain {
        return narrow(incidents, now).print(out, style);
    }
    let mut table =
        Table::new(["ID", "SEVERITY", "STATE", "KIND", "SCHEDULE", "OPENED (UTC)", "", "WHAT"]);
    for incident in incidents {
        table.row([
            incident.id.to_string().into(),
            Cell::toned(incident.severity.as_str(), Tone::of_severity(incident.severity)),
            state_of(incident).into(),
            incident.kind.as_str().into(),
            incident.schedule.as_deref().unwrap_or("-").into(),
            time::utc(incident.opened_at).into(),
            time::relative(incident.opened_at, now).into(),
            words::incident(incident.kind).into(),
        ]);
    }
    table.print(out, style)
}

/// For a terminal: what fits into 80 columns.
fn narrow(incidents: &[Incident], now: DateTime<Utc>) -> Table {
    let mut table = Table::new(["ID", "SEVERITY", "STATE", "SCHEDULE", "OPENED", "WHAT"]);
    for incident in incidents {
        table.row([
            incident.id.to_string().into(),
            Cell::toned(incident.severity.as_str(), Tone::of_severity(incident.severity)),
            state_of(incident).into(),
            incident.schedule.as_deref().unwrap_or("-").into(),
            time::relative(incident.opened_at, now).into(),
            words::incident(incident.kind).into(),
        ]);
    }
    table
}

fn state_of(incident: &Incident) -> &'static str {
    match incident.state {
        IncidentState::Open => "open",
        IncidentState::Acked => "acked",
        IncidentState::Resolved => "resolved",
    }
}
