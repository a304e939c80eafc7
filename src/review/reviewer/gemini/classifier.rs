//! What an error of the service means, for the key, the run and the try, and in plain words.
//!
//! Pure: a status, a header and a body in, a [`Class`] out. Who waits, and how long with jitter,
//! is `client.rs`'s business; bodies of status 200 are `answer.rs`'s.
//! Invariant: the status decides first, then `ErrorInfo.reason`, then the quota's id, and the
//! message's words last; a body that makes no sense is classified by its status alone.

use std::time::Duration;

use serde_json::Value;

use crate::review::reviewer::gemini::wire::error::{ApiError, ErrorDetail, ErrorEnvelope};

/// A rate limit without a stated delay: the quota is counted by the minute.
const A_MINUTE: Duration = Duration::from_secs(60);
/// A delay beyond this is no pause inside a run, it is the end of the quota.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Characters of the service's own words that are passed on to people.
const MAX_WORDS: usize = 300;

/// What an error answer means.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// The kind, which decides everything else.
    pub kind: Kind,
    /// For people: what happened and, where they can do something, what.
    pub says: String,
    /// The limits that were exceeded, as the service states them.
    pub limits: Vec<Limit>,
}

/// Kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The key is invalid, expired, leaked or bound to nothing.
    KeyRejected,
    /// The project may not use the service.
    ProjectRejected,
    /// The project's prepaid credit is used up.
    OutOfCredit,
    /// Not from here; another project may be allowed to.
    Location,
    /// The model does not exist under this version.
    NoSuchModel,
    /// The model exists, but not for this project.
    ModelRetired,
    /// The service does not understand our request.
    Misunderstood(Misunderstood),
    /// The service can't read this picture.
    Picture(Again),
    /// The service fails or is overloaded.
    Overloaded(Billing),
    /// A quota is used up.
    Quota(Quota),
}

/// What the service did not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misunderstood {
    /// The way we ask for JSON; there is another.
    SchemaForm,
    /// The thinking level; it can be left out.
    Thinking,
    /// Something that has no substitute.
    Other,
}

/// Whether the same request may be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Once.
    Once,
    /// Pointless.
    Never,
}

/// Whether the failed request may have cost money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billing {
    /// Refused before the model worked.
    No,
    /// The model may have worked in vain.
    Possible,
}

/// Which quota, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// The day's: until midnight in Los Angeles, whatever delay is stated.
    Day,
    /// Money per ten minutes, of the whole billing account.
    Account(Duration),
    /// Requests or tokens a minute, of this project and model.
    Minute(Duration),
    /// So long that it is as good as used up.
    Long(Duration),
    /// Not said.
    Vague,
}

/// A limit as the service states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it counts.
    pub counts: Counts,
    /// How many.
    pub value: u64,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Requests a minute.
    RequestsPerMinute,
    /// Input tokens a minute.
    TokensPerMinute,
    /// Anything a day.
    PerDay,
}

/// What becomes of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnKey {
    /// Nothing.
    Keep,
    /// Not used again in this run.
    Drop,
    /// No key of its project is used again in this run.
    DropProject,
    /// Its project rests for a while.
    Rest,
    /// Every project rests: they may share the account.
    RestAll,
}

/// What becomes of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRun {
    /// It goes on.
    Continue,
    /// It stops when no key or project is left.
    StopWhenNoneLeft,
    /// It stops: every picture would meet the same.
    Stop,
    /// It waits if this happens again and again.
    MayWait,
}

/// Whether one of the picture's three tries is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTry {
    /// No: not the picture's fault.
    Kept,
    /// Yes.
    UsedUp,
}

impl Kind {
    /// What becomes of the key.
    #[must_use]
    pub fn on_key(self) -> OnKey {
        match self {
            Self::KeyRejected => OnKey::Drop,
            Self::ProjectRejected | Self::OutOfCredit | Self::Location | Self::ModelRetired => {
                OnKey::DropProject
            }
            Self::Quota(Quota::Account(_)) => OnKey::RestAll,
            Self::Quota(Quota::Day | Quota::Minute(_) | Quota::Long(_) | Quota::Vague) => {
                OnKey::Rest
            }
            Self::NoSuchModel | Self::Misunderstood(_) | Self::Picture(_) | Self::Overloaded(_) => {
                OnKey::Keep
            }
        }
    }

    /// What becomes of the run.
    #[must_use]
    pub fn on_run(self) -> OnRun {
        match self {
            Self::KeyRejected
            | Self::ProjectRejected
            | Self::OutOfCredit
            | Self::Location
            | Self::ModelRetired
            | Self::Quota(Quota::Day | Quota::Long(_)) => OnRun::StopWhenNoneLeft,
            Self::NoSuchModel | Self::Misunderstood(Misunderstood::Other) => OnRun::Stop,
            Self::Misunderstood(Misunderstood::SchemaForm | Misunderstood::Thinking)
            | Self::Picture(_) => OnRun::Continue,
            Self::Overloaded(_)
            | Self::Quota(Quota::Account(_) | Quota::Minute(_) | Quota::Vague) => OnRun::MayWait,
        }
    }

    /// What becomes of the try.
    #[must_use]
    pub fn on_try(self) -> OnTry {
        match self {
            Self::Picture(_) => OnTry::UsedUp,
            Self::KeyRejected
            | Self::ProjectRejected
            | Self::OutOfCredit
            | Self::Location
            | Self::NoSuchModel
            | Self::ModelRetired
            | Self::Misunderstood(_)
            | Self::Overloaded(_)
            | Self::Quota(_) => OnTry::Kept,
        }
    }
}

/// What an answer with an error status means. `retry_after` is the header's value, if there was one.
#[must_use]
pub fn classify(status: u16, retry_after: Option<&str>, body: &[u8]) -> Class {
    let error = parse(body);
    let (kind, says) = match status {
        400 => bad_request(&error),
        401 => (Kind::KeyRejected, unauthenticated(&error)),
        402 => (Kind::OutOfCredit, OUT_OF_CREDIT.to_owned()),
        403 => forbidden(&error),
        404 => not_found(&error),
        413 => (
            Kind::Picture(Again::Never),
            "Gemini says that the request is too large (413)".to_owned(),
        ),
        429 => too_many(&error, retry_after),
        408 | 499 | 500..=599 => overloaded(status, &error),
        _ => (
            Kind::Misunderstood(Misunderstood::Other),
            format!(
                "status {status} came where Gemini should be{}: is [reviewer] base_url right?",
                in_its_words(&error)
            ),
        ),
    };
    Class { kind, says, limits: limits(&error) }
}

const OUT_OF_CREDIT: &str = "the project's prepaid credit is used up: add credit at \
     https://ai.studio/projects";

fn bad_request(error: &ApiError) -> (Kind, String) {
    let message = message(error);
    let lower = message.to_lowercase();
    if reason(error) == Some("API_KEY_INVALID") {
        let says = if lower.contains("expired") {
            "the API key has expired: make a new one at https://aistudio.google.com/apikey"
        } else {
            "the API key is not valid (API_KEY_INVALID): is it copied whole, and not deleted?"
        };
        return (Kind::KeyRejected, says.into());
    }
    if error.status.as_deref() == Some("FAILED_PRECONDITION") || lower.contains("user location") {
        let says = format!(
            "Gemini may not be used from here with this project's plan{}",
            in_its_words(error)
        );
        return (Kind::Location, says);
    }
    if lower.contains("multiple authentication credentials") {
        let says = "Gemini received two keys in one request: does a proxy add one?".to_owned();
        return (Kind::Misunderstood(Misunderstood::Other), says);
    }
    if lower.contains("token count exceeds") {
        let says = format!("the request is too long for the model{}", in_its_words(error));
        return (Kind::Picture(Again::Never), says);
    }
    let names_a_field = details(error).any(|d| d.field_violations.is_some())
        || lower.contains("unknown name")
        || lower.contains("invalid json payload")
        || lower.contains("invalid value at");
    let form = [
        "response_json_schema",
        "response_mime_type",
        "response_format",
        "responsejsonschema",
        "responsemimetype",
        "responseformat",
    ];
    if form.iter().any(|name| lower.contains(name)) {
        let says = format!("Gemini does not take this form of schema{}", in_its_words(error));
        return (Kind::Misunderstood(Misunderstood::SchemaForm), says);
    }
    if lower.contains("thinking") {
        let says = format!("the model does not take this thinking level{}", in_its_words(error));
        return (Kind::Misunderstood(Misunderstood::Thinking), says);
    }
    if names_a_field {
        let says = format!(
            "Gemini does not understand Lookout's request{}: this is an error of Lookout, \
             please report it",
            in_its_words(error)
        );
        return (Kind::Misunderstood(Misunderstood::Other), says);
    }
    let again = if lower.contains("unable to process") { Again::Once } else { Again::Never };
    (Kind::Picture(again), format!("Gemini can't read this picture{}", in_its_words(error)))
}

fn unauthenticated(error: &ApiError) -> String {
    if reason(error) == Some("ACCESS_TOKEN_TYPE_UNSUPPORTED") {
        return "the API key is bound to a service account that does not accept it \
                (ACCESS_TOKEN_TYPE_UNSUPPORTED): make a new key"
            .into();
    }
    format!("Gemini does not accept the API key{}", in_its_words(error))
}

fn forbidden(error: &ApiError) -> (Kind, String) {
    let lower = message(error).to_lowercase();
    if lower.contains("leaked") {
        let says = "Google has blocked this API key because it was found published: make a new \
                    one, and keep it out of code and logs";
        return (Kind::KeyRejected, says.into());
    }
    if lower.contains("unregistered callers") {
        return (Kind::KeyRejected, "no API key arrived at Gemini: does a proxy remove it?".into());
    }
    if lower.contains("denied access") {
        let says = "Google has denied the project access to Gemini: ask Google's support";
        return (Kind::ProjectRejected, says.into());
    }
    let says = match reason(error) {
        Some("API_KEY_SERVICE_BLOCKED") => {
            let says = "the API key is restricted and may not call the Generative Language API: \
                        allow it in the key's restrictions";
            return (Kind::KeyRejected, says.into());
        }
        Some("SERVICE_DISABLED") => {
            "the Generative Language API is not switched on in the project: enable it in the \
             Google Cloud console, and wait a few minutes"
                .to_owned()
        }
        Some("CONSUMER_SUSPENDED") => {
            "Google has suspended the project: look into the Google Cloud console".to_owned()
        }
        Some(_) | None => format!("Gemini refuses the API key (403){}", in_its_words(error)),
    };
    let kind = match reason(error) {
        Some("SERVICE_DISABLED" | "CONSUMER_SUSPENDED") => Kind::ProjectRejected,
        Some(_) | None => Kind::KeyRejected,
    };
    (kind, says)
}

fn not_found(error: &ApiError) -> (Kind, String) {
    if message(error).to_lowercase().contains("no longer available to new users") {
        let says = format!("the model is not open to this project{}", in_its_words(error));
        return (Kind::ModelRetired, says);
    }
    let says = if error.message.is_some() {
        format!("Gemini has no such model{}", in_its_words(error))
    } else {
        "404 came where Gemini should be: is [reviewer] base_url right?".to_owned()
    };
    (Kind::NoSuchModel, says)
}

fn overloaded(status: u16, error: &ApiError) -> (Kind, String) {
    // The model may have worked until somebody lost patience.
    let billing = match status {
        502 | 504 | 499 => Billing::Possible,
        _ => Billing::No,
    };
    (Kind::Overloaded(billing), format!("Gemini answered {status}{}", in_its_words(error)))
}

fn too_many(error: &ApiError, retry_after: Option<&str>) -> (Kind, String) {
    let message = message(error);
    let lower = message.to_lowercase();
    let stated = stated_delay(error, retry_after);
    // The order is that of Google's own client, with what recordings have taught.
    if lower.contains("prepayment credits are depleted") {
        return (Kind::OutOfCredit, OUT_OF_CREDIT.into());
    }
    if lower.contains("spend-based rate limit") {
        let pause = stated.unwrap_or(A_MINUTE).max(A_MINUTE);
        let says = "the account spends faster than its billing tier allows (10 minutes' limit): \
                    all its projects must wait";
        return (Kind::Quota(Quota::Account(pause)), says.into());
    }
    let ids: Vec<&str> = details(error)
        .flat_map(|detail| detail.violations.as_deref().unwrap_or(&[]))
        .filter_map(|violation| violation.quota_id.as_deref())
        .collect();
    let stated_limits = in_numbers(error);
    if ids.iter().any(|id| id.contains("PerDay") || id.contains("Daily")) {
        let says = format!("the project's quota for today is used up{stated_limits}");
        return (Kind::Quota(Quota::Day), says);
    }
    let per_minute = ids.iter().any(|id| id.contains("PerMinute"));
    match stated.or(per_minute.then_some(A_MINUTE)) {
        Some(delay) if delay > LONGEST_PAUSE => {
            let says = format!(
                "the project's quota is used up for {} minutes{stated_limits}",
                delay.as_secs().div_ceil(60)
            );
            (Kind::Quota(Quota::Long(delay)), says)
        }
        Some(delay) => {
            let says = format!(
                "the project's quota is used up for {} s{stated_limits}",
                delay.as_secs_f64().ceil()
            );
            (Kind::Quota(Quota::Minute(delay)), says)
        }
        None => {
            let says =
                format!("Gemini says that there are too many requests{}", in_its_words(error));
            (Kind::Quota(Quota::Vague), says)
        }
    }
}

/// The largest of `RetryInfo`, "Please retry in …" and the header: they are known to disagree.
fn stated_delay(error: &ApiError, retry_after: Option<&str>) -> Option<Duration> {
    let info = details(error).filter_map(|d| d.retry_delay.as_deref()).filter_map(parse_delay);
    let in_words = message(error).split("retry in ").skip(1).filter_map(|rest| {
        parse_delay(rest.split_whitespace().next()?.trim_end_matches(['.', ',']))
    });
    // A date instead of seconds has never been seen here; without it the other two decide.
    let header = retry_after.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
    info.chain(in_words).chain(header).max()
}

/// `34.074824224s`, `60s`, `900ms`.
fn parse_delay(text: &str) -> Option<Duration> {
    let (number, scale) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()
}

fn limits(error: &ApiError) -> Vec<Limit> {
    details(error)
        .flat_map(|detail| detail.violations.as_deref().unwrap_or(&[]))
        .filter_map(|violation| {
            let id = violation.quota_id.as_deref()?;
            let value = violation.quota_value.as_deref()?.parse().ok()?;
            let counts = if id.contains("PerDay") || id.contains("Daily") {
                Counts::PerDay
            } else if id.contains("InputTokens") {
                Counts::TokensPerMinute
            } else if id.contains("Requests") && id.contains("PerMinute") {
                Counts::RequestsPerMinute
            } else {
                return None;
            };
            Some(Limit { counts, value })
        })
        .collect()
}

fn in_numbers(error: &ApiError) -> String {
    let stated: Vec<String> = limits(error)
        .iter()
        .map(|limit| {
            let what = match limit.counts {
                Counts::RequestsPerMinute => "requests a minute",
                Counts::TokensPerMinute => "input tokens a minute",
                Counts::PerDay => "a day",
            };
            format!("{} {what}", limit.value)
        })
        .collect();
    if stated.is_empty() { String::new() } else { format!(" (limit: {})", stated.join(", ")) }
}

/// The error in the body: the envelope, the envelope in a list, or nothing (HTML, empty).
fn parse(body: &[u8]) -> ApiError {
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
    // Details of a kind that is new to us must not cost us message and status.
    let text = |name: &str| envelope["error"][name].as_str().map(str::to_owned);
    ApiError { code: None, message: text("message"), status: text("status"), details: None }
}

fn details(error: &ApiError) -> impl Iterator<Item = &ErrorDetail> {
    error.details.iter().flatten()
}

fn reason(error: &ApiError) -> Option<&str> {
    details(error).find_map(|detail| detail.reason.as_deref())
}

fn message(error: &ApiError) -> &str {
    error.message.as_deref().unwrap_or_default()
}

/// ` ("…")`, on one line and not too long; nothing if the service said nothing.
fn in_its_words(error: &ApiError) -> String {
    let words: Vec<&str> = message(error).split_whitespace().collect();
    if words.is_empty() {
        return String::new();
    }
    let text = words.join(" ");
    let short: String = text.chars().take(MAX_WORDS).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!(" (\"{short}{more}\")")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_read_in_every_form_it_comes_in() {
        for (text, expected) in [
            ("34.074824224s", Some(Duration::from_secs_f64(34.074_824_224))),
            ("60s", Some(Duration::from_secs(60))),
            ("900ms", Some(Duration::from_millis(900))),
            ("soon", None),
            ("-3s", None),
        ] {
            assert_eq!(parse_delay(text), expected, "{text}");
        }
    }

    #[test]
    fn a_stated_delay_beyond_five_minutes_is_the_end_of_the_quota() {
        let body = r#"{"error":{"message":"Please retry in 301s."}}"#;
        let class = classify(429, None, body.as_bytes());
        assert_eq!(class.kind, Kind::Quota(Quota::Long(Duration::from_secs(301))));
        let class = classify(429, Some("7"), b"");
        assert_eq!(class.kind, Kind::Quota(Quota::Minute(Duration::from_secs(7))));
    }

    #[test]
    fn strange_bodies_are_classified_by_their_status() {
        let invalid = r#"[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT",
            "details":[{"@type":"x","reason":"API_KEY_INVALID"}]}}]"#;
        assert_eq!(classify(400, None, invalid.as_bytes()).kind, Kind::KeyRejected);
        let word = r#"{"error":{"code":"authentication","message":"no"}}"#;
        assert_eq!(classify(401, None, word.as_bytes()).kind, Kind::KeyRejected);
        for body in [&b"<html>Bad Gateway</html>"[..], b"", b"null", b"[]", b"{\"error\":7}"] {
            assert_eq!(classify(502, None, body).kind, Kind::Overloaded(Billing::Possible));
        }
        assert_eq!(
            classify(302, None, b"").kind,
            Kind::Misunderstood(Misunderstood::Other),
            "a redirect is no answer"
        );
    }

    #[test]
    fn a_new_kind_of_detail_does_not_hide_the_message() {
        let body = r#"{"error":{"message":"high demand","details":[{"violations":"new"}]}}"#;
        let class = classify(503, None, body.as_bytes());
        assert_eq!(class.says, "Gemini answered 503 (\"high demand\")");
    }
}
