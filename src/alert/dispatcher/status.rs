//! How a channel is, published by its worker: for `delivery_health`, which makes incidents of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::alert::channel::ConfiguredChannel;
use crate::alert::health::{ChannelState, Refusal, RefusedSubject};

/// A channel and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelStatus {
    /// Its name in the settings.
    pub name: String,
    /// How it is.
    pub state: ChannelState,
    /// What it refuses while it goes on with the rest.
    pub refusals: BTreeMap<RefusedSubject, Refusal>,
    /// Recipients that took a message since the start.
    pub accepted_recipients: BTreeSet<String>,
    /// Its recipients as configured.
    pub recipients: Vec<String>,
    /// When it last accepted a message.
    pub last_accepted_at: Option<DateTime<Utc>>,
    /// Deliveries that wait for it, as of its last look.
    pub waiting: usize,
    /// Of those, tried at least once.
    pub retrying: usize,
    /// What waits although nothing holds it but failing attempts.
    pub overdue: Option<Overdue>,
}

/// Messages that are late by the channel's fault: neither paced nor refused one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// How many.
    pub n: usize,
    /// How long the oldest has waited in vain.
    pub waited: Duration,
}

impl ChannelStatus {
    pub(super) fn untried(channel: &ConfiguredChannel) -> Self {
        Self {
            name: channel.name.clone(),
            state: ChannelState::Untried,
            refusals: BTreeMap::new(),
            accepted_recipients: BTreeSet::new(),
            recipients: channel.channel.recipients(),
            last_accepted_at: None,
            waiting: 0,
            retrying: 0,
            overdue: None,
        }
    }
}
