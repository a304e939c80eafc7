//! Deliveries in `guard.db`: implements [`Outbox`].
//!
//! Times are milliseconds since 1970 (UTC), so that they can be compared in SQL. The `news` table
//! belongs to `incidents.rs` and is only read here; what is distributed is marked beside it.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::GuardDb;
use super::incidents::news;
use super::rows::{from_json, maybe_time, millis, time};
use crate::alert::channel::Arrival;
use crate::alert::outbox::{
    AlreadyNotified, Backlog, Claimed, DeadDelivery, Delivery, Fallback, NewDelivery, Outbox,
    Outcome, Replayed,
};
use crate::alert::retry;
use crate::storage::StorageError;
use crate::watch::{News, Severity};

/// Table and indexes.
pub(super) const SCHEMA: &str = "
CREATE TABLE deliveries (
    id          TEXT PRIMARY KEY,
    news_id     INTEGER NOT NULL,
    incident_id INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    channel     TEXT NOT NULL,
    recipient   TEXT NOT NULL,
    severity    INTEGER NOT NULL CHECK (severity IN (0, 1, 2)),
    state       TEXT NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'sending', 'sent', 'merged', 'dead')),
    attempts    INTEGER NOT NULL DEFAULT 0,
    perhaps     INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    wait        INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER,
    settled_at  INTEGER,
    because     TEXT,
    last_error  TEXT,
    merged_into TEXT,
    fell_back   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (news_id, channel, recipient)
) STRICT;
CREATE TABLE distributed (news_id INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;
CREATE INDEX deliveries_by_channel ON deliveries (channel, state);
CREATE INDEX deliveries_by_incident ON deliveries (incident_id, channel, recipient);
";

/// Words of the field for what a delivery may have come to; nothing ever read the lease.
pub(super) const RENAMED: &str = "
ALTER TABLE deliveries RENAME COLUMN perhaps TO maybe_delivered;
ALTER TABLE deliveries RENAME COLUMN because TO fallback_reason;
ALTER TABLE deliveries DROP COLUMN lease_until;
ALTER TABLE incidents RENAME COLUMN told_at TO notified_at;
ALTER TABLE absences RENAME COLUMN told TO notified;
";

/// More than this for one channel is a flood that nobody will read.
const MAX_WAITING: i64 = 1000;

/// Distributed in one go; the rest a moment later.
const BATCH: i64 = 100;

fn rank(severity: Severity) -> i64 {
    match severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Critical => 2,
    }
}

/// The news in column `body`; its row id wins over what the text says.
fn news_of(row: &Row<'_>) -> rusqlite::Result<News> {
    let mut news: News = from_json(&row.get::<_, String>("body")?)?;
    news.id = row.get("news_id")?;
    Ok(news)
}

fn insert(transaction: &Transaction<'_>, new: &NewDelivery, now: i64) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT OR IGNORE INTO deliveries (id, news_id, incident_id, number, channel, recipient,
             severity, created_at, expires_at, due_at, fallback_reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            new.id,
            new.news,
            new.incident,
            new.number,
            new.channel,
            new.recipient,
            rank(new.severity),
            millis(new.created_at),
            millis(new.expires_at),
            now,
            new.fallback_reason,
        ],
    )?;
    Ok(())
}

/// Gives up the least important of what waits for a channel, as far as there is too much.
fn give_up_surplus(transaction: &Transaction<'_>, channel: &str, now: i64) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE deliveries SET state = 'dead', settled_at = ?2,
             last_error = 'too many messages were waiting; this one mattered least'
         WHERE id IN (SELECT id FROM deliveries WHERE channel = ?1 AND state = 'pending'
                      ORDER BY severity DESC, created_at DESC, id LIMIT -1 OFFSET ?3)",
        params![channel, now, MAX_WAITING],
    )?;
    Ok(())
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    let others: Option<String> = row.get("others_notified")?;
    Ok(Delivery {
        id: row.get("id")?,
        news: news_of(row)?,
        recipient: row.get("recipient")?,
        attempts: row.get("attempts")?,
        arrival: if row.get("maybe_delivered")? { Arrival::Unknown } else { Arrival::No },
        created_at: time(row.get("created_at")?)?,
        expires_at: time(row.get("expires_at")?)?,
        due_at: time(row.get("due_at")?)?,
        wait: TimeDelta::milliseconds(row.get("wait")?),
        fallback_reason: row.get("fallback_reason")?,
        last_error: row.get("last_error")?,
        fallback: if row.get("fell_back")? { Fallback::Asked } else { Fallback::Open },
        already_notified: if row.get("already_notified")? {
            AlreadyNotified::Yes
        } else {
            AlreadyNotified::No
        },
        others_notified: others
            .map(|names| names.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
    })
}

const WAITING: &str = "
SELECT d.*, n.body,
    EXISTS (SELECT 1 FROM deliveries s
            WHERE s.incident_id = d.incident_id AND s.channel = d.channel
              AND s.recipient = d.recipient AND s.number < d.number AND s.state = 'sent') AS already_notified,
    (SELECT group_concat(DISTINCT o.channel) FROM deliveries o
     WHERE o.news_id = d.news_id AND o.channel <> d.channel
       AND o.state = 'sent' AND o.fallback_reason IS NOT NULL) AS others_notified
FROM deliveries d JOIN news n ON n.id = d.news_id
WHERE d.channel = ?1 AND d.state = 'pending'
ORDER BY d.created_at, d.number, d.id LIMIT 1000";

fn settle(
    transaction: &Transaction<'_>,
    id: &str,
    outcome: &Outcome,
    now: i64,
) -> rusqlite::Result<()> {
    match outcome {
        Outcome::Sent => transaction.execute(
            "UPDATE deliveries SET state = 'sent', settled_at = ?2
             WHERE id = ?1 AND state IN ('pending', 'sending')",
            params![id, now],
        ),
        Outcome::Again { wait, error, arrival } => transaction.execute(
            "UPDATE deliveries SET state = 'pending', wait = ?3,
                 due_at = ?2 + ?3, last_error = ?4, maybe_delivered = maybe_delivered OR ?5
             WHERE id = ?1 AND state IN ('pending', 'sending')",
            params![id, now, wait.num_milliseconds(), error, *arrival == Arrival::Unknown],
        ),
        Outcome::Dead { reason } => transaction.execute(
            "UPDATE deliveries SET state = 'dead', settled_at = ?2,
                 last_error = ?3
             WHERE id = ?1 AND state IN ('pending', 'sending')",
            params![id, now, reason],
        ),
        Outcome::Merged { into } => transaction.execute(
            "UPDATE deliveries SET state = 'merged', settled_at = ?2, merged_into = ?3
             WHERE id = ?1 AND state IN ('pending', 'sending')",
            params![id, now, into],
        ),
    }
    .map(|_| ())
}

/// The conditional write whose row count names the winner; then the older ones follow the head,
/// which takes over their age and whether one of them may have arrived.
fn claim(transaction: &Transaction<'_>, id: &str, merge: &[String]) -> rusqlite::Result<Claimed> {
    let n_rows = transaction.execute(
        "UPDATE deliveries SET state = 'sending', attempts = attempts + 1
         WHERE id = ?1 AND state = 'pending'",
        [id],
    )?;
    if n_rows == 0 {
        return Ok(Claimed::Lost);
    }
    for older in merge {
        transaction.execute(
            "UPDATE deliveries SET
                 maybe_delivered = maybe_delivered OR (SELECT maybe_delivered FROM deliveries WHERE id = ?2),
                 created_at = min(created_at, (SELECT created_at FROM deliveries WHERE id = ?2)),
                 fallback_reason = coalesce(fallback_reason, (SELECT fallback_reason FROM deliveries WHERE id = ?2)),
                 last_error = coalesce(last_error, (SELECT last_error FROM deliveries WHERE id = ?2))
             WHERE id = ?1 AND EXISTS (SELECT 1 FROM deliveries WHERE id = ?2 AND state = 'pending')",
            params![id, older],
        )?;
        transaction.execute(
            "UPDATE deliveries SET state = 'merged', merged_into = ?1, settled_at = created_at
             WHERE id = ?2 AND state = 'pending'",
            params![id, older],
        )?;
    }
    Ok(Claimed::Won)
}

#[async_trait]
impl Outbox for GuardDb {
    async fn undistributed(&self) -> Result<Vec<News>, StorageError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT id, body FROM news
                 WHERE NOT EXISTS (SELECT 1 FROM distributed WHERE news_id = news.id)
                 ORDER BY id LIMIT ?1",
            )?;
            statement.query_map([BATCH], news)?.collect()
        })
        .await
    }

    async fn channels_of(&self, incident: i64) -> Result<Vec<String>, StorageError> {
        self.read(move |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT DISTINCT channel FROM deliveries WHERE incident_id = ?1 ORDER BY channel",
            )?;
            statement.query_map([incident], |row| row.get(0))?.collect()
        })
        .await
    }

    async fn distribute(
        &self,
        news: i64,
        deliveries: Vec<NewDelivery>,
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        self.transact(move |transaction| {
            for new in &deliveries {
                insert(transaction, new, millis(now))?;
                give_up_surplus(transaction, &new.channel, millis(now))?;
            }
            transaction.execute(
                "INSERT OR IGNORE INTO distributed (news_id, at) VALUES (?1, ?2)",
                params![news, millis(now)],
            )?;
            Ok(())
        })
        .await
    }

    async fn fall_back(&self, id: &str, instead: Vec<NewDelivery>) -> Result<(), StorageError> {
        let id = id.to_owned();
        self.transact(move |transaction| {
            for new in &instead {
                insert(transaction, new, millis(new.created_at))?;
            }
            transaction.execute("UPDATE deliveries SET fell_back = 1 WHERE id = ?1", [id])?;
            Ok(())
        })
        .await
    }

    async fn waiting(&self, channel: &str) -> Result<Vec<Delivery>, StorageError> {
        let channel = channel.to_owned();
        self.read(move |transaction| {
            let mut statement = transaction.prepare_cached(WAITING)?;
            statement.query_map([channel], delivery)?.collect()
        })
        .await
    }

    async fn opening_of(&self, incident: i64) -> Result<Option<News>, StorageError> {
        self.read(move |transaction| {
            transaction
                .prepare_cached(
                    "SELECT id, body FROM news WHERE incident = ?1 ORDER BY number LIMIT 1",
                )?
                .query_row([incident], news)
                .optional()
        })
        .await
    }

    async fn claim(&self, id: &str, merge: &[String]) -> Result<Claimed, StorageError> {
        let (id, merge) = (id.to_owned(), merge.to_vec());
        self.transact(move |transaction| claim(transaction, &id, &merge)).await
    }

    async fn settle(
        &self,
        id: &str,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let (id, outcome) = (id.to_owned(), outcome.clone());
        self.transact(move |transaction| settle(transaction, &id, &outcome, millis(now))).await
    }

    async fn recover(&self, channel: &str) -> Result<usize, StorageError> {
        let channel = channel.to_owned();
        self.transact(move |transaction| {
            transaction.execute(
                "UPDATE deliveries SET state = 'pending', maybe_delivered = 1,
                     due_at = created_at, wait = 0
                 WHERE channel = ?1 AND state = 'sending'",
                [channel],
            )
        })
        .await
    }

    async fn dead_letter_removed_channels(
        &self,
        channels: &[String],
        now: DateTime<Utc>,
    ) -> Result<usize, StorageError> {
        let known = serde_json::json!(channels).to_string();
        self.transact(move |transaction| {
            transaction.execute(
                "UPDATE deliveries SET state = 'dead', settled_at = ?2,
                     last_error = 'the channel ' || channel || ' is no longer configured'
                 WHERE state IN ('pending', 'sending')
                   AND channel NOT IN (SELECT value FROM json_each(?1))",
                params![known, millis(now)],
            )
        })
        .await
    }

    async fn dead(&self) -> Result<Vec<DeadDelivery>, StorageError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT d.*, n.body FROM deliveries d JOIN news n ON n.id = d.news_id
                 WHERE d.state = 'dead' ORDER BY d.settled_at DESC, d.id",
            )?;
            statement.query_map([], dead)?.collect()
        })
        .await
    }

    async fn replay(&self, id: &str, now: DateTime<Utc>) -> Result<Replayed, StorageError> {
        let id = id.to_owned();
        self.transact(move |transaction| replay(transaction, &id, now)).await
    }

    async fn backlog(&self) -> Result<Backlog, StorageError> {
        self.read(|transaction| {
            transaction.query_row(
                "SELECT count(*) FILTER (WHERE state IN ('pending', 'sending')) AS waiting,
                        count(*) FILTER (WHERE state = 'dead') AS dead,
                        min(created_at) FILTER (WHERE state IN ('pending', 'sending')) AS oldest
                 FROM deliveries",
                [],
                |row| {
                    let oldest: Option<i64> = row.get("oldest")?;
                    let (waiting, dead): (u32, u32) = (row.get("waiting")?, row.get("dead")?);
                    Ok(Backlog {
                        waiting: waiting.into(),
                        dead: dead.into(),
                        oldest_waiting_since: maybe_time(oldest)?,
                    })
                },
            )
        })
        .await
    }

    async fn prune(&self, before: DateTime<Utc>) -> Result<usize, StorageError> {
        self.transact(move |transaction| {
            transaction.execute("DELETE FROM deliveries WHERE settled_at < ?1", [millis(before)])
        })
        .await
    }
}

fn dead(row: &Row<'_>) -> rusqlite::Result<DeadDelivery> {
    let news = news_of(row)?;
    let reason: Option<String> = row.get("last_error")?;
    Ok(DeadDelivery {
        id: row.get("id")?,
        incident: row.get("incident_id")?,
        kind: news.incident.kind.to_string(),
        change: news.change,
        channel: row.get("channel")?,
        recipient: row.get("recipient")?,
        attempts: row.get("attempts")?,
        created_at: time(row.get("created_at")?)?,
        given_up_at: time(row.get("settled_at")?)?,
        reason: reason.unwrap_or_default(),
    })
}

/// A dead delivery may have arrived on one of its attempts, so it goes as a possible repeat.
fn replay(
    transaction: &Transaction<'_>,
    id: &str,
    now: DateTime<Utc>,
) -> rusqlite::Result<Replayed> {
    let found: Option<(String, i64)> = transaction
        .query_row("SELECT state, severity FROM deliveries WHERE id = ?1", [id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((state, severity)) = found else {
        return Ok(Replayed::Unknown);
    };
    if state != "dead" {
        return Ok(Replayed::NotDead);
    }
    let severity = match severity {
        0 => Severity::Info,
        1 => Severity::Warning,
        _ => Severity::Critical,
    };
    transaction.execute(
        "UPDATE deliveries SET state = 'pending', settled_at = NULL, due_at = ?2, wait = 0,
             expires_at = ?3, maybe_delivered = maybe_delivered OR attempts > 0, attempts = 0, fell_back = 1
         WHERE id = ?1 AND state = 'dead'",
        params![id, millis(now), millis(now + retry::time_to_live(severity))],
    )?;
    Ok(Replayed::Queued)
}
