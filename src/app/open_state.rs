//! What the command line looks at: the ports for reading, without a daemon and without its lock.
//!
//! Requests to the daemon are rows, so the ledger is among them.
//! Invariant: nothing here starts, judges or sends anything.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use super::lock;
use crate::alert::outbox::Outbox;
use crate::alert::told::Tellings;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::run::ledger::Ledger;
use crate::storage::StorageError;
use crate::store::GuardDb;
use crate::watch::history::History;
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
    /// Who was told what.
    pub told: Arc<dyn Tellings>,
    /// Where runs keep their files.
    pub state_dir: PathBuf,
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
            told: Arc::new(db.clone()),
            state_dir,
        }
    }
}

impl OpenState {
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

/// Opens `guard.db` beside whatever daemon is running.
///
/// # Errors
/// When the state directory can't be made or the database can't be opened.
pub fn open(config: &Config) -> anyhow::Result<OpenState> {
    let state_dir = config.service.state_dir.clone();
    std::fs::create_dir_all(&state_dir)
        .with_context(|| format!("can't create the state directory {}", state_dir.display()))?;
    let path = state_dir.join("guard.db");
    let db = GuardDb::open(&path).with_context(|| format!("can't open {}", path.display()))?;
    Ok(OpenState::of(&db.with_zones(config.zones.clone()), state_dir))
}
