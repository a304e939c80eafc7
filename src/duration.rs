//! Lengths of time as people write and read them. A leaf, and pure.
//!
//! One grammar for files and the command line (`1h30m`), one form to write it back, one form for
//! sentences (`1 h 30 min`).
//! Invariant: nothing is guessed: a bare number, a unit twice or out of order is refused.

use std::time::Duration;

/// Seconds per unit, largest first: the order they must be written in.
const UNITS: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// A century: beyond it, sums with today's date could overflow.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// `1h30m`, `2w`, `90s`, `500ms`.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    if let Some(millis) = text.strip_suffix("ms") {
        let is_number = !millis.is_empty() && millis.bytes().all(|b| b.is_ascii_digit());
        let millis = if is_number { millis.parse().ok() } else { None };
        return millis.map(Duration::from_millis).filter(|length| *length <= LONGEST);
    }
    let mut rest = text;
    let mut seconds: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let n_digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..n_digits].parse().ok()?;
        rest = &rest[n_digits..];
        let (unit, factor) = units.find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        seconds = seconds.checked_add(number.checked_mul(*factor)?)?;
    }
    let length = Duration::from_secs(seconds);
    (!text.is_empty() && length <= LONGEST).then_some(length)
}

/// As it would be written in a file: `1h30m`.
#[must_use]
pub fn written(length: Duration) -> String {
    if length.subsec_millis() > 0 {
        return format!("{}ms", length.as_millis());
    }
    let mut rest = length.as_secs();
    let mut out = String::new();
    // Weeks are read and not written: `8d` is clearer than `1w1d`.
    for (unit, factor) in UNITS.into_iter().filter(|(unit, _)| *unit != "w") {
        if rest >= factor {
            out.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// For sentences, as exact as it matters: `45 s`, `2 min 5 s`, `12 min`, `1 h 12 min`, `1 day 3 h`.
#[must_use]
pub fn spoken(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let with_rest = |text: String, rest: u64, unit: &str| {
        if rest == 0 { text } else { format!("{text} {rest} {unit}") }
    };
    if days > 0 {
        let unit = if days == 1 { "day" } else { "days" };
        with_rest(format!("{days} {unit}"), hours % 24, "h")
    } else if hours > 0 {
        with_rest(format!("{hours} h"), minutes % 60, "min")
    } else if minutes >= 10 {
        format!("{minutes} min")
    } else if minutes > 0 {
        with_rest(format!("{minutes} min"), seconds % 60, "s")
    } else {
        format!("{seconds} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_written_alike() {
        for (text, seconds) in [
            ("45m", 2_700),
            ("1m30s", 90),
            ("1h30m", 5_400),
            ("1d2h3m4s", 93_784),
            ("8d", 691_200),
            ("0s", 0),
        ] {
            let length = Duration::from_secs(seconds);
            assert_eq!(parse(text), Some(length), "{text}");
            assert_eq!(written(length), text);
        }
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(written(Duration::from_millis(250)), "250ms");
        assert_eq!(parse("2w"), Some(Duration::from_secs(1_209_600)));
    }

    #[test]
    fn what_could_mean_two_things_is_no_length() {
        for text in [
            "",
            "45",
            "m",
            "30m1h",
            "5m5m",
            "1.5h",
            "-5m",
            "5 m",
            "45min",
            "m5",
            "5m250ms",
            "1d1w",
            "9999999d",
            "99999999999999999999s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn sentences_are_as_exact_as_it_matters() {
        for (seconds, text) in [
            (0, "0 s"),
            (45, "45 s"),
            (125, "2 min 5 s"),
            (120, "2 min"),
            (725, "12 min"),
            (4_320, "1 h 12 min"),
            (97_200, "1 day 3 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(spoken(Duration::from_secs(seconds)), text);
        }
    }
}
