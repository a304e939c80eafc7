//! The tables of `review.db`.
//!
//! How they are brought up to date is [`crate::sqlite`]'s business.
//! Invariant: entries of [`MIGRATIONS`] are never changed, only appended.

use std::time::Duration;

use crate::sqlite::{Migration, Schema};

/// A write waits for those of other reviews: each takes milliseconds, but a hundred claims on a slow
/// disk may queue.
pub(super) const SCHEMA: Schema =
    Schema { file: "review.db", migrations: MIGRATIONS, busy_timeout: Duration::from_secs(30) };

/// One entry a version.
///
/// `scope` names the records a row belongs to (adapter, address, table): the same id in another
/// table is another row. `money` holds running sums, because a sum over a day's tries before each
/// call would cost more than the call. `claims.fence` is the time that a row has really got, if a
/// trigger of its table writes one of its own; `own_times` are the records of such tables.
const MIGRATIONS: &[Migration] = &[
    Migration::Sql(
        "
    CREATE TABLE holders (
        id INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        run TEXT NOT NULL,
        machine TEXT NOT NULL,
        boot_id TEXT NOT NULL,
        pid INTEGER NOT NULL,
        start_ticks INTEGER NOT NULL,
        lock_name TEXT NOT NULL,
        started_at TEXT NOT NULL,
        lease_until TEXT NOT NULL
    );
    CREATE TABLE claims (
        scope TEXT NOT NULL,
        record_id TEXT NOT NULL,
        from_status TEXT NOT NULL,
        claimed_at TEXT NOT NULL,
        holder INTEGER NOT NULL,
        PRIMARY KEY (scope, record_id)
    ) WITHOUT ROWID;
    CREATE INDEX claims_by_holder ON claims (holder);
    CREATE TABLE tries (
        id INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        record_id TEXT NOT NULL,
        holder INTEGER NOT NULL,
        run TEXT NOT NULL,
        begun_at TEXT NOT NULL,
        alone INTEGER NOT NULL,
        reserved_usd REAL NOT NULL,
        ended_at TEXT,
        outcome TEXT CHECK (outcome IN
            ('answered', 'blocked', 'failed', 'fault', 'own_fault', 'returned', 'died')),
        cleared INTEGER NOT NULL DEFAULT 0,
        reason TEXT,
        sha256 TEXT,
        category TEXT,
        details TEXT,
        prompt_hash TEXT,
        model TEXT,
        model_version TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        possibly_billed INTEGER NOT NULL DEFAULT 0,
        tokens_in INTEGER NOT NULL DEFAULT 0,
        tokens_out INTEGER NOT NULL DEFAULT 0,
        usd REAL,
        cost_usd REAL,
        provider_ms INTEGER,
        took_ms INTEGER
    );
    CREATE INDEX tries_by_record ON tries (scope, record_id) WHERE cleared = 0;
    CREATE INDEX tries_open ON tries (holder) WHERE ended_at IS NULL;
    CREATE INDEX tries_by_run ON tries (run);
    CREATE TABLE suspects (
        scope TEXT NOT NULL,
        record_id TEXT NOT NULL,
        since TEXT NOT NULL,
        PRIMARY KEY (scope, record_id)
    ) WITHOUT ROWID;
    CREATE TABLE money (
        period TEXT PRIMARY KEY,
        usd REAL NOT NULL
    ) WITHOUT ROWID;
",
    ),
    Migration::Sql(
        "
    ALTER TABLE claims ADD COLUMN fence TEXT;
    CREATE TABLE own_times (
        scope TEXT PRIMARY KEY,
        since TEXT NOT NULL
    ) WITHOUT ROWID;
",
    ),
];
