//! The only place that reads the system clock.
//!
//! Everybody else takes a [`Clock`]: wall time for slots and messages, boot time for boxes and
//! graces (it counts suspend, so a laptop that slept through a box does not get a second one).
//! Waiting is not the clock's business: waits go through `tokio::time`.
//! Invariant: a duration is never computed by subtracting two wall times.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// Wall time and boot time.
pub trait Clock: Send + Sync + Debug {
    /// Wall time, UTC. May step in either direction.
    fn now(&self) -> DateTime<Utc>;

    /// Time since the machine started, suspend included (`CLOCK_BOOTTIME`). Never goes back
    /// within one boot; two readings may be subtracted.
    fn boot(&self) -> Duration;
}

/// The real clocks of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one caller of the system clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn boot(&self) -> Duration {
        let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Both parts are non-negative for this clock (clock_gettime(2)).
        Duration::new(u64::try_from(at.tv_sec).unwrap_or(0), u32::try_from(at.tv_nsec).unwrap_or(0))
    }
}

/// A clock that follows `tokio::time`: under paused time wall time, boot time and timers stay in
/// step, so a simulated week takes seconds. Tests and `lookout simulate` use it.
#[derive(Debug)]
pub struct SimClock {
    epoch: DateTime<Utc>,
    started: Instant,
    wall_skew: Mutex<TimeDelta>,
    slept: Mutex<Duration>,
}

impl SimClock {
    /// Starts at `epoch`; must be called inside a tokio runtime.
    #[must_use]
    pub fn new(epoch: DateTime<Utc>) -> Self {
        Self {
            epoch,
            started: Instant::now(),
            wall_skew: Mutex::default(),
            slept: Mutex::default(),
        }
    }

    /// The machine sleeps for so long: wall and boot time go on, timers do not.
    pub fn sleep_machine(&self, time: Duration) {
        *self.slept.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }

    /// Since the start, sleep included.
    fn elapsed(&self) -> Duration {
        self.started.elapsed() + *self.slept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps the wall clock alone, as an administrator or NTP would.
    pub fn step_wall(&self, by: TimeDelta) {
        *self.wall_skew.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        let skew = *self.wall_skew.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = TimeDelta::from_std(self.elapsed()).unwrap_or(TimeDelta::MAX);
        self.epoch + elapsed + skew
    }

    fn boot(&self) -> Duration {
        // An hour of uptime, so that code which subtracts from boot time meets no zero.
        Duration::from_secs(3600) + self.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_wall_clock_leaves_boot_time_alone() {
        let epoch = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let clock = SimClock::new(epoch);
        let boot = clock.boot();
        tokio::time::advance(Duration::from_secs(60)).await;
        clock.step_wall(TimeDelta::hours(3));
        assert_eq!(clock.now(), epoch + TimeDelta::hours(3) + TimeDelta::seconds(60));
        assert_eq!(clock.boot() - boot, Duration::from_secs(60));
    }

    #[test]
    fn the_system_clock_knows_both_times() {
        assert!(SystemClock.now().timestamp() > 1_700_000_000);
        assert!(SystemClock.boot() > Duration::ZERO);
    }
}
