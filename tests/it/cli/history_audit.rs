//! `lookout history`, `runs show` and `audit`: what was, and the proof that nothing is missing.

use chrono::TimeDelta;
use lookout::alert::outbox::{NewDelivery, Outbox, Outcome as Sending};
use lookout::app::open_state::OpenState;
use lookout::cli::audit;
use lookout::cli::output::{Format, Style};
use lookout::cli::{history, runs};
use lookout::rundir::{Entry, Event, Stream};
use lookout::watch::audit::{Outcome, Report};
use lookout::watch::history::{History, SlotFilter, SlotRow};
use lookout::watch::{IncidentKind, Verdict};

use crate::past::{Past, at, fault, schedule, zone};

const NOW: &str = "2026-11-22T11:48:00Z";
const FROM: &str = "2026-11-22T05:00:00Z";

async fn report(past: &Past) -> Report {
    let reading = OpenState::of(&past.db, std::path::PathBuf::new());
    reading.audit(at(FROM), at(NOW), at(NOW)).await.unwrap()
}

/// Good runs at 05:00, 06:00 and 08:00; the one at 07:00 did not start, and an incident says so.
async fn a_morning_with_a_missed_run() -> Past {
    let past = Past::new();
    let hourly = schedule("image-review", "0 * * * *", zone("Europe/Berlin"));
    for due in ["2026-11-22T05:00:00Z", "2026-11-22T06:00:00Z"] {
        past.judged(&hourly, due, 44, Verdict::Completed, "", &[("succeeded", 90)]).await;
    }
    let missed = vec![fault("image-review", IncidentKind::RunMissed)];
    let reason = "not started within 2 min";
    past.not_run(&hourly, "2026-11-22T07:00:00Z", Verdict::Missed, reason, missed).await;
    past.judged(&hourly, "2026-11-22T08:00:00Z", 40, Verdict::Completed, "", &[]).await;
    past
}

/// Hands the first news to a channel and lets the delivery come to this.
async fn distributed(past: &Past, came_to: Option<Sending>) {
    let now = at("2026-11-22T07:02:01Z");
    let news = past.db.undistributed().await.unwrap().remove(0);
    let delivery = NewDelivery::new(&news, "team-slack", "", now);
    let id = delivery.id.clone();
    past.db.distribute(news.id, vec![delivery], now).await.unwrap();
    if let Some(outcome) = came_to {
        past.db.claim(&id, &[]).await.unwrap();
        past.db.settle(&id, &outcome, now).await.unwrap();
    }
}

#[tokio::test]
async fn an_audit_is_clean_when_the_bad_run_was_told() {
    let past = a_morning_with_a_missed_run().await;
    distributed(&past, Some(Sending::Sent)).await;
    let report = report(&past).await;
    assert!(report.ok, "{:?}", report.problems);
    assert_eq!(
        (report.n_slots, report.verdicts["completed"], report.verdicts["missed"]),
        (4, 3, 1)
    );
    assert_eq!(report.bad[0].outcome, Outcome::Delivered);
    let mut out = Vec::new();
    audit::print(&report, Format::Text(Style::Plain), &mut out).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap());
}

/// The last line for people.
fn conclusion(report: &Report) -> String {
    let mut out = Vec::new();
    audit::print(report, Format::Text(Style::Plain), &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().last().unwrap().to_owned()
}

#[tokio::test]
async fn an_audit_fails_when_a_message_was_given_up_or_no_channel_takes_it() {
    let past = a_morning_with_a_missed_run().await;
    let reason = "Slack refused: 404".to_owned();
    distributed(&past, Some(Sending::Dead { reason })).await;
    let given_up = report(&past).await;
    assert!(!given_up.ok && given_up.problems[0].what.contains("404"), "{given_up:?}");
    assert_eq!(given_up.bad[0].outcome, Outcome::DeadLettered);
    assert!(given_up.bad[0].detail.contains("404"), "{:?}", given_up.bad[0]);
    assert!(conclusion(&given_up).contains("gave up"), "{}", conclusion(&given_up));

    let past = a_morning_with_a_missed_run().await;
    let news = past.db.undistributed().await.unwrap().remove(0);
    past.db.distribute(news.id, Vec::new(), at(NOW)).await.unwrap();
    let unwanted = report(&past).await;
    assert!(!unwanted.ok && unwanted.problems[0].what.contains("nobody"), "{unwanted:?}");
    assert_eq!(unwanted.bad[0].outcome, Outcome::Suppressed);
    assert!(conclusion(&unwanted).contains("no channel takes it"), "{}", conclusion(&unwanted));
}

#[tokio::test]
async fn what_became_of_an_old_message_is_not_guessed() {
    let past = a_morning_with_a_missed_run().await;
    distributed(&past, Some(Sending::Sent)).await;
    let later = at(NOW) + TimeDelta::days(91);
    past.db.prune(later - TimeDelta::days(90)).await.unwrap();
    let reading = OpenState::of(&past.db, std::path::PathBuf::new());
    let report = reading.audit(at(FROM), at(NOW), later).await.unwrap();
    assert_eq!(report.bad[0].outcome, Outcome::Forgotten, "{:?}", report.bad[0]);
}

#[tokio::test]
async fn an_audit_fails_while_a_message_has_not_gone_out() {
    let past = a_morning_with_a_missed_run().await;
    let fresh = report(&past).await;
    assert!(!fresh.ok && fresh.problems[0].what.contains("not yet handed"), "{fresh:?}");
    distributed(&past, None).await;
    let waiting = report(&past).await;
    assert!(!waiting.ok && waiting.problems[0].what.contains("team-slack"), "{waiting:?}");
}

#[tokio::test]
async fn an_audit_finds_lost_slots_missing_verdicts_and_untold_faults() {
    let past = Past::new();
    let hourly = schedule("image-review", "0 * * * *", zone("UTC"));
    past.judged(&hourly, "2026-11-22T05:00:00Z", 44, Verdict::Failed, "exit code 1", &[]).await;
    past.judged(&hourly, "2026-11-22T08:00:00Z", 44, Verdict::Completed, "", &[]).await;
    past.planned(&hourly, "2026-11-22T09:00:00Z").await;
    past.planned(&hourly, "2026-11-22T10:00:00Z").await;
    past.planned(&hourly, "2026-11-22T11:00:00Z").await;
    let report = report(&past).await;
    assert!(!report.ok);
    let found: Vec<(String, &str)> = report
        .problems
        .iter()
        .map(|missing| {
            let what = missing.what.split(',').next().unwrap();
            (missing.due_at.format("%H").to_string(), what)
        })
        .collect();
    let expected = [
        ("05", "failed: no incident was open when it was judged"),
        ("06", "was never written down"),
        ("07", "was never written down"),
        ("09", "has no verdict"),
        ("10", "has no verdict"),
    ];
    assert_eq!(found, expected.map(|(hour, what)| (hour.to_owned(), what)));
    assert_eq!(report.n_open, 3, "the one at 11:00 still has its time");
}

async fn slots(past: &Past) -> Vec<SlotRow> {
    past.db.slots(SlotFilter::default()).await.unwrap()
}

#[tokio::test]
async fn history_shows_verdicts_with_utc_and_local_time_and_the_reason() {
    let past = a_morning_with_a_missed_run().await;
    let slots = slots(&past).await;
    let mut out = Vec::new();
    history::print(&slots, at(NOW), Format::Text(Style::Plain), &mut out).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap());
    let mut out = Vec::new();
    history::print(&slots, at(NOW), Format::Json, &mut out).unwrap();
    let printed: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(printed[1]["verdict"], "missed");
    assert_eq!(printed[1]["due_at"], "2026-11-22T07:00:00Z");
    assert_eq!(printed[1]["findings"], serde_json::json!([]));
}

#[tokio::test]
async fn a_run_is_shown_with_what_its_keeper_saw_and_its_output() {
    let past = Past::new();
    let hourly = schedule("image-review", "0 * * * *", zone("Europe/Berlin"));
    let reason = "exit code 1, with the signal";
    past.judged(&hourly, "2026-11-22T10:00:00Z", 2, Verdict::Failed, reason, &[]).await;
    let entry = |seconds: u64, event: Event| Entry {
        at: at("2026-11-22T10:00:00Z") + TimeDelta::seconds(seconds as i64),
        boot_ms: 1_000_000 + seconds * 1000,
        event,
    };
    let shown = runs::Shown {
        slot: slots(&past).await.remove(0),
        evidence: vec![
            entry(0, Event::Note { text: "hello \u{1b}[31m".to_owned() }),
            entry(1, Event::Activity { bytes: 10 }),
            entry(2, Event::Activity { bytes: 20 }),
            entry(119, Event::Signal { stream: Stream::Stdout, offset: 12 }),
            entry(120, Event::Exited { code: Some(1), signal: None }),
        ],
        log: Some(runs::KeptOutput {
            head: "first line\n".to_owned(),
            dropped_bytes: 7,
            tail: "last line\n".to_owned(),
        }),
    };
    let mut out = Vec::new();
    runs::print(&shown, at(NOW), Format::Text(Style::Plain), &mut out).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_audit_owes_nothing_for_the_time_in_which_a_schedule_was_off_changed_or_paused() {
    use crate::guard::scripts::good;
    use crate::guard::{World, epoch, hourly};
    use lookout::run::ledger::Request;
    use lookout::schedule::{Cadence, Schedule, ScheduleName};
    let hour = std::time::Duration::from_secs(3600);
    // 00:30: not there yet. 02:30: there. 04:30: off. 06:30: on again, at another minute. 08:30: paused.
    let mut world = World::new(vec![], |_| good(600));
    world.run_for(hour * 2).await;
    world.configure(vec![hourly("review")]);
    world.run_for(hour * 2).await;
    world.configure(vec![]);
    world.run_for(hour * 2).await;
    let later = Schedule { cadence: Cadence::Cron("45 * * * *".into()), ..hourly("review") };
    world.configure(vec![later]);
    world.run_for(hour * 2).await;
    world
        .ask(Request::Pause {
            schedule: ScheduleName::new("review"),
            reason: "moving".into(),
            until: None,
        })
        .await;
    world.run_for(hour * 2).await;
    let now = epoch() + TimeDelta::hours(10);
    let reading = OpenState::of(&world.db, std::path::PathBuf::new());
    let report = reading.audit(epoch(), now, now).await.unwrap();
    assert!(report.ok, "{:#?}", report.problems);
    // 03:00, 04:00 · 06:45, 07:45 · 08:45, 09:45 (skipped).
    assert_eq!((report.n_expected, report.n_slots), (6, 6));
    assert_eq!(report.verdicts, [("completed", 4), ("skipped", 2)].into());
}
