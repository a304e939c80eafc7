//! The composition root: the only place where adapters meet ports.
//!
//! [`App`] is the daemon: conductor and pages on the caller's runtime, watchdog and dispatcher on a
//! thread and runtime of their own, so that a starved or blocked runtime can't silence the part that
//! tells people. It decides nothing.
//! Invariant: one App a state directory, proven by its lock.

mod daemon;
pub mod expected;
pub mod lock;
pub mod reading;
pub mod review;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::daemon::Running;
use self::lock::StateLock;
use self::reading::Reading;
use crate::alert::channel::{self, ChannelKind, ChannelSettings};
use crate::alert::condition::Conditions;
use crate::alert::dispatcher::{Dispatcher, Handle};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::run::conductor::Conductor;
use crate::run::keeper::order::Settings;
use crate::run::keeper::process::KeeperProcesses;
use crate::schedule::ticker::Bell;
use crate::store::GuardDb;
use crate::watch::News;
use crate::watch::watchdog::Watchdog;
use crate::web::access::Gate;
use crate::web::status::{ChannelLine, Sources};
use crate::web::{self, Site};

/// The daemon, put together and not yet running.
pub struct App {
    config: Config,
    clock: Arc<dyn Clock>,
    db: GuardDb,
    conductor: Conductor,
    watchdog: Watchdog,
    dispatcher: Dispatcher,
    conditions: Conditions,
    _lock: StateLock,
}

impl App {
    /// Takes the state directory's lock, opens `guard.db` and puts the parts together.
    ///
    /// # Errors
    /// When another daemon has the lock, or a part can't be made; each says what to do.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        let lock = StateLock::take(&config.service.state_dir)?;
        let path = config.service.state_dir.join("guard.db");
        let db = GuardDb::open(&path).with_context(|| format!("can't open {}", path.display()))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let keepers = Arc::new(KeeperProcesses::new(
            config.service.state_dir.clone(),
            Settings {
                program: this_program()?,
                config: config.file.clone(),
                root: config.root.clone(),
            },
        ));
        let conductor = Conductor::new(
            Arc::new(db.clone()),
            keepers.clone(),
            Arc::clone(&clock),
            config.schedules.clone(),
            config.service.max_running,
        );
        let channels = config
            .channels
            .iter()
            .map(channel::configure)
            .collect::<Result<Vec<_>, _>>()
            .context("a channel can't be used")?;
        let dispatcher = Dispatcher::new(
            Arc::new(db.clone()),
            channels,
            Arc::clone(&clock),
            Arc::new(config.redactor()),
        );
        let conditions = Conditions::new(
            dispatcher.handle(),
            Arc::new(db.clone()),
            Arc::clone(&clock),
            config.service.instance.clone(),
        );
        let watchdog = Watchdog::new(
            Arc::new(db.clone()),
            Arc::new(db.clone()),
            keepers,
            Arc::clone(&clock),
            config.service.instance.clone(),
        );
        Ok(Self { config, clock, db, conductor, watchdog, dispatcher, conditions, _lock: lock })
    }

    /// The ports for reading what it does.
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading::of(&self.db, self.config.service.state_dir.clone())
    }

    /// Runs until `stop`; then nothing new is begun, and what people must be told goes out for at
    /// most ten seconds. Runs that go on are kept by their keepers.
    ///
    /// # Errors
    /// When the address for the pages can't be had, or a loop can't be started.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let bell = Bell::start().await.context("the bell can't be started")?;
        let serving = self.serve_pages(stop.clone()).await?;
        let guard = guard_thread(self.watchdog, self.dispatcher, self.conditions, stop.clone())?;
        self.conductor.run(bell, stop.clone()).await;
        serving.await.context("the pages broke")??;
        tokio::task::spawn_blocking(move || guard.join())
            .await
            .context("the guard's thread was lost")?
            .map_err(|_| anyhow::anyhow!("the guard's thread panicked; its log says where"))?
    }
}

impl App {
    /// Pages and API, on a task of their own.
    async fn serve_pages(
        &self,
        stop: CancellationToken,
    ) -> anyhow::Result<JoinHandle<std::io::Result<()>>> {
        let service = &self.config.service;
        let gate = Gate::new(service.bind, service.token.clone())?;
        let listener = TcpListener::bind(service.bind).await.with_context(|| {
            format!(
                "can't listen on {}; set [service] bind to an address that is free",
                service.bind
            )
        })?;
        let site = Site {
            sources: Sources {
                instance: service.instance.clone(),
                ledger: Arc::new(self.db.clone()),
                history: Arc::new(self.db.clone()),
                clock: Arc::clone(&self.clock),
                channels: self.config.channels.iter().map(channel_line).collect(),
            },
            daemon: Arc::new(Running {
                schedules: self.config.schedules.clone(),
                clock: Arc::clone(&self.clock),
                loops: vec![
                    ("conductor", self.conductor.pulse()),
                    ("watchdog", self.watchdog.pulse()),
                ],
            }),
        };
        let router = web::guarded(web::routes(site), gate);
        Ok(tokio::spawn(web::serve(listener, router, stop.cancelled_owned())))
    }
}

/// A channel, as far as anybody may know.
fn channel_line(settings: &ChannelSettings) -> ChannelLine {
    ChannelLine {
        channel: settings.name.clone(),
        kind: match settings.kind {
            ChannelKind::Console => "console",
            ChannelKind::Slack { .. } => "slack",
            ChannelKind::Webhook { .. } => "webhook",
            ChannelKind::Email { .. } => "email",
        },
        severity: settings.severity,
        fallback: settings.fallback.clone(),
    }
}

/// Watchdog and dispatcher on a thread and runtime of their own.
fn guard_thread(
    watchdog: Watchdog,
    dispatcher: Dispatcher,
    conditions: Conditions,
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
                tokio::spawn(hand_over(news, dispatcher.handle()));
                tokio::spawn(conditions.run(stop.clone()));
                // The dispatcher ends after the watchdog, so that its last news still go out.
                let silent = CancellationToken::new();
                let sending = tokio::spawn(dispatcher.run(silent.clone()));
                watchdog.telling_from_memory(unrecorded).run(stop).await;
                silent.cancel();
                sending.await.context("the dispatcher broke")
            })
        })
        .context("the guard's thread can't be started")
}

/// News that can't be written down goes from the watchdog to the dispatcher in memory.
async fn hand_over(mut news: mpsc::UnboundedReceiver<News>, dispatcher: Handle) {
    while let Some(one) = news.recv().await {
        if !dispatcher.tell_unrecorded(one) {
            tracing::error!("a message that could not be written down was lost: too many wait");
        }
    }
}

/// The file that keepers and reviews are started from.
fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program can't find its own file")
}
