//! The tables of `review.db` and how they come to be.
//!
//! Invariant: entries of [`MIGRATIONS`] are never changed, only appended.

use rusqlite::{Connection, ErrorCode};

use crate::storage::StorageError;

/// One entry a version.
///
/// `scope` names the records a row belongs to (adapter, address, table): the same id in another
/// table is another row. `money` holds running sums, because a sum over a day's tries before each
/// call would cost more than the call. `claims.fence` is the time that a row has really got, if a
/// trigger of its table writes one of its own; `own_times` are the records of such tables.
const MIGRATIONS: &[&str] = &[
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
    "
    ALTER TABLE claims ADD COLUMN fence TEXT;
    CREATE TABLE own_times (
        scope TEXT PRIMARY KEY,
        since TEXT NOT NULL
    ) WITHOUT ROWID;
",
];

/// Applies what is missing. Two processes may do so at once: each version is one transaction that
/// looks again after it has the write lock.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StorageError> {
    loop {
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(translate)?;
        let version: u32 = transaction
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(translate)?;
        let n_known = MIGRATIONS.len();
        if version as usize > n_known {
            return Err(StorageError::Unreadable(format!(
                "review.db was written by a newer Lookout (schema {version}, this one knows \
                 {n_known}); start that version, or move the file away"
            )));
        }
        let Some(sql) = MIGRATIONS.get(version as usize) else { return Ok(()) };
        transaction.execute_batch(sql).map_err(translate)?;
        transaction.pragma_update(None, "user_version", version + 1).map_err(translate)?;
        transaction.commit().map_err(translate)?;
    }
}

/// SQLite's error as far as anybody decides by it.
pub(super) fn translate(error: rusqlite::Error) -> StorageError {
    let text = format!("review.db: {error}");
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied,
        ) => StorageError::Unwritable(text),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StorageError::Busy(text),
        _ => StorageError::Unreadable(text),
    }
}
