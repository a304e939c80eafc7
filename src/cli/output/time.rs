//! Times and lengths of time as people read them.
//!
//! Pure. Invariant: a time never stands without its zone, unless the column's heading names it.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};

use crate::timezone::Zone;

/// `in 12 min`, `3 h ago`, `now`: the two largest parts that matter to a person.
#[must_use]
pub fn relative(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let ahead = at - now;
    if ahead.abs() < TimeDelta::seconds(1) {
        return "now".to_owned();
    }
    let text = Span(ahead.abs().to_std().unwrap_or_default()).to_string();
    if ahead > TimeDelta::zero() { format!("in {text}") } else { format!("{text} ago") }
}

/// A length of time for people: `45 s`, `12 min`, `1 h 5 min`, `3 d 4 h`.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        let two = |large: String, rest: u64, unit: &str| match rest {
            0 => large,
            rest => format!("{large} {rest} {unit}"),
        };
        let text = match seconds {
            0 => format!("{} ms", self.0.subsec_millis()),
            1..60 => format!("{seconds} s"),
            60..600 => two(format!("{minutes} min"), seconds % 60, "s"),
            600..3600 => format!("{minutes} min"),
            3600..86_400 => two(format!("{hours} h"), minutes % 60, "min"),
            _ => two(format!("{days} d"), hours % 24, "h"),
        };
        f.pad(&text)
    }
}

/// `2026-11-22 11:00:00`, for a column whose heading says UTC.
#[must_use]
pub fn utc(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// `Sun 12:00 CET`: what the clock on the wall says, with the day, because UTC may have another.
#[must_use]
pub fn local(at: DateTime<Utc>, zone: &Zone) -> String {
    at.with_timezone(zone).format("%a %H:%M %Z").to_string()
}

/// `22 Nov 11:00`, with seconds where there are any and the year where it is another than now: for a
/// narrow column whose heading says UTC.
#[must_use]
pub fn short_utc(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let day = if at.year() == now.year() { "%d %b" } else { "%d %b %Y" };
    let hour = if at.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
    at.format(&format!("{day} {hour}")).to_string()
}

/// `12:00 CET`.
#[must_use]
pub fn local_hour(at: DateTime<Utc>, zone: &Zone) -> String {
    at.with_timezone(zone).format("%H:%M %Z").to_string()
}

/// All three on one line: `11:00:00 UTC on 2026-11-22 (Sun 12:00 CET, 3 h ago)`.
#[must_use]
pub fn moment(at: DateTime<Utc>, zone: Option<&Zone>, now: DateTime<Utc>) -> String {
    let ago = relative(at, now);
    match zone.filter(|zone| !zone.is_utc()) {
        Some(zone) => format!("{} UTC ({}, {ago})", utc(at), local(at, zone)),
        None => format!("{} UTC ({ago})", utc(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        let now = at("2026-11-22T11:00:00Z");
        for (when, said) in [
            ("2026-11-22T11:00:00.4Z", "now"),
            ("2026-11-22T11:00:45Z", "in 45 s"),
            ("2026-11-22T10:58:30Z", "1 min 30 s ago"),
            ("2026-11-22T11:45:20Z", "in 45 min"),
            ("2026-11-22T05:55:00Z", "5 h 5 min ago"),
            ("2026-11-22T17:00:00Z", "in 6 h"),
            ("2026-11-25T15:00:00Z", "in 3 d 4 h"),
            ("2026-11-15T11:00:00Z", "7 d ago"),
        ] {
            assert_eq!(relative(at(when), now), said, "{when}");
        }
        let berlin = Zone::built_in("Europe/Berlin");
        assert_eq!(
            moment(at("2026-11-22T23:30:00Z"), berlin.as_ref(), now),
            "2026-11-22 23:30:00 UTC (Mon 00:30 CET, in 12 h 30 min)"
        );
    }
}
