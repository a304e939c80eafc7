//! Reading what was from `guard.db`: slots and incidents.
//!
//! Implements [`crate::watch::history::History`].
//! Invariant: nothing here writes.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, ToSql};

use super::GuardDb;
use super::incidents::list_incidents;
use super::rows::{from_json, from_word, maybe_time, millis, time};
use crate::storage::StorageError;
use crate::watch::Incident;
use crate::watch::history::{
    History, IncidentFilter, SlotFilter, SlotRow, SlotState, Span, Summary,
};

const SLOT: &str =
    "SELECT schedule, due_at, start_by, origin, state, run, verdict, reason, findings,
    cause, keeper_started_at, ended_at, judged_at, summary, configuration FROM slots";

fn slot_row(row: &Row<'_>) -> rusqlite::Result<SlotRow> {
    let word = |index: usize| row.get::<_, Option<String>>(index);
    let summary: Summary = from_json(&row.get::<_, String>(13)?)?;
    Ok(SlotRow {
        schedule: row.get(0)?,
        due_at: time(row.get(1)?)?,
        start_by: time(row.get(2)?)?,
        origin: from_word(&row.get::<_, String>(3)?)?,
        state: from_word::<SlotState>(&row.get::<_, String>(4)?)?,
        run: row.get(5)?,
        verdict: word(6)?.as_deref().map(from_word).transpose()?,
        reason: row.get(7)?,
        findings: from_json(&row.get::<_, String>(8)?)?,
        cause: word(9)?.as_deref().map(from_word).transpose()?,
        started_at: summary.started_at.or(maybe_time(row.get(10)?)?),
        ended_at: summary.ended_at.or(maybe_time(row.get(11)?)?),
        judged_at: maybe_time(row.get(12)?)?,
        summary,
        configuration: Box::new(from_json(&row.get::<_, String>(14)?)?),
    })
}

/// The conditions of a filter and their values.
fn conditions(filter: &SlotFilter) -> (String, Vec<Box<dyn ToSql + Send>>) {
    let mut sql = "1 = 1".to_owned();
    let mut values: Vec<Box<dyn ToSql + Send>> = Vec::new();
    let mut add = |condition: &str, value: Box<dyn ToSql + Send>| {
        sql.push_str(" AND ");
        sql.push_str(condition);
        values.push(value);
    };
    if let Some(schedule) = &filter.schedule {
        add("schedule = ?", Box::new(schedule.clone()));
    }
    if let Some(from) = filter.from {
        add("due_at >= ?", Box::new(millis(from)));
    }
    if let Some(until) = filter.until {
        add("due_at < ?", Box::new(millis(until)));
    }
    if let Some(verdict) = filter.verdict {
        add("verdict = ?", Box::new(verdict.as_str()));
    }
    (sql, values)
}

#[async_trait]
impl History for GuardDb {
    async fn slots(&self, filter: SlotFilter) -> Result<Vec<SlotRow>, StorageError> {
        let mut slots: Vec<SlotRow> = self
            .read(move |tx| {
                let (conditions, values) = conditions(&filter);
                let limit = filter.limit.map_or(-1, i64::from);
                let sql = format!(
                    "{SLOT} WHERE {conditions} ORDER BY due_at DESC, schedule LIMIT {limit}"
                );
                let values =
                    rusqlite::params_from_iter(values.iter().map(|value| &**value as &dyn ToSql));
                tx.prepare(&sql)?.query_map(values, slot_row)?.collect()
            })
            .await?;
        self.bind(&mut slots, |slot| &mut *slot.configuration);
        Ok(slots)
    }

    async fn spans(
        &self,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<Span>, StorageError> {
        let mut spans = self.read(move |tx| super::ledger::spans::between(tx, from, until)).await?;
        self.bind(&mut spans, |span| &mut span.schedule);
        Ok(spans)
    }

    async fn slot_of_run(&self, run: &str) -> Result<Option<SlotRow>, StorageError> {
        let run = run.to_owned();
        let found: Option<SlotRow> = self
            .read(move |tx| {
                let exact = format!("{SLOT} WHERE run = ?1");
                let found = tx.query_row(&exact, [&run], slot_row).optional()?;
                if found.is_some() || run.is_empty() {
                    return Ok(found);
                }
                let beginning = format!("{SLOT} WHERE substr(run, 1, length(?1)) = ?1 LIMIT 2");
                let mut rows: Vec<SlotRow> = tx
                    .prepare(&beginning)?
                    .query_map([&run], slot_row)?
                    .collect::<Result<_, _>>()?;
                Ok(if rows.len() == 1 { rows.pop() } else { None })
            })
            .await?;
        let mut found: Vec<SlotRow> = found.into_iter().collect();
        self.bind(&mut found, |slot| &mut *slot.configuration);
        Ok(found.pop())
    }

    async fn incidents(
        &self,
        filter: IncidentFilter,
        limit: u32,
    ) -> Result<Vec<Incident>, StorageError> {
        self.read(move |tx| {
            let condition = match filter {
                IncidentFilter::Open => "state <> 'resolved'",
                IncidentFilter::All => "1 = 1",
            };
            list_incidents(tx, condition, limit)
        })
        .await
    }
}
