//! What the stand-in does with a call: rules from a script, the control endpoint or a test.
//!
//! It holds the script's words and decides which rule applies; it knows no HTTP.
//! Invariant: an unknown word in a script is an error, never ignored; which calls a `share` hits
//! depends on the seed alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything about how the stand-in behaves. The default answers every valid request at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// How long a call takes before it is answered, whatever the answer.
    #[serde(with = "span", skip_serializing_if = "Duration::is_zero")]
    pub latency: Duration,
    /// Up to so much more, evenly spread.
    #[serde(with = "span", skip_serializing_if = "Duration::is_zero")]
    pub jitter: Duration,
    /// Keys that are accepted; empty: every key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Limits as the service's own; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// The port is closed: connections are refused, open ones are cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse: Option<Refuse>,
    /// Exceptions, first match wins.
    #[serde(rename = "rule", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// How closely pictures are looked at.
    pub looking: Looking,
    /// Start of the random numbers behind `share` and `jitter`.
    pub seed: u64,
}

impl Behaviour {
    /// Every call meets this outcome.
    #[must_use]
    pub fn always(outcome: Outcome) -> Self {
        Self { rules: vec![Rule::new(outcome)], ..Self::default() }
    }

    /// Answers after this time.
    #[must_use]
    pub fn slow(latency: Duration) -> Self {
        Self { latency, ..Self::default() }
    }
}

/// How closely pictures are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Looking {
    /// Decode every picture strictly; a broken one is refused as the service does.
    #[default]
    Pixels,
    /// Look at the container only and answer from a hash of the bytes. For measurements, where the
    /// stand-in's own decoding would compete with what is measured.
    Bytes,
}

/// Requests and tokens allowed; absent ones are unlimited. All keys count as one project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// In any 60 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Input tokens in any 60 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u32>,
    /// Until the behaviour is set anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u32>,
}

/// When the port is closed, counted from the moment the behaviour was set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Refuse {
    /// Not before.
    #[serde(with = "span", skip_serializing_if = "Duration::is_zero")]
    pub after: Duration,
    /// For how long; absent: until the behaviour is set anew (by the program that holds the
    /// stand-in: the control endpoint is closed with the port).
    #[serde(with = "span_option", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Duration>,
}

/// One exception: which calls, and what becomes of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What becomes of the call.
    pub outcome: Outcome,
    /// This part of the matching calls; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Not before, counted from the moment the behaviour was set.
    #[serde(default, with = "span", skip_serializing_if = "Duration::is_zero")]
    pub after: Duration,
    /// For how long from then on; absent: for ever.
    #[serde(default, with = "span_option", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Duration>,
    /// So many calls at most; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Calls with this key only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Calls with this picture only: SHA-256 of the bytes as sent, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Calls whose picture has this colour (`#rrggbb`) in its top left corner only: a mark that,
    /// unlike a hash, survives shrinking and encoding anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corner: Option<Colour>,
}

impl Rule {
    /// Every call meets this outcome.
    #[must_use]
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            share: None,
            after: Duration::ZERO,
            lasts: None,
            times: None,
            key: None,
            sha256: None,
            corner: None,
        }
    }
}

/// What becomes of a call. Texts and envelopes are the service's own (recorded bodies).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the documentation; envelope.rs holds the bodies")]
pub enum Outcome {
    /// The ordinary answer.
    Answer,
    // The service has no room or is broken.
    HighDemand,
    Overloaded,
    DeadlineExpired,
    Internal,
    /// A proxy's 502 with an HTML page.
    HtmlBadGateway,
    DeadlineExceeded,
    // Quotas.
    QuotaPerMinute,
    QuotaPerDay,
    Exhausted,
    SpendRate,
    // The key, the project, the bill, the place.
    KeyInvalid,
    KeyExpired,
    KeyLeaked,
    ProjectDenied,
    PrepayDepleted,
    Location,
    ModelRetired,
    /// The picture can't be processed (400).
    PictureRefused,
    // A connection that is of no use.
    /// Connected, read, never answered.
    NeverAnswers,
    /// Half an answer, then the connection is cut.
    BreaksOff,
    // 200 with something that is no answer.
    /// JSON that ends in the middle.
    BrokenJson,
    /// Valid JSON that lacks a required key.
    MissingKey,
    /// A yes/no key that says `"yes"`.
    WrongType,
    NoCandidates,
    EmptyCandidates,
    MaxTokens,
    MaxTokensEmpty,
    Recitation,
    UnknownFinish,
    // Blocked or refused.
    SafetyBlock,
    SafetySexual,
    PromptBlocked,
    PromptBlockedOther,
    RefusalProse,
    /// Any body at all, for recorded ones.
    Raw(Raw),
}

/// A body given by the script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// HTTP status.
    pub status: u16,
    /// Sent as it is.
    pub body: String,
    /// `application/json; charset=UTF-8` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

impl Outcome {
    /// The script's word for it; statistics count by it.
    #[must_use]
    pub fn name(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            // Only `Raw` carries data.
            Ok(_) | Err(_) => "raw".to_owned(),
        }
    }

    /// Whether listing models and counting tokens go on as if nothing were the matter.
    pub(super) fn concerns_generating_only(&self) -> bool {
        matches!(
            self,
            Self::QuotaPerMinute
                | Self::QuotaPerDay
                | Self::Exhausted
                | Self::SpendRate
                | Self::PrepayDepleted
                | Self::PictureRefused
                | Self::Raw(_)
        )
    }
}

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
mod span {
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

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{}ms", value.as_millis()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        read(&Written::deserialize(from)?)
    }
}

mod span_option {
    use super::{Deserialize, Duration, span};
    use serde::{Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde's `with` passes a reference to the field")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => span::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<span::Written>::deserialize(from)?.map(|w| span::read(&w)).transpose()
    }
}

/// A script that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the script {file} can't be used: {reason}")]
pub struct ScriptError {
    file: String,
    reason: String,
}

/// Reads a script: JSON if the file's name ends in `.json`, else TOML.
///
/// # Errors
/// When the file can't be read or says something the stand-in does not know.
pub fn read_script(file: &std::path::Path) -> Result<Behaviour, ScriptError> {
    let wrong = |reason: String| ScriptError { file: file.display().to_string(), reason };
    let text = std::fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?;
    if file.extension().is_some_and(|e| e == "json") {
        serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))
    } else {
        toml::from_str(&text).map_err(|e| wrong(e.to_string()))
    }
}

/// What rules look at.
#[derive(Clone, Debug, Default)]
pub(super) struct Call<'a> {
    pub(super) key: &'a str,
    /// Of the first picture as sent.
    pub(super) sha256: Option<&'a str>,
    pub(super) corner: Option<[u8; 3]>,
}

/// A behaviour in use: what of it is used up, and the random numbers.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) behaviour: Behaviour,
    used: Vec<u64>,
    random: fastrand::Rng,
}

impl Active {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        let used = vec![0; behaviour.rules.len()];
        let random = fastrand::Rng::with_seed(behaviour.seed);
        Self { behaviour, used, random }
    }

    /// Latency of the next call.
    pub(super) fn latency(&mut self) -> Duration {
        self.behaviour.latency + self.behaviour.jitter.mul_f64(self.random.f64())
    }

    /// Whether a rule looks at the picture itself, so that it must be decoded first.
    pub(super) fn needs_corner(&self) -> bool {
        self.behaviour.rules.iter().any(|rule| rule.corner.is_some())
    }

    /// What becomes of a call, `elapsed` after the behaviour was set.
    pub(super) fn outcome(&mut self, elapsed: Duration, call: &Call<'_>) -> Outcome {
        for (rule, used) in self.behaviour.rules.iter().zip(&mut self.used) {
            let begun = elapsed >= rule.after;
            let over = rule.lasts.is_some_and(|lasts| elapsed >= rule.after + lasts);
            let spent = rule.times.is_some_and(|times| *used >= times);
            let meant = rule.key.as_deref().is_none_or(|key| key == call.key)
                && rule.sha256.as_deref().is_none_or(|sha| Some(sha) == call.sha256)
                && rule.corner.is_none_or(|mark| call.corner.is_some_and(|c| mark.is_near(c)));
            if begun
                && !over
                && !spent
                && meant
                && rule.share.is_none_or(|share| self.random.f64() < share)
            {
                *used += 1;
                return rule.outcome.clone();
            }
        }
        Outcome::Answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_script_reads_as_people_write_it() {
        let script = r##"
            latency = "200ms"
            keys = ["fake-key-1"]
            quota = { requests_per_minute = 300 }
            refuse = { after = "5m", lasts = 30 }
            [[rule]]
            outcome = "high_demand"
            after = "1.5s"
            lasts = "8m"
            [[rule]]
            outcome = { raw = { status = 503, body = "<html>" } }
            corner = "#ff00ff"
            share = 0.1
        "##;
        let behaviour: Behaviour = toml::from_str(script).unwrap();
        assert_eq!(behaviour.latency, SECOND / 5);
        assert_eq!(behaviour.refuse.as_ref().unwrap().lasts, Some(30 * SECOND));
        assert_eq!(behaviour.rules[0].after, SECOND * 3 / 2);
        assert_eq!(behaviour.rules[1].corner, Some(Colour([255, 0, 255])));
        let json = serde_json::to_string(&behaviour).unwrap();
        assert_eq!(serde_json::from_str::<Behaviour>(&json).unwrap(), behaviour);
    }

    #[test]
    fn what_a_script_says_wrong_is_an_error() {
        for script in [
            "latancy = 1",
            "latency = \"soon\"",
            "latency = \"5d\"",
            "latency = -1",
            "[[rule]]\noutcome = \"on_fire\"",
            "[[rule]]\noutcome = \"internal\"\ncorner = \"red\"",
            "[[rule]]\nshare = 0.5",
        ] {
            assert!(toml::from_str::<Behaviour>(script).is_err(), "{script}");
        }
    }

    #[test]
    fn a_rule_holds_for_its_time_and_number_of_calls() {
        let mut active = Active::new(Behaviour {
            rules: vec![
                Rule {
                    after: SECOND,
                    lasts: Some(2 * SECOND),
                    times: Some(2),
                    ..Rule::new(Outcome::HighDemand)
                },
                Rule { key: Some("dead".into()), ..Rule::new(Outcome::KeyInvalid) },
            ],
            ..Behaviour::default()
        });
        let call = Call { key: "alive", ..Call::default() };
        let mut at = |seconds: u32, call: &Call<'_>| active.outcome(SECOND * seconds, call);
        assert_eq!(at(0, &call), Outcome::Answer);
        assert_eq!(at(1, &call), Outcome::HighDemand);
        assert_eq!(at(1, &Call { key: "dead", ..Call::default() }), Outcome::HighDemand);
        assert_eq!(at(2, &call), Outcome::Answer, "used up");
        assert_eq!(at(2, &Call { key: "dead", ..Call::default() }), Outcome::KeyInvalid);
        assert_eq!(at(3, &call), Outcome::Answer, "over");
    }

    #[test]
    fn a_share_is_kept_within_what_chance_allows_and_is_the_same_each_time() {
        let behaviour = Behaviour {
            rules: vec![Rule { share: Some(0.1), ..Rule::new(Outcome::HighDemand) }],
            ..Behaviour::default()
        };
        let count = || {
            let mut active = Active::new(behaviour.clone());
            (0..10_000)
                .filter(|_| active.outcome(SECOND, &Call::default()) == Outcome::HighDemand)
                .count()
        };
        // Ten standard deviations of a binomial with n = 10,000 and p = 0.1 are 300.
        assert!((700..1300).contains(&count()), "{}", count());
        assert_eq!(count(), count());
    }

    #[test]
    fn a_corner_survives_an_encoder_but_not_another_colour() {
        let mark = Colour([255, 0, 255]);
        assert!(mark.is_near([240, 12, 230]));
        assert!(!mark.is_near([255, 0, 120]));
    }
}
