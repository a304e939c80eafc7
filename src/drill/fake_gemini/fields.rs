//! The request's fields as the service knows them: names, kinds, and the values of enums.
//!
//! Tables only; `check.rs` walks them. They mirror `GenerateContentRequest` and
//! `CountTokensRequest` of the public API (both `v1beta` and `v1` take the same fields).
//! Invariant: closed, as the service is. A field that is missing here makes a request fail, which
//! is what these tables are for: our client's mistakes are found without the service.

/// A message: its type's name as error texts give it, and its fields (camelCase).
#[derive(Debug)]
pub(super) struct Message {
    pub(super) fields: &'static [(&'static str, Kind)],
}

/// What a field holds.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    Bool,
    /// Number, or its digits as a string.
    Integer,
    Number,
    /// Base64, standard or URL-safe, padded or not.
    Bytes,
    /// Full type name for error texts, and the values.
    Enum(&'static str, &'static [&'static str]),
    /// Anything; not looked into.
    Any,
    One(&'static Message),
    List(&'static Kind),
    Map(&'static Kind),
}

const HARM_CATEGORIES: &[&str] = &[
    "HARM_CATEGORY_UNSPECIFIED",
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
    "HARM_CATEGORY_CIVIC_INTEGRITY",
    "HARM_CATEGORY_JAILBREAK",
];
const THRESHOLDS: &[&str] = &[
    "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
    "BLOCK_LOW_AND_ABOVE",
    "BLOCK_MEDIUM_AND_ABOVE",
    "BLOCK_ONLY_HIGH",
    "BLOCK_NONE",
    "OFF",
];
const RESOLUTIONS: &[&str] = &[
    "MEDIA_RESOLUTION_UNSPECIFIED",
    "MEDIA_RESOLUTION_LOW",
    "MEDIA_RESOLUTION_MEDIUM",
    "MEDIA_RESOLUTION_HIGH",
];
/// The highest exists for single parts only.
const PART_RESOLUTIONS: &[&str] = &[
    "MEDIA_RESOLUTION_UNSPECIFIED",
    "MEDIA_RESOLUTION_LOW",
    "MEDIA_RESOLUTION_MEDIUM",
    "MEDIA_RESOLUTION_HIGH",
    "MEDIA_RESOLUTION_ULTRA_HIGH",
];
const THINKING_LEVELS: &[&str] =
    &["THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH"];
const SERVICE_TIERS: &[&str] = &["SERVICE_TIER_UNSPECIFIED", "STANDARD", "FLEX", "PRIORITY"];
const MODALITIES: &[&str] = &["MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO"];
const SCHEMA_TYPES: &[&str] =
    &["TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"];
const TEXT_MIME_TYPES: &[&str] = &["MIME_TYPE_UNSPECIFIED", "TEXT_PLAIN", "APPLICATION_JSON"];

pub(super) static GENERATE_CONTENT: Message = Message {
    fields: &[
        ("model", Kind::Text),
        ("contents", Kind::List(&Kind::One(&CONTENT))),
        ("systemInstruction", Kind::One(&CONTENT)),
        ("tools", Kind::Any),
        ("toolConfig", Kind::Any),
        ("safetySettings", Kind::List(&Kind::One(&SAFETY_SETTING))),
        ("generationConfig", Kind::One(&GENERATION_CONFIG)),
        ("cachedContent", Kind::Text),
        ("serviceTier", Kind::Enum("ServiceTier", SERVICE_TIERS)),
        ("store", Kind::Bool),
    ],
};

pub(super) static COUNT_TOKENS: Message = Message {
    fields: &[
        ("contents", Kind::List(&Kind::One(&CONTENT))),
        ("generateContentRequest", Kind::One(&GENERATE_CONTENT)),
    ],
};

static CONTENT: Message =
    Message { fields: &[("parts", Kind::List(&Kind::One(&PART))), ("role", Kind::Text)] };

static PART: Message = Message {
    fields: &[
        ("text", Kind::Text),
        ("inlineData", Kind::One(&BLOB)),
        ("fileData", Kind::One(&FILE_DATA)),
        ("functionCall", Kind::Any),
        ("functionResponse", Kind::Any),
        ("executableCode", Kind::Any),
        ("codeExecutionResult", Kind::Any),
        ("thought", Kind::Bool),
        ("thoughtSignature", Kind::Bytes),
        ("videoMetadata", Kind::Any),
        ("mediaResolution", Kind::One(&PART_RESOLUTION)),
        ("partMetadata", Kind::Any),
    ],
};

static BLOB: Message = Message {
    fields: &[("mimeType", Kind::Text), ("data", Kind::Bytes), ("displayName", Kind::Text)],
};

static FILE_DATA: Message = Message {
    fields: &[("mimeType", Kind::Text), ("fileUri", Kind::Text), ("displayName", Kind::Text)],
};

static PART_RESOLUTION: Message = Message {
    fields: &[
        ("level", Kind::Enum("PartMediaResolution.Level", PART_RESOLUTIONS)),
        ("numTokens", Kind::Integer),
    ],
};

static SAFETY_SETTING: Message = Message {
    fields: &[
        ("category", Kind::Enum("HarmCategory", HARM_CATEGORIES)),
        ("threshold", Kind::Enum("SafetySetting.HarmBlockThreshold", THRESHOLDS)),
    ],
};

static GENERATION_CONFIG: Message = Message {
    fields: &[
        ("candidateCount", Kind::Integer),
        ("stopSequences", Kind::List(&Kind::Text)),
        ("maxOutputTokens", Kind::Integer),
        ("temperature", Kind::Number),
        ("topP", Kind::Number),
        ("topK", Kind::Number),
        ("seed", Kind::Integer),
        ("responseMimeType", Kind::Text),
        ("responseSchema", Kind::One(&SCHEMA)),
        ("responseJsonSchema", Kind::Any),
        ("responseFormat", Kind::One(&RESPONSE_FORMAT)),
        ("presencePenalty", Kind::Number),
        ("frequencyPenalty", Kind::Number),
        ("responseLogprobs", Kind::Bool),
        ("logprobs", Kind::Integer),
        ("enableEnhancedCivicAnswers", Kind::Bool),
        ("responseModalities", Kind::List(&Kind::Enum("GenerationConfig.Modality", MODALITIES))),
        ("speechConfig", Kind::Any),
        ("imageConfig", Kind::Any),
        ("thinkingConfig", Kind::One(&THINKING_CONFIG)),
        ("mediaResolution", Kind::Enum("GenerationConfig.MediaResolution", RESOLUTIONS)),
    ],
};

static THINKING_CONFIG: Message = Message {
    fields: &[
        ("includeThoughts", Kind::Bool),
        ("thinkingBudget", Kind::Integer),
        ("thinkingLevel", Kind::Enum("ThinkingConfig.ThinkingLevel", THINKING_LEVELS)),
    ],
};

static RESPONSE_FORMAT: Message = Message {
    fields: &[("text", Kind::One(&TEXT_FORMAT)), ("image", Kind::Any), ("audio", Kind::Any)],
};

static TEXT_FORMAT: Message = Message {
    fields: &[
        ("mimeType", Kind::Enum("ResponseFormat.TextFormat.MimeType", TEXT_MIME_TYPES)),
        ("schema", Kind::Any),
    ],
};

static SCHEMA: Message = Message {
    fields: &[
        ("type", Kind::Enum("Type", SCHEMA_TYPES)),
        ("format", Kind::Text),
        ("title", Kind::Text),
        ("description", Kind::Text),
        ("nullable", Kind::Bool),
        ("enum", Kind::List(&Kind::Text)),
        ("items", Kind::One(&SCHEMA)),
        ("minItems", Kind::Integer),
        ("maxItems", Kind::Integer),
        ("properties", Kind::Map(&Kind::One(&SCHEMA))),
        ("required", Kind::List(&Kind::Text)),
        ("minProperties", Kind::Integer),
        ("maxProperties", Kind::Integer),
        ("minimum", Kind::Number),
        ("maximum", Kind::Number),
        ("minLength", Kind::Integer),
        ("maxLength", Kind::Integer),
        ("pattern", Kind::Text),
        ("example", Kind::Any),
        ("anyOf", Kind::List(&Kind::One(&SCHEMA))),
        ("propertyOrdering", Kind::List(&Kind::Text)),
        ("default", Kind::Any),
    ],
};
