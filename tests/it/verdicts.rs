//! What becomes of a slot, and who hears of it: one story a fate.

use std::time::Duration;

use lookout::run::ledger::Ledger;
use lookout::rundir::Event;
use lookout::watch::incidents::Incidents;
use lookout::watch::{Change, INCIDENT_KINDS, IncidentKind, Severity, Verdict};

use crate::guard::fused::Fuse;
use crate::guard::scripts::{
    Script, dying, empty, exited, failing, fault, full_box, good, hanging, hanging_with_its_keeper,
    not_startable, outage, refused, secs, signal, stopped_for_a_stall, totals, without_signal,
};
use crate::guard::{World, hourly};

const HOUR: Duration = Duration::from_secs(3600);

/// The first hour goes like this, all later ones well.
fn first(script: Script) -> World {
    let first = crate::guard::epoch() + chrono::TimeDelta::minutes(30);
    World::new(vec![hourly("review")], move |slot| {
        if slot.due_at == first { script.clone() } else { good(1200) }
    })
}

#[tokio::test(start_paused = true)]
async fn good_runs_are_silent() {
    for script in [good(1200), full_box(), empty()] {
        let mut world = first(script);
        world.run_for(HOUR * 3).await;
        assert_eq!(world.verdicts().await, vec![Verdict::Completed; 3]);
        assert_eq!(world.told(), vec![]);
    }
}

#[tokio::test(start_paused = true)]
async fn each_bad_end_opens_one_incident_and_the_next_good_run_resolves_it() {
    use IncidentKind::{ProviderUnavailable, RunFailed, RunMissed, RunStalled, RunTimedOut};
    for (script, verdict, kind) in [
        (without_signal(600), Verdict::NoSignal, IncidentKind::SignalMissing),
        (failing(600, 1), Verdict::Failed, RunFailed),
        (good(600).with(599, exited(3)), Verdict::Completed, RunFailed),
        (hanging(), Verdict::TimedOut, RunTimedOut),
        (hanging_with_its_keeper(), Verdict::TimedOut, RunTimedOut),
        (stopped_for_a_stall(), Verdict::Stalled, RunStalled),
        (dying(700), Verdict::Interrupted, RunFailed),
        (not_startable(), Verdict::Missed, RunMissed),
        (refused(), Verdict::Missed, RunMissed),
        (outage(), Verdict::Failed, ProviderUnavailable),
    ] {
        let name = format!("{script:?}");
        let mut world = first(script);
        world.run_for(HOUR * 2 + HOUR / 2).await;
        if verdict == Verdict::Completed {
            // The control: its own exit came last.
            assert_eq!(world.told(), vec![], "{name}");
            continue;
        }
        assert_eq!(world.verdicts().await, vec![verdict, Verdict::Completed], "{name}");
        let expected = vec![(kind, Change::Opened), (kind, Change::Resolved)];
        // What is critical is reminded of after an hour, just before the next run is over.
        let mut told = world.told();
        told.retain(|(_, change)| *change != Change::Reminder);
        assert_eq!(told, expected, "{name}");
        assert!(world.keepers.overlaps().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_run_has_timed_out_also_if_we_die_while_we_kill_it_or_the_disk_is_full() {
    let crashes = (0..6).flat_map(|n| [Fuse::Before(n), Fuse::After(n)]);
    for fuse in crashes.chain([Fuse::Full, Fuse::Busy]) {
        let mut world = first(hanging_with_its_keeper());
        // Up to its last second: box, grace, kill grace.
        world.run_for(HOUR / 2 + secs(50 * 60 + 10)).await;
        assert_eq!(world.verdicts().await, vec![], "{fuse:?}");
        world.store.set(fuse);
        world.run_for(secs(120)).await;
        world.store.set(Fuse::None);
        world.run_for(secs(120)).await;
        let slots = world.slots().await;
        assert_eq!(slots[0].verdict, Some(Verdict::TimedOut), "{fuse:?}: {:?}", slots[0].reason);
        assert_eq!(slots[0].findings, ["its keeper did not react and was stopped"], "{fuse:?}");
        assert!(world.db.open_runs().await.unwrap().is_empty(), "{fuse:?}: it was not killed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_without_a_signal_is_judged_at_its_exit_with_all_that_a_message_needs() {
    let mut world = first(without_signal(600));
    world.run_for(HOUR / 2 + secs(601)).await;
    let news = world.news.pop().unwrap();
    assert_eq!(news.incident.kind, IncidentKind::SignalMissing);
    assert_eq!(news.incident.severity, Severity::Critical);
    assert_eq!(news.incident.key, "prod/review/signal_missing");
    let facts = news.facts;
    let due = crate::guard::epoch() + chrono::TimeDelta::minutes(30);
    assert_eq!(facts.due_at, Some(due));
    assert_eq!(facts.next_due_at, Some(due + chrono::TimeDelta::hours(1)));
    assert_eq!(facts.started_at, Some(due));
    assert_eq!(facts.ended_at, Some(due + chrono::TimeDelta::seconds(600)));
    assert_eq!(facts.ending.as_deref(), Some("exit code 0"));
    assert_eq!(facts.signal.as_deref(), Some("Bulk processing completed."));
    assert_eq!(facts.timezone.as_deref(), Some("UTC"));
    assert_eq!(facts.log_tail, vec!["the last line"]);
    assert_eq!(facts.verdict, Some(Verdict::NoSignal));
}

#[tokio::test(start_paused = true)]
async fn a_signal_and_a_bad_exit_are_a_failure_with_both_facts() {
    let script = Script {
        events: vec![
            (secs(60), signal()),
            (secs(61), exited(1)),
            (secs(61), crate::guard::scripts::ended()),
        ],
        ..Script::default()
    };
    let mut world = first(script);
    world.run_for(HOUR).await;
    let slot = &world.slots().await[0];
    assert_eq!(slot.verdict, Some(Verdict::Failed));
    assert_eq!(slot.findings, vec!["signalled, but ended with an error"]);
    assert_eq!(slot.reason.as_deref(), Some("exit code 1"));
}

#[tokio::test(start_paused = true)]
async fn a_signal_after_the_verdict_is_attached_and_does_not_serve_the_next_slot() {
    let late = hanging().with(3001 + 5, signal());
    let mut world = first(late);
    world.run_for(HOUR * 2).await;
    let slots = world.slots().await;
    assert_eq!(slots[0].verdict, Some(Verdict::TimedOut));
    assert!(
        slots[0].findings.iter().any(|finding| finding.starts_with("signalled late")),
        "{:?}",
        slots[0].findings
    );
    assert_eq!(slots[1].verdict, Some(Verdict::Completed));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_signalled_and_had_to_be_stopped_says_both() {
    let mut world = first(hanging().with(2699, signal()));
    world.run_for(HOUR * 2).await;
    let slot = &world.slots().await[0];
    assert_eq!(slot.verdict, Some(Verdict::TimedOut));
    assert!(slot.findings.contains(&"signalled, but had to be stopped".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_held_pipe_is_a_finding_of_a_good_run() {
    let script = Script {
        events: vec![
            (secs(60), signal()),
            (secs(61), exited(0)),
            (secs(63), Event::PipeHeld),
            (secs(63), Event::Swept { n_processes: 1 }),
            (secs(63), crate::guard::scripts::ended()),
        ],
        ..Script::default()
    };
    let mut world = first(script);
    world.run_for(HOUR).await;
    let slot = &world.slots().await[0];
    assert_eq!(slot.verdict, Some(Verdict::Completed));
    assert_eq!(
        slot.findings,
        vec!["something held its output open after it had ended", "left 1 processes behind"]
    );
    assert_eq!(world.told(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_told_while_it_lasts_and_resolved_by_progress() {
    let script = Script {
        events: vec![
            (secs(900), crate::guard::scripts::progress(5)),
            (secs(901), signal()),
            (secs(902), exited(0)),
            (secs(902), crate::guard::scripts::ended()),
        ],
        ..Script::default()
    };
    let mut world = first(script);
    world.run_for(HOUR / 2 + secs(605)).await;
    world.run_for(secs(60)).await;
    let stalled = IncidentKind::RunStalled;
    assert_eq!(world.told(), vec![(stalled, Change::Opened)]);
    world.run_for(HOUR / 4).await;
    assert_eq!(world.told(), vec![(stalled, Change::Opened), (stalled, Change::Resolved)]);
    assert_eq!(world.verdicts().await, vec![Verdict::Completed]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_takes_in_the_end_of_its_run_and_never_says_503() {
    let mut world = first(outage());
    world.run_for(HOUR).await;
    let kind = IncidentKind::ProviderUnavailable;
    assert_eq!(world.told(), vec![(kind, Change::Opened)]);
    let facts = &world.news[0].facts;
    assert_eq!(facts.provider.as_deref(), Some("gemini"));
    assert_eq!(facts.status, None);
    assert_eq!(facts.detail.as_deref(), Some("tcp handshaker shutdown"));
    assert!(facts.faults.unwrap() >= 5);
    let also = &world.db.open_incidents().await.unwrap()[0].facts.also;
    assert!(also[0].starts_with("the 01:00 UTC run failed: exit code 75"), "{also:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_ends_inside_the_run_is_told_twice_and_the_run_is_good() {
    let mut script = good(1800);
    for n in 0..17 {
        script = script.with(60 + n * 30, fault(Some(503), n + 1, n + 1));
    }
    let recovered = Event::Recovered { kind: "provider_unavailable".into() };
    let mut world = first(script.with(600, recovered));
    world.run_for(HOUR).await;
    let kind = IncidentKind::ProviderUnavailable;
    assert_eq!(world.told(), vec![(kind, Change::Opened), (kind, Change::Resolved)]);
    assert_eq!(world.news[0].facts.status, Some(503));
    assert_eq!(world.verdicts().await, vec![Verdict::Completed]);
}

#[tokio::test(start_paused = true)]
async fn single_faults_among_many_calls_are_no_incident() {
    let mut script = good(1800);
    for n in 0..100 {
        script = script.with(10 + n * 17, fault(Some(503), n + 1, (n + 1) * 20));
    }
    let mut world = first(script);
    world.run_for(HOUR).await;
    assert_eq!(world.told(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_critical_at_once() {
    let refusal = Event::Problem {
        kind: "credentials_rejected".into(),
        provider: Some("gemini".into()),
        status: Some(400),
        count: 1,
        calls: None,
        detail: "API key not valid".into(),
        title: None,
        action: None,
    };
    let mut world = first(failing(10, 1).with(5, refusal));
    world.run_for(HOUR / 2 + secs(5)).await;
    assert_eq!(world.told(), vec![(IncidentKind::CredentialsRejected, Change::Opened)]);
    assert_eq!(world.news[0].incident.severity, Severity::Critical);
    world.run_for(HOUR * 3 / 2).await;
    let changes: Vec<Change> = world.news.iter().map(|news| news.change).collect();
    assert_eq!(changes, vec![Change::Opened, Change::Reminder, Change::Resolved]);
}

#[tokio::test(start_paused = true)]
async fn many_image_errors_are_an_incident_of_a_good_run() {
    let counts = totals(&[("succeeded", 180), ("errored", 19), ("blocked", 1), ("remaining", 0)]);
    let script = Script {
        events: vec![
            (secs(60), counts),
            (secs(61), signal()),
            (secs(61), exited(0)),
            (secs(62), crate::guard::scripts::ended()),
        ],
        ..Script::default()
    };
    let mut world = first(script);
    world.run_for(HOUR).await;
    assert_eq!(world.told(), vec![(IncidentKind::ImageErrors, Change::Opened)]);
    assert_eq!(world.verdicts().await, vec![Verdict::Completed]);
    world.run_for(HOUR).await;
    assert_eq!(world.told().len(), 2, "the next good run resolves it");
}

#[tokio::test(start_paused = true)]
async fn the_incident_of_a_schedule_that_is_removed_is_closed_and_says_so() {
    let mut world = World::new(vec![hourly("review"), hourly("other")], |slot| {
        if slot.schedule.as_str() == "review" { failing(60, 1) } else { good(60) }
    });
    world.run_for(HOUR).await;
    let kind = IncidentKind::RunFailed;
    assert_eq!(world.told(), [(kind, Change::Opened)]);
    world.configure(vec![hourly("other")]);
    world.run_for(HOUR * 30).await;
    assert_eq!(world.told(), [(kind, Change::Opened), (kind, Change::Resolved)], "no reminder");
    let withdrawn = world.news[1].facts.withdrawn.as_deref();
    assert_eq!(withdrawn, Some("was removed or switched off"));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_evidence_can_not_be_read_is_told_and_does_not_hold_up_the_next() {
    for script in [good(1200), hanging(), hanging_with_its_keeper()] {
        let mut world = first(Script { is_unreadable: true, ..script });
        world.run_for(HOUR * 2).await;
        assert_eq!(world.verdicts().await, vec![Verdict::Interrupted, Verdict::Completed]);
        let kind = IncidentKind::RunFailed;
        assert_eq!(world.told(), vec![(kind, Change::Opened), (kind, Change::Resolved)]);
        let detail = world.news[0].facts.detail.clone().unwrap_or_default();
        assert!(detail.contains("permission denied"), "{detail}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_pattern_may_say_is_told_also_of_a_run_that_ends_with_its_signal() {
    let mut kinds = vec![IncidentKind::RunFailed.as_str(), "failure"];
    kinds.extend(
        INCIDENT_KINDS.iter().filter(|kind| kind.is_for_jobs_to_say()).map(|kind| kind.as_str()),
    );
    assert!(kinds.len() > 6, "{kinds:?}");
    for kind in kinds {
        let said = Event::Problem {
            kind: kind.to_owned(),
            provider: None,
            status: None,
            count: 5,
            calls: None,
            detail: "FATAL: what the job printed".to_owned(),
            title: None,
            action: None,
        };
        let script = Script {
            events: vec![
                (secs(60), said),
                (secs(61), signal()),
                (secs(61), exited(0)),
                (secs(62), crate::guard::scripts::ended()),
            ],
            ..Script::default()
        };
        let mut world = first(script);
        world.run_for(HOUR).await;
        let expected = IncidentKind::parse(kind).unwrap_or(IncidentKind::RunFailed);
        assert_eq!(world.told().first(), Some(&(expected, Change::Opened)), "{kind}");
        let facts = &world.news[0].facts;
        let detail = facts.detail.as_deref().unwrap_or_default();
        assert!(detail.contains("what the job printed"), "{kind}: {facts:?}");
        world.run_for(HOUR).await;
        assert_eq!(world.told().last(), Some(&(expected, Change::Resolved)), "{kind}");
        assert_eq!(world.told().len(), 2, "{kind}: {:?}", world.told());
    }
}

#[tokio::test(start_paused = true)]
async fn work_waiting_and_nothing_done_is_no_success() {
    let script = Script {
        events: vec![
            (secs(60), totals(&[("remaining", 7)])),
            (secs(61), signal()),
            (secs(61), exited(0)),
            (secs(62), crate::guard::scripts::ended()),
        ],
        ..Script::default()
    };
    let mut world = first(script);
    world.run_for(HOUR).await;
    assert_eq!(world.verdicts().await, vec![Verdict::Failed]);
    let reason = world.slots().await[0].reason.clone().unwrap();
    assert_eq!(reason, "nothing was done, although 7 were waiting");
}

#[tokio::test(start_paused = true)]
async fn the_same_fault_hour_after_hour_is_one_incident_that_rises_and_is_reminded_of() {
    let mut world = World::new(vec![hourly("review")], |_| failing(60, 1));
    world.run_for(HOUR * 30).await;
    let kind = IncidentKind::RunFailed;
    let changes: Vec<Change> = world.news.iter().map(|news| news.change).collect();
    assert!(world.news.iter().all(|news| news.incident.kind == kind));
    // 01:01 opened, 02:01 critical, reminders 1 h and 4 h after that, then a day later.
    assert_eq!(
        changes,
        vec![Change::Opened, Change::Raised, Change::Reminder, Change::Reminder, Change::Reminder]
    );
    assert_eq!(world.incidents().await.len(), 1);
    assert_eq!(world.incidents().await[0].runs_affected, 30);
}

#[tokio::test(start_paused = true)]
async fn what_a_person_has_taken_is_not_reminded_of_but_its_end_is_told() {
    let bad_until = crate::guard::epoch() + chrono::TimeDelta::hours(10);
    let mut world = World::new(vec![hourly("review")], move |slot| {
        if slot.due_at < bad_until { failing(60, 1) } else { good(60) }
    });
    world.run_for(HOUR * 2).await;
    let incident = world.incidents().await[0].id;
    let request = lookout::run::ledger::Request::Ack { incident };
    assert_eq!(world.ask(request).await, lookout::run::ledger::Answer::Done);
    world.run_for(HOUR * 12).await;
    let changes: Vec<Change> = world.news.iter().map(|news| news.change).collect();
    assert_eq!(changes, vec![Change::Opened, Change::Raised, Change::Resolved]);
}
