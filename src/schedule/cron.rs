//! A cron expression and the instants it means in a time zone.
//!
//! croner parses the fields and finds the next time on the wall clock; what a wall clock time
//! means on the two nights a year when the clock is changed is decided here, by Vixie's rules
//! (cron(8), "Daylight Saving Time and other time changes"):
//! - An expression whose minute or hour begins with `*` keeps real time: every instant whose wall
//!   clock time matches, both passes of a repeated hour, nothing for an hour that does not exist.
//! - Any other expression names fixed times. One that does not exist runs at the first instant
//!   after the gap, several such ones run once; one that comes twice runs at the first.
//!
//! croner knows these rules for a single time only: `0,30 2 * * *` would not run on the gap night,
//! and `0 1,2 * * *` twice on the other one. So fixed times are looked for on a plain calendar, without
//! a zone, and each is then resolved by [`resolve`]; both steps keep the order, so the first
//! resolved instant after `after` is the next one.
//! Invariant: [`Expression::next_after`] is later than what it was asked.

use std::fmt;

use chrono::offset::LocalResult;
use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use thiserror::Error;

/// Why an expression was refused, in words for the person who wrote it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SlotError {
    /// Nothing there.
    #[error(
        "the cron expression is empty: write five fields (minute hour day month weekday), \
         like `0 * * * *` for every full hour"
    )]
    Empty,
    /// Not five or six.
    #[error(
        "`{expression}` has {n_fields} field(s): a cron expression has five (minute hour day month \
         weekday), or six with seconds in front"
    )]
    FieldCount {
        /// As written.
        expression: String,
        /// How many it has.
        n_fields: usize,
    },
    /// `@something` that is not known.
    #[error(
        "`{expression}` is not known: use @hourly, @daily (@midnight), @weekly, @monthly, \
         @yearly (@annually), or five fields"
    )]
    Nickname {
        /// As written.
        expression: String,
    },
    /// One field makes no sense.
    #[error("`{text}` is no {field} ({hint}), in the cron expression `{expression}`")]
    Field {
        /// As written.
        expression: String,
        /// Which one.
        field: &'static str,
        /// What stands there.
        text: String,
        /// What may stand there.
        hint: &'static str,
    },
    /// Each field is good, together they are not.
    #[error("the cron expression `{expression}` can't be understood: {why}")]
    Refused {
        /// As written.
        expression: String,
        /// croner's words.
        why: String,
    },
    /// No date has it.
    #[error(
        "the cron expression `{expression}` never comes: no date fits its day and month \
         (like a 30th of February)"
    )]
    NoFuture {
        /// As written.
        expression: String,
    },
}

/// A field: its name, the letters it may hold besides digits and `* , - /`, its names, a hint.
struct Field {
    name: &'static str,
    letters: &'static str,
    words: &'static [&'static str],
    hint: &'static str,
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const FIELDS: [Field; 6] = [
    Field { name: "second", letters: "", words: &[], hint: "0 to 59, like `0`, `0,30` or `*/10`" },
    Field {
        name: "minute",
        letters: "",
        words: &[],
        hint: "0 to 59, like `0`, `0,30`, `10-50/10` or `*/10`",
    },
    Field {
        name: "hour",
        letters: "",
        words: &[],
        hint: "0 to 23, like `5`, `1,13`, `8-18` or `*/2`",
    },
    Field {
        name: "day of the month",
        letters: "LW?",
        words: &[],
        hint: "1 to 31, `L` for the last, `15W` for the nearest weekday",
    },
    Field {
        name: "month",
        letters: "",
        words: &MONTHS,
        hint: "1 to 12 or JAN to DEC, like `1-6` or `MAR,SEP`",
    },
    Field {
        name: "weekday",
        letters: "L?#+",
        words: &WEEKDAYS,
        hint: "0 to 7 or SUN to SAT (0 and 7 are Sunday), like `MON-FRI`, `5L` or `MON#1`",
    },
];

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

/// How an expression goes through the two nights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Names times of day.
    Fixed,
    /// Keeps real time.
    Wildcard,
}

/// A cron expression, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    cron: Cron,
    kind: Kind,
}

/// What the change of the clock did to one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DstNote {
    /// Its time does not exist that night; it runs when the clock has jumped.
    Carried {
        /// The first such time, on the wall clock.
        from: NaiveDateTime,
        /// How many such times run as this one slot.
        n_times: usize,
    },
    /// Its time comes twice that night; it runs the first time only.
    FirstOnly,
    /// The hour comes twice and the expression keeps real time: first pass.
    FirstPass,
    /// … second pass.
    SecondPass,
}

impl fmt::Display for DstNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Carried { from, n_times: 1 } => {
                write!(f, "{} does not exist that night; runs after the gap", from.format("%H:%M"))
            }
            Self::Carried { from, n_times } => write!(
                f,
                "{} and {} more do not exist that night; run once, after the gap",
                from.format("%H:%M"),
                n_times - 1
            ),
            Self::FirstOnly => f.write_str("comes twice that night; runs the first time only"),
            Self::FirstPass => f.write_str("the hour comes twice; first pass"),
            Self::SecondPass => f.write_str("the hour comes twice; second pass"),
        }
    }
}

/// The clock of a zone is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// First instant with the new time.
    pub at: DateTime<Utc>,
    /// What the wall clock would have shown then …
    pub wall_before: NaiveDateTime,
    /// … and what it shows instead.
    pub wall_after: NaiveDateTime,
}

impl Expression {
    /// Understands five or six fields or an `@…` form.
    ///
    /// # Errors
    /// Text for the person who wrote it; also for an expression that no date fits.
    pub fn parse(text: &str) -> Result<Self, SlotError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SlotError::Empty);
        }
        let expression = || text.to_owned();
        let plain = if text.starts_with('@') {
            nickname(text).ok_or_else(|| SlotError::Nickname { expression: expression() })?
        } else {
            text
        };
        let fields: Vec<&str> = plain.split_whitespace().collect();
        if !(5..=6).contains(&fields.len()) {
            return Err(SlotError::FieldCount { expression: expression(), n_fields: fields.len() });
        }
        let first = FIELDS.len() - fields.len();
        for (place, field) in fields.iter().enumerate() {
            check_field(place + first, field, text)?;
        }
        let cron = parser()
            .parse(&fields.join(" "))
            .map_err(|e| SlotError::Refused { expression: expression(), why: e.to_string() })?;
        let starts_with_star = |place: usize| fields[place - first].starts_with('*');
        let kind =
            if starts_with_star(1) || starts_with_star(2) { Kind::Wildcard } else { Kind::Fixed };
        let understood = Self { cron, kind };
        // Without a year field the calendar repeats, so any beginning will do.
        if understood.next_wall(DateTime::UNIX_EPOCH.naive_utc()).is_none() {
            return Err(SlotError::NoFuture { expression: expression() });
        }
        Ok(understood)
    }

    /// The first instant after `after` that it means in `zone`, at whole seconds.
    #[must_use]
    pub fn next_after(&self, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let after_whole = after.with_nanosecond(0)?;
        let next = match self.kind {
            Kind::Wildcard => {
                let local = after_whole.with_timezone(&zone);
                self.cron.find_next_occurrence(&local, false).ok()?.with_timezone(&Utc)
            }
            Kind::Fixed => {
                let mut wall = after_whole.with_timezone(&zone).naive_local();
                // At most the seconds of a repeated hour are passed over: their first pass is
                // behind us.
                loop {
                    wall = self.next_wall(wall)?;
                    let instant = resolve(zone, wall)?;
                    if instant > after_whole {
                        break instant;
                    }
                }
            }
        };
        // Whatever the time zone tables say: a slot that is not later would be run for ever.
        (next > after).then_some(next)
    }

    /// The next matching time on a calendar without a zone.
    fn next_wall(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        self.cron.find_next_occurrence(&after.and_utc(), false).ok().map(|next| next.naive_utc())
    }

    /// What a change of the clock did to the slot at `due`, if anything.
    #[must_use]
    pub fn dst_note(&self, zone: Tz, due: DateTime<Utc>) -> Option<DstNote> {
        let local = due.with_timezone(&zone).naive_local();
        match (zone.from_local_datetime(&local), self.kind) {
            (LocalResult::Ambiguous(first, _), Kind::Wildcard) => {
                let is_first = first.with_timezone(&Utc) == due;
                Some(if is_first { DstNote::FirstPass } else { DstNote::SecondPass })
            }
            (LocalResult::Ambiguous(..), Kind::Fixed) => Some(DstNote::FirstOnly),
            (_, Kind::Wildcard) => None,
            (_, Kind::Fixed) => {
                let change = transition_within(zone, due - TimeDelta::seconds(1), due)?;
                let times = self.wall_times_in_gap(&change);
                let from = *times.first()?;
                Some(DstNote::Carried { from, n_times: times.len() })
            }
        }
    }

    /// How many of its times do not exist because of this change and are not carried past it
    /// (an expression that keeps real time has none to carry).
    #[must_use]
    pub fn n_lost_in_gap(&self, change: &Transition) -> usize {
        match self.kind {
            Kind::Wildcard => self.wall_times_in_gap(change).len(),
            Kind::Fixed => 0,
        }
    }

    /// Its times between what the clock would have shown and what it shows instead.
    fn wall_times_in_gap(&self, change: &Transition) -> Vec<NaiveDateTime> {
        let mut times = Vec::new();
        let mut wall = change.wall_before - TimeDelta::seconds(1);
        while let Some(next) = self.next_wall(wall) {
            if next >= change.wall_after {
                break;
            }
            times.push(next);
            wall = next;
        }
        times
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build()
}

/// Names the field that is wrong, which croner does not; `place` counts from the seconds.
fn check_field(place: usize, text: &str, expression: &str) -> Result<(), SlotError> {
    let field = &FIELDS[place];
    let mut without_words = text.to_uppercase();
    for word in field.words {
        without_words = without_words.replace(word, "0");
    }
    // croner takes `1,,2` and `JAN` for a weekday; neither is what its writer meant.
    let strange = without_words.split(',').any(str::is_empty)
        || without_words
            .chars()
            .any(|c| !(c.is_ascii_digit() || "*,-/".contains(c) || field.letters.contains(c)));
    // The field alone, among stars, so that croner's complaint is about it.
    let mut alone = ["*"; 6];
    alone[place] = text;
    if strange || parser().parse(&alone.join(" ")).is_err() {
        return Err(SlotError::Field {
            expression: expression.to_owned(),
            field: field.name,
            text: text.to_owned(),
            hint: field.hint,
        });
    }
    Ok(())
}

/// The instant at which a fixed wall clock time runs: the first of two, or the first after a gap.
fn resolve(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.with_timezone(&Utc)),
        LocalResult::None => {
            // No zone is further than a day from UTC, and none changes twice in two days.
            let day = TimeDelta::days(1);
            transition_within(zone, wall.and_utc() - day, wall.and_utc() + day)
                .map(|change| change.at)
        }
    }
}

fn offset(zone: Tz, at: DateTime<Utc>) -> TimeDelta {
    let offset = zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    TimeDelta::seconds(i64::from(offset.local_minus_utc()))
}

/// The change of the clock in `(from, until]`, if the time differs at the two ends.
fn transition_within(zone: Tz, from: DateTime<Utc>, until: DateTime<Utc>) -> Option<Transition> {
    let before = offset(zone, from);
    if offset(zone, until) == before {
        return None;
    }
    let (mut old, mut new) = (from, until);
    while new - old > TimeDelta::seconds(1) {
        let middle = old + TimeDelta::seconds((new - old).num_seconds() / 2);
        if offset(zone, middle) == before {
            old = middle;
        } else {
            new = middle;
        }
    }
    let at = new.naive_utc();
    Some(Transition { at: new, wall_before: at + before, wall_after: at + offset(zone, new) })
}

/// Every change of the clock in `(from, until]`.
#[must_use]
pub fn transitions(zone: Tz, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Transition> {
    let mut found = Vec::new();
    let mut day = from.with_nanosecond(0).unwrap_or(from);
    while day < until {
        let next = (day + TimeDelta::days(1)).min(until);
        found.extend(transition_within(zone, day, next));
        day = next;
    }
    found
}

#[cfg(test)]
mod tests;
