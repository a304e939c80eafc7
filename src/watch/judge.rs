//! The verdict: what the evidence of one run means.
//!
//! Pure: the configuration the run started with, what was seen, and what time it is. Nothing here
//! waits, writes or tells anybody.
//! Invariant: the same evidence gives the same verdict, however often and however late it is read.

use std::time::Duration;

use super::findings::Finding;
use super::observed::{Exit, Observed};
use super::{Verdict, faults, words};
use crate::run::keeper::Presence;
use crate::rundir::{CallOutcome, StopReason};
use crate::schedule::{Job, Schedule};

/// From a claim near its deadline to the job's start: the keeper is a process that has to come up
/// on a busy machine.
pub const KEEPER_STARTS_WITHIN: Duration = Duration::from_secs(30);

/// Beyond box, grace and kill grace: by then the keeper has had its time to notice and write.
pub const KEEPER_ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Linux numbers of the signals that a wind-down may send by default (`signal(7)`).
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// `EX_TEMPFAIL`: the job gave up because somebody else was down.
pub const EXIT_TRY_LATER: i32 = 75;

/// A decision about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, for people.
    pub reason: String,
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Running(Movement),
    /// It goes on, but should have been over; the watchdog stops it itself.
    Overdue,
    /// The slot has its verdict.
    Over(Decision),
}

/// Whether something moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Movement {
    /// Yes.
    Moving,
    /// Nothing for `stall_after`.
    Stalled,
    /// The job was told to end, or has ended: silence is no stall, and a last word no movement.
    Ending,
}

/// What the judge looks at.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The configuration the run started with.
    pub schedule: &'a Schedule,
    /// What was seen.
    pub observed: &'a Observed,
    /// Whether its keeper is there.
    pub keeper: Presence,
    /// Why the keeper could not be started.
    pub start_error: Option<&'a str>,
    /// Whether the time in which the job had to start is over, with [`KEEPER_STARTS_WITHIN`].
    pub start: StartWindow,
    /// Boot time now.
    pub boot: Duration,
}

/// Whether a job may still start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartWindow {
    /// It may.
    Open,
    /// It is too late.
    Over,
}

/// Judges a run.
#[must_use]
pub fn judge(case: Case<'_>) -> State {
    let observed = case.observed;
    if observed.started.is_none() {
        return not_started(&case).map_or(State::Running(Movement::Moving), State::Over);
    }
    if let Some((_, reason)) = observed.stopping
        && let Some(decision) = stopped(case.schedule, observed, reason)
    {
        return State::Over(decision);
    }
    if observed.ended.is_some() || case.keeper == Presence::Gone {
        return State::Over(ended(case.schedule, observed));
    }
    let Some(started) = observed.started else { return State::Running(Movement::Moving) };
    if case.boot.saturating_sub(started.boot) > all_limits(case.schedule) {
        return State::Overdue;
    }
    State::Running(movement(&case))
}

fn movement(case: &Case<'_>) -> Movement {
    let observed = case.observed;
    if observed.is_asked_to_end() || observed.exit.is_some() {
        return Movement::Ending;
    }
    match observed.moved(case.schedule.stall_on) {
        Some(moved) if case.boot.saturating_sub(moved.boot) >= case.schedule.stall_after => {
            Movement::Stalled
        }
        Some(_) | None => Movement::Moving,
    }
}

/// What becomes of a run whose evidence can't be read and has not been for so long; `None`: wait.
#[must_use]
pub fn unreadable(
    schedule: &Schedule,
    keeper: Option<Presence>,
    lasts: Duration,
    error: &str,
) -> Option<Decision> {
    let limit = match keeper {
        Some(Presence::Gone) => KEEPER_ENDS_WITHIN,
        // It holds its job to the limits, whether we can read of it or not.
        Some(Presence::Alive) | None => all_limits(schedule),
    };
    (lasts > limit).then(|| Decision {
        verdict: Verdict::Interrupted,
        reason: format!("nobody knows how it went: its evidence can't be read ({error})"),
    })
}

/// Box, graces, and the keeper's time to notice and write.
fn all_limits(schedule: &Schedule) -> Duration {
    schedule.time_box + schedule.signal_grace + schedule.kill_grace + KEEPER_ENDS_WITHIN
}

/// The run of a keeper that was stopped from outside because it was overdue.
#[must_use]
pub fn overdue() -> Decision {
    Decision {
        verdict: Verdict::TimedOut,
        reason: "still there after box and grace, and its keeper did not stop it".to_owned(),
    }
}

fn not_started(case: &Case<'_>) -> Option<Decision> {
    let missed = |reason: String| Some(Decision { verdict: Verdict::Missed, reason });
    if let Some(error) = &case.observed.could_not_start {
        return missed(format!("could not start: {error}"));
    }
    if let Some(error) = case.start_error {
        return missed(format!("could not start: {error}"));
    }
    if case.observed.ended.is_some() {
        return missed("its keeper ended before the job was started".to_owned());
    }
    match case.start {
        StartWindow::Over => missed("not started in time".to_owned()),
        // Also without a keeper: the conductor may still start one.
        StartWindow::Open => None,
    }
}

/// A tree that the keeper stopped. The verdict is certain at once, except on request: a job that
/// was asked to go may still end well.
fn stopped(schedule: &Schedule, observed: &Observed, reason: StopReason) -> Option<Decision> {
    let signalled = if observed.signal.is_some() { ", although it had signalled" } else { "" };
    match reason {
        StopReason::TimedOut => Some(Decision {
            verdict: Verdict::TimedOut,
            reason: format!(
                "still running after box and grace{}, and stopped{signalled}",
                asleep(observed)
            ),
        }),
        StopReason::Stalled => Some(Decision {
            verdict: Verdict::Stalled,
            reason: format!(
                "nothing moved for {} s, and stopped{signalled}",
                schedule.stall_after.as_secs()
            ),
        }),
        StopReason::Asked => observed.ended.map(|_| {
            let ended = ended(schedule, observed);
            match ended.verdict {
                Verdict::Completed => ended,
                Verdict::NoSignal
                | Verdict::Failed
                | Verdict::TimedOut
                | Verdict::Stalled
                | Verdict::Interrupted
                | Verdict::Missed
                | Verdict::Skipped
                | Verdict::Unobserved => {
                    Decision { verdict: Verdict::Failed, reason: "stopped on request".to_owned() }
                }
            }
        }),
    }
}

/// A machine that sleeps uses up box and grace; who wonders where they went is told.
fn asleep(observed: &Observed) -> String {
    if observed.slept.is_zero() {
        return String::new();
    }
    format!(" (the machine was asleep for {} of it)", words::duration(observed.slept))
}

/// The four pieces of evidence that a good run needs. All of them, or it is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// The job started, and in time.
    pub start: Held,
    /// Its main process ended with 0, or its last call was answered as it should.
    pub exit: Held,
    /// The completion text came.
    pub signal: Held,
    /// Something was done, or there was nothing to do.
    pub work: Held,
}

/// Whether a piece of evidence is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is.
    Yes,
    /// It is not.
    No,
}

impl From<bool> for Held {
    fn from(held: bool) -> Self {
        if held { Self::Yes } else { Self::No }
    }
}

/// The verdict that goes with the evidence; the first missing piece decides.
#[must_use]
pub fn verdict_of(quorum: Quorum) -> Verdict {
    match (quorum.start, quorum.exit, quorum.signal, quorum.work) {
        (Held::No, _, _, _) => Verdict::Missed,
        (Held::Yes, Held::No, _, _) => Verdict::Failed,
        (Held::Yes, Held::Yes, Held::No, _) => Verdict::NoSignal,
        (Held::Yes, Held::Yes, Held::Yes, Held::No) => Verdict::Failed,
        (Held::Yes, Held::Yes, Held::Yes, Held::Yes) => Verdict::Completed,
    }
}

/// A run that ended by itself, or whose keeper is gone.
fn ended(schedule: &Schedule, observed: &Observed) -> Decision {
    let Some(exit) = observed.exit else { return interrupted(observed) };
    if was_wound_down_without_signal(schedule, observed, exit) {
        return Decision {
            verdict: Verdict::TimedOut,
            reason: "told to wind down at the box's end, it ended without its signal".to_owned(),
        };
    }
    let answered = Answered::of(schedule, observed, exit);
    let nothing_done = observed.nothing_done().is_some();
    let verdict = verdict_of(Quorum {
        start: observed.started.is_some().into(),
        exit: answered.exit,
        signal: answered.signal,
        work: (!nothing_done).into(),
    });
    let reason = match verdict {
        Verdict::Completed => "in time, without an error, with its signal".to_owned(),
        Verdict::NoSignal => format!("ended without saying \"{}\"", schedule.signal),
        Verdict::Failed if answered.exit == Held::Yes => nothing_done_reason(observed),
        Verdict::Failed
        | Verdict::TimedOut
        | Verdict::Stalled
        | Verdict::Interrupted
        | Verdict::Missed
        | Verdict::Skipped
        | Verdict::Unobserved => failure_reason(observed, exit),
    };
    Decision { verdict, reason }
}

/// Whether the last evidence is an end as it should be, by the job's sort.
struct Answered {
    exit: Held,
    signal: Held,
}

impl Answered {
    fn of(schedule: &Schedule, observed: &Observed, exit: Exit) -> Self {
        let signalled = observed.signal.is_some();
        let no_failure = observed.failure.is_none();
        match &schedule.job {
            Job::Review { .. } | Job::Command(_) => {
                // Told to go after its signal, a program may well end by that very request.
                let by_wind_down =
                    signalled && observed.box_ended.is_some() && is_request(schedule, exit);
                let good_exit = exit.code == Some(0) || by_wind_down;
                Self { exit: (good_exit && no_failure).into(), signal: signalled.into() }
            }
            Job::Http(_) => match observed.last_call.as_ref().map(|call| call.outcome) {
                Some(CallOutcome::Signal | CallOutcome::Idle) => {
                    Self { exit: no_failure.into(), signal: Held::Yes }
                }
                Some(CallOutcome::Other) => Self { exit: no_failure.into(), signal: Held::No },
                Some(CallOutcome::Failed | CallOutcome::TimedOut) | None => {
                    Self { exit: Held::No, signal: signalled.into() }
                }
            },
        }
    }
}

/// Ended by the signal that asks to wind down, or by a handler of it that ends the way shells and
/// most runtimes report such an end: 128 and the signal's number.
fn is_request(schedule: &Schedule, exit: Exit) -> bool {
    let asked_by = match &schedule.job {
        Job::Command(command) => number_of(&command.stop_signal),
        Job::Review { .. } | Job::Http(_) => None,
    };
    let Some(ended_by) = exit.signal.or_else(|| exit.code.map(|code| code - 128)) else {
        return false;
    };
    // People and service managers ask with these, whatever the schedule says.
    [Some(SIGTERM), Some(SIGINT), asked_by].contains(&Some(ended_by))
}

/// The number of a stop signal; `None`: nobody is asked with it.
fn number_of(name: &str) -> Option<i32> {
    let names =
        [("HUP", 1), ("INT", SIGINT), ("QUIT", 3), ("USR1", 10), ("USR2", 12), ("TERM", SIGTERM)];
    let name = name.trim_start_matches("SIG");
    names.into_iter().find(|(known, _)| *known == name).map(|(_, number)| number)
}

fn was_wound_down_without_signal(schedule: &Schedule, observed: &Observed, exit: Exit) -> bool {
    let by_process = !matches!(schedule.job, Job::Http(_));
    by_process
        && observed.box_ended.is_some()
        && observed.signal.is_none()
        && is_request(schedule, exit)
}

fn interrupted(observed: &Observed) -> Decision {
    let said = if observed.signal.is_some() { " (it had signalled)" } else { "" };
    Decision {
        verdict: Verdict::Interrupted,
        reason: format!("its processes were gone before it was over{said}"),
    }
}

/// `exit code 1`, `killed by signal 9`, `HTTP 500`; `None` while it runs.
#[must_use]
pub fn ending(observed: &Observed) -> Option<String> {
    let exit = observed.exit?;
    match (exit.code, exit.signal, &observed.last_call) {
        (_, _, Some(call)) => Some(match (call.outcome, call.status) {
            (CallOutcome::TimedOut, _) => "no answer in time".to_owned(),
            (_, Some(status)) => format!("HTTP {status}"),
            (_, None) => "no answer".to_owned(),
        }),
        (Some(code), _, None) => Some(format!("exit code {code}")),
        (None, Some(signal), None) => Some(format!("killed by signal {signal}")),
        (None, None, None) => None,
    }
}

fn failure_reason(observed: &Observed, exit: Exit) -> String {
    if let Some(failure) = &observed.failure {
        return failure.clone();
    }
    let ending = ending(observed).unwrap_or_else(|| "ended".to_owned());
    if exit.code == Some(EXIT_TRY_LATER) {
        return format!("{ending}: it gave up, because what it needs is unavailable");
    }
    match &observed.last_call {
        Some(call) if !call.detail.is_empty() => format!("{ending}: {}", call.detail),
        Some(_) | None => ending,
    }
}

fn nothing_done_reason(observed: &Observed) -> String {
    let remaining = observed.nothing_done().unwrap_or(0);
    Finding::NothingDone { remaining }.to_string()
}

/// Whether a run's end says that somebody else was the cause: the kind, worst first. A run that
/// went well has none, unless the trouble is still there.
#[must_use]
pub fn cause_of(observed: &Observed, boot: Duration) -> Option<super::IncidentKind> {
    faults::CAUSES.into_iter().find(|kind| {
        observed.faults.of(*kind).is_some_and(|fault| {
            match fault.standing(fault.last.source, boot) {
                faults::Standing::Open => true,
                faults::Standing::Noise => fault.is_most_of_the_calls(),
                faults::Standing::Recovered => false,
            }
        })
    })
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
