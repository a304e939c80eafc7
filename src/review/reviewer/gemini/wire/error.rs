//! What comes with an error status. What it means is `classifier.rs`'s business.
//!
//! Invariant: every field may be absent; details of all kinds share one flat type.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A body of an error status; proxies send others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorEnvelope {
    /// The error.
    pub error: ApiError,
}

/// What the service says went wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ApiError {
    /// HTTP status; the newer interface sends a word instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `RESOURCE_EXHAUSTED` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Often absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Vec<ErrorDetail>>,
}

/// A number, or a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ErrorCode {
    /// The HTTP status.
    Number(i64),
    /// `invalid_request`, `authentication`, …
    Word(String),
}

/// One detail of an error: the fields of all kinds (`ErrorInfo`, `BadRequest`, `QuotaFailure`,
/// `RetryInfo`, `Help`, `LocalizedMessage`) side by side, told apart by which are there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorDetail {
    /// `type.googleapis.com/google.rpc.…`.
    #[serde(default, rename = "@type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `ErrorInfo`: `API_KEY_INVALID` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `ErrorInfo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// `ErrorInfo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, Value>>,
    /// `BadRequest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_violations: Option<Vec<FieldViolation>>,
    /// `QuotaFailure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violations: Option<Vec<QuotaViolation>>,
    /// `RetryInfo`: `34.074824224s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_delay: Option<String>,
    /// `Help`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<Vec<Link>>,
    /// `LocalizedMessage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// `LocalizedMessage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A field that the service does not know or like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FieldViolation {
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A quota that was exceeded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaViolation {
    /// What is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_metric: Option<String>,
    /// `GenerateRequestsPerMinutePerProjectPerModel-FreeTier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_id: Option<String>,
    /// Model and location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_dimensions: Option<BTreeMap<String, String>>,
    /// The limit, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_value: Option<String>,
}

/// Where to read on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}
