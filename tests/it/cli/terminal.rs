//! What a person sees on a terminal of 80 columns: nothing is broken by it, nothing untrue is said.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lookout::cli::output::{Colours, Format, Style};
use lookout::cli::{history, next, status};
use lookout::clock::Clock;
use lookout::run::ledger::{Ledger, Pause};
use lookout::schedule::ScheduleName;
use lookout::watch::history::{History, SlotFilter};
use lookout::watch::{IncidentKind, Verdict};
use lookout::web::status::{FromSigns, Process, PulseState, Sources, Status, collect};

use crate::past::{Past, at, schedule, zone};

const NOW: &str = "2026-11-22T11:48:00Z";
const TERMINAL: Format = Format::Text(Style::Terminal { colours: Colours::Off, columns: 80 });

#[derive(Debug)]
struct Fixed(DateTime<Utc>);

impl Clock for Fixed {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }

    fn boot(&self) -> Duration {
        Duration::ZERO
    }
}

fn text(print: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    assert!(longest <= 80, "{longest} columns:\n{text}");
    text
}

async fn a_morning() -> Past {
    let past = Past::new();
    let hourly = schedule("image-review", "0 * * * *", zone("Europe/Berlin"));
    let counts = [("succeeded", 166), ("errored", 8), ("parked", 12)];
    let due = "2026-11-22T10:00:00Z";
    past.judged(&hourly, due, 44, Verdict::Completed, "", &counts).await;
    let reason = "ended without its completion message, after an hour in which the bucket answered \
                  503 to every second request and the queue did not get any shorter";
    let due = "2026-11-22T11:00:00Z";
    past.judged(&hourly, due, 40, Verdict::NoSignal, reason, &[]).await;
    past.fault("image-review", IncidentKind::SignalMissing, "2026-11-22T11:40:00Z").await;
    past
}

async fn status_of(
    past: &Past,
    pauses: &[(&str, Option<DateTime<Utc>>)],
    process: Process,
) -> Status {
    for (name, until) in pauses {
        past.db
            .pause(&Pause {
                schedule: ScheduleName::new(*name),
                reason: "moving the bucket".into(),
                until: *until,
                paused_at: at(NOW),
            })
            .await
            .unwrap();
    }
    let sources = Sources {
        instance: "test".into(),
        ledger: past.db.clone(),
        history: past.db.clone(),
        clock: Arc::new(Fixed(at(NOW))),
    };
    let schedules = vec![
        schedule("image-review", "0 * * * *", zone("Europe/Berlin")),
        schedule("nightly-export", "30 2 * * MON", zone("America/New_York")),
    ];
    let daemon = FromSigns::read(&sources, schedules, Vec::new(), process).await.unwrap();
    collect(&sources, &daemon).await.unwrap()
}

#[tokio::test]
async fn status_fits_into_80_columns() {
    let past = a_morning().await;
    let status = status_of(&past, &[], Process::Absent).await;
    let shown = text(|out| status::print(&status, TERMINAL, out));
    for part in ["never started", "in 12 min (13:00 CET)", "nightly-export", "48 min ago"] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
}

#[tokio::test]
async fn images_that_are_marked_and_picked_up_by_no_run_are_counted_in_status() {
    let past = a_morning().await;
    let status = status_of(&past, &[], Process::Present).await;
    let shown = text(|out| status::print(&status, TERMINAL, out));
    assert!(shown.contains("12 images are marked for a rerun"), "{shown}");
}

#[tokio::test]
async fn history_fits_into_80_columns_and_shows_what_came_of_each_run() {
    let past = a_morning().await;
    let slots = past.db.slots(SlotFilter::default()).await.unwrap();
    let shown = text(|out| history::print(&slots, at(NOW), TERMINAL, out));
    for part in ["22 Nov 10:00", "12:00 CET", "166 reviewed, 8 errors", "shorter"] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
}

#[tokio::test]
async fn a_paused_schedule_is_shown_as_paused_and_no_run_inside_the_pause_is_announced() {
    let past = a_morning().await;
    let until = at(NOW) + TimeDelta::hours(2);
    let pauses = [("image-review", Some(until)), ("nightly-export", None)];
    let status = status_of(&past, &pauses, Process::Present).await;
    let [review, export] = &status.schedules[..] else { panic!("{status:#?}") };
    assert_eq!(review.next_due_at, Some(at("2026-11-22T14:00:00Z")));
    assert_eq!(export.next_due_at, None);
    let shown = text(|out| status::print(&status, TERMINAL, out));
    assert_eq!(shown.matches("paused until").count(), 2, "{shown}");
    assert!(shown.contains("moving the bucket"), "{shown}");

    let pauses: Vec<Pause> = status.schedules.iter().filter_map(|it| it.paused.clone()).collect();
    let schedules: Vec<_> = status.schedules.iter().map(|it| &it.settings).collect();
    let ahead = next::Ahead { schedules: &schedules, pauses: &pauses, number: 3, now: at(NOW) };
    let shown = text(|out| next::print(&ahead, TERMINAL, out));
    assert!(shown.contains("14:00:00") && !shown.contains("12:00:00"), "{shown}");
    assert_eq!(shown.matches("paused until").count(), 2, "{shown}");
    let mut json = Vec::new();
    next::print(&ahead, Format::Json, &mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert!(json.as_array().unwrap().iter().all(|it| it["schedule"] == "image-review"), "{json}");
}

#[tokio::test]
async fn a_daemon_whose_process_is_gone_is_not_called_running_however_fresh_its_last_sign() {
    let past = a_morning().await;
    past.db.seen(lookout::run::ledger::Loop::Conductor, at(NOW)).await.unwrap();
    let gone = status_of(&past, &[], Process::Absent).await;
    assert_eq!(gone.loops[0].state, PulseState::Dead);
    assert!(gone.loops[0].doing.starts_with("not running"), "{:?}", gone.loops);
    let there = status_of(&past, &[], Process::Present).await;
    assert_eq!(
        (there.loops[0].state, there.loops[0].doing.as_str()),
        (PulseState::Alive, "running")
    );
}
