//! When an entry of the evidence was written, on both clocks.
//!
//! Invariant: durations are made from the boot clock only; the wall clock may be set at any time.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// When an entry was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For people.
    pub at: DateTime<Utc>,
    /// For durations.
    pub boot: Duration,
}
