//! The scheduler's tick: the one file that knows tokio-cron-scheduler.
//!
//! One UTC job every second notifies whoever waits, and no more: what is due is computed from schedules and
//! ledger by those who wake up, so a lost or a doubled tick changes nothing. Between ticks
//! [`Ticker::tick`] also wakes at a given instant, because the crate looks at its jobs every 500 ms only
//! and would start runs 0.3 s late. A waiter that gets no tick for [`DEAD_AFTER`] wakes all the same, so
//! that a dead scheduler (its clock went back an hour, its task panicked) delays nothing. A scheduler that
//! stops ticking is restarted; if that does not help, the pulse shows it.
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

/// Without a tick for this long, the ticker counts as dead: five ticks lost.
pub const DEAD_AFTER: Duration = Duration::from_secs(5);

/// Without a tick for this long, the scheduler is restarted: the crate computes its next tick from
/// the wall clock and waits for it, for an hour if that was set back by an hour. With
/// [`POLL_INTERVAL`] it ticks again well before it would count as dead.
const RESTART_AFTER: Duration = Duration::from_secs(2);

/// Between two looks of the supervisor at the last tick.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Every second. Six fields, seconds first; UTC, which knows no clock change.
const EVERY_SECOND: &str = "* * * * * *";

/// Why a waiter woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The scheduler ticked.
    Tick,
    /// The instant asked for has come.
    Due,
    /// Neither within [`DEAD_AFTER`]: the scheduler is dead; step all the same.
    Silence,
}

/// Waits for ticks. Clones wait on their own and share the one scheduler.
#[derive(Clone)]
pub struct Ticker {
    ticks: watch::Receiver<Instant>,
    made_at: Instant,
    beat: watch::Receiver<Beat>,
    /// Keeps the crate's tasks; `None` for a ticker that is ticked by hand.
    _supervisor: Option<Arc<AbortOnDropHandle<()>>>,
}

/// Ticks by hand: simulations, where the crate's real-time loop can't be used.
#[derive(Clone, Debug)]
pub struct ManualTicker(Arc<Source>);

/// Where ticks come from.
#[derive(Debug)]
struct Source {
    ticks: watch::Sender<Instant>,
    pulse: Pulse,
    clock: Option<Arc<dyn Clock>>,
}

impl ManualTicker {
    /// Ticks now.
    pub fn tick(&self) {
        self.0.ticks.send_replace(Instant::now());
        if let Some(clock) = &self.0.clock {
            self.0.pulse.begin(&**clock);
            self.0.pulse.end(&**clock, None);
        }
    }

    fn silent_for(&self) -> Duration {
        self.0.ticks.borrow().elapsed()
    }
}

impl std::fmt::Debug for Ticker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticker").field("last_tick", &self.last_tick()).finish_non_exhaustive()
    }
}

impl Ticker {
    /// Makes the job and starts the crate's scheduler on the current runtime.
    ///
    /// # Errors
    /// What the crate says; its in-memory storage does not fail in practice.
    pub async fn start(clock: Arc<dyn Clock>) -> Result<Self, JobSchedulerError> {
        let (ticker, source) = Self::with_source(Some(clock));
        let scheduler = start_scheduler(&source).await?;
        let supervisor = AbortOnDropHandle::new(tokio::spawn(supervise(scheduler, source)));
        Ok(Self { _supervisor: Some(Arc::new(supervisor)), ..ticker })
    }

    /// A ticker that ticks only when its other half is told to; never, if that is dropped.
    #[must_use]
    pub fn manual() -> (Self, ManualTicker) {
        Self::with_source(None)
    }

    fn with_source(clock: Option<Arc<dyn Clock>>) -> (Self, ManualTicker) {
        let made_at = Instant::now();
        let (sender, ticks) = watch::channel(made_at);
        let pulse = Pulse::default();
        let beat = pulse.subscribe();
        let source = ManualTicker(Arc::new(Source { ticks: sender, pulse, clock }));
        (Self { ticks, made_at, beat, _supervisor: None }, source)
    }

    /// When it last ticked, as the other loops publish it.
    #[must_use]
    pub fn pulse(&self) -> watch::Receiver<Beat> {
        self.beat.clone()
    }

    /// Waits for the next tick, or for `due` if that comes first. Ticks that came while nobody waited
    /// count as one.
    pub async fn tick(&mut self, due: Option<Instant>) -> Woken {
        let silence = Instant::now() + DEAD_AFTER;
        let (deadline, at_deadline) = match due {
            Some(due) if due <= silence => (due, Woken::Due),
            Some(_) | None => (silence, Woken::Silence),
        };
        match tokio::time::timeout_at(deadline, self.ticks.changed()).await {
            Ok(Ok(())) => Woken::Tick,
            // The source is gone: without this wait the caller's loop would spin.
            Ok(Err(_)) => {
                tokio::time::sleep_until(deadline).await;
                at_deadline
            }
            Err(_) => at_deadline,
        }
    }

    /// When it last ticked; `None`: not yet.
    #[must_use]
    pub fn last_tick(&self) -> Option<Instant> {
        let last = *self.ticks.borrow();
        (last != self.made_at).then_some(last)
    }

    /// No tick for [`DEAD_AFTER`], counted from its making if it never ticked.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.ticks.borrow().elapsed() > DEAD_AFTER
    }
}

/// One scheduler with its one job.
async fn start_scheduler(source: &ManualTicker) -> Result<JobScheduler, JobSchedulerError> {
    let source = source.clone();
    let scheduler = JobScheduler::new().await?;
    scheduler.add(Job::new(EVERY_SECOND, move |_, _| source.tick())?).await?;
    scheduler.start().await?;
    Ok(scheduler)
}

/// Restarts the scheduler whenever it has stopped ticking.
async fn supervise(mut scheduler: JobScheduler, source: ManualTicker) {
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        if source.silent_for() < RESTART_AFTER {
            continue;
        }
        // The old one may start to tick again: a doubled tick changes nothing.
        let _ = scheduler.shutdown().await;
        match start_scheduler(&source).await {
            Ok(new) => {
                tracing::warn!("scheduler tick stopped; scheduler restarted");
                scheduler = new;
            }
            Err(error) => {
                tracing::error!(%error, "scheduler tick stopped; the scheduler can't be restarted");
            }
        }
    }
}
