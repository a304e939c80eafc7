//! Long simulated times: a month of every fate, weeks of random faults, and weeks in which nothing
//! is wrong and nobody may be woken.
//!
//! `LOOKOUT_SEEDS` says how many seeds are played; `.ci/soak` plays a thousand. A failure prints its
//! seed; `LOOKOUT_FIRST_SEED=58 LOOKOUT_SEEDS=1` plays it again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use lookout::clock::{Clock, SimClock};
use lookout::schedule::slot::due_between;
use lookout::schedule::{Cadence, Schedule, ScheduleName, Slot};
use lookout::watch::faults::CAUSES;
use lookout::watch::history::SlotRow;
use lookout::watch::{Incident, IncidentKind, Verdict};

use crate::guard::fused::Fuse;
use crate::guard::scripts::{
    Script, dying, empty, failing, fault, full_box, good, hanging, hanging_with_its_keeper, killed,
    not_startable, outage, progress, refused, secs, silent, stopped_for_a_stall, without_signal,
};
use crate::guard::{Alive, World, epoch, hourly};

const HOUR: Duration = Duration::from_secs(3600);

/// Weeks of random faults in a test run that nobody asked to be longer.
const BAD_WEEKS: u64 = 50;

/// The same for ordinary weeks.
const ORDINARY_WEEKS: u64 = 24;

#[expect(clippy::disallowed_methods, reason = "which seeds are played is the caller's choice")]
fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn n_seeds(default: u64) -> u64 {
    from_environment("LOOKOUT_SEEDS").unwrap_or(default)
}

/// Plays each seed on a simulated time of its own, on all processors.
#[expect(clippy::print_stdout, reason = "a test that panics shows the seeds it was at")]
fn play_seeds<F: Future<Output = ()>>(n_seeds: u64, play: impl Fn(u64) -> F + Sync) {
    let first = from_environment("LOOKOUT_FIRST_SEED").unwrap_or(0);
    let next = AtomicU64::new(first);
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let play_some = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + n_seeds {
                return;
            }
            println!("seed {seed}");
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap()
                .block_on(play(seed));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(play_some);
        }
    });
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
        (killed(500), Verdict::Failed),
        (silent(), Verdict::TimedOut),
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
        let key = Slot { schedule: ScheduleName::new("review"), due_at: slot.due_at };
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

/// Each bad slot falls into an incident of its time, and each incident into a bad slot's. Times are
/// wall times: where the clock was set back, by `set_back` at the most, what came later may bear
/// an earlier time.
fn assert_bad_slots_have_incidents(
    slots: &[SlotRow],
    incidents: &[Incident],
    set_back: TimeDelta,
    seed: &str,
) {
    for slot in slots.iter().filter(|slot| slot.verdict.is_some_and(Verdict::is_bad)) {
        let judged_at = slot.judged_at.unwrap();
        let is_told = incidents.iter().any(|incident| {
            let began = incident.opened_at <= judged_at + set_back;
            let is_still_open =
                incident.resolved_at.is_none_or(|until| until + set_back >= judged_at);
            // An unobserved slot may be one that was to be caught up: its downtime was told before.
            let is_of_its_downtime = incident.opened_at + set_back >= slot.due_at;
            if incident.kind == IncidentKind::WasBlind {
                return slot.verdict == Some(Verdict::Unobserved) && began && is_of_its_downtime;
            }
            may_be_told_as(slot.verdict.unwrap(), incident.kind)
                && incident.schedule.as_deref() == Some(slot.schedule.as_str())
                && began
                && is_still_open
        });
        assert!(is_told, "seed {seed}: no incident for {slot:?}");
    }
    for incident in incidents.iter().filter(|incident| incident.kind != IncidentKind::WasBlind) {
        let has_reason = slots.iter().any(|slot| {
            if incident.schedule.as_deref() != Some(slot.schedule.as_str()) {
                return false;
            }
            let begins = slot.due_at <= incident.opened_at + set_back;
            let ends = slot.judged_at.is_none_or(|judged| judged + set_back >= incident.opened_at);
            begins && ends && slot.verdict.is_none_or(Verdict::is_bad)
        });
        assert!(has_reason, "seed {seed}: an incident for nothing: {incident:?}");
    }
}

/// The symptom, or a cause that took it in.
fn may_be_told_as(verdict: Verdict, kind: IncidentKind) -> bool {
    let symptom = match verdict {
        Verdict::NoSignal => IncidentKind::SignalMissing,
        Verdict::Failed | Verdict::Interrupted => IncidentKind::RunFailed,
        Verdict::TimedOut => IncidentKind::RunTimedOut,
        Verdict::Stalled => IncidentKind::RunStalled,
        Verdict::Missed => IncidentKind::RunMissed,
        Verdict::Completed | Verdict::Skipped | Verdict::Unobserved => return false,
    };
    // A run that was told as stalled and then had to be stopped is one fault, told once.
    let was_stalled = verdict == Verdict::TimedOut && kind == IncidentKind::RunStalled;
    kind == symptom || was_stalled || (verdict != Verdict::Missed && CAUSES.contains(&kind))
}

/// What a run was cast for.
#[derive(Clone, Copy, Debug)]
struct Meant {
    verdict: Verdict,
    /// When its job starts, unless its keeper dies before.
    job_starts_at: Option<DateTime<Utc>>,
}

/// The verdict that each run was cast for.
type Cast = Arc<Mutex<HashMap<Slot, Meant>>>;

/// A world of two schedules whose runs meet every fate, most of them a good one.
fn a_bad_world(rng: &mut Rng, schedules: &[Schedule]) -> (World, Cast) {
    let fates = fates();
    let mut casting = rng.fork();
    let cast = Cast::default();
    let noted = Arc::clone(&cast);
    // The world makes its clock, after its cast.
    let known_clock: Arc<Mutex<Option<Arc<SimClock>>>> = Arc::default();
    let clock = Arc::clone(&known_clock);
    let world = World::new(schedules.to_vec(), move |slot| {
        let (mut script, verdict) = match casting.u8(..10) {
            0..5 => fates[0].clone(),
            5..9 => fates[casting.usize(..fates.len())].clone(),
            _ => match casting.u8(..3) {
                0 => (failing(casting.u64(1..2600), 1), Verdict::Failed),
                1 => (killed(casting.u64(1..2600)), Verdict::Failed),
                _ => (dying(casting.u64(1..2600)), Verdict::Interrupted),
            },
        };
        // Most start at once, some late, some too late.
        script.starts_after =
            secs(if casting.u8(..20) == 0 { casting.u64(20..300) } else { casting.u64(..20) });
        let lives = script.dies_after.is_none_or(|after| after > script.starts_after);
        let starts_after = TimeDelta::from_std(script.starts_after).unwrap();
        let now = known_clock.lock().unwrap().as_ref().map(|clock: &Arc<SimClock>| clock.now());
        let job_starts_at = now.filter(|_| lives).map(|now| now + starts_after);
        noted.lock().unwrap().insert(slot.clone(), Meant { verdict, job_starts_at });
        script
    });
    *clock.lock().unwrap() = Some(Arc::clone(&world.clock));
    (world.with_longest_step(secs(300)), cast)
}

/// One of everything that can go wrong around the runs.
async fn go_wrong(world: &mut World, rng: &mut Rng, stepped_back: &mut TimeDelta) {
    match rng.u8(..16) {
        // The daemon dies before or after one of its next writes, by itself, or for hours.
        0 | 1 => world.store.set(Fuse::Before(rng.u32(..12))),
        2 | 3 => world.store.set(Fuse::After(rng.u32(..12))),
        4 => world.restart(),
        5 => world.down_for(secs(rng.u64(..4 * 3600))).await,
        // The conductor hangs.
        6 => {
            world.alive = Alive::WatchdogOnly;
            world.run_for(secs(rng.u64(..1200))).await;
            world.alive = Alive::Both;
        }
        7 => world.clock.step_wall(TimeDelta::seconds(rng.i64(0..10_800))),
        8 if *stepped_back < TimeDelta::hours(3) => {
            let back = TimeDelta::seconds(rng.i64(0..3600));
            *stepped_back += back;
            world.clock.step_wall(-back);
        }
        9 => world.clock.sleep_machine(secs(rng.u64(..3 * 3600))),
        // Doubled bells, lost bells.
        10 => {
            world.step().await;
            world.step().await;
        }
        11 => tokio::time::advance(secs(rng.u64(..30))).await,
        // A full disk, and a database that somebody else holds.
        12 | 13 => {
            let (fuse, most) = if rng.bool() { (Fuse::Full, 2400) } else { (Fuse::Busy, 120) };
            world.store.set(fuse);
            world.run_for(secs(rng.u64(..most))).await;
            world.store.set(Fuse::None);
        }
        _ => {}
    }
}

/// One seeded week of two schedules under everything that can go wrong at once.
async fn play_a_bad_week(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let other = Schedule { cadence: Cadence::Cron("20 */2 * * *".into()), ..hourly("other") };
    let schedules = vec![hourly("review"), other];
    let (mut world, cast) = a_bad_world(&mut rng, &schedules);
    let mut stepped_back = TimeDelta::zero();
    // Slots from before Lookout was there for the first time are nobody's.
    world.step().await;
    while world.clock.now() < epoch() + TimeDelta::days(7) {
        go_wrong(&mut world, &mut rng, &mut stepped_back).await;
        world.run_for(secs(rng.u64(600..4 * 3600))).await;
    }
    world.store.set(Fuse::None);
    // Long enough for every box, grace and settlement.
    world.run_for(HOUR * 2).await;
    audit(&world, &schedules, stepped_back, seed).await;
    for slot in world.slots().await {
        let key = Slot { schedule: ScheduleName::new(slot.schedule.clone()), due_at: slot.due_at };
        let (Some(meant), Some(verdict)) = (cast.lock().unwrap().get(&key).copied(), slot.verdict)
        else {
            continue;
        };
        // A run that began too late is missed, whatever became of it; a caught-up one has less
        // time than its script was written for, and the scripted keeper knows no other.
        let is_caught_up = slot.configuration.time_box < schedules[0].time_box;
        let is_late = meant.job_starts_at.is_none_or(|at| at + stepped_back > slot.start_by);
        let is_right =
            verdict == meant.verdict || (verdict == Verdict::Missed && is_late) || is_caught_up;
        assert!(is_right, "seed {seed}: it was to be {meant:?}: {slot:#?}");
    }
}

async fn audit(world: &World, schedules: &[Schedule], set_back: TimeDelta, seed: u64) {
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

#[test]
fn weeks_of_random_faults_leave_no_slot_without_its_one_right_verdict() {
    play_seeds(n_seeds(BAD_WEEKS), play_a_bad_week);
}

/// An hour as it usually is: calls of half a second to twenty, one in twenty answered by a single 503,
/// a slow hour now and then, an empty one, a full box.
fn an_ordinary_run(casting: &mut Rng) -> Script {
    let mut script = match casting.u8(..10) {
        0 => empty(),
        1 | 2 => full_box(),
        _ => good(casting.u64(60..2600)),
    };
    script.starts_after = secs(casting.u64(..5));
    let last = script.events.last().map_or(0, |(at, _)| at.as_secs());
    let is_slow = casting.u8(..20) == 0;
    // Sixteen calls at a time, so many milliseconds each.
    let latency = if is_slow { 20_000 } else { casting.u64(500..20_000) };
    let calls_a_minute = 16 * 60_000 / latency;
    let mut n_faults = 0;
    for minute in 1..last / 60 {
        let calls = minute * calls_a_minute;
        let at = minute * 60 - casting.u64(..60);
        script = script.with(at, progress(calls));
        // One call in twenty, now fewer, now more; the calls after each succeed.
        let n_new = casting.u64(..=calls_a_minute / 10);
        if n_new > 0 {
            n_faults += n_new;
            script = script.with(at, fault(Some(503), n_faults, calls));
        }
    }
    script
}

/// A week as it usually is, with restarts and upgrades of the daemon.
async fn play_an_ordinary_week(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut casting = rng.fork();
    let mut world = World::new(vec![hourly("review")], move |_| an_ordinary_run(&mut casting))
        .with_longest_step(secs(900));
    while world.clock.now() < epoch() + TimeDelta::days(7) {
        world.run_for(secs(rng.u64(3600..40_000))).await;
        match rng.u8(..3) {
            0 => world.restart(),
            1 => world.down_for(secs(rng.u64(1..60))).await,
            _ => {}
        }
    }
    assert_eq!(world.told(), vec![], "seed {seed}");
    let bad: Vec<_> = world.verdicts().await.into_iter().filter(|v| v.is_bad()).collect();
    assert!(bad.is_empty(), "seed {seed}: {bad:?}");
}

#[test]
fn weeks_of_ordinary_life_send_no_message() {
    play_seeds(n_seeds(ORDINARY_WEEKS), play_an_ordinary_week);
}
