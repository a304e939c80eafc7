//! The two nights on which clocks change, with both loops running: each slot once, and nobody is woken.

use std::time::Duration;

use lookout::schedule::{Cadence, Schedule};
use lookout::watch::Verdict;

use crate::guard::scripts::{good, secs};
use crate::guard::{World, hourly};
use crate::past::{at, zone};

fn in_new_york(name: &str, cron: &str) -> Schedule {
    Schedule {
        cadence: Cadence::Cron(cron.into()),
        timezone: zone("America/New_York"),
        ..hourly(name)
    }
}

/// A day and a little more from here on, with a nightly and an hourly schedule; the local times of both.
async fn a_day(from: &str, nightly: &str) -> (Vec<String>, Vec<String>) {
    let schedules = vec![in_new_york("nightly", nightly), in_new_york("hourly", "0 * * * *")];
    let mut world = World::starting(at(from), schedules, |_| good(300)).with_longest_step(secs(60));
    world.run_for(Duration::from_secs(24 * 3600 + 1200)).await;
    let slots = world.slots().await;
    assert!(slots.iter().all(|slot| slot.verdict == Some(Verdict::Completed)), "{slots:#?}");
    assert!(world.keepers.starts().values().all(|n| *n == 1));
    assert_eq!(world.told(), vec![]);
    let new_york = zone("America/New_York");
    let of = |name: &str| {
        let slots = slots.iter().filter(|slot| slot.schedule == name);
        slots
            .map(|slot| slot.due_at.with_timezone(&new_york).format("%H:%M %Z").to_string())
            .collect()
    };
    (of("nightly"), of("hourly"))
}

#[tokio::test(start_paused = true)]
async fn on_the_night_with_a_gap_the_nightly_run_comes_right_after_it() {
    // Midnight in New York, 9 March 2025.
    let (nightly, hourly) = a_day("2025-03-09T04:59:00Z", "30 2 * * *").await;
    assert_eq!(nightly, ["03:00 EDT"]);
    assert_eq!(hourly[..4], ["00:00 EST", "01:00 EST", "03:00 EDT", "04:00 EDT"]);
}

#[tokio::test(start_paused = true)]
async fn on_the_night_with_an_hour_twice_the_nightly_run_comes_once_and_the_hourly_ones_all_come() {
    let (nightly, hourly) = a_day("2025-11-02T03:59:00Z", "30 1 * * *").await;
    assert_eq!(nightly, ["01:30 EDT"]);
    assert_eq!(hourly[..4], ["00:00 EDT", "01:00 EDT", "01:00 EST", "02:00 EST"]);
    assert_eq!(hourly.len(), 25, "from one midnight to the next");
}
