//! The strict check of a request's form, as the service does it before it looks at the key.
//!
//! It walks a body along the tables of `fields.rs`; what a valid body means is `request.rs`'s
//! business. Texts and paths are the service's (recorded ones where there are recordings).
//! Invariant: every violation of a body is reported at once, in the order of the body.

use serde_json::Value;

use super::envelope::Refusal;
use super::fields::{Kind, Message};

/// A field name as the service spells it in paths: `generationConfig` → `generation_config`.
fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The value under either spelling of a field's name.
pub(super) fn field<'v>(of: &'v Value, name: &str) -> Option<&'v Value> {
    of.get(name).or_else(|| of.get(snake(name))).filter(|value| !value.is_null())
}

/// Decodes Base64 in any of the forms the service takes.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    use base64::alphabet::{STANDARD, URL_SAFE};
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const EITHER: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, EITHER).decode(text).ok()
}

#[derive(Debug)]
struct Violation {
    field: String,
    description: String,
}

/// Parses a body and checks its form.
///
/// # Errors
/// The 400 that the service answers.
pub(super) fn parse(body: &[u8], message: &Message) -> Result<Value, Refusal> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| Refusal::bad_request(format!("Invalid JSON payload received. {e}"), &[]))?;
    let mut violations = Vec::new();
    walk_message(&value, message, "", &mut violations);
    if violations.is_empty() {
        return Ok(value);
    }
    let text: Vec<&str> = violations.iter().map(|v| v.description.as_str()).collect();
    let pairs: Vec<(&str, &str)> =
        violations.iter().map(|v| (v.field.as_str(), v.description.as_str())).collect();
    Err(Refusal::bad_request(text.join("\n"), &pairs))
}

fn walk_message(value: &Value, message: &Message, path: &str, out: &mut Vec<Violation>) {
    let Some(map) = value.as_object() else {
        if !value.is_null() {
            wrong_value(value, path, "TYPE_MESSAGE", out);
        }
        return;
    };
    for (name, value) in map {
        let known = message.fields.iter().find(|(known, _)| known == name || snake(known) == *name);
        match known {
            Some((known, kind)) => {
                let inner =
                    if path.is_empty() { snake(known) } else { format!("{path}.{}", snake(known)) };
                walk(value, kind, &inner, out);
            }
            None => {
                let place = if path.is_empty() { String::new() } else { format!(" at '{path}'") };
                out.push(Violation {
                    field: path.to_owned(),
                    description: format!(
                        "Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot \
                         find field."
                    ),
                });
            }
        }
    }
}

fn walk(value: &Value, kind: &Kind, path: &str, out: &mut Vec<Violation>) {
    if value.is_null() {
        return;
    }
    let is_number_text = || value.as_str().is_some_and(|s| s.parse::<f64>().is_ok());
    let is_whole = || {
        value.as_i64().is_some()
            || value.as_f64().is_some_and(|n| n.fract() == 0.0)
            || value.as_str().is_some_and(|s| s.parse::<i64>().is_ok())
    };
    match kind {
        Kind::Any => {}
        Kind::Text if value.is_string() => {}
        Kind::Text => wrong_value(value, path, "TYPE_STRING", out),
        Kind::Bool if value.is_boolean() => {}
        Kind::Bool => wrong_value(value, path, "TYPE_BOOL", out),
        Kind::Integer if is_whole() => {}
        Kind::Integer => wrong_value(value, path, "TYPE_INT32", out),
        Kind::Number if value.is_number() || is_number_text() => {}
        Kind::Number => wrong_value(value, path, "TYPE_FLOAT", out),
        Kind::Bytes => match value.as_str().map(decode_base64) {
            Some(Some(_)) => {}
            Some(None) => {
                let start: String = value.as_str().unwrap_or("").chars().take(40).collect();
                out.push(Violation {
                    field: path.to_owned(),
                    description: format!(
                        "Invalid value at '{path}' (TYPE_BYTES), Base64 decoding failed for \
                         \"{start}\""
                    ),
                });
            }
            None => wrong_value(value, path, "TYPE_BYTES", out),
        },
        Kind::Enum(name, values) => {
            let known = value
                .as_str()
                .is_some_and(|text| values.iter().any(|v| v.eq_ignore_ascii_case(text)));
            if !known {
                let full =
                    format!("type.googleapis.com/google.ai.generativelanguage.v1beta.{name}");
                wrong_value(value, path, &full, out);
            }
        }
        Kind::One(message) => walk_message(value, message, path, out),
        Kind::List(kind) => match value.as_array() {
            Some(items) => {
                for (i, item) in items.iter().enumerate() {
                    walk(item, kind, &format!("{path}[{i}]"), out);
                }
            }
            // proto3 JSON takes a single value for a list of one.
            None => walk(value, kind, &format!("{path}[0]"), out),
        },
        Kind::Map(kind) => match value.as_object() {
            Some(map) => {
                for (i, (_, item)) in map.iter().enumerate() {
                    walk(item, kind, &format!("{path}[{i}].value"), out);
                }
            }
            None => wrong_value(value, path, "TYPE_MESSAGE", out),
        },
    }
}

fn wrong_value(value: &Value, path: &str, kind: &str, out: &mut Vec<Violation>) {
    out.push(Violation {
        field: path.to_owned(),
        description: format!("Invalid value at '{path}' ({kind}), {value}"),
    });
}

#[cfg(test)]
mod tests {
    use super::super::fields::GENERATE_CONTENT;
    use super::*;
    use serde_json::json;

    fn message_of(body: &Value) -> Option<String> {
        let refusal = parse(body.to_string().as_bytes(), &GENERATE_CONTENT).err()?;
        assert_eq!(refusal.status, 400);
        let body: Value = serde_json::from_str(&refusal.body).unwrap();
        Some(body["error"]["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn an_unknown_field_is_refused_with_the_recorded_body() {
        let body = json!({"contents": [], "generationConfig": {"bogusField": 1}});
        let refusal = parse(body.to_string().as_bytes(), &GENERATE_CONTENT).unwrap_err();
        let recorded = json!({"error": {
            "code": 400,
            "message": "Invalid JSON payload received. Unknown name \"bogusField\" at 'generation_config': Cannot find field.",
            "status": "INVALID_ARGUMENT",
            "details": [{
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{
                    "field": "generation_config",
                    "description": "Invalid JSON payload received. Unknown name \"bogusField\" at 'generation_config': Cannot find field."
                }]
            }]
        }});
        assert_eq!(serde_json::from_str::<Value>(&refusal.body).unwrap(), recorded);
    }

    #[test]
    fn both_spellings_of_names_and_every_case_of_enums_are_taken() {
        let camel = json!({
            "contents": [{"role": "user", "parts": [
                {"inlineData": {"mimeType": "image/jpeg", "data": "_-8="}}, {"text": "?"}]}],
            "systemInstruction": {"parts": [{"text": "x"}]},
            "safetySettings": [{"category": "harm_category_harassment", "threshold": "BLOCK_NONE"}],
            "generationConfig": {
                "responseMimeType": "application/json",
                "responseJsonSchema": {"type": "object", "anything": "goes"},
                "mediaResolution": "media_resolution_high",
                "thinkingConfig": {"thinkingLevel": "low"}, "maxOutputTokens": "2048"},
            "serviceTier": "flex", "store": false
        });
        assert_eq!(message_of(&camel), None);
        let snake = json!({
            "contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": "/+8"}}]}],
            "generation_config": {"response_schema": {"type": "object", "properties":
                {"any_of": {"type": "BOOLEAN"}}, "property_ordering": ["any_of"]}}
        });
        assert_eq!(message_of(&snake), None);
    }

    #[test]
    fn wrong_values_are_named_with_their_place() {
        for (body, part) in [
            (json!({"temprature": 1}), "Unknown name \"temprature\": Cannot find field."),
            (json!({"contents": [{"parts": [{"image": "x"}]}]}), "at 'contents[0].parts[0]'"),
            (json!({"generationConfig": {"maxOutputTokens": "many"}}), "(TYPE_INT32), \"many\""),
            (
                json!({"generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_ULTRA_HIGH"}}),
                "GenerationConfig.MediaResolution), \"MEDIA_RESOLUTION_ULTRA_HIGH\"",
            ),
            (
                json!({"generationConfig": {"responseFormat": {"text": {"mimeType": "application/json"}}}}),
                "generation_config.response_format.text.mime_type",
            ),
            (
                json!({"generationConfig": {"responseFormat": {"type": "json_schema"}}}),
                "Unknown name \"type\" at 'generation_config.response_format'",
            ),
            (
                json!({"generationConfig": {"responseSchema": {"properties": {"a": {"const": 1}}}}}),
                "Unknown name \"const\" at 'generation_config.response_schema.properties[0].value'",
            ),
            (
                json!({"contents": [{"parts": [{"inlineData": {"data": "no base64!"}}]}]}),
                "Base64 decoding failed",
            ),
            (json!({"store": "no"}), "(TYPE_BOOL), \"no\""),
        ] {
            let message = message_of(&body).unwrap_or_default();
            assert!(message.contains(part), "{body}: {message}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_refused_before_anything_else() {
        let refusal = parse(b"{\"contents\": [", &GENERATE_CONTENT).unwrap_err();
        assert!(refusal.body.contains("Invalid JSON payload received."));
    }
}
