//! What becomes of a schedule's slots if every run fills its box and its grace: played against
//! [`decide`], the decision that the conductor acts on.
//!
//! Pure: no clock, no ledger, no jobs, and one schedule alone: places are not counted.
//! Invariant: every slot has exactly one fate.

use chrono::{DateTime, TimeDelta, Utc};

use super::decide::{Decision, Situation, decide};
use super::ledger::{Cause, OpenRun, Origin, PlannedSlot, RunProgress};
use super::planner::rows::row;
use super::{Run, RunId};
use crate::schedule::{Schedule, Slot};

/// What becomes of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Which one.
    pub slot: Slot,
    /// What.
    pub end: End,
}

/// How a slot ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a run.
    Run {
        /// From then …
        from: DateTime<Utc>,
        /// … until then.
        until: DateTime<Utc>,
        /// What it met.
        before: Before,
    },
    /// It is not run.
    Dropped(Cause),
    /// Its deadline passes while it waits.
    Missed,
}

/// How it was with the run before, when a slot's start had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Over, or there was none.
    Over,
    /// It went on, and the slot waited for its end.
    AwaitedEnd,
    /// It went on, and was stopped for this one.
    Stopped,
}

/// A run that goes on.
struct Open {
    run: OpenRun,
    until: DateTime<Utc>,
    /// Where its fate stands.
    fate: usize,
    is_stopping: bool,
}

/// A slot whose start has come.
struct Waiting {
    planned: PlannedSlot,
    before: Before,
}

struct Play<'a> {
    schedule: &'a Schedule,
    open: Option<Open>,
    waiting: Vec<Waiting>,
    fates: Vec<Fate>,
}

/// Plays slots that come in rising order; their fates in the same order.
#[must_use]
pub fn play(schedule: &Schedule, slots: &[Slot]) -> Vec<Fate> {
    let fates = Vec::with_capacity(slots.len());
    let mut play = Play { schedule, open: None, waiting: Vec::new(), fates };
    for slot in slots {
        let planned = row(schedule, slot.clone(), Origin::Schedule);
        let start_at = planned.start_at;
        play.end_runs(Some(start_at));
        play.waiting.push(Waiting { planned, before: Before::Over });
        play.decide_all(start_at);
    }
    play.end_runs(None);
    play.fates.sort_by_key(|fate| fate.slot.due_at);
    play.fates
}

impl Play<'_> {
    /// Ends what is over by then, one run after the other; without a time, all.
    fn end_runs(&mut self, by: Option<DateTime<Utc>>) {
        while let Some(open) = self.open.take_if(|open| by.is_none_or(|by| open.until <= by)) {
            self.decide_all(open.until);
        }
    }

    fn decide_all(&mut self, now: DateTime<Utc>) {
        let mut waiting = Vec::new();
        for mut slot in std::mem::take(&mut self.waiting) {
            // The watchdog's finding; see `decide`.
            if slot.planned.start_by < now {
                self.end(slot.planned.slot, End::Missed);
                continue;
            }
            let decision = decide(Situation {
                now,
                slot: &slot.planned,
                configured: Some(self.schedule),
                pause: None,
                open: self.open.as_ref().map(|open| &open.run),
                n_waiting: waiting.len(),
                n_running: usize::from(self.open.is_some()),
                max_running: usize::MAX,
            });
            match decision {
                Decision::Start { time_box } => {
                    let schedule = Schedule { time_box, ..self.schedule.clone() };
                    self.start(slot, schedule, now);
                    continue;
                }
                Decision::Drop { cause, .. } => {
                    self.end(slot.planned.slot, End::Dropped(cause));
                    continue;
                }
                Decision::Wait => {}
                Decision::Queue { start_by } => {
                    slot.planned.start_by = start_by;
                    slot.before = Before::AwaitedEnd;
                }
                Decision::Replace { start_by, .. } => self.stop_for(&mut slot, start_by, now),
            }
            if slot.before == Before::Over {
                slot.before = Before::AwaitedEnd;
            }
            waiting.push(slot);
        }
        self.waiting = waiting;
    }

    fn start(&mut self, slot: Waiting, schedule: Schedule, now: DateTime<Utc>) {
        let longest = schedule.time_box + schedule.signal_grace + schedule.kill_grace;
        let until = now + delta(longest);
        let Waiting { planned, before } = slot;
        let run = OpenRun {
            run: Run {
                id: RunId::from_stored(planned.slot.due_at.timestamp().to_string()),
                slot: planned.slot.clone(),
                schedule,
                claimed_at: now,
                started_at: Some(now),
                keeper: None,
                ended_at: None,
            },
            origin: planned.origin,
            start_by: planned.start_by,
            downtime: None,
            start_error: None,
            progress: RunProgress::Undecided,
        };
        let fate = self.fates.len();
        self.end(planned.slot, End::Run { from: now, until, before });
        self.open = Some(Open { run, until, fate, is_stopping: false });
    }

    /// The open run takes its whole kill grace to go.
    fn stop_for(&mut self, slot: &mut Waiting, start_by: DateTime<Utc>, now: DateTime<Utc>) {
        slot.before = Before::Stopped;
        let Some(open) = self.open.as_mut().filter(|open| !open.is_stopping) else { return };
        slot.planned.start_by = start_by;
        open.is_stopping = true;
        open.until = open.until.min(now + delta(open.run.run.schedule.kill_grace));
        if let Some(End::Run { until, .. }) =
            self.fates.get_mut(open.fate).map(|fate| &mut fate.end)
        {
            *until = open.until;
        }
    }

    fn end(&mut self, slot: Slot, end: End) {
        self.fates.push(Fate { slot, end });
    }
}

fn delta(duration: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
