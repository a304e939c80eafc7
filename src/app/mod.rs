//! The composition root: the only place where adapters meet ports.
//!
//! [`App`] is the daemon: conductor and pages on the caller's runtime, watchdog and dispatcher on a
//! thread and runtime of their own, so that a starved or blocked runtime can't silence the part that
//! tells people. It decides nothing.
//! Invariant: one App a state directory, proven by its lock.

mod daemon;
pub mod expected;
mod filled_in;
mod guard;
mod legacy_api;
pub mod limits;
pub mod lock;
pub mod open_state;
pub mod reload;
pub mod review;
pub mod run_now;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::daemon::{OneLoop, Running, loops};
use self::guard::Messengers;
use self::legacy_api::{BatchIncidents, ReviewProcesses};
use self::lock::StateLock;
use self::open_state::OpenState;
use self::reload::{Alerting, Files, Reloader, in_one_line};
use crate::alert::dispatcher::Dispatcher;
use crate::clock::{Clock, SystemClock};
use crate::config::problem::Problems;
use crate::config::{self, Config, LastGood, Usable};
use crate::pulse::{Beat, Pulse};
use crate::run::Scope;
use crate::run::conductor::Conductor;
use crate::run::keeper::order::Settings;
use crate::run::keeper::process::KeeperProcesses;
use crate::run::retention::Sweeper;
use crate::schedule::Schedule;
use crate::schedule::ticker::Ticker;
use crate::store::GuardDb;
use crate::watch::watchdog::Watchdog;
use crate::web::access::Gate;
use crate::web::legacy_api::LegacyApi;
use crate::web::status::Sources;
use crate::web::{self, Site};

/// The daemon, put together and not yet running.
pub struct App {
    config: Config,
    clock: Arc<dyn Clock>,
    db: GuardDb,
    writing: watch::Receiver<Beat>,
    conductor: Conductor,
    watchdog: Watchdog,
    messengers: Messengers,
    dispatcher: Dispatcher,
    /// Where its configuration was read, and how that went; `None`: it stays as it is.
    followed: Option<(Files, Usable)>,
    read_again: Arc<Notify>,
    _lock: StateLock,
}

impl App {
    /// Takes the state directory's lock, opens `guard.db` and puts the parts together.
    ///
    /// # Errors
    /// When another daemon has the lock, or a part can't be made; each says what to do.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        let lock = StateLock::take(&config.service.state_dir)?;
        let db = open_guard(&config)?;
        Self::assemble(config, lock, &db)
    }

    /// As [`App::build`], with whatever of these files is right and the last good versions of what is
    /// not; follows them: what changes in schedules and alerts takes effect while it runs.
    ///
    /// # Errors
    /// As [`App::build`]; also when `lookout.toml` leaves open where the state is.
    pub fn start(files: Files) -> anyhow::Result<Self> {
        let (location, process) = (&files.location, &files.process);
        let first = config::usable(location, process, &LastGood::default())?;
        let lock = StateLock::take(&first.config.service.state_dir)?;
        let db = open_guard(&first.config)?;
        let last_good = LastGood(db.good_files().context("can't read guard.db")?);
        let usable = config::usable(location, process, &last_good)?;
        for problem in &usable.problems {
            tracing::warn!(problem = in_one_line(problem), "a file can't be used as it is");
        }
        let mut app = Self::assemble(usable.config.clone(), lock, &db)?;
        app.followed = Some((files, usable));
        Ok(app)
    }

    fn assemble(config: Config, lock: StateLock, db: &GuardDb) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (db, writing) =
            db.clone().with_zones(config.zones.clone()).with_pulse(Arc::clone(&clock));
        let keepers = Arc::new(KeeperProcesses::new(
            config.service.state_dir.clone(),
            process_settings(&config)?,
        ));
        let conductor = Conductor::new(
            Arc::new(db.clone()),
            keepers.clone(),
            Arc::clone(&clock),
            config.schedules.clone(),
            config.service.max_running,
        );
        let watchdog = Watchdog::new(
            Arc::new(db.clone()),
            Arc::new(db.clone()),
            keepers,
            Arc::clone(&clock),
            config.service.instance.clone(),
        )
        .remembering(Arc::new(db.clone()));
        let messengers = Messengers {
            db: db.clone(),
            clock: Arc::clone(&clock),
            instance: config.service.instance.clone(),
            pulse: Pulse::default(),
        };
        let dispatcher = messengers.dispatcher(&Alerting::of(&config))?;
        Ok(Self {
            config,
            clock,
            db,
            writing,
            conductor,
            watchdog,
            messengers,
            dispatcher,
            followed: None,
            read_again: Arc::default(),
            _lock: lock,
        })
    }

    /// What it goes by at first.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sees to this much and no more.
    #[must_use]
    pub fn within(mut self, scope: Scope) -> Self {
        self.conductor = self.conductor.within(scope);
        self.watchdog = self.watchdog.within(scope);
        self
    }

    /// Rung by whoever wants the files to be read again at once.
    #[must_use]
    pub fn read_again(&self) -> Arc<Notify> {
        Arc::clone(&self.read_again)
    }

    /// The ports that show what it does.
    #[must_use]
    pub fn open_state(&self) -> OpenState {
        OpenState::of(&self.db, self.config.service.state_dir.clone())
    }

    /// Runs until `stop`; then nothing new is begun, and what people must be told goes out for at
    /// most ten seconds. Runs that go on are kept by their keepers.
    ///
    /// # Errors
    /// When the address for the pages can't be had, or a loop can't be started or ends by itself.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let ticker = Ticker::start(Arc::clone(&self.clock))
            .await
            .context("the scheduler can't be started")?;
        let loops = loops(&self, &ticker);
        let followed = self.follow_files(stop.clone());
        let serving = self.serve_pages(&loops, &followed, stop.clone()).await?;
        let watchdog = self.watchdog.watching(loops.iter().filter_map(OneLoop::watched).collect());
        let alerting = followed.alerting.clone();
        let guard =
            guard::start(watchdog, self.messengers, self.dispatcher, alerting, stop.clone())?;
        let mut guard = tokio::task::spawn_blocking(move || guard.join());
        let kept = self.config.service.kept;
        let sweeper =
            Sweeper::new(self.config.service.state_dir.clone(), Arc::new(self.db.clone()), kept);
        tokio::spawn(sweeper.run(stop.clone()));
        let conductor = self.conductor.following(followed.schedules);
        let ended = tokio::select! {
            () = conductor.run(ticker, stop.clone()) => {
                serving.await.context("the pages broke")??;
                guard.await
            }
            // Without the part that tells people nothing goes on: whoever supervises us starts
            // us again. Runs are kept by their keepers.
            ended = &mut guard => {
                stop.cancel();
                ended
            }
        };
        ended
            .context("the guard's thread was lost")?
            .map_err(|_| anyhow::anyhow!("the guard's thread panicked; its log says where"))?
    }
}

/// What may change while it runs.
#[derive(Clone)]
struct Followed {
    schedules: watch::Receiver<Vec<Schedule>>,
    alerting: watch::Receiver<Alerting>,
}

impl App {
    /// Starts following the files, if there are any to follow.
    fn follow_files(&self, stop: CancellationToken) -> Followed {
        let Some((files, read)) = self.followed.clone() else {
            return Followed {
                schedules: watch::channel(self.config.schedules.clone()).1,
                alerting: watch::channel(Alerting::of(&self.config)).1,
            };
        };
        let reloader = Reloader::new(files, read, self.db.clone(), Arc::clone(&self.clock));
        let followed = Followed { schedules: reloader.schedules(), alerting: reloader.alerting() };
        tokio::spawn(reloader.run(self.read_again(), stop));
        followed
    }

    /// Pages and API, on a task of their own.
    async fn serve_pages(
        &self,
        loops: &[OneLoop],
        followed: &Followed,
        stop: CancellationToken,
    ) -> anyhow::Result<JoinHandle<std::io::Result<()>>> {
        let service = &self.config.service;
        let gate = Gate::new(service.bind, service.token.clone())?.allowing(&service.hosts);
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
            },
            daemon: Arc::new(Running {
                followed: followed.clone(),
                clock: Arc::clone(&self.clock),
                loops: loops.to_vec(),
            }),
        };
        let incidents = BatchIncidents {
            incidents: Arc::new(self.db.clone()),
            instance: service.instance.clone(),
            clock: Arc::clone(&self.clock),
        };
        let reviews = Arc::new(ReviewProcesses::new(process_settings(&self.config)?, incidents));
        let pick_up = self.config.review.records.pick_up.join(",");
        let old = LegacyApi::new(reviews, pick_up, stop.clone());
        let router = web::guarded(web::routes(site).merge(old.routes()), gate);
        let limits = web::Limits::of(limits::connections());
        Ok(tokio::spawn(web::serve(listener, router, limits, stop)))
    }
}

/// What the daemon of these files goes by: what is right, and the last good versions of what is not.
///
/// # Errors
/// All problems of all files, if `lookout.toml` leaves open where the state is.
pub fn usable_configuration(files: &Files) -> Result<Usable, Problems> {
    let (location, process) = (&files.location, &files.process);
    let usable = config::usable(location, process, &LastGood::default())?;
    let path = usable.config.service.state_dir.join("guard.db");
    if usable.problems.is_empty() || !path.exists() {
        return Ok(usable);
    }
    // Who may not read it goes on without the versions in it; the problems are told all the same.
    let last_good =
        GuardDb::open(&path, &filled_in::earlier(&usable.config)).and_then(|db| db.good_files());
    match last_good {
        Ok(last_good) => config::usable(location, process, &LastGood(last_good)),
        Err(_) => Ok(usable),
    }
}

fn open_guard(config: &Config) -> anyhow::Result<GuardDb> {
    let path = config.service.state_dir.join("guard.db");
    GuardDb::open(&path, &filled_in::earlier(config))
        .with_context(|| format!("can't open {}", path.display()))
}

/// How keepers and reviews are started.
fn process_settings(config: &Config) -> anyhow::Result<Settings> {
    Ok(Settings {
        program: this_program()?,
        config: config.file.clone(),
        root: config.root.clone(),
    })
}

/// The file that keepers and reviews are started from.
fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program can't find its own file")
}
