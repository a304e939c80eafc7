//! What can't be written down is told from memory.
//!
//! Two cases: news or deliveries of a store that can be read but not written, and news that the
//! watchdog could not record at all. Both are marked as not recorded. What was told is
//! remembered, so that the rows are settled instead of sent again as soon as that can be written.

use std::collections::{BTreeMap, HashMap};

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::alert::channel::Arrival;
use crate::alert::message::Mark;
use crate::alert::outbox::{Delivery, NewDelivery, Outcome};
use crate::watch::News;

/// More for one channel are a flood; what can't be queued is logged by the sender.
const MOST_QUEUED: usize = 200;

/// A delivery that has no row, or one that can't be written.
#[derive(Clone, Debug)]
pub(super) struct Unrecorded {
    pub(super) id: String,
    pub(super) news: News,
    pub(super) recipient: String,
    pub(super) because: Option<String>,
    pub(super) attempts: u32,
    pub(super) arrival: Arrival,
    pub(super) due: Instant,
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

impl Unrecorded {
    /// Of news whose deliveries could not be written; `news` is redacted.
    pub(super) fn new(news: News, delivery: NewDelivery) -> Self {
        Self {
            origin: if news.id == 0 { Origin::Never } else { Origin::Later },
            id: delivery.id,
            recipient: delivery.recipient,
            because: delivery.because,
            attempts: 0,
            arrival: Arrival::No,
            due: Instant::now(),
            news,
        }
    }

    /// Of a row that could not be claimed or settled.
    pub(super) fn of_row(delivery: &Delivery, news: News) -> Self {
        Self {
            id: delivery.id.clone(),
            news,
            recipient: delivery.recipient.clone(),
            because: delivery.because.clone(),
            attempts: delivery.attempts,
            arrival: delivery.arrival,
            due: Instant::now(),
            origin: Origin::Row,
        }
    }

    /// What is peculiar about it.
    pub(super) fn marks(&self) -> Vec<Mark> {
        let mut marks = vec![Mark::NotRecorded];
        if self.arrival == Arrival::Perhaps {
            marks.push(Mark::PossibleRepeat);
        }
        marks.extend(self.because.clone().map(|because| Mark::InsteadOf { because }));
        marks
    }
}

/// The ways to each channel's memory.
#[derive(Clone, Default)]
pub(super) struct Senders(BTreeMap<String, mpsc::Sender<Unrecorded>>);

impl Senders {
    /// A way to a new memory for this channel.
    pub(super) fn open(&mut self, channel: &str) -> Memory {
        let (sender, inbox) = mpsc::channel(MOST_QUEUED);
        self.0.insert(channel.to_owned(), sender);
        Memory { inbox, queue: Vec::new(), settled: HashMap::new() }
    }

    /// Gives it to a channel.
    pub(super) fn give(&self, channel: &str, unrecorded: Unrecorded) {
        let id = unrecorded.id.clone();
        let taken = self.0.get(channel).is_some_and(|it| it.try_send(unrecorded).is_ok());
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
    inbox: mpsc::Receiver<Unrecorded>,
    queue: Vec<Unrecorded>,
    settled: HashMap<String, (Outcome, Origin)>,
}

impl Memory {
    /// Takes in what was given; what is known already is not taken twice.
    pub(super) fn receive(&mut self) {
        while let Ok(unrecorded) = self.inbox.try_recv() {
            self.push(unrecorded);
        }
    }

    /// Queues one.
    pub(super) fn push(&mut self, unrecorded: Unrecorded) {
        if !self.knows(&unrecorded.id) {
            self.queue.push(unrecorded);
        }
    }

    /// Whether this delivery is told from memory: then its row must not be sent.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.settled.contains_key(id) || self.queue.iter().any(|it| it.id == id)
    }

    /// The first that is due, taken out.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Unrecorded> {
        let index = self.queue.iter().position(|it| it.due <= now)?;
        Some(self.queue.remove(index))
    }

    /// Remembers how it ended, until its row can be settled.
    pub(super) fn settle(&mut self, unrecorded: &Unrecorded, outcome: Outcome) {
        if unrecorded.origin != Origin::Never {
            self.settled.insert(unrecorded.id.clone(), (outcome, unrecorded.origin));
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
