//! Pages and API: what Lookout says about itself over HTTP.
//!
//! In reading order: `server.rs` (connections and their limits), `access.rs` with `origin.rs` (who may
//! ask), `status.rs` (what is known, collected once for
//! the API, the page and `lookout status`), `health.rs` (for load balancers and container
//! managers), `page.rs` with `strip.rs` (the dashboard: server-rendered HTML that works
//! without scripts), `legacy_api.rs` (the addresses of the service that Lookout replaces). It talks
//! to ports only; the pages change nothing.
//! Invariant: every text from outside passes through [`html::text`] before it is in a page.

pub mod access;
mod health;
mod html;
pub mod legacy_api;
mod origin;
mod page;
mod server;
pub mod status;
mod strip;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

pub use self::server::{Limits, STOP_TIMEOUT, serve};

use self::access::Gate;
use self::status::{Daemon, Sources};
use crate::storage::StorageError;

/// Everything the pages are made from; clones share it.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where rows come from.
    pub sources: Sources,
    /// What the running daemon knows of itself.
    pub daemon: Arc<dyn Daemon>,
}

/// Nothing of the page may come from elsewhere, and nothing elsewhere may embed it. No inline styles
/// or scripts, so that a text that slipped through unescaped could still do nothing.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// Headers of every answer.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// All addresses. Other parts of the daemon may merge routes of their own before [`guarded`].
pub fn routes(site: Site) -> Router {
    Router::new()
        .route("/", get(dashboard))
        .route("/api/status", get(api_status))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/icon.svg", get(icon))
        .route("/style.css", get(style))
        .with_state(site)
}

/// Puts the gate and the headers around routes.
pub fn guarded(routes: Router, gate: Gate) -> Router {
    let gate = Arc::new(gate);
    routes
        .layer(middleware::from_fn_with_state(gate, access::check))
        .layer(middleware::map_response(with_headers))
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn dashboard(State(site): State<Site>) -> Response {
    match status::collect(&site.sources, site.daemon.as_ref()).await {
        Ok(status) => page_response(StatusCode::OK, page::dashboard(&status)),
        // Red, and still a page: this is when people look at it.
        Err(error) => page_response(
            StatusCode::SERVICE_UNAVAILABLE,
            page::broken(&site.sources.instance, &error, &site.daemon.pulse()),
        ),
    }
}

fn page_response(code: StatusCode, page: String) -> Response {
    (code, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

async fn api_status(State(site): State<Site>) -> Response {
    match status::collect(&site.sources, site.daemon.as_ref()).await {
        Ok(status) => axum::Json(status).into_response(),
        Err(error) => storage_failed(&error),
    }
}

fn storage_failed(error: &StorageError) -> Response {
    let body = serde_json::json!({ "error": error.to_string() });
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response()
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("style.css")).into_response()
}

async fn icon() -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml")], include_str!("icon.svg")).into_response()
}
