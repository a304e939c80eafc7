//! What can become of a call, in a script's words.

use serde::{Deserialize, Serialize};

/// What becomes of a call. Texts and envelopes are the service's own (recorded bodies).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the documentation; envelope.rs holds the bodies")]
pub enum Outcome {
    /// The ordinary answer.
    Answer,
    // The service has no room or is broken.
    HighDemand,
    Overloaded,
    DeadlineExpired,
    Internal,
    /// A proxy's 502 with an HTML page.
    HtmlBadGateway,
    DeadlineExceeded,
    // Quotas.
    QuotaPerMinute,
    QuotaPerDay,
    Exhausted,
    SpendRate,
    // The key, the project, the bill, the place.
    KeyInvalid,
    KeyExpired,
    KeyLeaked,
    ProjectDenied,
    PrepayDepleted,
    Location,
    ModelRetired,
    /// The picture can't be processed (400).
    PictureRefused,
    // A connection that is of no use.
    /// Connected, read, never answered.
    NeverAnswers,
    /// Half an answer, then the connection is cut.
    BreaksOff,
    // 200 with something that is no answer.
    /// JSON that ends in the middle.
    BrokenJson,
    /// Valid JSON that lacks a required key.
    MissingKey,
    /// A yes/no key that says `"yes"`.
    WrongType,
    NoCandidates,
    EmptyCandidates,
    MaxTokens,
    MaxTokensEmpty,
    Recitation,
    UnknownFinish,
    // Blocked or refused.
    SafetyBlock,
    SafetySexual,
    PromptBlocked,
    PromptBlockedOther,
    RefusalProse,
    /// Any body at all, for recorded ones.
    Raw(Raw),
}

/// A body given by the script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// HTTP status.
    pub status: u16,
    /// Sent as it is.
    pub body: String,
    /// `application/json; charset=UTF-8` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

impl Outcome {
    /// The script's word for it; statistics count by it.
    #[must_use]
    pub fn name(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            // Only `Raw` carries data.
            Ok(_) | Err(_) => "raw".to_owned(),
        }
    }

    /// Whether listing models and counting tokens go on as if nothing were the matter.
    pub(in crate::drill::fake_gemini) fn concerns_generating_only(&self) -> bool {
        matches!(
            self,
            Self::QuotaPerMinute
                | Self::QuotaPerDay
                | Self::Exhausted
                | Self::SpendRate
                | Self::PrepayDepleted
                | Self::PictureRefused
                | Self::Raw(_)
        )
    }
}
