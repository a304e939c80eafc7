//! Rows that a person means: finding, counting and sending them back, in SQL.
//!
//! Invariant: values are bound, never written into a statement; only the user's own names are.

use chrono::DateTime;
use rusqlite::{Transaction, params, params_from_iter};

use super::{Statements, places, stamp};
use crate::review::record::selection::{Details, Found, Selection, SendBack, Taken, UNREADABLE};
use crate::review::record::{Cursor, RecordId};

/// The user's names, quoted.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// What [`read`] reads.
    pub(super) found: String,
    pub(super) table: String,
    pub(super) id: String,
    pub(super) status: String,
    pub(super) category: String,
    pub(super) details: String,
    pub(super) created: String,
    pub(super) updated: String,
}

pub(super) fn rows(
    transaction: &Transaction<'_>,
    sql: &Statements,
    ids: &[RecordId],
) -> rusqlite::Result<Vec<Found>> {
    let Names { found: columns, table, id, .. } = &sql.selection;
    let query = format!("SELECT {columns} FROM {table} WHERE {id} = ?");
    let mut select = transaction.prepare_cached(&query)?;
    let mut rows = Vec::new();
    for id in ids {
        rows.extend(
            select
                .query_map([&id.0], |row| read(row, sql))?
                .collect::<rusqlite::Result<Vec<_>>>()?,
        );
    }
    Ok(rows)
}

pub(super) fn find(
    transaction: &Transaction<'_>,
    sql: &Statements,
    selection: &Selection,
    after: Option<&Cursor>,
    limit: u32,
) -> rusqlite::Result<Vec<Found>> {
    let Names { found: columns, table, id, created, .. } = &sql.selection;
    let (condition, mut values) = condition(sql, selection);
    // The empty string sorts before every date and every id.
    let (at, last) = match after {
        Some(cursor) => (cursor.created_at.map(stamp).unwrap_or_default(), cursor.id.0.clone()),
        None => (String::new(), String::new()),
    };
    values.extend([at, last, limit.to_string()]);
    let query = format!(
        "SELECT {columns} FROM {table} WHERE {condition}
             AND (coalesce({created}, ''), {id}) > (?, ?)
         ORDER BY coalesce({created}, ''), {id} LIMIT CAST(? AS INTEGER)"
    );
    transaction
        .prepare(&query)?
        .query_map(params_from_iter(values), |row| read(row, sql))?
        .collect()
}

pub(super) fn count(
    transaction: &Transaction<'_>,
    sql: &Statements,
    selection: &Selection,
) -> rusqlite::Result<u64> {
    let (condition, values) = condition(sql, selection);
    let query = format!("SELECT count(*) FROM {} WHERE {condition}", sql.selection.table);
    let count: i64 = transaction.query_row(&query, params_from_iter(values), |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) fn send_back(
    transaction: &Transaction<'_>,
    sql: &Statements,
    found: &[Found],
    to: &SendBack,
) -> rusqlite::Result<Vec<RecordId>> {
    let Names { table, id, status, category, updated, .. } = &sql.selection;
    let mut update = transaction.prepare_cached(&format!(
        "UPDATE {table} SET {status} = ?1, {category} = coalesce(?2, {category})
         WHERE {id} = ?3 AND {status} = ?4 AND {category} IS ?5
           AND coalesce({updated}, '') <= coalesce(?6, '')"
    ))?;
    let mut changed = Vec::new();
    for row in found {
        let n_rows = update.execute(params![
            sql.statuses.in_table(to.review_status()),
            to.auto_review_status(),
            row.record.id.0,
            sql.statuses.in_table(&row.record.status),
            row.auto_review_status,
            row.updated_at.map(stamp),
        ])?;
        if n_rows == 1 {
            changed.push(row.record.id.clone());
        }
    }
    Ok(changed)
}

/// What holds for the rows, with its values.
fn condition(sql: &Statements, selection: &Selection) -> (String, Vec<String>) {
    let Names { status, category, details, created, updated, .. } = &sql.selection;
    let Selection { statuses, categories, details: wanted, taken } = selection;
    let mut parts = vec![format!("{status} IN ({})", places(statuses.len()))];
    let mut values = sql.statuses.all_in_table(statuses);
    if !categories.is_empty() {
        // `T1` is in `T1, W1` and not in `T10`.
        let one = format!("instr(', ' || {category} || ',', ', ' || ? || ',') > 0");
        parts.push(format!("({})", vec![one; categories.len()].join(" OR ")));
        values.extend(categories.iter().cloned());
    }
    match wanted {
        Details::Any => {}
        Details::Unreadable => {
            let one = format!("instr({details}, ?) = 1");
            parts.push(format!("({})", vec![one; UNREADABLE.len()].join(" OR ")));
            values.extend(UNREADABLE.map(str::to_owned));
        }
    }
    match taken {
        Taken::Any => {}
        Taken::Between(from, to) => {
            for (at, sign) in [(from, ">="), (to, "<")] {
                if let Some(at) = at {
                    parts.push(format!("{updated} {sign} ?"));
                    values.push(stamp(*at));
                }
            }
        }
        Taken::LongBefore(at) => {
            parts.push(format!("coalesce({updated}, {created}, '') < ?"));
            values.push(stamp(*at));
        }
    }
    (parts.join(" AND "), values)
}

fn read(row: &rusqlite::Row<'_>, sql: &Statements) -> rusqlite::Result<Found> {
    let updated_at: Option<String> = row.get(6)?;
    Ok(Found {
        record: sql.read(row)?,
        updated_at: updated_at
            .and_then(|text| DateTime::parse_from_rfc3339(&text).ok())
            .map(|at| at.to_utc()),
        auto_review_status: row.get(7)?,
        auto_review_details: row.get(8)?,
    })
}
