//! The bodies of `generateContent` and its relatives, as they are on the wire.
//!
//! Both directions serialise and parse, since the stand-in speaks the same language from the
//! other side. Request types refuse unknown fields, as the service does; answer types ignore them
//! and have every field optional, since the service leaves out and adds what it likes.
//! Invariant: a value that is new to us (a finish reason, a category) never fails a parse.

pub mod error;
pub mod request;
pub mod response;

use serde::{Deserialize, Serialize};

/// An enum that keeps what it does not know, so that tomorrow's value is no parse error.
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// A value this build does not know.
            Other(String),
        }

        impl $name {
            /// As on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<String> for $name {
            // The service takes and means these in any case.
            fn from(text: String) -> Self {
                match text.to_ascii_uppercase().as_str() {
                    $($text => Self::$variant,)+
                    _ => Self::Other(text),
                }
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                match value {
                    $name::Other(text) => text,
                    known => known.as_str().to_owned(),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

open_enum!(
    /// Why the model stopped.
    FinishReason {
        /// It was done.
        Stop = "STOP",
        /// `maxOutputTokens`, thoughts included.
        MaxTokens = "MAX_TOKENS",
        /// Filtered.
        Safety = "SAFETY",
        /// Too close to something it was trained on.
        Recitation = "RECITATION",
        /// Language not supported.
        Language = "LANGUAGE",
        /// Not said.
        Unsaid = "OTHER",
        /// Forbidden words.
        Blocklist = "BLOCKLIST",
        /// Against the use policy; never send it again.
        ProhibitedContent = "PROHIBITED_CONTENT",
        /// Personal data.
        Spii = "SPII",
        /// Broken call of a tool.
        MalformedFunctionCall = "MALFORMED_FUNCTION_CALL",
        /// The picture was filtered.
        ImageSafety = "IMAGE_SAFETY",
        /// The picture is against the use policy.
        ImageProhibitedContent = "IMAGE_PROHIBITED_CONTENT",
        /// The service lost its own answer.
        MalformedResponse = "MALFORMED_RESPONSE",
        /// Handed to somebody.
        Escalation = "ESCALATION",
        /// The account is limited under the use policy.
        PupLimitedDisabled = "PUP_LIMITED_DISABLED",
    }
);

open_enum!(
    /// Why a request was not even looked at.
    BlockReason {
        /// Filtered.
        Safety = "SAFETY",
        /// Not said.
        Unsaid = "OTHER",
        /// Forbidden words.
        Blocklist = "BLOCKLIST",
        /// Against the use policy; never send it again.
        ProhibitedContent = "PROHIBITED_CONTENT",
        /// The picture was filtered.
        ImageSafety = "IMAGE_SAFETY",
    }
);

open_enum!(
    /// What the filter looks for.
    HarmCategory {
        /// Harassment.
        Harassment = "HARM_CATEGORY_HARASSMENT",
        /// Hate speech.
        HateSpeech = "HARM_CATEGORY_HATE_SPEECH",
        /// Sexually explicit content.
        SexuallyExplicit = "HARM_CATEGORY_SEXUALLY_EXPLICIT",
        /// Dangerous content.
        DangerousContent = "HARM_CATEGORY_DANGEROUS_CONTENT",
    }
);

open_enum!(
    /// How sure the filter is.
    HarmProbability {
        /// Hardly.
        Negligible = "NEGLIGIBLE",
        /// A little.
        Low = "LOW",
        /// Rather.
        Medium = "MEDIUM",
        /// Very.
        High = "HIGH",
    }
);

open_enum!(
    /// From where on the filter blocks.
    HarmThreshold {
        /// From low on.
        LowAndAbove = "BLOCK_LOW_AND_ABOVE",
        /// From medium on.
        MediumAndAbove = "BLOCK_MEDIUM_AND_ABOVE",
        /// High only.
        OnlyHigh = "BLOCK_ONLY_HIGH",
        /// Never, but it still rates.
        None = "BLOCK_NONE",
        /// Switched off, no ratings.
        Off = "OFF",
    }
);

open_enum!(
    /// Tokens spent on a picture.
    MediaResolution {
        /// 280 tokens on Gemini 3.
        Low = "MEDIA_RESOLUTION_LOW",
        /// 560.
        Medium = "MEDIA_RESOLUTION_MEDIUM",
        /// 1120.
        High = "MEDIA_RESOLUTION_HIGH",
    }
);

open_enum!(
    /// How long the model thinks.
    ThinkingLevel {
        /// As little as it can.
        Minimal = "MINIMAL",
        /// Little.
        Low = "LOW",
        /// Some.
        Medium = "MEDIUM",
        /// Much.
        High = "HIGH",
    }
);

/// A model, as `GET /models/{model}` tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// `models/…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Tokens in at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_token_limit: Option<u64>,
    /// Tokens out at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_token_limit: Option<u64>,
    /// Must hold `generateContent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supported_generation_methods: Option<Vec<String>>,
    /// It can think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<bool>,
}

/// A page of models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelList {
    /// The models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<Model>>,
    /// More of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::error::ErrorEnvelope;
    use super::request::GenerateContentRequest;
    use super::response::GenerateContentResponse;
    use super::*;

    #[test]
    fn a_value_that_is_new_to_us_is_kept_as_it_is() {
        let reason: FinishReason = serde_json::from_str("\"NEW_THING\"").unwrap();
        assert_eq!(reason, FinishReason::Other("NEW_THING".into()));
        assert_eq!(serde_json::to_string(&reason).unwrap(), "\"NEW_THING\"");
        assert_eq!(ThinkingLevel::from("low".to_owned()), ThinkingLevel::Low);
        assert_eq!(FinishReason::from("OTHER".to_owned()), FinishReason::Unsaid);
    }

    #[test]
    fn an_unknown_field_of_a_request_is_refused_and_of_an_answer_ignored() {
        let wrong = r#"{"contents":[],"generationConfig":{"bogusField":1}}"#;
        let error = serde_json::from_str::<GenerateContentRequest>(wrong).unwrap_err();
        assert!(error.to_string().contains("bogusField"), "{error}");
        let new = r#"{"candidates":[],"bogusField":1,"modelStatus":{}}"#;
        assert!(serde_json::from_str::<GenerateContentResponse>(new).is_ok());
    }

    #[test]
    fn a_code_may_be_a_word() {
        let body = r#"{"error":{"code":"invalid_request","message":"no"}}"#;
        let envelope: ErrorEnvelope = serde_json::from_str(body).unwrap();
        assert_eq!(envelope.error.code, Some(error::ErrorCode::Word("invalid_request".into())));
    }
}
