//! Times as people type them: an RFC 3339 time, a day, or a length counted from now.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

use crate::duration;

/// `7d`, `12h`, `1h30m`, `90s`.
///
/// # Errors
/// A text for clap to show.
pub fn length(text: &str) -> Result<Duration, String> {
    duration::parse(text.trim()).filter(|length| !length.is_zero()).ok_or_else(|| {
        format!("`{text}` is no length of time; write `90s`, `30m`, `1h30m`, `12h` or `7d`")
    })
}

/// A moment, or a length that its user counts from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// That moment.
    At(DateTime<Utc>),
    /// So long from now, in the direction that makes sense.
    Length(Duration),
}

impl When {
    /// `2026-11-22T05:00:00Z`, `2026-11-22` (its midnight, UTC), or a length.
    ///
    /// # Errors
    /// A text for clap to show.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(at.with_timezone(&Utc)));
        }
        if let Ok(day) = text.parse::<NaiveDate>() {
            return Ok(Self::At(day.and_time(NaiveTime::MIN).and_utc()));
        }
        length(text).map(Self::Length).map_err(|_| {
            format!(
                "`{text}` is no time; write `2026-11-22T05:00:00Z`, `2026-11-22` or a length like \
                 `24h`"
            )
        })
    }

    /// The moment, a length counting backwards.
    #[must_use]
    pub fn before(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(at) => at,
            Self::Length(length) => now - TimeDelta::from_std(length).unwrap_or_default(),
        }
    }

    /// The moment, a length counting forwards.
    #[must_use]
    pub fn after(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(at) => at,
            Self::Length(length) => now + TimeDelta::from_std(length).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_as_people_type_them() {
        assert_eq!(length("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(length("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "5", "h", "-1h", "1 h", "99999999999999999999d", "9999999d"] {
            assert!(length(wrong).is_err(), "{wrong}");
        }
        let at = |text: &str| When::parse(text).unwrap().before(DateTime::UNIX_EPOCH).to_rfc3339();
        assert_eq!(at("2026-11-22"), "2026-11-22T00:00:00+00:00");
        assert_eq!(at("2026-11-22T06:00:00+01:00"), "2026-11-22T05:00:00+00:00");
        assert_eq!(at("24h"), "1969-12-31T00:00:00+00:00");
        assert!(When::parse("yesterday").is_err());
    }
}
