//! Storm control: how many messages a channel may send. Pure, one [`Pace`] a channel.
//!
//! Slack disables an app that goes on past about one message a second, and nobody reads the
//! twenty-first page of an hour. A held message is not lost: it waits, merges with later news of
//! its incident, and the next message that goes out says how many wait.
//! Invariant: the last [`KEPT`] of an hour are spent only on what must be heard now.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Messages an hour.
const AN_HOUR: usize = 20;

/// Of those, kept for critical and resolved messages.
const KEPT: usize = 5;

/// Between two messages (api.slack.com/docs/rate-limits: about one a second and channel).
const GAP: Duration = Duration::from_secs(1);

/// The window of [`AN_HOUR`].
const WINDOW: Duration = Duration::from_secs(3600);

/// How much it matters that a message goes out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Critical, or the end of something that was told.
    Now,
    /// May wait for a free place.
    CanWait,
}

/// What a channel has sent within the last hour.
#[derive(Debug, Default)]
pub struct Pace {
    last_attempt: Option<Instant>,
    accepted: VecDeque<Instant>,
}

impl Pace {
    /// When a message of this urgency may go out: `now`, or later.
    pub fn may_send_at(&mut self, urgency: Urgency, now: Instant) -> Instant {
        while self.accepted.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            self.accepted.pop_front();
        }
        let limit = match urgency {
            Urgency::Now => AN_HOUR,
            Urgency::CanWait => AN_HOUR - KEPT,
        };
        let after_gap = self.last_attempt.map_or(now, |last| (last + GAP).max(now));
        if self.accepted.len() < limit {
            return after_gap;
        }
        // Free again when the one that fills the place leaves the window.
        let blocking = self.accepted[self.accepted.len() - limit];
        after_gap.max(blocking + WINDOW)
    }

    /// An attempt was made.
    pub fn attempted(&mut self, now: Instant) {
        self.last_attempt = Some(now);
    }

    /// A message was accepted: only these count for the hour, so that an outage of the channel
    /// does not use up what is needed after it.
    pub fn accepted(&mut self, now: Instant) {
        self.accepted.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_a_second() {
        let mut pace = Pace::default();
        let now = Instant::now();
        assert_eq!(pace.may_send_at(Urgency::Now, now), now);
        pace.attempted(now);
        assert_eq!(pace.may_send_at(Urgency::Now, now), now + GAP);
    }

    #[tokio::test(start_paused = true)]
    async fn five_of_twenty_are_kept_for_what_cannot_wait() {
        let mut pace = Pace::default();
        let start = Instant::now();
        let at = |n: u64| start + Duration::from_secs(2 * n);
        for n in 0..15 {
            assert_eq!(pace.may_send_at(Urgency::CanWait, at(n)), at(n));
            pace.attempted(at(n));
            pace.accepted(at(n));
        }
        assert_eq!(pace.may_send_at(Urgency::CanWait, at(15)), start + WINDOW);
        for n in 15..20 {
            assert_eq!(pace.may_send_at(Urgency::Now, at(n)), at(n));
            pace.attempted(at(n));
            pace.accepted(at(n));
        }
        assert_eq!(pace.may_send_at(Urgency::Now, at(20)), start + WINDOW);
    }
}
