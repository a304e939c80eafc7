//! Times, durations and numbers as people say them, and texts made safe to show.
//!
//! Invariant: nothing here fails; a zone that is unknown is UTC, a negative age is zero.

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Timelike, Utc};

use crate::timezone::Zone;

/// Tells times as seen from one place and one day.
#[derive(Clone, Debug)]
pub(super) struct Times {
    zone: Zone,
    today: NaiveDate,
}

impl Times {
    /// As people in `zone` (UTC if absent or unknown) say it at `now`.
    pub(super) fn new(zone: Option<&str>, now: DateTime<Utc>) -> Self {
        let zone = zone.and_then(Zone::built_in).unwrap_or_else(Zone::utc);
        Self { today: now.with_timezone(&zone).date_naive(), zone }
    }

    /// `05:00`, for the name of a run: local, seconds only if there are any, and the day if it is
    /// not today's.
    pub(super) fn of_run(&self, at: DateTime<Utc>) -> (String, Option<String>) {
        let local = at.with_timezone(&self.zone);
        let day = (local.date_naive() != self.today)
            .then(|| format!("{} {}", local.day(), local.format("%b")));
        (clock(&local), day)
    }

    /// `05:00 UTC`, `07:00 CET (06:00 UTC)`, `21 Nov 05:00 UTC`.
    pub(super) fn at(&self, at: DateTime<Utc>) -> String {
        let local = at.with_timezone(&self.zone);
        let mut text = String::new();
        if local.date_naive() != self.today {
            text = format!("{} {} ", local.day(), local.format("%b"));
        }
        text.push_str(&format!("{} {}", clock(&local), local.format("%Z")));
        if !self.zone.is_utc() {
            text.push_str(&format!(" ({} UTC)", clock(&at)));
        }
        text
    }
}

/// `05:00`, or `05:18:20`.
fn clock(at: &impl Timelike) -> String {
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    if second == 0 {
        format!("{hour:02}:{minute:02}")
    } else {
        format!("{hour:02}:{minute:02}:{second:02}")
    }
}

/// `45 s`, `12 min`, `1 h 12 min`, `2 days 3 h`; below zero it is `0 s`.
pub(super) fn duration(length: TimeDelta) -> String {
    crate::watch::words::duration(length.to_std().unwrap_or_default())
}

/// `1,240`.
pub(super) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 run`, `2 runs`.
pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// At most so many characters, the last one `…` if something is missing.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

/// One line without control characters, colour codes and direction tricks, so that a text from
/// outside can neither break a layout nor pretend to be ours.
pub(super) fn one_line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text without control characters (line feeds and tabs stay), colour codes and direction
/// overrides.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                // An ANSI sequence ends with a byte from @ to ~ (ECMA-48 §5.4).
                chars.next();
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c => out.push(c),
        }
    }
    out
}

/// The first letter in upper case.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
    }

    #[test]
    fn times_are_written_as_people_say_them() {
        let now = at("2026-11-22T06:10:00Z");
        let utc = Times::new(None, now);
        assert_eq!(utc.at(at("2026-11-22T05:00:00Z")), "05:00 UTC");
        assert_eq!(utc.at(at("2026-11-21T05:18:20Z")), "21 Nov 05:18:20 UTC");
        let berlin = Times::new(Some("Europe/Berlin"), now);
        assert_eq!(berlin.at(at("2026-11-22T06:00:00Z")), "07:00 CET (06:00 UTC)");
        assert_eq!(berlin.of_run(at("2026-11-22T06:00:00Z")), ("07:00".into(), None));
        assert_eq!(Times::new(Some("Nowhere"), now).at(now), "06:10 UTC");
    }

    #[test]
    fn durations_are_as_exact_as_they_matter() {
        for (seconds, text) in [
            (-5, "0 s"),
            (45, "45 s"),
            (125, "2 min 5 s"),
            (725, "12 min"),
            (3600, "1 h"),
            (4320, "1 h 12 min"),
            (97_200, "1 day 3 h"),
        ] {
            assert_eq!(duration(TimeDelta::seconds(seconds)), text);
        }
    }

    #[test]
    fn numbers_are_grouped_and_counted() {
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(number(900), "900");
        assert_eq!(counted(1, "run", "runs"), "1 run");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("ab😀cd", 4), "ab😀…");
        assert_eq!(cut("abcd", 4), "abcd");
    }

    #[test]
    fn a_text_from_outside_loses_what_could_deceive() {
        assert_eq!(clean("a\u{1b}[31mred\u{1b}[0m\u{0}\u{202e}b\nc"), "aredb\nc");
        assert_eq!(one_line("a\r\nBcc: x\t y"), "a Bcc: x y");
    }
}
