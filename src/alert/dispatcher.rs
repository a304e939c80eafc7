//! The loop: news become deliveries, and each channel sends its own.
//!
//! One task a channel ([`worker`]), so that nothing waits for another; this one distributes news
//! to them. Timers only tick: what is due is read from the outbox at every step, so a lost or
//! doubled tick changes nothing, and a restart goes on where it was.
//! Invariant: with a store that can't be written, news still go out, from memory, and say so.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::channel::ConfiguredChannel;
use super::message;
use super::outbox::{NewDelivery, Outbox};
use super::route;
use crate::clock::Clock;
use crate::pulse::{Beat, Pulse};
use crate::redact::Redactor;
use crate::storage::StorageError;
use crate::watch::News;
use crate::watch::delivery_log::KEPT_FOR;

mod memory;
mod status;
mod store_failure;
mod worker;

pub use status::{ChannelStatus, Overdue};

use memory::{Senders, Unpersisted};
use store_failure::StoreFailure;
use worker::{Context, Worked, Worker};

/// Without a nudge: how soon news and requests of the command line are seen.
const POLL: Duration = Duration::from_secs(1);

/// How long after the order to stop messages still go out.
const DRAIN: Duration = Duration::from_secs(10);

/// How often the old ones are looked for.
const PRUNE_EVERY: TimeDelta = TimeDelta::hours(6);

/// More unrecorded news than this are a flood; what can't be queued is logged.
const MAX_UNPERSISTED: usize = 200;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// Something: look again at once.
    Busy,
    /// Nothing; look again after so long, or when nudged.
    Idle(Duration),
}

/// Sends news to people.
pub struct Dispatcher {
    outbox: Arc<dyn Outbox>,
    channels: Arc<Vec<ConfiguredChannel>>,
    clock: Arc<dyn Clock>,
    redactor: Arc<Redactor>,
    workers: Vec<Worker>,
    memories: Senders,
    handle: Handle,
    unpersisted: mpsc::Receiver<News>,
    /// News that were distributed in memory, because that could not be written down.
    in_memory: HashSet<i64>,
    housekeeping: Housekeeping,
    store_failure: StoreFailure,
    pulse: Pulse,
}

/// What is done once at start, and then now and then.
#[derive(Default)]
struct Housekeeping {
    removed_channels_dead_lettered: bool,
    pruned_at: Option<chrono::DateTime<chrono::Utc>>,
}

/// For those who have news, or want to know how the channels are. Clones share all.
#[derive(Clone)]
pub struct Handle {
    outbox: Arc<dyn Outbox>,
    nudge: Arc<Notify>,
    unpersisted: mpsc::Sender<News>,
    states: Vec<watch::Receiver<ChannelStatus>>,
}

impl Handle {
    /// There may be news in the store.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Tells news that could not be written down. It goes to the channels from memory, marked as
    /// not recorded; if this process dies first, it is lost. Returns whether it was taken.
    #[must_use]
    pub fn notify_unpersisted(&self, news: News) -> bool {
        let taken = self.unpersisted.try_send(news).is_ok();
        self.nudge();
        taken
    }

    /// How each channel is, in the order of the settings.
    #[must_use]
    pub fn channel_states(&self) -> Vec<ChannelStatus> {
        self.states.iter().map(|it| it.borrow().clone()).collect()
    }

    /// The outbox, for its backlog, its dead and their replay.
    #[must_use]
    pub fn outbox(&self) -> &Arc<dyn Outbox> {
        &self.outbox
    }
}

impl Dispatcher {
    /// Puts it together; nothing is sent before [`Dispatcher::run`] or [`Dispatcher::step`].
    #[must_use]
    pub fn new(
        outbox: Arc<dyn Outbox>,
        channels: Vec<ConfiguredChannel>,
        clock: Arc<dyn Clock>,
        redactor: Arc<Redactor>,
    ) -> Self {
        let channels = Arc::new(channels);
        let (unpersisted_sender, unpersisted) = mpsc::channel(MAX_UNPERSISTED);
        let mut memories = Senders::default();
        let opened: Vec<_> = channels.iter().map(|it| memories.open(&it.name)).collect();
        let mut states = Vec::new();
        let mut workers = Vec::new();
        for (channel, memory) in channels.iter().zip(opened) {
            let (status, seen) = watch::channel(ChannelStatus::untried(channel));
            states.push(seen);
            let context = Context {
                outbox: Arc::clone(&outbox),
                channels: Arc::clone(&channels),
                clock: Arc::clone(&clock),
                redactor: Arc::clone(&redactor),
                memories: memories.clone(),
            };
            workers.push(Worker::new(channel.clone(), context, memory, status));
        }
        let handle = Handle {
            outbox: Arc::clone(&outbox),
            nudge: Arc::new(Notify::new()),
            unpersisted: unpersisted_sender,
            states,
        };
        Self {
            outbox,
            channels,
            clock,
            redactor,
            workers,
            memories,
            handle,
            unpersisted,
            in_memory: HashSet::new(),
            housekeeping: Housekeeping::default(),
            store_failure: StoreFailure::default(),
            pulse: Pulse::default(),
        }
    }

    /// For those who have news.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Distributes, and lets each channel send at most one message; for tests. Busy as long as
    /// there was something to do.
    pub async fn step(&mut self) -> Stepped {
        let mut stepped = self.fan_out().await;
        for worker in &mut self.workers {
            stepped = match (stepped, worker.step().await) {
                (Stepped::Idle(one), Worked::Idle(other) | Worked::Paced(other)) => {
                    Stepped::Idle(one.min(other))
                }
                (Stepped::Busy, _) | (_, Worked::Busy) => Stepped::Busy,
            };
        }
        stepped
    }

    /// Runs until `stop`, then distributes once more and lets the channels finish what is due,
    /// for [`DRAIN`] at most; what is left waits for the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        let drain = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let wakers: Vec<Arc<Notify>> = self.workers.iter().map(Worker::waker).collect();
        for worker in std::mem::take(&mut self.workers) {
            let (name, drain) = (worker.name().to_owned(), drain.clone());
            tasks.spawn(async move {
                worker.run(drain).await;
                name
            });
        }
        while !stop.is_cancelled() {
            let stepped = self.fan_out().await;
            wakers.iter().for_each(|waker| waker.notify_one());
            let Stepped::Idle(wait) = stepped else { continue };
            let nudge = Arc::clone(&self.handle.nudge);
            tokio::select! {
                () = stop.cancelled() => {}
                () = nudge.notified() => {}
                () = tokio::time::sleep(wait) => {}
                Some(ended) = tasks.join_next() => match ended {
                    Ok(channel) => tracing::error!(channel, "a channel's task ended by itself"),
                    Err(error) => tracing::error!(%error, "a channel's task died; it sends no more"),
                },
            }
        }
        self.fan_out().await;
        drain.cancel();
        wakers.iter().for_each(|waker| waker.notify_one());
        // Workers bound themselves by the same time; the second is for their last write.
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN + Duration::from_secs(1), all).await.is_err() {
            tracing::warn!(
                "some messages were still on their way at the end; they go again at the next start"
            );
        }
    }

    /// Beats with this pulse, for a dispatcher that takes another's place.
    #[must_use]
    pub fn with_pulse(mut self, pulse: Pulse) -> Self {
        self.pulse = pulse;
        self
    }

    /// What the distribution does and when it last did it; how the channels are is in the handle.
    #[must_use]
    pub fn pulse(&self) -> watch::Receiver<Beat> {
        self.pulse.subscribe()
    }

    /// News become deliveries.
    async fn fan_out(&mut self) -> Stepped {
        self.pulse.begin(&*self.clock);
        let (stepped, error) = self.hand_out().await;
        // Said by `trouble`, once.
        let _ = self.pulse.end(&*self.clock, error);
        stepped
    }

    async fn hand_out(&mut self) -> (Stepped, Option<String>) {
        let mut stepped = Stepped::Idle(POLL);
        while let Ok(news) = self.unpersisted.try_recv() {
            self.spread_in_memory(&news, &[]);
            stepped = Stepped::Busy;
        }
        self.keep_house().await;
        match self.distribute_all().await {
            Ok(Stepped::Busy) => stepped = Stepped::Busy,
            Ok(Stepped::Idle(_)) => {}
            Err(error) => {
                self.store_failure.seen("dispatcher", &error);
                return (stepped, Some(error.to_string()));
            }
        }
        self.store_failure.gone("dispatcher");
        (stepped, None)
    }

    /// Goes on to the next after a failure: with a store that can't be written, each is told from
    /// memory.
    async fn distribute_all(&mut self) -> Result<Stepped, StorageError> {
        let news = self.outbox.undistributed().await?;
        let mut done = Ok(Stepped::Idle(POLL));
        for news in news {
            match self.distribute(&news).await {
                Ok(()) => done = done.map(|_| Stepped::Busy),
                Err(error) => done = Err(error),
            }
        }
        done
    }

    async fn distribute(&mut self, news: &News) -> Result<(), StorageError> {
        let notified = self.outbox.channels_of(news.incident.id).await?;
        let now = self.clock.now();
        let deliveries = route::channels_for(news, &self.channels, &notified)
            .into_iter()
            .flat_map(|it| deliveries(news, it, now))
            .collect();
        let written = self.outbox.distribute(news.id, deliveries, now).await;
        match &written {
            Ok(()) => {
                self.in_memory.remove(&news.id);
            }
            Err(StorageError::Unwritable(_)) if self.in_memory.insert(news.id) => {
                self.spread_in_memory(news, &notified);
            }
            Err(_) => {}
        }
        written
    }

    /// Gives it to the channels without writing it down. The ids are the ones that the deliveries
    /// will have if they are written later, so that nobody is told twice.
    fn spread_in_memory(&self, news: &News, notified: &[String]) {
        let everybody: Vec<String> = self.channels.iter().map(|it| it.name.clone()).collect();
        // Who was told the beginning can't be known of an incident that was never recorded.
        let notified = if notified.is_empty() { &everybody[..] } else { notified };
        for channel in route::channels_for(news, &self.channels, notified) {
            for delivery in deliveries(news, channel, self.clock.now()) {
                let unpersisted =
                    Unpersisted::new(message::redacted(news, &self.redactor), delivery);
                self.memories.give(&channel.name, unpersisted);
            }
        }
    }

    async fn keep_house(&mut self) {
        let now = self.clock.now();
        if !self.housekeeping.removed_channels_dead_lettered {
            let known: Vec<String> = self.channels.iter().map(|it| it.name.clone()).collect();
            match self.outbox.dead_letter_removed_channels(&known, now).await {
                Ok(0) => self.housekeeping.removed_channels_dead_lettered = true,
                Ok(n) => {
                    self.housekeeping.removed_channels_dead_lettered = true;
                    tracing::warn!(
                        n,
                        "messages for channels that are gone were given up: lookout alert dead"
                    );
                }
                Err(error) => self.store_failure.seen("dispatcher", &error),
            }
        }
        if self.housekeeping.pruned_at.is_none_or(|at| now - at >= PRUNE_EVERY) {
            self.housekeeping.pruned_at = Some(now);
            if let Err(error) = self.outbox.prune(now - KEPT_FOR).await {
                self.store_failure.seen("dispatcher", &error);
            }
        }
    }
}

/// One for each recipient of a channel.
fn deliveries(
    news: &News,
    channel: &ConfiguredChannel,
    now: chrono::DateTime<chrono::Utc>,
) -> Vec<NewDelivery> {
    let recipients = channel.channel.recipients();
    recipients.iter().map(|it| NewDelivery::new(news, &channel.name, it, now)).collect()
}
