//! The models that the stand-in pretends to serve, with the facts of each that a client may meet.
//!
//! Invariant: every name is the service's own, and so is which version of the API knows it.

use serde_json::{Value, json};

/// A model as the service lists it.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: &'static str,
    display: &'static str,
    /// Known to `v1` too; previews and moving aliases are not.
    on_v1: bool,
    /// `MINIMAL` thinking is taken.
    pub(super) thinks_minimally: bool,
    /// Tokens of a picture at LOW, MEDIUM and HIGH, or one number whatever is asked for.
    pub(super) picture_tokens: [u32; 3],
}

/// Tokens of a picture on Gemini 3 and later.
const BUDGETS: [u32; 3] = [280, 560, 1120];

const fn model(name: &'static str, display: &'static str) -> Model {
    Model { name, display, on_v1: true, thinks_minimally: true, picture_tokens: BUDGETS }
}

pub(super) static MODELS: [Model; 10] = [
    model("gemini-3.5-flash-lite", "Gemini 3.5 Flash-Lite"),
    model("gemini-3.1-flash-lite", "Gemini 3.1 Flash-Lite"),
    model("gemini-3.5-flash", "Gemini 3.5 Flash"),
    Model { thinks_minimally: false, ..model("gemini-3.6-flash", "Gemini 3.6 Flash") },
    Model { thinks_minimally: false, ..model("gemini-3.7-flash", "Gemini 3.7 Flash") },
    Model { thinks_minimally: false, ..model("gemini-3.8-flash", "Gemini 3.8 Flash") },
    Model { thinks_minimally: false, ..model("gemini-4-argon", "Gemini 4 Argon") },
    Model {
        picture_tokens: [258, 258, 258],
        ..model("gemini-2.5-flash-lite", "Gemini 2.5 Flash-Lite")
    },
    Model { on_v1: false, ..model("gemini-3-flash-preview", "Gemini 3 Flash Preview") },
    Model { on_v1: false, ..model("gemini-flash-lite-latest", "Gemini Flash-Lite Latest") },
];

/// The model of this name, if this version of the API knows it.
pub(super) fn find(name: &str, version: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name && (version == "v1beta" || model.on_v1))
}

/// All models of this version.
pub(super) fn known_to(version: &str) -> impl Iterator<Item = &'static Model> {
    MODELS.iter().filter(move |model| version == "v1beta" || model.on_v1)
}

impl Model {
    /// As `models.get` and `models.list` show it.
    pub(super) fn describe(&self) -> Value {
        json!({
            "name": format!("models/{}", self.name),
            "version": "001",
            "displayName": self.display,
            "description": "Served by Lookout's stand-in: no model is behind it.",
            "inputTokenLimit": 1_048_576,
            "outputTokenLimit": 65_536,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
            "temperature": 1,
            "topP": 0.95,
            "topK": 64,
            "maxTemperature": 2,
            "thinking": true,
        })
    }
}
