//! How a script writes durations and colours.
//!
//! Invariant: what can't be read is an error that shows how it is written.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A colour, written `#rrggbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Colour(pub [u8; 3]);

impl Colour {
    /// Encoding and shrinking move each channel a little; forty apart is still the same mark and
    /// far from any other corner of the colour cube.
    const TOLERANCE: u8 = 40;

    /// Whether a measured colour is this one.
    #[must_use]
    pub fn is_near(self, other: [u8; 3]) -> bool {
        self.0.iter().zip(other).all(|(a, b)| a.abs_diff(b) <= Self::TOLERANCE)
    }
}

impl TryFrom<String> for Colour {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no colour; write it as \"#ff00ff\"");
        let digits = text.strip_prefix('#').filter(|d| d.len() == 6).ok_or_else(wrong)?;
        let number = u32::from_str_radix(digits, 16).map_err(|_| wrong())?;
        let [_, red, green, blue] = number.to_be_bytes();
        Ok(Self([red, green, blue]))
    }
}

impl From<Colour> for String {
    fn from(Colour([red, green, blue]): Colour) -> Self {
        format!("#{red:02x}{green:02x}{blue:02x}")
    }
}

/// Durations as `"200ms"`, `"1.5s"`, `"8m"`, `"2h"`, or a number of seconds.
pub(super) mod span {
    use super::{Deserialize, Duration};
    use serde::{Deserializer, Serializer, de::Error};

    #[derive(Deserialize)]
    #[serde(untagged)]
    pub(super) enum Written {
        Seconds(f64),
        Text(String),
    }

    pub(super) fn read<E: Error>(written: &Written) -> Result<Duration, E> {
        let (number, unit) = match written {
            Written::Seconds(seconds) => (*seconds, 1.0),
            Written::Text(text) => {
                let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                let unit = match text[digits.len()..].trim() {
                    "ms" => 0.001,
                    "s" => 1.0,
                    "m" => 60.0,
                    "h" => 3600.0,
                    _ => return Err(wrong(text)),
                };
                (digits.trim().parse::<f64>().map_err(|_| wrong(text))?, unit)
            }
        };
        Duration::try_from_secs_f64(number * unit).map_err(|_| wrong(&number.to_string()))
    }

    fn wrong<E: Error>(text: &str) -> E {
        E::custom(format!("`{text}` is no duration; write it as \"200ms\", \"1.5s\" or \"8m\""))
    }

    pub(in crate::drill::fake_gemini::behaviour) fn serialize<S: Serializer>(
        value: &Duration,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{}ms", value.as_millis()))
    }

    pub(in crate::drill::fake_gemini::behaviour) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Duration, D::Error> {
        read(&Written::deserialize(from)?)
    }
}

pub(super) mod span_option {
    use super::{Deserialize, Duration, span};
    use serde::{Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde's `with` passes a reference to the field")]
    pub(in crate::drill::fake_gemini::behaviour) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => span::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    pub(in crate::drill::fake_gemini::behaviour) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<span::Written>::deserialize(from)?.map(|w| span::read(&w)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corner_survives_an_encoder_but_not_another_colour() {
        let mark = Colour([255, 0, 255]);
        assert!(mark.is_near([240, 12, 230]));
        assert!(!mark.is_near([255, 0, 120]));
    }
}
