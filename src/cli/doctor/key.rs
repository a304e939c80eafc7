//! Supabase's key, by its own words: which kind it is, for whom, until when.
//!
//! A legacy key is a token that says so itself; whether it is accepted, only the server knows.
//! Invariant: nothing of the key is printed but what it says about itself.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::report::{Finding, State};
use crate::secret::Secret;

/// What to do about a key that is no secret key of today.
const INSTEAD: &str =
    "make a secret key (project's dashboard, Settings, API keys) and set SUPABASE_KEY to it";

/// What a legacy key says about itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Claims {
    role: String,
    #[serde(rename = "ref")]
    project: Option<String>,
    exp: Option<i64>,
}

/// What is to be said about the key; nothing about a secret key as it should be.
pub(super) fn examine(url: &str, key: &Secret, now: DateTime<Utc>) -> Option<Finding> {
    let text = key.expose();
    if text.starts_with("sb_publishable_") {
        let what = "SUPABASE_KEY is a publishable key: it may change rows only where a policy of \
                    the table lets everybody do so";
        return Some(Finding::new("records", State::Warning, what, INSTEAD));
    }
    let claims = claims(text)?;
    let expired = claims.exp.and_then(|at| DateTime::from_timestamp(at, 0)).filter(|at| *at <= now);
    if let Some(at) = expired {
        let what = format!("SUPABASE_KEY has expired on {}", at.format("%Y-%m-%d"));
        return Some(Finding::new("records", State::Failed, what, INSTEAD));
    }
    let host = url::Url::parse(url).ok()?.host_str().map(str::to_owned)?;
    let elsewhere = claims.project.as_deref().filter(|project| {
        host.strip_suffix(".supabase.co").is_some_and(|of_url| of_url != *project)
    });
    if let Some(project) = elsewhere {
        let what = format!("SUPABASE_KEY belongs to the project {project}, SUPABASE_URL is {host}");
        return Some(Finding::new("records", State::Failed, what, "set both to the same project"));
    }
    let what = format!(
        "SUPABASE_KEY is a legacy key (role {}): Supabase retires these at the end of 2026",
        claims.role
    );
    Some(Finding::new("records", State::Warning, what, INSTEAD))
}

/// The middle part of a token; `None`: it is none.
fn claims(key: &str) -> Option<Claims> {
    let payload = key.starts_with("eyJ").then(|| key.split('.').nth(1)).flatten()?;
    let json = BASE64_URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legacy(claims: &str) -> Secret {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        Secret::new(format!("{}.{}.fake", part("{\"alg\":\"HS256\"}"), part(claims)).as_str())
    }

    #[test]
    fn a_key_is_named_for_what_it_is() {
        let now = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        let of = |key: &Secret| examine("https://mine.supabase.co", key, now);
        let secret = Secret::new(format!("sb_{}_{}", "secret", "fake").as_str());
        assert_eq!(of(&secret), None, "nothing to say about a key as it should be");
        for (key, state, words) in [
            (legacy(r#"{"role":"service_role","ref":"mine"}"#), State::Warning, "end of 2026"),
            (legacy(r#"{"role":"anon","ref":"other"}"#), State::Failed, "the project other"),
            (legacy(r#"{"role":"anon","exp":1700000000}"#), State::Failed, "expired on 2023"),
            (
                Secret::new(format!("sb_{}_x", "publishable").as_str()),
                State::Warning,
                "publishable",
            ),
        ] {
            let finding = of(&key).unwrap();
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.what.contains(words), "{finding:?}");
            assert!(!finding.what.contains(key.expose()), "{finding:?}");
        }
    }
}
