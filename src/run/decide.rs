//! What happens to a slot whose start has come: start, wait, replace, or not at all, and why.
//!
//! Pure; the conductor acts on it. Deadlines that have passed are not decided here: the watchdog calls
//! those slots missed, so that a dead conductor can't hide them.
//! Invariant: a slot is started only if no other run of its schedule is open.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::RunId;
use super::downtime::time_box as catch_up_box;
use super::hold::held_back;
use super::ledger::{Cause, OpenRun, Pause, PlannedSlot, RunProgress};
use crate::schedule::{Overlap, Schedule};

/// How long after its last possible end an open run's queued or replacing slot may still start: for
/// the keeper to notice that it is to stop, and for the watchdog to see that it is over.
const END_MARGIN: Duration = Duration::from_secs(60);

/// A decision about one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it, with this box.
    Start {
        /// The schedule's, or less for a caught-up run.
        time_box: Duration,
    },
    /// Not yet.
    Wait,
    /// Not yet; it may wait for the run before it until then.
    Queue {
        /// New deadline.
        start_by: DateTime<Utc>,
    },
    /// Not yet; the run before it is to be stopped, and it may wait for that until then.
    Replace {
        /// Which.
        run: RunId,
        /// New deadline, if it is asked to stop now.
        start_by: DateTime<Utc>,
    },
    /// It will not be run.
    Drop {
        /// Why.
        cause: Cause,
        /// The same for people.
        reason: String,
    },
}

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Now.
    pub now: DateTime<Utc>,
    /// The slot.
    pub slot: &'a PlannedSlot,
    /// Its schedule as it is configured now; `None` if it is gone.
    pub configured: Option<&'a Schedule>,
    /// A pause of its schedule that holds.
    pub pause: Option<&'a Pause>,
    /// The open run of its schedule.
    pub open: Option<&'a OpenRun>,
    /// Earlier slots of its schedule that wait.
    pub n_waiting: usize,
    /// Open runs of all schedules.
    pub n_running: usize,
    /// So many may be open at once.
    pub max_running: usize,
}

/// Decides about one slot.
#[must_use]
pub fn decide(situation: Situation<'_>) -> Decision {
    let Situation { now, slot, .. } = situation;
    if slot.start_by < now {
        return Decision::Wait;
    }
    if let Some(decision) = held(&situation) {
        return decision;
    }
    if let Some(open) = situation.open {
        return overlapping(&situation, open);
    }
    if situation.n_waiting > 0 || situation.n_running >= situation.max_running {
        return Decision::Wait;
    }
    let Some(downtime) = slot.downtime else {
        return Decision::Start { time_box: slot.schedule.time_box };
    };
    match catch_up_box(&slot.schedule, slot, now) {
        Some(time_box) => Decision::Start { time_box },
        None => Decision::Drop {
            cause: Cause::Downtime,
            reason: format!("too late to catch up before the next run (downtime {downtime})"),
        },
    }
}

/// A reason not to start that has nothing to do with other runs.
fn held(situation: &Situation<'_>) -> Option<Decision> {
    let drop = |cause, reason: String| Some(Decision::Drop { cause, reason });
    let Some(schedule) = situation.configured else {
        return drop(Cause::Removed, "the schedule was removed or disabled".to_owned());
    };
    let (cause, reason) = held_back(situation.slot, schedule, situation.pause)?;
    drop(cause, reason)
}

fn overlapping(situation: &Situation<'_>, open: &OpenRun) -> Decision {
    // It has its verdict, and its last processes are about to go.
    if open.progress == RunProgress::Judged {
        return Decision::Wait;
    }
    let skip = || Decision::Drop {
        cause: Cause::Overlap,
        reason: format!(
            "the {} run was still going on",
            open.run.slot.due_at.format("%Y-%m-%d %H:%M:%S UTC")
        ),
    };
    match situation.slot.schedule.overlap {
        Overlap::Skip => skip(),
        Overlap::Queue if situation.n_waiting > 0 => skip(),
        Overlap::Queue => {
            let start_by = queue_until(open, situation.now).max(situation.slot.start_by);
            if start_by == situation.slot.start_by {
                Decision::Wait
            } else {
                Decision::Queue { start_by }
            }
        }
        Overlap::Replace if situation.n_waiting > 0 => skip(),
        Overlap::Replace => {
            let stops_within = delta(open.run.schedule.kill_grace + END_MARGIN);
            let start_by = (situation.now + stops_within).max(situation.slot.start_by);
            Decision::Replace { run: open.run.id.clone(), start_by }
        }
    }
}

/// When the open run is over at the latest, by its own limits. A claim from the future is of a clock
/// that was ahead.
fn queue_until(open: &OpenRun, now: DateTime<Utc>) -> DateTime<Utc> {
    let schedule = &open.run.schedule;
    let longest = schedule.start_grace
        + schedule.time_box
        + schedule.signal_grace
        + schedule.kill_grace
        + END_MARGIN;
    open.run.claimed_at.min(now) + delta(longest)
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
