//! The 200 bodies: an answer computed from the picture, or a scripted body that is no answer.
//!
//! Invariant: an answer says in its own words that no model has looked at the picture, and its
//! `modelVersion` is the stand-in's; it follows the schema that was sent, whichever form it had.

use serde_json::{Map, Value, json};

use crate::review::reviewer::Answer;

use super::behaviour::Outcome;
use super::image_stats::ImageStats;
use super::models::Model;
use super::request::Request;

/// What stands in `modelVersion`.
pub const MODEL_VERSION: &str = "lookout-stand-in";

/// A schema deeper than this is answered with `null`: it refers to itself.
const MAX_DEPTH: usize = 16;

/// What the stand-in says of a picture. Each line is a measurement, not a judgement.
pub(super) fn opinion(look: &ImageStats) -> Answer {
    let text_present = look.ink > 0.55 && look.edges > 0.08 && look.saturation < 0.35;
    let humans = look.skin > 0.08;
    let mut answer = Answer {
        text_present,
        // Nobody has read it: one bit of the hash says which, and always the same.
        text_correct: text_present && look.print & 1 == 0,
        text_errors: text_present && look.print & 1 == 1,
        watermark: look.brightness > 0.75 && look.edges > 0.10,
        humans,
        nudity: look.skin > 0.60,
        blood: look.deep_red > 0.20,
        brands: look.saturation > 0.55 && look.edges > 0.06,
        copyright: look.saturation > 0.45 && look.top_colour > 0.45,
        places: look.sky > 0.50,
        people: humans && look.skin > 0.30 && look.top_colour < 0.25,
        details: String::new(),
    };
    answer.details = details(look, &answer);
    answer
}

fn details(look: &ImageStats, answer: &Answer) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let measured = if look.corner.is_some() {
        format!(
            "{} x {} pixels, brightness {}, edges {}, skin-like colour {}, blue in the upper third {}",
            look.width,
            look.height,
            percent(look.brightness),
            percent(look.edges),
            percent(look.skin),
            percent(look.sky),
        )
    } else {
        "nothing but the file's head".to_owned()
    };
    let n_flags = [answer.text_present, answer.watermark, answer.humans, answer.nudity]
        .into_iter()
        .chain([answer.blood, answer.brands, answer.copyright, answer.places, answer.people])
        .filter(|flag| *flag)
        .count();
    format!(
        "Lookout's stand-in answered; no model has looked at this picture. It measured {measured}, \
         and set {n_flags} of 9 flags from that alone."
    )
}

/// A value that the schema allows: known keys from the opinion, the rest the plainest there is.
fn fill(schema: &Value, known: &Value, name: &str, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    if let Some(first) =
        ["anyOf", "any_of", "oneOf"].iter().find_map(|key| schema.get(key)?.as_array()?.first())
    {
        return fill(first, known, name, depth + 1);
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.to_lowercase(),
        Some(Value::Array(kinds)) => {
            kinds.first().and_then(Value::as_str).unwrap_or("null").to_lowercase()
        }
        Some(_) | None if schema.get("properties").is_some() => "object".to_owned(),
        Some(_) | None => String::new(),
    };
    if let Some(first) = schema.get("enum").and_then(|e| e.as_array()?.first()) {
        return first.clone();
    }
    match kind.as_str() {
        "object" => {
            let mut object = Map::new();
            if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
                for (name, schema) in properties {
                    object.insert(name.clone(), fill(schema, known, name, depth + 1));
                }
            }
            Value::Object(object)
        }
        "array" => {
            let n_items =
                ["minItems", "min_items"].iter().find_map(|key| schema.get(key)?.as_u64());
            let none = json!({});
            let items = schema.get("items").unwrap_or(&none);
            let n_items = n_items.unwrap_or(1).min(64);
            (0..n_items).map(|_| fill(items, known, name, depth + 1)).collect()
        }
        "boolean" => known.get(name).filter(|v| v.is_boolean()).cloned().unwrap_or(json!(false)),
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(0)),
        "string" => known.get(name).filter(|v| v.is_string()).unwrap_or(&known["details"]).clone(),
        _ => Value::Null,
    }
}

/// The text of the answer.
fn text(request: &Request, opinion: &Answer) -> String {
    let known = serde_json::to_value(opinion).unwrap_or_default();
    match (&request.schema, request.wants_json) {
        (Some(schema), true) => fill(schema, &known, "", 0).to_string(),
        (None, true) => known.to_string(),
        (_, false) => opinion.details.clone(),
    }
}

/// Tokens of a picture: its budget, as a grid of its own proportions. With 1120 this gives the
/// recorded 1088 (597x566), 1102 (400x301) and 1102 (637x821).
fn picture_tokens(look: &ImageStats, budget: u32) -> u64 {
    if budget == 258 || look.width == 0 || look.height == 0 {
        return budget.into();
    }
    let aspect = f64::from(look.width) / f64::from(look.height);
    let budget = f64::from(budget);
    // A side just short of a whole patch still gets it (37.99 was counted as 38).
    let side = |n: f64| (n + 0.02).floor().max(1.0);
    let tokens = side((budget * aspect).sqrt()) * side((budget / aspect).sqrt());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and about 2,300"
    )]
    let tokens = tokens as u64;
    tokens
}

/// Input tokens of a request: text, pictures.
pub(super) fn tokens_in(request: &Request, model: &Model, looks: &[ImageStats]) -> (u64, u64) {
    let pictures = request
        .pictures
        .iter()
        .zip(looks)
        .map(|(picture, look)| picture_tokens(look, model.picture_tokens[picture.resolution]))
        .sum();
    (request.text_tokens, pictures)
}

/// `usageMetadata`; counts that are 0 are left out, as the service does.
fn usage(request: &Request, tokens: (u64, u64), tokens_out: u64, thoughts: u64) -> Value {
    let (text, pictures) = tokens;
    let mut details = vec![json!({"modality": "TEXT", "tokenCount": text})];
    if pictures > 0 {
        details.push(json!({"modality": "IMAGE", "tokenCount": pictures}));
    }
    let mut usage = json!({
        "promptTokenCount": text + pictures,
        "totalTokenCount": text + pictures + tokens_out + thoughts,
        "promptTokensDetails": details,
        "serviceTier": request.tier,
    });
    if tokens_out > 0 {
        usage["candidatesTokenCount"] = json!(tokens_out);
    }
    if thoughts > 0 {
        usage["thoughtsTokenCount"] = json!(thoughts);
    }
    usage
}

/// `countTokens`.
pub(super) fn count(tokens: (u64, u64)) -> Value {
    let (text, pictures) = tokens;
    let mut details = vec![json!({"modality": "TEXT", "tokenCount": text})];
    if pictures > 0 {
        details.push(json!({"modality": "IMAGE", "tokenCount": pictures}));
    }
    json!({"totalTokens": text + pictures, "promptTokensDetails": details})
}

/// What a 200 is made of.
#[derive(Debug)]
pub(super) struct Answering<'a> {
    pub(super) request: &'a Request,
    pub(super) tokens: (u64, u64),
    /// Of the first picture; the default if there is none.
    pub(super) look: &'a ImageStats,
    /// Running number of the call, for `responseId`.
    pub(super) call: u64,
}

impl Answering<'_> {
    /// The 200 body of an outcome that is not a refusal.
    pub(super) fn body(&self, outcome: &Outcome) -> Value {
        let opinion = opinion(self.look);
        let full = text(self.request, &opinion);
        let half: String = full.chars().take(full.chars().count() / 2).collect();
        match outcome {
            Outcome::BrokenJson => self.candidate(&half, "STOP"),
            Outcome::MissingKey => self.candidate(&without_a_key(&full), "STOP"),
            Outcome::WrongType => self.candidate(&full.replacen("false", "\"no\"", 1), "STOP"),
            Outcome::RefusalProse => self.candidate(
                "I am programmed to be a harmless AI assistant, and I cannot generate responses \
                 that are sexually suggestive in nature.",
                "STOP",
            ),
            Outcome::MaxTokens => self.candidate(&half, "MAX_TOKENS"),
            Outcome::MaxTokensEmpty => self.finish("MAX_TOKENS", &json!([])),
            Outcome::Recitation => self.finish("RECITATION", &json!([])),
            Outcome::UnknownFinish => self.finish("NEW_THING", &json!([])),
            Outcome::SafetyBlock => self.finish("SAFETY", &ratings("DANGEROUS_CONTENT")),
            Outcome::SafetySexual => self.finish("SAFETY", &ratings("SEXUALLY_EXPLICIT")),
            Outcome::NoCandidates => self.whole(&json!({})),
            Outcome::EmptyCandidates => self.whole(&json!({"candidates": []})),
            Outcome::PromptBlocked => {
                self.whole(&json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}))
            }
            Outcome::PromptBlockedOther => {
                self.whole(&json!({"promptFeedback": {"blockReason": "OTHER"}}))
            }
            Outcome::Answer
            | Outcome::HighDemand
            | Outcome::Overloaded
            | Outcome::DeadlineExpired
            | Outcome::Internal
            | Outcome::HtmlBadGateway
            | Outcome::DeadlineExceeded
            | Outcome::QuotaPerMinute
            | Outcome::QuotaPerDay
            | Outcome::Exhausted
            | Outcome::SpendRate
            | Outcome::KeyInvalid
            | Outcome::KeyExpired
            | Outcome::KeyLeaked
            | Outcome::ProjectDenied
            | Outcome::PrepayDepleted
            | Outcome::Location
            | Outcome::ModelRetired
            | Outcome::PictureRefused
            | Outcome::NeverAnswers
            | Outcome::BreaksOff
            | Outcome::Raw(_) => self.answer(&full),
        }
    }

    /// The answer, cut as the service cuts it if the cap is too small for thoughts and text.
    fn answer(&self, full: &str) -> Value {
        let thoughts = self.request.thinking.tokens();
        let wanted = tokens_of(full);
        match self.request.max_output_tokens {
            Some(cap) if cap <= thoughts => self.finish("MAX_TOKENS", &json!([])),
            Some(cap) if cap < thoughts + wanted => {
                let kept = usize::try_from((cap - thoughts) * 4).unwrap_or(usize::MAX);
                self.candidate(&full.chars().take(kept).collect::<String>(), "MAX_TOKENS")
            }
            Some(_) | None => self.candidate(full, "STOP"),
        }
    }

    fn candidate(&self, text: &str, finish: &str) -> Value {
        let mut candidate = json!({
            // Gemini 3 signs ordinary text parts.
            "content": {
                "parts": [{"text": text, "thoughtSignature": "bG9va291dC1zdGFuZC1pbg=="}],
                "role": "model",
            },
            "finishReason": finish,
            "index": 0,
        });
        if self.request.rates_safety {
            candidate["safetyRatings"] = ratings("");
        }
        self.complete(json!({"candidates": [candidate]}), tokens_of(text))
    }

    /// A candidate without text, as recorded: `content` is `{}`, `index` is missing.
    fn finish(&self, reason: &str, ratings: &Value) -> Value {
        let mut candidate = json!({"content": {}, "finishReason": reason});
        if ratings.as_array().is_some_and(|ratings| !ratings.is_empty()) {
            candidate["safetyRatings"] = ratings.clone();
        }
        self.whole(&json!({"candidates": [candidate]}))
    }

    fn whole(&self, body: &Value) -> Value {
        self.complete(body.clone(), 0)
    }

    fn complete(&self, mut body: Value, tokens_out: u64) -> Value {
        let thoughts =
            if body.get("candidates").is_some() { self.request.thinking.tokens() } else { 0 };
        body["usageMetadata"] = usage(self.request, self.tokens, tokens_out, thoughts);
        body["modelVersion"] = json!(MODEL_VERSION);
        body["responseId"] = json!(format!("stand-in-{}", self.call));
        body
    }
}

fn tokens_of(text: &str) -> u64 {
    u64::try_from(text.chars().count().div_ceil(4)).unwrap_or(u64::MAX)
}

fn without_a_key(full: &str) -> String {
    match serde_json::from_str::<Value>(full) {
        Ok(Value::Object(mut object)) => {
            let gone = if object.contains_key("nudity") { Some("nudity".to_owned()) } else { None }
                .or_else(|| object.keys().next().cloned());
            if let Some(gone) = gone {
                object.remove(&gone);
            }
            Value::Object(object).to_string()
        }
        Ok(_) | Err(_) => String::new(),
    }
}

/// Ratings of the four categories; this one blocked.
fn ratings(blocked: &str) -> Value {
    ["HATE_SPEECH", "DANGEROUS_CONTENT", "HARASSMENT", "SEXUALLY_EXPLICIT"]
        .iter()
        .map(|category| {
            let name = format!("HARM_CATEGORY_{category}");
            if *category == blocked {
                json!({"category": name, "probability": "HIGH", "blocked": true})
            } else {
                json!({"category": name, "probability": "NEGLIGIBLE"})
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_stats(width: u32, height: u32) -> ImageStats {
        ImageStats { width, height, ..ImageStats::default() }
    }

    #[test]
    fn pictures_cost_what_recordings_show() {
        assert_eq!(picture_tokens(&image_stats(597, 566), 1120), 1088);
        assert_eq!(picture_tokens(&image_stats(400, 301), 1120), 1102);
        assert_eq!(picture_tokens(&image_stats(637, 821), 1120), 1102);
        assert_eq!(picture_tokens(&image_stats(597, 566), 258), 258);
        assert_eq!(picture_tokens(&image_stats(0, 0), 1120), 1120, "passed through, size unknown");
    }

    #[test]
    fn an_answer_follows_any_schema() {
        let known = serde_json::to_value(opinion(&image_stats(10, 10))).unwrap();
        let schema = json!({"type": "OBJECT", "properties": {
            "humans": {"type": "boolean"}, "score": {"type": "integer", "minimum": 3},
            "labels": {"type": "array", "minItems": 2, "items": {"enum": ["a", "b"]}},
            "why": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "at": {"type": ["string", "null"]}}});
        let filled = fill(&schema, &known, "", 0);
        assert_eq!(filled["humans"], json!(false));
        assert_eq!(filled["score"], json!(3));
        assert_eq!(filled["labels"], json!(["a", "a"]));
        assert!(filled["why"].as_str().unwrap().contains("no model has looked"));
        assert!(filled["at"].is_string());
    }

    #[test]
    fn an_opinion_names_itself() {
        let answer = opinion(&image_stats(10, 10));
        assert!(answer.details.contains("no model has looked at this picture"));
        assert!(!answer.humans && !answer.nudity);
    }
}
