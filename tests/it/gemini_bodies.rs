//! Every recorded body of Gemini: what it means, also for the key, and what a person is told.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use lookout::review::reviewer::Answer;
use lookout::review::reviewer::gemini::answer::{Reading, Usage, read};
use lookout::review::reviewer::gemini::classifier::{
    Billing, Class, InvalidRequest, Kind, OnKey, Quota, Retry, classify,
};

pub(crate) fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gemini")
}

pub(crate) fn body(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.json"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// `err-503-high-demand` → 503.
pub(crate) fn status_of(name: &str) -> u16 {
    name.split('-').nth(1).and_then(|n| n.parse().ok()).unwrap_or(200)
}

fn class(name: &str) -> Class {
    classify(status_of(name), None, &body(name))
}

struct Row(&'static str, Kind, OnKey, &'static str);

const OVERLOADED: Kind = Kind::Overloaded(Billing::No);
const POSSIBLY: Kind = Kind::Overloaded(Billing::Possible);

/// Body, kind, effect on the key, and a part of what a person is told.
#[rustfmt::skip]
const ERRORS: [Row; 29] = [
    Row("err-400-api-key-invalid", Kind::KeyRejected, OnKey::Drop, "the API key is not valid"),
    Row("err-400-api-key-expired", Kind::KeyRejected, OnKey::Drop, "the API key has expired: make a new one"),
    Row("err-400-unknown-field", Kind::InvalidRequest(InvalidRequest::Other), OnKey::Keep, "Unknown name \"bogusField\""),
    Row("err-400-generic-image", Kind::Picture(Retry::Once), OnKey::Keep, "Gemini can't read this picture"),
    Row("err-400-token-limit", Kind::Picture(Retry::Never), OnKey::Keep, "too long for the model"),
    Row("err-400-location", Kind::Location, OnKey::DropProject, "may not be used from here"),
    Row("err-401-access-token-type-unsupported", Kind::KeyRejected, OnKey::Drop, "bound to a service account"),
    Row("err-402-prepay-depleted", Kind::OutOfCredit, OnKey::DropProject, "prepaid credit is used up"),
    Row("err-403-leaked-key", Kind::KeyRejected, OnKey::Drop, "found published: make a new one"),
    Row("err-403-no-key", Kind::KeyRejected, OnKey::Drop, "no API key arrived"),
    Row("err-403-project-denied", Kind::ProjectRejected, OnKey::DropProject, "ask Google's support"),
    Row("err-403-service-blocked", Kind::KeyRejected, OnKey::Drop, "allow it in the key's restrictions"),
    Row("err-403-service-disabled", Kind::ProjectRejected, OnKey::DropProject, "not switched on in the project"),
    Row("err-404-model-not-found", Kind::NoSuchModel, OnKey::Keep, "models/gemini-3.6-flahs is not found for API version v1beta"),
    Row("err-404-counttokens", Kind::NoSuchModel, OnKey::Keep, "nonexistent-model"),
    Row("err-404-model-retired-new-users", Kind::ModelRetired, OnKey::DropProject, "use models/gemini-3.5-flash-lite"),
    Row("err-429-free-all-three-quotas", Kind::Quota(Quota::Day), OnKey::Rest, "quota for today is used up"),
    Row("err-429-free-tokens-per-minute", Kind::Quota(Quota::Minute(Duration::from_secs(26))), OnKey::Rest, "26 s (limit: 250000 input tokens a minute)"),
    Row("err-429-paid-tokens-per-minute-gemini38", Kind::Quota(Quota::Minute(Duration::from_nanos(51_386_192_716))), OnKey::Rest, "52 s (limit: 3000000 input tokens a minute)"),
    Row("err-429-no-details", Kind::Quota(Quota::Vague), OnKey::Rest, "too many requests"),
    Row("err-429-help-only", Kind::Quota(Quota::Vague), OnKey::Rest, "too many requests"),
    Row("err-429-spend-cap", Kind::SpendCap, OnKey::DropProject, "monthly spend cap is reached"),
    Row("err-429-spend-rate", Kind::Quota(Quota::Account(Duration::from_secs(60))), OnKey::RestAll, "all its projects must wait"),
    Row("err-499-cancelled", POSSIBLY, OnKey::Keep, "Gemini answered 499"),
    Row("err-500-internal", OVERLOADED, OnKey::Keep, "Gemini answered 500"),
    Row("err-503-overloaded", OVERLOADED, OnKey::Keep, "Gemini answered 503"),
    Row("err-503-high-demand", OVERLOADED, OnKey::Keep, "currently experiencing high demand"),
    Row("err-503-deadline-expired", OVERLOADED, OnKey::Keep, "Deadline expired"),
    Row("err-504-deadline-exceeded", POSSIBLY, OnKey::Keep, "Gemini answered 504"),
];

#[test]
fn every_recorded_error_has_its_meaning_and_its_words() {
    for Row(name, kind, on_key, told) in ERRORS {
        let class = class(name);
        assert_eq!(class.kind, kind, "{name}");
        assert_eq!(class.kind.on_key(), on_key, "{name}: effect on the key");
        assert!(class.message.contains(told), "{name}: {}", class.message);
        assert!(
            class.message.len() < 500 && !class.message.contains('\n'),
            "{name}: {}",
            class.message
        );
    }
}

#[test]
fn depleted_credit_means_the_same_under_its_old_status() {
    let class = classify(429, None, &body("err-402-prepay-depleted"));
    assert_eq!(class.kind, Kind::OutOfCredit);
}

/// A body of status 429 with these violations and this message.
fn over_quota(violations: serde_json::Value, message: &str) -> Vec<u8> {
    let details = serde_json::json!([
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "26s"}]);
    let error = serde_json::json!({"code": 429, "message": message,
        "status": "RESOURCE_EXHAUSTED", "details": details});
    serde_json::json!({"error": error}).to_string().into_bytes()
}

#[test]
fn a_quota_of_0_never_comes_back_in_whatever_form_it_is_said() {
    let day = "GenerateRequestsPerDayPerProjectPerModel-FreeTier";
    let minute = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier";
    let said = "You exceeded your current quota.\n* Quota exceeded for metric: x, limit: 0, \
                model: gemini-3.8-flash\nPlease retry in 26.4s.";
    for (violations, message) in [
        (serde_json::json!([{"quotaId": day, "quotaValue": "0"}]), "quota"),
        (serde_json::json!([{"quotaId": minute, "quotaValue": "0"}]), "quota"),
        (serde_json::json!([{"quotaId": day}]), said),
        (serde_json::json!([{"quotaId": minute}]), said),
        (serde_json::json!([{"quotaId": minute, "quotaValue": "15"}, {"quotaId": day}]), said),
        (serde_json::json!([]), said),
    ] {
        let class = classify(429, Some("26"), &over_quota(violations.clone(), message));
        assert_eq!(class.kind, Kind::NoQuota, "{violations} {message}");
        assert_eq!(class.kind.on_key(), OnKey::DropProject);
    }
    let some =
        over_quota(serde_json::json!([{"quotaId": minute, "quotaValue": "10"}]), "limit: 10");
    assert_eq!(
        classify(429, None, &some).kind,
        Kind::Quota(Quota::Minute(Duration::from_secs(26)))
    );
}

#[test]
fn a_spend_cap_is_one_under_any_status_and_in_any_case() {
    for status in [402, 403, 429] {
        for words in ["Your project has exceeded its monthly spending cap.", "Spend cap reached"] {
            let body = serde_json::json!({"error": {"message": words}}).to_string();
            assert_eq!(classify(status, None, body.as_bytes()).kind, Kind::SpendCap, "{words}");
        }
    }
}

#[test]
fn what_a_model_or_the_service_says_is_clean_and_bounded() {
    let hostile = "a\u{0}b\u{1b}]0;x\u{7}\u{202e}c\u{200b}".repeat(100_000);
    let answer = serde_json::from_str::<Answer>(GOOD).unwrap();
    let text = serde_json::to_string(&Answer { details: hostile.clone(), ..answer }).unwrap();
    let Reading::Answer(answer) = read_reply(&reply(&text)) else { panic!("no answer") };
    let is_clean = |text: &str| !text.chars().any(lookout::text::is_hidden);
    assert!(answer.details.starts_with("abcabc") && is_clean(&answer.details));
    assert!(answer.details.chars().count() <= 2_000);
    let mut value = reply(GOOD);
    value["modelVersion"] = serde_json::json!(hostile);
    value["candidates"][0]["finishReason"] = serde_json::json!(hostile);
    let (reading, usage) = read(&serde_json::to_vec(&value).unwrap());
    let version = usage.model_version.unwrap();
    assert!(is_clean(&version) && version.chars().count() <= 80, "{version}");
    assert!(matches!(&reading, Reading::Stopped { reason } if is_clean(reason)), "{reading:?}");
    value["promptFeedback"] = serde_json::json!({"blockReason": hostile});
    let blocked = read_reply(&value);
    assert!(
        matches!(&blocked, Reading::Blocked { reason, .. } if is_clean(reason) && reason.len() < 400)
    );
    for text in [format!("{{\"{hostile}\":1}}"), hostile.clone()] {
        match read_reply(&reply(&text)) {
            Reading::Broken { reason, correction } => {
                assert!(is_clean(&reason) && reason.len() < 1_000, "{reason}");
                assert!(is_clean(&correction) && correction.len() < 1_000, "{correction}");
            }
            Reading::Prose { reason } => assert!(is_clean(&reason) && reason.len() < 1_000),
            other @ (Reading::Answer(_)
            | Reading::Empty { .. }
            | Reading::Truncated
            | Reading::Blocked { .. }
            | Reading::Stopped { .. }
            | Reading::AccountLimited
            | Reading::Foreign { .. }) => panic!("{other:?}"),
        }
    }
    let error = serde_json::json!({"error": {"message": hostile}}).to_string();
    for status in [400, 401, 403, 404, 429, 500] {
        let class = classify(status, None, error.as_bytes());
        assert!(
            is_clean(&class.message) && class.message.len() < 1_500,
            "{status}: {}",
            class.message
        );
    }
}

#[test]
fn a_wrong_key_is_known_by_its_words_alone() {
    for words in [
        "API key not valid. Please pass a valid API key.",
        "API Key not found. Please pass a valid API key.",
        "API key expired. Please renew the API key.",
    ] {
        let body = serde_json::json!({"error": {"code": 400, "message": words,
            "status": "INVALID_ARGUMENT"}});
        let class = classify(400, None, body.to_string().as_bytes());
        assert_eq!(class.kind, Kind::KeyRejected, "{words}");
        assert_eq!(class.message.contains("has expired"), words.contains("expired"), "{class:?}");
    }
}

#[test]
fn a_detail_that_is_new_to_us_costs_no_other_detail() {
    let body = serde_json::json!({"error": {"code": 400, "message": "no", "details": [
        {"@type": "x", "violations": "new"},
        7,
        {"@type": "x", "reason": "API_KEY_INVALID", "metadata": ["new"]}]}});
    let class = classify(400, None, body.to_string().as_bytes());
    assert_eq!(class.kind, Kind::KeyRejected, "{class:?}");
    let body = serde_json::json!({"error": {"code": 429, "message": "quota", "details": [
        {"@type": "x", "links": 7, "locale": {}},
        {"@type": "x", "violations": ["new", {"quotaId": "RequestsPerDay", "quotaDimensions": 1},
            {"quotaId": "GenerateRequestsPerDayPerProject", "quotaValue": "500"}]},
        {"@type": "x", "retryDelay": "55s"}]}});
    let class = classify(429, None, body.to_string().as_bytes());
    assert_eq!(class.kind, Kind::Quota(Quota::Day), "{class:?}");
    assert_eq!(class.limits.len(), 1, "{class:?}");
}

fn reading(name: &str) -> (Reading, Usage) {
    read(&body(name))
}

#[test]
fn every_recorded_reply_that_is_no_answer_is_told_apart() {
    let is_prose = |r: &Reading| matches!(r, Reading::Prose { .. });
    let is_broken = |r: &Reading| matches!(r, Reading::Broken { .. });
    for name in [
        "ok-image-gemini3-flash",
        "ok-two-images-gemini3-flash",
        "ok-image-gemini25-flash",
        "ok-image-gemini20-flash",
        "ok-gemini31-flash-lite",
        "ok-gemini38-flash",
        "ok-thought-parts-gemini3-pro",
        "refusal-as-text-stop",
    ] {
        assert!(is_prose(&reading(name).0), "{name}: {:?}", reading(name).0);
    }
    for name in [
        "ok-structured-json-gemini3-flash",
        "ok-structured-json-gemini25-flash-thinking",
        "ok-gemini36-flash-functioncall",
    ] {
        assert!(is_broken(&reading(name).0), "{name}: {:?}", reading(name).0);
    }
    // A bare number is JSON, but it is no object either.
    assert!(is_prose(&reading("ok-gemini35-flash").0));
    for name in [
        "max-tokens-no-parts-gemini25-pro",
        "max-tokens-content-empty-object-gemini38-flash",
        "max-tokens-truncated-text",
    ] {
        assert_eq!(reading(name).0, Reading::Truncated, "{name}");
    }
    for (name, expected, sexual) in [
        ("finish-safety-empty-content", "SAFETY", false),
        ("blocked-prompt-prohibited-content-images", "PROHIBITED_CONTENT", false),
        ("blocked-prompt-safety-ratings", "PROHIBITED_CONTENT", true),
        ("blocked-prompt-other", "OTHER", false),
    ] {
        let expected = Reading::Blocked { reason: expected.into(), sexually_explicit: sexual };
        assert_eq!(reading(name).0, expected, "{name}");
    }
    for name in ["counttokens-ok", "models-list-ok", "batch-get-succeeded-file"] {
        assert!(matches!(reading(name).0, Reading::Empty { .. }), "{name}");
    }
}

#[test]
fn no_recorded_body_is_forgotten() {
    let mut known: BTreeSet<String> = ERRORS.iter().map(|row| row.0.to_owned()).collect();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if stem.starts_with("err-") {
            assert!(known.remove(&stem), "{stem} has no row");
        }
    }
    assert!(known.is_empty(), "{known:?}");
}

#[test]
fn thoughts_are_billed_as_output_and_blocked_calls_as_input() {
    for (name, tokens_in, tokens_out) in [
        ("ok-gemini35-flash", 15, 73),
        ("ok-gemini31-flash-lite", 15, 7),
        ("ok-gemini38-flash", 6, 1),
        ("ok-structured-json-gemini25-flash-thinking", 12, 461),
        ("blocked-prompt-prohibited-content-images", 8028, 0),
        ("blocked-prompt-safety-ratings", 638, 0),
    ] {
        let usage = reading(name).1;
        assert_eq!((usage.tokens_in, usage.tokens_out), (Some(tokens_in), tokens_out), "{name}");
    }
    let usage = reading("refusal-as-text-stop").1;
    assert_eq!(usage.tokens_in, None, "not told is not 0");
}

pub(crate) const GOOD: &str = r#"{"text_present":false,"text_correct":false,"text_errors":false,
"watermark":false,"humans":true,"nudity":false,"blood":false,"brands":false,"copyright":false,
"places":false,"people":false,"details":"A person on a beach."} "#;

/// A reply of status 200 whose text is this.
pub(crate) fn reply(text: &str) -> serde_json::Value {
    serde_json::json!({
        "candidates": [{"content": {"role": "model", "parts": [
            {"text": "thinking…", "thought": true},
            {"text": text, "thoughtSignature": "REDACTED"}]},
            "finishReason": "STOP", "index": 0, "newField": {}}],
        "usageMetadata": {"promptTokenCount": 1620, "candidatesTokenCount": 80,
            "thoughtsTokenCount": 20, "serviceTier": "standard"},
        "modelVersion": "gemini-3.5-flash-lite", "modelStatus": "new"
    })
}

fn read_reply(value: &serde_json::Value) -> Reading {
    read(&serde_json::to_vec(value).unwrap()).0
}

#[test]
fn only_the_whole_answer_object_is_an_answer() {
    let whole = read_reply(&reply(GOOD));
    assert!(matches!(&whole, Reading::Answer(answer) if answer.humans), "{whole:?}");
    for (change, from, to) in [
        ("a missing key", "\"nudity\":false,", ""),
        ("a word instead of yes or no", "\"nudity\":false", "\"nudity\":\"yes\""),
        ("a number instead of yes or no", "\"nudity\":false", "\"nudity\":0"),
        ("nothing instead of yes or no", "\"nudity\":false", "\"nudity\":null"),
        ("a key twice", "\"nudity\":false", "\"nudity\":false,\"nudity\":true"),
        ("a key too many", "\"nudity\":false", "\"nudity\":false,\"gore\":true"),
        ("a list of them", "{", "[{"),
        ("words after it", "} ", "} Enjoy!"),
        ("a fence around it", "{", "```json\n{"),
        ("a cut", "\"A person on a beach.\"} ", "\"A person"),
    ] {
        assert!(GOOD.contains(from), "{change}");
        let reading = read_reply(&reply(&GOOD.replacen(from, to, 1)));
        assert!(matches!(reading, Reading::Broken { .. }), "{change}: {reading:?}");
    }
}

#[test]
fn an_answer_counts_only_if_the_model_says_that_it_finished() {
    for (finish, expected) in [
        (serde_json::json!("MAX_TOKENS"), "truncated"),
        (serde_json::json!("NEW_THING"), "stopped"),
        (serde_json::json!("RECITATION"), "stopped"),
        (serde_json::Value::Null, "stopped"),
        (serde_json::json!("PROHIBITED_CONTENT"), "blocked"),
        (serde_json::json!("PUP_LIMITED_DISABLED"), "limited"),
    ] {
        let mut value = reply(GOOD);
        value["candidates"][0]["finishReason"] = finish.clone();
        let found = match read_reply(&value) {
            Reading::Truncated => "truncated",
            Reading::Stopped { reason } => {
                assert!(finish.is_null() || reason.contains(finish.as_str().unwrap()), "{reason}");
                "stopped"
            }
            Reading::Blocked { .. } => "blocked",
            Reading::AccountLimited => "limited",
            Reading::Answer(_)
            | Reading::Broken { .. }
            | Reading::Prose { .. }
            | Reading::Empty { .. }
            | Reading::Foreign { .. } => "something else",
        };
        assert_eq!(found, expected, "{finish}");
    }
    let mut value = reply(GOOD);
    value["promptFeedback"] = serde_json::json!({"blockReason": "SAFETY"});
    assert!(matches!(read_reply(&value), Reading::Blocked { .. }), "a block wins over an answer");
    let empty = serde_json::json!({"candidates": []});
    assert!(matches!(read_reply(&empty), Reading::Empty { .. }));
}

#[test]
fn what_does_not_begin_as_an_object_is_not_from_gemini_and_what_breaks_off_may_be() {
    for (body, told) in [
        ("<html><head><title>Log in</title>", "begins with \"<html><head><title>Log in</title>\""),
        ("  \n<!DOCTYPE html>", "begins with \"<!DOCTYPE html>\""),
        ("Service under maintenance", "begins with \"Service under maintenance\""),
        ("", "it is empty"),
        ("null", "begins with \"null\""),
        ("[]", "begins with \"[]\""),
        ("\"ok\"", "begins with \"\"ok\"\""),
        (r#"{"error":{"code":407,"message":"Log in first"}}"#, "says error"),
    ] {
        let Reading::Foreign { reason } = read(body.as_bytes()).0 else { panic!("{body}") };
        assert!(reason.starts_with("the answer is not Gemini's"), "{reason}");
        assert!(reason.contains(told), "{reason}");
    }
    let long = read("<p>".repeat(1000).as_bytes()).0;
    assert!(matches!(&long, Reading::Foreign { reason } if reason.len() < 200), "{long:?}");
    let whole = serde_json::to_vec(&reply(GOOD)).unwrap();
    for cut in [1, 30, whole.len() - 1] {
        let reading = read(&whole[..cut]).0;
        assert!(matches!(reading, Reading::Stopped { .. }), "cut at {cut}: {reading:?}");
    }
}

/// The text that a reply holds, found without our own types.
fn text_of(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    if !value["promptFeedback"]["blockReason"].is_null() {
        return None;
    }
    let candidate = &value["candidates"][0];
    // Case does not matter to the service.
    if !candidate["finishReason"].as_str()?.eq_ignore_ascii_case("STOP") {
        return None;
    }
    let parts = candidate["content"]["parts"].as_array()?;
    Some(
        parts
            .iter()
            .filter(|part| part["thought"] != true)
            .filter_map(|part| part["text"].as_str())
            .collect(),
    )
}

#[test]
fn no_damage_to_a_reply_makes_an_answer_of_it() {
    let mut random = fastrand::Rng::with_seed(20_261_122);
    let mut originals: Vec<Vec<u8>> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    originals.sort();
    let good = serde_json::to_vec(&reply(GOOD)).unwrap();
    let mut answers = 0;
    for round in 0..4000 {
        let mut damaged =
            if round % 2 == 0 { good.clone() } else { originals[round % originals.len()].clone() };
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..damaged.len());
            match random.u8(..4) {
                0 => damaged.truncate(at.max(1)),
                1 => drop(damaged.remove(at)),
                2 => damaged.insert(at, random.choice(b"{}[]\",:tfn0 ").copied().unwrap()),
                _ => damaged[at] = random.u8(..),
            }
            if damaged.is_empty() {
                damaged.push(b'{');
            }
        }
        if let (Reading::Answer(answer), _) = read(&damaged) {
            answers += 1;
            let text = text_of(&damaged).expect("an answer from a reply without text");
            let mut sent: Answer = serde_json::from_str(&text).unwrap();
            // Cleaned where it enters, so a blank or a control character may be gone.
            sent.details = lookout::text::bounded(&sent.details, 2_000);
            assert_eq!(sent, answer);
        }
    }
    // Damage to a detail or to the counters leaves the answer whole.
    assert!((1..2000).contains(&answers), "{answers}");
}
