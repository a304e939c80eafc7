//! The service's error bodies, with the texts that recordings show.
//!
//! Which one is sent when is `behaviour.rs`'s and `request.rs`'s business.
//! Invariant: code, status and HTTP status of a body agree.

use std::time::Duration;

use serde_json::{Value, json};

use super::behaviour::Outcome;

/// An answer that is not 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) content_type: String,
}

/// What the service sends with every JSON body.
pub(super) const JSON: &str = "application/json; charset=UTF-8";

const QUOTA_TEXT: &str = "You exceeded your current quota, please check your plan and billing \
    details. For more information on this error, head to: \
    https://ai.google.dev/gemini-api/docs/rate-limits.";

/// What a wrong key is told.
pub(super) const KEY_NOT_VALID: &str = "API key not valid. Please pass a valid API key.";

/// Google's proxy, when what is behind it fails.
const BAD_GATEWAY: &str = "<!DOCTYPE html>\n<html lang=en>\n<title>Error 502 (Server Error)!!1\
    </title>\n<p><b>502.</b> That's an error.\n<p>The server encountered a temporary error and could \
    not complete your request.\n";

/// Refusals that are always the same: the script's word, HTTP status, status name, text.
const PLAIN: [(&str, u16, &str, &str); 11] = [
    (
        "high_demand",
        503,
        "UNAVAILABLE",
        "This model is currently experiencing high demand. Spikes in demand are usually temporary. Please try again later.",
    ),
    ("overloaded", 503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    ("deadline_expired", 503, "UNAVAILABLE", "Deadline expired before operation could complete."),
    (
        "internal",
        500,
        "INTERNAL",
        "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting",
    ),
    ("deadline_exceeded", 504, "DEADLINE_EXCEEDED", "Deadline expired"),
    ("exhausted", 429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    (
        "spend_rate",
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your spend-based rate limit. Your spending rate has exceeded the allowed limit for your account's billing history and tier.",
    ),
    (
        "key_leaked",
        403,
        "PERMISSION_DENIED",
        "Your API key was reported as leaked. Please use another API key.",
    ),
    (
        "project_denied",
        403,
        "PERMISSION_DENIED",
        "Your project has been denied access. Please contact support.",
    ),
    (
        "prepay_depleted",
        402,
        "RESOURCE_EXHAUSTED",
        "Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects to manage your project and billing. Learn more at https://ai.google.dev/gemini-api/docs/billing#prepay.",
    ),
    ("location", 400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
];

/// A limit that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    RequestsPerMinute,
    TokensPerMinute,
    RequestsPerDay,
}

impl Limit {
    fn id(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "GenerateRequestsPerMinutePerProjectPerModel",
            Self::TokensPerMinute => "GenerateContentPaidTierInputTokensPerModelPerMinute",
            Self::RequestsPerDay => "GenerateRequestsPerDayPerProjectPerModel",
        }
    }

    fn metric(self) -> &'static str {
        match self {
            Self::RequestsPerMinute | Self::RequestsPerDay => "generate_content_paid_tier_requests",
            Self::TokensPerMinute => "generate_content_paid_tier_input_token_count",
        }
    }
}

impl Refusal {
    fn new(status: u16, name: &str, message: &str, details: &[Value]) -> Self {
        let mut error = json!({"code": status, "message": message, "status": name});
        if !details.is_empty() {
            error["details"] = json!(details);
        }
        Self {
            status,
            // Indented as the service prints it.
            body: format!("{:#}\n", json!({"error": error})),
            content_type: JSON.to_owned(),
        }
    }

    /// 400 `INVALID_ARGUMENT`, with `(field, description)` pairs if the body's form is wrong.
    pub(super) fn bad_request(message: impl AsRef<str>, violations: &[(&str, &str)]) -> Self {
        let violations: Vec<Value> = violations
            .iter()
            .map(|(field, text)| {
                if field.is_empty() {
                    json!({"description": text})
                } else {
                    json!({"field": field, "description": text})
                }
            })
            .collect();
        let details = [json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": violations,
        })];
        let details = if violations.is_empty() { &[][..] } else { &details[..] };
        Self::new(400, "INVALID_ARGUMENT", message.as_ref(), details)
    }

    /// No key at all.
    pub(super) fn no_key() -> Self {
        Self::new(
            403,
            "PERMISSION_DENIED",
            "Method doesn't allow unregistered callers (callers without established identity). \
             Please use API Key or other form of API consumer identity to call this API.",
            &[],
        )
    }

    /// A key in the header and one in the address.
    pub(super) fn two_keys() -> Self {
        Self::bad_request(
            "Multiple authentication credentials received. Please pass only one.",
            &[],
        )
    }

    /// The key is wrong or too old; the reason is the same.
    pub(super) fn key(message: &str) -> Self {
        let details = [
            json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
                "metadata": {"service": "generativelanguage.googleapis.com"},
            }),
            json!({
                "@type": "type.googleapis.com/google.rpc.LocalizedMessage",
                "locale": "en-US",
                "message": message,
            }),
        ];
        Self::new(400, "INVALID_ARGUMENT", message, &details)
    }

    /// No such model in this version, or not for this method.
    pub(super) fn no_model(model: &str, version: &str, method: &str) -> Self {
        let list =
            if method == "generateContent" { "ModelService.ListModels" } else { "ListModels" };
        Self::new(
            404,
            "NOT_FOUND",
            &format!(
                "models/{model} is not found for API version {version}, or is not supported for \
                 {method}. Call {list} to see the list of available models and their supported \
                 methods."
            ),
            &[],
        )
    }

    /// The service can't make a picture of the bytes.
    pub(super) fn picture() -> Self {
        Self::bad_request(
            "Unable to process input image. Please retry or report in \
             https://developers.generativeai.google/guide/troubleshooting",
            &[],
        )
    }

    /// 429 with what was exceeded and when to come back.
    pub(super) fn quota(limit: Limit, value: u32, model: &str, again_in: Duration) -> Self {
        let metric = format!("generativelanguage.googleapis.com/{}", limit.metric());
        let seconds = again_in.as_secs_f64();
        let message = format!(
            "{QUOTA_TEXT} To monitor your current usage, head to: https://ai.dev/rate-limit. \n* \
             Quota exceeded for metric: {metric}, limit: {value}, model: {model}\nPlease retry in \
             {seconds}s."
        );
        let details = [
            json!({
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{
                    "quotaMetric": metric,
                    "quotaId": limit.id(),
                    "quotaDimensions": {"location": "global", "model": model},
                    "quotaValue": value.to_string(),
                }],
            }),
            json!({
                "@type": "type.googleapis.com/google.rpc.Help",
                "links": [{
                    "description": "Learn more about Gemini API quotas",
                    "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
                }],
            }),
            json!({
                "@type": "type.googleapis.com/google.rpc.RetryInfo",
                // Whole seconds, as recorded, and so never shorter than what is meant.
                "retryDelay": format!("{}s", seconds.ceil()),
            }),
        ];
        Self::new(429, "RESOURCE_EXHAUSTED", &message, &details)
    }

    /// The body of a scripted fault; `None` for outcomes that are not refusals.
    pub(super) fn scripted(outcome: &Outcome, model: &str) -> Option<Self> {
        let word = outcome.name();
        if let Some((_, status, name, message)) = PLAIN.iter().find(|plain| plain.0 == word) {
            return Some(Self::new(*status, name, message, &[]));
        }
        match outcome {
            Outcome::ModelRetired => {
                let text = format!(
                    "This model models/{model} is no longer available to new users. Please update \
                     your code to use models/gemini-3.5-flash-lite"
                );
                Some(Self::new(404, "NOT_FOUND", &text, &[]))
            }
            Outcome::KeyInvalid => Some(Self::key(KEY_NOT_VALID)),
            Outcome::KeyExpired => Some(Self::key("API key expired. Please renew the API key.")),
            Outcome::QuotaPerMinute => {
                let again_in = Duration::from_millis(26_400);
                Some(Self::quota(Limit::RequestsPerMinute, 15, model, again_in))
            }
            // A recorded body names a day's quota and says 55 s all the same.
            Outcome::QuotaPerDay => {
                Some(Self::quota(Limit::RequestsPerDay, 500, model, Duration::from_secs(55)))
            }
            Outcome::PictureRefused => Some(Self::picture()),
            Outcome::HtmlBadGateway => Some(Self {
                status: 502,
                body: BAD_GATEWAY.to_owned(),
                content_type: "text/html; charset=UTF-8".to_owned(),
            }),
            Outcome::Raw(raw) => Some(Self {
                status: raw.status,
                body: raw.body.clone(),
                content_type: raw.content_type.clone().unwrap_or_else(|| JSON.to_owned()),
            }),
            Outcome::HighDemand
            | Outcome::Overloaded
            | Outcome::DeadlineExpired
            | Outcome::Internal
            | Outcome::DeadlineExceeded
            | Outcome::Exhausted
            | Outcome::SpendRate
            | Outcome::KeyLeaked
            | Outcome::ProjectDenied
            | Outcome::PrepayDepleted
            | Outcome::Location
            | Outcome::Answer
            | Outcome::NeverAnswers
            | Outcome::BreaksOff
            | Outcome::BrokenJson
            | Outcome::MissingKey
            | Outcome::WrongType
            | Outcome::NoCandidates
            | Outcome::EmptyCandidates
            | Outcome::MaxTokens
            | Outcome::MaxTokensEmpty
            | Outcome::Recitation
            | Outcome::UnknownFinish
            | Outcome::SafetyBlock
            | Outcome::SafetySexual
            | Outcome::PromptBlocked
            | Outcome::PromptBlockedOther
            | Outcome::RefusalProse => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripted_refusals_are_the_recorded_bodies() {
        for (outcome, recorded) in [
            (Outcome::HighDemand, "503-high-demand"),
            (Outcome::Overloaded, "503-overloaded"),
            (Outcome::DeadlineExpired, "503-deadline-expired"),
            (Outcome::Internal, "500-internal"),
            (Outcome::DeadlineExceeded, "504-deadline-exceeded"),
            (Outcome::Exhausted, "429-no-details"),
            (Outcome::SpendRate, "429-spend-rate"),
            (Outcome::KeyInvalid, "400-api-key-invalid"),
            (Outcome::KeyExpired, "400-api-key-expired"),
            (Outcome::KeyLeaked, "403-leaked-key"),
            (Outcome::ProjectDenied, "403-project-denied"),
            (Outcome::PrepayDepleted, "402-prepay-depleted"),
            (Outcome::Location, "400-location"),
            (Outcome::ModelRetired, "404-model-retired-new-users"),
            (Outcome::PictureRefused, "400-generic-image"),
        ] {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gemini");
            let text = std::fs::read_to_string(format!("{folder}/err-{recorded}.json")).unwrap();
            let refusal = Refusal::scripted(&outcome, "gemini-2.5-flash-lite").unwrap();
            let body: Value = serde_json::from_str(&refusal.body).unwrap();
            assert_eq!(body, serde_json::from_str::<Value>(&text).unwrap(), "{recorded}");
            assert_eq!(body["error"]["code"], refusal.status);
        }
    }

    #[test]
    fn a_quota_refusal_says_the_same_time_twice_and_the_hint_is_never_the_shorter() {
        let refusal =
            Refusal::quota(Limit::TokensPerMinute, 250_000, "m", Duration::from_millis(51_386));
        let body: Value = serde_json::from_str(&refusal.body).unwrap();
        assert_eq!(refusal.status, 429);
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.ends_with("Please retry in 51.386s."), "{message}");
        assert_eq!(body["error"]["details"][2]["retryDelay"], "52s");
        assert_eq!(body["error"]["details"][0]["violations"][0]["quotaValue"], "250000");
    }
}
