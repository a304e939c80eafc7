//! How a channel is, for status pages and for the watchdog (`channel_broken`).

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::alert::channel::ConfiguredChannel;

/// How a channel is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ChannelState {
    /// Nothing was sent since the start.
    Untried,
    /// The last message was accepted.
    Working,
    /// The last attempt failed; it is tried again soon.
    Trouble {
        /// Since the first failure after the last success.
        since: DateTime<Utc>,
        /// In plain words, without secrets.
        reason: String,
    },
    /// It refuses everything until somebody repairs it; probed every 30 min.
    Broken {
        /// Since the first failure after the last success.
        since: DateTime<Utc>,
        /// In plain words, without secrets.
        reason: String,
    },
}

/// A channel and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelStatus {
    /// Its name in the settings.
    pub name: String,
    /// `Slack`, `e-mail`, …
    pub label: &'static str,
    /// How it is.
    #[serde(flatten)]
    pub state: ChannelState,
    /// When it last accepted a message.
    pub last_accepted_at: Option<DateTime<Utc>>,
    /// Deliveries that wait for it, as of its last look.
    pub waiting: usize,
}

impl ChannelStatus {
    pub(super) fn untried(channel: &ConfiguredChannel) -> Self {
        Self {
            name: channel.name.clone(),
            label: channel.channel.label(),
            state: ChannelState::Untried,
            last_accepted_at: None,
            waiting: 0,
        }
    }
}

impl ChannelState {
    /// Since when it fails, if it does.
    #[must_use]
    pub fn failing_since(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Untried | Self::Working => None,
            Self::Trouble { since, .. } | Self::Broken { since, .. } => Some(*since),
        }
    }
}
