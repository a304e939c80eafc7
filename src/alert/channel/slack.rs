//! A Slack incoming webhook.
//!
//! Slack itself says success with status 200 and the body `ok`, and nothing else (a proxy's login page
//! is a 200, too); of others that take its form (Mattermost, Rocket.Chat, relays) a 2xx counts unless
//! its body says otherwise. The other answers:
//! api.slack.com/changelog/2016-05-17-changes-to-errors-for-incoming-webhooks, and what is seen in
//! clients' threads (`invalid_token` with 400 and with 403).
//! Invariant: blocks that Slack refuses never cost the message: it goes again as plain text.

use async_trait::async_trait;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::post::{Answer, Post, Reply};
use super::{Arrival, Channel, Envelope, Scope, SendError};
use crate::alert::message::{self, Message};
use crate::secret::Secret;

/// Where Slack's own hooks are; whatever else takes its form is somebody else's.
const SLACK: [&str; 2] = ["hooks.slack.com", "hooks.slack-gov.com"];

/// Answers that no other text will change.
const BROKEN: [&str; 9] = [
    "invalid_token",
    "invalid_auth",
    "user_not_found",
    "posting_to_general_channel_denied",
    "action_prohibited",
    "token_revoked",
    "account_inactive",
    "channel_not_found",
    "is_archived",
];

/// Posts to one incoming webhook.
pub struct Slack {
    post: Post,
}

impl Slack {
    /// Checks the address.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn new(webhook_url: &Secret) -> Result<Self, String> {
        let post = Post::new(webhook_url, "the Slack webhook_url")?;
        if !post.is_https() && !post.is_loopback() {
            return Err("the Slack webhook_url must begin with https://: it is a secret".to_owned());
        }
        Ok(Self { post })
    }

    async fn post(&self, body: &Value, envelope: &Envelope) -> Result<Answer, SendError> {
        let body = body.to_string().into_bytes();
        self.post.send(HeaderMap::new(), body, envelope.at, "Slack").await
    }
}

#[async_trait]
impl Channel for Slack {
    fn label(&self) -> &'static str {
        "Slack"
    }

    async fn probe(&self) -> Result<String, SendError> {
        self.post.probe("Slack").await
    }

    async fn send(&self, message: &Message, envelope: &Envelope) -> Result<(), SendError> {
        let answer = self.post(&message::slack(message), envelope).await?;
        match self.judge(&answer) {
            Judged::Accepted => Ok(()),
            Judged::Failed(error) => Err(error),
            Judged::BadPayload => {
                tracing::warn!(
                    id = envelope.id,
                    answer = answer.in_words(),
                    "Slack refused the form of a message; sending it as plain text"
                );
                let answer = self.post(&message::slack_as_text(message), envelope).await?;
                match self.judge(&answer) {
                    Judged::Accepted => Ok(()),
                    Judged::Failed(error) => Err(error),
                    Judged::BadPayload => Err(SendError::Refused {
                        reason: format!(
                            "Slack refused it even as plain text: {}",
                            answer.in_words()
                        ),
                        scope: Scope::Message,
                    }),
                }
            }
        }
    }
}

enum Judged {
    Accepted,
    BadPayload,
    Failed(SendError),
}

impl Slack {
    fn judge(&self, answer: &Answer) -> Judged {
        let said = answer.in_words();
        let is_broken = BROKEN.iter().any(|text| answer.body.contains(text));
        Judged::Failed(match answer.status {
            200 if answer.body == "ok" => return Judged::Accepted,
            200..=299 => match answer.reply() {
                Reply::Accepted if !SLACK.contains(&self.post.host()) => return Judged::Accepted,
                Reply::Page => {
                    let reason = format!("a web page answered in place of Slack: {said}");
                    SendError::Doubtful { reason }
                }
                Reply::Failed(_) if is_broken => {
                    SendError::Broken { reason: format!("Slack refused: {said}") }
                }
                Reply::Failed(_) => SendError::Refused {
                    reason: format!("Slack refused: {said}"),
                    scope: Scope::Message,
                },
                Reply::Accepted => SendError::Transient {
                    reason: format!("Slack did not say ok: {said}"),
                    arrival: Arrival::Unknown,
                },
            },
            429 => SendError::Throttled {
                reason: format!("Slack asks us to slow down: {said}"),
                retry_after: answer.retry_after,
                // Slack has posted messages that it answered with 429 (Yelp/elastalert#1345).
                arrival: Arrival::Unknown,
            },
            400 | 403 if is_broken => {
                SendError::Broken { reason: format!("Slack refused: {said}") }
            }
            // A gateway before Slack: its word is about the way, not about the message.
            400 if answer.is_page() => SendError::Doubtful {
                reason: format!("a web page answered in place of Slack: {said}"),
            },
            400 => return Judged::BadPayload,
            401 | 403 | 404 | 410 => SendError::Broken { reason: format!("Slack refused: {said}") },
            408 | 500.. => SendError::Transient {
                reason: format!("Slack has a fault: {said}"),
                arrival: Arrival::Unknown,
            },
            _ => SendError::Doubtful { reason: format!("Slack answered {said}") },
        })
    }
}
