//! Errors that are no quota: request, key, project, model, and the service's own failures.
//!
//! Invariant: `ErrorInfo.reason` is asked before words are, and words are asked where it is missing.

use super::body::{details, in_its_words, message, reason};
use super::{Billing, InvalidRequest, Kind, Retry};
use crate::review::reviewer::gemini::wire::error::ApiError;

pub(super) fn bad_request(error: &ApiError) -> (Kind, String) {
    let message = message(error);
    let lower = message.to_lowercase();
    if reason(error) == Some("API_KEY_INVALID") || names_the_key(&lower) {
        let message = if lower.contains("expired") {
            "the API key has expired: make a new one at https://aistudio.google.com/apikey"
        } else {
            "the API key is not valid (API_KEY_INVALID): is it copied whole, and not deleted?"
        };
        return (Kind::KeyRejected, message.into());
    }
    if error.status.as_deref() == Some("FAILED_PRECONDITION") || lower.contains("user location") {
        let message = format!(
            "Gemini may not be used from here with this project's plan{}",
            in_its_words(error)
        );
        return (Kind::Location, message);
    }
    if lower.contains("multiple authentication credentials") {
        let message = "Gemini received two keys in one request: does a proxy add one?".to_owned();
        return (Kind::InvalidRequest(InvalidRequest::Other), message);
    }
    if lower.contains("model") && says_that_it_is_gone(&lower) {
        return (Kind::NoSuchModel, format!("the model is retired{}", in_its_words(error)));
    }
    if lower.contains("token count exceeds") {
        let message = format!("the request is too long for the model{}", in_its_words(error));
        return (Kind::Picture(Retry::Never), message);
    }
    let names_a_field = details(error).any(|d| d.field_violations.is_some())
        || lower.contains("unknown name")
        || lower.contains("invalid json payload")
        || lower.contains("invalid value at");
    let form = [
        "response_json_schema",
        "response_mime_type",
        "response_format",
        "responsejsonschema",
        "responsemimetype",
        "responseformat",
    ];
    if form.iter().any(|name| lower.contains(name)) {
        let message = format!("Gemini does not take this form of schema{}", in_its_words(error));
        return (Kind::InvalidRequest(InvalidRequest::SchemaForm), message);
    }
    if lower.contains("thinking") {
        let message = format!("the model does not take this thinking level{}", in_its_words(error));
        return (Kind::InvalidRequest(InvalidRequest::Thinking), message);
    }
    if names_a_field {
        let message = format!(
            "Gemini does not understand Lookout's request{}: this is an error of Lookout, \
             please report it",
            in_its_words(error)
        );
        return (Kind::InvalidRequest(InvalidRequest::Other), message);
    }
    let again = if lower.contains("unable to process") { Retry::Once } else { Retry::Never };
    (Kind::Picture(again), format!("Gemini can't read this picture{}", in_its_words(error)))
}

/// The service's words for a key that is wrong or too old; a proxy may pass them on without details.
fn names_the_key(lower: &str) -> bool {
    ["api key not valid", "api key expired", "pass a valid api key", "renew the api key"]
        .iter()
        .any(|words| lower.contains(words))
}

pub(super) fn unauthenticated(error: &ApiError) -> String {
    if reason(error) == Some("ACCESS_TOKEN_TYPE_UNSUPPORTED") {
        return "the API key is bound to a service account that does not accept it \
                (ACCESS_TOKEN_TYPE_UNSUPPORTED): make a new key"
            .into();
    }
    format!("Gemini does not accept the API key{}", in_its_words(error))
}

pub(super) fn forbidden(error: &ApiError) -> (Kind, String) {
    let lower = message(error).to_lowercase();
    if lower.contains("leaked") {
        let message = "Google has blocked this API key because it was found published: make a new \
                    one, and keep it out of code and logs";
        return (Kind::KeyRejected, message.into());
    }
    if lower.contains("unregistered callers") {
        return (Kind::KeyRejected, "no API key arrived at Gemini: does a proxy remove it?".into());
    }
    if lower.contains("denied access") {
        let message = "Google has denied the project access to Gemini: ask Google's support";
        return (Kind::ProjectRejected, message.into());
    }
    let message = match reason(error) {
        Some("API_KEY_SERVICE_BLOCKED") => {
            let message = "the API key is restricted and may not call the Generative Language API: \
                        allow it in the key's restrictions";
            return (Kind::KeyRejected, message.into());
        }
        Some("SERVICE_DISABLED") => {
            "the Generative Language API is not switched on in the project: enable it in the \
             Google Cloud console, and wait a few minutes"
                .to_owned()
        }
        Some("CONSUMER_SUSPENDED") => {
            "Google has suspended the project: look into the Google Cloud console".to_owned()
        }
        Some(_) | None => format!("Gemini refuses the API key (403){}", in_its_words(error)),
    };
    let kind = match reason(error) {
        Some("SERVICE_DISABLED" | "CONSUMER_SUSPENDED") => Kind::ProjectRejected,
        Some(_) | None => Kind::KeyRejected,
    };
    (kind, message)
}

pub(super) fn not_found(error: &ApiError) -> (Kind, String) {
    if message(error).to_lowercase().contains("no longer available to new users") {
        let message = format!("the model is not open to this project{}", in_its_words(error));
        return (Kind::ModelRetired, message);
    }
    let message = if error.message.is_some() {
        format!("Gemini has no such model{}", in_its_words(error))
    } else {
        "404 came where Gemini should be: is [reviewer] base_url right?".to_owned()
    };
    (Kind::NoSuchModel, message)
}

/// How the service says that a model has been switched off, where it does not simply say 404.
fn says_that_it_is_gone(lower: &str) -> bool {
    ["no longer available", "no longer supported", "has been retired", "has been shut down"]
        .iter()
        .any(|words| lower.contains(words))
}

pub(super) fn overloaded(status: u16, error: &ApiError) -> (Kind, String) {
    // The model may have worked until somebody lost backoff.
    let billing = match status {
        502 | 504 | 499 => Billing::Possible,
        _ => Billing::No,
    };
    (Kind::Overloaded(billing), format!("Gemini answered {status}{}", in_its_words(error)))
}
