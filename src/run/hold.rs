//! What holds a slot back whatever else runs: a pause, or a maintenance window of its schedule.
//!
//! Pure. Invariant: a run that was asked for is never held back.

use super::ledger::{Cause, Origin, Pause, PlannedSlot};
use crate::schedule::Schedule;
use crate::schedule::slot::in_maintenance;

/// Why a slot is not to be run under this pause, if there is one, and this schedule's windows. What
/// somebody asks for is run in spite of both.
#[must_use]
pub fn held_back(
    slot: &PlannedSlot,
    schedule: &Schedule,
    pause: Option<&Pause>,
) -> Option<(Cause, String)> {
    if slot.origin == Origin::Asked {
        return None;
    }
    if let Some(pause) = pause {
        return Some((Cause::Paused, format!("paused: {}", pause.reason)));
    }
    let reason = in_maintenance(schedule, slot.slot.due_at)?;
    Some((Cause::Maintenance, format!("maintenance: {reason}")))
}
