//! Slots that fell into a time in which Lookout was not there: which is caught up, which are given up.
//!
//! Pure. An absence is any time without a sign of life: the daemon was down, the machine slept, the
//! wall clock was set forward. Slots whose deadline is still ahead are none of its business.
//! Invariant: at most one slot of a schedule is caught up, and never beside one that may start anyway.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::ledger::{AbsenceAccount, Origin, PlannedSlot};
use crate::schedule::slot::box_for_catch_up;
use crate::schedule::{CatchUp, Schedule, ScheduleName};

/// Without a sign of life for so long, Lookout was not there. The loop steps every second; a busy
/// machine may hold it up for some.
pub const ABSENT_AFTER: TimeDelta = TimeDelta::seconds(15);

/// A caught-up run's box is at least this share of the schedule's, or it is not worth a run.
const LEAST_SHARE_OF_BOX: u32 = 10;

/// An absence that has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Last sign of life.
    pub from: DateTime<Utc>,
    /// Now.
    pub to: DateTime<Utc>,
}

impl Gap {
    /// The gap between two signs of life, if it is one.
    #[must_use]
    pub fn between(last_seen: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<Self> {
        let from = last_seen?;
        (now - from > ABSENT_AFTER).then_some(Self { from, to: now })
    }

    /// Whether a deadline fell into it.
    #[must_use]
    pub fn holds(&self, deadline: DateTime<Utc>) -> bool {
        self.from < deadline && deadline < self.to
    }

    fn reason(&self) -> String {
        format!(
            "Lookout was not there from {} to {} UTC",
            self.from.format("%Y-%m-%d %H:%M:%S"),
            self.to.format("%Y-%m-%d %H:%M:%S")
        )
    }
}

/// What the account is made from.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The absence.
    pub gap: Gap,
    /// Unclaimed slots whose start has come.
    pub due: &'a [PlannedSlot],
    /// Schedules as they are configured now.
    pub schedules: &'a [Schedule],
    /// Schedules that must not start anything now: paused, in maintenance, or with a run that goes on.
    pub held: &'a [ScheduleName],
}

/// The account; `None` if nothing fell into the gap.
#[must_use]
pub fn account(ground: Ground<'_>) -> Option<AbsenceAccount> {
    let Ground { gap, due, .. } = ground;
    let mut fallen: BTreeMap<&ScheduleName, Vec<&PlannedSlot>> = BTreeMap::new();
    for slot in due.iter().filter(|slot| gap.holds(slot.start_by)) {
        fallen.entry(&slot.slot.schedule).or_default().push(slot);
    }
    if fallen.is_empty() {
        return None;
    }
    let mut account = AbsenceAccount {
        from: gap.from,
        to: gap.to,
        unobserved: Vec::new(),
        caught_up: Vec::new(),
    };
    for (name, mut slots) in fallen {
        slots.sort_by_key(|slot| slot.slot.due_at);
        if let Some(slot) = worth_catching_up(&ground, name, &slots) {
            slots.pop();
            let grace = TimeDelta::from_std(slot.schedule.start_grace).unwrap_or(TimeDelta::MAX);
            account.caught_up.push((slot.slot.clone(), gap.to + grace));
        }
        let given_up = slots.into_iter().map(|slot| (slot.slot.clone(), gap.reason()));
        account.unobserved.extend(given_up);
    }
    Some(account)
}

/// The latest fallen slot, if it is to be run now.
fn worth_catching_up<'a>(
    ground: &Ground<'_>,
    name: &ScheduleName,
    fallen: &[&'a PlannedSlot],
) -> Option<&'a PlannedSlot> {
    let latest = *fallen.last()?;
    let configured = ground.schedules.iter().find(|schedule| schedule.name == *name)?;
    // Somebody asked for a run then; they did not ask for one now.
    let is_wanted = configured.catch_up == CatchUp::Latest && latest.origin == Origin::Schedule;
    let starts_anyway =
        ground.due.iter().any(|slot| slot.slot.schedule == *name && slot.start_by >= ground.gap.to);
    if !is_wanted || starts_anyway || ground.held.contains(name) {
        return None;
    }
    time_box(configured, latest, ground.gap.to).map(|_| latest)
}

/// The box of a caught-up run that starts now; `None` if there is too little room for one.
#[must_use]
pub fn time_box(schedule: &Schedule, slot: &PlannedSlot, now: DateTime<Utc>) -> Option<Duration> {
    let time_box = box_for_catch_up(schedule, &slot.slot, now);
    (!time_box.is_zero() && time_box >= schedule.time_box / LEAST_SHARE_OF_BOX).then_some(time_box)
}
