//! Long simulated times: a month of every fate, weeks of random faults, and weeks in which nothing
//! is wrong and nobody may be woken.
//!
//! `LOOKOUT_SEEDS` says how many seeds are played (12 by default; `.ci/soak` plays more). A failure
//! prints its seed.

use std::collections::HashMap;
use std::time::Duration;

use chrono::TimeDelta;
use fastrand::Rng;
use lookout::clock::Clock;
use lookout::schedule::Slot;
use lookout::schedule::slot::due_between;
use lookout::watch::history::SlotRow;
use lookout::watch::{Incident, IncidentKind, Verdict};

use crate::guard::fused::Fuse;
use crate::guard::scripts::{
    Script, dying, empty, failing, fault, full_box, good, hanging, hanging_with_its_keeper,
    not_startable, outage, refused, secs, stopped_for_a_stall, without_signal,
};
use crate::guard::{Alive, World, epoch, hourly};

const HOUR: Duration = Duration::from_secs(3600);

#[expect(clippy::disallowed_methods, reason = "the number of seeds is the caller's choice")]
fn n_seeds() -> u64 {
    std::env::var("LOOKOUT_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

/// Every fate there is, with the verdict it must get.
fn fates() -> Vec<(Script, Verdict)> {
    vec![
        (good(1200), Verdict::Completed),
        (full_box(), Verdict::Completed),
        (empty(), Verdict::Completed),
        (without_signal(600), Verdict::NoSignal),
        (failing(600, 1), Verdict::Failed),
        (hanging(), Verdict::TimedOut),
        (hanging_with_its_keeper(), Verdict::TimedOut),
        (stopped_for_a_stall(), Verdict::Stalled),
        (dying(700), Verdict::Interrupted),
        (not_startable(), Verdict::Missed),
        (refused(), Verdict::Missed),
        (outage(), Verdict::Failed),
    ]
}

#[tokio::test(start_paused = true)]
async fn thirty_days_of_hourly_slots_have_720_right_verdicts() {
    let fates = fates();
    let n_fates = fates.len();
    let index =
        move |slot: &Slot| usize::try_from(slot.due_at.timestamp() / 3600).unwrap() % n_fates;
    let casting = fates.clone();
    let mut world = World::new(vec![hourly("review")], move |slot| casting[index(slot)].0.clone())
        .with_longest_step(secs(300));
    for _ in 0..30 {
        world.run_for(HOUR * 24).await;
        world.keepers.forget_the_old();
    }
    world.run_for(HOUR / 2 - secs(1)).await;
    let slots = world.slots().await;
    assert_eq!(slots.len(), 720);
    for slot in &slots {
        let key =
            Slot { schedule: lookout::schedule::ScheduleName::new("review"), due_at: slot.due_at };
        assert_eq!(slot.verdict, Some(fates[index(&key)].1), "{}", slot.due_at);
    }
    let verdicts = world.store.verdicts();
    assert_eq!(verdicts.len(), 720);
    assert!(verdicts.values().all(|n| *n == 1));
    assert_bad_slots_have_incidents(
        &slots,
        &world.incidents().await,
        TimeDelta::zero(),
        "thirty days",
    );
}

fn is_bad(verdict: Verdict) -> bool {
    match verdict {
        Verdict::NoSignal
        | Verdict::Failed
        | Verdict::TimedOut
        | Verdict::Stalled
        | Verdict::Interrupted
        | Verdict::Missed
        | Verdict::Unobserved => true,
        Verdict::Completed | Verdict::Skipped => false,
    }
}

/// Each bad slot falls into an incident of its time, and each incident into a bad slot's. Times are
/// wall times: where the clock was set back, by `set_back` at the most, what came later may bear
/// an earlier time.
fn assert_bad_slots_have_incidents(
    slots: &[SlotRow],
    incidents: &[Incident],
    set_back: TimeDelta,
    seed: &str,
) {
    for slot in slots.iter().filter(|slot| slot.verdict.is_some_and(is_bad)) {
        let judged_at = slot.judged_at.unwrap();
        let is_told = incidents.iter().any(|incident| {
            let blind = incident.kind == IncidentKind::WasBlind;
            (slot.verdict == Some(Verdict::Unobserved)) == blind
                && incident.opened_at <= judged_at + set_back
                && incident.resolved_at.is_none_or(|until| until + set_back >= judged_at)
        });
        // An unobserved slot may be one that was to be caught up: its absence was told before.
        let was_told_before = slot.verdict == Some(Verdict::Unobserved)
            && incidents.iter().any(|incident| incident.kind == IncidentKind::WasBlind);
        assert!(is_told || was_told_before, "seed {seed}: no incident for {slot:?}");
    }
    for incident in incidents.iter().filter(|incident| incident.kind != IncidentKind::WasBlind) {
        let has_reason = slots.iter().any(|slot| {
            let begins = slot.due_at <= incident.opened_at + set_back;
            let ends = slot.judged_at.is_none_or(|judged| judged + set_back >= incident.opened_at);
            begins && ends && slot.verdict.is_none_or(is_bad)
        });
        assert!(has_reason, "seed {seed}: an incident for nothing: {incident:?}");
    }
}

/// One seeded week of two schedules under everything that can go wrong at once.
async fn play_a_bad_week(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let fates = fates();
    let mut casting = rng.fork();
    let other = lookout::schedule::Schedule {
        cadence: lookout::schedule::Cadence::Cron("20 */2 * * *".into()),
        ..hourly("other")
    };
    let schedules = vec![hourly("review"), other];
    let mut world = World::new(schedules.clone(), move |_| {
        let fate = if casting.u8(..) < 150 { 0 } else { casting.usize(..fates.len()) };
        let mut script = fates[fate].0.clone();
        script.starts_after = secs(casting.u64(..20));
        script
    })
    .with_longest_step(secs(300));
    let mut stepped_back = TimeDelta::zero();
    // Slots from before Lookout was there for the first time are nobody's.
    world.step().await;
    while world.clock.now() < epoch() + TimeDelta::days(7) {
        match rng.u8(..12) {
            0 => world.store.set(Fuse::Before(rng.u32(..12))),
            1 => world.store.set(Fuse::After(rng.u32(..12))),
            2 => world.restart(),
            3 => world.down_for(secs(rng.u64(..4 * 3600))).await,
            4 => {
                world.alive = Alive::WatchdogOnly;
                world.run_for(secs(rng.u64(..1200))).await;
                world.alive = Alive::Both;
            }
            5 => world.clock.step_wall(TimeDelta::seconds(rng.i64(0..10_800))),
            6 if stepped_back < TimeDelta::hours(3) => {
                let back = TimeDelta::seconds(rng.i64(0..3600));
                stepped_back += back;
                world.clock.step_wall(-back);
            }
            7 => {
                // Doubled bells.
                world.step().await;
                world.step().await;
            }
            _ => {}
        }
        world.run_for(secs(rng.u64(600..4 * 3600))).await;
    }
    world.store.set(Fuse::None);
    // Long enough for every box, grace and settlement.
    world.run_for(HOUR * 2).await;
    audit(&world, &schedules, stepped_back, seed).await;
}

async fn audit(
    world: &World,
    schedules: &[lookout::schedule::Schedule],
    set_back: TimeDelta,
    seed: u64,
) {
    let slots = world.slots().await;
    let until = world.clock.now() - TimeDelta::minutes(62);
    let mut known: HashMap<(&str, i64), &SlotRow> = HashMap::new();
    for slot in &slots {
        known.insert((slot.schedule.as_str(), slot.due_at.timestamp()), slot);
    }
    for schedule in schedules {
        for slot in due_between(schedule, epoch(), until, 100_000) {
            let row = known.get(&(schedule.name.as_str(), slot.due_at.timestamp()));
            let row = row.unwrap_or_else(|| panic!("seed {seed}: {slot:?} has no row"));
            assert!(row.verdict.is_some(), "seed {seed}: no verdict for {row:?}");
        }
    }
    let judged = world.store.verdicts();
    let doubled: Vec<_> = judged.iter().filter(|(_, n)| **n != 1).collect();
    assert!(doubled.is_empty(), "seed {seed}: judged more than once: {doubled:?}");
    let twice: Vec<_> = world.keepers.starts().into_iter().filter(|(_, n)| *n != 1).collect();
    assert!(twice.is_empty(), "seed {seed}: run more than once: {twice:?}");
    assert!(world.keepers.overlaps().is_empty(), "seed {seed}: {:?}", world.keepers.overlaps());
    assert_bad_slots_have_incidents(&slots, &world.incidents().await, set_back, &seed.to_string());
}

#[tokio::test(start_paused = true)]
async fn weeks_of_random_faults_leave_no_slot_without_its_one_verdict() {
    for seed in 0..n_seeds() {
        println!("seed {seed}");
        play_a_bad_week(seed).await;
    }
}

/// A week as it usually is: slow hours, empty hours, single 503s, full boxes, restarts.
async fn play_an_ordinary_week(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut casting = rng.fork();
    let mut world = World::new(vec![hourly("review")], move |_| {
        let mut script = match casting.u8(..10) {
            0 => empty(),
            1 | 2 => full_box(),
            _ => good(casting.u64(60..2600)),
        };
        script.starts_after = secs(casting.u64(..5));
        // 5 % of the calls answer 503; they come one at a time.
        let last = script.events.last().map_or(0, |(at, _)| at.as_secs());
        for n in 1..last / 120 {
            script = script.with(n * 120 - casting.u64(..60), fault(Some(503), n, n * 20));
        }
        script
    })
    .with_longest_step(secs(900));
    while world.clock.now() < epoch() + TimeDelta::days(7) {
        world.run_for(secs(rng.u64(3600..40_000))).await;
        match rng.u8(..3) {
            0 => world.restart(),
            // An upgrade.
            1 => world.down_for(secs(rng.u64(1..60))).await,
            _ => {}
        }
    }
    assert_eq!(world.told(), vec![], "seed {seed}");
    let bad: Vec<_> = world.verdicts().await.into_iter().filter(|v| is_bad(*v)).collect();
    assert!(bad.is_empty(), "seed {seed}: {bad:?}");
}

#[tokio::test(start_paused = true)]
async fn weeks_of_ordinary_life_send_no_message() {
    for seed in 0..n_seeds() {
        println!("seed {seed}");
        play_an_ordinary_week(seed).await;
    }
}
