//! Checks of keys and model: one that costs nothing, and one that sends a small real request.
//!
//! `lookout doctor` calls them. Only the real request shows whether there is quota and credit, and
//! whether the model still answers.
//! Invariant: a network error, an overload or a limit never makes a key "invalid".

use crate::review::reviewer::Refusal;
use crate::review::reviewer::gemini::call::{self, Called};
use crate::review::reviewer::gemini::classifier::{InvalidRequest, Kind, classify};
use crate::review::reviewer::gemini::client::Gemini;
use crate::review::reviewer::gemini::refusal::{Concerned, refusal};
use crate::review::reviewer::gemini::request;
use crate::review::reviewer::gemini::wire::Model;
use crate::review::reviewer::gemini::wire::response::GenerateContentResponse;

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
        message: String,
    },
    /// The key may be good, but the model, its version or the address is not.
    ModelRefused {
        /// For people.
        message: String,
    },
    /// A real request is refused until a person acts: spend cap, credit, no quota.
    Refused(Refusal),
    /// Nothing was learned: network, overload, limit.
    Unknown {
        /// For people.
        message: String,
    },
}

impl Gemini {
    /// Asks the service about the model with every key: proves key and model in one call each.
    pub async fn check_key_and_model(&self) -> Vec<KeyCheck> {
        let mut checks = Vec::new();
        for project in &self.session.settings.projects {
            for key in &project.keys {
                let request = self.session.http.get(self.session.model_url());
                let called = call::send(request, key, self.session.settings.attempt_timeout).await;
                checks.push(KeyCheck {
                    project: project.name.clone(),
                    key: key.hint(),
                    finding: self.finding(called, &project.name),
                });
            }
        }
        checks
    }

    /// Sends one small request a project, with its first key: a few tokens, no image. Proves that
    /// there is quota and credit, and that the model answers.
    pub async fn try_one_request(&self) -> Vec<KeyCheck> {
        let mut checks = Vec::new();
        for project in &self.session.settings.projects {
            let Some(key) = project.keys.first() else { continue };
            let request =
                self.session.http.post(format!("{}:generateContent", self.session.model_url()));
            let limit = self.session.settings.attempt_timeout;
            let called = call::post(request, key, request::ping(), limit, None).await;
            let finding = match called {
                Called::Answered(answered) if answered.status == 200 => {
                    small_answer(&answered.body)
                }
                called @ (Called::Answered(_) | Called::Failed(..) | Called::UnusableKey) => {
                    self.finding(called, &project.name)
                }
            };
            checks.push(KeyCheck { project: project.name.clone(), key: key.hint(), finding });
        }
        checks
    }

    fn finding(&self, called: Called, project: &str) -> Finding {
        let answered = match called {
            Called::Answered(answered) => answered,
            Called::Failed(_, detail) => {
                let message = format!("Gemini could not be reached ({detail})");
                return Finding::Unknown {
                    message: self.session.redactor.redact(&message).into_owned(),
                };
            }
            Called::UnusableKey => {
                let message = "it holds characters that no API key has".to_owned();
                return Finding::KeyRefused { message };
            }
        };
        if answered.status == 200 {
            return self.model_found(&answered.body);
        }
        let class = classify(answered.status, answered.retry_after.as_deref(), &answered.body);
        let message = self.session.redactor.redact(&class.message).into_owned();
        match class.kind {
            Kind::KeyRejected | Kind::ProjectRejected | Kind::Location => {
                Finding::KeyRefused { message }
            }
            Kind::OutOfCredit | Kind::SpendCap | Kind::NoQuota => {
                let concerned = Concerned { project: project.to_owned(), key: None };
                let (model, now) = (&self.session.settings.model, self.session.clock.now());
                Finding::Refused(refusal(class.kind, &concerned, model, &message, now))
            }
            Kind::NoSuchModel
            | Kind::ModelRetired
            | Kind::InvalidRequest(
                InvalidRequest::SchemaForm | InvalidRequest::Thinking | InvalidRequest::Other,
            )
            | Kind::Picture(_) => Finding::ModelRefused { message },
            Kind::Overloaded(_) | Kind::Quota(_) => Finding::Unknown { message },
        }
    }

    fn model_found(&self, body: &[u8]) -> Finding {
        let Ok(model) = serde_json::from_slice::<Model>(body) else {
            let message =
                "something answers that is not Gemini: is [reviewer] base_url right?".into();
            return Finding::ModelRefused { message };
        };
        let methods = model.supported_generation_methods.unwrap_or_default();
        if !methods.is_empty() && !methods.iter().any(|method| method == "generateContent") {
            let message = format!(
                "the model {} can't review pictures (it supports {})",
                self.session.settings.model,
                methods.join(", ")
            );
            return Finding::ModelRefused { message };
        }
        Finding::Good { display_name: model.display_name }
    }
}

/// Any answer of the model is one, however short: that it has a cap is ours.
fn small_answer(body: &[u8]) -> Finding {
    match serde_json::from_slice::<GenerateContentResponse>(body) {
        Ok(response) if response.candidates.is_some() || response.prompt_feedback.is_some() => {
            Finding::Good { display_name: None }
        }
        Ok(_) | Err(_) => Finding::ModelRefused {
            message: "what answers the request is not Gemini: is [reviewer] base_url right?".into(),
        },
    }
}
