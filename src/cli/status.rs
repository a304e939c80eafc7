//! `lookout status`: how it all is right now.

use std::io::{self, Write};
use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::output::table::{Cell, Table};
use super::output::time;
use super::output::{self, Format, JsonFlag, Output, Style, Tone};
use super::{EXIT_OK, open_state};
use crate::schedule::Schedule;
use crate::watch::history::SlotRow;
use crate::watch::{Incident, words};

/// One line of the table of schedules.
pub struct Line<'a> {
    /// As configured.
    pub schedule: &'a Schedule,
    /// The next slot.
    pub next_due_at: Option<DateTime<Utc>>,
    /// The last slot with a verdict.
    pub last: Option<&'a SlotRow>,
    /// What it does now, in words.
    pub now: String,
    /// What the last run left over.
    pub backlog: Option<u64>,
}

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, json: JsonFlag) -> u8 {
    open_state::with(file, async |config, state| {
        let status = state.status(&config).await?;
        let (format, mut out) = (Format::choose(json), Output::stdout());
        let Format::Text(style) = format else {
            output::print_json(&mut out, &status)?;
            return Ok(out.end(EXIT_OK));
        };
        for pulse in &status.loops {
            let tone = if pulse.is_well() { Tone::Good } else { Tone::Bad };
            let last = pulse.last_at.map(|at| format!(" ({})", time::relative(at, status.at)));
            let line = format!("{}: {}{}", pulse.name, pulse.doing, last.unwrap_or_default());
            writeln!(out, "{}", tone.paint(&line, style))?;
        }
        for warning in &status.warnings {
            writeln!(out, "{}", Tone::Warning.paint(warning, style))?;
        }
        let lines: Vec<Line<'_>> = status
            .schedules
            .iter()
            .map(|schedule| Line {
                schedule: &schedule.settings,
                next_due_at: schedule.next_due_at,
                last: schedule.last.as_ref(),
                now: match (&schedule.running, &schedule.paused, &schedule.maintenance) {
                    (Some(_), _, _) => "running".to_owned(),
                    (None, Some(pause), _) => format!("paused: {}", pause.reason),
                    (None, None, Some(reason)) => format!("maintenance: {reason}"),
                    (None, None, None) => "waiting".to_owned(),
                },
                backlog: schedule.backlog,
            })
            .collect();
        print_schedules(&lines, status.at, style, &mut out)?;
        print_incidents(&status.incidents, status.at, style, &mut out)?;
        Ok(out.end(EXIT_OK))
    })
}

/// The schedules, one a line.
///
/// # Errors
/// When standard output is closed.
pub fn print_schedules(
    lines: &[Line<'_>],
    now: DateTime<Utc>,
    style: Style,
    out: &mut impl Write,
) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(["SCHEDULE", "WHEN", "NOW", "NEXT", "LAST", "LEFT OVER"]);
    for line in lines {
        let zone = &line.schedule.timezone;
        let next = line.next_due_at.map_or_else(
            || "-".to_owned(),
            |at| format!("{} ({})", time::relative(at, now), time::local(at, zone)),
        );
        let last = line.last.and_then(|slot| slot.verdict.map(|verdict| (slot, verdict)));
        let last = last.map_or_else(
            || Cell::from("-"),
            |(slot, verdict)| {
                let ago = time::relative(slot.due_at, now);
                Cell::toned(format!("{verdict}, {ago}"), Tone::of(verdict))
            },
        );
        let backlog = line.backlog.map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.row([
            line.schedule.name.as_str().into(),
            line.schedule.cadence_text().into(),
            line.now.as_str().into(),
            next.into(),
            last,
            backlog.into(),
        ]);
    }
    table.print(out, style)
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
    writeln!(out)?;
    if incidents.is_empty() {
        return writeln!(out, "{}", Tone::Good.paint("No open incident.", style));
    }
    let mut table =
        Table::new(["ID", "SEVERITY", "STATE", "KIND", "SCHEDULE", "OPENED (UTC)", "", "WHAT"]);
    for incident in incidents {
        let state = match incident.state {
            crate::watch::IncidentState::Open => "open",
            crate::watch::IncidentState::Acked => "acked",
            crate::watch::IncidentState::Resolved => "resolved",
        };
        table.row([
            incident.id.to_string().into(),
            Cell::toned(incident.severity.as_str(), Tone::of_severity(incident.severity)),
            state.into(),
            incident.kind.as_str().into(),
            incident.schedule.as_deref().unwrap_or("-").into(),
            time::utc(incident.opened_at).into(),
            time::relative(incident.opened_at, now).into(),
            words::incident(incident.kind).into(),
        ]);
    }
    table.print(out, style)
}
