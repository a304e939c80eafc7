//! The ordinary life of a review: work through, wind down, limits, budget, two at once.

use std::sync::Arc;
use std::time::Duration;

use lookout::review::pipeline::StopRequest;
use lookout::review::report::{End, Exit};
use lookout::review::settings::BudgetSettings;
use lookout::review::source::SourceError;
use tokio::sync::watch;

use super::world::{World, names, unreadable};

#[tokio::test(start_paused = true)]
async fn an_empty_backlog_completes_with_the_signal() {
    let mut world = World::with(names(0)).await;
    let ran = world.run().await;
    assert_eq!(ran.report.exit(), Exit::Done);
    let signal = ran.report.signal_line(None).unwrap();
    assert!(signal.contains("\"Bulk processing completed.\"") && signal.contains("\"claimed\":0"));
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_reviewed_as_fast_as_the_provider_can() {
    let mut world = World::with(names(400)).await;
    let ran = world.run().await;
    assert_eq!(ran.report.counts.succeeded, 400);
    assert_eq!(ran.report.counts.batches, 4);
    assert_eq!(world.statuses(), [("auto_review_success".to_owned(), 400)].into());
    let row = ("auto_review_success".into(), "H1".into(), "Somebody.".into());
    assert_eq!(world.row("p0123"), row);
    assert_eq!(ran.reviewer.most_at_once(), 8);
    // 400 answers of a second, 8 at once, are 50 s; the provider may not wait for us.
    let elapsed = ran.report.elapsed.as_secs_f64();
    assert!((50.0..51.0).contains(&elapsed), "{elapsed}");
    assert_eq!(ran.report.spent.tries, 400);
    assert!((ran.report.spent.usd.unwrap() - 0.4).abs() < 1e-6);
    assert!(ran.report.signal_line(None).is_some());
    assert_eq!(world.noted("SELECT count(*) FROM claims"), 0);
    assert_eq!(world.noted("SELECT count(*) FROM tries WHERE outcome = 'answered'"), 400);
}

#[tokio::test(start_paused = true)]
async fn a_full_box_ends_with_the_signal_and_with_all_rows_accounted_for() {
    let mut world = World::with(names(1000)).await;
    world.box_lasts = Some(Duration::from_secs(20));
    world.latency = Duration::from_secs(3);
    let ran = world.run().await;
    assert_eq!(ran.report.end, End::BoxFull);
    assert!(ran.report.signal_line(None).is_some(), "{:?}", ran.report);
    let settled = ran.report.counts.succeeded;
    assert!((48..=72).contains(&settled), "{settled}");
    assert_eq!(ran.report.remaining, Some(1000 - settled));
    assert!(ran.report.elapsed < Duration::from_secs(30));
    assert_eq!(world.statuses().get("processing"), None);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_within_the_grace_is_given_back_and_has_lost_no_try() {
    let mut world = World::with(names(20)).await;
    world.box_lasts = Some(Duration::from_secs(20));
    world.latency = Duration::from_secs(3600);
    let ran = world.run().await;
    assert_eq!(ran.report.end, End::BoxFull);
    assert_eq!(ran.report.counts.returned, 20);
    assert!(ran.report.elapsed <= Duration::from_secs(320), "{:?}", ran.report.elapsed);
    assert_eq!(world.statuses(), [("downloaded".to_owned(), 20)].into());
    assert_eq!(world.noted("SELECT count(*) FROM tries WHERE outcome = 'failed'"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wish_winds_down_and_a_second_one_gives_back() {
    let mut world = World::with(names(100)).await;
    world.latency = Duration::from_secs(30);
    let (wish, wishes) = watch::channel(StopRequest::None);
    let asking = async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        wish.send(StopRequest::WindDown).unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        wish.send(StopRequest::Release).unwrap();
    };
    let (ran, ()) = tokio::join!(world.run_with(wishes), asking);
    assert_eq!(ran.report.end, End::BoxFull);
    assert_eq!(ran.report.counts.succeeded, 8);
    assert!(ran.report.elapsed < Duration::from_secs(46));
    assert_eq!(world.statuses()["downloaded"], 92);
    assert!(ran.report.signal_line(None).is_some());
}

#[tokio::test(start_paused = true)]
async fn three_failed_tries_are_an_error_and_the_next_try_carries_the_correction() {
    let mut world = World::with(["good", "broken", "mumbles", "heals"]).await;
    world.provider = Arc::new(|name, n_before, _| match (name, n_before) {
        ("mumbles", _) | ("heals", 0) => Err(unreadable()),
        _ => Ok(super::world::answer()),
    });
    let ran = world.run().await;
    let counts = ran.report.counts;
    assert_eq!((counts.succeeded, counts.errored), (2, 2));
    let (status, category, details) = world.row("broken");
    assert_eq!((status.as_str(), category.as_str()), ("auto_review_error", "auto_review_error"));
    // The same bytes again: the second try is the last.
    assert_eq!(details, "the JPEG is cut off (2 tries; the file has not changed)");
    assert!(world.row("mumbles").2.ends_with(" (3 tries)"), "{}", world.row("mumbles").2);
    assert_eq!(*ran.reviewer.corrections.lock().unwrap(), ["answer in full"; 3]);
    // 30 s and 2 min later.
    let elapsed = ran.report.elapsed.as_secs();
    assert!((150..160).contains(&elapsed), "{elapsed}");
    assert!(ran.report.signal_line(None).is_some());
    assert_eq!(ran.report.reasons["the JPEG is cut off"], 1);
}

#[tokio::test(start_paused = true)]
async fn tries_are_remembered_from_run_to_run() {
    let mut world = World::with(["broken"]).await;
    world.box_lasts = Some(Duration::from_secs(10));
    // The file is the same in the second run, so that is its last try.
    for n_run in 1..=2 {
        let ran = world.run().await;
        assert_eq!(ran.report.counts.errored, u64::from(n_run == 2), "run {n_run}");
        assert!(
            ran.report.elapsed < Duration::from_secs(10),
            "it does not wait for what is too late"
        );
    }
    assert_eq!(world.row("broken").0, "auto_review_error");
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_kept() {
    let mut world = World::with(names(50)).await;
    world.limit = Some(7);
    let ran = world.run().await;
    assert_eq!((ran.report.counts.claimed, ran.report.counts.succeeded), (7, 7));
    assert_eq!(ran.report.remaining, Some(43));
}

#[tokio::test(start_paused = true)]
async fn the_budget_ends_the_run_and_the_rows_go_back() {
    let mut world = World::with(names(100)).await;
    world.usd = Some(0.01);
    world.budget = BudgetSettings { usd_per_run: Some(0.255), usd_per_day: None };
    let ran = world.run().await;
    assert_eq!(ran.report.counts.succeeded, 25);
    assert_eq!(ran.report.exit(), Exit::TryLater);
    assert!(ran.has_line("::lookout::problem kind=quota_exhausted provider=budget"));
    assert_eq!(ran.report.signal_line(None), None);
    assert_eq!(world.statuses()["downloaded"], 75);
    assert_eq!(ran.report.reasons["returned to the queue: out of quota or budget"], 75);
    assert!(world.now().timestamp() > 1_800_000_000);
}

#[tokio::test(start_paused = true)]
async fn missing_pictures_neither_hold_up_nor_use_up_the_budget() {
    let mut world = World::with(names(6)).await;
    world.usd = Some(0.01);
    world.box_lasts = Some(Duration::from_secs(600));
    // Two at a time, and the first two are not there.
    world.budget = BudgetSettings { usd_per_run: Some(0.025), usd_per_day: None };
    world.bucket = Arc::new(|name, _| match name {
        "p0000" | "p0001" => Err(SourceError::Picture("404: not found".into())),
        _ => Ok(()),
    });
    let ran = world.run().await;
    assert_eq!(ran.report.counts.succeeded, 2, "{:?}", ran.report);
    assert!(ran.has_line("::lookout::problem kind=quota_exhausted provider=budget"));
    assert!(ran.report.elapsed < Duration::from_secs(60), "{:?}", ran.report);
    assert_eq!(ran.report.exit(), Exit::TryLater);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_somebody_else_changes_is_left_alone() {
    let mut world = World::with(names(3)).await;
    let path = world.path().join("records.db");
    world.provider = Arc::new(move |name, _, _| {
        if name == "p0001" {
            let connection = rusqlite::Connection::open(&path).unwrap();
            connection
                .execute("UPDATE midbot_images SET review_status = 'mine' WHERE id = 'p0001'", [])
                .unwrap();
        }
        Ok(super::world::answer())
    });
    let ran = world.run().await;
    assert_eq!((ran.report.counts.succeeded, ran.report.counts.lost), (2, 1));
    assert_eq!(world.row("p0001").0, "mine");
    assert!(ran.report.signal_line(None).is_some());
}
