//! Reviewer: what looks at a prepared picture and answers.
//!
//! A call of [`Reviewer::review`] is one *try*; the attempts (HTTP requests), keys, rates, breakers
//! and waits inside it are the adapter's business.
//! Invariant: an answer that is not the whole, valid object is a [`Fault::Unreadable`], never an
//! [`Answer`].

pub mod gemini;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// A picture as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// `image/jpeg`, or `image/heic` passed through.
    pub mime_type: &'static str,
    /// The encoded picture.
    pub bytes: Bytes,
    /// Pixels; 0 when unknown (passed through).
    pub width: u32,
    /// Pixels; 0 when unknown.
    pub height: u32,
    /// Lower-case hex SHA-256 of the original file.
    pub sha256: String,
}

/// The model's answer object, all of whose keys must be there (docs/legacy-service.md, "Category
/// string").
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "the answer object has eleven yes/no keys")]
pub struct Answer {
    /// Any legible writing.
    pub text_present: bool,
    /// T1, if text is present.
    pub text_correct: bool,
    /// T2, if text is present.
    pub text_errors: bool,
    /// W1.
    pub watermark: bool,
    /// H1.
    pub humans: bool,
    /// N1.
    pub nudity: bool,
    /// B1.
    pub blood: bool,
    /// BR.
    pub brands: bool,
    /// CP.
    pub copyright: bool,
    /// PL.
    pub places: bool,
    /// PP.
    pub people: bool,
    /// One to three sentences.
    pub details: String,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct ReviewRequest<'a> {
    /// Which image it is about: however often it fails, it is one voice among others.
    pub image: &'a str,
    /// The picture.
    pub picture: &'a Prepared,
    /// What was wrong with the answer of the try before; sent along, since the same request tends
    /// to give the same wrong answer.
    pub correction: Option<&'a str>,
    /// No attempt may last beyond this (the end of the grace).
    pub deadline: Instant,
}

/// What a try cost and who answered; kept whatever the outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallRecord {
    /// Model asked for.
    pub model: String,
    /// `modelVersion` answered.
    pub model_version: Option<String>,
    /// HTTP requests made.
    pub attempts: u32,
    /// Attempts that ended in a timeout, 502, 504 or with nothing at all: possibly billed.
    pub possibly_billed: u32,
    /// Input tokens, all attempts.
    pub tokens_in: u64,
    /// Output tokens with thoughts, all attempts.
    pub tokens_out: u64,
    /// USD, without what was possibly billed; `None`: unknown, never 0.
    pub usd: Option<f64>,
    /// The most that all attempts can have cost, in USD; `None`: the price is unknown.
    pub usd_at_most: Option<f64>,
    /// Hash of the prompt (lower-case hex).
    pub prompt_hash: String,
    /// How long the try took.
    pub took: Duration,
    /// How others fared since the first attempt of this try that met a fault: whether it was the
    /// provider's or this picture's own.
    pub peers: AttemptCounts,
}

/// What other pictures met in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptCounts {
    /// Attempts that the provider answered, whatever it said of the picture.
    pub answered: u64,
    /// Attempts that met a fault of the provider.
    pub faults: u64,
}

impl AttemptCounts {
    /// What came after `earlier`; both are totals.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            answered: self.answered.saturating_sub(earlier.answered),
            faults: self.faults.saturating_sub(earlier.faults),
        }
    }
}

/// How a try ended that brought no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The answer broke the schema, was cut or was no JSON: a failed try. `correction` is what the
    /// next try should be told.
    Unreadable {
        /// For people, and for the row's details.
        reason: String,
        /// For the model.
        correction: String,
    },
    /// The provider can't take this picture (400 about the image): a failed try.
    Picture {
        /// For people.
        reason: String,
    },
    /// Blocked: final, one call.
    Blocked {
        /// `SAFETY`, `PROHIBITED_CONTENT`, …
        reason: String,
        /// Blocked for, or rated HIGH as, `SEXUALLY_EXPLICIT`.
        sexually_explicit: bool,
    },
    /// Provider fault or no connection, attempts used up: no try is used up.
    Unavailable {
        /// HTTP status; `None`: could not be reached.
        status: Option<u16>,
        /// For people.
        reason: String,
    },
    /// A quota that comes back by itself is used up: no try is used up.
    Quota {
        /// When it comes back, if known.
        until: Option<DateTime<Utc>>,
        /// For people.
        reason: String,
    },
    /// The provider will not serve us until a person acts: the run stops, no try is used up.
    Refused(Refusal),
    /// The cap of `[budget]` is reached: the run stops.
    Budget {
        /// For people.
        reason: String,
    },
    /// The deadline came first, or it must not be sent again in this run: no try is used up.
    OutOfTime,
}

/// A refusal that does not pass by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of thing a person must put right.
    pub cause: RefusalCause,
    /// A few words that stay the same for as long as it lasts: no counts, no times.
    pub title: String,
    /// What happened, in a sentence, keys redacted.
    pub reason: String,
    /// What a person must do.
    pub action: String,
    /// When it passes even if nobody does anything.
    pub until: Option<DateTime<Utc>>,
}

/// What a person must put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCause {
    /// The key, or its project.
    Key,
    /// The prepaid credit.
    Credit,
    /// The project's monthly spend cap.
    SpendCap,
    /// The project has no quota for the model at all.
    NoQuota,
    /// The model does not exist, is retired, or may not be used from here or by this project.
    Model,
    /// The service does not take our requests.
    Request,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The answer, or why there is none.
    pub result: Result<Answer, Fault>,
    /// What it cost.
    pub call: CallRecord,
}

/// Totals of attempts since the start, for problem lines: single faults that a later attempt of the
/// same try healed count, too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// HTTP requests that have ended.
    pub calls: u64,
    /// Of them: 5xx, overload, unreachable, timed out.
    pub faults: u64,
    /// Status of the latest fault; `None`: unreachable, or no fault yet.
    pub last_status: Option<u16>,
    /// Text of the latest fault.
    pub last_detail: Option<String>,
    /// All calls wait: the breaker is open.
    pub breaker_open: bool,
    /// Keys and projects that are not used again in this run, in the order in which they went.
    pub dropped: Vec<Dropped>,
    /// None is left: what the run stops for is the refusal itself.
    pub all_dropped: bool,
}

/// A key, or a whole project, that the provider no longer lets us use in this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The project, as the user calls it.
    pub project: String,
    /// `…` and the key's last characters; `None`: every key of the project.
    pub key: Option<String>,
    /// What a person would have to put right.
    pub cause: DropCause,
    /// For people: the same with project and key in it.
    pub reason: String,
}

/// Why a key or project was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropCause {
    /// The key or the project is not accepted.
    Rejected,
    /// There is no credit left.
    OutOfCredit,
    /// The model may not be used from here or by this project.
    NotAllowed,
}

/// What looks at pictures.
#[async_trait]
pub trait Reviewer: Send + Sync {
    /// One try.
    async fn review(&self, request: ReviewRequest<'_>) -> Outcome;

    /// How the provider has been so far.
    fn health(&self) -> Health;

    /// How many tries the provider can take at once now (grows and shrinks between 1 and
    /// `max_in_flight`).
    fn concurrency(&self) -> u32;

    /// What one try may cost at most by estimate, in USD: reserved before it begins. `None`: the
    /// model's price is unknown.
    fn usd_per_try(&self) -> Option<f64>;
}
