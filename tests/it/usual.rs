//! A run beside the ones before it: much too short, much too long, a backlog that grows; and a machine
//! that slept through a run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lookout::rundir::{Event, StopReason};
use lookout::schedule::Slot;
use lookout::watch::{Change, IncidentKind, Verdict};

use crate::guard::scripts::{Script, ended, exited, good, secs, signal, totals};
use crate::guard::{World, epoch, hourly};

const HOUR: Duration = Duration::from_secs(3600);

/// 0 for the slot of 01:00, 1 for the next.
fn nth(slot: &Slot) -> u64 {
    u64::try_from((slot.due_at - epoch()).num_minutes() / 60).unwrap()
}

fn leaving(remaining: u64) -> Script {
    let end =
        [totals(&[("succeeded", 900), ("remaining", remaining)]), signal(), exited(0), ended()];
    Script { events: end.map(|event| (secs(600), event)).into(), ..Script::default() }
}

#[tokio::test(start_paused = true)]
async fn a_run_out_of_the_ordinary_is_a_finding_with_the_numbers_and_no_message() {
    let lengths = AtomicU64::new(0);
    let mut world = World::new(vec![hourly("review")], move |_| {
        match lengths.fetch_add(1, Ordering::Relaxed) {
            10 => good(9),
            11 => good(2650),
            n => good(800 + n * 10),
        }
    });
    world.run_for(HOUR * 13).await;
    let slots = world.slots().await;
    assert!(slots.iter().all(|slot| slot.verdict == Some(Verdict::Completed)));
    assert_eq!(
        slots[10].findings,
        ["much shorter than usual: 9 s; the last 10 good runs took 13 min to 14 min, 14 min in \
          the middle"]
    );
    assert_eq!(
        slots[11].findings,
        [
            "much longer than usual: 44 min; the last 11 good runs took 9 s to 14 min, 14 min in the \
          middle"
        ]
    );
    let others = slots.iter().enumerate().filter(|(n, _)| ![10, 11].contains(n));
    assert!(others.into_iter().all(|(_, slot)| slot.findings.is_empty()));
    assert_eq!(world.told(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_grows_run_after_run_is_told_once_and_so_is_its_end() {
    let mut world = World::new(vec![hourly("review")], |slot| match nth(slot) {
        n @ 0..10 => leaving(1000 + n * 200),
        _ => leaving(500),
    });
    world.run_for(HOUR * 5 + HOUR / 4 * 3).await;
    let kind = IncidentKind::BacklogGrowing;
    assert_eq!(world.told(), vec![(kind, Change::Opened)], "after the sixth run");
    let detail = world.news[0].facts.detail.clone().unwrap();
    assert_eq!(detail, "left after the last 6 runs: 1000, 1200, 1400, 1600, 1800, 2000");
    world.run_for(HOUR * 4).await;
    assert_eq!(world.told().len(), 1, "it still grows");
    world.run_for(HOUR * 2).await;
    assert_eq!(world.told(), vec![(kind, Change::Opened), (kind, Change::Resolved)]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_the_machine_slept_through_times_out_once_and_says_so() {
    let awake = 2 * 3600 + 300;
    let events = vec![
        (secs(awake), Event::Slept { seconds: 7200 }),
        (secs(awake), Event::Stopping { reason: StopReason::TimedOut }),
        (secs(awake + 1), Event::Exited { code: None, signal: Some(15) }),
        (secs(awake + 1), ended()),
    ];
    let script = Script { events, ..Script::default() };
    let mut world =
        World::new(
            vec![hourly("review")],
            move |slot| {
                if nth(slot) == 0 { script.clone() } else { good(60) }
            },
        );
    // The scripted keeper counts on the boot clock, as the real one does.
    world.run_for(HOUR / 2 + secs(300)).await;
    world.clock.sleep_machine(HOUR * 2);
    world.run_for(HOUR / 2).await;
    let slots = world.slots().await;
    assert_eq!(slots[0].verdict, Some(Verdict::TimedOut));
    assert_eq!(
        slots[0].reason.as_deref(),
        Some(
            "still running after box and grace (the machine was asleep for 2 h of it), and stopped"
        )
    );
    assert!(slots[0].findings.contains(&"the machine was asleep for 2 h meanwhile".to_owned()));
    let timed_out =
        world.told().iter().filter(|(kind, _)| *kind == IncidentKind::RunTimedOut).count();
    assert_eq!(timed_out, 1, "{:?}", world.told());
}
