//! The circuit breaker: in an outage all calls wait and one at a time tries.
//!
//! There is one for the network and one for the model's overload; what counts as a failure is
//! `review_try.rs`'s business.
//! Invariant: while it is open, at most one probe is under way, and none before its time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::review::reviewer::gemini::backoff::Backoff;

/// Failures in a row that open it: single ones are ordinary life.
const FAILURES_TO_OPEN: u32 = 5;

/// Lets calls pass, or makes them wait.
#[derive(Debug)]
pub struct CircuitBreaker {
    backoff: Backoff,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    in_a_row: u32,
    /// The picture that failed first, and whether others failed since: one picture that the service
    /// chokes on is no outage.
    first: Option<u64>,
    several: bool,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    probe_at: Instant,
    pause: Duration,
    probing: bool,
}

/// The right to make one call; report how it went, or drop it if nothing was learned.
#[derive(Debug)]
pub struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    role: Role,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Ordinary,
    Probe,
}

impl CircuitBreaker {
    /// Closed.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, state: Mutex::default(), changed: Notify::new() }
    }

    /// Waits until a call may be made, and takes the right to it. Dropping the future is fine.
    pub async fn admit(&self) -> Permit<'_> {
        loop {
            self.ready().await;
            if let Some(permit) = self.try_admit() {
                return permit;
            }
        }
    }

    /// The right to make a call now.
    pub fn try_admit(&self) -> Option<Permit<'_>> {
        let role = match &mut self.state().open {
            None => Role::Ordinary,
            Some(open) if open.probing || open.probe_at > Instant::now() => return None,
            Some(open) => {
                open.probing = true;
                Role::Probe
            }
        };
        Some(self.permit(role))
    }

    /// Waits until a call might be made; another may be quicker. Dropping the future is fine.
    pub async fn ready(&self) {
        loop {
            // Registered before the look at the state: a change in between would be lost.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let probe_at = match &self.state().open {
                None => return,
                Some(open) if open.probing => None,
                Some(open) if open.probe_at <= Instant::now() => return,
                Some(open) => Some(open.probe_at),
            };
            match probe_at {
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Whether calls wait.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state().open.is_some()
    }

    fn permit(&self, role: Role) -> Permit<'_> {
        Permit { breaker: self, role, since: Instant::now() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment or two; a panic between them leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The call was answered: closes the breaker.
    pub fn succeeded(mut self) {
        self.role = Role::Ordinary;
        *self.breaker.state() = State::default();
        self.breaker.changed.notify_waiters();
    }

    /// The call of this try failed. Pauses count from its beginning: who has hung for a minute and a
    /// half has been left in peace for so long.
    pub fn failed(mut self, of_try: u64) {
        let role = std::mem::replace(&mut self.role, Role::Ordinary);
        let mut state = self.breaker.state();
        state.in_a_row = state.in_a_row.saturating_add(1);
        state.several |= *state.first.get_or_insert(of_try) != of_try;
        let enough = state.in_a_row >= FAILURES_TO_OPEN && state.several;
        let since = self.since;
        match &mut state.open {
            Some(open) if role == Role::Probe => {
                open.pause = (open.pause * 2).min(self.breaker.backoff.max_probe);
                open.probe_at = since + open.pause;
                open.probing = false;
            }
            // A call that was under way when it opened tells nothing new.
            Some(_) => return,
            None if enough => {
                let pause = self.breaker.backoff.probe;
                state.open = Some(Open { probe_at: since + pause, pause, probing: false });
            }
            None => return,
        }
        drop(state);
        self.breaker.changed.notify_waiters();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.role == Role::Probe {
            if let Some(open) = &mut self.breaker.state().open {
                open.probing = false;
            }
            self.breaker.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fail(breaker: &CircuitBreaker, tries: std::ops::Range<u64>) {
        for of_try in tries {
            breaker.admit().await.failed(of_try);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_five_failures_in_a_row() {
        let breaker = CircuitBreaker::new(Backoff::default());
        fail(&breaker, 0..4).await;
        breaker.admit().await.succeeded();
        fail(&breaker, 0..4).await;
        assert!(!breaker.is_open());
        fail(&breaker, 4..5).await;
        assert!(breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn one_picture_alone_does_not_open_it() {
        let breaker = CircuitBreaker::new(Backoff::default());
        for _ in 0..20 {
            breaker.admit().await.failed(7);
        }
        assert!(!breaker.is_open());
        breaker.admit().await.failed(8);
        assert!(breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn it_lets_one_probe_through_after_thirty_sixty_and_then_every_hundred_and_twenty_seconds()
     {
        let breaker = CircuitBreaker::new(Backoff::default());
        fail(&breaker, 0..5).await;
        for expected in [30, 60, 120, 120] {
            let before = Instant::now();
            let probe = breaker.admit().await;
            assert_eq!(before.elapsed().as_secs(), expected);
            let second = tokio::time::timeout(Duration::from_secs(0), breaker.admit()).await;
            assert!(second.is_err(), "two probes at once");
            probe.failed(9);
        }
        breaker.admit().await.succeeded();
        assert!(!breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_a_call_hung_counts_towards_the_pause_after_it() {
        let breaker = CircuitBreaker::new(Backoff::default());
        let begun = Instant::now();
        let permits = [breaker.admit().await, breaker.admit().await];
        fail(&breaker, 0..3).await;
        tokio::time::advance(Duration::from_secs(90)).await;
        for (of_try, permit) in (3..).zip(permits) {
            permit.failed(of_try);
        }
        assert!(breaker.is_open());
        let probe = breaker.admit().await;
        assert_eq!(begun.elapsed().as_secs(), 90);
        tokio::time::advance(Duration::from_secs(45)).await;
        probe.failed(9);
        drop(breaker.admit().await);
        assert_eq!(begun.elapsed().as_secs(), 90 + 60, "sixty seconds from probe to probe");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_abandoned_makes_way_for_another() {
        let breaker = CircuitBreaker::new(Backoff::default());
        fail(&breaker, 0..5).await;
        drop(breaker.admit().await);
        let before = Instant::now();
        breaker.admit().await.succeeded();
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
