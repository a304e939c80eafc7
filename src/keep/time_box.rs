//! The time box: what is due now, and when to ask again. Pure; it touches no process.
//!
//! All times are readings of the boot clock, so a machine that slept through a box does not get a
//! second one. The caller asks again at least every second: timers stand still in suspend.
//! Invariant: wind-down, stop and kill come in this order, each at most once.

use std::time::Duration;

use crate::rundir::{Order, StopReason};

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Tell the job that nothing new may be begun.
    WindDown,
    /// SIGTERM to the tree.
    Stop(StopReason),
    /// SIGKILL to the tree.
    Kill,
    /// Nothing before this reading of the boot clock.
    Nothing {
        /// When to ask again at the latest; `None`: nothing will ever be due.
        until: Option<Duration>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Working,
    WindingDown,
    Stopping { since: Duration },
    Killed,
}

/// The limits of one run and how far it is.
#[derive(Clone, Debug)]
pub(super) struct TimeBox {
    box_end: Duration,
    grace_end: Duration,
    kill_grace: Duration,
    stall_after: Option<Duration>,
    phase: Phase,
    asked: bool,
}

impl TimeBox {
    /// The box counts from `started`.
    pub(super) fn new(order: &Order, started: Duration) -> Self {
        let box_end = started.saturating_add(order.time_box);
        Self {
            box_end,
            grace_end: box_end.saturating_add(order.signal_grace),
            kill_grace: order.kill_grace,
            stall_after: order.stop_when_stalled.as_ref().map(|stall| stall.after),
            phase: Phase::Working,
            asked: false,
        }
    }

    /// A person or the daemon wants the job stopped.
    pub(super) fn ask_to_stop(&mut self) {
        self.asked = true;
    }

    /// When the box ends.
    pub(super) fn box_end(&self) -> Duration {
        self.box_end
    }

    /// Says what is due and takes it for done: the caller does it at once.
    pub(super) fn due(&mut self, now: Duration, last_activity: Duration) -> Due {
        match self.phase {
            Phase::Working | Phase::WindingDown => {
                // A job that was asked to end has its whole grace, with or without output.
                let stall_after = self.stall_after.filter(|_| self.phase == Phase::Working);
                let stalled_at = stall_after.map(|after| last_activity.saturating_add(after));
                if let Some(reason) = self.reason_to_stop(now, stalled_at) {
                    self.phase = Phase::Stopping { since: now };
                    return Due::Stop(reason);
                }
                if self.phase == Phase::Working && now >= self.box_end {
                    self.phase = Phase::WindingDown;
                    return Due::WindDown;
                }
                let next = if self.phase == Phase::Working { self.box_end } else { self.grace_end };
                Due::Nothing { until: Some(stalled_at.map_or(next, |at| at.min(next))) }
            }
            Phase::Stopping { since } => {
                let kill_at = since.saturating_add(self.kill_grace);
                if now >= kill_at {
                    self.phase = Phase::Killed;
                    return Due::Kill;
                }
                Due::Nothing { until: Some(kill_at) }
            }
            Phase::Killed => Due::Nothing { until: None },
        }
    }

    /// Whether the job was asked to wind down or is being stopped.
    pub(super) fn is_ending(&self) -> bool {
        self.phase != Phase::Working
    }

    /// Whether the tree is being stopped.
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping { .. } | Phase::Killed)
    }

    /// A request first, then the box: after a long suspend both box and stall are over, and
    /// the box is what people set.
    fn reason_to_stop(&self, now: Duration, stalled_at: Option<Duration>) -> Option<StopReason> {
        if self.asked {
            Some(StopReason::Asked)
        } else if now >= self.grace_end {
            Some(StopReason::TimedOut)
        } else if stalled_at.is_some_and(|at| now >= at) {
            Some(StopReason::Stalled)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rundir::Stall;
    use crate::rundir::tests::order;

    const S: fn(u64) -> Duration = Duration::from_secs;

    /// Started at 1000; box 45 min, grace 5 min, kill grace 10 s.
    fn time_box(stall: Option<Stall>) -> TimeBox {
        let mut order = order("run");
        order.stop_when_stalled = stall;
        TimeBox::new(&order, S(1000))
    }

    #[test]
    fn a_job_is_wound_down_then_stopped_then_killed_each_at_its_second() {
        let mut time_box = time_box(None);
        let box_end = S(1000 + 45 * 60);
        assert_eq!(time_box.due(S(1000), S(1000)), Due::Nothing { until: Some(box_end) });
        let before = box_end - Duration::from_millis(1);
        assert_eq!(time_box.due(before, before), Due::Nothing { until: Some(box_end) });
        assert_eq!(time_box.due(box_end, box_end), Due::WindDown);
        let grace_end = box_end + S(300);
        assert_eq!(time_box.due(box_end, box_end), Due::Nothing { until: Some(grace_end) });
        assert_eq!(time_box.due(grace_end, box_end), Due::Stop(StopReason::TimedOut));
        assert!(time_box.is_stopping());
        let kill_at = grace_end + S(10);
        assert_eq!(time_box.due(grace_end, box_end), Due::Nothing { until: Some(kill_at) });
        assert_eq!(time_box.due(kill_at, box_end), Due::Kill);
        assert_eq!(time_box.due(kill_at + S(99), box_end), Due::Nothing { until: None });
    }

    #[test]
    fn a_machine_that_slept_through_box_and_grace_stops_the_job_once() {
        let mut time_box = time_box(Some(Stall { after: S(600), on_progress: false }));
        let awake = S(1000 + 2 * 3600);
        assert_eq!(time_box.due(awake, S(1010)), Due::Stop(StopReason::TimedOut));
        assert_eq!(
            time_box.due(awake + S(1), S(1010)),
            Due::Nothing { until: Some(awake + S(10)) }
        );
    }

    #[test]
    fn a_stalled_job_is_stopped_only_if_the_schedule_says_so() {
        let mut asked_for = time_box(Some(Stall { after: S(600), on_progress: false }));
        assert_eq!(asked_for.due(S(1300), S(1200)), Due::Nothing { until: Some(S(1800)) });
        assert_eq!(asked_for.due(S(1800), S(1200)), Due::Stop(StopReason::Stalled));
        let mut not_asked_for = time_box(None);
        assert!(matches!(not_asked_for.due(S(1800), S(1000)), Due::Nothing { .. }));
    }

    #[test]
    fn a_job_that_winds_down_in_silence_has_its_whole_grace() {
        let mut time_box = time_box(Some(Stall { after: S(60), on_progress: false }));
        let box_end = S(1000 + 45 * 60);
        assert_eq!(time_box.due(box_end, box_end), Due::WindDown);
        let grace_end = box_end + S(300);
        let quiet = time_box.due(box_end + S(299), box_end);
        assert_eq!(quiet, Due::Nothing { until: Some(grace_end) });
        assert_eq!(time_box.due(grace_end, box_end), Due::Stop(StopReason::TimedOut));
    }

    #[test]
    fn who_asks_is_obeyed_at_any_time_before_the_stop() {
        let mut time_box = time_box(None);
        time_box.ask_to_stop();
        assert_eq!(time_box.due(S(1001), S(1001)), Due::Stop(StopReason::Asked));
        time_box.ask_to_stop();
        assert_eq!(time_box.due(S(1011), S(1001)), Due::Kill);
    }
}
