//! What an error of the service means, for the key, the run and the try, and in plain words.
//!
//! Pure: a status, a header and a body in, a [`Class`] out. `body.rs` reads bodies, `refusals.rs`
//! and `quota.rs` tell errors apart, `effects.rs` has what follows. Who waits, and how long with
//! jitter, is `key_pool.rs`'s business; bodies of status 200 are `answer.rs`'s.
//! Invariant: the status decides first, then `ErrorInfo.reason`, then the quota's id, and the
//! message's words last; a body that makes no sense is classified by its status alone.

mod body;
mod effects;
mod quota;
mod refusals;

use std::time::Duration;

use self::body::{in_its_words, parse};
pub use self::quota::LONGEST_PAUSE;
use self::quota::{is_spend_cap, limits, too_many};
use self::refusals::{bad_request, forbidden, not_found, overloaded, unauthenticated};

/// What an error answer means.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// The kind, which decides everything else.
    pub kind: Kind,
    /// For people: what happened and, where they can do something, what.
    pub message: String,
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
    /// The project's own cap on what it may spend in a month is reached.
    SpendCap,
    /// The project has a quota of 0 for this model: it does not come back.
    NoQuota,
    /// Not from here; another project may be allowed to.
    Location,
    /// The model does not exist under this version.
    NoSuchModel,
    /// The model exists, but not for this project.
    ModelRetired,
    /// The service does not understand our request.
    InvalidRequest(InvalidRequest),
    /// The service can't read this picture.
    Picture(Retry),
    /// The service fails or is overloaded.
    Overloaded(Billing),
    /// A quota is used up.
    Quota(Quota),
}

/// What the service did not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidRequest {
    /// The way we ask for JSON; there is another.
    SchemaForm,
    /// The thinking level; it can be left out.
    Thinking,
    /// Something that has no substitute.
    Other,
}

/// Whether the same request may be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
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

/// What an answer with an error status means. `retry_after` is the header's value, if there was one.
#[must_use]
pub fn classify(status: u16, retry_after: Option<&str>, body: &[u8]) -> Class {
    let error = parse(body);
    if matches!(status, 402 | 403 | 429) && is_spend_cap(&error) {
        let message = "the project's monthly spend cap is reached".to_owned();
        return Class { kind: Kind::SpendCap, message, limits: limits(&error) };
    }
    let (kind, message) = match status {
        400 => bad_request(&error),
        401 => (Kind::KeyRejected, unauthenticated(&error)),
        402 => (Kind::OutOfCredit, OUT_OF_CREDIT.to_owned()),
        403 => forbidden(&error),
        404 | 410 => not_found(&error),
        413 => (
            Kind::Picture(Retry::Never),
            "Gemini says that the request is too large (413)".to_owned(),
        ),
        429 => too_many(&error, retry_after),
        408 | 499 | 500..=599 => overloaded(status, &error),
        _ => (
            Kind::InvalidRequest(InvalidRequest::Other),
            format!(
                "status {status} came where Gemini should be{}: is [reviewer] base_url right?",
                in_its_words(&error)
            ),
        ),
    };
    Class { kind, message, limits: limits(&error) }
}

const OUT_OF_CREDIT: &str = "the project's prepaid credit is used up: add credit at \
     https://ai.studio/projects";

#[cfg(test)]
mod tests {
    use super::*;

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
            Kind::InvalidRequest(InvalidRequest::Other),
            "a redirect is no answer"
        );
    }

    #[test]
    fn a_new_kind_of_detail_does_not_hide_the_message() {
        let body = r#"{"error":{"message":"high demand","details":[{"violations":"new"}]}}"#;
        let class = classify(503, None, body.as_bytes());
        assert_eq!(class.message, "Gemini answered 503 (\"high demand\")");
    }
}
