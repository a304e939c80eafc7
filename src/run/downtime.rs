//! Downtime of Lookout: which of its slots are caught up, and which are given up.
//!
//! Pure. Downtime is any time without a sign of life: the daemon was down, the machine slept, the
//! wall clock was set forward. Slots whose deadline is still ahead are none of its business.
//! Invariant: at most one slot of a schedule is caught up, and never beside one that may start anyway.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::Extent;
use super::hold::held_back;
use super::ledger::{DowntimeAccount, DowntimeCause, DroppedSlot, Origin, Pause, PlannedSlot};
use crate::clock::Clock;
use crate::schedule::slot::box_for_catch_up;
use crate::schedule::{CatchUp, Schedule, ScheduleName};

/// The shortest downtime: without a sign of life for this long, Lookout was not there. The loop steps every second; a busy
/// machine may hold it up for some.
pub const MIN_DOWNTIME: TimeDelta = TimeDelta::seconds(15);

/// A caught-up run's box is at least this share of the schedule's, or it is not worth a run.
const MIN_BOX_SHARE: u32 = 10;

/// All three clocks at one moment. Between two of them it can be told what happened: the wall clock
/// alone is set, the boot clock counts sleep, and the timers' clock does not.
#[derive(Clone, Copy, Debug)]
pub struct ClockSample {
    /// Wall time.
    pub wall: DateTime<Utc>,
    /// Boot time.
    pub boot: Duration,
    /// What timers run on.
    pub timer: Instant,
}

impl ClockSample {
    /// Now; `wall` is the time that the caller's step goes by.
    #[must_use]
    pub fn take(clock: &dyn Clock, wall: DateTime<Utc>) -> Self {
        Self { wall, boot: clock.boot(), timer: Instant::now() }
    }

    /// How far the wall clock was set since an earlier reading; negative: back.
    #[must_use]
    pub fn clock_set_since(&self, before: &Self) -> TimeDelta {
        self.wall - before.wall - delta(self.boot.saturating_sub(before.boot))
    }

    /// How long the machine slept since an earlier reading.
    #[must_use]
    pub fn slept_since(&self, before: &Self) -> Duration {
        let timer = self.timer.saturating_duration_since(before.timer);
        self.boot.saturating_sub(before.boot).saturating_sub(timer)
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// A downtime that has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Downtime {
    /// Last sign of life.
    pub from: DateTime<Utc>,
    /// Now.
    pub to: DateTime<Utc>,
    /// What it was.
    pub cause: DowntimeCause,
}

impl Downtime {
    /// The downtime since a sign of life that an earlier daemon left, if it is one.
    #[must_use]
    pub fn since_sign(last_seen: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<Self> {
        let from = last_seen?;
        (now - from > MIN_DOWNTIME).then_some(Self { from, to: now, cause: DowntimeCause::Down })
    }

    /// The downtime between two steps of one loop, if it is one.
    #[must_use]
    pub fn between(before: &ClockSample, now: &ClockSample) -> Option<Self> {
        let length = now.wall - before.wall;
        if length <= MIN_DOWNTIME {
            return None;
        }
        let cause = if now.clock_set_since(before) > length / 2 {
            DowntimeCause::ClockSet
        } else if delta(now.slept_since(before)) > length / 2 {
            DowntimeCause::Suspended
        } else {
            DowntimeCause::HeldUp
        };
        Some(Self { from: before.wall, to: now.wall, cause })
    }

    /// Whether a deadline fell into it.
    #[must_use]
    pub fn holds(&self, deadline: DateTime<Utc>) -> bool {
        self.from < deadline && deadline < self.to
    }

    fn reason(&self) -> String {
        format!(
            "{} from {} to {} UTC",
            self.cause.words(),
            self.from.format("%Y-%m-%d %H:%M:%S"),
            self.to.format("%Y-%m-%d %H:%M:%S")
        )
    }
}

/// What the account is made from.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// Which.
    pub downtime: Downtime,
    /// Whether all its slots have been written down.
    pub extent: Extent,
    /// Unclaimed slots whose start has come.
    pub due: &'a [PlannedSlot],
    /// Schedules as they are configured now.
    pub schedules: &'a [Schedule],
    /// Pauses that held in it.
    pub pauses: &'a [Pause],
    /// Schedules that must not start anything now: paused, in maintenance, or with a run that goes on.
    pub held: &'a [ScheduleName],
}

/// What becomes of slots that fell into a downtime.
#[derive(Clone, Debug, PartialEq)]
pub struct Accounts {
    /// They would not have been run anyway: nobody missed anything.
    pub excused: Vec<DroppedSlot>,
    /// The others.
    pub account: DowntimeAccount,
}

/// The account. Of a part, each schedule's newest slot is left for the next: it may be the one that
/// is caught up.
#[must_use]
pub fn account(ground: Ground<'_>) -> Accounts {
    let Ground { downtime, due, .. } = ground;
    let mut accounts = Accounts {
        excused: Vec::new(),
        account: DowntimeAccount {
            from: downtime.from,
            to: downtime.to,
            cause: downtime.cause,
            extent: ground.extent,
            unobserved: Vec::new(),
            caught_up: Vec::new(),
        },
    };
    let configured: HashMap<&ScheduleName, &Schedule> =
        ground.schedules.iter().map(|schedule| (&schedule.name, schedule)).collect();
    let held: HashSet<&ScheduleName> = ground.held.iter().collect();
    let mut fallen: BTreeMap<&ScheduleName, Vec<&PlannedSlot>> = BTreeMap::new();
    let mut starting: HashSet<&ScheduleName> = HashSet::new();
    for slot in due {
        let name = &slot.slot.schedule;
        if !downtime.holds(slot.start_by) {
            if slot.start_by >= downtime.to {
                starting.insert(name);
            }
            continue;
        }
        let schedule = configured.get(name).copied().unwrap_or(&slot.schedule);
        match excuse(slot, schedule, ground.pauses) {
            Some(excused) => accounts.excused.push(excused),
            None => fallen.entry(name).or_default().push(slot),
        }
    }
    for (name, mut slots) in fallen {
        slots.sort_by_key(|slot| slot.slot.due_at);
        match ground.extent {
            Extent::Part => drop(slots.pop()),
            Extent::Whole if starting.contains(name) || held.contains(name) => {}
            Extent::Whole => {
                let configured = configured.get(name).copied();
                if let Some(slot) = worth_catching_up(configured, &slots, downtime.to) {
                    slots.pop();
                    let start_by = downtime.to + delta(slot.schedule.start_grace);
                    accounts.account.caught_up.push((slot.slot.clone(), start_by));
                }
            }
        }
        let given_up = slots.into_iter().map(|slot| (slot.slot.clone(), downtime.reason()));
        accounts.account.unobserved.extend(given_up);
    }
    accounts
}

/// The slot as a dropped one, if its schedule was paused or in maintenance when it was due: then it is
/// not because of the downtime that it was not run.
#[must_use]
pub fn excuse(slot: &PlannedSlot, schedule: &Schedule, pauses: &[Pause]) -> Option<DroppedSlot> {
    let due_at = slot.slot.due_at;
    let pause = pauses.iter().find(|pause| {
        pause.schedule == slot.slot.schedule
            && pause.paused_at <= due_at
            && pause.until.is_none_or(|until| until > due_at)
    });
    let (cause, reason) = held_back(slot, schedule, pause)?;
    Some(DroppedSlot { slot: slot.slot.clone(), cause, reason, downtime: None })
}

/// The latest fallen slot, if it is to be run now.
fn worth_catching_up<'a>(
    configured: Option<&Schedule>,
    fallen: &[&'a PlannedSlot],
    now: DateTime<Utc>,
) -> Option<&'a PlannedSlot> {
    let (configured, latest) = (configured?, *fallen.last()?);
    // Somebody asked for a run then; they did not ask for one now.
    let is_wanted = configured.catch_up == CatchUp::Latest && latest.origin == Origin::Schedule;
    time_box(configured, latest, now).filter(|_| is_wanted).map(|_| latest)
}

/// The box of a caught-up run that starts now; `None` if there is too little room for one.
#[must_use]
pub fn time_box(schedule: &Schedule, slot: &PlannedSlot, now: DateTime<Utc>) -> Option<Duration> {
    let time_box = box_for_catch_up(schedule, &slot.slot, now);
    (!time_box.is_zero() && time_box >= schedule.time_box / MIN_BOX_SHARE).then_some(time_box)
}
