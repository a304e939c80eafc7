//! From when to when a schedule was in effect, and how: what an audit computes slots from.
//!
//! Rows alone can't prove that none is missing: a schedule that was switched off, renamed or not there yet
//! has no slots in that time, and rightly so.
//! Invariant: within a span every slot of its configuration has a row.

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension, params};

use crate::run::ledger::{Plan, PlannedSlot};
use crate::schedule::Cadence;
use crate::store::rows::{from_json, json, millis, time};
use crate::watch::history::Span;

/// What was planned before spans were kept is not proven; from where it ends on it is.
pub(in crate::store) const SCHEMA: &str = "
    CREATE TABLE spans (
        id INTEGER PRIMARY KEY,
        schedule TEXT NOT NULL,
        configuration TEXT NOT NULL,
        -- Slots later than this, up to and with `until`, have rows.
        since INTEGER NOT NULL,
        until INTEGER NOT NULL
    );
    CREATE INDEX spans_by_schedule ON spans (schedule, until);
    INSERT INTO spans (schedule, configuration, since, until)
        SELECT schedule, configuration, until, until FROM plans;
";

/// A plan goes on, begins, or is exchanged.
pub(super) fn extend(
    connection: &Connection,
    plan: &Plan,
    slots: &[PlannedSlot],
    replace_after: Option<DateTime<Utc>>,
) -> rusqlite::Result<()> {
    if plan.schedule.cadence == Cadence::Continuous {
        return Ok(());
    }
    let name = plan.schedule.name.as_str();
    if let Some(after) = replace_after {
        end(connection, name, after)?;
        return begin(connection, plan, after);
    }
    let is_planned = connection
        .query_row("SELECT 1 FROM plans WHERE schedule = ?1", [name], |_| Ok(()))
        .optional()?;
    if is_planned.is_none() {
        // Before its first slot there was none to write down.
        let first = slots.first().map_or(plan.until, |slot| slot.slot.due_at);
        return begin(connection, plan, first - TimeDelta::seconds(1));
    }
    // Both ends go back with a clock that is set back, as far as no other span proves the time.
    let first = slots.first().map(|slot| millis(slot.slot.due_at - TimeDelta::seconds(1)));
    connection.execute(
        "UPDATE spans SET until = ?2, since = MIN(since, COALESCE(
             MAX(?3, COALESCE((SELECT MAX(o.until) FROM spans AS o
                               WHERE o.schedule = ?1 AND o.id <> spans.id), ?3)), since))
         WHERE id = (SELECT id FROM spans WHERE schedule = ?1 ORDER BY id DESC LIMIT 1)",
        params![name, millis(plan.until), first],
    )?;
    Ok(())
}

fn begin(connection: &Connection, plan: &Plan, since: DateTime<Utc>) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO spans (schedule, configuration, since, until) VALUES (?1, ?2, ?3, ?4)",
        params![
            plan.schedule.name.as_str(),
            json(&plan.schedule)?,
            millis(since),
            millis(plan.until)
        ],
    )?;
    Ok(())
}

/// Nothing of the schedule is planned for later than this.
pub(super) fn end(
    connection: &Connection,
    name: &str,
    after: DateTime<Utc>,
) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE spans SET until = ?2 WHERE schedule = ?1 AND until > ?2",
        params![name, millis(after)],
    )?;
    Ok(())
}

/// Spans that reach into `[from, until]`.
pub(in crate::store) fn between(
    connection: &Connection,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> rusqlite::Result<Vec<Span>> {
    connection
        .prepare_cached(
            "SELECT configuration, since, until FROM spans
             WHERE until >= ?1 AND since < ?2 AND until > since ORDER BY id",
        )?
        .query_map(params![millis(from), millis(until)], |row| {
            Ok(Span {
                schedule: from_json(&row.get::<_, String>(0)?)?,
                since: time(row.get(1)?)?,
                until: time(row.get(2)?)?,
            })
        })?
        .collect()
}
