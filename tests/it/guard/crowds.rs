//! Thousands of schedules, and downtimes with thousands of slots: each step does a bounded part, and nothing
//! is left out.

use std::time::Duration;

use lookout::run::ledger::Ledger;
use lookout::schedule::{Cadence, Schedule};
use lookout::watch::{Change, IncidentKind, Verdict};

use crate::guard::scripts::{good, secs};
use crate::guard::{World, hourly};

const HOUR: Duration = Duration::from_secs(3600);

/// Schedules that are planned and have nothing to do.
fn many(n: usize) -> Vec<Schedule> {
    let yearly = Cadence::Cron("0 0 1 1 *".into());
    (0..n).map(|n| Schedule { cadence: yearly.clone(), ..hourly(&format!("s{n:03}")) }).collect()
}

#[tokio::test(start_paused = true)]
async fn a_step_plans_a_bounded_number_of_schedules_and_the_next_ones_the_others() {
    let mut world = World::new(many(450), |_| good(60));
    let mut known = Vec::new();
    for _ in 0..3 {
        world.step().await;
        known.push(world.db.plans().await.unwrap().len());
    }
    assert_eq!(known, vec![200, 400, 450]);
}

#[tokio::test(start_paused = true)]
async fn plans_are_renewed_a_few_at_a_time_and_not_all_in_the_same_second() {
    let mut world = World::new(many(450), |_| good(60));
    world.run_for(HOUR / 4).await;
    let mut most = 0;
    // From 00:45 to 02:45, half a minute a time.
    for _ in 0..240 {
        let before = world.store.n_plans();
        world.step().await;
        most = most.max(world.store.n_plans() - before);
        tokio::time::advance(secs(30)).await;
    }
    assert!((1..60).contains(&most), "{most} in one step");
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_one_schedule_plans_that_one_again() {
    let mut world = World::new(many(450), |_| good(60));
    for _ in 0..4 {
        world.step().await;
    }
    let before = world.store.n_plans();
    let mut schedules = many(450);
    schedules[7].cadence = Cadence::Cron("15 * * * *".into());
    world.configure(schedules);
    world.step().await;
    world.step().await;
    assert_eq!(world.store.n_plans() - before, 1);
}

/// Every minute, in boxes of ten seconds.
fn every_minute() -> Schedule {
    Schedule {
        cadence: Cadence::Cron("* * * * *".into()),
        time_box: secs(10),
        signal_grace: secs(5),
        kill_grace: secs(1),
        start_grace: secs(20),
        ..hourly("review")
    }
}

#[tokio::test(start_paused = true)]
async fn ten_days_away_from_a_schedule_of_every_minute_leave_no_slot_out() {
    let mut world = World::new(vec![every_minute()], |_| good(2));
    world.run_for(secs(5)).await;
    // Until 00:30:30, ten days later.
    world.down_for(HOUR * 240 + secs(25)).await;
    world.run_for(secs(20)).await;
    assert_eq!(world.told(), vec![(IncidentKind::WasBlind, Change::Opened)]);
    assert_eq!(world.news[0].facts.n_slots, Some(14_400));
    let slots = world.slots().await;
    // 00:30 itself was due before Lookout was there for the first time.
    assert_eq!(slots.len(), 14_400);
    let (last, others) = slots.split_last().unwrap();
    assert!(others.iter().all(|slot| slot.verdict == Some(Verdict::Unobserved)));
    assert_eq!(last.verdict, Some(Verdict::Completed), "the newest of all is caught up");
    assert!(world.store.verdicts().values().all(|n| *n == 1));
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_of_a_long_account_still_makes_one_digest() {
    let mut world = World::new(vec![every_minute()], |_| good(2));
    world.run_for(secs(5)).await;
    world.down_for(HOUR * 240 + secs(25)).await;
    world.step().await;
    tokio::time::advance(secs(2)).await;
    world.restart();
    world.run_for(secs(20)).await;
    assert_eq!(world.told(), vec![(IncidentKind::WasBlind, Change::Opened)]);
    assert_eq!(world.news[0].facts.n_slots, Some(14_400));
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_was_removed_during_a_long_downtime_has_all_its_slots_accounted_for() {
    let mut world = World::new(vec![every_minute()], |_| good(2));
    world.run_for(secs(5)).await;
    world.configure(vec![]);
    world.down_for(HOUR * 240 + secs(25)).await;
    world.run_for(secs(60)).await;
    let slots = world.slots().await;
    assert_eq!(slots.len(), 14_400);
    assert!(slots.iter().all(|slot| slot.verdict.is_some()));
    assert_eq!(world.told(), vec![(IncidentKind::WasBlind, Change::Opened)]);
}
