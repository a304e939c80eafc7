//! Lookout away, Lookout killed, clocks that step: no slot is lost, none is run twice, and what
//! nobody saw is told in one digest.

use std::time::Duration;

use chrono::TimeDelta;
use lookout::run::Scope;
use lookout::run::ledger::{Answer, Request};
use lookout::schedule::{CatchUp, Maintenance, Schedule, ScheduleName};
use lookout::watch::{Change, IncidentKind, Verdict};

use crate::guard::fused::Fuse;
use crate::guard::scripts::{good, secs};
use crate::guard::{Alive, World, epoch, hourly};

const HOUR: Duration = Duration::from_secs(3600);

fn all_good() -> World {
    World::new(vec![hourly("review")], |_| good(1200))
}

/// Slots of the verdict.
async fn count(world: &World, verdict: Verdict) -> usize {
    world.verdicts().await.iter().filter(|known| **known == verdict).count()
}

async fn assert_all_judged_once(world: &World) {
    assert!(world.store.verdicts().values().all(|n| *n == 1), "{:?}", world.store.verdicts());
    assert!(world.keepers.starts().values().all(|n| *n == 1), "{:?}", world.keepers.starts());
    assert!(world.keepers.overlaps().is_empty());
}

#[tokio::test(start_paused = true)]
async fn five_hours_away_are_one_digest_and_one_run_late() {
    let mut world = all_good();
    world.run_for(HOUR).await;
    // From 01:30 to 06:35.
    world.down_for(HOUR * 5 + secs(300)).await;
    world.run_for(HOUR).await;
    assert_eq!(world.told(), vec![(IncidentKind::WasBlind, Change::Opened)]);
    let facts = &world.news[0].facts;
    assert_eq!(facts.n_slots, Some(5));
    assert_eq!(facts.also, vec!["4 runs did not take place", "1 are run now"]);
    assert_eq!(count(&world, Verdict::Unobserved).await, 4);
    // 01:00, 06:00 (late), 07:00.
    assert_eq!(count(&world, Verdict::Completed).await, 3);
    let late = &world.slots().await[5];
    assert_eq!(late.findings, vec!["run late, because Lookout was not there"]);
    let room = late.configuration.time_box;
    assert!(room < Duration::from_secs(20 * 60), "it ends before the 07:00 run: {room:?}");
    assert_all_judged_once(&world).await;
}

#[tokio::test(start_paused = true)]
async fn without_catching_up_all_are_unobserved() {
    let none = Schedule { catch_up: CatchUp::None, ..hourly("review") };
    let mut world = World::new(vec![none], |_| good(1200));
    world.run_for(HOUR).await;
    world.down_for(HOUR * 5 + secs(300)).await;
    world.run_for(HOUR).await;
    assert_eq!(world.told(), vec![(IncidentKind::WasBlind, Change::Opened)]);
    assert_eq!(count(&world, Verdict::Unobserved).await, 5);
}

fn paused_until(until: Option<TimeDelta>) -> Request {
    Request::Pause {
        schedule: ScheduleName::new("review"),
        reason: "moving the table".into(),
        until: until.map(|after| epoch() + after),
    }
}

#[tokio::test(start_paused = true)]
async fn slots_of_a_pause_are_skipped_as_such_also_while_lookout_is_away() {
    let mut world = all_good();
    world.run_for(secs(60)).await;
    world.ask(paused_until(None)).await;
    world.run_for(HOUR).await;
    world.down_for(HOUR * 5).await;
    world.run_for(secs(60)).await;
    assert_eq!(world.told(), vec![]);
    assert_eq!(world.verdicts().await, vec![Verdict::Skipped; 6]);
    let slots = world.slots().await;
    assert!(slots.iter().all(|slot| slot.reason.as_deref() == Some("paused: moving the table")));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_ends_while_lookout_is_away_excuses_its_own_slots_only() {
    let mut world = all_good();
    world.run_for(secs(60)).await;
    // Until 03:30.
    world.ask(paused_until(Some(TimeDelta::hours(3)))).await;
    world.run_for(HOUR).await;
    world.down_for(HOUR * 5).await;
    world.run_for(HOUR / 4).await;
    // 01:00 to 03:00 paused, 04:00 and 05:00 unseen, 06:00 late.
    assert_eq!(count(&world, Verdict::Skipped).await, 3);
    assert_eq!(count(&world, Verdict::Unobserved).await, 2);
    assert_eq!(world.told(), vec![(IncidentKind::WasBlind, Change::Opened)]);
    assert_eq!(world.news[0].facts.n_slots, Some(3));
}

/// A window from 01:45 to 06:45.
fn with_a_window() -> Schedule {
    let window =
        Maintenance { from: "45 1 * * *".into(), lasts: HOUR * 5, reason: "upgrade".into() };
    Schedule { maintenance: vec![window], ..hourly("review") }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_within_a_maintenance_window_is_no_news() {
    let mut world = World::new(vec![with_a_window()], |_| good(600));
    world.run_for(HOUR + HOUR / 2).await;
    // From 02:00 to 06:40.
    world.down_for(HOUR * 4 + secs(2400)).await;
    world.run_for(HOUR / 2).await;
    assert_eq!(world.told(), vec![]);
    // 01:00 and 07:00.
    assert_eq!(count(&world, Verdict::Completed).await, 2);
    assert_eq!(count(&world, Verdict::Skipped).await, 5);
    assert_eq!(world.slots().await[2].reason.as_deref(), Some("maintenance: upgrade"));
}

#[tokio::test(start_paused = true)]
async fn a_conductor_that_does_not_come_back_makes_no_news_of_a_window_either() {
    let mut world = World::new(vec![with_a_window()], |_| good(600));
    world.run_for(HOUR + HOUR / 2).await;
    // Rows are there for two hours.
    world.alive = Alive::WatchdogOnly;
    world.down_for(HOUR + HOUR / 2).await;
    world.run_for(secs(300)).await;
    assert_eq!(count(&world, Verdict::Skipped).await, 2);
    assert_eq!(world.told(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_asked_for_without_a_daemon_leaves_the_downtime_to_the_daemon_that_comes() {
    let mut world = all_good();
    world.run_for(HOUR).await;
    // From 01:30 to 04:35 nobody is there; then one run by hand, until 05:05.
    world.down_for(HOUR * 3 + secs(300)).await;
    for _ in 0..2 {
        world.restart_within(Scope::Asked);
        let asked = world.ask(Request::Run { schedule: ScheduleName::new("review") }).await;
        assert!(matches!(asked, Answer::Planned { .. }), "{asked:?}");
        world.run_for(HOUR / 4 + secs(300)).await;
    }
    // 01:00, and the two runs by hand of 20 minutes each.
    assert_eq!(world.verdicts().await, vec![Verdict::Completed; 3]);
    assert_eq!(world.told(), vec![]);
    // 05:15.
    world.restart_within(Scope::Everything);
    world.run_for(HOUR).await;
    assert_eq!(world.told(), vec![(IncidentKind::WasBlind, Change::Opened)]);
    // 02:00 to 05:00, the last of them late; 06:00 in time.
    assert_eq!(world.news[0].facts.n_slots, Some(4));
    assert_eq!(count(&world, Verdict::Unobserved).await, 3);
    assert_eq!(count(&world, Verdict::Completed).await, 4);
    assert_all_judged_once(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_between_two_slots_is_silent() {
    let mut world = all_good();
    for _ in 0..6 {
        world.run_for(HOUR).await;
        world.down_for(secs(240)).await;
    }
    world.run_for(HOUR / 2).await;
    assert_eq!(world.told(), vec![]);
    assert_all_judged_once(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_was_due_while_lookout_restarted_starts_within_its_grace() {
    let mut world = all_good();
    // Down from 00:59:30 to 01:00:30.
    world.run_for(HOUR / 2 - secs(30)).await;
    world.down_for(secs(60)).await;
    world.run_for(HOUR / 2).await;
    assert_eq!(world.told(), vec![]);
    assert_eq!(world.verdicts().await, vec![Verdict::Completed]);
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_without_its_daemon_and_is_judged_by_the_next() {
    let mut world = all_good();
    world.run_for(HOUR / 2 + secs(300)).await;
    world.restart();
    world.run_for(secs(300)).await;
    world.down_for(secs(1200)).await;
    world.run_for(secs(60)).await;
    assert_eq!(world.verdicts().await, vec![Verdict::Completed]);
    assert_eq!(world.told(), vec![]);
    assert_all_judged_once(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_write_loses_nothing_and_doubles_nothing() {
    for n in 0..10 {
        for fuse in [Fuse::Before(n), Fuse::After(n)] {
            let mut world = all_good();
            world.run_for(HOUR / 2 - secs(40)).await;
            world.store.set(fuse);
            world.run_for(HOUR).await;
            assert_eq!(world.verdicts().await, vec![Verdict::Completed], "{fuse:?}");
            assert_eq!(world.told(), vec![], "{fuse:?}");
            assert_all_judged_once(&world).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn three_hours_forward_are_one_digest_and_at_most_one_run() {
    let mut world = all_good();
    // Idle at 01:30.
    world.run_for(HOUR).await;
    world.clock.step_wall(TimeDelta::hours(3));
    world.run_for(HOUR).await;
    assert_eq!(world.told(), vec![(IncidentKind::WasBlind, Change::Opened)]);
    assert_eq!(world.news[0].facts.n_slots, Some(3));
    assert_eq!(count(&world, Verdict::Unobserved).await, 2);
    assert_all_judged_once(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_step_forward_leaves_the_box_of_a_running_job_alone() {
    let mut world = all_good();
    world.run_for(HOUR / 2 + secs(120)).await;
    world.clock.step_wall(TimeDelta::minutes(50));
    world.run_for(secs(1180)).await;
    let slots = world.slots().await;
    assert_eq!(slots[0].verdict, Some(Verdict::Completed));
    assert_all_judged_once(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_hour_back_runs_nothing_again() {
    let mut world = all_good();
    world.run_for(HOUR * 2).await;
    world.clock.step_wall(-TimeDelta::hours(1));
    world.run_for(HOUR * 3).await;
    assert_eq!(world.verdicts().await, vec![Verdict::Completed; 4]);
    assert_eq!(world.told(), vec![]);
    assert_all_judged_once(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_hanging_conductor_is_seen_by_the_deadline_of_its_slot() {
    let mut world = all_good();
    world.run_for(HOUR / 2 - secs(60)).await;
    world.alive = Alive::WatchdogOnly;
    world.run_for(secs(60 + 121)).await;
    assert_eq!(world.told(), vec![(IncidentKind::RunMissed, Change::Opened)]);
    let slot = &world.slots().await[0];
    assert_eq!(slot.verdict, Some(Verdict::Missed));
    assert_eq!(slot.reason.as_deref(), Some("not started by 01:02:00 UTC"));
    world.alive = Alive::Both;
    world.run_for(HOUR * 3 / 2).await;
    assert_eq!(world.verdicts().await, vec![Verdict::Missed, Verdict::Completed]);
    assert_eq!(world.told().last(), Some(&(IncidentKind::RunMissed, Change::Resolved)));
}

#[tokio::test(start_paused = true)]
async fn while_nothing_can_be_written_nothing_is_started_and_it_goes_on_afterwards() {
    let mut world = all_good();
    world.run_for(HOUR / 2 - secs(30)).await;
    // A full disk: every daemon that is started on it fails again.
    for _ in 0..60 {
        world.store.set(Fuse::Before(0));
        world.step().await;
        tokio::time::advance(secs(1)).await;
    }
    assert!(world.keepers.starts().is_empty());
    world.run_for(HOUR).await;
    assert_eq!(world.verdicts().await, vec![Verdict::Completed]);
    assert_eq!(world.told(), vec![]);
}
