//! Between columns and types: times, words and JSON.
//!
//! Invariant: what can't be understood is an error with the column's content, never a default.

use chrono::{DateTime, Utc};
use rusqlite::types::Type;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Milliseconds since 1970.
pub(super) fn millis(at: DateTime<Utc>) -> i64 {
    at.timestamp_millis()
}

/// The same, where there is one.
pub(super) fn maybe_millis(at: Option<DateTime<Utc>>) -> Option<i64> {
    at.map(millis)
}

/// A time from its column.
pub(super) fn time(millis: i64) -> rusqlite::Result<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis).ok_or_else(|| broken(format!("the time {millis}")))
}

/// The same, where there is one.
pub(super) fn maybe_time(millis: Option<i64>) -> rusqlite::Result<Option<DateTime<Utc>>> {
    millis.map(time).transpose()
}

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// A value from JSON.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

/// A word that is one of ours, as serde writes it.
pub(super) fn from_word<T: DeserializeOwned>(word: &str) -> rusqlite::Result<T> {
    from_json(&json(&word)?)
}

/// A word of ours, as serde writes it.
pub(super) fn word<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    from_json(&json(value)?)
}

fn broken(what: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(
        0,
        Type::Integer,
        Box::new(std::io::Error::other(format!("{what} can't be understood"))),
    )
}
