//! Who was told what, from `guard.db`.
//!
//! Implements [`crate::alert::told::Tellings`]. Invariant: nothing here writes.

use async_trait::async_trait;
use rusqlite::{Row, Transaction};

use super::GuardDb;
use super::rows::{from_json, from_word, maybe_time, time};
use crate::alert::told::{Tellings, Told, ToldTo};
use crate::storage::StorageError;
use crate::watch::News;

fn told_to(row: &Row<'_>) -> rusqlite::Result<ToldTo> {
    Ok(ToldTo {
        delivery: row.get(0)?,
        channel: row.get(1)?,
        recipient: row.get(2)?,
        state: from_word(&row.get::<_, String>(3)?)?,
        attempts: row.get(4)?,
        settled_at: maybe_time(row.get(5)?)?,
        last_error: row.get(6)?,
    })
}

fn told(tx: &Transaction<'_>, incident: i64) -> rusqlite::Result<Vec<Told>> {
    let mut news = tx.prepare(
        "SELECT news.id, news.body, news.at, distributed.at FROM news
         LEFT JOIN distributed ON distributed.news_id = news.id
         WHERE news.incident = ?1 ORDER BY news.number",
    )?;
    let mut deliveries = tx.prepare(
        "SELECT id, channel, recipient, state, attempts, settled_at, last_error FROM deliveries
         WHERE news_id = ?1 ORDER BY channel, recipient",
    )?;
    let mut rows = news.query([incident])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let body: News = from_json(&row.get::<_, String>(1)?)?;
        found.push(Told {
            number: body.number,
            change: body.change,
            at: time(row.get(2)?)?,
            distributed_at: maybe_time(row.get(3)?)?,
            to: deliveries
                .query_map([row.get::<_, i64>(0)?], told_to)?
                .collect::<rusqlite::Result<_>>()?,
        });
    }
    Ok(found)
}

#[async_trait]
impl Tellings for GuardDb {
    async fn told(&self, incident: i64) -> Result<Vec<Told>, StorageError> {
        self.read(move |tx| told(tx, incident)).await
    }
}
