//! Overlap, pauses, maintenance, requests, changed schedules: which slots run, which do not, and that
//! the reason can be seen.

use std::time::Duration;

use chrono::TimeDelta;
use lookout::clock::Clock;
use lookout::run::ledger::{Answer, Request};
use lookout::schedule::{Cadence, Maintenance, Overlap, Schedule, ScheduleName};
use lookout::watch::{Change, IncidentKind, Verdict};

use crate::guard::scripts::{Script, failing, good, hanging, refused, secs};
use crate::guard::{World, epoch, hourly};

const HOUR: Duration = Duration::from_secs(3600);

/// A box of 70 minutes, every hour.
fn overlapping(overlap: Overlap) -> World {
    let schedule = Schedule { overlap, time_box: secs(70 * 60), ..hourly("review") };
    let first = epoch() + TimeDelta::minutes(30);
    World::new(vec![schedule], move |slot| good(if slot.due_at == first { 65 * 60 } else { 600 }))
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_due_while_the_run_before_it_goes_on_is_skipped_visibly() {
    let mut world = overlapping(Overlap::Skip);
    world.run_for(HOUR * 3).await;
    let slots = world.slots().await;
    assert_eq!(
        world.verdicts().await,
        vec![Verdict::Completed, Verdict::Skipped, Verdict::Completed]
    );
    let reason = slots[1].reason.clone().unwrap();
    assert_eq!(reason, "the 2026-03-04 01:00:00 UTC run was still going on");
    assert_eq!(world.told(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_queued_slot_starts_when_the_run_before_it_is_over() {
    let mut world = overlapping(Overlap::Queue);
    world.run_for(HOUR * 3).await;
    let slots = world.slots().await;
    assert_eq!(world.verdicts().await, vec![Verdict::Completed; 3]);
    let waited = slots[1].started_at.unwrap() - slots[1].due_at;
    assert!(waited >= TimeDelta::minutes(5) && waited < TimeDelta::minutes(6), "{waited}");
    assert!(world.keepers.overlaps().is_empty());
    assert_eq!(world.told(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_run_is_stopped_before_the_next_begins() {
    let mut world = overlapping(Overlap::Replace);
    world.run_for(HOUR * 3).await;
    let slots = world.slots().await;
    assert_eq!(
        world.verdicts().await,
        vec![Verdict::Failed, Verdict::Completed, Verdict::Completed]
    );
    assert!(slots[0].findings.contains(&"stopped on request".to_owned()));
    assert!(world.keepers.overlaps().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_longer_to_stop_than_the_start_grace_is_replaced_all_the_same() {
    let schedule = Schedule {
        overlap: Overlap::Replace,
        time_box: secs(70 * 60),
        start_grace: secs(5),
        kill_grace: secs(30),
        ..hourly("review")
    };
    let mut world = World::new(vec![schedule], move |_| Script {
        stops_after: Some(secs(30)),
        ..good(65 * 60)
    })
    .with_longest_step(secs(1));
    world.run_for(HOUR + HOUR / 2 + secs(60)).await;
    let slots = world.slots().await;
    assert_eq!(slots[0].verdict, Some(Verdict::Failed));
    let waited = slots[1].started_at.expect("the later run begins") - slots[1].due_at;
    assert!(waited >= TimeDelta::seconds(30) && waited < TimeDelta::seconds(35), "{waited}");
    assert!(world.keepers.overlaps().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_cannot_be_started_at_first_is_tried_again_within_the_grace() {
    let mut n_tries = 0;
    let mut world = World::new(vec![hourly("review")], move |_| {
        n_tries += 1;
        if n_tries < 4 { refused() } else { good(600) }
    });
    world.run_for(HOUR).await;
    assert_eq!(world.verdicts().await, vec![Verdict::Completed]);
    assert_eq!(world.told(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_can_never_be_started_is_missed_at_its_deadline_with_the_reason() {
    let mut world = World::new(vec![hourly("review")], |_| refused());
    world.run_for(HOUR / 2 + secs(110)).await;
    assert_eq!(world.verdicts().await, vec![]);
    world.run_for(secs(30)).await;
    let slot = &world.slots().await[0];
    assert_eq!(slot.verdict, Some(Verdict::Missed));
    let reason = slot.reason.as_deref().unwrap();
    assert!(
        reason.starts_with("could not start") && reason.contains("no more processes"),
        "{reason}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_skips_slots_with_its_reason_until_its_end() {
    let mut world = World::new(vec![hourly("review")], |_| good(600));
    world.step().await;
    let pause = Request::Pause {
        schedule: ScheduleName::new("review"),
        reason: "moving the table".into(),
        until: Some(epoch() + TimeDelta::hours(2)),
    };
    assert_eq!(world.ask(pause).await, Answer::Done);
    world.run_for(HOUR * 3).await;
    assert_eq!(
        world.verdicts().await,
        vec![Verdict::Skipped, Verdict::Skipped, Verdict::Completed]
    );
    let slots = world.slots().await;
    assert_eq!(slots[0].reason.as_deref(), Some("paused: moving the table"));
    assert_eq!(world.told(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_maintenance_window_skips_its_slots() {
    let window = Maintenance {
        from: "45 1 * * *".into(),
        lasts: secs(1800),
        reason: "backup of the bucket".into(),
    };
    let schedule = Schedule { maintenance: vec![window], ..hourly("review") };
    let mut world = World::new(vec![schedule], |_| good(600));
    world.run_for(HOUR * 3).await;
    let slots = world.slots().await;
    assert_eq!(slots[1].verdict, Some(Verdict::Skipped));
    assert_eq!(slots[1].reason.as_deref(), Some("maintenance: backup of the bucket"));
    assert_eq!(slots[2].verdict, Some(Verdict::Completed));
}

#[tokio::test(start_paused = true)]
async fn a_run_on_request_has_a_slot_of_its_own_and_is_judged_like_any() {
    let mut world = World::new(vec![hourly("review")], |_| failing(60, 1));
    world.step().await;
    let schedule = ScheduleName::new("review");
    let answer = world.ask(Request::Run { schedule }).await;
    let Answer::Planned { due_at } = answer else { panic!("{answer:?}") };
    world.run_for(secs(120)).await;
    let slots = world.slots().await;
    assert_eq!((slots.len(), slots[0].due_at), (1, due_at));
    assert_eq!(slots[0].verdict, Some(Verdict::Failed));
    assert_eq!(world.told(), vec![(IncidentKind::RunFailed, Change::Opened)]);
    let unknown = Request::Run { schedule: ScheduleName::new("other") };
    assert!(matches!(world.ask(unknown).await, Answer::Refused { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_stopped_by_a_person() {
    let mut world = World::new(vec![hourly("review")], |_| hanging());
    world.run_for(HOUR).await;
    let run = world.slots().await[0].run.clone().unwrap();
    let run = lookout::run::RunId::from_stored(run);
    assert_eq!(world.ask(Request::Stop { run }).await, Answer::Done);
    world.run_for(secs(5)).await;
    let slot = &world.slots().await[0];
    assert_eq!(slot.verdict, Some(Verdict::Failed));
    assert_eq!(slot.reason.as_deref(), Some("stopped on request"));
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_is_added_gets_its_next_slot_and_is_missed_if_nothing_happens() {
    let mut world = World::new(vec![], |_| good(600));
    world.run_for(HOUR / 6).await;
    world.configure(vec![hourly("review")]);
    world.step().await;
    world.alive = crate::guard::Alive::WatchdogOnly;
    // Added at 00:40; 01:00 produces nothing at all.
    world.run_for(secs(20 * 60 + 121)).await;
    assert_eq!(world.told(), vec![(IncidentKind::RunMissed, Change::Opened)]);
    assert_eq!(world.slots().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_removed_or_renamed_while_it_runs_is_judged_under_its_old_configuration() {
    let mut world = World::new(vec![hourly("old")], |slot| {
        if slot.schedule.as_str() == "old" { hanging() } else { good(600) }
    });
    world.run_for(HOUR / 2 + secs(60)).await;
    world.configure(vec![hourly("new")]);
    // Until the run of 03:00, which takes ten minutes, is over.
    world.run_for(HOUR * 2 + secs(660)).await;
    let slots = world.slots().await;
    let verdicts: Vec<_> =
        slots.iter().map(|slot| (slot.schedule.as_str(), slot.verdict)).collect();
    assert_eq!(
        verdicts,
        vec![
            ("old", Some(Verdict::TimedOut)),
            ("new", Some(Verdict::Completed)),
            ("new", Some(Verdict::Completed)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_expression_exchanges_the_slots_that_are_ahead() {
    let mut world = World::new(vec![hourly("review")], |_| good(60));
    world.run_for(HOUR).await;
    let at_a_quarter = Schedule { cadence: Cadence::Cron("15 * * * *".into()), ..hourly("review") };
    world.configure(vec![at_a_quarter]);
    world.run_for(HOUR * 2).await;
    let minutes: Vec<String> =
        world.slots().await.iter().map(|slot| slot.due_at.format("%H:%M").to_string()).collect();
    assert_eq!(minutes, vec!["01:00", "02:15", "03:15"]);
    assert_eq!(world.verdicts().await, vec![Verdict::Completed; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_continuous_schedule_begins_its_next_box_when_one_is_over() {
    let schedule = Schedule { cadence: Cadence::Continuous, ..hourly("review") };
    let mut world = World::new(vec![schedule], |_| good(600));
    world.run_for(HOUR).await;
    let verdicts = world.verdicts().await;
    // Six boxes of ten minutes, and the seconds between them.
    assert_eq!(verdicts, vec![Verdict::Completed; 5]);
    assert!(world.keepers.overlaps().is_empty());
}

#[tokio::test(start_paused = true)]
async fn more_schedules_than_places_wait_within_their_grace() {
    let schedules: Vec<Schedule> = (0..20).map(|n| hourly(&format!("s{n:02}"))).collect();
    let mut world = World::new(schedules, |_| good(30)).with_max_running(8);
    world.run_for(HOUR).await;
    assert_eq!(world.verdicts().await, vec![Verdict::Completed; 20]);
    assert_eq!(world.told(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_comes_while_a_step_goes_on_starts_right_after_it() {
    let mut world = World::new(vec![hourly("review")], |_| good(600));
    world.run_for(HOUR / 2 - secs(1)).await;
    let stepped_at = world.clock.now();
    world.step().await;
    // The step has taken two seconds, and 01:00:00 was one of them.
    tokio::time::advance(secs(2)).await;
    let next = world.conductor().next_start(stepped_at).await;
    assert_eq!(next, Some(tokio::time::Instant::now()));
}
