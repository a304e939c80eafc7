//! `guard.db`: what the daemon must not forget. Implements the ports of `run`, `watch` and `alert`.
//!
//! How the file is opened, migrated and asked is [`crate::sqlite`]'s business. A committed row
//! survives a power cut. Each file here brings its tables.
//! Invariant: every claim is one conditional write whose row count names the winner.

mod delivery_log;
mod files;
pub mod filled_in;
mod history;
mod incidents;
mod ledger;
mod outbox;
mod rows;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;

use self::filled_in::FilledIn;

use crate::clock::Clock;
use crate::pulse::{Beat, Pulse};
use crate::schedule::Schedule;
use crate::sqlite::{Database, Migration, Schema};
use crate::storage::StorageError;
use crate::timezone::TimeZones;

/// Tables in the order they came. Writes wait for those of the command line, which take
/// milliseconds.
const SCHEMA: Schema = Schema {
    file: "guard.db",
    migrations: &[
        Migration::Sql(include_str!("guard_tables.sql")),
        Migration::Sql(outbox::SCHEMA),
        Migration::Sql(WHY_ABSENT),
        Migration::Sql(ledger::spans::SCHEMA),
        Migration::Sql(files::SCHEMA),
        Migration::Sql(outbox::RENAMED),
        // Up to here the configurations in the rows held what variables had been filled into a job.
        Migration::Purge,
        Migration::Compact,
    ],
    busy_timeout: Duration::from_secs(5),
};

/// Rows from before the reason was known are of a daemon that was down, as far as anybody knew.
const WHY_ABSENT: &str = "ALTER TABLE absences ADD COLUMN why TEXT NOT NULL DEFAULT 'down';";

/// A handle to `guard.db`; clones share the connection.
#[derive(Clone, Debug)]
pub struct GuardDb {
    database: Database,
    /// Rows name their schedule's zone; by which rules its clock goes is looked up here.
    zones: TimeZones,
    /// How writing goes, for those who ask whether all is well.
    writing: Option<Arc<Writing>>,
}

/// Beats with every write.
#[derive(Debug)]
struct Writing {
    pulse: Pulse,
    clock: Arc<dyn Clock>,
}

impl GuardDb {
    /// Opens or creates the file and brings its tables up to date. Where an earlier version filled
    /// variables into stored jobs, in rows or in the orders of runs, their names stand afterwards.
    ///
    /// # Errors
    /// When the file can't be opened, written, or is from a newer version.
    pub fn open(path: &Path, filled_in: &FilledIn) -> Result<Self, StorageError> {
        let purge = |rows: &Connection| {
            filled_in.take_out_of_rows(rows)?;
            if let Some(state_dir) = path.parent() {
                filled_in.take_out_of_orders(state_dir);
            }
            Ok(())
        };
        let database = Database::open_purging(path, &SCHEMA, &purge)?;
        Ok(Self { database, zones: TimeZones::built_in(), writing: None })
    }

    /// A database that is gone with its last handle.
    ///
    /// # Errors
    /// When SQLite can't allocate it.
    pub fn in_memory() -> Result<Self, StorageError> {
        let database = Database::in_memory(&SCHEMA)?;
        Ok(Self { database, zones: TimeZones::built_in(), writing: None })
    }

    /// Runs `work` in one transaction off the runtime; it is committed if `work` returns `Ok`.
    ///
    /// # Errors
    /// What SQLite says, as a [`StorageError`].
    pub async fn transact<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        if let Some(writing) = &self.writing {
            writing.pulse.begin(&*writing.clock);
        }
        let written = self.database.transact(work).await;
        if let Some(writing) = &self.writing {
            let error = written.as_ref().err().map(StorageError::to_string);
            writing.pulse.end(&*writing.clock, error);
        }
        written
    }

    /// The same database; the schedules in its rows follow these time zones.
    #[must_use]
    pub fn with_zones(self, zones: TimeZones) -> Self {
        Self { zones, ..self }
    }

    /// Gives the schedules of rows the present rules of their zones.
    fn bind<T>(&self, rows: &mut [T], schedule: impl Fn(&mut T) -> &mut Schedule) {
        for row in rows {
            let schedule = schedule(row);
            schedule.timezone = self.zones.bind(&schedule.timezone);
        }
    }

    /// The same database, with a pulse: it beats with every write and says how the last one went.
    /// The loops' signs of life are writes, so that it never stays silent for long.
    #[must_use]
    pub fn with_pulse(mut self, clock: Arc<dyn Clock>) -> (Self, watch::Receiver<Beat>) {
        let pulse = Pulse::default();
        let beat = pulse.subscribe();
        self.writing = Some(Arc::new(Writing { pulse, clock }));
        (self, beat)
    }

    /// Runs `work` in one transaction that only reads, off the runtime. It works while the disk is
    /// full or read-only, when [`GuardDb::transact`] does not.
    ///
    /// # Errors
    /// What SQLite says, as a [`StorageError`].
    pub async fn read<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.database.read(work).await
    }
}
