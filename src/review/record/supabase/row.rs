//! A row as `PostgREST` prints it, read into a record.
//!
//! Invariant: a row without id or status is a wrong configuration, never a record with holes.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value};

use crate::review::record::{Record, RecordError, RecordId};
use crate::review::settings::Columns;

/// A row; the standard columns under their configured names, the rest as text.
pub(super) fn record(row: &Map<String, Value>, columns: &Columns) -> Result<Record, RecordError> {
    let need = |name: &str| {
        text(row.get(name)).ok_or_else(|| {
            RecordError::Misconfigured(format!(
                "a row has nothing in its column \"{name}\"; name the table's own columns under \
                 [records.columns]"
            ))
        })
    };
    let rest: BTreeMap<String, String> =
        row.iter().filter_map(|(name, value)| Some((name.clone(), text(Some(value))?))).collect();
    Ok(Record {
        id: RecordId(need(&columns.id)?),
        job_id: text(row.get(&columns.job_id)),
        image_index: text(row.get(&columns.image_index)),
        actual_image_url: text(row.get(&columns.actual_image_url)).filter(|url| !url.is_empty()),
        status: need(&columns.review_status)?,
        created_at: text(row.get(&columns.created_at)).and_then(|at| time(&at)),
        columns: rest,
    })
}

/// When a claim was written, by the row itself: a trigger may have set another time than ours.
pub(super) fn updated_at(row: &Map<String, Value>, columns: &Columns) -> Option<DateTime<Utc>> {
    text(row.get(&columns.updated_at)).and_then(|at| time(&at))
}

/// A value as it would stand in an address; `None` for NULL.
pub(super) fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Some(value.to_string())
        }
    }
}

/// With an offset (`timestamptz`), or without (`timestamp`, which the old code filled with UTC).
fn time(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.to_utc());
    }
    NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|at| at.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_row_is_read_whatever_its_columns_types() {
        let row = row(&json!({
            "id": 17, "job_id": "j", "image_index": 3, "review_status": "added",
            "created_at": "2026-11-22T10:00:00.123456", "actual_image_url": null, "folder": "x/y",
            "tags": [1]
        }));
        let record = record(&row, &Columns::default()).unwrap();
        assert_eq!((record.id.0.as_str(), record.image_index.as_deref()), ("17", Some("3")));
        assert_eq!(record.actual_image_url, None);
        assert_eq!(record.columns["folder"], "x/y");
        assert_eq!(record.created_at.unwrap().timestamp_subsec_micros(), 123_456);
    }

    #[test]
    fn what_stands_in_a_column_is_not_read_as_a_number() {
        for (stored, expected) in [
            (json!("003"), Some("003")),
            (json!("+3"), Some("+3")),
            (json!(" 3"), Some(" 3")),
            (json!("3a"), Some("3a")),
            (json!(3), Some("3")),
            (json!(9_223_372_036_854_775_808_u64), Some("9223372036854775808")),
            (json!(null), None),
        ] {
            let row = row(&json!({"id": "x", "review_status": "added", "image_index": stored}));
            let record = record(&row, &Columns::default()).unwrap();
            assert_eq!(record.image_index.as_deref(), expected);
        }
    }

    #[test]
    fn a_row_without_the_standard_columns_is_a_wrong_configuration() {
        let error = record(&row(&json!({"uuid": "x"})), &Columns::default()).unwrap_err();
        assert!(matches!(&error, RecordError::Misconfigured(text) if text.contains("\"id\"")));
    }
}
