//! `/healthz` and `/readyz`: yes or no, for those who restart or route by it.
//!
//! `/healthz` is red when a loop does not move, something can't be recorded, or messages do not get
//! through; other open incidents do not make it red: they are what Lookout is there for. Without any
//! channel it is `degraded` and not red, since that may be meant. `/readyz` is red until every loop has
//! begun and the database answers. Invariant: 200 is never said without having looked.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Site;
use super::access::Trust;
use super::status::LoopPulse;
use crate::watch::history::IncidentFilter;
use crate::watch::{Incident, IncidentKind, Severity, words};

#[derive(Serialize)]
struct Health {
    ok: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    loops: Vec<LoopPulse>,
    /// What does not get through, or to nobody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    degraded: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A probe waits for a second or two; a database that takes longer is not well.
const LIMIT: Duration = Duration::from_secs(1);

/// Open incidents that are looked through.
const MAX_INCIDENTS: u32 = 1000;

/// Whether messages get through.
struct Delivery {
    is_well: bool,
    degraded: Vec<String>,
    error: Option<String>,
}

async fn delivery(site: &Site) -> Delivery {
    let mut found = Delivery { is_well: true, degraded: Vec::new(), error: None };
    if site.daemon.channels().is_empty() {
        found.degraded.push("no channel is set up: nobody is notified".to_owned());
    }
    let reading = site.sources.history.incidents(IncidentFilter::Open, MAX_INCIDENTS);
    let incidents = match tokio::time::timeout(LIMIT, reading).await {
        Ok(Ok(incidents)) => incidents,
        Ok(Err(error)) => {
            return Delivery { is_well: false, error: Some(error.to_string()), ..found };
        }
        Err(_) => {
            let error = Some("the database does not answer".to_owned());
            return Delivery { is_well: false, error, ..found };
        }
    };
    let is_ours = |it: &&Incident| {
        matches!(it.kind, IncidentKind::ChannelBroken | IncidentKind::OutboxDegraded)
    };
    for incident in incidents.iter().filter(is_ours) {
        found.is_well &= incident.severity < Severity::Critical;
        let what = words::incident(incident.kind);
        found.degraded.push(format!("incident {}: {what} ({})", incident.id, incident.key));
    }
    found
}

fn answer(trust: Trust, health: Health) -> Response {
    let code = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let health = match trust {
        Trust::Full => health,
        Trust::Probe => Health { loops: Vec::new(), degraded: Vec::new(), error: None, ..health },
    };
    (code, axum::Json(health)).into_response()
}

pub(super) async fn healthz(
    State(site): State<Site>,
    Extension(trust): Extension<Trust>,
) -> Response {
    let loops = site.daemon.pulse();
    let Delivery { is_well, degraded, error } = delivery(&site).await;
    let ok = is_well && loops.iter().all(LoopPulse::is_well);
    answer(trust, Health { ok, loops, degraded, error })
}

pub(super) async fn readyz(
    State(site): State<Site>,
    Extension(trust): Extension<Trust>,
) -> Response {
    let loops = site.daemon.pulse();
    let begun = loops.iter().all(|pulse| pulse.last_at.is_some() && pulse.is_well());
    let error = site.sources.ledger.plans().await.err().map(|error| error.to_string());
    answer(trust, Health { ok: begun && error.is_none(), loops, degraded: Vec::new(), error })
}
