//! Waits until something is due: the end of the box, a request to stop, a stall.
//!
//! One for commands and HTTP jobs alike; what is done then is theirs.
//! Invariant: looks at the boot clock several times a second, so that a suspend, in which timers
//! stand still, delays nothing by more than that.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::output_observer::OutputObserver;
use super::time_box::{Due, TimeBox};
use crate::process::ProcessIdentity;
use crate::rundir::directory::RunDirectory;
use crate::rundir::{Event, Order};

/// How often the clock and the request to stop are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Both clocks are read one after the other, and a machine may be busy in between.
const MIN_REPORTED_SLEEP: Duration = Duration::from_secs(5);

/// The time box of a run and everybody who may end it early.
#[derive(Debug)]
pub(super) struct Control {
    directory: RunDirectory,
    observer: Arc<OutputObserver>,
    time_box: TimeBox,
    terminate: Signal,
    box_ends_at: DateTime<Utc>,
    grace_ends_at: DateTime<Utc>,
    sleep: Sleep,
}

/// How much further the boot clock went than timers did: the machine slept.
#[derive(Debug)]
struct Sleep {
    boot: Duration,
    timer: Instant,
    reported: Duration,
}

impl Sleep {
    fn since(boot: Duration) -> Self {
        Self { boot, timer: Instant::now(), reported: Duration::ZERO }
    }

    /// How long the machine slept in all, if that is more than was reported.
    fn more(&mut self, boot: Duration) -> Option<Duration> {
        let slept = boot.saturating_sub(self.boot).saturating_sub(self.timer.elapsed());
        if slept < self.reported + MIN_REPORTED_SLEEP {
            return None;
        }
        self.reported = slept;
        Some(slept)
    }
}

/// Signals that end other processes but not a keeper: a closed terminal, Ctrl-C.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    /// As long as these are held, the process does not die of them; its job, started by `exec`,
    /// has the usual ones again.
    _ignored: Vec<Signal>,
}

impl Signals {
    /// From now on this process ends by itself only.
    ///
    /// # Errors
    /// When the runtime can't take a signal.
    pub(super) fn take() -> std::io::Result<Self> {
        let ignored = [
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ];
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            _ignored: ignored.into_iter().map(signal).collect::<Result<_, _>>()?,
        })
    }
}

impl Control {
    /// The box begins now.
    pub(super) fn new(
        order: &Order,
        directory: RunDirectory,
        observer: Arc<OutputObserver>,
        signals: Signals,
    ) -> Self {
        let (now, boot) = (observer.clock().now(), observer.now());
        let later = |by: Duration| now + TimeDelta::from_std(by).unwrap_or_default();
        Self {
            time_box: TimeBox::new(order, boot),
            directory,
            observer,
            terminate: signals.terminate,
            box_ends_at: later(order.time_box),
            grace_ends_at: later(order.time_box.saturating_add(order.signal_grace)),
            sleep: Sleep::since(boot),
        }
    }

    /// Writes that the job runs.
    pub(super) fn job_started(&self, job: Option<ProcessIdentity>) {
        let (box_ends_at, grace_ends_at) = (self.box_ends_at, self.grace_ends_at);
        self.observer.moved();
        self.observer.record(Event::JobStarted { job, box_ends_at, grace_ends_at });
    }

    /// Where the run's files are.
    pub(super) fn directory(&self) -> &RunDirectory {
        &self.directory
    }

    /// When the box ends, wall time as planned.
    pub(super) fn box_ends_at(&self) -> DateTime<Utc> {
        self.box_ends_at
    }

    /// When the grace ends.
    pub(super) fn grace_ends_at(&self) -> DateTime<Utc> {
        self.grace_ends_at
    }

    /// Whether the tree is being stopped.
    pub(super) fn is_stopping(&self) -> bool {
        self.time_box.is_stopping()
    }

    /// Whether the job was asked to wind down or is being stopped.
    pub(super) fn is_ending(&self) -> bool {
        self.time_box.is_ending()
    }

    /// Whether nothing new may be begun.
    pub(super) fn is_box_over(&self) -> bool {
        self.is_stopping() || self.observer.now() >= self.time_box.box_end()
    }

    /// Waits until something is due and says what; the caller does it. May be dropped and called
    /// again at any time.
    pub(super) async fn next_due(&mut self) -> Due {
        loop {
            self.observer.tick();
            if self.directory.stop_requested() {
                self.time_box.ask_to_stop();
            }
            let now = self.observer.now();
            if let Some(slept) = self.sleep.more(now) {
                self.observer.record(Event::Slept { seconds: slept.as_secs() });
            }
            let due = self.time_box.due(now, self.observer.last_moved());
            let Due::Nothing { until } = due else { return due };
            let wait = until.map_or(POLL_INTERVAL, |at| at.saturating_sub(now).min(POLL_INTERVAL));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                received = self.terminate.recv() => {
                    if received.is_some() {
                        self.time_box.ask_to_stop();
                    }
                }
            }
        }
    }
}
