//! `lookout review --dry-run`: how many images wait, and what they would cost.
//!
//! Invariant: nothing is claimed, no row is written, nobody is called.

use std::sync::Arc;

use serde_json::json;

use super::{EXIT_OK, Form, print_line};
use crate::app::review::{SetupError, adapters, rows};
use crate::clock::Clock;
use crate::review::settings::ReviewSettings;

pub(super) async fn run(
    settings: &ReviewSettings,
    limit: Option<u64>,
    form: Form,
    clock: &Arc<dyn Clock>,
) -> Result<u8, SetupError> {
    let estimate = adapters(settings, clock)?.estimate;
    let rows = rows(settings).await?;
    let waiting = rows.records.count(&settings.records.pick_up).await? + rows.n_new().await?;
    let n_images = waiting.min(limit.unwrap_or(u64::MAX));
    let usual = estimate.usual.map(|usd| usd * n_images as f64);
    let at_most = estimate.at_most.map(|usd| usd * n_images as f64);
    let text = match form {
        Form::Json => json!({
            "waiting": waiting,
            "images": n_images,
            "model": settings.reviewer.model,
            "usd": usual,
            "usd_at_most": at_most,
        })
        .to_string(),
        Form::Text => {
            let cost = match usual {
                Some(usd) => format!("about {usd:.2} USD with {}", settings.reviewer.model),
                None => format!("unknown, {} has no known price", settings.reviewer.model),
            };
            format!("{waiting} images wait; this run would review {n_images}. Cost: {cost}.")
        }
    };
    Ok(print_line(&text, EXIT_OK))
}
