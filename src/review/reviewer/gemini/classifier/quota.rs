//! Status 429: which limit was exceeded, and for how long.
//!
//! Invariant: of several delays the longest counts, and a day's quota lasts the day whatever delay
//! is stated.

use std::time::Duration;

use super::body::{details, in_its_words, message};
use super::{Counts, Kind, Limit, OUT_OF_CREDIT, Quota};
use crate::review::reviewer::gemini::wire::error::ApiError;

/// A rate limit without a stated delay: the quota is counted by the minute.
const A_MINUTE: Duration = Duration::from_secs(60);
/// A delay beyond this is no pause inside a run, it is the end of the quota.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

pub(super) fn too_many(error: &ApiError, retry_after: Option<&str>) -> (Kind, String) {
    let message = message(error);
    let lower = message.to_lowercase();
    let stated = stated_delay(error, retry_after);
    // The order is that of Google's own client, with what recordings have taught.
    if lower.contains("prepayment credits are depleted") {
        return (Kind::OutOfCredit, OUT_OF_CREDIT.into());
    }
    if lower.contains("spend-based rate limit") {
        let pause = stated.unwrap_or(A_MINUTE).max(A_MINUTE);
        let message = "the account spends faster than its billing tier allows (10 minutes' limit): \
                    all its projects must wait";
        return (Kind::Quota(Quota::Account(pause)), message.into());
    }
    if is_zero(error) {
        let message =
            format!("Google grants the project no quota for this model{}", in_its_words(error));
        return (Kind::NoQuota, message);
    }
    let ids: Vec<&str> = details(error)
        .flat_map(|detail| detail.violations.as_deref().unwrap_or(&[]))
        .filter_map(|violation| violation.quota_id.as_deref())
        .collect();
    let stated_limits = in_numbers(error);
    if ids.iter().any(|id| id.contains("PerDay") || id.contains("Daily")) {
        let message = format!("the project's quota for today is used up{stated_limits}");
        return (Kind::Quota(Quota::Day), message);
    }
    let per_minute = ids.iter().any(|id| id.contains("PerMinute"));
    match stated.or(per_minute.then_some(A_MINUTE)) {
        Some(delay) if delay > LONGEST_PAUSE => {
            let message = format!(
                "the project's quota is used up for {} minutes{stated_limits}",
                delay.as_secs().div_ceil(60)
            );
            (Kind::Quota(Quota::Long(delay)), message)
        }
        Some(delay) => {
            let message = format!(
                "the project's quota is used up for {} s{stated_limits}",
                delay.as_secs_f64().ceil()
            );
            (Kind::Quota(Quota::Minute(delay)), message)
        }
        None => {
            let message =
                format!("Gemini says that there are too many requests{}", in_its_words(error));
            (Kind::Quota(Quota::Vague), message)
        }
    }
}

/// A cap that the project's owner has set, or the one of its billing tier: only a person or the next
/// month lifts it. There are no details in any body that was seen, so the words decide.
pub(super) fn is_spend_cap(error: &ApiError) -> bool {
    let lower = message(error).to_lowercase();
    ["spending cap", "spend cap", "spending limit", "monthly spend limit"]
        .iter()
        .any(|words| lower.contains(words))
}

/// Whether a limit of 0 is among those that were exceeded: then no request ever passes, whatever
/// delay is stated. Google leaves `quotaValue` out where it is 0 and says it in the message, or in
/// the metadata of `ErrorInfo`.
fn is_zero(error: &ApiError) -> bool {
    let in_violations = details(error)
        .flat_map(|detail| detail.violations.as_deref().unwrap_or(&[]))
        .any(|violation| violation.quota_value.as_deref().is_some_and(is_0));
    let in_metadata = details(error)
        .filter_map(|detail| detail.metadata.as_ref()?.get("quota_limit_value")?.as_str())
        .any(is_0);
    in_violations || in_metadata || says_limit_0(message(error))
}

fn is_0(value: &str) -> bool {
    value.trim().parse::<f64>().is_ok_and(|value| value == 0.0)
}

/// `…, limit: 0, model: …`, but neither `limit: 0.5` nor `limit: 05`.
fn says_limit_0(message: &str) -> bool {
    message.to_lowercase().split("limit:").skip(1).any(|rest| {
        let number = rest.trim_start();
        let end = number.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(number.len());
        is_0(number[..end].trim_end_matches('.'))
    })
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

pub(super) fn limits(error: &ApiError) -> Vec<Limit> {
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

    fn message(text: &str) -> ApiError {
        ApiError { message: Some(text.to_owned()), ..ApiError::default() }
    }

    #[test]
    fn a_limit_of_0_is_told_from_one_that_only_begins_with_it() {
        for (text, is) in [
            (
                "* Quota exceeded for metric: x/free_tier_requests, limit: 0, model: gemini-pro",
                true,
            ),
            ("limit: 0", true),
            ("Limit: 0.", true),
            ("limit: 5, model: a\n* Quota exceeded, limit: 0\nPlease retry in 26s.", true),
            ("limit: 0.5, model: a", false),
            ("limit: 05", false),
            ("limit: 500", false),
            ("limit: none", false),
            ("no limit is 0", false),
        ] {
            assert_eq!(is_zero(&message(text)), is, "{text}");
        }
    }
}
