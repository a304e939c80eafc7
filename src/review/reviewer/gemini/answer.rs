//! What a body of status 200 holds: an answer, a block, or something that can't be used.
//!
//! Pure. What follows from it (another attempt, a larger cap) is `review_try.rs`'s business.
//! Invariant: [`Reading::Answer`] only if the model says that it finished and its text is the
//! whole answer object and nothing else. Nothing is guessed, completed or repaired.

use crate::review::reviewer::Answer;
use crate::review::reviewer::gemini::wire::error::ErrorEnvelope;
use crate::review::reviewer::gemini::wire::response::{
    Candidate, GenerateContentResponse, SafetyRating,
};
use crate::review::reviewer::gemini::wire::{FinishReason, HarmCategory, HarmProbability};
use crate::text;

/// Characters of the sentence that goes into the row: three sentences are some hundred.
const MAX_DETAILS: usize = 2_000;
/// Characters of a name (a model's version, a reason that is new to us).
const MAX_NAME: usize = 80;
/// Characters of the model's words that are kept in a reason.
const MAX_QUOTED: usize = 200;
/// Characters of somebody else's page: enough to tell a login from a maintenance, before the part
/// where it may carry a session.
const MAX_QUOTED_OF_PAGE: usize = 60;

/// What a body of status 200 holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// The whole, valid answer object.
    Answer(Answer),
    /// JSON that is not the answer object: a failed try.
    Broken {
        /// For people.
        reason: String,
        /// For the model, with the next try.
        correction: String,
    },
    /// Words instead of JSON: as a rule the model refuses. Worth one more attempt.
    Prose {
        /// For people.
        reason: String,
    },
    /// The model says that it is done, and says nothing. Of the model, not of the picture.
    Empty {
        /// For people.
        reason: String,
    },
    /// The cap on tokens was reached: never read.
    Truncated,
    /// Blocked; final.
    Blocked {
        /// `SAFETY`, `PROHIBITED_CONTENT`, …
        reason: String,
        /// Blocked for, or rated HIGH as, sexually explicit.
        sexually_explicit: bool,
    },
    /// The service lost the answer or stopped for a reason of its own: worth another attempt.
    Stopped {
        /// For people.
        reason: String,
    },
    /// The account is limited under the use policy: the project must not be used again.
    AccountLimited,
    /// Not from Gemini: the page of a proxy or of a gateway under maintenance, or nothing at all. It
    /// says nothing of the picture.
    Foreign {
        /// For people.
        reason: String,
    },
}

/// What one call cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens; `None`: not told.
    pub tokens_in: Option<u64>,
    /// Output tokens with thoughts.
    pub tokens_out: u64,
    /// Who answered.
    pub model_version: Option<String>,
    /// The tier that was billed; absent: standard.
    pub tier: Option<String>,
}

/// Reads a body of status 200.
#[must_use]
pub fn read(body: &[u8]) -> (Reading, Usage) {
    if let Some(reason) = foreign(body) {
        return (Reading::Foreign { reason }, Usage::default());
    }
    let response = match parse(body) {
        Ok(response) => response,
        Err(error) => {
            let reason = format!("Gemini's reply is not what its interface describes ({error})");
            return (Reading::Stopped { reason }, Usage::default());
        }
    };
    let metadata = response.usage_metadata.as_ref();
    let usage = Usage {
        tokens_in: metadata.and_then(|m| m.prompt_token_count),
        tokens_out: metadata.map_or(0, |m| m.billed_output()),
        model_version: response.model_version.as_deref().map(|name| text::line(name, MAX_NAME)),
        tier: metadata.and_then(|m| m.service_tier.clone()),
    };
    (judge(&response), usage)
}

/// Why it can't come from Gemini. A body that begins as an object and breaks off may have been an
/// answer, so it is not judged here.
fn foreign(body: &[u8]) -> Option<String> {
    let is_wrong = |how: &str| Some(format!("the answer is not Gemini's: {how}"));
    match body.trim_ascii_start() {
        [] => is_wrong("it is empty"),
        [b'{', ..] => serde_json::from_slice::<ErrorEnvelope>(body)
            .ok()
            .and_then(|_| is_wrong("it has status 200 and says error")),
        other => {
            let head = &other[..other.len().min(4 * MAX_QUOTED_OF_PAGE)];
            let head = String::from_utf8_lossy(head);
            let begins = text::line(&head, MAX_QUOTED_OF_PAGE);
            is_wrong(&format!("it begins with \"{begins}\""))
        }
    }
}

fn parse(body: &[u8]) -> Result<GenerateContentResponse, String> {
    // As text, since the parser does not look at the bytes of fields that it skips.
    let body = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    serde_json::from_str(body).map_err(|error| text::line(&error.to_string(), MAX_QUOTED))
}

fn judge(response: &GenerateContentResponse) -> Reading {
    let feedback = response.prompt_feedback.as_ref();
    if let Some(reason) = feedback.and_then(|f| f.block_reason.as_ref()) {
        let ratings = feedback.and_then(|f| f.safety_ratings.as_deref()).unwrap_or(&[]);
        return Reading::Blocked {
            reason: text::line(reason.as_str(), MAX_NAME),
            sexually_explicit: is_sexually_explicit(ratings),
        };
    }
    let Some(candidate) = response.candidate() else {
        return Reading::Empty { reason: "Gemini replied without an answer".into() };
    };
    match &candidate.finish_reason {
        Some(FinishReason::Stop) => read_candidate(candidate),
        Some(FinishReason::MaxTokens) => Reading::Truncated,
        Some(
            reason @ (FinishReason::Safety
            | FinishReason::ProhibitedContent
            | FinishReason::Blocklist
            | FinishReason::Spii
            | FinishReason::ImageSafety
            | FinishReason::ImageProhibitedContent),
        ) => blocked(reason, candidate),
        Some(FinishReason::PupLimitedDisabled) => Reading::AccountLimited,
        Some(
            reason @ (FinishReason::Recitation
            | FinishReason::Language
            | FinishReason::Unsaid
            | FinishReason::MalformedFunctionCall
            | FinishReason::MalformedResponse
            | FinishReason::Escalation
            | FinishReason::Other(_)),
        ) => {
            let reason = text::line(reason.as_str(), MAX_NAME);
            Reading::Stopped { reason: format!("Gemini stopped with {reason}") }
        }
        None => {
            Reading::Stopped { reason: "Gemini did not say that its answer is complete".into() }
        }
    }
}

fn blocked(reason: &FinishReason, candidate: &Candidate) -> Reading {
    let ratings = candidate.safety_ratings.as_deref().unwrap_or(&[]);
    Reading::Blocked {
        reason: text::line(reason.as_str(), MAX_NAME),
        sexually_explicit: is_sexually_explicit(ratings),
    }
}

fn is_sexually_explicit(ratings: &[SafetyRating]) -> bool {
    ratings.iter().any(|rating| {
        rating.category == Some(HarmCategory::SexuallyExplicit)
            && (rating.blocked == Some(true) || rating.probability == Some(HarmProbability::High))
    })
}

fn read_candidate(candidate: &Candidate) -> Reading {
    let said = candidate.text();
    if said.trim().is_empty() && !candidate.calls_a_function() {
        return Reading::Empty { reason: "Gemini's answer is empty".into() };
    }
    read_text(&said)
}

/// The text must be the answer object and nothing else; white space around it is JSON's own.
fn read_text(said: &str) -> Reading {
    match serde_json::from_str::<Answer>(said) {
        // Everybody's to read from here on: the row, the page, a terminal, our own notes.
        Ok(answer) => Reading::Answer(Answer {
            details: text::bounded(&answer.details, MAX_DETAILS),
            ..answer
        }),
        Err(error) if said.trim_start().starts_with(['{', '[', '`']) => {
            // The parser quotes what it did not expect.
            let error = text::line(&error.to_string(), MAX_QUOTED);
            Reading::Broken {
                reason: format!("Gemini's answer does not have the agreed form: {error}"),
                correction: format!(
                    "Your last answer could not be used ({error}). Answer with exactly one JSON \
                     object that has all twelve keys, eleven of them true or false, and nothing else."
                ),
            }
        }
        // A call of a tool, say.
        Err(_) if said.trim().is_empty() => Reading::Broken {
            reason: "Gemini's answer holds no text".into(),
            correction: "Your last answer held no text. Answer with exactly one JSON object that \
                         has all twelve keys."
                .into(),
        },
        Err(_) => Reading::Prose {
            reason: format!(
                "Gemini answered in prose instead of JSON: \"{}\"",
                text::line(said, MAX_QUOTED)
            ),
        },
    }
}
