//! Concurrency: how many tries at once the provider takes, found out by going up until it objects.
//!
//! Invariant: between 1 and the configured max, always.

use std::time::Duration;

use tokio::time::Instant;

/// Where it starts, as a share of the max; it doubles with every round of answers until the first
/// objection. An objection costs nothing (a 429 is not charged, uses up no try and halves this at
/// once), while each round trip below the max is lost for good: starting at four would cost a run of
/// 1,000 pictures an eighth of its time.
const START: f64 = 0.75;
/// Objections within so long are one: they are about requests that were under way together.
const OVERLOAD_WINDOW: Duration = Duration::from_secs(2);

/// Grows slowly, shrinks quickly.
#[derive(Debug)]
pub struct Concurrency {
    now: f64,
    max: f64,
    /// Below it growth is quick; set by the last objection.
    slow_start_threshold: f64,
    objected: Option<Instant>,
}

impl Concurrency {
    /// At most so many.
    #[must_use]
    pub fn new(max: u32) -> Self {
        let max = f64::from(max.max(1));
        Self { now: (START * max).max(1.0), max, slow_start_threshold: max, objected: None }
    }

    /// How many now.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and a u32"
    )]
    pub fn get(&self) -> u32 {
        self.now as u32
    }

    /// A call was answered.
    pub fn grow(&mut self) {
        let step = if self.now < self.slow_start_threshold { 1.0 } else { 1.0 / self.now };
        self.now = (self.now + step).min(self.max);
    }

    /// A call was refused as one too many.
    pub fn shrink(&mut self, at: Instant) {
        if self.objected.is_some_and(|before| at - before < OVERLOAD_WINDOW) {
            return;
        }
        self.objected = Some(at);
        self.now = (self.now / 2.0).max(1.0);
        self.slow_start_threshold = self.now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_stays_between_one_and_the_most() {
        let mut capacity = Concurrency::new(16);
        assert_eq!(capacity.get(), 12);
        for _ in 0..8 {
            capacity.grow();
        }
        assert_eq!(capacity.get(), 16);
        capacity.grow();
        assert_eq!(capacity.get(), 16);
        for _ in 0..20 {
            capacity.shrink(Instant::now());
            capacity.shrink(Instant::now());
            tokio::time::advance(Duration::from_secs(3)).await;
        }
        assert_eq!(capacity.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_objection_it_grows_by_one_a_round() {
        let mut capacity = Concurrency::new(64);
        for _ in 0..60 {
            capacity.grow();
        }
        capacity.shrink(Instant::now());
        assert_eq!(capacity.get(), 32);
        for _ in 0..33 {
            capacity.grow();
        }
        assert_eq!(capacity.get(), 33);
    }
}
