//! The stand-in on the wire: the order of its checks, its scripted faults, its counts.

use std::time::Duration;

use base64::Engine as _;
use lookout::drill::fake_gemini::{
    Behaviour, Colour, FakeGemini, FakeGeminiSettings, MODEL_VERSION, Outcome, Quota, Raw, Refuse,
    Rule,
};
use lookout::http;
use serde_json::{Value, json};

const MODEL: &str = "gemini-3.5-flash-lite";

async fn started(behaviour: Behaviour) -> FakeGemini {
    FakeGemini::start(FakeGeminiSettings { port: 0, behaviour }).await.unwrap()
}

fn photo(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/photos/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn ask(bytes: &[u8], mime_type: &str) -> Value {
    let keys = [
        "text_present",
        "text_correct",
        "text_errors",
        "watermark",
        "humans",
        "nudity",
        "blood",
        "brands",
        "copyright",
        "places",
        "people",
    ];
    let mut properties: serde_json::Map<String, Value> =
        keys.iter().map(|key| ((*key).to_owned(), json!({"type": "boolean"}))).collect();
    properties.insert("details".to_owned(), json!({"type": "string"}));
    let data = base64::engine::general_purpose::STANDARD.encode(bytes);
    json!({
        "contents": [{"role": "user", "parts": [
            {"inlineData": {"mimeType": mime_type, "data": data}}, {"text": "Classify."}]}],
        "generationConfig": {
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object", "properties": properties},
        },
    })
}

struct Answered {
    status: u16,
    content_type: String,
    body: Value,
    text: String,
}

impl Answered {
    fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or("")
    }

    fn answer_text(&self) -> &str {
        self.body["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap()
    }
}

fn client() -> reqwest::Client {
    http::client(Duration::from_secs(5)).unwrap()
}

async fn post(stand_in: &FakeGemini, key: &str, body: &Value) -> Answered {
    let url = format!("{}/v1beta/models/{MODEL}:generateContent", stand_in.base_url);
    let mut request = client().post(url).json(body);
    if !key.is_empty() {
        request = request.header("x-goog-api-key", key);
    }
    answered(request.send().await.unwrap()).await
}

async fn answered(response: reqwest::Response) -> Answered {
    let status = response.status().as_u16();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or_default();
    Answered { status, content_type, body, text }
}

#[tokio::test]
async fn a_valid_request_gets_an_answer_that_says_no_model_looked() {
    let stand_in = started(Behaviour::default()).await;
    let body = ask(&photo("astronaut.jpg"), "image/jpeg");
    let first = post(&stand_in, "fake-key", &body).await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(first.content_type, "application/json; charset=UTF-8");
    assert_eq!(first.body["modelVersion"], MODEL_VERSION);
    assert_eq!(first.body["candidates"][0]["finishReason"], "STOP");
    let answer: lookout::review::reviewer::Answer =
        serde_json::from_str(first.answer_text()).unwrap();
    assert!(answer.details.contains("no model has looked at this picture"));
    let tokens = &first.body["usageMetadata"]["promptTokensDetails"][1];
    assert_eq!(tokens["modality"], "IMAGE");
    assert!((900..=1120).contains(&tokens["tokenCount"].as_u64().unwrap()), "{tokens}");
    let again = post(&stand_in, "fake-key", &body).await;
    assert_eq!(first.answer_text(), again.answer_text(), "the same picture, the same answer");
    assert_eq!(stand_in.stats().most_calls_of_one_picture, 2);
}

#[tokio::test]
async fn checks_come_in_the_services_order() {
    let stand_in =
        started(Behaviour { keys: vec!["good-key".into()], ..Behaviour::default() }).await;
    let mut body = ask(&photo("coins.jpg"), "image/jpg");
    body["bogusField"] = json!(1);
    let reply = post(&stand_in, "bad-key", &body).await;
    assert_eq!(
        reply.message(),
        "Invalid JSON payload received. Unknown name \"bogusField\": Cannot find field."
    );
    body.as_object_mut().unwrap().remove("bogusField");
    assert_eq!(post(&stand_in, "", &body).await.status, 403);
    let reply = post(&stand_in, "bad-key", &body).await;
    assert_eq!(reply.body["error"]["details"][0]["reason"], "API_KEY_INVALID");
    let reply = post(&stand_in, "good-key", &body).await;
    assert_eq!(reply.message(), "Unsupported MIME type: image/jpg");
    let both = client()
        .post(format!("{}/v1/models/{MODEL}:generateContent?key=good-key", stand_in.base_url))
        .header("x-goog-api-key", "good-key");
    let reply = answered(both.json(&body).send().await.unwrap()).await;
    assert!(reply.message().starts_with("Multiple authentication credentials"));
    let by_outcome = stand_in.stats().by_outcome;
    assert_eq!(by_outcome["bad_request"], 2);
    assert_eq!((by_outcome["no_key"], by_outcome["key_invalid"]), (1, 1));
}

#[tokio::test]
async fn a_picture_that_is_cut_off_or_none_at_all_is_refused() {
    let stand_in = started(Behaviour::default()).await;
    let whole = photo("temple.jpg");
    for bytes in
        [&whole[..whole.len() / 2], b"<html>no picture</html>", &photo("formats/picture.gif")]
    {
        let reply = post(&stand_in, "k", &ask(bytes, "image/jpeg")).await;
        assert_eq!(reply.status, 400);
        assert!(reply.message().starts_with("Unable to process input image."));
    }
    for name in ["formats/alpha.png", "formats/lossy.webp", "formats/progressive.jpg"] {
        let reply = post(&stand_in, "k", &ask(&photo(name), "image/png")).await;
        assert_eq!(reply.status, 200, "{name}: {}", reply.text);
    }
}

#[tokio::test]
async fn models_are_listed_and_looked_up_by_version() {
    let stand_in = started(Behaviour::default()).await;
    let get = async |path: &str| {
        let url = format!("{}{path}", stand_in.base_url);
        answered(client().get(url).header("x-goog-api-key", "k").send().await.unwrap()).await
    };
    let all = get("/v1beta/models?pageSize=3").await;
    assert_eq!(all.body["models"].as_array().unwrap().len(), 3);
    assert_eq!(all.body["nextPageToken"], "3");
    let one = get(&format!("/v1/models/{MODEL}")).await;
    assert_eq!(one.body["name"], format!("models/{MODEL}"));
    let preview = get("/v1/models/gemini-3-flash-preview").await;
    assert_eq!(
        (preview.status, preview.body["error"]["status"].as_str()),
        (404, Some("NOT_FOUND"))
    );
    assert_eq!(get("/v1beta/models/gemini-3-flash-preview").await.status, 200);
    assert_eq!(get("/v2/models").await.content_type, "text/html; charset=UTF-8");
}

#[tokio::test]
async fn scripted_outcomes_arrive_as_the_service_sends_them() {
    let stand_in = started(Behaviour::default()).await;
    let body = ask(&photo("cat.jpg"), "image/jpeg");
    let raw = Raw { status: 418, body: "{}".into(), content_type: None };
    for (outcome, status, check) in [
        (Outcome::HighDemand, 503, "high demand"),
        (Outcome::HtmlBadGateway, 502, "<!DOCTYPE html>"),
        (Outcome::QuotaPerMinute, 429, "RetryInfo"),
        (Outcome::KeyExpired, 400, "API key expired"),
        (Outcome::MaxTokensEmpty, 200, "MAX_TOKENS"),
        (Outcome::EmptyCandidates, 200, "\"candidates\": []"),
        (Outcome::SafetySexual, 200, "\"blocked\": true"),
        (Outcome::PromptBlocked, 200, "PROHIBITED_CONTENT"),
        (Outcome::RefusalProse, 200, "I am programmed"),
        (Outcome::UnknownFinish, 200, "NEW_THING"),
        (Outcome::Raw(raw), 418, "{}"),
    ] {
        stand_in.set_behaviour(Behaviour::always(outcome.clone())).await;
        let reply = post(&stand_in, "k", &body).await;
        assert_eq!(reply.status, status, "{outcome:?}");
        assert!(reply.text.contains(check), "{outcome:?}: {}", reply.text);
    }
    for outcome in [Outcome::BrokenJson, Outcome::MissingKey, Outcome::WrongType] {
        stand_in.set_behaviour(Behaviour::always(outcome.clone())).await;
        let reply = post(&stand_in, "k", &body).await;
        let answer: Result<lookout::review::reviewer::Answer, _> =
            serde_json::from_str(reply.answer_text());
        assert!(answer.is_err(), "{outcome:?} must be no valid answer");
    }
}

#[tokio::test]
async fn a_closed_port_refuses_until_it_is_opened_again() {
    let stand_in = started(Behaviour::default()).await;
    let body = ask(&photo("cat.jpg"), "image/jpeg");
    let client = client();
    let url = format!("{}/v1beta/models/{MODEL}:generateContent", stand_in.base_url);
    let send = || client.post(&url).header("x-goog-api-key", "k").json(&body).send();
    assert_eq!(send().await.unwrap().status(), 200);
    let refuse = Some(Refuse::default());
    stand_in.set_behaviour(Behaviour { refuse, ..Behaviour::default() }).await;
    // The pooled connection was cut, too: the client must make a new one and meet nobody.
    for _ in 0..3 {
        assert_eq!(http::failure(&send().await.unwrap_err()), http::Failure::Unreachable);
    }
    stand_in.set_behaviour(Behaviour::default()).await;
    assert_eq!(send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_call_that_is_never_answered_counts_as_abandoned_when_the_client_goes() {
    let stand_in = started(Behaviour::always(Outcome::NeverAnswers)).await;
    let url = format!("{}/v1beta/models/{MODEL}:generateContent", stand_in.base_url);
    let body = ask(&photo("cat.jpg"), "image/jpeg");
    let request = client().post(url).header("x-goog-api-key", "k").json(&body);
    let error = request.timeout(Duration::from_millis(300)).send().await.unwrap_err();
    assert_eq!(http::failure(&error), http::Failure::TimedOut);
    let base_url = stand_in.base_url.clone();
    stand_in.shutdown().await;
    assert!(client().get(base_url).send().await.is_err());
}

#[tokio::test]
async fn half_an_answer_breaks_off() {
    let stand_in = started(Behaviour::always(Outcome::BreaksOff)).await;
    let url = format!("{}/v1beta/models/{MODEL}:generateContent", stand_in.base_url);
    let body = ask(&photo("cat.jpg"), "image/jpeg");
    let request = client().post(url).header("x-goog-api-key", "k").json(&body);
    let error = request.send().await.unwrap().bytes().await.unwrap_err();
    assert_eq!(http::failure(&error), http::Failure::Broken);
}

#[tokio::test]
async fn a_rule_finds_its_picture_by_hash_or_by_the_mark_in_its_corner() {
    let marked = image::RgbImage::from_fn(400, 400, |x, y| {
        image::Rgb(if x < 60 && y < 60 { [255, 0, 255] } else { [90, 120, 60] })
    });
    let mut png = std::io::Cursor::new(Vec::new());
    marked.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let rule = |rule: Rule| Behaviour { rules: vec![rule], ..Behaviour::default() };
    let corner = Some(Colour([255, 0, 255]));
    let stand_in = started(rule(Rule { corner, ..Rule::new(Outcome::Internal) })).await;
    let marked = ask(&png.into_inner(), "image/png");
    let other = ask(&photo("cat.jpg"), "image/jpeg");
    assert_eq!(post(&stand_in, "k", &marked).await.status, 500);
    assert_eq!(post(&stand_in, "k", &other).await.status, 200);
    let sha256 = Some(
        <sha2::Sha256 as sha2::Digest>::digest(photo("cat.jpg"))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
    );
    stand_in.set_behaviour(rule(Rule { sha256, ..Rule::new(Outcome::Internal) })).await;
    assert_eq!(post(&stand_in, "k", &other).await.status, 500);
    assert_eq!(post(&stand_in, "k", &marked).await.status, 200);
}

#[tokio::test]
async fn over_the_quota_the_answer_says_when_to_come_back() {
    let quota = Some(Quota { requests_per_minute: Some(2), ..Quota::default() });
    let stand_in = started(Behaviour { quota, ..Behaviour::default() }).await;
    let body = ask(&photo("cat.jpg"), "image/jpeg");
    assert_eq!(post(&stand_in, "k", &body).await.status, 200);
    assert_eq!(post(&stand_in, "k", &body).await.status, 200);
    let reply = post(&stand_in, "k", &body).await;
    assert_eq!(reply.status, 429);
    let violation = &reply.body["error"]["details"][0]["violations"][0];
    assert_eq!(violation["quotaId"], "GenerateRequestsPerMinutePerProjectPerModel");
    assert_eq!(violation["quotaValue"], "2");
    assert!(reply.message().contains("Please retry in "), "{}", reply.message());
    let minute = stand_in.stats().minutes[0];
    assert_eq!((minute.answered, minute.over_quota), (2, 1));
}

#[tokio::test]
async fn the_control_endpoint_sets_and_shows() {
    let stand_in = started(Behaviour::default()).await;
    let url = format!("{}/_control", stand_in.base_url);
    let script = json!({"rule": [{"outcome": "overloaded", "times": 1}], "latency": "1ms"});
    let set = client().post(&url).json(&script).send().await.unwrap();
    assert_eq!(set.status(), 200);
    let body = ask(&photo("cat.jpg"), "image/jpeg");
    assert_eq!(post(&stand_in, "k", &body).await.status, 503);
    assert_eq!(post(&stand_in, "k", &body).await.status, 200);
    let shown: Value = client().get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!(shown["stats"]["by_outcome"], json!({"answer": 1, "overloaded": 1}));
    assert_eq!(shown["behaviour"]["rule"][0]["outcome"], "overloaded");
    let wrong = client().post(&url).json(&json!({"rules": []})).send().await.unwrap();
    assert_eq!(wrong.status(), 422);
    client().delete(&url).send().await.unwrap();
    assert_eq!(stand_in.stats().calls, 0);
}
