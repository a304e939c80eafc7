//! Before the first review of all: what the images that wait will cost.
//!
//! Whoever has just moved over may have a hundred thousand waiting and no cap in `[budget]`.
//! Invariant: it delays the review by ten seconds at most.

use std::sync::Arc;
use std::time::Duration;

use crate::app::expected::Expected;
use crate::app::review::{Order, Review};
use crate::clock::Clock;
use crate::protocol::Line;
use crate::review::settings::ReviewSettings;
use crate::review::tries::sqlite::queries::ReviewDb;

/// Counting a large table may take long; the review goes on all the same.
const COUNT_AT_MOST: Duration = Duration::from_secs(10);

/// What a picture costs, if no review was ever made here and this one is for whatever waits.
pub(super) fn cost_of(
    settings: &ReviewSettings,
    order: &Order,
    clock: &Arc<dyn Clock>,
) -> Option<Expected> {
    // What can't be read or estimated, the review itself says better.
    let is_first = ReviewDb::open(&settings.state_dir).is_ok_and(|notes| notes.is_none());
    if order.only.is_some() || !is_first {
        return None;
    }
    Expected::of(settings, clock).ok()
}

/// How many wait, if that can be found out.
pub(super) async fn waiting(review: &Review) -> Option<u64> {
    let count = review.ports.records.count(&review.plan.pick_up);
    tokio::time::timeout(COUNT_AT_MOST, count).await.ok()?.ok()
}

/// What is said.
pub(super) fn line(expected: &Expected, waiting: Option<u64>) -> Option<Line> {
    let text = match waiting {
        // Nothing to pay for.
        Some(0) => return None,
        Some(1) => format!("first review here; the image that waits: {}", expected.said(1)),
        Some(n) => format!("first review here; the {n} images that wait: {}", expected.said(n)),
        None => format!(
            "first review here; how many images wait is not known; 1,000 of them: {}",
            expected.said(1_000)
        ),
    };
    Some(Line::Note { text })
}
