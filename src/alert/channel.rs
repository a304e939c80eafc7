//! A channel: one way to reach people. The settings of each kind, as checked values.
//!
//! Invariant: secrets in it are [`Secret`]s, filled from the environment, `.env` or a file.

use crate::secret::Secret;
use crate::watch::Severity;

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
        /// Sender; default `lookout@<host name>`.
        from: Option<String>,
        /// One message each.
        to: Vec<String>,
    },
}
