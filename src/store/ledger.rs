//! The ledger on `guard.db`.
//!
//! Implements [`crate::run::ledger::Ledger`]; verdicts are written in [`super::incidents`].
//! Invariant: a row leaves `planned` by one conditional update, and never comes back.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::GuardDb;
use super::rows::{from_json, from_word, json, maybe_millis, maybe_time, millis, time};
use crate::keep::evidence::ProcessIdentity;
use crate::run::ledger::{
    Absence, AbsenceAccount, Answer, Cause, Claim, Claimed, DroppedSlot, LastSlot, Ledger, Loop,
    OpenRun, Pause, Plan, PlannedSlot, Request, RunLease, RunProgress,
};
use crate::run::{Run, RunId};
use crate::schedule::{ScheduleName, Slot};
use crate::storage::StorageError;

// `INDEXED BY` throughout: the table grows for years, what is planned or open is a handful, and the
// planner, which has no statistics, would rather walk the table in the order that is asked for.
const PLANNED: &str =
    "SELECT schedule, due_at, configuration, origin, start_at, start_by, absence FROM slots";

fn planned(row: &Row<'_>) -> rusqlite::Result<PlannedSlot> {
    Ok(PlannedSlot {
        slot: slot(row)?,
        schedule: from_json(&row.get::<_, String>(2)?)?,
        origin: from_word(&row.get::<_, String>(3)?)?,
        start_at: time(row.get(4)?)?,
        start_by: time(row.get(5)?)?,
        absence: row.get(6)?,
    })
}

/// The slot of a row whose first two columns are its key.
fn slot(row: &Row<'_>) -> rusqlite::Result<Slot> {
    Ok(Slot { schedule: ScheduleName::new(row.get::<_, String>(0)?), due_at: time(row.get(1)?)? })
}

fn insert(connection: &Connection, planned: &PlannedSlot) -> rusqlite::Result<usize> {
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
fn withdraw(connection: &Connection, name: &str, after: DateTime<Utc>) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM slots WHERE schedule = ?1 AND due_at > ?2 AND state = 'planned'
         AND origin = 'schedule' AND absence IS NULL",
        params![name, millis(after)],
    )?;
    Ok(())
}

fn list<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(params, read)?.collect()
}

fn open_run(row: &Row<'_>) -> rusqlite::Result<OpenRun> {
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
        absence: row.get(12)?,
        start_error: row.get(9)?,
        progress: match verdict {
            Some(_) => RunProgress::Judged,
            None => RunProgress::Undecided,
        },
    })
}

fn drop_slot(connection: &Connection, dropped: &DroppedSlot) -> rusqlite::Result<usize> {
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
            dropped.absence,
        ])
}

fn account_for(connection: &Connection, account: &AbsenceAccount) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO absences (since, until, n_unobserved, n_caught_up) VALUES (?1, ?2, 0, 0)",
        params![millis(account.from), millis(account.to)],
    )?;
    let id = connection.last_insert_rowid();
    let mut n_unobserved = 0_u32;
    for (slot, reason) in &account.unobserved {
        let dropped = DroppedSlot {
            slot: slot.clone(),
            cause: Cause::Absent,
            reason: reason.clone(),
            absence: Some(id),
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
    connection.execute(
        "UPDATE absences SET n_unobserved = ?2, n_caught_up = ?3 WHERE id = ?1",
        params![id, n_unobserved, n_caught_up],
    )?;
    Ok(())
}

fn claim(connection: &Connection, claim: &Claim) -> rusqlite::Result<Claimed> {
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
fn free_instant(connection: &Connection, slot: &Slot) -> rusqlite::Result<Slot> {
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

#[async_trait]
impl Ledger for GuardDb {
    async fn plans(&self) -> Result<Vec<Plan>, StorageError> {
        self.read(|tx| {
            list(tx, "SELECT configuration, until FROM plans", [], |row| {
                Ok(Plan {
                    schedule: from_json(&row.get::<_, String>(0)?)?,
                    until: time(row.get(1)?)?,
                })
            })
        })
        .await
    }

    async fn plan(
        &self,
        plan: Plan,
        slots: Vec<PlannedSlot>,
        replace_after: Option<DateTime<Utc>>,
    ) -> Result<usize, StorageError> {
        self.transact(move |tx| {
            let name = plan.schedule.name.as_str();
            if let Some(after) = replace_after {
                withdraw(tx, name, after)?;
            }
            let mut n_new = 0;
            for slot in &slots {
                n_new += insert(tx, slot)?;
            }
            tx.execute(
                "INSERT INTO plans (schedule, configuration, until) VALUES (?1, ?2, ?3)
                 ON CONFLICT (schedule) DO UPDATE SET configuration = ?2, until = ?3",
                params![name, json(&plan.schedule)?, millis(plan.until)],
            )?;
            Ok(n_new)
        })
        .await
    }

    async fn forget(
        &self,
        schedule: &ScheduleName,
        after: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let name = schedule.as_str().to_owned();
        self.transact(move |tx| {
            withdraw(tx, &name, after)?;
            tx.execute("DELETE FROM plans WHERE schedule = ?1", [&name])?;
            Ok(())
        })
        .await
    }

    async fn due(&self, now: DateTime<Utc>) -> Result<Vec<PlannedSlot>, StorageError> {
        self.read(move |tx| {
            let sql = format!(
                "{PLANNED} INDEXED BY slots_planned
                 WHERE state = 'planned' AND start_at <= ?1 ORDER BY due_at"
            );
            list(tx, &sql, [millis(now)], planned)
        })
        .await
    }

    async fn next_start(
        &self,
        schedule: &ScheduleName,
    ) -> Result<Option<DateTime<Utc>>, StorageError> {
        let name = schedule.as_str().to_owned();
        self.read(move |tx| {
            let sql = "SELECT MIN(start_at) FROM slots INDEXED BY slots_planned WHERE schedule = ?1 AND state = 'planned'";
            maybe_time(tx.query_row(sql, [&name], |row| row.get(0))?)
        })
        .await
    }

    async fn try_claim(&self, wanted: &Claim) -> Result<Claimed, StorageError> {
        let wanted = wanted.clone();
        self.transact(move |tx| claim(tx, &wanted)).await
    }

    async fn keeper_started(
        &self,
        lease: &RunLease,
        keeper: &ProcessIdentity,
        at: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let (run, keeper) = (lease.run().id.as_str().to_owned(), keeper.clone());
        self.transact(move |tx| {
            tx.execute(
                "UPDATE slots SET keeper = ?2, keeper_started_at = ?3 WHERE run = ?1",
                params![run, json(&keeper)?, millis(at)],
            )?;
            Ok(())
        })
        .await
    }

    async fn keeper_refused(&self, lease: &RunLease, error: &str) -> Result<(), StorageError> {
        let (run, error) = (lease.run().id.as_str().to_owned(), error.to_owned());
        self.transact(move |tx| {
            tx.execute("UPDATE slots SET start_error = ?2 WHERE run = ?1", params![run, error])?;
            Ok(())
        })
        .await
    }

    async fn drop_slots(&self, slots: Vec<DroppedSlot>) -> Result<(), StorageError> {
        self.transact(move |tx| slots.iter().try_for_each(|slot| drop_slot(tx, slot).map(|_| ())))
            .await
    }

    async fn extend(&self, slot: &Slot, start_by: DateTime<Utc>) -> Result<(), StorageError> {
        let slot = slot.clone();
        self.transact(move |tx| {
            tx.execute(
                "UPDATE slots SET start_by = ?3
                 WHERE schedule = ?1 AND due_at = ?2 AND state = 'planned'",
                params![slot.schedule.as_str(), millis(slot.due_at), millis(start_by)],
            )?;
            Ok(())
        })
        .await
    }

    async fn record_absence(&self, account: AbsenceAccount) -> Result<(), StorageError> {
        self.transact(move |tx| account_for(tx, &account)).await
    }

    async fn open_runs(&self) -> Result<Vec<OpenRun>, StorageError> {
        self.read(|tx| {
            let sql = "SELECT schedule, due_at, run, configuration, origin, start_by, claimed_at,
                              keeper, keeper_started_at, start_error, verdict, ended_at, absence
                       FROM slots INDEXED BY slots_open_run WHERE run_open = 1 ORDER BY due_at";
            list(tx, sql, [], open_run)
        })
        .await
    }

    async fn close_run(&self, run: &RunId, ended_at: DateTime<Utc>) -> Result<(), StorageError> {
        let run = run.as_str().to_owned();
        self.transact(move |tx| close(tx, &run, ended_at)).await
    }

    async fn overdue(&self, now: DateTime<Utc>) -> Result<Vec<PlannedSlot>, StorageError> {
        self.read(move |tx| {
            let sql = format!(
                "{PLANNED} INDEXED BY slots_deadline
                 WHERE state = 'planned' AND start_by < ?1 ORDER BY due_at"
            );
            list(tx, &sql, [millis(now)], planned)
        })
        .await
    }

    async fn dropped(&self) -> Result<Vec<DroppedSlot>, StorageError> {
        self.read(|tx| {
            let sql = "SELECT schedule, due_at, cause, reason, absence
                       FROM slots INDEXED BY slots_dropped WHERE state = 'dropped' ORDER BY due_at";
            list(tx, sql, [], |row| {
                Ok(DroppedSlot {
                    slot: slot(row)?,
                    cause: from_word(&row.get::<_, String>(2)?)?,
                    reason: row.get(3)?,
                    absence: row.get(4)?,
                })
            })
        })
        .await
    }

    async fn untold_absences(&self) -> Result<Vec<Absence>, StorageError> {
        self.read(|tx| {
            let sql = "SELECT id, since, until, n_unobserved, n_caught_up FROM absences
                       WHERE told = 0 ORDER BY id";
            list(tx, sql, [], |row| {
                Ok(Absence {
                    id: row.get(0)?,
                    from: time(row.get(1)?)?,
                    to: time(row.get(2)?)?,
                    n_unobserved: row.get(3)?,
                    n_caught_up: row.get(4)?,
                })
            })
        })
        .await
    }

    async fn last_slot(&self, schedule: &ScheduleName) -> Result<Option<LastSlot>, StorageError> {
        let name = schedule.as_str().to_owned();
        self.read(move |tx| {
            tx.query_row(
                "SELECT due_at, state, run_open, ended_at FROM slots WHERE schedule = ?1
                 ORDER BY due_at DESC LIMIT 1",
                [&name],
                |row| {
                    let state: String = row.get(1)?;
                    Ok(LastSlot {
                        due_at: time(row.get(0)?)?,
                        is_open: row.get(2)? || state == "planned",
                        ended_at: maybe_time(row.get(3)?)?,
                    })
                },
            )
            .optional()
        })
        .await
    }

    async fn pauses(&self, now: DateTime<Utc>) -> Result<Vec<Pause>, StorageError> {
        self.read(move |tx| {
            let sql = "SELECT schedule, reason, until, paused_at FROM pauses
                       WHERE until IS NULL OR until > ?1";
            list(tx, sql, [millis(now)], |row| {
                Ok(Pause {
                    schedule: ScheduleName::new(row.get::<_, String>(0)?),
                    reason: row.get(1)?,
                    until: maybe_time(row.get(2)?)?,
                    paused_at: time(row.get(3)?)?,
                })
            })
        })
        .await
    }

    async fn pause(&self, pause: &Pause) -> Result<(), StorageError> {
        let pause = pause.clone();
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO pauses (schedule, reason, until, paused_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (schedule) DO UPDATE SET reason = ?2, until = ?3",
                params![
                    pause.schedule.as_str(),
                    pause.reason,
                    maybe_millis(pause.until),
                    millis(pause.paused_at)
                ],
            )?;
            Ok(())
        })
        .await
    }

    async fn resume(&self, schedule: &ScheduleName) -> Result<bool, StorageError> {
        let name = schedule.as_str().to_owned();
        self.transact(move |tx| {
            Ok(tx.execute("DELETE FROM pauses WHERE schedule = ?1", [&name])? > 0)
        })
        .await
    }

    async fn ask(&self, request: &Request, at: DateTime<Utc>) -> Result<i64, StorageError> {
        let request = request.clone();
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO requests (request, asked_at) VALUES (?1, ?2)",
                params![json(&request)?, millis(at)],
            )?;
            Ok(tx.last_insert_rowid())
        })
        .await
    }

    async fn requests(&self) -> Result<Vec<(i64, Request)>, StorageError> {
        self.read(|tx| {
            list(
                tx,
                "SELECT id, request FROM requests WHERE answer IS NULL ORDER BY id",
                [],
                |row| Ok((row.get(0)?, from_json(&row.get::<_, String>(1)?)?)),
            )
        })
        .await
    }

    async fn answer(&self, id: i64, answer: &Answer) -> Result<(), StorageError> {
        let answer = answer.clone();
        self.transact(move |tx| write_answer(tx, id, &answer)).await
    }

    async fn plan_asked(&self, id: i64, asked: PlannedSlot) -> Result<Slot, StorageError> {
        self.transact(move |tx| {
            let slot = free_instant(tx, &asked.slot)?;
            insert(tx, &PlannedSlot { slot: slot.clone(), ..asked })?;
            write_answer(tx, id, &Answer::Planned { due_at: slot.due_at })?;
            Ok(slot)
        })
        .await
    }

    async fn answer_to(&self, id: i64) -> Result<Option<Answer>, StorageError> {
        self.read(move |tx| {
            let text: Option<Option<String>> = tx
                .query_row("SELECT answer FROM requests WHERE id = ?1", [id], |row| row.get(0))
                .optional()?;
            text.flatten().as_deref().map(from_json).transpose()
        })
        .await
    }

    async fn last_seen(&self, who: Loop) -> Result<Option<DateTime<Utc>>, StorageError> {
        self.read(move |tx| {
            let sql = "SELECT at FROM signs_of_life WHERE who = ?1";
            maybe_time(tx.query_row(sql, [who.as_str()], |row| row.get(0)).optional()?)
        })
        .await
    }

    async fn seen(&self, who: Loop, at: DateTime<Utc>) -> Result<(), StorageError> {
        self.transact(move |tx| {
            tx.execute(
                "INSERT INTO signs_of_life (who, at) VALUES (?1, ?2)
                 ON CONFLICT (who) DO UPDATE SET at = ?2",
                params![who.as_str(), millis(at)],
            )?;
            Ok(())
        })
        .await
    }
}

fn write_answer(connection: &Connection, id: i64, answer: &Answer) -> rusqlite::Result<()> {
    connection
        .execute("UPDATE requests SET answer = ?2 WHERE id = ?1", params![id, json(answer)?])?;
    Ok(())
}

/// Also used where a run is closed together with its verdict.
pub(super) fn close(
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
