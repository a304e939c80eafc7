//! Verdicts, incidents and news on `guard.db`, in one transaction.
//!
//! Implements [`crate::watch::incidents::Incidents`]. `alert`'s half of the outbox reads the `news` table.
//! Invariant: the verdict column is written where it is empty, or the transaction is undone.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::GuardDb;
use super::rows::{from_json, from_word, json, maybe_time, millis, time, word};
use crate::run::RunId;
use crate::storage::StorageError;
use crate::watch::incidents::{
    FaultWrite, IncidentWrite, Incidents, Judgement, OpenIncident, Outcome, Recorded,
};
use crate::watch::{Change, Facts, Incident, IncidentState, News};

const INCIDENT: &str = "SELECT id, key, instance, schedule, kind, severity, state, opened_at,
    resolved_at, runs_affected, facts, notify, told_at, n_reminders, last_occasion, n_news
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

/// An open incident with what its next news needs.
struct Stored {
    open: OpenIncident,
    n_news: u32,
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let last_occasion: Option<String> = row.get(14)?;
    Ok(Stored {
        open: OpenIncident {
            incident: incident(row)?,
            facts: from_json(&row.get::<_, String>(10)?)?,
            notify: from_json(&row.get::<_, String>(11)?)?,
            told_at: time(row.get(12)?)?,
            n_reminders: row.get(13)?,
            last_occasion: last_occasion.as_deref().map(from_json).transpose()?,
        },
        n_news: row.get(15)?,
    })
}

fn open_by_key(connection: &Connection, key: &str) -> rusqlite::Result<Option<Stored>> {
    let sql = format!("{INCIDENT} WHERE key = ?1 AND state <> 'resolved'");
    connection.prepare_cached(&sql)?.query_row([key], stored).optional()
}

/// Writes an incident's row as it now is.
fn save(connection: &Connection, stored: &Stored) -> rusqlite::Result<()> {
    let OpenIncident { incident, facts, notify, told_at, n_reminders, last_occasion } =
        &stored.open;
    connection
        .prepare_cached(
            "UPDATE incidents SET severity = ?2, state = ?3, resolved_at = ?4, runs_affected = ?5,
                    facts = ?6, notify = ?7, told_at = ?8, n_reminders = ?9, last_occasion = ?10,
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
            millis(*told_at),
            n_reminders,
            last_occasion.as_ref().map(json).transpose()?,
            stored.n_news,
        ])?;
    Ok(())
}

/// Adds the next piece of news of an incident, and saves it.
fn tell(
    connection: &Connection,
    stored: &mut Stored,
    change: Change,
    at: DateTime<Utc>,
) -> rusqlite::Result<News> {
    stored.n_news += 1;
    stored.open.told_at = at;
    let mut news = News {
        id: 0,
        incident: stored.open.incident.clone(),
        change,
        number: stored.n_news,
        at,
        notify: stored.open.notify.clone(),
        facts: stored.open.facts.clone(),
    };
    connection
        .prepare_cached("INSERT INTO news (incident, number, at, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![news.incident.id, news.number, millis(at), json(&news)?])?;
    news.id = connection.last_insert_rowid();
    save(connection, stored)?;
    Ok(news)
}

/// Opens an incident, as a row without news yet.
fn open(
    connection: &Connection,
    fault: &FaultWrite,
    at: DateTime<Utc>,
) -> rusqlite::Result<Stored> {
    let runs_affected = u32::from(fault.occasion.is_some());
    connection.execute(
        "INSERT INTO incidents (key, instance, schedule, kind, severity, state, opened_at,
                runs_affected, facts, notify, told_at, last_occasion)
         VALUES (?1, ?2, ?3, ?4, ?5, 'open', ?6, ?7, ?8, ?9, ?6, ?10)",
        params![
            fault.key.text(),
            fault.key.instance,
            fault.key.schedule,
            fault.key.kind.as_str(),
            fault.severity.as_str(),
            millis(at),
            runs_affected,
            json(&fault.facts)?,
            json(&fault.notify)?,
            fault.occasion.as_ref().map(json).transpose()?,
        ],
    )?;
    let incident = Incident {
        id: connection.last_insert_rowid(),
        key: fault.key.text(),
        instance: fault.key.instance.clone(),
        schedule: fault.key.schedule.clone(),
        kind: fault.key.kind,
        severity: fault.severity,
        state: IncidentState::Open,
        opened_at: at,
        resolved_at: None,
        runs_affected,
    };
    let open = OpenIncident {
        incident,
        facts: fault.facts.clone(),
        notify: fault.notify.clone(),
        told_at: at,
        n_reminders: 0,
        last_occasion: fault.occasion.clone(),
    };
    Ok(Stored { open, n_news: 0 })
}

/// The fault is there: news if it is new or worse.
fn fault(
    connection: &Connection,
    fault: &FaultWrite,
    at: DateTime<Utc>,
) -> rusqlite::Result<Option<News>> {
    let Some(mut stored) = open_by_key(connection, &fault.key.text())? else {
        let mut stored = open(connection, fault, at)?;
        return tell(connection, &mut stored, Change::Opened, at).map(Some);
    };
    let open = &mut stored.open;
    if fault.occasion.is_some() && fault.occasion != open.last_occasion {
        open.incident.runs_affected += 1;
        open.last_occasion.clone_from(&fault.occasion);
    }
    open.facts = Facts { also: joined(&open.facts.also, &fault.facts.also), ..fault.facts.clone() };
    open.notify.clone_from(&fault.notify);
    if fault.severity > open.incident.severity {
        open.incident.severity = fault.severity;
        return tell(connection, &mut stored, Change::Raised, at).map(Some);
    }
    save(connection, &stored)?;
    Ok(None)
}

/// Both lists, each line once, the last few: a month of symptoms does not fit into a message.
fn joined(before: &[String], now: &[String]) -> Vec<String> {
    const MOST: usize = 10;
    let mut all: Vec<String> = before.iter().filter(|line| !now.contains(line)).cloned().collect();
    all.extend(now.iter().cloned());
    all.split_off(all.len().saturating_sub(MOST))
}

fn over(
    connection: &Connection,
    key: &str,
    facts: &Facts,
    at: DateTime<Utc>,
) -> rusqlite::Result<Option<News>> {
    let Some(mut stored) = open_by_key(connection, key)? else { return Ok(None) };
    stored.open.incident.state = IncidentState::Resolved;
    stored.open.incident.resolved_at = Some(at);
    stored.open.facts = facts.clone();
    tell(connection, &mut stored, Change::Resolved, at).map(Some)
}

fn remind(connection: &Connection, key: &str, at: DateTime<Utc>) -> rusqlite::Result<Option<News>> {
    let Some(mut stored) = open_by_key(connection, key)? else { return Ok(None) };
    if stored.open.incident.state == IncidentState::Acked {
        return Ok(None);
    }
    stored.open.n_reminders += 1;
    tell(connection, &mut stored, Change::Reminder, at).map(Some)
}

fn apply(
    connection: &Connection,
    write: &IncidentWrite,
    at: DateTime<Utc>,
) -> rusqlite::Result<Option<News>> {
    match write {
        IncidentWrite::Fault(write) => fault(connection, write, at),
        IncidentWrite::Over { key, facts } => over(connection, key, facts, at),
        IncidentWrite::Remind { key } => remind(connection, key, at),
        IncidentWrite::Notice(write) => {
            let mut stored = open(connection, write, at)?;
            stored.open.incident.state = IncidentState::Resolved;
            stored.open.incident.resolved_at = Some(at);
            tell(connection, &mut stored, Change::Opened, at).map(Some)
        }
    }
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
    for write in &outcome.incidents {
        written.extend(apply(tx, write, at)?);
    }
    for id in &outcome.told_absences {
        tx.execute("UPDATE absences SET told = 1 WHERE id = ?1", [id])?;
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
            tx.prepare_cached(&sql)?.query_map([], |row| stored(row).map(|s| s.open))?.collect()
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
