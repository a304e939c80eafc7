//! What the running daemon knows of itself, for the pages: its schedules and its loops.
//!
//! Invariant: it reads published beats and asks no loop anything, so that a loop that hangs can't
//! make `/healthz` hang with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{App, Followed};
use crate::clock::Clock;
use crate::pulse::{Beat, Doing};
use crate::schedule::Schedule;
use crate::schedule::ticker::{self, Ticker};
use crate::watch::Severity;
use crate::watch::watchdog::WatchedLoop;
use crate::web::status::{ChannelLine, Daemon, LoopPulse, PulseState};

/// A loop that steps every second or oftener and says nothing for so long is dead: longer than any
/// step that waits for a busy database (5 s), with as much again for a loaded machine.
const DEAD_AFTER: Duration = Duration::from_secs(15);

/// The database is written at least every ten seconds: the loops' signs of life.
const STORE_DEAD_AFTER: Duration = Duration::from_secs(30);

/// One loop of the daemon, as pages and watchdog look at it.
#[derive(Clone)]
pub(super) struct OneLoop {
    name: &'static str,
    /// In a message to people; `None`: its silence shows in another loop's, or can be told by nobody.
    told_as: Option<(&'static str, Severity)>,
    beat: watch::Receiver<Beat>,
    dead_after: Duration,
    /// Boot time since when it should move.
    since: Duration,
}

/// The loops of this daemon, in the order of the story.
pub(super) fn loops(app: &App, ticker: &Ticker) -> Vec<OneLoop> {
    let since = app.clock.boot();
    let one = |name, beat| OneLoop { name, told_as: None, beat, dead_after: DEAD_AFTER, since };
    vec![
        OneLoop {
            told_as: Some(("the scheduler tick", Severity::Warning)),
            dead_after: ticker::DEAD_AFTER,
            ..one("ticker", ticker.pulse())
        },
        OneLoop {
            told_as: Some(("the part that starts runs", Severity::Critical)),
            ..one("conductor", app.conductor.pulse())
        },
        one("watchdog", app.watchdog.pulse()),
        OneLoop {
            told_as: Some(("the part that sends messages", Severity::Critical)),
            ..one("dispatcher", app.dispatcher.pulse())
        },
        OneLoop { dead_after: STORE_DEAD_AFTER, ..one("store", app.writing.clone()) },
    ]
}

/// The daemon as its pages see it.
pub(super) struct Running {
    pub(super) followed: Followed,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) loops: Vec<OneLoop>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("n_schedules", &self.followed.schedules.borrow().len())
            .finish_non_exhaustive()
    }
}

impl OneLoop {
    /// For the watchdog; `None`: it can't tell anybody of this one.
    pub(super) fn watched(&self) -> Option<WatchedLoop> {
        let (name, severity) = self.told_as?;
        Some(WatchedLoop { name, beat: self.beat.clone(), dead_after: self.dead_after, severity })
    }
}

impl Daemon for Running {
    fn schedules(&self) -> Vec<Schedule> {
        self.followed.schedules.borrow().clone()
    }

    fn channels(&self) -> Vec<ChannelLine> {
        self.followed.alerting.borrow().channels.iter().map(ChannelLine::of).collect()
    }

    fn pulse(&self) -> Vec<LoopPulse> {
        let boot = self.clock.boot();
        self.loops.iter().map(|it| loop_pulse(it, boot)).collect()
    }
}

/// What a loop noticed of the machine is shown so long.
const NOTICED_FOR: Duration = Duration::from_secs(3600);

fn loop_pulse(one: &OneLoop, boot: Duration) -> LoopPulse {
    let beat = one.beat.borrow().clone();
    let silent = boot.saturating_sub(beat.since_boot.max(one.since));
    let (state, doing) = if silent > one.dead_after {
        (PulseState::Dead, format!("has not moved for {} s", silent.as_secs()))
    } else if beat.since.is_none() {
        (PulseState::Alive, "starting".to_owned())
    } else if let Some(error) = &beat.last_error {
        (PulseState::Failing, error.clone())
    } else {
        let doing = match beat.doing {
            Doing::Idle => "waiting",
            Doing::Running => "working",
        };
        let recent =
            beat.noticed.filter(|(at, _)| boot.saturating_sub(*at) < NOTICED_FOR).map(|(_, it)| it);
        let noticed = recent.map_or_else(String::new, |what| format!("; {what}"));
        (PulseState::Alive, format!("{doing}, {} steps{noticed}", beat.n_steps))
    };
    LoopPulse { name: one.name.to_owned(), last_at: beat.since, state, doing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn looked_at(beat: Beat, boot: u64) -> LoopPulse {
        let one = OneLoop {
            name: "x",
            told_as: None,
            beat: watch::channel(beat).1,
            dead_after: DEAD_AFTER,
            since: Duration::from_secs(90),
        };
        loop_pulse(&one, Duration::from_secs(boot))
    }

    fn beat() -> Beat {
        Beat {
            since: DateTime::from_timestamp(1_700_000_000, 0),
            since_boot: Duration::from_secs(100),
            ..Beat::default()
        }
    }

    #[test]
    fn a_loop_that_does_not_move_is_dead_and_one_that_cannot_write_is_failing() {
        assert_eq!(looked_at(beat(), 101).state, PulseState::Alive);
        assert_eq!(looked_at(beat(), 116).state, PulseState::Dead);
        let full = Beat { last_error: Some("disk full".into()), ..beat() };
        let pulse = looked_at(full, 101);
        assert_eq!((pulse.state, pulse.doing.as_str()), (PulseState::Failing, "disk full"));
    }

    #[test]
    fn what_a_loop_noticed_of_the_machine_is_shown_for_an_hour() {
        let what = "the clock of this machine was set by -3600 s (2026-11-22 12:00 UTC)";
        let noticed = Some((Duration::from_secs(100), what.to_owned()));
        let pulse = looked_at(Beat { noticed, ..beat() }, 101);
        assert!(pulse.is_well() && pulse.doing.contains("set by -3600 s"), "{}", pulse.doing);
        let since_boot = Duration::from_secs(4000);
        let noticed = Some((Duration::from_secs(100), what.to_owned()));
        let pulse = looked_at(Beat { noticed, since_boot, ..beat() }, 4001);
        assert!(!pulse.doing.contains("clock"), "{}", pulse.doing);
    }

    #[test]
    fn a_loop_that_never_began_is_starting_for_a_while_and_then_dead() {
        let never = looked_at(Beat::default(), 100);
        assert_eq!((never.state, never.doing.as_str()), (PulseState::Alive, "starting"));
        let never = looked_at(Beat::default(), 106);
        assert_eq!(
            (never.state, never.doing.as_str()),
            (PulseState::Dead, "has not moved for 16 s")
        );
    }
}
