//! What `lookout simulate` foretells is what the daemon does, because one decision drives both; and it
//! foretells ten years in seconds.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lookout::clock::{Clock, SystemClock};
use lookout::run::forecast::{Before, End, Fate, play};
use lookout::run::ledger::Cause;
use lookout::schedule::slot::due_between;
use lookout::schedule::{Overlap, Schedule, Slot};
use lookout::watch::Verdict;
use lookout::watch::history::SlotRow;

use crate::guard::scripts::{Script, hanging, secs};
use crate::guard::{World, epoch, hourly};
use crate::past::zone;

const HOUR: Duration = Duration::from_secs(3600);

/// A box of 70 minutes every hour, of which every run needs more.
fn overlong(overlap: Overlap) -> Schedule {
    Schedule { overlap, time_box: secs(70 * 60), ..hourly("review") }
}

fn slots_of(schedule: &Schedule, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Slot> {
    due_between(schedule, from, until, usize::MAX)
}

fn is_as_foretold(fate: &Fate, row: &SlotRow) -> bool {
    match fate.end {
        // The daemon and its keepers take their seconds.
        End::Run { from, .. } => {
            row.started_at.is_some_and(|at| at >= from && at - from < TimeDelta::seconds(10))
        }
        End::Dropped(Cause::Overlap) => row.verdict == Some(Verdict::Skipped),
        End::Dropped(_) => false,
        End::Missed => row.verdict == Some(Verdict::Missed),
    }
}

#[tokio::test(start_paused = true)]
async fn the_daemon_does_what_was_foretold_whatever_overlaps() {
    for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Replace] {
        let schedule = overlong(overlap);
        let mut world = World::new(vec![schedule.clone()], |_| Script {
            stops_after: Some(secs(10)),
            ..hanging()
        });
        world.run_for(HOUR * 12).await;
        let rows = world.slots().await;
        let slots = slots_of(&schedule, epoch(), epoch() + TimeDelta::hours(12));
        let fates = play(&schedule, &slots);
        // What becomes of the last two is decided later.
        for (fate, row) in fates.iter().zip(&rows).take(10) {
            assert_eq!(fate.slot.due_at, row.due_at);
            assert!(is_as_foretold(fate, row), "{overlap:?}: {fate:?} {row:#?}");
        }
    }
}

#[test]
fn a_queued_slot_whose_deadline_moves_with_the_run_before_it_is_run() {
    let schedule = overlong(Overlap::Queue);
    let slots = slots_of(&schedule, epoch(), epoch() + TimeDelta::hours(2));
    let fates = play(&schedule, &slots);
    let first_ends = epoch() + TimeDelta::minutes(30 + 75) + TimeDelta::seconds(10);
    let End::Run { from, before, .. } = fates[1].end else { panic!("{fates:?}") };
    assert_eq!((from, before), (first_ends, Before::AwaitedEnd));
}

#[test]
fn ten_years_of_hourly_slots_with_the_nights_of_clock_changes_take_less_than_twenty_seconds() {
    let schedule = Schedule { timezone: zone("America/New_York"), ..hourly("review") };
    let begun = SystemClock.boot();
    let until = epoch() + TimeDelta::days(3652);
    let fates = play(&schedule, &slots_of(&schedule, epoch(), until));
    let taken = SystemClock.boot().saturating_sub(begun);
    // An hour of real time each, clock changes or not.
    assert_eq!(fates.len(), 3652 * 24);
    let is_run = |fate: &Fate| matches!(fate.end, End::Run { before: Before::Over, .. });
    assert!(fates.iter().all(is_run));
    assert!(taken < secs(20), "{taken:?}");
}
