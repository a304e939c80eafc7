//! `lookout simulate`: what the present configuration will do in the days to come, with every run
//! filling its box and its grace: the worst that can happen without a fault of Lookout.
//!
//! Slots, what the clock changes do to them, maintenance, overlaps, and how many runs go on at
//! once. What becomes of a slot is decided by what decides it in the daemon. Invariant: it reads only the configuration.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde::Serialize;

use super::next::cadence_text;
use super::output::table::{Cell, Table};
use super::output::time::{Span, utc};
use super::output::{self, Format, JsonFlag, Output, Style, Tone};
use super::{EXIT_OK, load_config};
use crate::clock::{Clock, SystemClock};
use crate::run::forecast::{Before, End, play};
use crate::run::ledger::Cause;
use crate::schedule::cron::transitions;
use crate::schedule::slot::Slots;
use crate::schedule::{Cadence, Schedule, Slot};

/// Slots of one schedule that are looked at: a slot every ten seconds for 30 days is 260,000.
const MOST_SLOTS: usize = 300_000;

/// Overlaps that are listed for one schedule; all are counted.
const LISTED: usize = 8;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many days from now
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3660))]
    pub days: u32,
    /// From when (RFC 3339); default: now
    #[arg(long, value_name = "TIME")]
    pub from: Option<DateTime<Utc>>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flag documents itself")]
    pub json: JsonFlag,
}

/// What the configuration will do.
#[derive(Debug, Serialize)]
pub struct Simulation {
    /// From then …
    pub from: DateTime<Utc>,
    /// … until then.
    pub to: DateTime<Utc>,
    /// Each schedule.
    pub schedules: Vec<Forecast>,
    /// When most runs go on at once.
    pub busiest: Option<Busiest>,
    /// `[service] max_running`.
    pub max_running: u32,
}

/// What one schedule will do.
#[derive(Debug, Serialize)]
pub struct Forecast {
    /// Its name.
    pub schedule: String,
    /// Its expression and zone, or `continuous`.
    pub cadence: String,
    /// How many slots; for a continuous schedule, boxes that end full.
    pub n_slots: usize,
    /// The first …
    pub first_due_at: Option<DateTime<Utc>>,
    /// … and the last of them.
    pub last_due_at: Option<DateTime<Utc>>,
    /// Between two slots, at least.
    pub shortest_gap_seconds: Option<u64>,
    /// Between two slots, at most.
    pub longest_gap_seconds: Option<u64>,
    /// Slots that fall into maintenance.
    pub n_in_maintenance: usize,
    /// What the clock changes do.
    pub clock_changes: Vec<ClockChange>,
    /// Slots that are due while the run before them may still go on.
    pub n_overlaps: usize,
    /// The first of them.
    pub overlaps: Vec<OverlapAt>,
}

/// The clock of a schedule's zone is changed.
#[derive(Debug, Serialize)]
pub struct ClockChange {
    /// First instant with the new time.
    pub at: DateTime<Utc>,
    /// What the wall clock would have shown …
    pub wall_before: NaiveDateTime,
    /// … and what it shows.
    pub wall_after: NaiveDateTime,
    /// Slots that the change moves or repeats.
    pub slots: Vec<NotedSlot>,
    /// Times that do not exist and are not made up for.
    pub n_lost: usize,
}

/// A slot that a clock change has to do with.
#[derive(Debug, Serialize)]
pub struct NotedSlot {
    /// When.
    pub due_at: DateTime<Utc>,
    /// What happens to it.
    pub note: String,
}

/// A slot that is due while the run before it may still go on.
#[derive(Debug, Serialize)]
pub struct OverlapAt {
    /// When.
    pub due_at: DateTime<Utc>,
    /// What `overlap` then does.
    pub outcome: &'static str,
}

/// When most runs go on at once.
#[derive(Debug, Serialize)]
pub struct Busiest {
    /// From when.
    pub at: DateTime<Utc>,
    /// How many.
    pub n_running: usize,
    /// Whose.
    pub schedules: Vec<String>,
}

/// A run that fills its box and its grace.
struct Occupied {
    schedule: usize,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, args: &Args) -> u8 {
    let config = match load_config::configuration(file) {
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

/// Looks at `(from, from + days]`.
#[must_use]
pub fn simulate(
    schedules: &[Schedule],
    max_running: u32,
    from: DateTime<Utc>,
    days: u32,
) -> Simulation {
    let to = from + TimeDelta::days(i64::from(days));
    let mut occupied = Vec::new();
    let mut forecasts = Vec::new();
    for (index, schedule) in schedules.iter().enumerate() {
        forecasts.push(forecast(index, schedule, from, to, &mut occupied));
    }
    let busiest = busiest(schedules, occupied);
    Simulation { from, to, schedules: forecasts, busiest, max_running }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

fn forecast(
    index: usize,
    schedule: &Schedule,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    occupied: &mut Vec<Occupied>,
) -> Forecast {
    let slots = slots_of(schedule, from, to);
    let gaps = || slots.windows(2).map(|two| (two[1].due_at - two[0].due_at).num_seconds());
    let seconds = |gap: Option<i64>| gap.and_then(|gap| u64::try_from(gap).ok());
    let mut overlaps = Vec::new();
    let mut n_overlaps = 0;
    let mut n_in_maintenance = 0;
    for fate in play(schedule, &slots) {
        if let End::Run { from, until, .. } = fate.end {
            occupied.push(Occupied { schedule: index, from, until });
        }
        if fate.end == End::Dropped(Cause::Maintenance) {
            n_in_maintenance += 1;
        }
        if let Some(outcome) = overlap(fate.end) {
            n_overlaps += 1;
            if overlaps.len() < LISTED {
                overlaps.push(OverlapAt { due_at: fate.slot.due_at, outcome });
            }
        }
    }
    Forecast {
        schedule: schedule.name.to_string(),
        cadence: cadence_text(schedule),
        n_slots: slots.len(),
        first_due_at: slots.first().map(|slot| slot.due_at),
        last_due_at: slots.last().map(|slot| slot.due_at),
        shortest_gap_seconds: seconds(gaps().min()),
        longest_gap_seconds: seconds(gaps().max()),
        n_in_maintenance,
        clock_changes: clock_changes(schedule, from, to),
        n_overlaps,
        overlaps,
    }
}

/// Slots in the time, or full boxes one after the other.
fn slots_of(schedule: &Schedule, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Slot> {
    let Some(slots) = Slots::of(schedule) else { return Vec::new() };
    match schedule.cadence {
        Cadence::Cron(_) => {
            slots.after(from).take_while(|slot| slot.due_at <= to).take(MOST_SLOTS).collect()
        }
        Cadence::Continuous => {
            let pause = delta(schedule.time_box + schedule.signal_grace + schedule.kill_grace);
            std::iter::successors(slots.next_after(from), |slot| {
                slots.next_after(slot.due_at + pause)
            })
            .take_while(|slot| slot.due_at <= to)
            .take(MOST_SLOTS)
            .collect()
        }
    }
}

/// What to say about a slot that is due while the run before it goes on; `None`: it is not.
fn overlap(end: End) -> Option<&'static str> {
    match end {
        End::Run { before: Before::Over, .. } => None,
        End::Run { before: Before::AwaitedEnd, .. } => Some("waits for the run before it"),
        End::Run { before: Before::Stopped, .. } => Some("stops the run before it"),
        End::Dropped(Cause::Overlap) => Some("skipped"),
        End::Dropped(Cause::Paused | Cause::Maintenance | Cause::Removed | Cause::Absent) => None,
        End::Missed => Some("missed: its deadline passes while the run before it goes on"),
    }
}

fn clock_changes(schedule: &Schedule, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<ClockChange> {
    let zone = schedule.timezone;
    let Some(slots) = Slots::of(schedule) else { return Vec::new() };
    let Some(expression) = slots.expression() else { return Vec::new() };
    // A repeated stretch lies around the change, and is no longer than the change itself.
    let near = TimeDelta::hours(3);
    let noted = |at: DateTime<Utc>| {
        let around = slots.after((at - near).max(from)).take_while(|slot| slot.due_at <= at + near);
        around
            .filter_map(|slot| {
                let note = expression.dst_note(zone, slot.due_at)?.to_string();
                Some(NotedSlot { due_at: slot.due_at, note })
            })
            .collect()
    };
    transitions(zone, from, to)
        .into_iter()
        .map(|change| ClockChange {
            at: change.at,
            wall_before: change.wall_before,
            wall_after: change.wall_after,
            slots: noted(change.at),
            n_lost: expression.n_lost_in_gap(&change),
        })
        .collect()
}

/// The moment with most runs; `replace` counts the stopped one as gone.
fn busiest(schedules: &[Schedule], mut occupied: Vec<Occupied>) -> Option<Busiest> {
    occupied.sort_by_key(|run| run.from);
    let mut running: Vec<&Occupied> = Vec::new();
    let mut best: Option<(DateTime<Utc>, Vec<usize>)> = None;
    for run in &occupied {
        running.retain(|other| other.until > run.from && other.schedule != run.schedule);
        running.push(run);
        if best.as_ref().is_none_or(|(_, most)| running.len() > most.len()) {
            best = Some((run.from, running.iter().map(|run| run.schedule).collect()));
        }
    }
    best.map(|(at, indices)| Busiest {
        at,
        n_running: indices.len(),
        schedules: indices.iter().map(|index| schedules[*index].name.to_string()).collect(),
    })
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
        match (change.n_lost, change.slots.is_empty()) {
            (0, true) => writeln!(out, "  no run is moved, lost or repeated")?,
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
