//! How people write durations and sizes: `45m`, `1h30m`, `256MiB`.
//!
//! Pure. Invariant: nothing is guessed: a bare number, a unit twice or out of order is refused.

use std::time::Duration;

/// Seconds per unit, largest first: the order they must be written in.
const TIME_UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// Longest duration taken: above a year it is a slip (`300d` for `300s` still passes, `9999d` not),
/// and sums of a few of them can't overflow.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// `1h30m`, `90s`, `500ms`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    if let Some(millis) = text.strip_suffix("ms")
        && !millis.is_empty()
        && millis.bytes().all(|b| b.is_ascii_digit())
    {
        return millis.parse().ok().map(Duration::from_millis).filter(|d| *d <= LONGEST);
    }
    let mut rest = text;
    let mut seconds: u64 = 0;
    let mut units = TIME_UNITS.iter();
    while !rest.is_empty() {
        let n_digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..n_digits].parse().ok()?;
        rest = &rest[n_digits..];
        let (unit, factor) = units.find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        seconds = seconds.checked_add(number.checked_mul(*factor)?)?;
    }
    let duration = Duration::from_secs(seconds);
    (!text.is_empty() && duration <= LONGEST).then_some(duration)
}

/// `256MiB`, `50MB`, `64KiB`, `1000B`.
pub(super) fn size(text: &str) -> Option<u64> {
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..n_digits].parse().ok()?;
    let factor = match text[n_digits..].trim() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A duration as it would be written in a file.
#[must_use]
pub fn write_duration(duration: Duration) -> String {
    if duration.subsec_millis() > 0 {
        return format!("{}ms", duration.as_millis());
    }
    let mut rest = duration.as_secs();
    let mut out = String::new();
    for (unit, factor) in TIME_UNITS {
        if rest >= factor {
            out.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_alike() {
        for (text, seconds) in
            [("45m", 2_700), ("90s", 90), ("1h30m", 5_400), ("1d2h3m4s", 93_784), ("0s", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(write_duration(Duration::from_secs(5_400)), "1h30m");
        assert_eq!(write_duration(Duration::from_secs(60)), "1m");
        assert_eq!(write_duration(Duration::ZERO), "0s");
    }

    #[test]
    fn what_could_mean_two_things_is_no_duration() {
        for text in ["", "45", "m", "30m1h", "5m5m", "1.5h", "-5m", "5 m", "45min", "9999d", "m5"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(duration("99999999999999999999s"), None);
    }

    #[test]
    fn sizes_know_both_kinds_of_kilo() {
        assert_eq!(size("256MiB"), Some(256 << 20));
        assert_eq!(size("50MB"), Some(50_000_000));
        assert_eq!(size("1 GiB"), Some(1 << 30));
        for text in ["", "256", "MiB", "1.5GiB", "-1B", "99999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
