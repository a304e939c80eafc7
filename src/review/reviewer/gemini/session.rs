//! The session: what all tries of a run share. Settings, keys, breakers, counters, prices.
//!
//! It knows no try and no port: `review_try.rs` and `check.rs` use it, `client.rs` owns it.
//! Invariant: no text that leaves here holds a key.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Client;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::http;
use crate::redact::Redactor;
use crate::review::prompt::Prompt;
use crate::review::reviewer::gemini::answer::Usage;
use crate::review::reviewer::gemini::backoff::Backoff;
use crate::review::reviewer::gemini::circuit_breaker::CircuitBreaker;
use crate::review::reviewer::gemini::concurrency::Concurrency;
use crate::review::reviewer::gemini::key_pool::KeyPool;
use crate::review::reviewer::gemini::models;
use crate::review::reviewer::gemini::request::{Form, SchemaForm};
use crate::review::reviewer::{AttemptCounts, Health, Refusal};
use crate::review::settings::{Price, ReviewerSettings};

/// Input tokens of a call: 1120 for the picture at high resolution, 4 characters of English a
/// token for the prompt, and the schema.
const PICTURE_TOKENS: f64 = 1_120.0;
const SCHEMA_TOKENS: f64 = 250.0;
const CHARS_PER_TOKEN: f64 = 4.0;
/// Output of a usual answer with little thinking.
const USUAL_OUTPUT_TOKENS: f64 = 150.0;

/// What all tries share.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) settings: ReviewerSettings,
    pub(super) prompt: Prompt,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) http: Client,
    pub(super) key_pool: KeyPool,
    /// Who waits for a key's turn waits in line.
    pub(super) queue: tokio::sync::Mutex<()>,
    pub(super) backoff: Backoff,
    pub(super) network: CircuitBreaker,
    pub(super) service: CircuitBreaker,
    pub(super) redactor: Redactor,
    concurrency: Mutex<Concurrency>,
    health: Mutex<Health>,
    /// All pictures' attempts that ended with the provider's word, or with its fault.
    fared: Mutex<AttemptCounts>,
    form: Mutex<Form>,
    refused_pictures: AtomicU64,
    /// What every further request would meet: none is sent any more.
    refused: Mutex<Option<Refusal>>,
}

/// What a try will cost, in USD; `None`: the price is unknown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// As a rule; for "what will the backlog cost".
    pub usual: Option<f64>,
    /// If the answer fills its cap and has to be asked for again with a larger one; a try never
    /// makes an attempt that could cost more. For a reservation.
    pub at_most: Option<f64>,
}

impl Session {
    /// Ready to send; makes no connection yet.
    pub(super) fn new(
        settings: &ReviewerSettings,
        prompt: Prompt,
        clock: Arc<dyn Clock>,
        backoff: Backoff,
    ) -> Result<Self, reqwest::Error> {
        let traits = models::traits(&settings.model);
        let keys = settings.projects.iter().flat_map(|project| project.keys.iter().cloned());
        Ok(Self {
            http: http::client(settings.connect_timeout)?,
            key_pool: KeyPool::new(&settings.projects, backoff),
            queue: tokio::sync::Mutex::new(()),
            network: CircuitBreaker::new(backoff),
            service: CircuitBreaker::new(backoff),
            backoff,
            redactor: Redactor::new(keys),
            concurrency: Mutex::new(Concurrency::new(settings.max_in_flight)),
            health: Mutex::default(),
            fared: Mutex::default(),
            form: Mutex::new(Form {
                schema: SchemaForm::JsonSchema,
                thinking: traits.thinking,
                max_output_tokens: traits.max_output_tokens,
            }),
            refused_pictures: AtomicU64::new(0),
            refused: Mutex::default(),
            settings: settings.clone(),
            prompt,
            clock,
        })
    }

    /// What one try costs.
    #[must_use]
    pub(super) fn estimate(&self) -> Estimate {
        let Some(price) = self.price() else {
            return Estimate { usual: None, at_most: None };
        };
        let input = PICTURE_TOKENS + SCHEMA_TOKENS + self.prompt_chars() / CHARS_PER_TOKEN;
        let form = self.form();
        let twice =
            Form { max_output_tokens: form.max_output_tokens.saturating_mul(2), ..form.clone() };
        let at_most = self.at_most(&form).zip(self.at_most(&twice)).map(|(one, two)| one + two);
        Estimate { usual: Some(usd(price, input, USUAL_OUTPUT_TOKENS)), at_most }
    }

    /// The most that one attempt can cost.
    pub(super) fn at_most(&self, form: &Form) -> Option<f64> {
        // A prompt in another language can take a token a character.
        let input = PICTURE_TOKENS + SCHEMA_TOKENS + self.prompt_chars();
        Some(usd(self.price()?, input, f64::from(form.max_output_tokens)))
    }

    fn prompt_chars(&self) -> f64 {
        f64::from(u32::try_from(self.prompt.text().chars().count()).unwrap_or(u32::MAX))
    }

    fn price(&self) -> Option<Price> {
        let configured = self.settings.prices.get(&self.settings.model).copied();
        configured.or_else(|| models::price(&self.settings.model, self.clock.now()))
    }

    /// What a call cost; `None`: unknown.
    pub(super) fn cost(&self, usage: &Usage) -> Option<f64> {
        let factor = models::tier_factor(usage.tier.as_deref())?;
        let tokens = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        Some(factor * usd(self.price()?, tokens(usage.tokens_in?), tokens(usage.tokens_out)))
    }

    /// The price is known, so that calls which cost nothing can be counted as 0.
    pub(super) fn nothing_yet(&self) -> Option<f64> {
        self.price().map(|_| 0.0)
    }

    /// `…/v1beta/models/MODEL`.
    pub(super) fn model_url(&self) -> String {
        let ReviewerSettings { base_url, api_version, model, .. } = &self.settings;
        format!("{}/{api_version}/models/{model}", base_url.trim_end_matches('/'))
    }

    /// The form of requests that the service is known to take.
    pub(super) fn form(&self) -> Form {
        lock(&self.form).clone()
    }

    /// Changes the form for all further requests.
    pub(super) fn change_form(&self, change: impl FnOnce(&mut Form)) {
        change(&mut lock(&self.form));
    }

    /// The service could not read a picture; says how many in a row, over all tries.
    pub(super) fn picture_refused(&self) -> u64 {
        lock(&self.fared).answered += 1;
        self.refused_pictures.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The refusal that every further request would meet, if there is one.
    pub(super) fn refused(&self) -> Option<Refusal> {
        lock(&self.refused).clone()
    }

    /// Every further request would meet this; the first of them is the one that is told.
    pub(super) fn refuse_all(&self, refusal: Refusal) -> Refusal {
        lock(&self.refused).get_or_insert(refusal).clone()
    }

    /// A request has ended, and not with a fault.
    pub(super) fn count_call(&self) {
        lock(&self.health).calls += 1;
    }

    /// How all attempts have fared so far.
    pub(super) fn fared(&self) -> AttemptCounts {
        *lock(&self.fared)
    }

    pub(super) fn count_fault(&self, status: Option<u16>, detail: &str) {
        lock(&self.fared).faults += 1;
        let mut health = lock(&self.health);
        // Both at once: who looks in between would see a call that ended well.
        health.calls += 1;
        health.faults += 1;
        health.last_status = status;
        health.last_detail = Some(detail.to_owned());
    }

    pub(super) fn answered(&self) {
        lock(&self.fared).answered += 1;
        self.refused_pictures.store(0, Ordering::Relaxed);
        lock(&self.concurrency).grow();
    }

    pub(super) fn too_many(&self) {
        lock(&self.concurrency).shrink(Instant::now());
    }
}

impl Session {
    /// How the provider has been so far.
    pub(super) fn health(&self) -> Health {
        let mut health = lock(&self.health).clone();
        health.breaker_open = self.network.is_open() || self.service.is_open();
        health.dropped = self.key_pool.dropped();
        health.all_dropped = self.key_pool.all_dropped();
        for dropped in &mut health.dropped {
            dropped.reason = self.redactor.redact(&dropped.reason).into_owned();
        }
        health
    }

    /// How many tries the provider can take at once now.
    pub(super) fn concurrency(&self) -> u32 {
        lock(&self.concurrency).get()
    }
}

fn usd(price: Price, tokens_in: f64, tokens_out: f64) -> f64 {
    (price.input * tokens_in + price.output * tokens_out) / 1e6
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters and small values: each is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Longest that `X-Server-Timeout` lags behind ours, so that the service gives up first.
const SERVER_GIVES_UP_EARLIER: Duration = Duration::from_secs(2);
/// Below this the service is said to refuse the header.
const LEAST_SERVER_TIMEOUT: Duration = Duration::from_secs(10);

/// What to tell the service about our time limit, in whole seconds; nothing if it is too short.
pub(super) fn server_timeout(ours: Duration) -> Option<u64> {
    let theirs = ours.checked_sub(SERVER_GIVES_UP_EARLIER)?;
    (theirs >= LEAST_SERVER_TIMEOUT).then_some(theirs.as_secs())
}
