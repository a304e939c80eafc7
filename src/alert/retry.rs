//! How long to wait after a failed delivery, and when to give up. Pure.
//!
//! The schedule is short at first (a hiccup costs nobody a night) and never ends before the
//! message is too old to matter. Retry-After is honoured, but only as far as it makes sense.
//! Invariant: no wait is zero after a failure, so no answer of a receiver makes a busy loop.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::channel::SendError;
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

/// A receiver that asks for more than this is asked again sooner: the message would be stale.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// A client error we have no rule for may be a hiccup of a proxy twice, not three times.
const DOUBTFUL_ATTEMPTS: u32 = 3;

/// What to do after a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try this delivery again after so long.
    Again(Duration),
    /// The receiver asks everybody to slow down: the whole channel waits.
    Hold(Duration),
    /// The channel refuses everything: one probe after [`LAST_STEP`], and somebody else is told.
    Broken,
    /// This message will never be taken: give it up.
    GiveUp,
}

/// Decides by the error, by how many attempts have been made (this one included), and by
/// `jitter`, a random number in `0.0..1.0`.
#[must_use]
pub fn after(error: &SendError, attempts: u32, jitter: f64) -> Next {
    match error {
        SendError::Transient { .. } => Next::Again(step(attempts, jitter)),
        SendError::Throttled { retry_after, .. } => {
            Next::Hold(step(attempts, jitter).max(retry_after.unwrap_or_default()))
        }
        SendError::Doubtful { .. } if attempts >= DOUBTFUL_ATTEMPTS => Next::Broken,
        SendError::Doubtful { .. } => Next::Again(step(attempts, jitter)),
        SendError::Broken { .. } => Next::Broken,
        SendError::Refused { .. } => Next::GiveUp,
    }
}

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

/// Reads a Retry-After header (RFC 9110 §10.2.3): seconds or an HTTP date, at most an hour.
/// Negative numbers, dates in the past and anything else count as if it were absent.
#[must_use]
pub fn retry_after(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits for a number means a very long time, which is capped anyway.
        let seconds = header.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    }
    let until = DateTime::parse_from_rfc2822(header).ok()?;
    let wait = (until.with_timezone(&Utc) - now).to_std().ok()?;
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::channel::Arrival;

    fn transient() -> SendError {
        SendError::Transient { reason: "no".into(), arrival: Arrival::No }
    }

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
    fn classes_lead_to_what_the_table_says() {
        assert_eq!(after(&transient(), 1, 0.5), Next::Again(seconds(5)));
        let throttled = |retry_after| SendError::Throttled {
            reason: "slow".into(),
            retry_after,
            arrival: Arrival::No,
        };
        assert_eq!(after(&throttled(None), 1, 0.5), Next::Hold(seconds(5)));
        assert_eq!(after(&throttled(Some(seconds(2))), 1, 0.5), Next::Hold(seconds(5)));
        assert_eq!(after(&throttled(Some(seconds(60))), 1, 0.5), Next::Hold(seconds(60)));
        let doubtful = SendError::Doubtful { reason: "418".into() };
        assert_eq!(after(&doubtful, 2, 0.5), Next::Again(seconds(15)));
        assert_eq!(after(&doubtful, 3, 0.5), Next::Broken);
        assert_eq!(after(&SendError::Broken { reason: "404".into() }, 1, 0.5), Next::Broken);
        assert_eq!(after(&SendError::Refused { reason: "550".into() }, 1, 0.5), Next::GiveUp);
    }

    #[test]
    fn retry_after_is_capped_ignored_or_parsed() {
        let now = DateTime::parse_from_rfc3339("2026-03-04T05:00:00Z").unwrap().with_timezone(&Utc);
        for (header, wait) in [
            ("2", Some(2)),
            (" 30 ", Some(30)),
            ("0", Some(0)),
            ("86400", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("Wed, 04 Mar 2026 05:00:30 GMT", Some(30)),
            ("Wed, 04 Mar 2026 23:00:00 GMT", Some(3600)),
            ("Wed, 04 Mar 2026 04:00:00 GMT", None),
        ] {
            assert_eq!(retry_after(header, now), wait.map(seconds), "{header:?}");
        }
    }

    #[test]
    fn worse_news_live_longer() {
        assert!(time_to_live(Severity::Critical) > time_to_live(Severity::Warning));
        assert!(time_to_live(Severity::Warning) > time_to_live(Severity::Info));
    }
}
