//! The ledger on `guard.db`.
//!
//! Implements [`crate::run::ledger::Ledger`]; verdicts are written in [`super::incidents`].
//! Invariant: a row leaves `planned` by one conditional update, and never comes back.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, params};

mod slots;
pub(super) mod spans;

pub(super) use slots::close;

use super::GuardDb;
use super::rows::{from_json, from_word, json, maybe_millis, maybe_time, millis, time};
use crate::process::ProcessIdentity;
use crate::run::RunId;
use crate::run::ledger::{
    Answer, Claim, Claimed, DowntimeAccount, DroppedSlot, LastSlot, Ledger, Loop, OpenRun, Pause,
    Plan, PlannedSlot, RecordedDowntime, Request, RunLease,
};
use crate::schedule::{ScheduleName, Slot};
use crate::storage::StorageError;
use slots::{
    PLANNED, account_for, claim, drop_slot, free_instant, insert, list, open_run, planned, slot,
    withdraw, write_answer,
};

#[async_trait]
impl Ledger for GuardDb {
    async fn plans(&self) -> Result<Vec<Plan>, StorageError> {
        let mut plans = self
            .read(|tx| {
                list(tx, "SELECT configuration, until FROM plans", [], |row| {
                    Ok(Plan {
                        schedule: from_json(&row.get::<_, String>(0)?)?,
                        until: time(row.get(1)?)?,
                    })
                })
            })
            .await?;
        self.bind(&mut plans, |plan| &mut plan.schedule);
        Ok(plans)
    }

    async fn plan(
        &self,
        plan: Plan,
        slots: Vec<PlannedSlot>,
        replace_after: Option<DateTime<Utc>>,
    ) -> Result<usize, StorageError> {
        self.transact(move |tx| {
            spans::extend(tx, &plan, &slots, replace_after)?;
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
            spans::end(tx, &name, after)?;
            withdraw(tx, &name, after)?;
            tx.execute("DELETE FROM plans WHERE schedule = ?1", [&name])?;
            Ok(())
        })
        .await
    }

    async fn due(&self, now: DateTime<Utc>) -> Result<Vec<PlannedSlot>, StorageError> {
        let mut slots = self
            .read(move |tx| {
                let sql = format!(
                    "{PLANNED} INDEXED BY slots_planned
                     WHERE state = 'planned' AND start_at <= ?1 ORDER BY due_at"
                );
                list(tx, &sql, [millis(now)], planned)
            })
            .await?;
        self.bind(&mut slots, |slot| &mut slot.schedule);
        Ok(slots)
    }

    async fn next_start(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StorageError> {
        self.read(move |tx| {
            let sql = "SELECT MIN(start_at) FROM slots INDEXED BY slots_planned
                       WHERE state = 'planned' AND start_at > ?1";
            maybe_time(tx.query_row(sql, [millis(now)], |row| row.get(0))?)
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

    async fn record_downtime(&self, account: DowntimeAccount) -> Result<(), StorageError> {
        self.transact(move |tx| account_for(tx, &account)).await
    }

    async fn open_runs(&self) -> Result<Vec<OpenRun>, StorageError> {
        let mut runs = self
            .read(|tx| {
                let sql =
                    "SELECT schedule, due_at, run, configuration, origin, start_by, claimed_at,
                                  keeper, keeper_started_at, start_error, verdict, ended_at, absence
                           FROM slots INDEXED BY slots_open_run WHERE run_open = 1 ORDER BY due_at";
                list(tx, sql, [], open_run)
            })
            .await?;
        self.bind(&mut runs, |open| &mut open.run.schedule);
        Ok(runs)
    }

    async fn close_run(&self, run: &RunId, ended_at: DateTime<Utc>) -> Result<(), StorageError> {
        let run = run.as_str().to_owned();
        self.transact(move |tx| close(tx, &run, ended_at)).await
    }

    async fn overdue(&self, now: DateTime<Utc>) -> Result<Vec<PlannedSlot>, StorageError> {
        let mut slots = self
            .read(move |tx| {
                let sql = format!(
                    "{PLANNED} INDEXED BY slots_deadline
                     WHERE state = 'planned' AND start_by < ?1 ORDER BY due_at"
                );
                list(tx, &sql, [millis(now)], planned)
            })
            .await?;
        self.bind(&mut slots, |slot| &mut slot.schedule);
        Ok(slots)
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
                    downtime: row.get(4)?,
                })
            })
        })
        .await
    }

    async fn unreported_downtimes(&self) -> Result<Vec<RecordedDowntime>, StorageError> {
        self.read(|tx| {
            let sql = "SELECT id, since, until, n_unobserved, n_caught_up, why FROM absences
                       WHERE notified = 0 ORDER BY id";
            list(tx, sql, [], |row| {
                Ok(RecordedDowntime {
                    id: row.get(0)?,
                    from: time(row.get(1)?)?,
                    to: time(row.get(2)?)?,
                    n_unobserved: row.get(3)?,
                    n_caught_up: row.get(4)?,
                    cause: from_word(&row.get::<_, String>(5)?)?,
                })
            })
        })
        .await
    }

    async fn last_slot(
        &self,
        schedule: &ScheduleName,
        now: DateTime<Utc>,
    ) -> Result<Option<LastSlot>, StorageError> {
        let name = schedule.as_str().to_owned();
        self.read(move |tx| {
            tx.query_row(
                "SELECT due_at, state, run_open, ended_at FROM slots
                 WHERE schedule = ?1 AND due_at <= ?2 ORDER BY due_at DESC LIMIT 1",
                params![&name, millis(now)],
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
                // One that has ended is not the same pause: what was due in between was not paused.
                "INSERT INTO pauses (schedule, reason, until, paused_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (schedule) DO UPDATE SET reason = ?2, until = ?3,
                     paused_at = CASE WHEN pauses.until <= ?4 THEN ?4 ELSE paused_at END",
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
