//! How long to wait after a failed delivery, and when it is too old. Pure.
//!
//! The schedule is short at first (a hiccup costs nobody a night) and never ends before the
//! message is too old to matter. Who waits, the delivery or its channel, is `health.rs`'s business.
//! Invariant: no wait is zero after a failure, so no answer of a receiver makes a busy loop.

use std::time::Duration;

use chrono::TimeDelta;

use crate::watch::Severity;

/// Waits after the first, second, … failed attempt. The first attempt itself is made at once.
const STEPS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(45),
    Duration::from_secs(2 * 60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(20 * 60),
];

/// Between attempts after the steps; also between probes of a broken channel.
pub const LAST_STEP: Duration = Duration::from_secs(30 * 60);

/// Part of a step by which it may be shorter or longer, so that messages which failed together
/// do not come back together.
const JITTER: f64 = 0.2;

/// The wait after so many failed attempts.
#[must_use]
pub fn step(attempts: u32, jitter: f64) -> Duration {
    let index = attempts.saturating_sub(1) as usize;
    let base = STEPS.get(index).copied().unwrap_or(LAST_STEP);
    let jitter = jitter.clamp(0.0, 1.0);
    base.mul_f64(1.0 - JITTER + 2.0 * JITTER * jitter)
}

/// How long a message of this severity is worth delivering.
#[must_use]
pub fn time_to_live(severity: Severity) -> TimeDelta {
    match severity {
        Severity::Critical => TimeDelta::hours(24),
        Severity::Warning => TimeDelta::hours(12),
        Severity::Info => TimeDelta::hours(3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn waits_grow_and_then_stay_at_half_an_hour() {
        let waits: Vec<u64> = (1..=9).map(|n| step(n, 0.5).as_secs()).collect();
        assert_eq!(waits, [5, 15, 45, 120, 300, 600, 1200, 1800, 1800]);
    }

    #[test]
    fn jitter_is_a_fifth_to_either_side() {
        assert_eq!(step(1, 0.0), seconds(4));
        assert_eq!(step(1, 1.0), seconds(6));
        assert!(step(1, 0.9) > step(1, 0.1));
    }

    #[test]
    fn worse_news_live_longer() {
        assert!(time_to_live(Severity::Critical) > time_to_live(Severity::Warning));
        assert!(time_to_live(Severity::Warning) > time_to_live(Severity::Info));
    }
}
