//! What the stand-in counts, and the limits it keeps.
//!
//! Invariant: every call that began ends in exactly one of the counts of `by_outcome`, or is still
//! in flight.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::behaviour::Quota;
use super::envelope::Limit;

/// The service counts by the minute.
const MINUTE: Duration = Duration::from_secs(60);

/// Counts since the start, or since they were last set to nothing. `generateContent` only, but for
/// `other_calls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Calls begun.
    pub calls: u64,
    /// Of them: brought an ordinary answer.
    pub answered: u64,
    /// Calls by what became of them: `answer`, the script's words for its outcomes, `bad_request`,
    /// `no_key`, `two_keys`, `no_model`, `quota`; `abandoned`: the client went away first.
    pub by_outcome: BTreeMap<String, u64>,
    /// Calls by HTTP status.
    pub by_status: BTreeMap<u16, u64>,
    /// Open now.
    pub in_flight: u64,
    /// Most that were open at once.
    pub most_in_flight: u64,
    /// Different pictures seen (by the bytes sent).
    pub pictures: u64,
    /// Calls that the most frequent picture made.
    pub most_calls_of_one_picture: u64,
    /// Minute by minute since the first call.
    pub minutes: Vec<Minute>,
    /// `models` and `countTokens`.
    pub other_calls: u64,
}

/// Counts of one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Minute {
    /// Ordinary answers.
    pub answered: u64,
    /// Refused for the quota.
    pub over_quota: u64,
}

/// The counting side of [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Counter {
    stats: Stats,
    first_call: Option<Instant>,
    by_picture: BTreeMap<String, u64>,
}

impl Counter {
    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.pictures = u64::try_from(self.by_picture.len()).unwrap_or(u64::MAX);
        stats.most_calls_of_one_picture = self.by_picture.values().copied().max().unwrap_or(0);
        stats
    }

    /// Forgets everything but the calls in flight.
    pub(super) fn reset(&mut self) {
        let in_flight = self.stats.in_flight;
        *self = Self::default();
        self.stats.in_flight = in_flight;
        self.stats.most_in_flight = in_flight;
    }

    pub(super) fn begin(&mut self) {
        self.first_call.get_or_insert_with(Instant::now);
        self.stats.calls += 1;
        self.stats.in_flight += 1;
        self.stats.most_in_flight = self.stats.most_in_flight.max(self.stats.in_flight);
    }

    pub(super) fn n_calls(&self) -> u64 {
        self.stats.calls
    }

    pub(super) fn picture(&mut self, sha256: &str) {
        *self.by_picture.entry(sha256.to_owned()).or_default() += 1;
    }

    pub(super) fn end(&mut self, outcome: &str, status: Option<u16>) {
        self.stats.in_flight = self.stats.in_flight.saturating_sub(1);
        *self.stats.by_outcome.entry(outcome.to_owned()).or_default() += 1;
        if let Some(status) = status {
            *self.stats.by_status.entry(status).or_default() += 1;
        }
        let Some(first) = self.first_call else { return };
        let minute = usize::try_from(first.elapsed().as_secs() / 60).unwrap_or(usize::MAX);
        // A stand-in that runs for weeks must not grow: a day of minutes is more than is read.
        if minute < 1440 && self.stats.minutes.len() <= minute {
            self.stats.minutes.resize(minute + 1, Minute::default());
        }
        if let Some(minute) = self.stats.minutes.get_mut(minute) {
            minute.answered += u64::from(outcome == "answer");
            minute.over_quota += u64::from(status == Some(429));
        }
        self.stats.answered += u64::from(outcome == "answer");
    }

    pub(super) fn other(&mut self) {
        self.stats.other_calls += 1;
    }
}

/// What counts against the quota: accepted calls only.
#[derive(Debug, Default)]
pub(super) struct Window {
    last_minute: VecDeque<(Instant, u64)>,
    today: u64,
}

/// A call was one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub(super) limit: Limit,
    pub(super) value: u32,
    pub(super) again_in: Duration,
}

impl Window {
    /// Takes a call of so many input tokens, if the quota has room for it.
    pub(super) fn take(
        &mut self,
        now: Instant,
        quota: &Quota,
        tokens: u64,
    ) -> Result<(), Exceeded> {
        while self.last_minute.front().is_some_and(|(at, _)| now.duration_since(*at) >= MINUTE) {
            self.last_minute.pop_front();
        }
        let oldest = self.last_minute.front().map_or(now, |(at, _)| *at);
        let again_in = MINUTE.saturating_sub(now.duration_since(oldest));
        let n_calls = u64::try_from(self.last_minute.len()).unwrap_or(u64::MAX);
        let n_tokens: u64 = self.last_minute.iter().map(|(_, tokens)| tokens).sum();
        let over = |limit: Option<u32>, used: u64| limit.filter(|limit| used > u64::from(*limit));
        if let Some(value) = over(quota.requests_per_day, self.today + 1) {
            return Err(Exceeded { limit: Limit::RequestsPerDay, value, again_in });
        }
        if let Some(value) = over(quota.requests_per_minute, n_calls + 1) {
            return Err(Exceeded { limit: Limit::RequestsPerMinute, value, again_in });
        }
        if let Some(value) = over(quota.tokens_per_minute, n_tokens + tokens) {
            return Err(Exceeded { limit: Limit::TokensPerMinute, value, again_in });
        }
        self.last_minute.push_back((now, tokens));
        self.today += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_quota_of_requests_lets_so_many_through_in_any_minute() {
        let quota = Quota { requests_per_minute: Some(2), ..Quota::default() };
        let mut window = Window::default();
        assert!(window.take(Instant::now(), &quota, 0).is_ok());
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(window.take(Instant::now(), &quota, 0).is_ok());
        let exceeded = window.take(Instant::now(), &quota, 0).unwrap_err();
        assert_eq!(exceeded.limit, Limit::RequestsPerMinute);
        assert_eq!(exceeded.again_in, Duration::from_secs(40));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(window.take(Instant::now(), &quota, 0).is_ok());
        assert!(window.take(Instant::now(), &quota, 0).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_and_days_are_counted_too() {
        let quota =
            Quota { tokens_per_minute: Some(100), requests_per_day: Some(3), ..Quota::default() };
        let mut window = Window::default();
        assert!(window.take(Instant::now(), &quota, 60).is_ok());
        let exceeded = window.take(Instant::now(), &quota, 60).unwrap_err();
        assert_eq!(exceeded.limit, Limit::TokensPerMinute);
        tokio::time::advance(MINUTE).await;
        assert!(window.take(Instant::now(), &quota, 60).is_ok());
        tokio::time::advance(MINUTE).await;
        assert!(window.take(Instant::now(), &quota, 60).is_ok());
        tokio::time::advance(MINUTE).await;
        let exceeded = window.take(Instant::now(), &quota, 60).unwrap_err();
        assert_eq!(exceeded.limit, Limit::RequestsPerDay);
    }
}
