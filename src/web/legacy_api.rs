//! The HTTP interface of the service that Lookout replaces, so that its callers need no change.
//!
//! `POST /bulk_auto_review` and `POST /auto_review/{job_id}/{image_index}`, with the bodies and status
//! codes of docs/legacy-service.md. The daemon reviews nothing itself: each request is a process of its own,
//! behind the port [`Reviews`].
//! Invariant: a process that was started is left to its end, whether its caller waits or not, so that
//! no row is lost with a connection.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Batches at a time: the provider's limits are shared, so a second one would only slow the first.
const BATCHES_AT_ONCE: usize = 1;
/// Single images at a time: each is a process with a picture in its memory.
const IMAGES_AT_ONCE: usize = 4;
/// Callers that may wait for their turn; the old service's driver is one.
const MAX_WAITING: usize = 32;

/// What the old service began its message about Gemini with.
const GEMINI_FAILED: &str = "Gemini API key validation failed: ";

/// How a review process ended, as far as its caller needs it.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// It did what it is there for; its JSON.
    Well(Value),
    /// The provider refused or could not be reached; what was reviewed before it, and why.
    Provider {
        /// Its JSON, if it printed one.
        answer: Value,
        /// For people.
        reason: String,
    },
    /// The user's own `[budget]` is spent; what was reviewed before it, and which.
    Budget {
        /// Its JSON, if it printed one.
        answer: Value,
        /// For people.
        reason: String,
    },
    /// Anything else; for people.
    Badly(String),
}

/// Starts reviews.
#[async_trait]
pub trait Reviews: Send + Sync + Debug {
    /// One batch of what waits.
    async fn batch(&self) -> Ended;

    /// One image, no row written.
    async fn image(&self, job_id: &str, image_index: u64) -> Ended;
}

/// The two addresses.
#[derive(Clone, Debug)]
pub struct LegacyApi {
    reviews: Arc<dyn Reviews>,
    pick_up: String,
    batches: Arc<Semaphore>,
    images: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    stop: CancellationToken,
}

/// What is wanted.
#[derive(Clone, Debug)]
enum Wanted {
    Batch,
    Image { job_id: String, image_index: u64 },
}

impl LegacyApi {
    /// `pick_up` is the status that rows wait with; after `stop` nobody is kept waiting.
    #[must_use]
    pub fn new(reviews: Arc<dyn Reviews>, pick_up: String, stop: CancellationToken) -> Self {
        Self {
            reviews,
            pick_up,
            batches: Arc::new(Semaphore::new(BATCHES_AT_ONCE)),
            images: Arc::new(Semaphore::new(IMAGES_AT_ONCE)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            stop,
        }
    }

    /// Its addresses, to be merged before [`super::guarded`].
    pub fn routes(self) -> Router {
        Router::new()
            .route("/bulk_auto_review", post(bulk))
            .route("/auto_review/{job_id}/{image_index}", post(one))
            .with_state(self)
    }

    /// Starts it when it is its turn. `None`: too many wait, or the daemon ends.
    async fn carry_out(&self, wanted: Wanted) -> Option<Ended> {
        let place = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        let turns = match wanted {
            Wanted::Batch => &self.batches,
            Wanted::Image { .. } => &self.images,
        };
        // A caller that goes away while it waits has begun nothing.
        let turn = tokio::select! {
            turn = Arc::clone(turns).acquire_owned() => turn.ok()?,
            () = self.stop.cancelled() => return None,
        };
        let reviews = Arc::clone(&self.reviews);
        // A task of its own: it goes on when the caller's connection, and this future with it, is
        // gone.
        let process = tokio::spawn(async move {
            let ended = match wanted {
                Wanted::Batch => reviews.batch().await,
                Wanted::Image { job_id, image_index } => reviews.image(&job_id, image_index).await,
            };
            drop((turn, place));
            ended
        });
        tokio::select! {
            ended = process => ended.ok(),
            // The process is not ours to end; it goes on by itself.
            () = self.stop.cancelled() => None,
        }
    }
}

async fn bulk(State(old): State<LegacyApi>) -> Response {
    match old.carry_out(Wanted::Batch).await {
        None => not_now(),
        Some(Ended::Badly(reason)) => failed(&reason),
        Some(Ended::Provider { answer, reason }) => {
            stopped(&format!("{GEMINI_FAILED}{reason}"), &answer)
        }
        // Gemini and its key are well: who reads that they are not looks in the wrong place.
        Some(Ended::Budget { answer, reason }) => stopped(&reason, &answer),
        Some(Ended::Well(answer)) => {
            if answer["summary"]["claimed"] == 0 {
                let message = format!("No images found with review_status='{}'.", old.pick_up);
                return Json(json!({ "message": message })).into_response();
            }
            let (message, results) = (&answer["message"], &answer["results"]);
            Json(json!({ "message": message, "results": results })).into_response()
        }
    }
}

async fn one(
    State(old): State<LegacyApi>,
    Path((job_id, image_index)): Path<(String, String)>,
) -> Response {
    let Ok(image_index) = image_index.parse() else {
        return detail(StatusCode::UNPROCESSABLE_ENTITY, "image_index must be a number, 0 or more");
    };
    match old.carry_out(Wanted::Image { job_id, image_index }).await {
        None => not_now(),
        Some(Ended::Well(answer)) => Json(answer).into_response(),
        Some(
            Ended::Badly(reason) | Ended::Provider { reason, .. } | Ended::Budget { reason, .. },
        ) => failed(&reason),
    }
}

/// A batch that ended before its end.
fn stopped(message: &str, answer: &Value) -> Response {
    let mut body = json!({ "message": message });
    // Rows with a result have it in the table too; a caller that counts should see them.
    if let Some(results) = answer["results"].as_array().filter(|results| !results.is_empty()) {
        body["results"] = json!(results);
    }
    Json(body).into_response()
}

fn not_now() -> Response {
    detail(
        StatusCode::SERVICE_UNAVAILABLE,
        "Lookout is ending or too many callers wait; a review that has begun goes on",
    )
}

fn failed(reason: &str) -> Response {
    detail(StatusCode::INTERNAL_SERVER_ERROR, reason)
}

fn detail(code: StatusCode, text: &str) -> Response {
    (code, Json(json!({ "detail": text }))).into_response()
}
