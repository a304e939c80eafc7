//! What the stand-in does with a call: rules from a script, the control endpoint or a test.
//!
//! It holds the script's words: `outcome.rs` what can become of a call, `values.rs` how durations
//! and colours are written, `active.rs` which rule applies. It knows no HTTP.
//! Invariant: an unknown word in a script is an error, never ignored; which calls a `share` hits
//! depends on the seed alone.

mod active;
mod outcome;
mod values;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(super) use self::active::{Active, Call};
pub use self::outcome::{Outcome, Raw};
pub use self::values::Colour;
use self::values::{span, span_option};

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
}
