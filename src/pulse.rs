//! What a loop is doing and when it last did it, for `/healthz`, the pages and the watchdog.
//!
//! Published on a watch channel; nobody waits for a reader.
//! Invariant: a beat is sent at the beginning and at the end of every step.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::watch;

use crate::clock::Clock;

/// What a loop does right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// Waits for the next ring.
    #[default]
    Idle,
    /// In a step.
    Running,
}

/// The state of a loop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Beat {
    /// What it does.
    pub doing: Doing,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// The same on the boot clock; two beats may be compared by it.
    #[serde(skip)]
    pub since_boot: Duration,
    /// Steps since the start.
    pub n_steps: u64,
    /// Why the last step failed, if it did.
    pub last_error: Option<String>,
    /// What it noticed of the machine (its clock was set, it slept), and the boot time of that.
    pub noticed: Option<(Duration, String)>,
}

/// The sender's side; each loop owns one. Clones beat as one.
#[derive(Clone, Debug)]
pub struct Pulse(watch::Sender<Beat>);

impl Default for Pulse {
    fn default() -> Self {
        Self(watch::Sender::new(Beat::default()))
    }
}

impl Pulse {
    /// A receiver; there may be many.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Beat> {
        self.0.subscribe()
    }

    /// A step begins.
    pub fn begin(&self, clock: &dyn Clock) {
        self.0.send_modify(|beat| {
            beat.doing = Doing::Running;
            beat.since = Some(clock.now());
            beat.since_boot = clock.boot();
        });
    }

    /// Something about the machine that explains what may look odd.
    pub fn notice(&self, clock: &dyn Clock, what: String) {
        self.0.send_modify(|beat| beat.noticed = Some((clock.boot(), what)));
    }

    /// It is over; says whether the outcome (failed or not, and how) is another than before, so
    /// that a full disk does not fill the log as well.
    pub fn end(&self, clock: &dyn Clock, error: Option<String>) -> Outcome {
        let mut outcome = Outcome::AsBefore;
        self.0.send_modify(|beat| {
            beat.doing = Doing::Idle;
            beat.since = Some(clock.now());
            beat.since_boot = clock.boot();
            beat.n_steps += 1;
            if beat.last_error != error {
                outcome = Outcome::Changed;
            }
            beat.last_error = error;
        });
        outcome
    }
}

/// Whether a step ended otherwise than the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The same.
    AsBefore,
    /// Otherwise: worth a line in the log.
    Changed,
}
