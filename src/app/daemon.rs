//! What the running daemon knows of itself, for the pages: its schedules and its loops.
//!
//! Invariant: it reads published beats and asks no loop anything, so that a loop that hangs can't
//! make `/healthz` hang with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::run::pulse::{Beat, Doing};
use crate::schedule::Schedule;
use crate::web::status::{Daemon, LoopPulse, PulseState};

/// A loop that steps every second or oftener and says nothing for so long is dead: longer than any
/// step that waits for a busy database (5 s), with as much again for a loaded machine.
const DEAD_AFTER: Duration = Duration::from_secs(15);

/// The daemon as its pages see it.
pub(super) struct Running {
    pub(super) schedules: Vec<Schedule>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) loops: Vec<(&'static str, watch::Receiver<Beat>)>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("n_schedules", &self.schedules.len())
            .finish_non_exhaustive()
    }
}

impl Daemon for Running {
    fn schedules(&self) -> Vec<Schedule> {
        self.schedules.clone()
    }

    fn pulse(&self) -> Vec<LoopPulse> {
        let boot = self.clock.boot();
        self.loops.iter().map(|(name, beat)| loop_pulse(name, &beat.borrow(), boot)).collect()
    }
}

fn loop_pulse(name: &str, beat: &Beat, boot: Duration) -> LoopPulse {
    let silent = boot.saturating_sub(beat.since_boot).as_secs();
    let (state, doing) = if beat.since.is_none() {
        (PulseState::Alive, "starting".to_owned())
    } else if beat.is_stale(boot, DEAD_AFTER) {
        (PulseState::Dead, format!("has not moved for {silent} s"))
    } else if let Some(error) = &beat.last_error {
        (PulseState::Failing, error.clone())
    } else {
        let doing = match beat.doing {
            Doing::Idle => "waiting",
            Doing::Running => "working",
        };
        (PulseState::Alive, format!("{doing}, {} steps", beat.n_steps))
    };
    LoopPulse { name: name.to_owned(), last_at: beat.since, state, doing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn beat() -> Beat {
        Beat {
            since: DateTime::from_timestamp(1_700_000_000, 0),
            since_boot: Duration::from_secs(100),
            ..Beat::default()
        }
    }

    #[test]
    fn a_loop_that_does_not_move_is_dead_and_one_that_cannot_write_is_failing() {
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(loop_pulse("x", &beat(), at(101)).state, PulseState::Alive);
        assert_eq!(loop_pulse("x", &beat(), at(116)).state, PulseState::Dead);
        let full = Beat { last_error: Some("disk full".into()), ..beat() };
        let pulse = loop_pulse("x", &full, at(101));
        assert_eq!((pulse.state, pulse.doing.as_str()), (PulseState::Failing, "disk full"));
    }
}
