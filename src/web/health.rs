//! `/healthz` and `/readyz`: yes or no, for those who restart or route by it.
//!
//! `/healthz` is red when a loop does not move or something can't be recorded; open incidents do not make it
//! red: they are what Lookout is there for. `/readyz` is red until every loop has begun and the
//! database answers. Invariant: 200 is never said without having looked.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Site;
use super::access::Trust;
use super::status::LoopPulse;

#[derive(Serialize)]
struct Health {
    ok: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    loops: Vec<LoopPulse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn answer(trust: Trust, health: Health) -> Response {
    let code = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let health = match trust {
        Trust::Full => health,
        Trust::Probe => Health { loops: Vec::new(), error: None, ..health },
    };
    (code, axum::Json(health)).into_response()
}

pub(super) async fn healthz(
    State(site): State<Site>,
    Extension(trust): Extension<Trust>,
) -> Response {
    let loops = site.daemon.pulse();
    answer(trust, Health { ok: loops.iter().all(LoopPulse::is_well), loops, error: None })
}

pub(super) async fn readyz(
    State(site): State<Site>,
    Extension(trust): Extension<Trust>,
) -> Response {
    let loops = site.daemon.pulse();
    let begun = loops.iter().all(|pulse| pulse.last_at.is_some() && pulse.is_well());
    let error = site.sources.ledger.plans().await.err().map(|error| error.to_string());
    answer(trust, Health { ok: begun && error.is_none(), loops, error })
}
