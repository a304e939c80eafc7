//! The client: Gemini as a reviewer.
//!
//! The port only: a session that all tries share, and one [`review_try`] a call. The budget is the
//! caller's: it asks [`Gemini::estimate`] before a call and looks at the record of the call after it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::review::prompt::Prompt;
use crate::review::reviewer::gemini::backoff::Backoff;
use crate::review::reviewer::gemini::review_try;
pub use crate::review::reviewer::gemini::session::Estimate;
use crate::review::reviewer::gemini::session::Session;
use crate::review::reviewer::{Health, Outcome, ReviewRequest, Reviewer};
use crate::review::settings::ReviewerSettings;

/// Gemini as a reviewer.
#[derive(Debug)]
pub struct Gemini {
    pub(super) session: Session,
}

impl Gemini {
    /// Ready to review; makes no connection yet.
    ///
    /// # Errors
    /// When the TLS set-up of this machine is broken.
    pub fn new(
        settings: &ReviewerSettings,
        prompt: Prompt,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, reqwest::Error> {
        Self::with_backoff(settings, prompt, clock, Backoff::default())
    }

    /// The same with other pauses.
    ///
    /// # Errors
    /// As [`Gemini::new`].
    pub fn with_backoff(
        settings: &ReviewerSettings,
        prompt: Prompt,
        clock: Arc<dyn Clock>,
        backoff: Backoff,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self { session: Session::new(settings, prompt, clock, backoff)? })
    }

    /// What one try costs.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        self.session.estimate()
    }
}

#[async_trait]
impl Reviewer for Gemini {
    async fn review(&self, request: ReviewRequest<'_>) -> Outcome {
        review_try::run(&self.session, &request).await
    }

    fn health(&self) -> Health {
        self.session.health()
    }

    fn concurrency(&self) -> u32 {
        self.session.concurrency()
    }

    fn usd_per_try(&self) -> Option<f64> {
        self.estimate().at_most
    }
}
