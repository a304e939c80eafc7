//! Time zones: what a wall clock shows at an instant, by the newest rules at hand.
//!
//! [`TimeZones`] chooses between the machine's time zone data and the copy that is compiled in, and
//! hands out a [`Zone`] by its name. jiff reads the `TZif` data (RFC 9636); a zone implements
//! [`chrono::TimeZone`], so that the rest of the program knows chrono alone. Which slot a wall clock
//! time means is `schedule`'s business.
//! Invariant: a zone never changes. When the data do, [`TimeZones`] hands out another one, which is
//! not equal to the one before if it shows another time anywhere between 2000 and 2100.

mod database;
mod version;

use std::fmt;
use std::sync::{Arc, OnceLock};

use chrono::offset::LocalResult;
use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, Offset, Timelike, Utc};
use jiff::Timestamp;
use jiff::tz::AmbiguousOffset;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use database::{Origin, SYSTEM_FOLDER, TimeZones};
pub use version::Version;

/// 2000-01-01 and 2100-01-01 in Unix seconds: two zones are the same if they agree in between. What
/// was before no slot of ours, what comes after no plan of ours.
const COMPARED_S: (i64, i64) = (946_684_800, 4_102_444_800);

/// A time zone with its rules.
///
/// As JSON it is two fields of whatever holds it (`#[serde(flatten)]`): `timezone`, its name, and
/// `timezone_rules`, which says by which rules that was computed. A zone that was read from JSON has
/// the rules of the built-in copy until [`TimeZones::bind`] gives it the present ones; its
/// `timezone_rules` stay what they were, so that a change of the rules shows in a comparison.
#[derive(Clone)]
pub struct Zone {
    name: Arc<str>,
    /// Of one that was read from JSON: found when they are first needed. Most rows are never asked.
    rules: Arc<OnceLock<jiff::tz::TimeZone>>,
    fingerprint: Option<Fingerprint>,
}

/// What distinguishes two sets of rules.
type Fingerprint = u64;

impl Zone {
    /// Coordinated Universal Time.
    #[must_use]
    pub fn utc() -> Self {
        Self::new("UTC", jiff::tz::TimeZone::UTC)
    }

    /// The zone of this name by the rules that are compiled in, whatever the machine has.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        database::built_in(name)
    }

    /// With the rules of a `TZif` file.
    fn from_tzif(name: &str, data: &[u8]) -> Result<Self, jiff::Error> {
        Ok(Self::new(name, jiff::tz::TimeZone::tzif(name, data)?))
    }

    fn new(name: &str, rules: jiff::tz::TimeZone) -> Self {
        let rules = Arc::new(OnceLock::from(rules));
        let mut zone = Self { name: name.into(), rules, fingerprint: None };
        zone.fingerprint = Some(zone.compute_fingerprint());
        zone
    }

    fn rules(&self) -> &jiff::tz::TimeZone {
        // A name that only the machine's data know has UTC's rules until it is bound.
        self.rules
            .get_or_init(|| database::built_in_rules(&self.name).unwrap_or(jiff::tz::TimeZone::UTC))
    }

    /// As a person wrote it: `Europe/Berlin`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is UTC by name.
    #[must_use]
    pub fn is_utc(&self) -> bool {
        &*self.name == "UTC"
    }

    /// Whether it was recorded by other rules than those it has now, or nobody knows by which.
    #[must_use]
    pub fn has_other_rules_now(&self) -> bool {
        !self.is_utc() && self.fingerprint != Some(self.compute_fingerprint())
    }

    /// The stretch without a change of the clock that holds `at`.
    #[must_use]
    pub fn segment(&self, at: DateTime<Utc>) -> Segment {
        let Some(timestamp) = timestamp(at) else { return Segment::without_end(0) };
        let offset_s = self.rules().to_offset(timestamp).seconds();
        // Of the transitions, one at `at` itself has happened.
        let from = Timestamp::from_second(at.timestamp() + 1)
            .ok()
            .and_then(|next| self.rules().preceding(next).next())
            .map(|transition| transition.timestamp());
        let until =
            self.rules().following(timestamp).next().map(|transition| transition.timestamp());
        let offset_before_s = from
            .and_then(|from| Timestamp::from_second(from.as_second() - 1).ok())
            .map_or(offset_s, |before| self.rules().to_offset(before).seconds());
        Segment {
            from: from.and_then(instant),
            until: until.and_then(instant),
            offset_s,
            offset_before_s,
        }
    }

    fn compute_fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        let Ok(from) = Timestamp::from_second(COMPARED_S.0) else { return 0 };
        let mut offset_s = self.rules().to_offset(from).seconds();
        hash.update(offset_s.to_be_bytes());
        for transition in self.rules().following(from) {
            let at = transition.timestamp().as_second();
            if at > COMPARED_S.1 {
                break;
            }
            // One that only renames the time is none.
            if transition.offset().seconds() != offset_s {
                offset_s = transition.offset().seconds();
                hash.update(at.to_be_bytes());
                hash.update(offset_s.to_be_bytes());
            }
        }
        hash.finalize().iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    }
}

/// A stretch of time without a change of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first instant; `None`: it has no beginning.
    pub from: Option<DateTime<Utc>>,
    /// The first instant after it; `None`: it has no end.
    pub until: Option<DateTime<Utc>>,
    /// Local time minus UTC, in seconds.
    pub offset_s: i32,
    /// The same before it began.
    pub offset_before_s: i32,
}

impl Segment {
    fn without_end(offset_s: i32) -> Self {
        Self { from: None, until: None, offset_s, offset_before_s: offset_s }
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.fingerprint == other.fingerprint
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A zone as JSON.
#[derive(Serialize, Deserialize)]
struct Stored {
    timezone: String,
    /// Missing: stored before rules were recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timezone_rules: Option<String>,
}

impl Serialize for Zone {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Stored {
            timezone: self.name.to_string(),
            timezone_rules: self.fingerprint.map(|fingerprint| format!("{fingerprint:016x}")),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        let rules = Arc::default();
        let fingerprint =
            stored.timezone_rules.and_then(|text| Fingerprint::from_str_radix(&text, 16).ok());
        Ok(Self { name: stored.timezone.into(), rules, fingerprint })
    }
}

/// What a zone's clock shows relative to UTC at some instant.
#[derive(Clone)]
pub struct ZoneOffset {
    zone: Zone,
    fixed: FixedOffset,
    /// `CEST`, or `+11` where a zone has no letters.
    abbreviation: Arc<str>,
}

impl Offset for ZoneOffset {
    fn fix(&self) -> FixedOffset {
        self.fixed
    }
}

impl fmt::Display for ZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.abbreviation)
    }
}

impl fmt::Debug for ZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.abbreviation)
    }
}

impl chrono::TimeZone for Zone {
    type Offset = ZoneOffset;

    fn from_offset(offset: &ZoneOffset) -> Self {
        offset.zone.clone()
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> LocalResult<ZoneOffset> {
        self.offset_from_local_datetime(&local.and_time(chrono::NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> LocalResult<ZoneOffset> {
        let Some(civil) = civil(local) else { return LocalResult::None };
        let at = |offset: jiff::tz::Offset| {
            let at = local.and_utc() - chrono::TimeDelta::seconds(i64::from(offset.seconds()));
            self.offset_from_utc_datetime(&at.naive_utc())
        };
        match self.rules().to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => LocalResult::Single(at(offset)),
            AmbiguousOffset::Gap { .. } => LocalResult::None,
            AmbiguousOffset::Fold { before, after } => {
                LocalResult::Ambiguous(at(before), at(after))
            }
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> ZoneOffset {
        self.offset_from_utc_datetime(&utc.and_time(chrono::NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> ZoneOffset {
        // Outside of the years that jiff knows (-9999 to 9999) every clock shows UTC.
        let Some(timestamp) = timestamp(utc.and_utc()) else {
            let (fixed, abbreviation) = (Utc.fix(), "UTC".into());
            return ZoneOffset { zone: self.clone(), fixed, abbreviation };
        };
        let info = self.rules().to_offset_info(timestamp);
        let fixed = FixedOffset::east_opt(info.offset().seconds()).unwrap_or_else(|| Utc.fix());
        ZoneOffset { zone: self.clone(), fixed, abbreviation: info.abbreviation().into() }
    }
}

fn timestamp(at: DateTime<Utc>) -> Option<Timestamp> {
    Timestamp::from_second(at.timestamp()).ok()
}

fn instant(timestamp: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(timestamp.as_second(), 0)
}

fn civil(local: &NaiveDateTime) -> Option<jiff::civil::DateTime> {
    let small = |number: u32| i8::try_from(number).ok();
    jiff::civil::DateTime::new(
        i16::try_from(local.year()).ok()?,
        small(local.month())?,
        small(local.day())?,
        small(local.hour())?,
        small(local.minute())?,
        small(local.second())?,
        // A leap second of chrono's is more than a second of nanoseconds.
        i32::try_from(local.nanosecond().min(999_999_999)).ok()?,
    )
    .ok()
}
