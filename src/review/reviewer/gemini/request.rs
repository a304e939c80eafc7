//! The request for one picture.
//!
//! Which form of schema and thinking is in use now is `session.rs`'s to remember.
//! Invariant: one picture a request, the safety settings always said explicitly, and never both
//! forms of schema in one request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::review::reviewer::Prepared;
use crate::review::reviewer::gemini::wire::request::{
    GenerateContentRequest, GenerationConfig, InlineData, RequestContent, RequestPart,
    ResponseFormat, SafetySetting, TextFormat, ThinkingConfig,
};
use crate::review::reviewer::gemini::wire::{
    HarmCategory, HarmThreshold, MediaResolution, ThinkingLevel,
};

const QUESTION: &str = "Classify this picture.";

/// The yes/no keys, in the order in which the model should think about them.
const YES_NO: [&str; 11] = [
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

/// How to ask for JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaForm {
    /// `responseMimeType` and `responseJsonSchema`: deprecated, yet what Google's own SDKs send.
    JsonSchema,
    /// `responseFormat`.
    ResponseFormat,
}

/// What varies between requests for the same picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// How to ask for JSON.
    pub schema: SchemaForm,
    /// How long to think; `None`: not said.
    pub thinking: Option<ThinkingLevel>,
    /// Cap on answer and thoughts.
    pub max_output_tokens: u32,
}

/// JSON Schema of the answer. Every key is required, so that a missing one is never read as "no".
#[must_use]
pub fn answer_schema() -> Value {
    let mut properties = Map::new();
    for key in YES_NO {
        properties.insert(key.to_owned(), json!({"type": "boolean"}));
    }
    properties.insert("details".to_owned(), json!({"type": "string"}));
    let required: Vec<&str> = YES_NO.into_iter().chain(["details"]).collect();
    json!({"type": "object", "properties": properties, "required": required,
           "propertyOrdering": required})
}

/// Bytes of a body besides picture and prompt, with room for a correction.
const ALL_ELSE: usize = 4096;

/// The body.
#[must_use]
pub fn body(prompt: &str, picture: &Prepared, correction: Option<&str>, form: &Form) -> Bytes {
    let picture_part = RequestPart {
        inline_data: Some(InlineData {
            mime_type: picture.mime_type.to_owned(),
            data: STANDARD.encode(&picture.bytes),
            display_name: None,
        }),
        ..RequestPart::default()
    };
    let question = match correction {
        Some(correction) => format!("{QUESTION}\n{correction}"),
        None => QUESTION.to_owned(),
    };
    let text = |text: String| RequestPart { text: Some(text), ..RequestPart::default() };
    let request = GenerateContentRequest {
        system_instruction: Some(RequestContent { role: None, parts: vec![text(prompt.into())] }),
        contents: vec![RequestContent {
            role: Some("user".into()),
            // The picture first, as the guide recommends for a single one.
            parts: vec![picture_part, text(question)],
        }],
        safety_settings: safety_settings(),
        generation_config: Some(generation_config(form)),
        // Pictures of the user's customers: not to be logged, whatever the project's setting.
        store: Some(false),
        ..GenerateContentRequest::default()
    };
    // Grown step by step it would end up to twice as large, for as long as the call takes.
    let n_picture = picture.bytes.len().div_ceil(3) * 4;
    let mut body = Vec::with_capacity(n_picture + prompt.len() * 2 + ALL_ELSE);
    // Strings and numbers only: there is nothing in it that JSON can't hold.
    let _ = serde_json::to_writer(&mut body, &request);
    body.into()
}

/// The body of a small request without a picture, for a check: a word, and room for thoughts.
#[must_use]
pub fn ping() -> Bytes {
    let text = RequestPart { text: Some("Say ok.".into()), ..RequestPart::default() };
    let request = GenerateContentRequest {
        contents: vec![RequestContent { role: Some("user".into()), parts: vec![text] }],
        generation_config: Some(GenerationConfig {
            max_output_tokens: Some(64),
            ..GenerationConfig::default()
        }),
        store: Some(false),
        ..GenerateContentRequest::default()
    };
    // Strings and numbers only: there is nothing in it that JSON can't hold.
    serde_json::to_vec(&request).unwrap_or_default().into()
}

/// Explicit, since a changed default would turn "nudity" into "no answer"; NONE rather than OFF,
/// so that the filter still rates.
fn safety_settings() -> Vec<SafetySetting> {
    [
        HarmCategory::Harassment,
        HarmCategory::HateSpeech,
        HarmCategory::SexuallyExplicit,
        HarmCategory::DangerousContent,
    ]
    .into_iter()
    .map(|category| SafetySetting { category, threshold: HarmThreshold::None })
    .collect()
}

fn generation_config(form: &Form) -> GenerationConfig {
    let mut config = GenerationConfig {
        media_resolution: Some(MediaResolution::High),
        thinking_config: form.thinking.clone().map(|level| ThinkingConfig {
            thinking_level: Some(level),
            ..ThinkingConfig::default()
        }),
        max_output_tokens: Some(form.max_output_tokens),
        ..GenerationConfig::default()
    };
    match form.schema {
        SchemaForm::JsonSchema => {
            config.response_mime_type = Some("application/json".into());
            config.response_json_schema = Some(answer_schema());
        }
        SchemaForm::ResponseFormat => {
            config.response_format = Some(ResponseFormat {
                // Not `application/json`, as the guide prints it: that is refused.
                text: TextFormat {
                    mime_type: "APPLICATION_JSON".into(),
                    schema: Some(answer_schema()),
                },
            });
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::reviewer::Answer;

    fn sent(form: &Form, correction: Option<&str>) -> Value {
        let picture = Prepared {
            mime_type: "image/jpeg",
            bytes: Bytes::from_static(b"jpeg"),
            width: 1,
            height: 1,
            sha256: String::new(),
        };
        serde_json::from_slice(&body("the rules", &picture, correction, form)).unwrap()
    }

    const FORM: Form = Form {
        schema: SchemaForm::JsonSchema,
        thinking: Some(ThinkingLevel::Minimal),
        max_output_tokens: 2048,
    };

    #[test]
    fn the_request_is_the_documented_one() {
        let body = sent(&FORM, None);
        assert_eq!(body["systemInstruction"]["parts"][0]["text"], "the rules");
        let parts = &body["contents"][0]["parts"];
        assert_eq!(parts[0]["inlineData"], json!({"mimeType": "image/jpeg", "data": "anBlZw=="}));
        assert_eq!(parts[1]["text"], QUESTION);
        let config = &body["generationConfig"];
        assert_eq!(config["responseMimeType"], "application/json");
        assert_eq!(config["mediaResolution"], "MEDIA_RESOLUTION_HIGH");
        assert_eq!(config["thinkingConfig"], json!({"thinkingLevel": "MINIMAL"}));
        assert_eq!(config["maxOutputTokens"], 2048);
        for deprecated in ["temperature", "topP", "topK", "responseFormat"] {
            assert!(config.get(deprecated).is_none(), "{deprecated}");
        }
        assert_eq!(body["safetySettings"].as_array().unwrap().len(), 4);
        assert_eq!(body["store"], false);
    }

    #[test]
    fn never_both_forms_of_schema() {
        let form = Form { schema: SchemaForm::ResponseFormat, thinking: None, ..FORM };
        let config = &sent(&form, None)["generationConfig"];
        assert_eq!(config["responseFormat"]["text"]["mimeType"], "APPLICATION_JSON");
        for other in ["responseMimeType", "responseJsonSchema", "thinkingConfig"] {
            assert!(config.get(other).is_none(), "{other}");
        }
    }

    #[test]
    fn the_correction_of_the_try_before_is_sent_along() {
        let body = sent(&FORM, Some("All twelve keys, please."));
        let text = body["contents"][0]["parts"][1]["text"].as_str().unwrap();
        assert!(text.ends_with("All twelve keys, please."), "{text}");
    }

    #[test]
    fn the_schema_asks_for_exactly_the_keys_of_an_answer() {
        let schema = answer_schema();
        let mut object = Map::new();
        for key in schema["required"].as_array().unwrap() {
            let key = key.as_str().unwrap();
            let value = if key == "details" { json!("") } else { json!(false) };
            object.insert(key.to_owned(), value);
        }
        assert!(serde_json::from_value::<Answer>(Value::Object(object)).is_ok());
    }
}
