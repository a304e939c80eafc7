//! Verdicts, incidents and news on `guard.db`, in one transaction.
//!
//! Implements [`crate::watch::incidents::Incidents`]; what a write does to an incident is
//! [`crate::watch::incident`]'s. `alert`'s half of the outbox reads the `news` table.
//! Invariant: the verdict column is written where it is empty, or the transaction is undone.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::GuardDb;
use super::rows::{from_json, from_word, json, maybe_time, millis, time, word};
use crate::run::RunId;
use crate::storage::StorageError;
use crate::watch::incident::{self as incident_life, Applied, Tracked};
use crate::watch::incidents::{
    IncidentWrite, Incidents, Judgement, OpenIncident, Outcome, Recorded,
};
use crate::watch::{Incident, News};

const INCIDENT: &str = "SELECT id, key, instance, schedule, kind, severity, state, opened_at,
    resolved_at, runs_affected, facts, notify, notified_at, n_reminders, last_occasion, n_news
    FROM incidents";

/// An incident from a row of `INCIDENT`.
pub(super) fn incident(row: &Row<'_>) -> rusqlite::Result<Incident> {
    Ok(Incident {
        id: row.get(0)?,
        key: row.get(1)?,
        instance: row.get(2)?,
        schedule: row.get(3)?,
        kind: from_word(&row.get::<_, String>(4)?)?,
        severity: from_word(&row.get::<_, String>(5)?)?,
        state: from_word(&row.get::<_, String>(6)?)?,
        opened_at: time(row.get(7)?)?,
        resolved_at: maybe_time(row.get(8)?)?,
        runs_affected: row.get(9)?,
    })
}

/// Incidents that fit, newest first.
pub(super) fn list_incidents(
    connection: &Connection,
    condition: &str,
    limit: u32,
) -> rusqlite::Result<Vec<Incident>> {
    let sql = format!("{INCIDENT} WHERE {condition} ORDER BY id DESC LIMIT ?1");
    connection.prepare_cached(&sql)?.query_map([limit], incident)?.collect()
}

/// One piece of news from a row `id, body`.
pub(super) fn news(row: &Row<'_>) -> rusqlite::Result<News> {
    let mut news: News = from_json(&row.get::<_, String>(1)?)?;
    news.id = row.get(0)?;
    Ok(news)
}

/// An open incident from a row of `INCIDENT`.
fn tracked(row: &Row<'_>) -> rusqlite::Result<Tracked> {
    let last_occasion: Option<String> = row.get(14)?;
    Ok(Tracked {
        open: OpenIncident {
            incident: incident(row)?,
            facts: from_json(&row.get::<_, String>(10)?)?,
            notify: from_json(&row.get::<_, String>(11)?)?,
            notified_at: time(row.get(12)?)?,
            n_reminders: row.get(13)?,
            last_occasion: last_occasion.as_deref().map(from_json).transpose()?,
        },
        n_news: row.get(15)?,
    })
}

fn open_by_key(connection: &Connection, key: &str) -> rusqlite::Result<Option<Tracked>> {
    let sql = format!("{INCIDENT} WHERE key = ?1 AND state <> 'resolved'");
    connection.prepare_cached(&sql)?.query_row([key], tracked).optional()
}

/// Writes an incident as it now is; one without a row gets it, and its id.
fn save(connection: &Connection, tracked: &mut Tracked) -> rusqlite::Result<()> {
    let OpenIncident { incident, facts, notify, notified_at, n_reminders, last_occasion } =
        &tracked.open;
    let last_occasion = last_occasion.as_ref().map(json).transpose()?;
    if incident.id == 0 {
        connection
            .prepare_cached(
                "INSERT INTO incidents (key, instance, schedule, kind, severity, state, opened_at,
                        resolved_at, runs_affected, facts, notify, notified_at, n_reminders,
                        last_occasion, n_news)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?
            .execute(params![
                incident.key,
                incident.instance,
                incident.schedule,
                incident.kind.as_str(),
                word(&incident.severity)?,
                word(&incident.state)?,
                millis(incident.opened_at),
                incident.resolved_at.map(millis),
                incident.runs_affected,
                json(facts)?,
                json(notify)?,
                millis(*notified_at),
                n_reminders,
                last_occasion,
                tracked.n_news,
            ])?;
        tracked.open.incident.id = connection.last_insert_rowid();
        return Ok(());
    }
    connection
        .prepare_cached(
            "UPDATE incidents SET severity = ?2, state = ?3, resolved_at = ?4, runs_affected = ?5,
                    facts = ?6, notify = ?7, notified_at = ?8, n_reminders = ?9, last_occasion = ?10,
                    n_news = ?11
             WHERE id = ?1",
        )?
        .execute(params![
            incident.id,
            word(&incident.severity)?,
            word(&incident.state)?,
            incident.resolved_at.map(millis),
            incident.runs_affected,
            json(facts)?,
            json(notify)?,
            millis(*notified_at),
            n_reminders,
            last_occasion,
            tracked.n_news,
        ])?;
    Ok(())
}

/// Loads what is open, lets [`incident_life::apply`] decide, saves it with its news.
fn write(
    connection: &Connection,
    write: &IncidentWrite,
    at: DateTime<Utc>,
) -> rusqlite::Result<Option<News>> {
    let open = match write.key() {
        Some(key) => open_by_key(connection, &key)?,
        None => None,
    };
    let Some(Applied { mut tracked, news }) = incident_life::apply(open, write, at) else {
        return Ok(None);
    };
    save(connection, &mut tracked)?;
    let Some(mut news) = news else { return Ok(None) };
    news.incident.id = tracked.open.incident.id;
    connection
        .prepare_cached("INSERT INTO news (incident, number, at, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![news.incident.id, news.number, millis(at), json(&news)?])?;
    news.id = connection.last_insert_rowid();
    Ok(Some(news))
}

/// Whether the slot has no verdict yet, and is claimed or not as the judge thought.
fn is_open(connection: &Connection, judgement: &Judgement) -> rusqlite::Result<bool> {
    let found = connection
        .prepare_cached(
            "SELECT 1 FROM slots WHERE schedule = ?1 AND due_at = ?2 AND verdict IS NULL
             AND run IS ?3",
        )?
        .query_row(
            params![
                judgement.slot.schedule.as_str(),
                millis(judgement.slot.due_at),
                judgement.run.as_ref().map(RunId::as_str),
            ],
            |_| Ok(()),
        )
        .optional()?;
    Ok(found.is_some())
}

fn judge(connection: &Connection, judgement: &Judgement) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE slots SET state = 'judged', verdict = ?3, reason = ?4, findings = ?5,
                    summary = ?6, judged_at = ?7
             WHERE schedule = ?1 AND due_at = ?2 AND verdict IS NULL",
        )?
        .execute(params![
            judgement.slot.schedule.as_str(),
            millis(judgement.slot.due_at),
            judgement.verdict.as_str(),
            judgement.reason,
            json(&judgement.findings)?,
            json(&judgement.summary)?,
            millis(judgement.at),
        ])?;
    Ok(())
}

fn attach(connection: &Connection, run: &RunId, findings: &[String]) -> rusqlite::Result<()> {
    let sql = "SELECT findings FROM slots WHERE run = ?1";
    let known: Option<String> =
        connection.query_row(sql, [run.as_str()], |row| row.get(0)).optional()?;
    let mut known: Vec<String> = known.as_deref().map_or(Ok(Vec::new()), from_json)?;
    for finding in findings {
        if !known.contains(finding) {
            known.push(finding.clone());
        }
    }
    connection.execute(
        "UPDATE slots SET findings = ?2 WHERE run = ?1",
        params![run.as_str(), json(&known)?],
    )?;
    Ok(())
}

fn record(
    tx: &Transaction<'_>,
    outcome: &Outcome,
    at: DateTime<Utc>,
) -> rusqlite::Result<Recorded> {
    let mut written = Vec::new();
    // Nobody can write in between: the transaction holds the database from its beginning.
    for judgement in &outcome.judgements {
        if !is_open(tx, judgement)? {
            return Ok(Recorded::AlreadyJudged);
        }
    }
    for judgement in &outcome.judgements {
        judge(tx, judgement)?;
    }
    for (run, ended_at) in &outcome.closed {
        super::ledger::close(tx, run.as_str(), *ended_at)?;
    }
    for (run, findings) in &outcome.late {
        attach(tx, run, findings)?;
    }
    for one in &outcome.incidents {
        written.extend(write(tx, one, at)?);
    }
    for id in &outcome.reported_downtimes {
        tx.execute("UPDATE absences SET notified = 1 WHERE id = ?1", [id])?;
    }
    Ok(Recorded::Written(written))
}

#[async_trait]
impl Incidents for GuardDb {
    async fn open_incidents(&self) -> Result<Vec<OpenIncident>, StorageError> {
        self.read(|tx| {
            let sql = format!(
                "{INCIDENT} INDEXED BY incidents_open WHERE state <> 'resolved' ORDER BY id"
            );
            tx.prepare_cached(&sql)?.query_map([], |row| tracked(row).map(|it| it.open))?.collect()
        })
        .await
    }

    async fn record(&self, outcome: Outcome, at: DateTime<Utc>) -> Result<Recorded, StorageError> {
        self.transact(move |tx| record(tx, &outcome, at)).await
    }

    async fn acknowledge(&self, incident: i64) -> Result<bool, StorageError> {
        self.transact(move |tx| {
            let n_rows = tx.execute(
                "UPDATE incidents SET state = 'acked' WHERE id = ?1 AND state = 'open'",
                [incident],
            )?;
            Ok(n_rows == 1)
        })
        .await
    }
}
