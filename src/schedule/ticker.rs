//! The bell: the one file that knows tokio-cron-scheduler.
//!
//! It is a heartbeat and no more: one UTC job every second whose body notifies whoever listens.
//! What is due is computed from schedules and ledger by those who wake up, so a lost or a double
//! ring changes nothing. Between rings [`Bell::ring`] also wakes at a given instant, because the
//! crate looks at its jobs every 500 ms only and would start runs 0.3 s late; and when the bell
//! has died (its clock went back an hour, its task panicked) it wakes by itself, so that a dead
//! bell delays nothing. A bell that falls silent is cast anew; only one that stays silent in
//! spite of that is dead, and its pulse shows it.
//! Invariant: exactly one job a scheduler, made before that starts and never removed (adding many
//! jobs at once can hang it, and a panic in a job ends that job).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::pulse::{Beat, Pulse};

/// Without a ring for so long, the bell counts as dead: five beats lost.
pub const DEAD_AFTER: Duration = Duration::from_secs(5);

/// Without a ring for so long, the scheduler is made anew: the crate computes its next ring from
/// the wall clock and waits for it, for an hour if that was set back by an hour. With
/// [`LOOK_EVERY`] it rings again well before it would count as dead.
const RECAST_AFTER: Duration = Duration::from_secs(2);

/// How often the keeper of the bell listens for it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    beat: watch::Receiver<Beat>,
    /// Keeps the crate's tasks; `None` for a bell rung by hand.
    _keeper: Option<Arc<AbortOnDropHandle<()>>>,
}

/// Rings a bell by hand: simulations, where the crate's real-time loop can't be used.
#[derive(Clone, Debug)]
pub struct Ringer(Arc<Ringing>);

#[derive(Debug)]
struct Ringing {
    rings: watch::Sender<Instant>,
    pulse: Pulse,
    clock: Option<Arc<dyn Clock>>,
}

impl Ringer {
    /// Rings now.
    pub fn ring(&self) {
        self.0.rings.send_replace(Instant::now());
        if let Some(clock) = &self.0.clock {
            self.0.pulse.begin(&**clock);
            self.0.pulse.end(&**clock, None);
        }
    }

    fn silent_for(&self) -> Duration {
        self.0.rings.borrow().elapsed()
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
    pub async fn start(clock: Arc<dyn Clock>) -> Result<Self, JobSchedulerError> {
        let (bell, ringer) = Self::made(Some(clock));
        let scheduler = cast(&ringer).await?;
        let keeper = AbortOnDropHandle::new(tokio::spawn(keep_ringing(scheduler, ringer)));
        Ok(Self { _keeper: Some(Arc::new(keeper)), ..bell })
    }

    /// A bell that rings only when its ringer is used; never, if the ringer is dropped.
    #[must_use]
    pub fn by_hand() -> (Self, Ringer) {
        Self::made(None)
    }

    fn made(clock: Option<Arc<dyn Clock>>) -> (Self, Ringer) {
        let made_at = Instant::now();
        let (sender, rings) = watch::channel(made_at);
        let pulse = Pulse::default();
        let beat = pulse.subscribe();
        let ringer = Ringer(Arc::new(Ringing { rings: sender, pulse, clock }));
        (Self { rings, made_at, beat, _keeper: None }, ringer)
    }

    /// When it last rang, as the other loops publish it.
    #[must_use]
    pub fn pulse(&self) -> watch::Receiver<Beat> {
        self.beat.clone()
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

/// One scheduler with its one job.
async fn cast(ringer: &Ringer) -> Result<JobScheduler, JobSchedulerError> {
    let ringer = ringer.clone();
    let scheduler = JobScheduler::new().await?;
    scheduler.add(Job::new(EVERY_SECOND, move |_, _| ringer.ring())?).await?;
    scheduler.start().await?;
    Ok(scheduler)
}

/// Makes the scheduler anew whenever it has fallen silent.
async fn keep_ringing(mut scheduler: JobScheduler, ringer: Ringer) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if ringer.silent_for() < RECAST_AFTER {
            continue;
        }
        // The old one may come to itself later: a double ring changes nothing.
        let _ = scheduler.shutdown().await;
        match cast(&ringer).await {
            Ok(new) => {
                tracing::warn!("the bell had fallen silent and was cast anew");
                scheduler = new;
            }
            Err(error) => tracing::error!(%error, "the bell is silent and can't be cast anew"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

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
        let mut bell = Bell::start(Arc::new(SystemClock)).await.unwrap();
        for _ in 0..2 {
            assert_eq!(bell.ring(None).await, Woken::Bell);
        }
        assert!(bell.last_ring().is_some() && !bell.is_dead());
        assert!(bell.pulse().borrow().n_steps >= 2);
    }
}
