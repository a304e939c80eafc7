//! What is sent to `generateContent`.
//!
//! More than we send ourselves is here, since the stand-in must take what other clients send.
//! Invariant: a field that the service does not know is refused, as the service does.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::review::reviewer::gemini::wire::{
    HarmCategory, HarmThreshold, MediaResolution, ThinkingLevel,
};

/// The body of `generateContent`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GenerateContentRequest {
    /// The rules.
    #[serde(default, alias = "system_instruction", skip_serializing_if = "Option::is_none")]
    pub system_instruction: Option<RequestContent>,
    /// The conversation: one turn of ours.
    pub contents: Vec<RequestContent>,
    /// The filters, always said explicitly.
    #[serde(default, alias = "safety_settings", skip_serializing_if = "Vec::is_empty")]
    pub safety_settings: Vec<SafetySetting>,
    /// How to answer.
    #[serde(default, alias = "generation_config", skip_serializing_if = "Option::is_none")]
    pub generation_config: Option<GenerationConfig>,
    /// `flex`, `standard`, `priority`; absent: standard.
    #[serde(default, alias = "service_tier", skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// `false`: the request is not logged, whatever the project message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<bool>,
    /// Not used by us; a client may send them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Value>,
    /// As `tools`.
    #[serde(default, alias = "tool_config", skip_serializing_if = "Option::is_none")]
    pub tool_config: Option<Value>,
    /// As `tools`.
    #[serde(default, alias = "cached_content", skip_serializing_if = "Option::is_none")]
    pub cached_content: Option<String>,
}

/// One turn that we send.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestContent {
    /// `user`; absent for the rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Picture first, text after it.
    pub parts: Vec<RequestPart>,
}

/// Text or a picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestPart {
    /// Text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A picture.
    #[serde(default, alias = "inline_data", skip_serializing_if = "Option::is_none")]
    pub inline_data: Option<InlineData>,
    /// Resolution of this part alone; not used by us.
    #[serde(default, alias = "media_resolution", skip_serializing_if = "Option::is_none")]
    pub media_resolution: Option<Value>,
    /// A client that repeats a model's turn sends these back.
    #[serde(default, alias = "thought_signature", skip_serializing_if = "Option::is_none")]
    pub thought_signature: Option<String>,
    /// As `thought_signature`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thought: Option<bool>,
}

/// Bytes in a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InlineData {
    /// `image/jpeg`; the service refuses `image/jpg`.
    #[serde(alias = "mime_type")]
    pub mime_type: String,
    /// Base64, standard or URL-safe.
    pub data: String,
    /// Not used by us.
    #[serde(default, alias = "display_name", skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// One filter's setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SafetySetting {
    /// Which filter.
    pub category: HarmCategory,
    /// From where on it blocks.
    pub threshold: HarmThreshold,
}

/// How to answer. `temperature`, `topP` and `topK` are deprecated: parsed, never sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GenerationConfig {
    /// `application/json`.
    #[serde(default, alias = "response_mime_type", skip_serializing_if = "Option::is_none")]
    pub response_mime_type: Option<String>,
    /// JSON Schema of the answer.
    #[serde(default, alias = "response_json_schema", skip_serializing_if = "Option::is_none")]
    pub response_json_schema: Option<Value>,
    /// The older OpenAPI form; not used by us.
    #[serde(default, alias = "response_schema", skip_serializing_if = "Option::is_none")]
    pub response_schema: Option<Value>,
    /// The newer form; never together with the other two.
    #[serde(default, alias = "response_format", skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// Tokens spent on a picture.
    #[serde(default, alias = "media_resolution", skip_serializing_if = "Option::is_none")]
    pub media_resolution: Option<MediaResolution>,
    /// How long to think.
    #[serde(default, alias = "thinking_config", skip_serializing_if = "Option::is_none")]
    pub thinking_config: Option<ThinkingConfig>,
    /// Cap on answer and thoughts together.
    #[serde(default, alias = "max_output_tokens", skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// Deprecated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Deprecated.
    #[serde(default, alias = "top_p", skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Deprecated.
    #[serde(default, alias = "top_k", skip_serializing_if = "Option::is_none")]
    pub top_k: Option<f64>,
    /// Not used by us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Unsupported on Gemini 3.
    #[serde(default, alias = "candidate_count", skip_serializing_if = "Option::is_none")]
    pub candidate_count: Option<u32>,
    /// Not used by us.
    #[serde(default, alias = "stop_sequences", skip_serializing_if = "Option::is_none")]
    pub stop_sequences: Option<Vec<String>>,
    /// Not used by us.
    #[serde(default, alias = "response_modalities", skip_serializing_if = "Option::is_none")]
    pub response_modalities: Option<Vec<String>>,
}

/// The newer way to ask for JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResponseFormat {
    /// Text that is JSON.
    pub text: TextFormat,
}

/// What the text must be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TextFormat {
    /// `APPLICATION_JSON`; `application/json`, as the guide prints it, is refused.
    #[serde(alias = "mime_type")]
    pub mime_type: String,
    /// JSON Schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

/// How long to think.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThinkingConfig {
    /// Gemini 3 and later.
    #[serde(default, alias = "thinking_level", skip_serializing_if = "Option::is_none")]
    pub thinking_level: Option<ThinkingLevel>,
    /// Gemini 2.5.
    #[serde(default, alias = "thinking_budget", skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<i64>,
    /// Not used by us.
    #[serde(default, alias = "include_thoughts", skip_serializing_if = "Option::is_none")]
    pub include_thoughts: Option<bool>,
}
