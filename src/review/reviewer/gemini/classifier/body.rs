//! The body of an error: envelope, list, page or nothing.
//!
//! Invariant: a part that is new to us costs no other part.

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::review::reviewer::gemini::wire::error::{ApiError, ErrorDetail, ErrorEnvelope};
use crate::text;

/// Characters of the service's own words that are passed on to people.
const MAX_WORDS: usize = 300;

/// The error in the body: the envelope, the envelope in a list, or nothing (HTML, empty).
pub(super) fn parse(body: &[u8]) -> ApiError {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return ApiError::default();
    };
    let envelope = match value {
        Value::Array(list) => list.into_iter().next().unwrap_or(Value::Null),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_)) => other,
    };
    if let Ok(parsed) = serde_json::from_value::<ErrorEnvelope>(envelope.clone()) {
        return parsed.error;
    }
    let error = &envelope["error"];
    let details = error["details"].as_array();
    ApiError {
        code: None,
        message: string(error, "message"),
        status: string(error, "status"),
        details: details.map(|details| details.iter().map(detail).collect()),
    }
}

/// A detail, or what can be read of it.
fn detail(value: &Value) -> ErrorDetail {
    ErrorDetail::deserialize(value).unwrap_or_else(|_| ErrorDetail {
        kind: string(value, "@type"),
        reason: string(value, "reason"),
        field_violations: readable(&value["fieldViolations"]),
        violations: readable(&value["violations"]),
        retry_delay: string(value, "retryDelay"),
        // Nobody asks for the others.
        ..ErrorDetail::default()
    })
}

fn string(value: &Value, name: &str) -> Option<String> {
    value[name].as_str().map(str::to_owned)
}

/// Those of a list that have the form we know.
fn readable<T: DeserializeOwned>(list: &Value) -> Option<Vec<T>> {
    let list = list.as_array()?;
    Some(list.iter().filter_map(|item| T::deserialize(item).ok()).collect())
}

pub(super) fn details(error: &ApiError) -> impl Iterator<Item = &ErrorDetail> {
    error.details.iter().flatten()
}

pub(super) fn reason(error: &ApiError) -> Option<&str> {
    details(error).find_map(|detail| detail.reason.as_deref())
}

pub(super) fn message(error: &ApiError) -> &str {
    error.message.as_deref().unwrap_or_default()
}

/// ` ("…")`, on one line and not too long; nothing if the service said nothing.
pub(super) fn in_its_words(error: &ApiError) -> String {
    let words = text::line(message(error), MAX_WORDS);
    if words.is_empty() { String::new() } else { format!(" (\"{words}\")") }
}
