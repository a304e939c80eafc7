//! The bell: the one file that knows tokio-cron-scheduler.
//!
//! It is a heartbeat and no more: one UTC job every second whose body notifies whoever listens.
//! What is due is computed from schedules and ledger by those who wake up, so a lost or a double
//! ring changes nothing. Between rings [`Bell::ring`] also wakes at a given instant, because the
//! crate looks at its jobs every 500 ms only and would start runs 0.3 s late; and when the bell
//! has died (its clock went back an hour, its task panicked) it wakes by itself, so that a dead
//! bell delays nothing but is seen by its listeners' pulse.
//! Invariant: exactly one job, made before the scheduler starts and never removed (adding many
//! jobs at once can hang it, and a panic in a job ends that job).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// Without a ring for so long, the bell counts as dead: five beats lost.
pub const DEAD_AFTER: Duration = Duration::from_secs(5);

/// Every second. Six fields, seconds first; UTC, which knows no clock change.
const EVERY_SECOND: &str = "* * * * * *";

/// Why a listener woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The bell rang.
    Bell,
    /// The instant asked for has come.
    Due,
    /// Neither within [`DEAD_AFTER`]: the bell is dead; look around all the same.
    Silence,
}

/// A listener of the bell. Clones listen on their own and share the one scheduler.
#[derive(Clone)]
pub struct Bell {
    rings: watch::Receiver<Instant>,
    made_at: Instant,
    /// Keeps the crate's tasks; `None` for a bell rung by hand.
    _scheduler: Option<Arc<JobScheduler>>,
}

/// Rings a bell by hand: simulations, where the crate's real-time loop can't be used.
#[derive(Clone, Debug)]
pub struct Ringer(Arc<watch::Sender<Instant>>);

impl Ringer {
    /// Rings now.
    pub fn ring(&self) {
        self.0.send_replace(Instant::now());
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bell").field("last_ring", &self.last_ring()).finish_non_exhaustive()
    }
}

impl Bell {
    /// Makes the job and starts the crate's scheduler on the current runtime.
    ///
    /// # Errors
    /// What the crate says; its in-memory storage does not fail in practice.
    pub async fn start() -> Result<Self, JobSchedulerError> {
        let (bell, ringer) = Self::by_hand();
        let scheduler = JobScheduler::new().await?;
        scheduler.add(Job::new(EVERY_SECOND, move |_, _| ringer.ring())?).await?;
        scheduler.start().await?;
        Ok(Self { _scheduler: Some(Arc::new(scheduler)), ..bell })
    }

    /// A bell that rings only when its ringer is used; never, if the ringer is dropped.
    #[must_use]
    pub fn by_hand() -> (Self, Ringer) {
        let made_at = Instant::now();
        let (sender, rings) = watch::channel(made_at);
        (Self { rings, made_at, _scheduler: None }, Ringer(Arc::new(sender)))
    }

    /// Waits for the next ring, or for `due` if that comes first. Rings that came while nobody
    /// waited count as one.
    pub async fn ring(&mut self, due: Option<Instant>) -> Woken {
        let silence = Instant::now() + DEAD_AFTER;
        let (deadline, at_deadline) = match due {
            Some(due) if due <= silence => (due, Woken::Due),
            Some(_) | None => (silence, Woken::Silence),
        };
        match tokio::time::timeout_at(deadline, self.rings.changed()).await {
            Ok(Ok(())) => Woken::Bell,
            // The ringer is gone: without this wait the caller's loop would spin.
            Ok(Err(_)) => {
                tokio::time::sleep_until(deadline).await;
                at_deadline
            }
            Err(_) => at_deadline,
        }
    }

    /// When it last rang; `None`: not yet.
    #[must_use]
    pub fn last_ring(&self) -> Option<Instant> {
        let last = *self.rings.borrow();
        (last != self.made_at).then_some(last)
    }

    /// No ring for [`DEAD_AFTER`], counted from its making if it never rang.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.rings.borrow().elapsed() > DEAD_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_listener_wakes_at_the_ring_or_at_its_own_time_whichever_is_first() {
        let (mut bell, ringer) = Bell::by_hand();
        let start = Instant::now();
        assert_eq!(bell.ring(Some(start + Duration::from_millis(250))).await, Woken::Due);
        assert_eq!(start.elapsed(), Duration::from_millis(250));
        ringer.ring();
        assert_eq!(bell.ring(Some(start + Duration::from_secs(2))).await, Woken::Bell);
        assert_eq!(start.elapsed(), Duration::from_millis(250));
        assert_eq!(bell.ring(Some(start)).await, Woken::Due, "a time that has passed");
    }

    #[tokio::test(start_paused = true)]
    async fn double_rings_wake_once_and_clones_hear_each_ring() {
        let (mut bell, ringer) = Bell::by_hand();
        let mut other = bell.clone();
        tokio::time::advance(Duration::from_secs(1)).await;
        ringer.ring();
        ringer.ring();
        assert_eq!(bell.ring(None).await, Woken::Bell);
        assert_eq!(bell.ring(None).await, Woken::Silence);
        assert_eq!(other.ring(None).await, Woken::Bell);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_bell_is_noticed_and_delays_nothing() {
        let (mut bell, ringer) = Bell::by_hand();
        assert_eq!(bell.last_ring(), None);
        drop(ringer);
        let start = Instant::now();
        assert_eq!(bell.ring(Some(start + Duration::from_secs(1))).await, Woken::Due);
        assert!(!bell.is_dead());
        assert_eq!(bell.ring(Some(start + Duration::from_secs(3600))).await, Woken::Silence);
        assert_eq!(start.elapsed(), Duration::from_secs(6));
        assert!(bell.is_dead());
    }

    #[tokio::test]
    async fn the_real_bell_rings_about_every_second() {
        let mut bell = Bell::start().await.unwrap();
        for _ in 0..2 {
            assert_eq!(bell.ring(None).await, Woken::Bell);
        }
        assert!(bell.last_ring().is_some() && !bell.is_dead());
    }
}
