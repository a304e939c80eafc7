//! What schedules will do in the days to come, with every run filling its box and its grace: the worst
//! that can happen without a fault of Lookout.
//!
//! Slots, what clock changes do to them, maintenance, overlaps, and how many runs go on at once. What
//! becomes of a slot is decided by what decides it in the daemon ([`play`]); where no two runs of a
//! schedule can meet there is nothing to decide, and schedules that differ in nothing that matters here
//! are looked at once. Pure.
//! Invariant: what was not looked at to the end says so.

mod busiest;

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde::Serialize;

use self::busiest::{Runs, busiest};
use super::forecast::{Before, End, play};
use super::ledger::Cause;
use crate::schedule::cron::{Expression, transitions};
use crate::schedule::slot::{Slots, closer_at_a_clock_change, shortest_gap, start_at};
use crate::schedule::{Cadence, Schedule, Slot};

/// Slots that are played in all, where runs of a schedule may meet: 2 s of work. A slot every minute has
/// 527,040 in a leap year.
const MAX_PLAYED: usize = 600_000;

/// But each schedule's first thousand are, however many share the work.
const MIN_PLAYED: usize = 1_000;

/// Overlaps, or slots around a clock change, that are listed for one schedule; all are counted.
const MAX_LISTED: usize = 8;

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
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// Its name.
    pub schedule: String,
    /// When it runs.
    pub cadence: String,
    /// Slots in the time.
    pub n_slots: usize,
    /// The first.
    pub first_due_at: Option<DateTime<Utc>>,
    /// The last.
    pub last_due_at: Option<DateTime<Utc>>,
    /// The shortest time between two.
    pub shortest_gap_seconds: Option<u64>,
    /// The longest.
    pub longest_gap_seconds: Option<u64>,
    /// Slots that a maintenance window skips.
    pub n_in_maintenance: usize,
    /// Clock changes in its zone.
    pub clock_changes: Vec<ClockChange>,
    /// Slots that are due while the run before may still go on.
    pub n_overlaps: usize,
    /// The first of them.
    pub overlaps: Vec<OverlapAt>,
    /// Maintenance, overlaps and runs at once are counted up to here; `None`: to the end.
    pub counted_until: Option<DateTime<Utc>>,
}

/// The clock of a zone is changed.
#[derive(Clone, Debug, Serialize)]
pub struct ClockChange {
    /// When.
    pub at: DateTime<Utc>,
    /// What the wall clock would have shown …
    pub wall_before: NaiveDateTime,
    /// … and what it shows.
    pub wall_after: NaiveDateTime,
    /// The first slots that the change moves or repeats.
    pub slots: Vec<NotedSlot>,
    /// How many it moves or repeats.
    pub n_slots: usize,
    /// Times that do not exist and are not made up for.
    pub n_lost: usize,
}

/// A slot that a clock change has to do with.
#[derive(Clone, Debug, Serialize)]
pub struct NotedSlot {
    /// When.
    pub due_at: DateTime<Utc>,
    /// What happens to it.
    pub note: String,
}

/// A slot that is due while the run before it may still go on.
#[derive(Clone, Debug, Serialize)]
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

/// The time that is looked at: `(from, to]`.
#[derive(Clone, Copy, Debug)]
struct Period {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

/// Schedules that do the same at the same times.
struct Group<'a> {
    /// The first of them.
    schedule: &'a Schedule,
    members: Vec<usize>,
}

/// Looks at `(from, from + days]`.
#[must_use]
pub fn simulate(
    schedules: &[Schedule],
    max_running: u32,
    from: DateTime<Utc>,
    days: u32,
) -> Simulation {
    let period = Period { from, to: from + TimeDelta::days(i64::from(days)) };
    let groups = groups(schedules);
    let n_played = groups.iter().filter(|it| may_meet(it.schedule, period)).count();
    let max_played = (MAX_PLAYED / n_played.max(1)).max(MIN_PLAYED);
    let mut forecasts: Vec<Option<Forecast>> = schedules.iter().map(|_| None).collect();
    let mut runs = Vec::new();
    for group in &groups {
        let (forecast, of_group) = forecast(group.schedule, period, max_played);
        for index in &group.members {
            let (Some(slot), Some(schedule)) = (forecasts.get_mut(*index), schedules.get(*index))
            else {
                continue;
            };
            *slot = Some(Forecast { schedule: schedule.name.to_string(), ..forecast.clone() });
        }
        runs.push((of_group, group.members.len()));
    }
    let busiest = busiest(&runs, period).map(|peak| {
        let mut running: Vec<usize> =
            peak.groups.iter().flat_map(|index| groups[*index].members.iter().copied()).collect();
        running.sort_unstable();
        let names = running.iter().map(|index| schedules[*index].name.to_string());
        Busiest { at: peak.at, n_running: running.len(), schedules: names.collect() }
    });
    let schedules = forecasts.into_iter().flatten().collect();
    Simulation { from, to: period.to, schedules, busiest, max_running }
}

/// Groups in the order of their first members.
fn groups(schedules: &[Schedule]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (index, schedule) in schedules.iter().enumerate() {
        // Jitter is drawn from the name.
        let name = if schedule.jitter.is_zero() { "" } else { schedule.name.as_str() };
        let windows = schedule.maintenance.iter().map(|it| (&it.from, it.lasts));
        let key = format!(
            "{name} {:?} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            schedule.cadence,
            schedule.timezone,
            schedule.jitter,
            schedule.start_grace,
            schedule.time_box,
            schedule.signal_grace,
            schedule.kill_grace,
            schedule.overlap,
            windows.collect::<Vec<_>>(),
        );
        let group = *known.entry(key).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(group) => group.members.push(index),
            None => groups.push(Group { schedule, members: vec![index] }),
        }
    }
    groups
}

/// How long a run may go on after its start.
fn longest(schedule: &Schedule) -> Duration {
    schedule.time_box + schedule.signal_grace + schedule.kill_grace
}

/// Whether there is anything to decide: a maintenance window, or a run that meets the next.
fn may_meet(schedule: &Schedule, period: Period) -> bool {
    if !schedule.maintenance.is_empty() {
        return true;
    }
    let busy = longest(schedule) + schedule.jitter;
    match schedule.cadence {
        Cadence::Continuous => false,
        Cadence::Cron(_) => {
            busy > shortest_gap(schedule)
                || closer_at_a_clock_change(schedule, busy, period.from, period.to).is_some()
        }
    }
}

fn forecast(schedule: &Schedule, period: Period, max_played: usize) -> (Forecast, Runs) {
    let seen = look_through(schedule, period);
    let mut forecast = Forecast {
        schedule: schedule.name.to_string(),
        cadence: schedule.cadence_text(),
        n_slots: seen.n_slots,
        first_due_at: seen.first,
        last_due_at: seen.last,
        shortest_gap_seconds: seen.shortest_s.and_then(|gap| u64::try_from(gap).ok()),
        longest_gap_seconds: seen.longest_s.and_then(|gap| u64::try_from(gap).ok()),
        n_in_maintenance: 0,
        clock_changes: clock_changes(schedule, period),
        n_overlaps: 0,
        overlaps: Vec::new(),
        counted_until: None,
    };
    if !may_meet(schedule, period) {
        return (forecast, Runs::Free { schedule: Box::new(schedule.clone()) });
    }
    let slots = slots_of(schedule, period, max_played);
    if slots.len() < seen.n_slots {
        forecast.counted_until = slots.last().map(|slot| slot.due_at);
    }
    let mut runs = Vec::new();
    for fate in play(schedule, &slots) {
        if let End::Run { from, until, .. } = fate.end {
            runs.push((from.timestamp(), until.timestamp()));
        }
        if fate.end == End::Dropped(Cause::Maintenance) {
            forecast.n_in_maintenance += 1;
        }
        if let Some(outcome) = overlap(fate.end) {
            forecast.n_overlaps += 1;
            if forecast.overlaps.len() < MAX_LISTED {
                forecast.overlaps.push(OverlapAt { due_at: fate.slot.due_at, outcome });
            }
        }
    }
    (forecast, Runs::Played(runs))
}

/// What a walk through the slots of a schedule sees.
#[derive(Default)]
struct Seen {
    n_slots: usize,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    shortest_s: Option<i64>,
    longest_s: Option<i64>,
}

fn look_through(schedule: &Schedule, period: Period) -> Seen {
    let mut seen = Seen::default();
    let Some(slots) = Slots::of(schedule) else { return seen };
    for due_at in times_of(&slots, schedule, period) {
        if let Some(last) = seen.last {
            let gap_s = (due_at - last).num_seconds();
            seen.shortest_s = Some(seen.shortest_s.map_or(gap_s, |it| it.min(gap_s)));
            seen.longest_s = Some(seen.longest_s.map_or(gap_s, |it| it.max(gap_s)));
        }
        seen.first = seen.first.or(Some(due_at));
        seen.last = Some(due_at);
        seen.n_slots += 1;
    }
    seen
}

/// When slots are due in the time, or full boxes begin one after the other.
fn times_of<'a>(
    slots: &'a Slots<'a>,
    schedule: &Schedule,
    period: Period,
) -> impl Iterator<Item = DateTime<Utc>> + use<'a> {
    let times: Box<dyn Iterator<Item = DateTime<Utc>> + 'a> = match schedule.cadence {
        Cadence::Cron(_) => Box::new(slots.times_after(period.from)),
        Cadence::Continuous => {
            // Box after box: the next begins a second after the end of the one before.
            let step = TimeDelta::from_std(longest(schedule)).unwrap_or(TimeDelta::MAX);
            let first = slots.times_after(period.from).next();
            Box::new(std::iter::successors(first, move |begun| {
                begun.checked_add_signed(step)?.checked_add_signed(TimeDelta::seconds(1))
            }))
        }
    };
    times.take_while(move |due_at| *due_at <= period.to)
}

fn slots_of(schedule: &Schedule, period: Period, max: usize) -> Vec<Slot> {
    let Some(slots) = Slots::of(schedule) else { return Vec::new() };
    let times = times_of(&slots, schedule, period).take(max);
    times.map(|due_at| Slot { schedule: schedule.name.clone(), due_at }).collect()
}

/// When its runs begin and end, in Unix seconds, if none of them meets another.
fn free_runs<'a>(
    slots: &'a Slots<'a>,
    schedule: &'a Schedule,
    period: Period,
) -> impl Iterator<Item = (i64, i64)> + use<'a> {
    let longest_s = i64::try_from(longest(schedule).as_secs()).unwrap_or(i64::MAX);
    times_of(slots, schedule, period).map(move |due_at| {
        let from = if schedule.jitter.is_zero() {
            due_at.timestamp()
        } else {
            start_at(schedule, &Slot { schedule: schedule.name.clone(), due_at }).timestamp()
        };
        (from, from.saturating_add(longest_s))
    })
}

/// What to say about a slot that is due while the run before it goes on; `None`: it is not.
fn overlap(end: End) -> Option<&'static str> {
    match end {
        End::Run { before: Before::Over, .. } => None,
        End::Run { before: Before::AwaitedEnd, .. } => Some("waits for the run before it"),
        End::Run { before: Before::Stopped, .. } => Some("stops the run before it"),
        End::Dropped(Cause::Overlap) => Some("skipped"),
        End::Dropped(Cause::Paused | Cause::Maintenance | Cause::Removed | Cause::Downtime) => None,
        End::Missed => Some("missed: its deadline passes while the run before it goes on"),
    }
}

fn clock_changes(schedule: &Schedule, period: Period) -> Vec<ClockChange> {
    let zone = &schedule.timezone;
    let Some(slots) = Slots::of(schedule) else { return Vec::new() };
    let Some(expression) = slots.expression() else { return Vec::new() };
    let changes = transitions(zone, period.from, period.to);
    changes
        .into_iter()
        .map(|change| {
            // A gap moves slots to its end; a repetition lies around the change, as long as it is.
            let repeated = (change.wall_before - change.wall_after).max(TimeDelta::zero());
            let (from, to) = (change.at - repeated, change.at + repeated);
            let mut noted = NotedSlots::default();
            for due_at in slots.times_after((from - TimeDelta::seconds(1)).max(period.from)) {
                if due_at > to {
                    break;
                }
                noted.note(expression, schedule, due_at);
            }
            ClockChange {
                at: change.at,
                wall_before: change.wall_before,
                wall_after: change.wall_after,
                slots: noted.first,
                n_slots: noted.n,
                n_lost: expression.n_lost_in_gap(&change),
            }
        })
        .collect()
}

#[derive(Default)]
struct NotedSlots {
    first: Vec<NotedSlot>,
    n: usize,
}

impl NotedSlots {
    fn note(&mut self, expression: &Expression, schedule: &Schedule, due_at: DateTime<Utc>) {
        let Some(note) = expression.dst_note(&schedule.timezone, due_at) else { return };
        self.n += 1;
        if self.first.len() < MAX_LISTED {
            self.first.push(NotedSlot { due_at, note: note.to_string() });
        }
    }
}
