//! One POST of JSON, and what came back, for the channels that speak HTTP.
//!
//! Invariant: no error text made here holds the address; a redirect is an answer, not an order.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};

use super::{ANSWER, Arrival, SendError, TIME_LIMIT};
use crate::alert::retry;
use crate::http::{self, Failure};
use crate::secret::Secret;

/// A client and the one address it posts to.
pub(super) struct Post {
    client: reqwest::Client,
    url: reqwest::Url,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Parsed and capped.
    pub(super) retry_after: Option<Duration>,
    /// The beginning of the body, as text.
    pub(super) body: String,
}

impl Answer {
    /// The status, and what the body says in a few words.
    pub(super) fn in_words(&self) -> String {
        let body: String = self.body.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut short: String = body.chars().take(120).collect();
        if short.len() < body.len() {
            short.push('…');
        }
        if short.is_empty() { self.status.to_string() } else { format!("{} {short}", self.status) }
    }
}

impl Post {
    /// Checks the address. The problem is for people and does not repeat the address.
    pub(super) fn new(url: &Secret, what: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(url.expose().trim())
            .map_err(|error| format!("{what} is not an address ({error}); write https://…"))?;
        if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
            return Err(format!("{what} must begin with https:// or http:// and name a host"));
        }
        let client = http::client(TIME_LIMIT)
            .map_err(|error| format!("the HTTP client can't start: {}", http::describe(error)))?;
        Ok(Self { client, url })
    }

    /// Whether the address is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        }
    }

    /// Whether the address is encrypted.
    pub(super) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Asks the host's front page for its head: any answer means that it is there. The configured
    /// address itself is not called, since to some receivers every call is a message.
    pub(super) async fn probe(&self, who: &str) -> Result<String, SendError> {
        let mut front = self.url.clone();
        front.set_path("/");
        front.set_query(None);
        let asked = self.client.head(front).timeout(TIME_LIMIT).send().await;
        let host = self.url.host_str().unwrap_or_default();
        asked.map(|_| format!("{host} answers")).map_err(|error| failed(error, who))
    }

    /// Posts once; ends within [`TIME_LIMIT`] whatever the other side does.
    pub(super) async fn send(
        &self,
        headers: HeaderMap,
        body: Vec<u8>,
        now: DateTime<Utc>,
        who: &str,
    ) -> Result<Answer, SendError> {
        let exchange = async {
            let mut response = self
                .client
                .post(self.url.clone())
                .header(CONTENT_TYPE, "application/json")
                .headers(headers)
                .body(body)
                .send()
                .await?;
            let status = response.status().as_u16();
            let retry_after = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| retry::retry_after(value, now));
            let mut bytes = Vec::new();
            while bytes.len() < ANSWER {
                match response.chunk().await? {
                    Some(chunk) => bytes.extend_from_slice(&chunk),
                    None => break,
                }
            }
            bytes.truncate(ANSWER);
            let body = String::from_utf8_lossy(&bytes).into_owned();
            Ok::<_, reqwest::Error>(Answer { status, retry_after, body })
        };
        match tokio::time::timeout(TIME_LIMIT, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failed(error, who)),
            Err(_) => Err(SendError::Transient {
                reason: format!("{who} did not answer within {} s", TIME_LIMIT.as_secs()),
                arrival: Arrival::Perhaps,
            }),
        }
    }
}

fn failed(error: reqwest::Error, who: &str) -> SendError {
    let failure = http::failure(&error);
    let cause = http::describe(error);
    if cause.contains("invalid peer certificate") {
        return SendError::Broken {
            reason: format!("{who} has a certificate we can't accept: {cause}"),
        };
    }
    match failure {
        Failure::Unreachable => SendError::Transient {
            reason: format!("{who} could not be reached: {cause}"),
            arrival: Arrival::No,
        },
        Failure::TimedOut => SendError::Transient {
            reason: format!("{who} did not answer in time"),
            arrival: Arrival::Perhaps,
        },
        Failure::Broken => SendError::Transient {
            reason: format!("the connection to {who} broke off: {cause}"),
            arrival: Arrival::Perhaps,
        },
    }
}
