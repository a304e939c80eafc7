//! What a well-formed request asks for, and what the service refuses although the form is right.
//!
//! `check.rs` has been here before; `answer.rs` comes after.
//! Invariant: a request that the real service would refuse never gets an answer.

use serde_json::Value;

use super::check::{decode_base64, field};
use super::envelope::Refusal;
use super::image_stats::sha256_hex;
use super::models::Model;

/// The types of picture that the service takes.
const PICTURE_TYPES: [&str; 5] =
    ["image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"];

/// Characters of text that make a token, roughly; only costs are computed from it.
const CHARS_PER_TOKEN: usize = 4;

/// A picture as it was sent.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) mime_type: String,
    pub(super) bytes: Vec<u8>,
    pub(super) sha256: String,
    /// 0 LOW, 1 MEDIUM, 2 HIGH; of the part, else of the request, else HIGH.
    pub(super) resolution: usize,
}

/// How much the model is to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    Minimal,
    Low,
    Medium,
    High,
}

impl Thinking {
    /// Tokens of thought, in the order of what recordings show.
    pub(super) fn tokens(self) -> u64 {
        match self {
            Self::Minimal => 0,
            Self::Low => 72,
            Self::Medium => 156,
            Self::High => 448,
        }
    }
}

/// A request, understood.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) pictures: Vec<Picture>,
    pub(super) text_tokens: u64,
    /// An object is asked for, with this schema if there is one.
    pub(super) wants_json: bool,
    pub(super) schema: Option<Value>,
    pub(super) thinking: Thinking,
    pub(super) max_output_tokens: Option<u64>,
    pub(super) tier: String,
    pub(super) rates_safety: bool,
}

fn bad(message: impl AsRef<str>) -> Refusal {
    Refusal::bad_request(message, &[])
}

/// Understands a request whose form is right.
///
/// # Errors
/// The 400 that the service answers.
pub(super) fn understand(body: &Value, model: &Model) -> Result<Request, Refusal> {
    let none = Value::Null;
    let config = field(body, "generationConfig").unwrap_or(&none);
    let contents = list(field(body, "contents"));
    if contents.is_empty() {
        return Err(bad("* GenerateContentRequest.contents: contents is not specified\n"));
    }
    let resolution = resolution(field(config, "mediaResolution")).unwrap_or(2);
    let (wants_json, schema) = answer_form(config)?;
    let mut request = Request {
        pictures: Vec::new(),
        text_tokens: 0,
        wants_json,
        schema,
        thinking: thinking(config, model)?,
        max_output_tokens: field(config, "maxOutputTokens").and_then(whole),
        tier: field(body, "serviceTier")
            .and_then(Value::as_str)
            .unwrap_or("standard")
            .to_lowercase(),
        rates_safety: !list(field(body, "safetySettings")).is_empty(),
    };
    if request.max_output_tokens == Some(0) {
        return Err(bad("max_output_tokens must be positive."));
    }
    if field(config, "candidateCount").and_then(whole).is_some_and(|n| n > 1) {
        return Err(bad("Multiple candidates is not enabled for this model"));
    }
    let mut chars = 0;
    for content in contents {
        chars += take_content(content, resolution, &mut request.pictures)?;
    }
    if let Some(content) = field(body, "systemInstruction") {
        chars += take_content(content, resolution, &mut request.pictures)?;
    }
    chars += request.schema.as_ref().map_or(0, |schema| schema.to_string().len());
    request.text_tokens = u64::try_from(chars.div_ceil(CHARS_PER_TOKEN)).unwrap_or(u64::MAX);
    Ok(request)
}

/// proto3 JSON takes a single value for a list of one.
fn list(value: Option<&Value>) -> &[Value] {
    match value {
        Some(Value::Array(items)) => items,
        Some(one) => std::slice::from_ref(one),
        None => &[],
    }
}

fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn resolution(value: Option<&Value>) -> Option<usize> {
    match value?.as_str()?.to_uppercase().as_str() {
        "MEDIA_RESOLUTION_LOW" => Some(0),
        "MEDIA_RESOLUTION_MEDIUM" => Some(1),
        "MEDIA_RESOLUTION_HIGH" | "MEDIA_RESOLUTION_ULTRA_HIGH" => Some(2),
        _ => None,
    }
}

/// Takes the pictures of a content and returns how much text it has.
fn take_content(
    content: &Value,
    resolution_of_all: usize,
    pictures: &mut Vec<Picture>,
) -> Result<usize, Refusal> {
    let role = field(content, "role").and_then(Value::as_str).unwrap_or("user");
    if !["user", "model", "system"].contains(&role) {
        return Err(bad("Please use a valid role: user, model."));
    }
    let mut chars = 0;
    let parts = list(field(content, "parts"));
    if parts.is_empty() {
        return Err(bad(
            "* GenerateContentRequest.contents.parts: contents.parts must not be empty.\n",
        ));
    }
    for part in parts {
        if let Some(text) = field(part, "text").and_then(Value::as_str) {
            chars += text.chars().count();
        }
        let Some(blob) = field(part, "inlineData") else { continue };
        let mime_type = field(blob, "mimeType").and_then(Value::as_str).unwrap_or("").to_owned();
        if !PICTURE_TYPES.contains(&mime_type.as_str()) {
            return Err(bad(format!("Unsupported MIME type: {mime_type}")));
        }
        let data = field(blob, "data").and_then(Value::as_str).unwrap_or("");
        let bytes = decode_base64(data).unwrap_or_default();
        if bytes.is_empty() {
            return Err(Refusal::picture());
        }
        let level = field(part, "mediaResolution").and_then(|r| field(r, "level"));
        pictures.push(Picture {
            mime_type,
            sha256: sha256_hex(&bytes),
            bytes,
            resolution: resolution(level).unwrap_or(resolution_of_all),
        });
    }
    Ok(chars)
}

/// Whether JSON is asked for, and its schema; the forms exclude each other.
fn answer_form(config: &Value) -> Result<(bool, Option<Value>), Refusal> {
    let mime_type = field(config, "responseMimeType").and_then(Value::as_str);
    let open = field(config, "responseSchema");
    let json = field(config, "responseJsonSchema");
    let format = field(config, "responseFormat").and_then(|f| field(f, "text"));
    if format.is_some() && (open.is_some() || json.is_some() || mime_type.is_some()) {
        return Err(bad("response_format can't be set together with response_mime_type, \
                        response_schema or response_json_schema."));
    }
    if open.is_some() && json.is_some() {
        return Err(bad("Only one of response_schema and response_json_schema may be set."));
    }
    if let Some(format) = format {
        let wants_json = field(format, "mimeType")
            .and_then(Value::as_str)
            .is_some_and(|text| text.eq_ignore_ascii_case("APPLICATION_JSON"));
        return Ok((wants_json, field(format, "schema").cloned()));
    }
    let wants_json = match mime_type {
        None | Some("text/plain") => false,
        Some("application/json") => true,
        Some(other) => {
            return Err(bad(format!(
                "* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes \
                 are `text/plain`, `application/json`, `application/xml`, `application/yaml` and \
                 `text/x.enum`. Got `{other}`.\n"
            )));
        }
    };
    let schema = open.or(json).cloned();
    if schema.is_some() && !wants_json {
        return Err(bad(
            "* GenerateContentRequest.generation_config.response_schema: a schema is \
                        only allowed with response_mime_type `application/json`.\n",
        ));
    }
    if let Some(place) = schema.as_ref().and_then(|schema| empty_enum(schema, "")) {
        return Err(bad(format!(
            "* GenerateContentRequest.generation_config.response_schema{place}: cannot be empty\n"
        )));
    }
    Ok((wants_json, schema))
}

/// Place of an empty string in an enum, which the service refuses.
fn empty_enum(schema: &Value, path: &str) -> Option<String> {
    match schema {
        Value::Object(map) => map.iter().find_map(|(name, value)| {
            if name == "enum" {
                let at = value.as_array()?.iter().position(|v| v.as_str() == Some(""))?;
                return Some(format!("{path}.enum[{at}]"));
            }
            empty_enum(value, &format!("{path}.{name}"))
        }),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, v)| empty_enum(v, &format!("{path}[{i}]")))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn thinking(config: &Value, model: &Model) -> Result<Thinking, Refusal> {
    let default = if model.thinks_minimally { Thinking::Minimal } else { Thinking::Medium };
    let none = Value::Null;
    let thinking = field(config, "thinkingConfig").unwrap_or(&none);
    let level = field(thinking, "thinkingLevel").and_then(Value::as_str).map(str::to_uppercase);
    if level.is_some() && field(thinking, "thinkingBudget").is_some() {
        return Err(bad("You can only set only one of thinking budget and thinking level."));
    }
    Ok(match level.as_deref() {
        Some("MINIMAL") if !model.thinks_minimally => {
            return Err(bad(
                "Thinking level MINIMAL is not supported for this model. Please retry \
                            with other thinking level.",
            ));
        }
        Some("MINIMAL") => Thinking::Minimal,
        Some("LOW") => Thinking::Low,
        Some("MEDIUM") => Thinking::Medium,
        Some("HIGH") => Thinking::High,
        Some(_) | None => default,
    })
}

#[cfg(test)]
mod tests {
    use super::super::models::find;
    use super::*;
    use serde_json::json;

    fn refused(body: &Value, model: &str) -> String {
        let model = find(model, "v1beta").unwrap();
        let refusal = understand(body, model).unwrap_err();
        let body: Value = serde_json::from_str(&refusal.body).unwrap();
        body["error"]["message"].as_str().unwrap().to_owned()
    }

    fn with_picture(mime_type: &str, data: &str) -> Value {
        json!({"contents": [{"parts": [{"inlineData": {"mimeType": mime_type, "data": data}}]}]})
    }

    #[test]
    fn what_the_service_refuses_is_refused_with_its_words() {
        let lite = "gemini-3.5-flash-lite";
        assert_eq!(
            refused(&with_picture("image/jpg", "AAAA"), lite),
            "Unsupported MIME type: image/jpg"
        );
        assert!(refused(&with_picture("image/png", ""), lite).starts_with("Unable to process"));
        assert!(refused(&json!({}), lite).contains("contents is not specified"));
        let mut body = with_picture("image/png", "AAAA");
        body["generationConfig"] = json!({"responseJsonSchema": {"type": "object"}});
        assert!(refused(&body, lite).contains("response_mime_type"));
        body["generationConfig"] = json!({"responseMimeType": "application/json",
            "responseJsonSchema": {"properties": {"a": {"enum": ["x", ""]}}}});
        assert!(refused(&body, lite).contains("properties.a.enum[1]: cannot be empty"));
        body["generationConfig"] = json!({"thinkingConfig": {"thinkingLevel": "minimal"}});
        assert!(refused(&body, "gemini-3.8-flash").contains("Thinking level MINIMAL"));
        body["generationConfig"] = json!({"responseMimeType": "application/json",
            "responseFormat": {"text": {"mimeType": "APPLICATION_JSON"}}});
        assert!(refused(&body, lite).contains("response_format"));
    }

    #[test]
    fn each_form_of_schema_is_understood() {
        for config in [
            json!({"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}}),
            json!({"response_mime_type": "application/json", "response_schema": {"type": "object"}}),
            json!({"responseFormat": {"text": {"mimeType": "APPLICATION_JSON",
                "schema": {"type": "object"}}}}),
        ] {
            let mut body = with_picture("image/png", "AAAA");
            body["generationConfig"] = config;
            let request = understand(&body, find("gemini-3.5-flash-lite", "v1").unwrap()).unwrap();
            assert!(request.wants_json);
            assert_eq!(request.schema, Some(json!({"type": "object"})));
        }
    }
}
