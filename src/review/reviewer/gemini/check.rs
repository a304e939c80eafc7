//! Checks of keys and model that cost nothing.
//!
//! `lookout doctor` calls them. They do not prove that there is quota or credit.
//! Invariant: a network error, an overload or a limit never makes a key "invalid".

use crate::review::reviewer::gemini::call::{self, Called};
use crate::review::reviewer::gemini::classifier::{Kind, Misunderstood, classify};
use crate::review::reviewer::gemini::client::Gemini;
use crate::review::reviewer::gemini::wire::Model;

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCheck {
    /// The project it belongs to, as the user calls it.
    pub project: String,
    /// `…` and its last four characters.
    pub key: String,
    /// What came of it.
    pub finding: Finding,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Key and model are good.
    Good {
        /// As Google calls the model.
        display_name: Option<String>,
    },
    /// The key or its project is refused.
    KeyRefused {
        /// For people.
        says: String,
    },
    /// The key may be good, but the model, its version or the address is not.
    ModelRefused {
        /// For people.
        says: String,
    },
    /// Nothing was learned: network, overload, limit.
    Unknown {
        /// For people.
        says: String,
    },
}

impl Gemini {
    /// Asks the service about the model with every key: proves key and model in one call each.
    pub async fn check_key_and_model(&self) -> Vec<KeyCheck> {
        let mut checks = Vec::new();
        for project in &self.settings.projects {
            for key in &project.keys {
                let request = self.http.get(self.model_url());
                let called = call::send(request, key, self.settings.attempt_timeout).await;
                checks.push(KeyCheck {
                    project: project.name.clone(),
                    key: key.hint(),
                    finding: self.finding(called),
                });
            }
        }
        checks
    }

    fn finding(&self, called: Called) -> Finding {
        let answered = match called {
            Called::Answered(answered) => answered,
            Called::Failed(_, detail) => {
                let says = format!("Gemini could not be reached ({detail})");
                return Finding::Unknown { says: self.redactor.redact(&says).into_owned() };
            }
            Called::UnusableKey => {
                let says = "it holds characters that no API key has".to_owned();
                return Finding::KeyRefused { says };
            }
        };
        if answered.status == 200 {
            return self.model_found(&answered.body);
        }
        let class = classify(answered.status, answered.retry_after.as_deref(), &answered.body);
        let says = self.redactor.redact(&class.says).into_owned();
        match class.kind {
            Kind::KeyRejected | Kind::ProjectRejected | Kind::OutOfCredit | Kind::Location => {
                Finding::KeyRefused { says }
            }
            Kind::NoSuchModel
            | Kind::ModelRetired
            | Kind::Misunderstood(
                Misunderstood::SchemaForm | Misunderstood::Thinking | Misunderstood::Other,
            )
            | Kind::Picture(_) => Finding::ModelRefused { says },
            Kind::Overloaded(_) | Kind::Quota(_) => Finding::Unknown { says },
        }
    }

    fn model_found(&self, body: &[u8]) -> Finding {
        let Ok(model) = serde_json::from_slice::<Model>(body) else {
            let says = "something answers that is not Gemini: is [reviewer] base_url right?".into();
            return Finding::ModelRefused { says };
        };
        let methods = model.supported_generation_methods.unwrap_or_default();
        if !methods.is_empty() && !methods.iter().any(|method| method == "generateContent") {
            let says = format!(
                "the model {} can't review pictures (it supports {})",
                self.settings.model,
                methods.join(", ")
            );
            return Finding::ModelRefused { says };
        }
        Finding::Good { display_name: model.display_name }
    }
}
