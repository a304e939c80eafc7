//! How long the client waits when it is not told.
//!
//! Limits of calls are settings; these are not: nobody should need to turn them. Tests do.

use std::time::Duration;

/// Pauses after failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failed attempt of a try; doubles with each.
    pub pause: Duration,
    /// Its longest.
    pub max_pause: Duration,
    /// Before the first probe of an outage; doubles with each.
    pub probe: Duration,
    /// Its longest.
    pub max_probe: Duration,
    /// After a 429 that names no quota and no delay; doubles with each.
    pub vague: Duration,
}

impl Default for Backoff {
    /// What Google's own clients do (1 s, doubling); for outages docs/decisions.md, "Limits of a
    /// call".
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(1),
            max_pause: Duration::from_secs(30),
            probe: Duration::from_secs(30),
            max_probe: Duration::from_secs(120),
            vague: Duration::from_secs(5),
        }
    }
}
