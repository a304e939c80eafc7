//! What the command line looks at: the ports for reading, without a daemon and without its lock.
//!
//! Requests to the daemon are rows, so the ledger is among them.
//! Invariant: nothing here starts, judges or sends anything, and who only looks creates nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use chrono::{DateTime, Utc};

use super::filled_in;
use super::reload::Files;
use super::{lock, usable_configuration};
use crate::alert::outbox::Outbox;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::config::problem::{Problem, Problems};
use crate::run::ledger::Ledger;
use crate::storage::{StorageError, private_folder};
use crate::store::GuardDb;
use crate::watch::audit::{self, Records, Report};
use crate::watch::delivery_log::DeliveryLog;
use crate::watch::history::{History, IncidentFilter, SlotFilter};
use crate::watch::incidents::Incidents;
use crate::web::status::{self, ChannelLine, FromSigns, Process, Sources};
pub use crate::web::status::{ScheduleStatus, Status};

/// The ports that show what was and take requests; clones share the database.
#[derive(Clone)]
pub struct OpenState {
    /// Slots, claims, pauses, requests.
    pub ledger: Arc<dyn Ledger>,
    /// Slots with verdicts, incidents with news.
    pub history: Arc<dyn History>,
    /// Open incidents.
    pub incidents: Arc<dyn Incidents>,
    /// Deliveries.
    pub outbox: Arc<dyn Outbox>,
    /// What became of news.
    pub deliveries: Arc<dyn DeliveryLog>,
    /// Where runs keep their files.
    pub state_dir: PathBuf,
}

/// What a command is going to do with the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Show it. Where there is none yet, there is nothing to show.
    Look,
    /// Write a request into it.
    Request,
}

/// Configuration and state, as the daemon of this configuration has them.
pub struct Opened {
    /// What can be used of it.
    pub config: Config,
    /// What can't.
    pub problems: Vec<Problem>,
    /// The ports.
    pub state: OpenState,
}

/// Why there is no state to work with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing here has to do with Lookout; it says where was looked.
    #[error("{0}")]
    NotConfigured(String),
    /// Where the state is can't be known.
    #[error("{0}")]
    Configuration(#[from] Problems),
    /// It can't be read or written.
    #[error("{0:#}")]
    State(#[from] anyhow::Error),
}

/// Opens configuration and state.
///
/// # Errors
/// See [`OpenError`].
pub fn open(files: &Files, access: Access) -> Result<Opened, OpenError> {
    if let Some(text) = files.not_configured() {
        return Err(OpenError::NotConfigured(text));
    }
    let usable = usable_configuration(files)?;
    let state = OpenState::open(&usable.config, access)?;
    Ok(Opened { config: usable.config, problems: usable.problems, state })
}

impl OpenState {
    /// The ports of one database.
    #[must_use]
    pub fn of(db: &GuardDb, state_dir: PathBuf) -> Self {
        Self {
            ledger: Arc::new(db.clone()),
            history: Arc::new(db.clone()),
            incidents: Arc::new(db.clone()),
            outbox: Arc::new(db.clone()),
            deliveries: Arc::new(db.clone()),
            state_dir,
        }
    }

    /// Opens `guard.db` beside whatever daemon is running.
    ///
    /// # Errors
    /// When the database can't be opened, or, for a request, can't be made.
    pub fn open(config: &Config, access: Access) -> anyhow::Result<Self> {
        let state_dir = config.service.state_dir.clone();
        let path = state_dir.join("guard.db");
        let can_open = || format!("can't open {}", path.display());
        let db = match access {
            Access::Look if path.try_exists().is_ok_and(|is_there| !is_there) => {
                GuardDb::in_memory().context("an empty state can't be made")?
            }
            Access::Look => {
                GuardDb::open(&path, &filled_in::earlier(config)).with_context(can_open)?
            }
            Access::Request => {
                private_folder(&state_dir).with_context(|| {
                    format!("can't create the state directory {}", state_dir.display())
                })?;
                GuardDb::open(&path, &filled_in::earlier(config)).with_context(can_open)?
            }
        };
        Ok(Self::of(&db.with_zones(config.zones.clone()), state_dir))
    }

    /// How it all is, as seen from beside the daemon.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn status(&self, config: &Config) -> Result<Status, StorageError> {
        let sources = Sources {
            instance: config.service.instance.clone(),
            ledger: Arc::clone(&self.ledger),
            history: Arc::clone(&self.history),
            clock: Arc::new(SystemClock),
        };
        let channels = config.channels.iter().map(ChannelLine::of).collect();
        let process =
            if lock::is_held(&self.state_dir) { Process::Present } else { Process::Absent };
        let daemon = FromSigns::read(&sources, config.schedules.clone(), channels, process).await?;
        status::collect(&sources, &daemon).await
    }
}

impl OpenState {
    /// Whether every slot due in `[from, to)` has its verdict, and every bad one reached somebody.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn audit(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Report, StorageError> {
        let filter = SlotFilter { from: Some(from), until: Some(to), ..SlotFilter::default() };
        let slots = self.history.slots(filter).await?;
        let incidents = self.history.incidents(IncidentFilter::All, MAX_AUDITED_INCIDENTS).await?;
        let spans = self.history.spans(from, to.min(now)).await?;
        let mut events = BTreeMap::new();
        for incident in audit::incidents_needed(&slots, &incidents) {
            events.insert(incident, self.deliveries.events_of(incident).await?);
        }
        let records =
            Records { slots: &slots, incidents: &incidents, spans: &spans, events: &events };
        Ok(audit::report(&records, from, to, now))
    }
}

/// Incidents that one audit looks through; more is another kind of problem.
const MAX_AUDITED_INCIDENTS: u32 = 100_000;
