//! Clocks that are wrong: ahead for a month and then corrected, set back in the middle of the work. What
//! was planned for a time that is no longer near holds nothing up.

use std::time::Duration;

use chrono::TimeDelta;
use lookout::clock::Clock;
use lookout::schedule::slot::due_between;
use lookout::schedule::{Cadence, Schedule};
use lookout::watch::Verdict;
use lookout::watch::history::History;

use crate::guard::scripts::{failing, good, secs};
use crate::guard::{World, epoch, hourly};

const HOUR: Duration = Duration::from_secs(3600);

/// A daemon that is first started with the clock this far ahead, and works for so long.
async fn ahead_by(days: i64, time: Duration) -> World {
    let begins = epoch() + TimeDelta::days(days);
    let mut world = World::starting(begins, vec![hourly("review")], |_| good(600));
    world.run_for(time).await;
    world
}

fn assert_each_ran_once(world: &World) {
    assert!(world.store.verdicts().values().all(|n| *n == 1), "{:?}", world.store.verdicts());
    assert!(world.keepers.starts().values().all(|n| *n == 1), "{:?}", world.keepers.starts());
}

/// What an audit computes from the spans is what was written down, each slot once.
async fn assert_spans_hold(world: &World) {
    let now = world.clock.now();
    let spans = world.db.spans(epoch() - TimeDelta::days(1), now).await.unwrap();
    let mut owed: Vec<_> = spans
        .iter()
        .flat_map(|span| due_between(&span.schedule, span.since, span.until.min(now), 10_000))
        .map(|slot| slot.due_at)
        .collect();
    owed.sort();
    let written: Vec<_> = world.slots().await.iter().map(|slot| slot.due_at).collect();
    assert_eq!(owed, written);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_a_month_ahead_and_is_set_back_silences_nothing() {
    let mut world = ahead_by(30, secs(600)).await;
    world.clock.step_wall(-TimeDelta::days(30));
    // From 00:40 to 03:40.
    world.run_for(HOUR * 3).await;
    assert_eq!(world.verdicts().await, vec![Verdict::Completed; 3]);
    assert_eq!(world.told(), vec![]);
    assert_spans_hold(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_while_lookout_is_down_silences_nothing() {
    let mut world = ahead_by(30, secs(600)).await;
    world.clock.step_wall(-TimeDelta::days(30));
    world.down_for(secs(60)).await;
    world.run_for(HOUR * 3).await;
    assert_eq!(world.verdicts().await, vec![Verdict::Completed; 3]);
    assert_eq!(world.told(), vec![]);
    assert_spans_hold(&world).await;
}

#[tokio::test(start_paused = true)]
async fn slots_that_ran_while_the_clock_was_ahead_do_not_run_again_when_their_time_comes() {
    let mut world = ahead_by(1, HOUR * 2).await;
    world.clock.step_wall(-TimeDelta::days(1));
    // From 02:30 to 04:30 of the next day: two of its slots have their verdicts already.
    world.run_for(HOUR * 26).await;
    assert_eq!(world.verdicts().await, vec![Verdict::Completed; 26]);
    assert_each_ran_once(&world);
    assert_eq!(world.told(), vec![]);
    assert_spans_hold(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_some_minutes_ahead_at_the_first_start_loses_no_slot() {
    // At 01:05, which is 00:55.
    let begins = epoch() + TimeDelta::minutes(35);
    let mut world = World::starting(begins, vec![hourly("review")], |_| good(600));
    world.run_for(secs(5)).await;
    world.clock.step_wall(-TimeDelta::minutes(10));
    world.run_for(HOUR * 2).await;
    assert_eq!(world.verdicts().await, vec![Verdict::Completed; 2]);
    assert_spans_hold(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_at_once_keeps_its_pause_when_the_clock_is_set_back() {
    let always = Schedule { cadence: Cadence::Continuous, ..hourly("review") };
    let mut world = World::new(vec![always], |_| failing(1, 1)).with_longest_step(secs(1));
    world.run_for(HOUR / 2).await;
    let before = world.keepers.starts().len();
    world.clock.step_wall(-TimeDelta::minutes(20));
    world.run_for(secs(600)).await;
    let boxes = world.keepers.starts().len() - before;
    assert!((8..=11).contains(&boxes), "{boxes} boxes in ten minutes");
    assert_each_ran_once(&world);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_is_restarted_again_and_again_does_not_shorten_that_pause() {
    let always = Schedule { cadence: Cadence::Continuous, ..hourly("review") };
    let mut world = World::new(vec![always], |_| failing(1, 1)).with_longest_step(secs(1));
    let begins = world.clock.now();
    for _ in 0..20 {
        world.run_for(secs(10)).await;
        world.restart();
    }
    let boxes = world.keepers.starts().len();
    assert!((3..=4).contains(&boxes), "{boxes} boxes since {begins}");
}
