//! Who may ask: everybody on this machine, whoever has the token from elsewhere.
//!
//! Without a token, a request must also ask by a name that is ours and must not have come through a
//! proxy (`origin.rs` says how that is seen). With or without one, a page of another site may neither
//! start anything nor read the API.
//!
//! `Authorization: Bearer TOKEN` for programs; a browser asks its user, who gives the token as the
//! password (any name). `/healthz` and `/readyz` answer anybody, because what probes them seldom
//! can send a header; without the token they say only yes or no.
//! Invariant: a listener that other machines reach has a token, or it is not started.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::origin::{Hosts, came_through_a_proxy, is_foreign};
use crate::secret::Secret;

/// Addresses that answer without a token.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// What callers must show, if anything.
#[derive(Clone, Debug)]
pub struct Gate {
    token: Option<Secret>,
    hosts: Hosts,
}

/// There is no token, and there must be one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "[service] bind = \"{0}\" can be reached from other machines, so a token is needed: \
     set LOOKOUT_TOKEN in .env, or bind to 127.0.0.1"
)]
pub struct TokenNeeded(pub SocketAddr);

/// Whether a request has shown what it must; put into each request for its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// No token is asked for, or the right one was given.
    Full,
    /// Only yes or no.
    Probe,
}

impl Gate {
    /// For a listener at `bind`. On loopback the token is asked for only if it is set.
    ///
    /// # Errors
    /// When others reach the address and there is no token.
    pub fn new(bind: SocketAddr, token: Option<Secret>) -> Result<Self, TokenNeeded> {
        let token = token.filter(|token| !token.expose().is_empty());
        if token.is_none() && !bind.ip().to_canonical().is_loopback() {
            return Err(TokenNeeded(bind));
        }
        Ok(Self { token, hosts: Hosts::default() })
    }

    /// Names that the pages may be asked by where no token is needed, besides IP addresses and
    /// `localhost`.
    #[must_use]
    pub fn allowing(mut self, hosts: &[String]) -> Self {
        self.hosts = Hosts::new(hosts);
        self
    }

    /// What a request may do, or the answer that refuses it.
    fn trust(&self, request: &Request) -> Result<Trust, Refusal> {
        let headers = request.headers();
        if is_foreign(request.method(), request.uri(), headers) {
            return Err(Refusal::ForeignPage);
        }
        let probe = OPEN.contains(&request.uri().path()).then_some(Trust::Probe);
        if self.token.is_some() {
            return if self.admits(headers) {
                Ok(Trust::Full)
            } else {
                probe.ok_or(Refusal::TokenNeeded)
            };
        }
        if !self.hosts.admit(headers, request.uri(), request.version()) {
            return Err(Refusal::UnknownHost);
        }
        if came_through_a_proxy(headers) {
            return probe.ok_or(Refusal::Proxied);
        }
        Ok(Trust::Full)
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let shown =
            headers.get(header::AUTHORIZATION).and_then(|value| shown_token(value.as_bytes()));
        // Hashes are compared, not tokens: how far they agree says nothing about the token, so the
        // time that a comparison takes gives nothing away.
        shown.is_some_and(|shown| Sha256::digest(shown) == Sha256::digest(token.expose()))
    }
}

/// The token in an `Authorization` header: of `Bearer`, or the password of `Basic`.
fn shown_token(header: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(header).ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = BASE64_STANDARD.decode(rest.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    TokenNeeded,
    ForeignPage,
    UnknownHost,
    Proxied,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let forbidden = |detail: &str| {
            // The legacy API's form of an error; people read it as well.
            (StatusCode::FORBIDDEN, Json(json!({ "detail": detail }))).into_response()
        };
        match self {
            Self::TokenNeeded => {
                let challenge =
                    [(header::WWW_AUTHENTICATE, "Basic realm=\"Lookout\", charset=\"UTF-8\"")];
                let body = "A token is needed: send `Authorization: Bearer TOKEN`, or give the \
                            token as the password.\n";
                (StatusCode::UNAUTHORIZED, challenge, body).into_response()
            }
            Self::ForeignPage => {
                forbidden("a page of another site may not start reviews or read the API")
            }
            Self::UnknownHost => forbidden(
                "this name is not one of Lookout's: ask by its IP address or localhost, or put the \
                 name into [service] hosts in lookout.toml",
            ),
            Self::Proxied => forbidden(
                "this request came through a proxy, so a token is needed: set LOOKOUT_TOKEN in .env",
            ),
        }
    }
}

pub(super) async fn check(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    match gate.trust(&request) {
        Ok(trust) => {
            request.extensions_mut().insert(trust);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn admits(gate: &Gate, authorization: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        gate.admits(&headers)
    }

    #[test]
    fn an_address_that_others_reach_needs_a_token() {
        for address in ["0.0.0.0:8720", "[::]:8720", "192.168.1.4:8720"] {
            assert_eq!(Gate::new(bind(address), None).unwrap_err(), TokenNeeded(bind(address)));
            assert!(Gate::new(bind(address), Some(Secret::new(""))).is_err());
            assert!(Gate::new(bind(address), Some(Secret::new("t"))).is_ok());
        }
        for address in ["127.0.0.1:8720", "127.8.8.8:1", "[::1]:8720", "[::ffff:127.0.0.1]:8720"] {
            assert!(Gate::new(bind(address), None).unwrap().admits(&HeaderMap::new()));
        }
    }

    #[test]
    fn the_token_is_taken_as_bearer_or_as_the_password() {
        let gate = Gate::new(bind("0.0.0.0:8720"), Some(Secret::new("open sesame"))).unwrap();
        assert!(!gate.admits(&HeaderMap::new()));
        assert!(admits(&gate, "Bearer open sesame"));
        assert!(admits(&gate, "bearer  open sesame"));
        assert!(admits(&gate, &format!("Basic {}", BASE64_STANDARD.encode("me:open sesame"))));
        for wrong in ["Bearer open", "Bearer", "Basic !!!", "Digest open sesame", "open sesame"] {
            assert!(!admits(&gate, wrong), "{wrong}");
        }
    }
}
