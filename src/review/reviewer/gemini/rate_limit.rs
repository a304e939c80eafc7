//! The pace: requests and tokens a minute, under limits that the service has told us.
//!
//! A sliding window rather than a bucket: it holds under any way of counting a minute.
//! Invariant: in no window of a minute more is sent than the known limit allows; without a known
//! limit nothing is held back.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::review::reviewer::gemini::classifier::{Counts, Limit};

/// A minute and what two requests may differ in on their way to the service.
const WINDOW: Duration = Duration::from_millis(60_400);
/// Input tokens of one request until we have seen some: picture 1120, prompt and schema 600.
const USUAL_TOKENS: u64 = 1_750;

/// What was sent within the last minute.
#[derive(Debug)]
pub struct RateLimit {
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
    sent: VecDeque<Sent>,
    /// Number of the first in `sent`; they are numbered one after another.
    first: u64,
    usual_tokens: u64,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    /// 0 for a request that was refused, which is not counted.
    requests: u64,
    tokens: u64,
}

/// Which request it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestNumber(u64);

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            tokens_per_minute: None,
            sent: VecDeque::new(),
            first: 0,
            usual_tokens: USUAL_TOKENS,
        }
    }
}

impl RateLimit {
    /// When the next request may be sent: now, or later.
    #[must_use]
    pub fn next_at(&mut self, now: Instant) -> Instant {
        while self.sent.front().is_some_and(|sent| sent.at + WINDOW <= now) {
            self.sent.pop_front();
            self.first += 1;
        }
        if self.requests_per_minute.is_none() && self.tokens_per_minute.is_none() {
            return now;
        }
        let requests: u64 = self.sent.iter().map(|sent| sent.requests).sum();
        let tokens: u64 = self.sent.iter().map(|sent| sent.tokens).sum();
        let mut excess_requests =
            self.requests_per_minute.map_or(0, |limit| (requests + 1).saturating_sub(limit));
        let mut excess_tokens = self
            .tokens_per_minute
            .map_or(0, |limit| (tokens + self.usual_tokens).saturating_sub(limit));
        let mut at = now;
        for sent in &self.sent {
            if excess_requests == 0 && excess_tokens == 0 {
                break;
            }
            excess_requests = excess_requests.saturating_sub(sent.requests);
            excess_tokens = excess_tokens.saturating_sub(sent.tokens);
            at = sent.at + WINDOW;
        }
        at
    }

    /// Takes note of a request that is sent now.
    pub fn send(&mut self, now: Instant) -> RequestNumber {
        self.sent.push_back(Sent { at: now, requests: 1, tokens: self.usual_tokens });
        RequestNumber(self.first + self.sent.len() as u64 - 1)
    }

    /// It was taken, and this is what it took.
    pub fn taken(&mut self, number: RequestNumber, tokens: Option<u64>) {
        let Some(tokens) = tokens.filter(|tokens| *tokens > 0) else { return };
        // Pictures cost much the same; the mean follows a change of prompt or model.
        self.usual_tokens = (self.usual_tokens * 7 + tokens) / 8;
        if let Some(sent) = self.find(number) {
            sent.tokens = tokens;
        }
    }

    /// It was refused for its quota, and is not counted by the service.
    pub fn refused(&mut self, number: RequestNumber) {
        if let Some(sent) = self.find(number) {
            (sent.requests, sent.tokens) = (0, 0);
        }
    }

    /// The service has told us a limit.
    pub fn learn(&mut self, limit: &Limit) {
        match limit.counts {
            Counts::RequestsPerMinute => self.requests_per_minute = Some(limit.value.max(1)),
            Counts::TokensPerMinute => self.tokens_per_minute = Some(limit.value.max(1)),
            // Its end is known when it comes.
            Counts::PerDay => {}
        }
    }

    fn find(&mut self, number: RequestNumber) -> Option<&mut Sent> {
        let index = number.0.checked_sub(self.first)?;
        self.sent.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per_minute(value: u64) -> Limit {
        Limit { counts: Counts::RequestsPerMinute, value }
    }

    #[tokio::test(start_paused = true)]
    async fn under_a_limit_of_300_a_minute_at_least_290_are_sent_and_never_more() {
        let mut pace = RateLimit::default();
        pace.learn(&per_minute(300));
        let start = Instant::now();
        let mut sent: Vec<Instant> = Vec::new();
        while start.elapsed() < Duration::from_secs(600) {
            let at = pace.next_at(Instant::now());
            // 64 in flight at 1.5 s: 43 a second if nothing held them back.
            let at = at.max(sent.last().map_or(start, |last| *last + Duration::from_millis(23)));
            tokio::time::advance(at - Instant::now()).await;
            pace.send(Instant::now());
            sent.push(Instant::now());
        }
        for (n, from) in sent.iter().enumerate() {
            let in_window =
                sent[n..].iter().take_while(|at| **at - *from < Duration::from_secs(60)).count();
            assert!(in_window <= 300, "{in_window}");
        }
        assert!(sent.len() >= 2_900, "{}", sent.len());
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_counted_as_they_were_billed() {
        let mut pace = RateLimit::default();
        pace.learn(&Limit { counts: Counts::TokensPerMinute, value: 10_000 });
        let now = Instant::now();
        for _ in 0..4 {
            let number = pace.send(now);
            pace.taken(number, Some(2_000));
        }
        assert_eq!(pace.next_at(now), now);
        let number = pace.send(now);
        assert_eq!(pace.next_at(now), now + WINDOW);
        pace.refused(number);
        assert_eq!(pace.next_at(now), now);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_smaller_than_one_request_still_lets_one_through_a_minute() {
        let mut pace = RateLimit::default();
        pace.learn(&Limit { counts: Counts::TokensPerMinute, value: 100 });
        let now = Instant::now();
        assert_eq!(pace.next_at(now), now);
        pace.send(now);
        assert_eq!(pace.next_at(now), now + WINDOW);
    }
}
