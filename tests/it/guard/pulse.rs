//! Lookout watches itself: loops that stand still, a machine that slept, a clock that was set.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use lookout::clock::SimClock;
use lookout::pulse::Pulse;
use lookout::watch::watchdog::WatchedLoop;
use lookout::watch::{Change, DowntimeCause, IncidentKind, Severity, Verdict};

use crate::guard::scripts::{good, secs};
use crate::guard::{World, hourly};

const HOUR: Duration = Duration::from_secs(3600);

/// A loop that moves when it is told to.
struct Puppet {
    pulse: Pulse,
    clock: Arc<SimClock>,
}

impl Puppet {
    fn moves(&self) {
        self.pulse.begin(&*self.clock);
        self.pulse.end(&*self.clock, None);
    }
}

/// A world whose ticker and conductor are puppets.
struct Watched {
    world: World,
    ticker: Puppet,
    conductor: Puppet,
}

impl Watched {
    fn new() -> Self {
        let mut world = World::new(vec![hourly("review")], |_| good(1200));
        let puppet = || Puppet { pulse: Pulse::default(), clock: Arc::clone(&world.clock) };
        let (ticker, conductor) = (puppet(), puppet());
        world.watch_loops(vec![
            WatchedLoop {
                name: "the scheduler tick",
                beat: ticker.pulse.subscribe(),
                dead_after: secs(5),
                severity: Severity::Warning,
            },
            WatchedLoop {
                name: "the part that starts runs",
                beat: conductor.pulse.subscribe(),
                dead_after: secs(15),
                severity: Severity::Critical,
            },
        ]);
        Self { world, ticker, conductor }
    }

    /// A second at a time; these move.
    async fn seconds(&mut self, n: u32, ticker: Moves, conductor: Moves) {
        for _ in 0..n {
            if ticker == Moves::Yes {
                self.ticker.moves();
            }
            if conductor == Moves::Yes {
                self.conductor.moves();
            }
            self.world.step().await;
            tokio::time::advance(secs(1)).await;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moves {
    Yes,
    No,
}

#[tokio::test(start_paused = true)]
async fn a_dead_bell_is_told_once_within_seconds_and_its_return_too() {
    let mut watched = Watched::new();
    watched.seconds(10, Moves::Yes, Moves::Yes).await;
    watched.seconds(5, Moves::No, Moves::Yes).await;
    assert_eq!(watched.world.told(), vec![]);
    watched.seconds(60, Moves::No, Moves::Yes).await;
    let told = vec![(IncidentKind::LookoutImpaired, Change::Opened)];
    assert_eq!(watched.world.told(), told);
    let news = &watched.world.news[0];
    assert_eq!(news.incident.severity, Severity::Warning);
    assert_eq!(news.facts.detail.as_deref(), Some("the scheduler tick has not moved for 6 s"));
    watched.seconds(3, Moves::Yes, Moves::Yes).await;
    assert_eq!(watched.world.told().last(), Some(&(told[0].0, Change::Resolved)));
    assert_eq!(watched.world.told().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_starved_runtime_is_one_incident_that_gets_worse() {
    let mut watched = Watched::new();
    watched.seconds(10, Moves::Yes, Moves::Yes).await;
    watched.seconds(60, Moves::No, Moves::No).await;
    let kind = IncidentKind::LookoutImpaired;
    assert_eq!(watched.world.told(), vec![(kind, Change::Opened), (kind, Change::Raised)]);
    let news = &watched.world.news[1];
    assert_eq!(news.incident.severity, Severity::Critical);
    assert_eq!(
        news.facts.provider.as_deref(),
        Some("the scheduler tick, the part that starts runs")
    );
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_stood_still_as_a_whole_blames_none_of_its_parts() {
    let mut watched = Watched::new();
    watched.seconds(10, Moves::Yes, Moves::Yes).await;
    tokio::time::advance(secs(120)).await;
    // The watchdog happens to be the first that moves again.
    watched.seconds(2, Moves::No, Moves::No).await;
    watched.seconds(10, Moves::Yes, Moves::Yes).await;
    assert_eq!(watched.world.told(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn an_incident_of_the_daemon_before_is_resolved_when_everything_has_moved() {
    let mut watched = Watched::new();
    watched.seconds(30, Moves::No, Moves::Yes).await;
    assert_eq!(watched.world.told().len(), 1);
    watched.world.restart();
    watched.seconds(3, Moves::No, Moves::Yes).await;
    assert_eq!(watched.world.told().len(), 1, "nobody knows yet");
    watched.seconds(3, Moves::Yes, Moves::Yes).await;
    let last = watched.world.told().last().copied();
    assert_eq!(last, Some((IncidentKind::LookoutImpaired, Change::Resolved)));
}

/// Why the digest of a downtime says that nobody was there.
async fn reported_downtime(mut world: World) -> (Option<DowntimeCause>, String) {
    world.run_for(HOUR / 2).await;
    assert_eq!(world.told(), vec![(IncidentKind::WasBlind, Change::Opened)]);
    let slots = world.slots().await;
    let unseen = slots.iter().find(|slot| slot.verdict == Some(Verdict::Unobserved)).unwrap();
    (world.news[0].facts.downtime_cause, unseen.reason.clone().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_downtime_is_told_with_what_it_was() {
    let mut world = World::new(vec![hourly("review")], |_| good(1200));
    world.run_for(HOUR).await;
    world.clock.sleep_machine(HOUR * 3);
    let (away, reason) = reported_downtime(world).await;
    assert_eq!(away, Some(DowntimeCause::Suspended));
    assert_eq!(
        reason,
        "the machine was asleep from 2026-03-04 01:30:00 to 2026-03-04 04:30:00 UTC"
    );

    let mut world = World::new(vec![hourly("review")], |_| good(1200));
    world.run_for(HOUR).await;
    world.clock.step_wall(TimeDelta::hours(3));
    let (away, reason) = reported_downtime(world).await;
    assert_eq!(away, Some(DowntimeCause::ClockSet));
    assert!(reason.starts_with("the clock was set forward from"), "{reason}");

    let mut world = World::new(vec![hourly("review")], |_| good(1200));
    world.run_for(HOUR).await;
    tokio::time::advance(HOUR * 3).await;
    let (away, reason) = reported_downtime(world).await;
    assert_eq!(away, Some(DowntimeCause::HeldUp));
    assert!(reason.starts_with("Lookout made no progress from"), "{reason}");

    let mut world = World::new(vec![hourly("review")], |_| good(1200));
    world.run_for(HOUR).await;
    world.down_for(HOUR * 3).await;
    let (away, reason) = reported_downtime(world).await;
    assert_eq!(away, Some(DowntimeCause::Down));
    assert!(reason.starts_with("Lookout was not running from"), "{reason}");
}
