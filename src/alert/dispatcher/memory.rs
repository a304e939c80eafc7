//! What can't be written down is told from memory.
//!
//! Two cases: news or deliveries of a store that can be read but not written, and news that the
//! watchdog could not record at all. Both are marked as not recorded. What was told is
//! remembered, so that the rows are settled instead of sent again as soon as that can be written.

use std::collections::{BTreeMap, HashMap};

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::alert::channel::Arrival;
use crate::alert::message::Annotation;
use crate::alert::outbox::{Delivery, Fallback, NewDelivery, Outcome};
use crate::watch::News;

/// More for one channel are a flood; what can't be queued is logged by the sender.
const MAX_QUEUED: usize = 200;

/// A delivery that has no row, or one that can't be written.
#[derive(Clone, Debug)]
pub(super) struct Unpersisted {
    pub(super) id: String,
    pub(super) news: News,
    pub(super) recipient: String,
    pub(super) fallback_reason: Option<String>,
    pub(super) attempts: u32,
    pub(super) arrival: Arrival,
    pub(super) due: Instant,
    pub(super) fallback: Fallback,
    origin: Origin,
}

/// Where the row of a delivery told from memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// In the store, pending or sending.
    Row,
    /// Not there yet; it comes when its news are distributed.
    Later,
    /// Nowhere, ever.
    Never,
}

impl Unpersisted {
    /// Of news whose deliveries could not be written; `news` is redacted.
    pub(super) fn new(news: News, delivery: NewDelivery) -> Self {
        Self {
            origin: if news.id == 0 { Origin::Never } else { Origin::Later },
            id: delivery.id,
            recipient: delivery.recipient,
            fallback_reason: delivery.fallback_reason,
            attempts: 0,
            arrival: Arrival::No,
            due: Instant::now(),
            fallback: Fallback::Open,
            news,
        }
    }

    /// Of a row that could not be claimed or settled.
    pub(super) fn of_row(delivery: &Delivery, news: News) -> Self {
        Self {
            id: delivery.id.clone(),
            news,
            recipient: delivery.recipient.clone(),
            fallback_reason: delivery.fallback_reason.clone(),
            attempts: delivery.attempts,
            arrival: delivery.arrival,
            due: Instant::now(),
            fallback: delivery.fallback,
            origin: Origin::Row,
        }
    }

    /// What is peculiar about it.
    pub(super) fn annotations(&self) -> Vec<Annotation> {
        let mut annotations = vec![Annotation::NotRecorded];
        if self.arrival == Arrival::Unknown {
            annotations.push(Annotation::PossibleRepeat);
        }
        annotations
            .extend(self.fallback_reason.clone().map(|because| Annotation::InsteadOf { because }));
        annotations
    }
}

/// The ways to each channel's memory.
#[derive(Clone, Default)]
pub(super) struct Senders(BTreeMap<String, mpsc::Sender<Unpersisted>>);

impl Senders {
    /// A way to a new memory for this channel.
    pub(super) fn open(&mut self, channel: &str) -> Memory {
        let (sender, inbox) = mpsc::channel(MAX_QUEUED);
        self.0.insert(channel.to_owned(), sender);
        Memory { inbox, queue: Vec::new(), settled: HashMap::new() }
    }

    /// Gives it to a channel.
    pub(super) fn give(&self, channel: &str, unpersisted: Unpersisted) {
        let id = unpersisted.id.clone();
        let taken = self.0.get(channel).is_some_and(|it| it.try_send(unpersisted).is_ok());
        if !taken {
            tracing::error!(
                channel,
                id,
                "a message could be neither recorded nor queued; it is lost"
            );
        }
    }
}

/// One channel's memory.
pub(super) struct Memory {
    inbox: mpsc::Receiver<Unpersisted>,
    queue: Vec<Unpersisted>,
    settled: HashMap<String, (Outcome, Origin)>,
}

impl Memory {
    /// Takes in what was given; what is known already is not taken twice.
    pub(super) fn receive(&mut self) {
        while let Ok(unpersisted) = self.inbox.try_recv() {
            self.push(unpersisted);
        }
    }

    /// Queues one.
    pub(super) fn push(&mut self, unpersisted: Unpersisted) {
        if !self.knows(&unpersisted.id) {
            self.queue.push(unpersisted);
        }
    }

    /// Whether this delivery is told from memory: then its row must not be sent.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.settled.contains_key(id) || self.queue.iter().any(|it| it.id == id)
    }

    /// The first that is due, taken out.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Unpersisted> {
        let index = self.queue.iter().position(|it| it.due <= now)?;
        Some(self.queue.remove(index))
    }

    /// Remembers how it ended, until its row can be settled.
    pub(super) fn settle(&mut self, unpersisted: &Unpersisted, outcome: Outcome) {
        if unpersisted.origin != Origin::Never {
            self.settled.insert(unpersisted.id.clone(), (outcome, unpersisted.origin));
        }
    }

    /// Remembers how a row ended that could not be settled.
    pub(super) fn settle_row(&mut self, id: &str, outcome: Outcome) {
        self.settled.insert(id.to_owned(), (outcome, Origin::Row));
    }

    /// What can be settled now: rows that exist, of which `pending` are seen to wait.
    pub(super) fn to_settle(&self, pending: &[Delivery]) -> Vec<(String, Outcome)> {
        self.settled
            .iter()
            .filter(|(id, (_, origin))| {
                *origin == Origin::Row || pending.iter().any(|it| it.id == **id)
            })
            .map(|(id, (outcome, _))| (id.clone(), outcome.clone()))
            .collect()
    }

    /// Its row is settled.
    pub(super) fn forget(&mut self, id: &str) {
        self.settled.remove(id);
    }
}
