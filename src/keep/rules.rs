//! What is looked for in a job's output, compiled once, and how often it was found.
//!
//! Pure. Reading streams is [`super::output_scanner`]'s business.
//! Invariant: a pattern is reported at most once a second, and what was held back is reported at the end.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;

use crate::protocol::{Line, PREFIX};

use super::stream_search::Needle;
use crate::rundir::{Order, Pattern, Signal, Stream, Work};

/// A pattern that matches all the time is reported at most once in this time.
const MIN_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Blanks and colours around a completion that is alone on its line.
const MAX_AROUND: usize = 256;

/// Matches that are remembered for `within`; more in one window says nothing more.
const MAX_REMEMBERED: usize = 10_000;

/// What a text says when it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Signal,
    /// An endpoint has nothing to do.
    Idle,
    /// By its place in the order.
    Pattern(usize),
}

/// A text and what it says.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) needle: Needle,
    pub(super) meaning: Meaning,
}

/// Everything that is looked for; by default nothing.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) needles: Vec<Text>,
    pub(super) regexes: Vec<(regex::bytes::Regex, usize)>,
    pub(super) patterns: Vec<Pattern>,
    /// Whether a pattern can take a signal on the same line back; if not, it counts at once.
    pub(super) failures_matter: bool,
    /// `message` and `run` of a review's last line.
    review: Option<(String, String)>,
    /// The completion, if it must be a line of its own.
    line: Option<String>,
}

/// A review's last line, as far as it makes it the signal.
#[derive(Deserialize)]
struct ReviewLine {
    message: String,
    run: String,
}

impl Rules {
    /// Compiles what the order asks for.
    ///
    /// # Errors
    /// When a regular expression is none; the text names it.
    pub(super) fn new(order: &Order) -> Result<Self, String> {
        let (mut needles, mut regexes) = (Vec::new(), Vec::new());
        let mut look_for = |text: &str, meaning| {
            needles.extend(Needle::new(text).map(|needle| Text { needle, meaning }));
        };
        let (mut review, mut line) = (None, None);
        match &order.signal {
            Signal::Text(text) => look_for(text, Meaning::Signal),
            Signal::Line(text) => line = Some(text.clone()),
            Signal::Review { message } => review = Some((message.clone(), order.run.clone())),
        }
        if let Work::Http { idle: Some(idle), .. } = &order.work {
            look_for(idle, Meaning::Idle);
        }
        for (index, pattern) in order.patterns.iter().enumerate() {
            if let Some(text) = &pattern.text {
                look_for(text, Meaning::Pattern(index));
            }
            if let Some(regex) = &pattern.regex {
                let compiled = regex::bytes::Regex::new(regex).map_err(|error| {
                    format!("the pattern `{regex}` is no regular expression: {error}")
                })?;
                regexes.push((compiled, index));
            }
        }
        let patterns = order.patterns.clone();
        let failures_matter = patterns.iter().any(|pattern| pattern.kind == FAILURE);
        Ok(Self { needles, regexes, patterns, failures_matter, review, line })
    }

    pub(super) fn longest_needle(&self) -> usize {
        self.needles.iter().map(|text| text.needle.len()).max().unwrap_or(0)
    }

    /// Whether anything is looked for line by line there.
    pub(super) fn reads_lines_of(&self, stream: Stream) -> bool {
        stream == Stream::Stdout || !self.regexes.is_empty() || self.line.is_some()
    }

    pub(super) fn is_failure(&self, pattern: usize) -> bool {
        self.patterns.get(pattern).is_some_and(|pattern| pattern.kind == FAILURE)
    }

    /// A line of the protocol.
    pub(super) fn line_for_us(&self, line: &[u8]) -> Option<Line> {
        if !line.starts_with(PREFIX.as_bytes()) {
            return None;
        }
        Line::parse(&String::from_utf8_lossy(line))
    }

    /// Whether this line, without control sequences, is the completion.
    pub(super) fn is_signal_line(&self, stream: Stream, line: &[u8]) -> bool {
        let is_alone = self.line.as_ref().is_some_and(|it| line.trim_ascii() == it.as_bytes());
        is_alone || stream == Stream::Stdout && self.is_review_signal(line)
    }

    /// Whether what has come of a line may be a completion that lacks only its line break.
    pub(super) fn may_become_signal(&self, unfinished: &[u8]) -> bool {
        let is_short = |line: &String| unfinished.len() <= line.len() + MAX_AROUND;
        !unfinished.is_empty() && self.line.as_ref().is_some_and(is_short)
            || self.review.is_some() && unfinished.starts_with(b"{")
    }

    /// Whether this line is the review's completion, of this run.
    fn is_review_signal(&self, line: &[u8]) -> bool {
        let Some((message, run)) = &self.review else { return false };
        if !line.trim_ascii_start().starts_with(b"{") {
            return false;
        }
        serde_json::from_slice::<ReviewLine>(line)
            .is_ok_and(|line| line.message == *message && line.run == *run)
    }

    /// Of what was found on one line, what is reported. An answer that refuses our key or our
    /// quota is an answer: the provider was reached, whatever the words around it say.
    pub(super) fn causes_of(&self, mut reached: Vec<(usize, u64)>) -> Vec<(usize, u64)> {
        let kind = |index: usize| self.patterns.get(index).map_or("", |p| p.kind.as_str());
        if reached.iter().any(|(index, _)| matches!(kind(*index), CREDENTIALS | QUOTA)) {
            reached.retain(|(index, _)| kind(*index) != PROVIDER);
        }
        reached
    }
}

/// Pattern kind: the job says itself that it failed.
pub(super) const FAILURE: &str = "failure";
/// Incident kinds that patterns may name, as far as the keeper reads them.
pub(super) const CREDENTIALS: &str = "credentials_rejected";
pub(super) const QUOTA: &str = "quota_exhausted";
pub(super) const PROVIDER: &str = "provider_unavailable";

/// A pattern that reached its count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Matched {
    /// Which of the order's patterns.
    pub(super) pattern: usize,
    /// How often so far in this run.
    pub(super) count: u64,
    /// The text around it, not redacted.
    pub(super) excerpt: Vec<u8>,
}

/// How often each pattern was found in this run, in all streams and calls together.
#[derive(Debug, Default)]
pub(super) struct MatchCounter {
    patterns: Vec<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    total: u64,
    /// When it was found, the newest last; only what `within` needs.
    times: VecDeque<Duration>,
    reported_at: Option<Duration>,
    suppressed: Option<Matched>,
}

impl MatchCounter {
    fn of(&mut self, pattern: usize) -> &mut Counted {
        if self.patterns.len() <= pattern {
            self.patterns.resize_with(pattern + 1, Counted::default);
        }
        &mut self.patterns[pattern]
    }

    /// Counts one match; the number of all if the pattern's count is reached.
    pub(super) fn count(&mut self, rules: &Rules, pattern: usize, now: Duration) -> Option<u64> {
        let rule = rules.patterns.get(pattern)?;
        let counted = self.of(pattern);
        counted.total += 1;
        let needed = rule.count.max(1);
        let is_reached = match rule.within {
            None => counted.total >= u64::from(needed),
            Some(within) => {
                let needed = usize::try_from(needed).unwrap_or(MAX_REMEMBERED);
                let needed = needed.min(MAX_REMEMBERED);
                counted.times.push_back(now);
                while counted.times.len() > needed {
                    counted.times.pop_front();
                }
                counted.times.len() == needed
                    && counted
                        .times
                        .front()
                        .is_some_and(|first| now.saturating_sub(*first) <= within)
            }
        };
        is_reached.then_some(counted.total)
    }

    /// Lets a match through, or holds it back if its pattern was reported just before.
    pub(super) fn say(&mut self, matched: Matched, now: Duration) -> Option<Matched> {
        let counted = self.of(matched.pattern);
        let is_due =
            counted.reported_at.is_none_or(|at| now.saturating_sub(at) >= MIN_REPORT_INTERVAL);
        if !is_due {
            counted.suppressed = Some(matched);
            return None;
        }
        counted.reported_at = Some(now);
        counted.suppressed = None;
        Some(matched)
    }

    /// What was held back.
    pub(super) fn take_suppressed(&mut self, now: Duration) -> Vec<Matched> {
        let mut suppressed = Vec::new();
        for counted in &mut self.patterns {
            if let Some(matched) = counted.suppressed.take() {
                counted.reported_at = Some(now);
                suppressed.push(matched);
            }
        }
        suppressed
    }
}

/// What a text says about why a provider failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cause {
    /// The provider, if it is named.
    pub(super) provider: Option<String>,
    /// The HTTP status, if the provider gave one.
    pub(super) status: Option<u16>,
}

/// Signs that there was no connection. The gRPC client of the old service calls that "503", but
/// nobody answered so.
const UNREACHABLE: [&str; 11] = [
    "failed to connect",
    "timeout of ",
    "timed out",
    "handshaker shutdown",
    "connection refused",
    "connection reset",
    "no route to host",
    "network is unreachable",
    "name or service not known",
    "name resolution",
    "deadline exceeded",
];

/// A status as services write it (`503 Service Unavailable`, `400: bad`, `HTTP/1.1 503`,
/// `"error": "503 overloaded"`), and not the number in "450 s" or "500 images".
static STATUS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?:^|[\s(\[\x22])([45]\d\d)(?:\s+[A-Z][A-Za-z]|[:,.\x22'\])])",
        r"|(?i:error|status|code|exception|http)[\w/.]*[\x22':=\s]+([45]\d\d)\b",
    ))
    .ok()
});

impl Cause {
    /// Reads it out of the text around a match.
    pub(super) fn read(text: &str) -> Self {
        let lower = text.to_lowercase();
        let provider = lower.contains("gemini").then(|| "gemini".to_owned());
        if UNREACHABLE.iter().any(|sign| lower.contains(sign)) {
            return Self { provider, status: None };
        }
        let found = STATUS.as_ref().and_then(|shape| shape.captures(text));
        let status = found.and_then(|found| found.get(1).or(found.get(2))?.as_str().parse().ok());
        Self { provider, status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rundir::tests::order;

    #[test]
    fn the_old_services_timeout_is_no_503() {
        let text = "Gemini API key validation failed: Timeout of 600.0s exceeded, last exception: \
                    503 failed to connect to all addresses; last error: UNKNOWN: \
                    ipv4:1.2.3.4:443: tcp handshaker shutdown";
        let cause = Cause::read(text);
        assert_eq!(cause, Cause { provider: Some("gemini".into()), status: None });
        let text = "Gemini API key validation failed: 400 API key not valid.";
        assert_eq!(Cause::read(text).status, Some(400));
    }

    #[test]
    fn a_number_is_a_status_only_where_services_write_one() {
        for (text, status) in [
            ("503 Service Unavailable", Some(503)),
            ("error: 429, slow down", Some(429)),
            ("(500)", Some(500)),
            ("HTTP/1.1 503 overloaded", Some(503)),
            (r#"{"error":"503 overloaded"}"#, Some(503)),
            ("status=502", Some(502)),
            ("status code: 404", Some(404)),
            ("took 450 s", None),
            ("images left: 500", None),
            ("500 images left", None),
            ("v1.503.2", None),
        ] {
            assert_eq!(Cause::read(text).status, status, "{text}");
        }
    }

    #[test]
    fn a_count_within_a_time_forgets_what_is_older() {
        let mut order = order("run");
        order.patterns.push(Pattern {
            text: Some("503".into()),
            regex: None,
            kind: PROVIDER.into(),
            count: 3,
            within: Some(Duration::from_secs(60)),
        });
        let rules = Rules::new(&order).unwrap();
        let mut counter = MatchCounter::default();
        let mut count = |at| counter.count(&rules, 0, Duration::from_secs(at));
        assert_eq!(count(0), None);
        assert_eq!(count(30), None);
        assert_eq!(count(70), None, "the first is older than a minute");
        assert_eq!(count(80), Some(4));
    }

    #[test]
    fn a_review_signals_only_for_its_own_run() {
        let mut order = order("run-7");
        order.signal = Signal::Review { message: "Done.".into() };
        let rules = Rules::new(&order).unwrap();
        assert!(rules.is_review_signal(br#"{"message":"Done.","run":"run-7","summary":{"a":1}}"#));
        assert!(!rules.is_review_signal(br#"{"message":"Done.","run":"run-8"}"#));
        assert!(!rules.is_review_signal(br#"{"message":"Done."}"#));
        assert!(!rules.is_review_signal(br#"{"message":"Done.","run":"run-7""#));
        assert!(!rules.is_review_signal(b"Done."));
    }
}
