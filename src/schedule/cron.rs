//! A cron expression and the instants it means in a time zone.
//!
//! `fields.rs` reads the fields, `calendar.rs` finds the next time on a plain calendar, `foreign.rs` answers
//! what other programs write. What a wall clock time means on the two nights a year when the clock is
//! changed is decided in `times.rs`, by Vixie's rules (cron(8), "Daylight Saving Time and other time
//! changes"), and so is how the two day fields go together (crontab(5)): a day must fit both if one of
//! them begins with `*`, else either is enough.
//! Invariant: [`Expression::next_after`] is later than what it was asked.

mod calendar;
mod fields;
mod foreign;
mod refusal;
mod remarks;
mod times;

use chrono::{DateTime, NaiveDateTime, Utc};

pub use refusal::Refusal;
pub use times::{DstNote, Times, Transition, transitions};

use self::calendar::{Calendar, DayRule, Fields, MonthDays, Weekdays};
use self::fields::{PLACES, Place};
use crate::timezone::Zone;

/// What `@…` stands for.
fn nickname(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => Some("0 0 1 1 *"),
        "@monthly" => Some("0 0 1 * *"),
        "@weekly" => Some("0 0 * * 0"),
        "@daily" | "@midnight" => Some("0 0 * * *"),
        "@hourly" => Some("0 * * * *"),
        _ => None,
    }
}

/// How an expression goes through the night of a clock change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Names times of day.
    Fixed,
    /// Its minute or hour begins with `*`: keeps real time.
    Wildcard,
}

/// A cron expression, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    calendar: Calendar,
    kind: Kind,
    /// The six fields as written, seconds first.
    written: Vec<String>,
    /// Whether the seconds were written.
    n_fields: usize,
}

/// One field, understood.
enum Understood {
    Bits(u64),
    MonthDays(MonthDays),
    Weekdays(Weekdays, Plus),
}

/// Whether a `+` stood before the weekday.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Written,
    Absent,
}

fn understand(place: Place, text: &str) -> Result<Understood, Refusal> {
    match place {
        Place::Second | Place::Minute | Place::Hour | Place::Month => {
            fields::plain(place, text).map(Understood::Bits)
        }
        Place::MonthDay => fields::month_days(text).map(Understood::MonthDays),
        Place::Weekday => match text.strip_prefix('+') {
            Some(text) => Ok(Understood::Weekdays(fields::weekdays(text)?, Plus::Written)),
            None => Ok(Understood::Weekdays(fields::weekdays(text)?, Plus::Absent)),
        },
    }
}

/// All fields together; `texts` begin with the seconds.
fn understand_all(texts: &[String]) -> Result<Fields, Refusal> {
    let mut fields = Fields {
        seconds: 0,
        minutes: 0,
        hours: 0,
        month_days: MonthDays::default(),
        months: 0,
        weekdays: Weekdays::default(),
        day_rule: DayRule::Either,
    };
    for (place, text) in PLACES.into_iter().zip(texts) {
        match (place, understand(place, text)?) {
            (Place::Second, Understood::Bits(bits)) => fields.seconds = bits,
            (Place::Minute, Understood::Bits(bits)) => fields.minutes = bits,
            // The values of these fields fit: 0 to 23 and 1 to 12.
            (Place::Hour, Understood::Bits(bits)) => {
                fields.hours = u32::try_from(bits).unwrap_or(0)
            }
            (_, Understood::Bits(bits)) => fields.months = u16::try_from(bits).unwrap_or(0),
            (_, Understood::MonthDays(days)) => fields.month_days = days,
            (_, Understood::Weekdays(weekdays, plus)) => {
                fields.weekdays = weekdays;
                if plus == Plus::Written {
                    fields.day_rule = DayRule::Both;
                }
            }
        }
        // A star says nothing about the day, so the other field decides: `0 0 */2 * MON` names
        // Mondays with an odd date (cron.c, `DOM_STAR` and `DOW_STAR`).
        let is_day = matches!(place, Place::MonthDay | Place::Weekday);
        if is_day && text.starts_with(['*', '?']) {
            fields.day_rule = DayRule::Both;
        }
    }
    Ok(fields)
}

impl Expression {
    /// Understands five or six fields or an `@…` form.
    ///
    /// # Errors
    /// Text for the person who wrote it; also for an expression that no date fits.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        if text.is_empty() {
            let instead = "write five fields (minute hour day month weekday), like `0 * * * *` for \
                           every full hour";
            return Err(Refusal::new("the cron expression is empty", instead));
        }
        let plain = nickname(text).unwrap_or(text);
        let words: Vec<&str> = plain.split_whitespace().collect();
        let written: Vec<String> = match words.len() {
            5 => std::iter::once("0").chain(words.iter().copied()).map(str::to_owned).collect(),
            6 => words.iter().copied().map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let fields = match understand_all(&written) {
            Ok(fields) if !written.is_empty() => fields,
            Ok(_) => return Err(foreign::recognise(text).unwrap_or_else(|| unknown(text))),
            Err(refusal) => {
                return Err(foreign::recognise(text).unwrap_or_else(|| refusal.within(text)));
            }
        };
        let calendar = Calendar::new(&fields);
        let begins_with_star = |place: usize| written[place].starts_with('*');
        let kind =
            if begins_with_star(1) || begins_with_star(2) { Kind::Wildcard } else { Kind::Fixed };
        if calendar.is_empty() {
            return Err(remarks::never(text, &written, fields.day_rule));
        }
        Ok(Self { calendar, kind, written, n_fields: words.len() })
    }

    /// The times after `after` that it means in `zone`, without end.
    pub fn times<'a>(&'a self, zone: &'a Zone, after: DateTime<Utc>) -> Times<'a> {
        Times::new(self, zone, after)
    }

    /// The first instant after `after` that it means in `zone`, at whole seconds.
    #[must_use]
    pub fn next_after(&self, zone: &Zone, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.times(zone, after).next()
    }

    /// The next matching time on a calendar without a zone.
    fn next_wall(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        self.calendar.next(after)
    }

    /// The shortest time between two that follow each other on a calendar without clock changes, in
    /// seconds; `None`: there is only ever one. The same whenever it is asked.
    #[must_use]
    pub fn shortest_gap_s(&self) -> Option<u32> {
        self.calendar.shortest_gap_s()
    }

    /// How many times a day has that it names.
    #[must_use]
    pub fn n_in_day(&self) -> u32 {
        self.calendar.n_in_day()
    }
}

fn unknown(text: &str) -> Refusal {
    let what = format!("{} is not a cron expression", refusal::quote(text));
    Refusal::new(what, "write five fields: minute, hour, day, month, weekday")
}
