//! `lookout simulate`: prints what the present configuration will do in the days to come.
//!
//! [`simulation`](crate::run::simulation) says what that is. Invariant: it reads only the configuration.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::output::table::{Cell, Table};
use super::output::time::{Span, utc};
use super::output::{self, Format, JsonFlag, Output, Style, Tone};
use super::{EXIT_OK, load_config};
use crate::clock::{Clock, SystemClock};
use crate::run::simulation::{Forecast, Simulation, simulate};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many days from now
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3660))]
    pub days: u32,
    /// Start (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME")]
    pub from: Option<DateTime<Utc>>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flag documents itself")]
    pub json: JsonFlag,
}

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, args: &Args) -> u8 {
    let config = match load_config::usable_aloud(file) {
        Ok(config) => config,
        Err(error) => return load_config::refused(&error),
    };
    let from = args.from.unwrap_or_else(|| SystemClock.now());
    let simulation = simulate(&config.schedules, config.service.max_running, from, args.days);
    let mut out = Output::stdout();
    // An `Output` remembers what can't be written.
    let _ = print(&simulation, Format::choose(args.json), &mut out);
    out.end(EXIT_OK)
}

/// Prints it.
///
/// # Errors
/// When standard output is closed.
pub fn print(simulation: &Simulation, format: Format, out: &mut impl Write) -> io::Result<()> {
    let style = match format {
        Format::Json => return output::print_json(out, simulation),
        Format::Text(style) => style,
    };
    writeln!(
        out,
        "From {} to {} UTC, if every run fills its box and its grace:\n",
        utc(simulation.from),
        utc(simulation.to)
    )?;
    let mut table =
        Table::new(["SCHEDULE", "WHEN", "RUNS", "SHORTEST GAP", "IN MAINTENANCE", "OVERLAPS"]);
    for forecast in &simulation.schedules {
        let gap = forecast.shortest_gap_seconds.map(|s| Span(Duration::from_secs(s)).to_string());
        let overlaps = match forecast.n_overlaps {
            0 => Cell::toned("none", Tone::Good),
            n => Cell::toned(n.to_string(), Tone::Warning),
        };
        table.row([
            forecast.schedule.as_str().into(),
            forecast.cadence.as_str().into(),
            forecast.n_slots.to_string().into(),
            gap.unwrap_or_else(|| "-".to_owned()).into(),
            forecast.n_in_maintenance.to_string().into(),
            overlaps,
        ]);
    }
    table.print(out, style)?;
    for forecast in &simulation.schedules {
        print_clock_changes(forecast, style, out)?;
        print_overlaps(forecast, style, out)?;
        if let Some(until) = forecast.counted_until {
            writeln!(
                out,
                "\n{}: maintenance, overlaps and runs at once are counted up to {} UTC only; ask for \
                 fewer --days to see all",
                forecast.schedule,
                utc(until)
            )?;
        }
    }
    if let Some(busiest) = &simulation.busiest {
        let n_allowed = simulation.max_running as usize;
        writeln!(
            out,
            "\nMost at once: {} of {n_allowed} allowed, from {} UTC ({}){}",
            busiest.n_running,
            utc(busiest.at),
            busiest.schedules.join(", "),
            if busiest.n_running > n_allowed { "; some would have to wait." } else { "." }
        )?;
    }
    Ok(())
}

fn print_clock_changes(forecast: &Forecast, style: Style, out: &mut impl Write) -> io::Result<()> {
    for change in &forecast.clock_changes {
        let heading = format!(
            "{}: the clock goes from {} to {}",
            forecast.schedule,
            change.wall_before.format("%Y-%m-%d %H:%M"),
            change.wall_after.format("%H:%M")
        );
        writeln!(out, "\n{}", Tone::Bold.paint(&heading, style))?;
        for slot in &change.slots {
            writeln!(out, "  {} UTC  {}", utc(slot.due_at), slot.note)?;
        }
        let n_more = change.n_slots - change.slots.len();
        if n_more > 0 {
            writeln!(out, "  and {n_more} more")?;
        }
        match (change.n_lost, change.slots.is_empty()) {
            (0, true) => writeln!(out, "  no run is moved, skipped or repeated")?,
            (0, false) => {}
            (n, _) => {
                writeln!(out, "  {n} time(s) of the wall clock do not exist and are left out")?
            }
        }
    }
    Ok(())
}

fn print_overlaps(forecast: &Forecast, style: Style, out: &mut impl Write) -> io::Result<()> {
    if forecast.overlaps.is_empty() {
        return Ok(());
    }
    let heading = format!("{}: due while the run before may still go on", forecast.schedule);
    writeln!(out, "\n{}", Tone::Bold.paint(&heading, style))?;
    for overlap in &forecast.overlaps {
        writeln!(out, "  {} UTC  {}", utc(overlap.due_at), overlap.outcome)?;
    }
    let n_more = forecast.n_overlaps - forecast.overlaps.len();
    if n_more > 0 {
        writeln!(out, "  and {n_more} more")?;
    }
    Ok(())
}
