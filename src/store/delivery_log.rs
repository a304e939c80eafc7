//! What became of news, from `guard.db`.
//!
//! Implements [`crate::watch::delivery_log::DeliveryLog`]. Invariant: nothing here writes.

use async_trait::async_trait;
use rusqlite::{Row, Transaction};

use super::GuardDb;
use super::rows::{from_json, from_word, maybe_time, time};
use crate::storage::StorageError;
use crate::watch::News;
use crate::watch::delivery_log::{DeliveryLog, NotifiedEvent, Recipient};

fn recipient(row: &Row<'_>) -> rusqlite::Result<Recipient> {
    Ok(Recipient {
        channel: row.get(0)?,
        state: from_word(&row.get::<_, String>(1)?)?,
        attempts: row.get(2)?,
        settled_at: maybe_time(row.get(3)?)?,
        last_error: row.get(4)?,
    })
}

fn events(tx: &Transaction<'_>, incident: i64) -> rusqlite::Result<Vec<NotifiedEvent>> {
    let mut news = tx.prepare(
        "SELECT news.id, news.body, news.at, distributed.at FROM news
         LEFT JOIN distributed ON distributed.news_id = news.id
         WHERE news.incident = ?1 ORDER BY news.number",
    )?;
    let mut deliveries = tx.prepare(
        "SELECT channel, state, attempts, settled_at, last_error FROM deliveries
         WHERE news_id = ?1 ORDER BY channel, recipient",
    )?;
    let mut rows = news.query([incident])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let body: News = from_json(&row.get::<_, String>(1)?)?;
        found.push(NotifiedEvent {
            change: body.change,
            at: time(row.get(2)?)?,
            distributed_at: maybe_time(row.get(3)?)?,
            recipients: deliveries
                .query_map([row.get::<_, i64>(0)?], recipient)?
                .collect::<rusqlite::Result<_>>()?,
        });
    }
    Ok(found)
}

#[async_trait]
impl DeliveryLog for GuardDb {
    async fn events_of(&self, incident: i64) -> Result<Vec<NotifiedEvent>, StorageError> {
        self.read(move |tx| events(tx, incident)).await
    }
}
