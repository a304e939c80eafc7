//! What goes wrong outside: the provider, one picture, the bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lookout::review::report::{End, Exit};
use lookout::review::reviewer::{Fault, RefusalCause};
use lookout::review::source::SourceError;

use super::world::{Bucket, World, answer, names, refused, unavailable};

/// A bucket that serves so many pictures and then none.
pub(super) fn refuses_after(n: u32) -> Arc<Bucket> {
    let n_asked = AtomicU32::new(0);
    Arc::new(move |_, _| match n_asked.fetch_add(1, Ordering::Relaxed) {
        before if before < n => Ok(()),
        _ => Err(SourceError::Refused("403: access denied".into())),
    })
}

#[tokio::test(start_paused = true)]
async fn the_last_pictures_of_a_run_may_be_missing_without_an_outage() {
    let mut world = World::with(names(45)).await;
    // A job of which nothing is left, after others.
    world.bucket = Arc::new(|name, _| match name {
        name if name >= "p0040" => Err(SourceError::Picture("404: not found".into())),
        _ => Ok(()),
    });
    let ran = world.run().await;
    let counts = ran.report.counts;
    assert_eq!((counts.succeeded, counts.errored), (40, 5), "{:?}", ran.report);
    assert!(ran.report.signal_line(None).is_some());
    assert!(!ran.has_line("::lookout::problem kind=images_unavailable"), "{:?}", ran.lines);
}

#[tokio::test(start_paused = true)]
async fn an_outage_uses_up_no_try_and_ends_with_try_later() {
    let mut world = World::with(names(100)).await;
    world.provider = Arc::new(|_, _, _| Err(unavailable(Some(503))));
    let ran = world.run().await;
    assert_eq!(ran.report.exit(), Exit::TryLater);
    assert!(matches!(ran.report.end, End::GaveUp { kind: "provider_unavailable", .. }));
    assert!((600..640).contains(&ran.report.elapsed.as_secs()), "{:?}", ran.report.elapsed);
    assert_eq!(world.statuses(), [("downloaded".to_owned(), 100)].into());
    assert_eq!(
        world.noted("SELECT count(*) FROM tries WHERE outcome IN ('failed','own_fault')"),
        0
    );
    assert!(
        ran.has_line("::lookout::problem kind=provider_unavailable provider=gemini status=503")
    );
    assert_eq!(ran.report.signal_line(None), None);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_eight_minutes_is_sat_out() {
    let mut world = World::with(names(100)).await;
    world.provider = Arc::new(|_, _, seconds| match seconds {
        5..485 => Err(unavailable(None)),
        _ => Ok(answer()),
    });
    let ran = world.run().await;
    assert_eq!(ran.report.counts.succeeded, 100, "{:?}", ran.report);
    assert!(ran.report.signal_line(None).is_some());
    assert!(ran.has_line("::lookout::problem kind=provider_unavailable"));
    assert!(ran.has_line("::lookout::recovered kind=provider_unavailable"));
    assert_eq!(world.noted("SELECT count(*) FROM tries WHERE outcome = 'failed'"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_picture_that_always_draws_a_500_is_an_error_and_no_outage() {
    for place in [0, 99] {
        let mut world = World::with(names(100)).await;
        let poison = format!("p{place:04}");
        world.provider =
            Arc::new(
                move |name, _, _| {
                    if name == poison { Err(unavailable(Some(500))) } else { Ok(answer()) }
                },
            );
        let ran = world.run().await;
        let counts = ran.report.counts;
        assert_eq!((counts.succeeded, counts.errored), (99, 1), "{:?}", ran.report);
        assert!(ran.report.elapsed < Duration::from_secs(400));
        let problems: Vec<&String> =
            ran.lines.iter().filter(|line| line.contains("problem")).collect();
        assert!(problems.len() <= 1, "at most the single first fault is told: {problems:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn single_503s_lose_nothing() {
    let mut world = World::with(names(300)).await;
    world.provider = Arc::new(|name, n_before, _| {
        if name.ends_with('3') && n_before == 0 {
            Err(unavailable(Some(503)))
        } else {
            Ok(answer())
        }
    });
    let ran = world.run().await;
    assert_eq!(ran.report.counts.succeeded, 300);
    assert_eq!(world.noted("SELECT count(*) FROM tries WHERE outcome = 'failed'"), 0);
}

#[tokio::test(start_paused = true)]
async fn rejected_keys_stop_the_run_at_once_and_say_so() {
    let mut world = World::with(names(100)).await;
    world.provider = Arc::new(|_, _, _| Err(refused(RefusalCause::Key)));
    let ran = world.run().await;
    assert_eq!(ran.report.exit(), Exit::Failed);
    assert!(ran.has_line("::lookout::problem kind=credentials_rejected"));
    assert!(ran.reviewer.n_calls() <= 16, "{}", ran.reviewer.n_calls());
    assert_eq!(world.statuses(), [("downloaded".to_owned(), 100)].into());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_understand_us_is_configuration() {
    let mut world = World::with(names(10)).await;
    world.provider = Arc::new(|_, _, _| Err(refused(RefusalCause::Model)));
    let ran = world.run().await;
    assert_eq!(ran.report.exit(), Exit::Configuration);
    assert_eq!(world.statuses(), [("downloaded".to_owned(), 10)].into());
}

#[tokio::test(start_paused = true)]
async fn a_blocked_picture_is_final_after_one_call() {
    let mut world = World::with(names(3)).await;
    world.provider = Arc::new(|name, _, _| match name {
        "p0001" => Err(Fault::Blocked { reason: "SAFETY".into(), sexually_explicit: true }),
        _ => Ok(answer()),
    });
    let ran = world.run().await;
    assert_eq!((ran.report.counts.blocked, ran.reviewer.n_calls()), (1, 3));
    let row = (
        "auto_review_error".into(),
        "auto_review_error".into(),
        "blocked by Gemini: SAFETY".into(),
    );
    assert_eq!(world.row("p0001"), row);
    assert_eq!(
        world.noted(
            "SELECT count(*) FROM tries WHERE outcome = 'blocked' AND reason LIKE '%; N1 is proposed'"
        ),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_picture_is_an_error_with_three_reasons_while_others_are_there() {
    let mut world = World::with(names(60)).await;
    world.bucket = Arc::new(|name, _| match name {
        "p0003" => Err(SourceError::Picture("404: no such picture".into())),
        "p0007" => Err(SourceError::Refused("403: access denied".into())),
        _ => Ok(()),
    });
    let ran = world.run().await;
    assert_eq!(
        (ran.report.counts.succeeded, ran.report.counts.errored),
        (58, 2),
        "{:?}",
        ran.report
    );
    assert!(world.row("p0003").2.starts_with("404: no such picture (3 tries)"));
    assert!(!ran.has_line("::lookout::problem kind=images_unavailable"), "{:?}", ran.lines);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_turns_to_403_in_the_middle_costs_no_row_anything() {
    let mut world = World::with(names(300)).await;
    world.bucket = refuses_after(100);
    let ran = world.run().await;
    assert_eq!(ran.report.exit(), Exit::TryLater);
    assert!(matches!(ran.report.end, End::GaveUp { kind: "images_unavailable", .. }));
    let expected = [("auto_review_success".to_owned(), 100), ("downloaded".to_owned(), 200)];
    assert_eq!(world.statuses(), expected.into());
    assert!(ran.has_line("::lookout::problem kind=images_unavailable"));
    assert_eq!(
        world.noted("SELECT count(*) FROM tries WHERE outcome IN ('failed','own_fault')"),
        0
    );
    // It is asked for one picture every 30 s, not for all.
    assert!(world.noted("SELECT count(*) FROM tries WHERE outcome = 'fault'") < 60);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_comes_back_is_used_again() {
    let mut world = World::with(names(100)).await;
    let since = tokio::time::Instant::now();
    world.bucket = Arc::new(move |_, _| match since.elapsed().as_secs() {
        3..200 => Err(SourceError::Unavailable("503: slow down".into())),
        _ => Ok(()),
    });
    let ran = world.run().await;
    assert_eq!(ran.report.counts.succeeded, 100, "{:?}", ran.report);
    assert!(ran.has_line("::lookout::recovered kind=images_unavailable"), "{:?}", ran.lines);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_broke_off_is_repeated_at_once() {
    let mut world = World::with(names(5)).await;
    world.bucket = Arc::new(|_, n_before| match n_before {
        0 => Err(SourceError::BrokeOff("the transfer broke off".into())),
        _ => Ok(()),
    });
    let ran = world.run().await;
    assert_eq!(ran.report.counts.succeeded, 5);
    assert!(ran.report.elapsed < Duration::from_secs(3));
}
