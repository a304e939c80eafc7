//! The judge's rules, one by one and as the whole table.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta};

use super::*;
use crate::process::ProcessIdentity;
use crate::rundir::{Entry, Event, Stream};
use crate::schedule::{
    Cadence, CatchUp, CommandJob, HttpJob, OnStall, Overlap, ScheduleName, StallOn,
};
use crate::watch::findings::{findings, late_findings};

fn schedule() -> Schedule {
    Schedule {
        name: ScheduleName::new("hourly"),
        cadence: Cadence::Cron("0 * * * *".into()),
        timezone: crate::timezone::Zone::utc(),
        jitter: Duration::ZERO,
        start_grace: Duration::from_secs(120),
        time_box: Duration::from_secs(45 * 60),
        signal_grace: Duration::from_secs(300),
        kill_grace: Duration::from_secs(10),
        stall_after: Duration::from_secs(600),
        stall_on: StallOn::Output,
        on_stall: OnStall::Alert,
        signal: "Bulk processing completed.".into(),
        signal_match: crate::schedule::SignalMatch::Text,
        overlap: Overlap::Skip,
        catch_up: CatchUp::Latest,
        notify: Vec::new(),
        patterns: Vec::new(),
        maintenance: Vec::new(),
        image_errors_at_least: 20,
        image_errors_percent: 10,
        job: Job::Command(CommandJob {
            argv: vec!["review".into()],
            cwd: None,
            env: BTreeMap::new(),
            stop_signal: "SIGINT".into(),
            user: None,
        }),
    }
}

fn http() -> Schedule {
    let job = HttpJob {
        method: "POST".into(),
        url: "http://127.0.0.1:8000/bulk_auto_review".into(),
        headers: BTreeMap::new(),
        body: None,
        repeat: true,
        idle: Some("No images found".into()),
        idle_pause: Duration::from_secs(60),
        call_timeout: Duration::from_secs(900),
        max_body: 1 << 20,
    };
    Schedule { job: Job::Http(job), ..schedule() }
}

const BOOT: u64 = 10_000;

fn entry(second: u64, event: Event) -> Entry {
    let epoch = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    Entry {
        at: epoch + TimeDelta::seconds(i64::try_from(second).unwrap()),
        boot_ms: (BOOT + second) * 1000,
        event,
    }
}

fn started() -> Event {
    let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    let job = ProcessIdentity { pid: 4242, start_ticks: 1, boot_id: "this boot".to_owned() };
    Event::JobStarted { job: Some(job), box_ends_at: at, grace_ends_at: at }
}

fn signal() -> Event {
    Event::Signal { stream: Stream::Stdout, offset: 0 }
}

fn exited(code: i32) -> Event {
    Event::Exited { code: Some(code), signal: None }
}

fn killed_by(signal: i32) -> Event {
    Event::Exited { code: None, signal: Some(signal) }
}

fn ended_event() -> Event {
    Event::Ended { bytes: 0, log_dropped_bytes: 0 }
}

fn totals(counts: &[(&str, u64)]) -> Event {
    let counts = counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    Event::Totals { counts, usd: None }
}

fn call(outcome: CallOutcome) -> Event {
    Event::Call { status: Some(200), millis: 1, outcome, detail: "detail".into() }
}

fn observed(entries: &[(u64, Event)]) -> Observed {
    let mut observed = Observed::default();
    for (second, event) in entries {
        observed.take(&entry(*second, event.clone()));
    }
    observed
}

fn state(schedule: &Schedule, observed: &Observed, keeper: Presence, second: u64) -> State {
    judge(Case {
        schedule,
        observed,
        keeper,
        start_error: None,
        start: StartWindow::Open,
        boot: Duration::from_secs(BOOT + second),
    })
}

/// The verdict of a run that goes through these events, second after second.
fn verdict(schedule: &Schedule, events: &[Event]) -> Verdict {
    let entries: Vec<(u64, Event)> = (1..).zip(events.iter().cloned()).collect();
    match state(schedule, &observed(&entries), Presence::Alive, 100) {
        State::Over(decision) => decision.verdict,
        other @ (State::Running(_) | State::Overdue) => panic!("{other:?}"),
    }
}

#[test]
fn all_sixteen_combinations_of_evidence_have_their_verdict() {
    for bits in 0..16 {
        let [start, exit, signal, work] = [1, 2, 4, 8].map(|bit| Held::from(bits & bit != 0));
        let expected = match bits {
            15 => Verdict::Completed,
            _ if bits & 1 == 0 => Verdict::Missed,
            _ if bits & 2 == 0 => Verdict::Failed,
            _ if bits & 4 == 0 => Verdict::NoSignal,
            _ => Verdict::Failed,
        };
        assert_eq!(verdict_of(Quorum { start, exit, signal, work }), expected, "{bits:04b}");
    }
}

#[test]
fn the_same_sixteen_hold_for_a_run_with_such_evidence() {
    for bits in 0..16_u8 {
        let mut events = Vec::new();
        if bits & 1 == 0 {
            events.push(Event::CouldNotStart { error: "no such file".into() });
        } else {
            events.push(started());
        }
        let done = u64::from(bits & 8 != 0);
        events.push(totals(&[("succeeded", done), ("remaining", 7)]));
        if bits & 4 != 0 {
            events.push(signal());
        }
        events.extend([exited(i32::from(bits & 2 == 0)), ended_event()]);
        let [start, exit, signal, work] = [1, 2, 4, 8].map(|bit| Held::from(bits & bit != 0));
        let expected = verdict_of(Quorum { start, exit, signal, work });
        assert_eq!(verdict(&schedule(), &events), expected, "{bits:04b}");
    }
}

#[test]
fn an_empty_hour_is_a_good_run() {
    let events = [started(), totals(&[("remaining", 0)]), signal(), exited(0), ended_event()];
    assert_eq!(verdict(&schedule(), &events), Verdict::Completed);
}

#[test]
fn a_failure_pattern_beats_signal_and_exit() {
    let problem = Event::Problem {
        kind: "failure".into(),
        provider: None,
        status: None,
        count: 1,
        calls: None,
        detail: "Traceback".into(),
        title: None,
        action: None,
    };
    let events = [started(), problem, signal(), exited(0), ended_event()];
    assert_eq!(verdict(&schedule(), &events), Verdict::Failed);
}

#[test]
fn a_command_that_goes_when_told_is_good_only_if_it_signalled() {
    let without = [started(), Event::BoxEnded, killed_by(SIGTERM), ended_event()];
    assert_eq!(verdict(&schedule(), &without), Verdict::TimedOut);
    let with = [started(), signal(), Event::BoxEnded, killed_by(SIGINT), ended_event()];
    assert_eq!(verdict(&schedule(), &with), Verdict::Completed);
    let before_the_box_ended = [started(), signal(), killed_by(SIGTERM), ended_event()];
    assert_eq!(verdict(&schedule(), &before_the_box_ended), Verdict::Failed);
    let exit_0 = [started(), Event::BoxEnded, exited(0), ended_event()];
    assert_eq!(verdict(&schedule(), &exit_0), Verdict::NoSignal);
}

#[test]
fn the_last_batch_may_signal_within_the_grace() {
    let events = [started(), Event::BoxEnded, signal(), exited(0), ended_event()];
    assert_eq!(verdict(&schedule(), &events), Verdict::Completed);
}

#[test]
fn a_run_that_had_to_be_stopped_timed_out_even_if_it_had_signalled() {
    let stopping = Event::Stopping { reason: StopReason::TimedOut };
    let events = [started(), signal(), Event::BoxEnded, stopping];
    assert_eq!(verdict(&schedule(), &events), Verdict::TimedOut);
    let seen = observed(&(1..).zip(events).collect::<Vec<_>>());
    assert_eq!(findings(&seen, Verdict::TimedOut), vec![Finding::SignalledButStopped]);
}

#[test]
fn a_signal_after_the_verdict_is_a_finding() {
    let stopping = Event::Stopping { reason: StopReason::TimedOut };
    let before = observed(&[(1, started()), (5, Event::BoxEnded), (9, stopping)]);
    let mut after = before.clone();
    after.take(&entry(20, signal()));
    after.take(&entry(21, Event::Killed { n_processes: 2 }));
    assert_eq!(
        late_findings(&before, &after, Verdict::TimedOut),
        vec![Finding::SignalledLate, Finding::Killed { n_processes: 2 }]
    );
}

#[test]
fn a_stall_is_seen_after_its_time_and_ends_with_progress() {
    let seen = observed(&[(0, started()), (60, Event::Activity { bytes: 5 })]);
    let at = |second| state(&schedule(), &seen, Presence::Alive, second);
    assert_eq!(at(659), State::Running(Movement::Moving));
    assert_eq!(at(660), State::Running(Movement::Stalled));
}

#[test]
fn after_the_stop_signal_silence_is_no_stall_and_a_last_word_no_movement() {
    let stop = Event::Stopping { reason: StopReason::Asked };
    for told_to_end in [Event::BoxEnded, stop] {
        let mut seen = observed(&[(0, started()), (60, Event::Activity { bytes: 5 })]);
        seen.take(&entry(1000, told_to_end));
        let quiet = state(&schedule(), &seen, Presence::Alive, 1001);
        seen.take(&entry(1002, Event::Activity { bytes: 15 }));
        assert_eq!(
            seen.last_activity.map(|it| it.boot.as_secs()),
            Some(BOOT + 60),
            "its last words"
        );
        let spoke = state(&schedule(), &seen, Presence::Alive, 1003);
        assert_eq!([quiet, spoke], [const { State::Running(Movement::Ending) }; 2]);
    }
}

#[test]
fn output_without_progress_is_a_stall_where_progress_counts() {
    let progress = |done| Event::Progress { done, total: None, unit: "images".into() };
    let strict = Schedule { stall_on: StallOn::Progress, ..schedule() };
    let seen = observed(&[
        (0, started()),
        (10, progress(5)),
        (500, progress(5)),
        (600, Event::Activity { bytes: 9 }),
    ]);
    assert_eq!(state(&strict, &seen, Presence::Alive, 610), State::Running(Movement::Stalled));
    assert_eq!(state(&schedule(), &seen, Presence::Alive, 610), State::Running(Movement::Moving));
}

#[test]
fn a_keeper_that_is_gone_interrupts_unless_the_end_was_seen() {
    let running = observed(&[(0, started())]);
    let State::Over(decision) = state(&schedule(), &running, Presence::Gone, 10) else { panic!() };
    assert_eq!(decision.verdict, Verdict::Interrupted);
    let done = observed(&[(0, started()), (5, signal()), (6, exited(0))]);
    let State::Over(decision) = state(&schedule(), &done, Presence::Gone, 10) else { panic!() };
    assert_eq!(decision.verdict, Verdict::Completed);
}

#[test]
fn a_keeper_that_does_not_stop_its_job_is_overdue_after_all_graces() {
    let running = observed(&[(0, started()), (3000, Event::Activity { bytes: 1 })]);
    let limit = 45 * 60 + 300 + 10 + 30;
    let at = |second| state(&schedule(), &running, Presence::Alive, second);
    assert!(matches!(at(limit), State::Running(_)));
    assert_eq!(at(limit + 1), State::Overdue);
}

#[test]
fn what_did_not_start_is_missed() {
    let case = |observed, start_error, start| {
        judge(Case {
            schedule: &schedule(),
            observed,
            keeper: Presence::Gone,
            start_error,
            start,
            boot: Duration::from_secs(BOOT),
        })
    };
    let nothing = Observed::default();
    assert_eq!(case(&nothing, None, StartWindow::Open), State::Running(Movement::Moving));
    for state in [
        case(&nothing, Some("no such file"), StartWindow::Open),
        case(&nothing, None, StartWindow::Over),
        case(
            &observed(&[(0, Event::CouldNotStart { error: "EAGAIN".into() })]),
            None,
            StartWindow::Open,
        ),
    ] {
        let State::Over(decision) = state else { panic!("{state:?}") };
        assert_eq!(decision.verdict, Verdict::Missed);
    }
}

#[test]
fn a_stop_on_request_is_a_failure_unless_the_run_ended_well() {
    let asked = Event::Stopping { reason: StopReason::Asked };
    let seen = observed(&[(0, started()), (5, asked.clone())]);
    assert_eq!(state(&schedule(), &seen, Presence::Alive, 6), State::Running(Movement::Ending));
    let bad = [started(), asked.clone(), killed_by(SIGTERM), ended_event()];
    assert_eq!(verdict(&schedule(), &bad), Verdict::Failed);
    let good = [started(), asked, signal(), exited(0), ended_event()];
    assert_eq!(verdict(&schedule(), &good), Verdict::Completed);
}

/// As the keeper writes down a failure pattern.
fn failure(detail: &str) -> Event {
    Event::Problem {
        kind: "failure".into(),
        provider: None,
        status: None,
        count: 1,
        calls: None,
        detail: detail.into(),
        title: None,
        action: None,
    }
}

#[test]
fn a_program_that_ends_by_the_signal_it_is_asked_to_stop_with_was_wound_down() {
    let mut asked_by_hup = schedule();
    let Job::Command(command) = &mut asked_by_hup.job else { panic!() };
    command.stop_signal = "SIGHUP".into();
    let by_hup = [started(), Event::BoxEnded, killed_by(1), ended_event()];
    assert_eq!(verdict(&asked_by_hup, &by_hup), Verdict::TimedOut);
    assert_eq!(verdict(&schedule(), &by_hup), Verdict::Failed, "nobody asked with that signal");
    let signalled = [started(), signal(), Event::BoxEnded, killed_by(1), ended_event()];
    assert_eq!(verdict(&asked_by_hup, &signalled), Verdict::Completed);
    // What a shell, Node.js or Java make of it.
    let by_handler = [started(), signal(), Event::BoxEnded, exited(143), ended_event()];
    assert_eq!(verdict(&schedule(), &by_handler), Verdict::Completed);
    let by_handler = [started(), Event::BoxEnded, exited(143), ended_event()];
    assert_eq!(verdict(&schedule(), &by_handler), Verdict::TimedOut);
    let by_itself = [started(), signal(), exited(143), ended_event()];
    assert_eq!(verdict(&schedule(), &by_itself), Verdict::Failed);
}

#[test]
fn the_last_call_decides_about_an_http_job() {
    let gone = Event::Exited { code: None, signal: None };
    for (calls, expected) in [
        (vec![call(CallOutcome::Signal)], Verdict::Completed),
        (vec![call(CallOutcome::Failed), call(CallOutcome::Signal)], Verdict::Completed),
        (vec![call(CallOutcome::Signal), call(CallOutcome::Idle)], Verdict::Completed),
        (vec![call(CallOutcome::Signal), call(CallOutcome::Other)], Verdict::NoSignal),
        (vec![call(CallOutcome::Signal), call(CallOutcome::Failed)], Verdict::Failed),
        (vec![call(CallOutcome::TimedOut)], Verdict::Failed),
        (vec![], Verdict::Failed),
    ] {
        let mut events = vec![started()];
        for call in &calls {
            let is_failure = matches!(call, Event::Call { outcome: CallOutcome::Failed, .. });
            events.extend(is_failure.then(|| failure("answered 502")));
            events.push(call.clone());
            // A fault that no pattern explains is told after the call.
            events.extend(is_failure.then(|| failure("answered 502")));
        }
        events.extend([gone.clone(), ended_event()]);
        assert_eq!(verdict(&http(), &events), expected, "{calls:?}");
    }
}

#[test]
fn giving_up_for_an_outage_names_the_cause() {
    let problem = Event::Problem {
        kind: "provider_unavailable".into(),
        provider: Some("gemini".into()),
        status: None,
        count: 9,
        calls: Some(9),
        detail: "tcp handshaker shutdown".into(),
        title: None,
        action: None,
    };
    let entries: Vec<(u64, Event)> =
        (1..).zip([started(), problem, exited(75), ended_event()]).collect();
    let seen = observed(&entries);
    let boot = Duration::from_secs(BOOT + 10);
    assert_eq!(cause_of(&seen, boot), Some(crate::watch::IncidentKind::ProviderUnavailable));
}
