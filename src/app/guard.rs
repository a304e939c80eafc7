//! The guard's thread: watchdog and dispatcher on a runtime of their own, so that a starved or
//! blocked runtime can't silence the part that tells people.
//!
//! When the channels change, the dispatcher is exchanged: the old one finishes what is in hand, the
//! new one goes on from the rows.
//! Invariant: if either of them ends by itself, the thread ends, and with it the daemon.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::reload::Alerting;
use crate::alert::channel;
use crate::alert::delivery_health::DeliveryHealth;
use crate::alert::dispatcher::{Dispatcher, Handle};
use crate::clock::Clock;
use crate::pulse::Pulse;
use crate::store::GuardDb;
use crate::watch::News;
use crate::watch::watchdog::Watchdog;

/// Makes dispatchers.
pub(super) struct Messengers {
    pub(super) db: GuardDb,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) instance: String,
    /// One pulse for all of them, one after the other.
    pub(super) pulse: Pulse,
}

impl Messengers {
    /// A dispatcher to these channels.
    pub(super) fn dispatcher(&self, alerting: &Alerting) -> anyhow::Result<Dispatcher> {
        let channels = alerting
            .channels
            .iter()
            .map(channel::configure)
            .collect::<Result<Vec<_>, _>>()
            .context("a channel can't be used")?;
        let dispatcher = Dispatcher::new(
            Arc::new(self.db.clone()),
            channels,
            Arc::clone(&self.clock),
            Arc::clone(&alerting.redactor),
        );
        Ok(dispatcher.with_pulse(self.pulse.clone()))
    }

    fn delivery_health(&self, handle: Handle) -> DeliveryHealth {
        let incidents = Arc::new(self.db.clone());
        DeliveryHealth::new(handle, incidents, Arc::clone(&self.clock), self.instance.clone())
    }

    /// Sends until `stop`, one dispatcher after the other.
    async fn send(
        self,
        first: Dispatcher,
        mut alerting: watch::Receiver<Alerting>,
        news: mpsc::UnboundedReceiver<News>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let current = watch::Sender::new(first.handle());
        tokio::spawn(hand_over(news, current.subscribe()));
        let mut dispatcher = first;
        loop {
            current.send_replace(dispatcher.handle());
            let quit = CancellationToken::new();
            tokio::spawn(self.delivery_health(dispatcher.handle()).run(quit.clone()));
            let mut sending = tokio::spawn(dispatcher.run(quit.clone()));
            let next = tokio::select! {
                () = stop.cancelled() => None,
                next = self.next(&mut alerting) => Some(next),
                ended = &mut sending => {
                    ended.context("the dispatcher broke")?;
                    anyhow::bail!("the dispatcher ended by itself");
                }
            };
            quit.cancel();
            sending.await.context("the dispatcher broke")?;
            match next {
                None => return Ok(()),
                Some(next) => dispatcher = next,
            }
        }
    }

    /// The next dispatcher, as soon as the channels have changed and nothing is in memory alone.
    async fn next(&self, alerting: &mut watch::Receiver<Alerting>) -> Dispatcher {
        let mut beat = self.pulse.subscribe();
        loop {
            if alerting.changed().await.is_err() {
                // Nobody reads the files again; the channels stay as they are.
                std::future::pending::<()>().await;
            }
            // What could not be written down is in the memory of the dispatcher that runs.
            let _ = beat.wait_for(|beat| beat.last_error.is_none()).await;
            let wanted = alerting.borrow_and_update().clone();
            match self.dispatcher(&wanted) {
                Ok(dispatcher) => return dispatcher,
                Err(error) => tracing::error!("the channels stay as they were: {error:#}"),
            }
        }
    }
}

/// Starts the thread; it ends after `stop`, when what people must be told has gone out or ten
/// seconds have passed.
pub(super) fn start(
    watchdog: Watchdog,
    messengers: Messengers,
    first: Dispatcher,
    alerting: watch::Receiver<Alerting>,
    stop: CancellationToken,
) -> anyhow::Result<std::thread::JoinHandle<anyhow::Result<()>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the guard's runtime can't be made")?;
    std::thread::Builder::new()
        .name("guard".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let (unrecorded, news) = mpsc::unbounded_channel();
                // The dispatcher ends after the watchdog, so that its last news still go out.
                let silent = CancellationToken::new();
                let mut sending =
                    tokio::spawn(messengers.send(first, alerting, news, silent.clone()));
                tokio::select! {
                    () = watchdog.notifying_from_memory(unrecorded).run(stop) => {}
                    ended = &mut sending => return ended.context("the dispatcher broke")?,
                }
                silent.cancel();
                sending.await.context("the dispatcher broke")?
            })
        })
        .context("the guard's thread can't be started")
}

/// News that can't be written down goes from the watchdog to the dispatcher in memory.
async fn hand_over(mut news: mpsc::UnboundedReceiver<News>, dispatcher: watch::Receiver<Handle>) {
    while let Some(one) = news.recv().await {
        let handle = dispatcher.borrow().clone();
        if !handle.notify_unpersisted(one) {
            tracing::error!("a message that could not be written down was lost: too many wait");
        }
    }
}
