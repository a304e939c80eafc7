//! One POST of JSON, and what came back, for the channels that speak HTTP.
//!
//! Invariant: no error text made here holds the address; a redirect is an answer, not an order.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};

use super::{ANSWER, Arrival, SendError, TIME_LIMIT};

use crate::http::{self, Failure};
use crate::secret::Secret;

/// How long the beginning of a body may take after its status.
const BODY_LIMIT: Duration = Duration::from_secs(2);

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

/// What stands in the body of a 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Nothing against it.
    Accepted,
    /// An HTML page: a proxy's login or an error page stands in the receiver's place.
    Page,
    /// JSON that says that it failed, with its word for it.
    Failed(String),
}

impl Answer {
    /// What a 2xx says in its body. Receivers that speak Slack's form answer `ok` (Mattermost),
    /// `{"ok":true}` (relays), `{"success":true}` (Rocket.Chat), or nothing.
    pub(super) fn reply(&self) -> Reply {
        let body = self.body.trim_start();
        if body.starts_with('<') {
            return Reply::Page;
        }
        let Ok(serde_json::Value::Object(said)) = serde_json::from_str(body) else {
            return Reply::Accepted;
        };
        let is_no = |name: &str| said.get(name) == Some(&serde_json::Value::Bool(false));
        let error = said.get("error").filter(|it| {
            !it.is_null() && **it != serde_json::Value::Bool(false) && it.as_str() != Some("")
        });
        match error {
            Some(error) => Reply::Failed(error.as_str().map_or(error.to_string(), str::to_owned)),
            None if is_no("ok") || is_no("success") => Reply::Failed(String::new()),
            None => Reply::Accepted,
        }
    }

    /// Whether an HTML page came in place of the receiver's own answer.
    pub(super) fn is_page(&self) -> bool {
        self.body.trim_start().starts_with('<')
    }

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

    /// The host's name, in lower case.
    pub(super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
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
                .and_then(|value| http::retry_after(value, now));
            let mut bytes = Vec::new();
            let read = async {
                while bytes.len() < ANSWER {
                    match response.chunk().await? {
                        Some(chunk) => bytes.extend_from_slice(&chunk),
                        None => break,
                    }
                }
                Ok(())
            };
            // The status has been said: a body that drags on takes nothing of it back.
            match tokio::time::timeout(BODY_LIMIT, read).await {
                Ok(Err(error)) if status >= 300 => return Err(error),
                Ok(Ok(()) | Err(_)) | Err(_) => {}
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
                arrival: Arrival::Unknown,
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
            arrival: Arrival::Unknown,
        },
        Failure::Broken => SendError::Transient {
            reason: format!("the connection to {who} broke off: {cause}"),
            arrival: Arrival::Unknown,
        },
    }
}
