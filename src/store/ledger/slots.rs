//! Rows of slots: written, claimed, dropped, read.
//!
//! Statements only; what belongs into one transaction is decided by the ledger's methods.
//! Invariant: a row leaves `planned` by one conditional update, and never comes back.

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::process::ProcessIdentity;
use crate::run::ledger::{
    Answer, Cause, Claim, Claimed, DowntimeAccount, DroppedSlot, OpenRun, PlannedSlot, RunProgress,
};
use crate::run::{Extent, Run, RunId};
use crate::schedule::{ScheduleName, Slot};
use crate::store::rows::{from_json, from_word, json, maybe_time, millis, time, word};

// `INDEXED BY` throughout: the table grows for years, what is planned or open is a handful, and the
// planner, which has no statistics, would rather walk the table in the order that is asked for.
pub(super) const PLANNED: &str =
    "SELECT schedule, due_at, configuration, origin, start_at, start_by, absence FROM slots";

pub(super) fn planned(row: &Row<'_>) -> rusqlite::Result<PlannedSlot> {
    Ok(PlannedSlot {
        slot: slot(row)?,
        schedule: from_json(&row.get::<_, String>(2)?)?,
        origin: from_word(&row.get::<_, String>(3)?)?,
        start_at: time(row.get(4)?)?,
        start_by: time(row.get(5)?)?,
        downtime: row.get(6)?,
    })
}

/// The slot of a row whose first two columns are its key.
pub(super) fn slot(row: &Row<'_>) -> rusqlite::Result<Slot> {
    Ok(Slot { schedule: ScheduleName::new(row.get::<_, String>(0)?), due_at: time(row.get(1)?)? })
}

pub(super) fn insert(connection: &Connection, planned: &PlannedSlot) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "INSERT INTO slots (schedule, due_at, origin, configuration, start_at, start_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            planned.slot.schedule.as_str(),
            millis(planned.slot.due_at),
            planned.origin.as_str(),
            json(&planned.schedule)?,
            millis(planned.start_at),
            millis(planned.start_by),
        ])
}

/// Slots of the cadence that nobody claimed and that are due later.
pub(super) fn withdraw(
    connection: &Connection,
    name: &str,
    after: DateTime<Utc>,
) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM slots WHERE schedule = ?1 AND due_at > ?2 AND state = 'planned'
         AND origin = 'schedule' AND absence IS NULL",
        params![name, millis(after)],
    )?;
    Ok(())
}

pub(super) fn list<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(params, read)?.collect()
}

pub(super) fn open_run(row: &Row<'_>) -> rusqlite::Result<OpenRun> {
    let keeper: Option<String> = row.get(7)?;
    let verdict: Option<String> = row.get(10)?;
    Ok(OpenRun {
        run: Run {
            id: RunId::from_stored(row.get::<_, String>(2)?),
            slot: slot(row)?,
            schedule: from_json(&row.get::<_, String>(3)?)?,
            claimed_at: time(row.get(6)?)?,
            started_at: maybe_time(row.get(8)?)?,
            keeper: keeper.as_deref().map(from_json::<ProcessIdentity>).transpose()?,
            ended_at: maybe_time(row.get(11)?)?,
        },
        origin: from_word(&row.get::<_, String>(4)?)?,
        start_by: time(row.get(5)?)?,
        downtime: row.get(12)?,
        start_error: row.get(9)?,
        progress: match verdict {
            Some(_) => RunProgress::Judged,
            None => RunProgress::Undecided,
        },
    })
}

pub(super) fn drop_slot(connection: &Connection, dropped: &DroppedSlot) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "UPDATE slots SET state = 'dropped', cause = ?3, reason = ?4, absence = ?5
             WHERE schedule = ?1 AND due_at = ?2 AND state = 'planned'",
        )?
        .execute(params![
            dropped.slot.schedule.as_str(),
            millis(dropped.slot.due_at),
            dropped.cause.as_str(),
            dropped.reason,
            dropped.downtime,
        ])
}

/// `notified` of an absence whose slots are not all known yet.
const BEING_COUNTED: i64 = 2;

/// The absence that is being counted, if there is one; else a new one, if there is a slot in it.
fn downtime_of(
    connection: &Connection,
    account: &DowntimeAccount,
) -> rusqlite::Result<Option<i64>> {
    let counted = connection
        .query_row("SELECT id FROM absences WHERE notified = ?1", [BEING_COUNTED], |row| row.get(0))
        .optional()?;
    if counted.is_some() || (account.unobserved.is_empty() && account.caught_up.is_empty()) {
        return Ok(counted);
    }
    connection.execute(
        "INSERT INTO absences (since, until, why, n_unobserved, n_caught_up, notified)
         VALUES (?1, ?2, ?3, 0, 0, ?4)",
        params![millis(account.from), millis(account.to), word(&account.cause)?, BEING_COUNTED],
    )?;
    Ok(Some(connection.last_insert_rowid()))
}

pub(super) fn account_for(
    connection: &Connection,
    account: &DowntimeAccount,
) -> rusqlite::Result<()> {
    let Some(id) = downtime_of(connection, account)? else { return Ok(()) };
    let mut n_unobserved = 0_u32;
    for (slot, reason) in &account.unobserved {
        let dropped = DroppedSlot {
            slot: slot.clone(),
            cause: Cause::Downtime,
            reason: reason.clone(),
            downtime: Some(id),
        };
        n_unobserved += u32::from(drop_slot(connection, &dropped)? == 1);
    }
    let mut n_caught_up = 0_u32;
    for (slot, start_by) in &account.caught_up {
        let n_rows = connection.execute(
            "UPDATE slots SET absence = ?3, start_by = ?4
             WHERE schedule = ?1 AND due_at = ?2 AND state = 'planned'",
            params![slot.schedule.as_str(), millis(slot.due_at), id, millis(*start_by)],
        )?;
        n_caught_up += u32::from(n_rows == 1);
    }
    let notified = match account.extent {
        Extent::Part => BEING_COUNTED,
        Extent::Whole => 0,
    };
    connection.execute(
        "UPDATE absences SET n_unobserved = n_unobserved + ?2, n_caught_up = n_caught_up + ?3,
                until = ?4, notified = ?5 WHERE id = ?1",
        params![id, n_unobserved, n_caught_up, millis(account.to), notified],
    )?;
    Ok(())
}

pub(super) fn claim(connection: &Connection, claim: &Claim) -> rusqlite::Result<Claimed> {
    let n_rows = connection.execute(
        "UPDATE slots SET state = 'running', run = ?3, run_open = 1, claimed_at = ?4,
                configuration = ?5
         WHERE schedule = ?1 AND due_at = ?2 AND state = 'planned' AND start_by >= ?4
         AND NOT EXISTS (SELECT 1 FROM slots INDEXED BY slots_open_run
                         WHERE schedule = ?1 AND run_open = 1)",
        params![
            claim.slot.schedule.as_str(),
            millis(claim.slot.due_at),
            claim.run.as_str(),
            millis(claim.at),
            json(&claim.schedule)?,
        ],
    )?;
    Ok(if n_rows == 1 { Claimed::Won } else { Claimed::Lost })
}

/// The first whole second from the slot's instant on that has no row.
pub(super) fn free_instant(connection: &Connection, slot: &Slot) -> rusqlite::Result<Slot> {
    let mut slot = slot.clone();
    loop {
        let taken = connection
            .query_row(
                "SELECT 1 FROM slots WHERE schedule = ?1 AND due_at = ?2",
                params![slot.schedule.as_str(), millis(slot.due_at)],
                |_| Ok(()),
            )
            .optional()?;
        if taken.is_none() {
            return Ok(slot);
        }
        slot.due_at += TimeDelta::seconds(1);
    }
}

pub(super) fn write_answer(
    connection: &Connection,
    id: i64,
    answer: &Answer,
) -> rusqlite::Result<()> {
    connection
        .execute("UPDATE requests SET answer = ?2 WHERE id = ?1", params![id, json(answer)?])?;
    Ok(())
}

/// Also used where a run is closed together with its verdict.
pub(in crate::store) fn close(
    connection: &Connection,
    run: &str,
    ended_at: DateTime<Utc>,
) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE slots SET run_open = 0, ended_at = COALESCE(ended_at, ?2) WHERE run = ?1",
        params![run, millis(ended_at)],
    )?;
    Ok(())
}
