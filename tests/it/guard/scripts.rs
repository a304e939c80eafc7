//! What a job may do, as scripts for the simulated keeper: one function a fate.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lookout::process::ProcessIdentity;
use lookout::rundir::{Event, StopReason, Stream};
use lookout::schedule::Schedule;

/// A run to be played.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// The keeper can't be started.
    pub(crate) refuses: Option<String>,
    /// From the keeper's start to the job's.
    pub(crate) starts_after: Duration,
    /// Events at offsets from the job's start.
    pub(crate) events: Vec<(Duration, Event)>,
    /// The keeper dies without a word.
    pub(crate) dies_after: Option<Duration>,
    /// From being asked to stop to the end; a second, where it is not said.
    pub(crate) stops_after: Option<Duration>,
    /// What the keeper does when the box, the grace and the kill grace are over.
    pub(crate) job: JobKind,
    /// Its evidence is there and can't be read.
    pub(crate) is_unreadable: bool,
}

/// How a job takes the end of its box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum JobKind {
    /// Its script ends before.
    #[default]
    Ends,
    /// It never ends: box, grace, kill.
    Hangs,
    /// It hangs, and so does its keeper.
    HangsWithItsKeeper,
    /// It could not be started.
    NeverStarts,
}

impl Script {
    /// What the keeper writes after its first entry, at offsets from its start.
    pub(crate) fn entries(
        &self,
        schedule: &Schedule,
        now: DateTime<Utc>,
    ) -> Vec<(Duration, Event)> {
        let mut entries = Vec::new();
        let start = self.starts_after;
        if self.job != JobKind::NeverStarts {
            let ends = |d: Duration| now + TimeDelta::from_std(start + d).unwrap();
            let (time_box, grace) = (schedule.time_box, schedule.signal_grace);
            entries.push((
                start,
                Event::JobStarted {
                    job: Some(a_process()),
                    box_ends_at: ends(time_box),
                    grace_ends_at: ends(time_box + grace),
                },
            ));
        }
        entries.extend(self.events.iter().map(|(at, event)| (start + *at, event.clone())));
        if self.job == JobKind::Hangs {
            let limit = start + schedule.time_box + schedule.signal_grace;
            let killed = limit + schedule.kill_grace;
            entries.extend([
                (start + schedule.time_box, Event::BoxEnded),
                (limit, Event::Stopping { reason: StopReason::TimedOut }),
                (killed, Event::Killed { n_processes: 1 }),
                (killed, Event::Exited { code: None, signal: Some(9) }),
                (killed, ended()),
            ]);
        }
        entries.sort_by_key(|(at, _)| *at);
        entries
    }

    /// The same, with one event more.
    pub(crate) fn with(mut self, at: u64, event: Event) -> Self {
        self.events.push((secs(at), event));
        self.events.sort_by_key(|(at, _)| *at);
        self
    }
}

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn ended() -> Event {
    Event::Ended { bytes: 0, log_dropped_bytes: 0 }
}

pub(crate) fn signal() -> Event {
    Event::Signal { stream: Stream::Stdout, offset: 0 }
}

pub(crate) fn exited(code: i32) -> Event {
    Event::Exited { code: Some(code), signal: None }
}

pub(crate) fn progress(done: u64) -> Event {
    Event::Progress { done, total: Some(1000), unit: "images".into() }
}

pub(crate) fn totals(counts: &[(&str, u64)]) -> Event {
    let counts = counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    Event::Totals { counts, usd: Some(0.06) }
}

/// A problem line of the reviewer's.
pub(crate) fn fault(status: Option<u16>, count: u64, calls: u64) -> Event {
    Event::Problem {
        kind: "provider_unavailable".into(),
        provider: Some("gemini".into()),
        status,
        count,
        calls: Some(calls),
        detail: "tcp handshaker shutdown".into(),
        title: None,
        action: None,
    }
}

/// Works until `at` seconds with something moving every five minutes, and then ends like this.
fn works_until(at: u64, end: Vec<Event>) -> Script {
    let steps = (1..).map(|n| n * 300).take_while(|second| *second < at);
    let mut events: Vec<(Duration, Event)> =
        steps.map(|second| (secs(second), progress(second / 3))).collect();
    events.extend(end.into_iter().map(|event| (secs(at), event)));
    Script { events, ..Script::default() }
}

/// A good run.
pub(crate) fn good(at: u64) -> Script {
    let totals = totals(&[("succeeded", 900), ("remaining", 0)]);
    works_until(at, vec![totals, signal(), exited(0), ended()])
}

/// A full box with work left, its signal within the grace.
pub(crate) fn full_box() -> Script {
    let totals = totals(&[("succeeded", 900), ("remaining", 1240)]);
    let end = vec![totals, signal(), exited(0), ended()];
    works_until(46 * 60, end).with(45 * 60, Event::BoxEnded)
}

/// Nothing to do.
pub(crate) fn empty() -> Script {
    works_until(3, vec![totals(&[("remaining", 0)]), signal(), exited(0), ended()])
}

pub(crate) fn without_signal(at: u64) -> Script {
    works_until(at, vec![exited(0), ended()])
}

pub(crate) fn failing(at: u64, code: i32) -> Script {
    works_until(at, vec![exited(code), ended()])
}

/// Something moves all the time, and it never ends.
pub(crate) fn hanging() -> Script {
    let events = (1..10).map(|n| (secs(n * 300), progress(n))).collect();
    Script { events, job: JobKind::Hangs, ..Script::default() }
}

/// The same, and the keeper does nothing about it.
pub(crate) fn hanging_with_its_keeper() -> Script {
    let events = (1..20).map(|n| (secs(n * 300), progress(n))).collect();
    Script { events, job: JobKind::HangsWithItsKeeper, ..Script::default() }
}

/// The keeper is killed.
pub(crate) fn dying(at: u64) -> Script {
    Script { dies_after: Some(secs(at)), ..hanging() }
}

/// The job is killed from outside, by the kernel for want of memory for one.
pub(crate) fn killed(at: u64) -> Script {
    works_until(at, vec![Event::Exited { code: None, signal: Some(9) }, ended()])
}

/// It stands still from its fifth minute to its end.
pub(crate) fn silent() -> Script {
    Script { events: vec![(secs(300), progress(1))], job: JobKind::Hangs, ..Script::default() }
}

/// The job's program is not there.
pub(crate) fn not_startable() -> Script {
    let error = "no such file or directory: review".into();
    Script {
        events: vec![(secs(0), Event::CouldNotStart { error }), (secs(0), ended())],
        job: JobKind::NeverStarts,
        ..Script::default()
    }
}

/// The keeper itself can't be started.
pub(crate) fn refused() -> Script {
    Script { refuses: Some("no more processes".into()), ..Script::default() }
}

/// The keeper stops it for a stall.
pub(crate) fn stopped_for_a_stall() -> Script {
    let events = vec![
        (secs(600), Event::Stopping { reason: StopReason::Stalled }),
        (secs(601), Event::Exited { code: None, signal: Some(15) }),
        (secs(601), ended()),
    ];
    Script { events, ..Script::default() }
}

/// The service can't be reached; after ten minutes it gives up.
pub(crate) fn outage() -> Script {
    let faults = (0..20).map(|n| (secs(n * 30), fault(None, n + 1, n + 1)));
    let mut script = Script { events: faults.collect(), ..Script::default() };
    for event in [totals(&[("returned", 64), ("remaining", 640)]), exited(75), ended()] {
        script.events.push((secs(600), event));
    }
    script
}

/// A job that is a process: an endpoint's faults are judged in another way.
fn a_process() -> ProcessIdentity {
    ProcessIdentity { pid: 4242, start_ticks: 1, boot_id: "this boot".to_owned() }
}
