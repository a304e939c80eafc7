//! `review.db`: claims, tries, money and the evidence of each answer, in SQLite.
//!
//! How the file is opened and asked is [`crate::sqlite`]'s business. Several reviews may use one at
//! the same time.
//! Invariant: a claim has one holder; its taking over is one conditional write in a transaction.

mod holder;
pub mod queries;
mod recovery;
mod schema;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use rusqlite::{OptionalExtension as _, Transaction, params};

use self::holder::{Identity, LivenessLock};
use self::schema::SCHEMA;
use super::{Begin, Begun, Fence, Isolation, Orphan, Row, Spent, Tries, TryEnd, TryId};
use crate::review::record::{Claimed, RecordId};
use crate::review::settings::BudgetSettings;
use crate::review::settle::History;
use crate::sqlite::Database;
use crate::storage::{StorageError, private_folder};

/// Rounding of sums of dollars must not refuse the last call that just fits.
const USD_TOLERANCE: f64 = 1e-9;

/// Whose claims and tries these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderSettings {
    /// Run id.
    pub run: String,
    /// The records that ids belong to: adapter, address and table.
    pub scope: String,
    /// When the process started.
    pub started_at: DateTime<Utc>,
    /// After this the rows may be taken from us by another machine: end of the grace + 5 min.
    pub lease_until: DateTime<Utc>,
}

/// The port on SQLite. Its lock file lives as long as the value.
#[derive(Debug)]
pub struct SqliteTries {
    database: Database,
    us: Holder,
    _lock: LivenessLock,
}

/// What every statement needs to know of this process.
#[derive(Clone, Debug)]
struct Holder {
    holder: i64,
    scope: String,
    run: String,
    identity: Identity,
    state_dir: PathBuf,
}

impl SqliteTries {
    /// Opens or creates `review.db` in the state directory and enters this process as a holder.
    ///
    /// # Errors
    /// When directory or file can't be made, locked, read or written.
    pub fn open(state_dir: &Path, settings: &HolderSettings) -> Result<Self> {
        private_folder(state_dir).with_context(|| {
            format!("the state directory {} can't be made", state_dir.display())
        })?;
        let file = state_dir.join("review.db");
        let database = Database::open(&file, &SCHEMA)
            .with_context(|| format!("{} can't be opened", file.display()))?;
        let lock = LivenessLock::begin(state_dir)?;
        let identity = Identity::of_this_process();
        let holder = enter(&database, settings, &identity, &lock.name)?;
        let us = Holder {
            holder,
            scope: settings.scope.clone(),
            run: settings.run.clone(),
            identity,
            state_dir: state_dir.to_owned(),
        };
        Ok(Self { database, us, _lock: lock })
    }

    /// Runs `work` in one transaction off the runtime; it is committed if `work` returns `Ok`.
    async fn transact<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>, &Holder) -> rusqlite::Result<T> + Send + 'static,
    {
        let us = self.us.clone();
        self.database.transact(move |transaction| work(transaction, &us)).await
    }
}

fn enter(
    database: &Database,
    settings: &HolderSettings,
    identity: &Identity,
    lock_name: &str,
) -> Result<i64, StorageError> {
    database.now(|connection| {
        connection.query_row(
            "INSERT INTO holders (scope, run, machine, boot_id, pid, start_ticks, lock_name,
                 started_at, lease_until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING id",
            params![
                settings.scope,
                settings.run,
                identity.machine,
                identity.boot_id,
                identity.pid,
                identity.start_ticks,
                lock_name,
                stamp(settings.started_at),
                stamp(settings.lease_until),
            ],
            |row| row.get(0),
        )
    })
}

#[async_trait]
impl Tries for SqliteTries {
    async fn take_over(&self, now: DateTime<Utc>) -> Result<Vec<Orphan>, StorageError> {
        self.transact(move |transaction, us| recovery::take_over(transaction, us, now)).await
    }

    async fn record_claims(
        &self,
        ids: &[RecordId],
        from: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<RecordId>, StorageError> {
        let (ids, from) = (ids.to_vec(), from.to_owned());
        self.transact(move |transaction, us| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO claims (scope, record_id, from_status, claimed_at, holder)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?;
            let mut noted = Vec::new();
            for id in ids {
                if insert.execute(params![us.scope, id.0, from, stamp(at), us.holder])? == 1 {
                    noted.push(id);
                }
            }
            Ok(noted)
        })
        .await
    }

    async fn record_fences(&self, claimed: &[Claimed]) -> Result<(), StorageError> {
        let claimed = claimed.to_vec();
        self.transact(move |transaction, us| {
            let mut update = transaction.prepare_cached(
                "UPDATE claims SET fence = ?3 WHERE scope = ?1 AND record_id = ?2 AND holder = ?4",
            )?;
            let mut learn = transaction.prepare_cached(
                "INSERT INTO own_times (scope, since) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )?;
            for Claimed { record, claimed_at } in &claimed {
                let at = stamp(*claimed_at);
                update.execute(params![us.scope, record.id.0, at, us.holder])?;
                learn.execute(params![us.scope, at])?;
            }
            Ok(())
        })
        .await
    }

    async fn fence_without_answer(&self) -> Result<Fence, StorageError> {
        self.transact(fence_without_answer).await
    }

    async fn drop_claims(&self, ids: &[RecordId]) -> Result<(), StorageError> {
        let ids = ids.to_vec();
        self.transact(move |transaction, us| {
            ids.iter().try_for_each(|id| drop_claim(transaction, us, &id.0))
        })
        .await
    }

    async fn clear(&self, id: &RecordId) -> Result<(), StorageError> {
        let id = id.0.clone();
        self.transact(move |transaction, us| clear(transaction, us, &id)).await
    }

    async fn histories(&self, ids: &[RecordId]) -> Result<Vec<History>, StorageError> {
        let ids = ids.to_vec();
        self.transact(move |transaction, us| {
            ids.iter().map(|id| history(transaction, us, &id.0)).collect()
        })
        .await
    }

    async fn begin(&self, begin: &Begin, budget: &BudgetSettings) -> Result<Begun, StorageError> {
        let (begin, budget) = (begin.clone(), *budget);
        self.transact(move |transaction, us| {
            let reserve = begin.reserve.unwrap_or(0.0);
            if let Some(reason) = over_budget(transaction, us, begin.at, reserve, &budget)? {
                return Ok(Begun::OverBudget { reason });
            }
            add_money(transaction, us, begin.at, reserve)?;
            let alone = match begin.isolation {
                Isolation::Exclusive => 1,
                Isolation::Shared => 0,
            };
            let id = transaction.query_row(
                "INSERT INTO tries (scope, record_id, holder, run, begun_at, alone, reserved_usd)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING id",
                params![us.scope, begin.id.0, us.holder, us.run, stamp(begin.at), alone, reserve],
                |row| row.get(0),
            )?;
            Ok(Begun::Yes(TryId(id)))
        })
        .await
    }

    async fn finish(&self, id: TryId, end: &TryEnd, row: Row) -> Result<(), StorageError> {
        let end = end.clone();
        self.transact(move |transaction, us| finish(transaction, us, id, &end, row)).await
    }

    async fn spent(&self) -> Result<Spent, StorageError> {
        self.transact(|transaction, us| {
            transaction.query_row(
                "SELECT count(*), coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0),
                     count(*) = count(usd), coalesce(sum(usd), 0.0),
                     coalesce(sum(possibly_billed), 0),
                     count(*) FILTER (WHERE usd IS NULL AND reserved_usd > 0)
                 FROM tries WHERE run = ?1 AND attempts > 0",
                [&us.run],
                |row| {
                    let all_known: bool = row.get(3)?;
                    let usd: f64 = row.get(4)?;
                    Ok(Spent {
                        tries: unsigned(row.get(0)?),
                        tokens_in: unsigned(row.get(1)?),
                        tokens_out: unsigned(row.get(2)?),
                        usd: all_known.then_some(usd),
                        possibly_billed: unsigned(row.get(5)?),
                        not_told: unsigned(row.get(6)?),
                    })
                },
            )
        })
        .await
    }
}

fn finish(
    transaction: &Transaction<'_>,
    us: &Holder,
    id: TryId,
    end: &TryEnd,
    row: Row,
) -> rusqlite::Result<()> {
    let call = end.call.clone().unwrap_or_default();
    let of_provider = |text: String| Some(text).filter(|text| !text.is_empty());
    let (category, details) = end.result.clone().unzip();
    // A try that a taker-over has closed stays closed; one that ended as a fault of the provider or the bucket may
    // turn out to be the image's own.
    let open: Option<(String, f64, String)> = transaction
        .query_row(
            "SELECT record_id, coalesce(cost_usd, reserved_usd), begun_at FROM tries
             WHERE id = ?1 AND (ended_at IS NULL OR outcome = 'fault')",
            [id.0],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let Some((record_id, set_aside, begun_at)) = open else { return Ok(()) };
    transaction.execute(
        "UPDATE tries SET ended_at = ?2, outcome = ?3, reason = ?4, sha256 = ?5,
                 category = ?6, details = ?7, prompt_hash = ?8, model = ?9, model_version = ?10,
                 attempts = ?11, possibly_billed = ?12, tokens_in = ?13, tokens_out = ?14,
                 usd = ?15, cost_usd = ?16, provider_ms = ?17, took_ms = ?18
             WHERE id = ?1",
        params![
            id.0,
            stamp(end.at),
            end.outcome.as_str(),
            end.reason,
            end.sha256,
            category,
            details,
            of_provider(call.prompt_hash),
            of_provider(call.model),
            call.model_version,
            call.attempts,
            call.possibly_billed,
            signed(call.tokens_in),
            signed(call.tokens_out),
            call.usd,
            end.cost,
            end.call.as_ref().map(|call| millis(call.took)),
            millis(end.took),
        ],
    )?;
    // What was set aside on the day of the beginning is settled on that day.
    add_money(transaction, us, parse(&begun_at)?, end.cost - set_aside)?;
    transaction.execute(
        "DELETE FROM suspects WHERE scope = ?1 AND record_id = ?2",
        params![us.scope, record_id],
    )?;
    match row {
        Row::Kept => Ok(()),
        Row::Returned => drop_claim(transaction, us, &record_id),
        Row::Settled => {
            clear(transaction, us, &record_id)?;
            drop_claim(transaction, us, &record_id)
        }
    }
}

/// A table that has once written a time of its own does so always.
fn fence_without_answer(transaction: &Transaction<'_>, us: &Holder) -> rusqlite::Result<Fence> {
    let mut select = transaction.prepare_cached("SELECT 1 FROM own_times WHERE scope = ?1")?;
    Ok(if select.exists([&us.scope])? { Fence::Doubtful } else { Fence::Sure })
}

fn drop_claim(transaction: &Transaction<'_>, us: &Holder, id: &str) -> rusqlite::Result<()> {
    let mut delete = transaction
        .prepare_cached("DELETE FROM claims WHERE scope = ?1 AND record_id = ?2 AND holder = ?3")?;
    delete.execute(params![us.scope, id, us.holder]).map(drop)
}

fn clear(transaction: &Transaction<'_>, us: &Holder, id: &str) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE tries SET cleared = 1 WHERE scope = ?1 AND record_id = ?2 AND cleared = 0",
        params![us.scope, id],
    )?;
    transaction
        .execute("DELETE FROM suspects WHERE scope = ?1 AND record_id = ?2", params![us.scope, id])
        .map(drop)
}

fn history(transaction: &Transaction<'_>, us: &Holder, id: &str) -> rusqlite::Result<History> {
    let mut select = transaction.prepare_cached(
        "SELECT outcome, coalesce(reason, ''), sha256 FROM tries
         WHERE scope = ?1 AND record_id = ?2 AND cleared = 0
           AND outcome IN ('failed', 'own_fault') ORDER BY id",
    )?;
    let mut history = History::default();
    let mut rows = select.query(params![us.scope, id])?;
    while let Some(row) = rows.next()? {
        match row.get::<_, String>(0)?.as_str() {
            "failed" => {
                history.failed.push(row.get(1)?);
                history.last_file = row.get(2)?;
            }
            _ => history.own_faults += 1,
        }
    }
    let mut suspect =
        transaction.prepare_cached("SELECT 1 FROM suspects WHERE scope = ?1 AND record_id = ?2")?;
    history.suspect = suspect.exists(params![us.scope, id])?;
    Ok(history)
}

fn over_budget(
    transaction: &Transaction<'_>,
    us: &Holder,
    at: DateTime<Utc>,
    reserve: f64,
    budget: &BudgetSettings,
) -> rusqlite::Result<Option<String>> {
    let caps = [
        (budget.usd_per_run, run_period(us), "for this run"),
        (budget.usd_per_day, day_period(at), "for today (UTC)"),
    ];
    for (cap, period, words) in caps {
        let Some(cap) = cap else { continue };
        let used: f64 = transaction
            .query_row("SELECT usd FROM money WHERE period = ?1", [period], |row| row.get(0))
            .optional()?
            .unwrap_or(0.0);
        if used + reserve > cap + USD_TOLERANCE {
            return Ok(Some(format!(
                "the budget of {cap:.2} USD {words} is used up: {used:.4} USD are spent or set \
                 aside, and the next image may cost {reserve:.4}"
            )));
        }
    }
    Ok(None)
}

fn add_money(
    transaction: &Transaction<'_>,
    us: &Holder,
    at: DateTime<Utc>,
    usd: f64,
) -> rusqlite::Result<()> {
    for period in [run_period(us), day_period(at)] {
        transaction.execute(
            "INSERT INTO money (period, usd) VALUES (?1, ?2)
             ON CONFLICT (period) DO UPDATE SET usd = usd + excluded.usd",
            params![period, usd],
        )?;
    }
    Ok(())
}

fn run_period(us: &Holder) -> String {
    format!("run {}", us.run)
}

fn day_period(at: DateTime<Utc>) -> String {
    format!("day {}", at.format("%Y-%m-%d"))
}

/// Sortable, to the microsecond: what `PostgreSQL` keeps.
fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn parse(text: &str) -> rusqlite::Result<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// SQLite's integers are signed; token counts that large do not exist.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn millis(took: Duration) -> i64 {
    i64::try_from(took.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
