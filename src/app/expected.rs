//! What reviewing so many pictures will cost, as far as anybody can know.
//!
//! The price is the table's or the user's; the tokens are those of the latest answers in
//! `review.db`, or, before there are any, what the prompt and a usual picture take.
//! Invariant: an unknown price is said to be unknown, never 0; nobody is called.

use std::sync::Arc;

use super::review::SetupError;
use crate::clock::Clock;
use crate::review::prompt::Prompt;
use crate::review::reviewer::gemini::client::Gemini;
use crate::review::reviewer::gemini::models;
use crate::review::settings::ReviewSettings;
use crate::review::tries::sqlite::queries::ReviewDb;

/// What one picture costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// With which model.
    pub model: String,
    /// USD; `None`: unknown.
    pub usd_per_picture: Option<f64>,
    /// Where the number of tokens comes from.
    pub basis: Basis,
}

/// Where the number of tokens comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// So many answers of the model, the latest ones.
    Answers(u64),
    /// Prompt, a usual picture, a usual answer.
    Estimate,
}

impl Expected {
    /// By prices, prompt and what has been seen so far.
    ///
    /// # Errors
    /// When the prompt can't be read or TLS can't be used.
    pub fn of(settings: &ReviewSettings, clock: &Arc<dyn Clock>) -> Result<Self, SetupError> {
        let reviewer = &settings.reviewer;
        let model = reviewer.model.clone();
        let price = reviewer.prices.get(&model).copied();
        let price = price.or_else(|| models::price(&model, clock.now()));
        // Without the history there is still the estimate; who needs the file says what is wrong.
        let notes = ReviewDb::open(&settings.state_dir).ok().flatten();
        let usual = notes.and_then(|notes| notes.usual(&model).ok().flatten());
        if let (Some(price), Some(usual)) = (price, usual) {
            let usd = (price.input * usual.tokens_in + price.output * usual.tokens_out) / 1e6;
            let basis = Basis::Answers(usual.answers);
            return Ok(Self { model, usd_per_picture: Some(usd), basis });
        }
        let prompt = match &reviewer.prompt_file {
            Some(file) => Prompt::read(file),
            None => Ok(Prompt::built_in()),
        };
        let prompt = prompt.map_err(|error| SetupError::Configuration(format!("{error:#}")))?;
        let gemini = Gemini::new(reviewer, prompt, Arc::clone(clock)).map_err(|error| {
            SetupError::State(anyhow::Error::new(error).context("TLS can't be used"))
        })?;
        let usd_per_picture = gemini.estimate().usual;
        Ok(Self { model, usd_per_picture, basis: Basis::Estimate })
    }

    /// What so many pictures cost; `None`: unknown.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an estimate of two digits")]
    pub fn usd(&self, n_pictures: u64) -> Option<f64> {
        Some(self.usd_per_picture? * n_pictures as f64)
    }

    /// For people: what so many pictures cost, and how that is known.
    #[must_use]
    pub fn said(&self, n_pictures: u64) -> String {
        let model = &self.model;
        let Some(usd) = self.usd(n_pictures) else {
            return format!(
                "the cost is unknown, since {model} has no known price (add it under \
                 [reviewer.prices])"
            );
        };
        // Below a cent two digits would say that it is free.
        let usd = if usd < 0.01 { format!("{usd:.4}") } else { format!("{usd:.2}") };
        match self.basis {
            Basis::Answers(n) => {
                format!("about {usd} USD with {model} (as its last {n} answers here)")
            }
            Basis::Estimate => {
                format!("about {usd} USD with {model} (an estimate: no answer of it was seen here)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_price_is_unknown_and_a_small_one_is_not_nothing() {
        let of = |usd_per_picture, basis| Expected {
            model: "gemini-x".to_owned(),
            usd_per_picture,
            basis,
        };
        insta::assert_snapshot!(of(None, Basis::Estimate).said(5), @"the cost is unknown, since gemini-x has no known price (add it under [reviewer.prices])");
        insta::assert_snapshot!(of(Some(0.0004), Basis::Estimate).said(5), @"about 0.0020 USD with gemini-x (an estimate: no answer of it was seen here)");
        insta::assert_snapshot!(of(Some(0.0004), Basis::Answers(7)).said(1_000), @"about 0.40 USD with gemini-x (as its last 7 answers here)");
    }
}
