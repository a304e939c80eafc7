//! Taking over what dead processes have left, and whose death it was.
//!
//! Invariant: only an image that was worked on alone, in a process that died while the machine went
//! on, has used up a try; every other image in progress becomes a suspect and loses nothing.

use chrono::{DateTime, Utc};
use rusqlite::{Transaction, params};

use super::holder::{is_alive, remove_lock};
use super::{Holder, fence_without_answer, history, parse, stamp};
use crate::review::record::RecordId;
use crate::review::tries::{Fence, Orphan};

/// What stands in a row's details after three such deaths.
const DIED_ALONE: &str = "the review process died while this was the only image in progress";

struct PeerHolder {
    id: i64,
    machine: String,
    boot_id: String,
    lock_name: String,
    lease_until: DateTime<Utc>,
}

/// What is known of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Alive,
    /// Its lock is free.
    Dead,
    /// Nobody knows whether it lives, but its time is over.
    Expired,
}

pub(super) fn take_over(
    transaction: &Transaction<'_>,
    us: &Holder,
    now: DateTime<Utc>,
) -> rusqlite::Result<Vec<Orphan>> {
    let mut orphans = Vec::new();
    for holder in others(transaction, us)? {
        let state = state(us, &holder, now);
        if state == State::Alive {
            continue;
        }
        close_tries(transaction, us, &holder, state, now)?;
        orphans.extend(adopt_claims(transaction, us, &holder)?);
        transaction.execute("DELETE FROM holders WHERE id = ?1", [holder.id])?;
        if state == State::Dead {
            remove_lock(&us.state_dir, &holder.lock_name);
        }
    }
    Ok(orphans)
}

fn others(transaction: &Transaction<'_>, us: &Holder) -> rusqlite::Result<Vec<PeerHolder>> {
    let mut select = transaction.prepare_cached(
        "SELECT id, machine, boot_id, lock_name, lease_until FROM holders
         WHERE scope = ?1 AND id <> ?2 ORDER BY id",
    )?;
    let holders = select.query_map(params![us.scope, us.holder], |row| {
        Ok(PeerHolder {
            id: row.get(0)?,
            machine: row.get(1)?,
            boot_id: row.get(2)?,
            lock_name: row.get(3)?,
            lease_until: parse(&row.get::<_, String>(4)?)?,
        })
    })?;
    holders.collect()
}

fn state(us: &Holder, holder: &PeerHolder, now: DateTime<Utc>) -> State {
    if holder.machine == us.identity.machine && !is_alive(&us.state_dir, &holder.lock_name) {
        State::Dead
    } else if holder.lease_until < now {
        State::Expired
    } else {
        State::Alive
    }
}

/// Tries that were under way: the money set aside for them counts as spent, since the calls may
/// have been billed.
fn close_tries(
    transaction: &Transaction<'_>,
    us: &Holder,
    holder: &PeerHolder,
    state: State,
    now: DateTime<Utc>,
) -> rusqlite::Result<()> {
    let died_here = state == State::Dead && holder.boot_id == us.identity.boot_id;
    let mut select = transaction.prepare_cached(
        "SELECT id, record_id, alone FROM tries WHERE holder = ?1 AND ended_at IS NULL",
    )?;
    let open: Vec<(i64, String, bool)> = select
        .query_map([holder.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, record_id, alone) in open {
        let (outcome, reason) = if alone && died_here {
            ("failed", DIED_ALONE)
        } else {
            ("died", "the review process ended while this image was in progress")
        };
        transaction.execute(
            "UPDATE tries SET ended_at = ?2, outcome = ?3, reason = ?4, cost_usd = reserved_usd
             WHERE id = ?1",
            params![id, stamp(now), outcome, reason],
        )?;
        if died_here {
            transaction.execute(
                "INSERT INTO suspects (scope, record_id, since) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO NOTHING",
                params![us.scope, record_id, stamp(now)],
            )?;
        }
    }
    Ok(())
}

fn adopt_claims(
    transaction: &Transaction<'_>,
    us: &Holder,
    holder: &PeerHolder,
) -> rusqlite::Result<Vec<Orphan>> {
    let mut update = transaction.prepare_cached(
        "UPDATE claims SET holder = ?1 WHERE holder = ?2
         RETURNING record_id, from_status, claimed_at, fence",
    )?;
    let claims: Vec<(String, String, String, Option<String>)> = update
        .query_map(params![us.holder, holder.id], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let without_answer = fence_without_answer(transaction, us)?;
    claims
        .into_iter()
        .map(|(id, from, given, written)| {
            let history = history(transaction, us, &id)?;
            let fence = if written.is_some() { Fence::Sure } else { without_answer };
            let claimed_at = parse(&written.unwrap_or(given))?;
            Ok(Orphan { id: RecordId(id), from, claimed_at, fence, history })
        })
        .collect()
}
