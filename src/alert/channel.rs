//! A channel: one way to reach people. The port, its errors, and the settings of each kind.
//!
//! An adapter sends one message once, within its own time limit, and says how that went; when to
//! try again, whom to tell instead and what to remember is the dispatcher's business.
//! Invariant: secrets in settings are [`Secret`]s, and no error text holds an address or a secret.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use thiserror::Error;

use super::message::Message;
use crate::secret::Secret;
use crate::watch::Severity;

pub mod console;
pub mod email;
pub mod hook;
mod post;
pub mod slack;
mod smtp;
pub mod webhook;

/// Longest attempt over HTTP, and between two signs of life anywhere.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Most of an answer that is looked at; the rest could be a login page.
const ANSWER: usize = 2000;

/// One checked alert file, or one alert variable of the shortest way.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelSettings {
    /// The file's name, or the kind for a channel made by its variable (`slack`, `webhook`, `email`).
    pub name: String,
    /// This and above.
    pub severity: Severity,
    /// Channel that is told when this one refuses or stays silent.
    pub fallback: Option<String>,
    /// What it talks to.
    pub kind: ChannelKind,
}

/// What a channel talks to.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelKind {
    /// Standard error of the daemon.
    Console,
    /// Slack incoming webhook.
    Slack {
        /// `https://hooks.slack.com/services/…`.
        webhook_url: Secret,
    },
    /// Plain JSON to the user's own software (Standard Webhooks headers if a secret is set).
    Webhook {
        /// Where to.
        url: Secret,
        /// `whsec_…`, for the signature.
        signing_secret: Option<Secret>,
    },
    /// SMTP.
    Email {
        /// `smtp://user:password@host:587` (STARTTLS required), `smtps://…:465`, or
        /// `smtp+insecure://127.0.0.1:2525` for a relay on loopback.
        smtp_url: Secret,
        /// Sender; default: the login where that is an address, else `lookout@<host name>`.
        from: Option<String>,
        /// One message each.
        to: Vec<String>,
    },
}

/// What goes with a message: decided before its first byte is sent, the same on every attempt
/// except for `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// `msg_…`, unique, without dots: the receiver's means to recognise a repeat.
    pub id: String,
    /// Which of [`Channel::recipients`].
    pub recipient: String,
    /// When this attempt is made.
    pub at: DateTime<Utc>,
}

/// Whether a message that was not accepted may have arrived all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Certainly not: there was no connection, or it was refused before it was taken.
    No,
    /// The answer was lost or made no sense; the next attempt is marked as a possible repeat.
    Unknown,
}

/// What a refusal is about, where it is not the whole channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This recipient.
    Recipient,
    /// This message.
    Message,
}

/// How a delivery failed. The texts are for people and hold no address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// Worth trying again soon.
    #[error("{reason}")]
    Transient {
        /// In plain words.
        reason: String,
        /// May it have arrived?
        arrival: Arrival,
    },
    /// The receiver asks us to slow down.
    #[error("{reason}")]
    Throttled {
        /// In plain words.
        reason: String,
        /// For so long at least, already capped.
        retry_after: Option<Duration>,
        /// May it have arrived?
        arrival: Arrival,
    },
    /// The channel refused, and it may be a hiccup (a proxy, a deployment): broken if it stays so.
    #[error("{reason}")]
    Doubtful {
        /// In plain words.
        reason: String,
    },
    /// This message, or this recipient, is refused; it says nothing about others.
    #[error("{reason}")]
    Refused {
        /// In plain words.
        reason: String,
        /// What was refused.
        scope: Scope,
    },
    /// The channel refuses everything until somebody repairs it.
    #[error("{reason}")]
    Broken {
        /// In plain words.
        reason: String,
    },
}

impl SendError {
    /// Whether the message may have arrived all the same.
    #[must_use]
    pub fn arrival(&self) -> Arrival {
        match self {
            Self::Transient { arrival, .. } | Self::Throttled { arrival, .. } => *arrival,
            Self::Doubtful { .. } | Self::Refused { .. } | Self::Broken { .. } => Arrival::No,
        }
    }
}

/// One way to reach people.
#[async_trait]
pub trait Channel: Send + Sync {
    /// As a person would call it: `Slack`, `e-mail`.
    fn label(&self) -> &'static str;

    /// Each gets a message and a delivery of its own; one empty name where there is only one.
    fn recipients(&self) -> Vec<String> {
        vec![String::new()]
    }

    /// Asks whether the other side is there and lets us in, without sending a message. Says in
    /// plain words what was found; ends by itself within 30 s.
    ///
    /// # Errors
    /// As [`Channel::send`].
    async fn probe(&self) -> Result<String, SendError> {
        Ok("there is nobody to ask".to_owned())
    }

    /// Sends once. Ends by itself within 30 s, whatever the other side does.
    ///
    /// # Errors
    /// Whenever the other side has not said in its own protocol that it took the message.
    async fn send(&self, message: &Message, envelope: &Envelope) -> Result<(), SendError>;
}

/// A channel with its place in the routing.
#[derive(Clone)]
pub struct ConfiguredChannel {
    /// Its name in settings, tables and messages.
    pub name: String,
    /// This and above.
    pub severity: Severity,
    /// Told when this one refuses or stays silent.
    pub fallback: Option<String>,
    /// The adapter.
    pub channel: Arc<dyn Channel>,
}

/// Settings that look right but can't work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("channel {channel}: {problem}")]
pub struct BuildError {
    /// Its name.
    pub channel: String,
    /// What is wrong and what to write instead; holds no secret.
    pub problem: String,
}

/// The adapter for these settings; opens no connection.
///
/// # Errors
/// When an address or a secret has the wrong form, or the HTTP client can't be made.
pub fn build(settings: &ChannelSettings) -> Result<Arc<dyn Channel>, BuildError> {
    let channel: Result<Arc<dyn Channel>, String> = match &settings.kind {
        ChannelKind::Console => Ok(Arc::new(console::Console)),
        ChannelKind::Slack { webhook_url } => {
            slack::Slack::new(webhook_url).map(|channel| Arc::new(channel) as _)
        }
        ChannelKind::Webhook { url, signing_secret } => {
            webhook::Webhook::new(url, signing_secret.as_ref()).map(|it| Arc::new(it) as _)
        }
        ChannelKind::Email { smtp_url, from, to } => {
            email::Email::new(smtp_url, from.as_deref(), to).map(|channel| Arc::new(channel) as _)
        }
    };
    channel.map_err(|problem| BuildError { channel: settings.name.clone(), problem })
}

/// [`build`] with the channel's place in the routing.
///
/// # Errors
/// As [`build`].
pub fn configure(settings: &ChannelSettings) -> Result<ConfiguredChannel, BuildError> {
    Ok(ConfiguredChannel {
        name: settings.name.clone(),
        severity: settings.severity,
        fallback: settings.fallback.clone(),
        channel: build(settings)?,
    })
}
