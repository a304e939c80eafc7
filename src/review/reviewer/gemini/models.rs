//! What is known of the models: how they think, how much room an answer needs, what they cost.
//!
//! Settings override prices; a model that is not here works with the service's own defaults.
//! Invariant: an unknown price is `None`, never 0.

use chrono::{DateTime, NaiveDate, Utc};

use crate::review::reviewer::gemini::wire::ThinkingLevel;
use crate::review::settings::Price;

/// When the table was last compared with Google's pages.
pub const CHECKED_ON: &str = "2026-11-22";

/// What is known of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Traits {
    /// The least thinking that it takes; `None`: leave it to the model.
    pub thinking: Option<ThinkingLevel>,
    /// Cap on an answer with its thoughts.
    pub max_output_tokens: u32,
}

/// Thoughts count against the cap: a model that can't think minimally needs more room, and too
/// small a cap yields an empty answer that is billed all the same.
const CAP_WHEN_HARDLY_THINKING: u32 = 2048;
const CAP_WHEN_THINKING: u32 = 4096;

/// What is known of this model.
#[must_use]
pub fn traits(model: &str) -> Traits {
    let lite = model.contains("flash-lite");
    if model.starts_with("gemini-2.5") {
        // These take a budget instead of a level; their default is fine for this work.
        let cap = if lite { CAP_WHEN_HARDLY_THINKING } else { CAP_WHEN_THINKING };
        return Traits { thinking: None, max_output_tokens: cap };
    }
    if model.starts_with("gemini-3") && lite {
        return Traits {
            thinking: Some(ThinkingLevel::Minimal),
            max_output_tokens: CAP_WHEN_HARDLY_THINKING,
        };
    }
    if model.starts_with("gemini-3") || model.starts_with("gemini-4") {
        // `minimal` is refused by 3.8-flash and argon.
        return Traits { thinking: Some(ThinkingLevel::Low), max_output_tokens: CAP_WHEN_THINKING };
    }
    Traits { thinking: None, max_output_tokens: CAP_WHEN_THINKING }
}

/// USD per million tokens, standard tier; from the day on, where a day is given.
struct Row {
    model: &'static str,
    from: Option<(i32, u32, u32)>,
    input: f64,
    output: f64,
}

const fn row(model: &'static str, input: f64, output: f64) -> Row {
    Row { model, from: None, input, output }
}

const fn row_from(model: &'static str, from: (i32, u32, u32), input: f64, output: f64) -> Row {
    Row { model, from: Some(from), input, output }
}

/// Later rows of a model replace earlier ones once their day has come.
const PRICES: [Row; 14] = [
    row("gemini-3.5-flash-lite", 0.30, 2.50),
    row("gemini-3.1-flash-lite", 0.25, 1.50),
    row("gemini-3.8-flash", 0.75, 3.75),
    row_from("gemini-3.8-flash", (2027, 1, 1), 1.50, 7.50),
    row("gemini-3.7-flash", 0.75, 3.75),
    row_from("gemini-3.7-flash", (2027, 1, 1), 1.50, 7.50),
    row("gemini-3.6-flash", 0.75, 3.75),
    row_from("gemini-3.6-flash", (2027, 1, 1), 1.50, 7.50),
    row("gemini-3.5-flash", 1.50, 9.00),
    row("gemini-4-argon", 2.00, 10.00),
    row_from("gemini-4-argon", (2026, 12, 1), 4.00, 20.00),
    row("gemini-2.5-flash-lite", 0.10, 0.40),
    row("gemini-3-flash-preview", 0.50, 3.00),
    row("gemini-3.1-pro-preview", 2.00, 12.00),
];

/// The built-in price of a model at a time.
#[must_use]
pub fn price(model: &str, at: DateTime<Utc>) -> Option<Price> {
    PRICES
        .iter()
        .rfind(|row| {
            let has_begun = row.from.is_none_or(|(year, month, day)| {
                NaiveDate::from_ymd_opt(year, month, day)
                    .is_some_and(|from| at.date_naive() >= from)
            });
            row.model == model && has_begun
        })
        .map(|row| Price { input: row.input, output: row.output })
}

/// What a tier costs, as a multiple of the standard one; `None`: unknown.
#[must_use]
pub fn tier_factor(tier: Option<&str>) -> Option<f64> {
    match tier.map(str::to_ascii_lowercase).as_deref() {
        None | Some("standard") => Some(1.0),
        Some("flex" | "batch") => Some(0.5),
        Some("priority") => Some(1.8),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_price_changes_on_its_day() {
        let before = price("gemini-3.8-flash", at("2026-12-31T23:59:59Z")).unwrap();
        let after = price("gemini-3.8-flash", at("2027-01-01T00:00:00Z")).unwrap();
        assert_eq!((before.input, after.input), (0.75, 1.50));
    }

    #[test]
    fn an_unknown_price_is_unknown() {
        assert_eq!(price("gemini-9-neon", at("2026-11-22T00:00:00Z")), None);
        assert_eq!(tier_factor(Some("gold")), None);
    }

    #[test]
    fn a_model_thinks_as_little_as_it_can() {
        assert_eq!(traits("gemini-3.5-flash-lite").thinking, Some(ThinkingLevel::Minimal));
        assert_eq!(traits("gemini-3.8-flash").thinking, Some(ThinkingLevel::Low));
        assert_eq!(traits("gemini-2.5-flash-lite").thinking, None);
        assert_eq!(traits("somebody-elses-model").thinking, None);
    }
}
