//! What the wall clock times of an expression are in a time zone, also on the nights of a clock change.
//!
//! - An expression whose minute or hour begins with `*` keeps real time: every instant whose wall clock
//!   time it names, both passes of a repeated hour, nothing for an hour that does not exist.
//! - Any other names fixed times. One that does not exist runs at the first instant after the gap, several
//!   such ones run once; one that comes twice runs at the first.
//!
//! Within one [`Segment`] the wall clock and UTC keep their distance, so the times of a segment are those
//! of the plain calendar; what lies in a gap or a repetition is seen where a segment begins.
//! Invariant: the times rise, whatever the time zone data say.

use std::fmt;

use chrono::offset::LocalResult;
use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};

use super::{Expression, Kind};
use crate::timezone::{Segment, Zone};

/// Times in a gap or a repetition that are counted one by one. A gap of an hour has 3,600 for a schedule
/// of every second; longer ones are of the past.
const MAX_COUNTED: usize = 4000;

/// No zone is further than a day from UTC: what is further away than [`FAR`] is still ahead after a jump
/// to [`NEAR`] before it, and nothing in between is named. A leap day is a hundred segments away.
const FAR: TimeDelta = TimeDelta::days(5);
const NEAR: TimeDelta = TimeDelta::days(2);

/// The times of an expression in a zone, in rising order.
#[derive(Debug)]
pub struct Times<'a> {
    expression: &'a Expression,
    zone: &'a Zone,
    segment: Segment,
    /// Wall clock times up to here have been looked at.
    wall: NaiveDateTime,
    last: DateTime<Utc>,
}

impl<'a> Times<'a> {
    pub(super) fn new(expression: &'a Expression, zone: &'a Zone, after: DateTime<Utc>) -> Self {
        let segment = zone.segment(after);
        let wall = after.naive_utc().with_nanosecond(0).unwrap_or(after.naive_utc());
        let wall = wall + TimeDelta::seconds(i64::from(segment.offset_s));
        Self { expression, zone, segment, wall, last: after }
    }

    /// Goes on behind the next change of the clock, to look again for the time that would be `at`.
    fn cross(&mut self, until: DateTime<Utc>, at: DateTime<Utc>) {
        if at - until > FAR {
            self.segment = self.zone.segment(at - NEAR);
            return;
        }
        let before = self.segment;
        self.segment = self.zone.segment(until);
        // Transitions that follow each other at once: the offset before is that of a moment.
        self.segment.offset_before_s = before.offset_s;
        let second_before = until.naive_utc() - TimeDelta::seconds(1);
        match self.expression.kind {
            // Times that do not exist are passed over, and repeated ones come again.
            Kind::Wildcard => {
                self.wall = second_before + TimeDelta::seconds(i64::from(self.segment.offset_s));
            }
            // Times that do not exist are looked at, and repeated ones are behind us.
            Kind::Fixed => {
                self.wall = second_before + TimeDelta::seconds(i64::from(before.offset_s));
            }
        }
    }

    /// What the wall clock time is in the present segment.
    fn instant(&self, wall: NaiveDateTime) -> DateTime<Utc> {
        let at = wall.and_utc() - TimeDelta::seconds(i64::from(self.segment.offset_s));
        match self.segment.from {
            // It does not exist: first instant after the gap.
            Some(from) if at < from => from,
            Some(_) | None => at,
        }
    }

    /// Whether a fixed time has come before, by the clock as it was.
    fn is_second_pass(&self, at: DateTime<Utc>) -> bool {
        let repeated_s = i64::from(self.segment.offset_before_s - self.segment.offset_s);
        self.segment.from.is_some_and(|from| (at - from).num_seconds() < repeated_s)
    }
}

impl Iterator for Times<'_> {
    type Item = DateTime<Utc>;

    fn next(&mut self) -> Option<DateTime<Utc>> {
        loop {
            let wall = self.expression.next_wall(self.wall)?;
            let at = self.instant(wall);
            if let Some(until) = self.segment.until.filter(|until| at >= *until) {
                self.cross(until, at);
                continue;
            }
            self.wall = wall;
            let is_repeated = self.expression.kind == Kind::Fixed && self.is_second_pass(at);
            if at > self.last && !is_repeated {
                self.last = at;
                return Some(at);
            }
        }
    }
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
    /// What a change of the clock did to the slot at `due`, if anything.
    #[must_use]
    pub fn dst_note(&self, zone: &Zone, due: DateTime<Utc>) -> Option<DstNote> {
        let local = due.with_timezone(zone).naive_local();
        match (zone.from_local_datetime(&local), self.kind) {
            (LocalResult::Ambiguous(first, _), Kind::Wildcard) => {
                let is_first = first.with_timezone(&Utc) == due;
                Some(if is_first { DstNote::FirstPass } else { DstNote::SecondPass })
            }
            (LocalResult::Ambiguous(..), Kind::Fixed) => Some(DstNote::FirstOnly),
            (LocalResult::Single(_) | LocalResult::None, Kind::Wildcard) => None,
            (LocalResult::Single(_) | LocalResult::None, Kind::Fixed) => {
                let change = transition_at(zone, due)?;
                let mut times = self.wall_times_in_gap(&change);
                let from = times.next()?;
                Some(DstNote::Carried { from, n_times: 1 + times.count() })
            }
        }
    }

    /// How many of its times do not exist because of this change and are not carried past it
    /// (an expression that keeps real time has none to carry).
    #[must_use]
    pub fn n_lost_in_gap(&self, change: &Transition) -> usize {
        match self.kind {
            Kind::Wildcard => self.wall_times_in_gap(change).count(),
            Kind::Fixed => 0,
        }
    }

    /// Its times between what the clock would have shown and what it shows instead.
    fn wall_times_in_gap(&self, change: &Transition) -> impl Iterator<Item = NaiveDateTime> {
        let after = change.wall_after;
        let first = self.next_wall(change.wall_before - TimeDelta::seconds(1));
        std::iter::successors(first, |wall| self.next_wall(*wall))
            .take_while(move |wall| *wall < after)
            .take(MAX_COUNTED)
    }
}

/// The change of the clock at exactly this instant.
fn transition_at(zone: &Zone, at: DateTime<Utc>) -> Option<Transition> {
    let segment = zone.segment(at);
    (segment.from == Some(at)).then(|| transition(at, &segment)).flatten()
}

/// `None`: only the name of the time changes, not what the clock shows.
fn transition(at: DateTime<Utc>, segment: &Segment) -> Option<Transition> {
    let wall = |offset_s: i32| at.naive_utc() + TimeDelta::seconds(i64::from(offset_s));
    let change = Transition {
        at,
        wall_before: wall(segment.offset_before_s),
        wall_after: wall(segment.offset_s),
    };
    (change.wall_before != change.wall_after).then_some(change)
}

/// Every change of the clock in `(from, until]`.
#[must_use]
pub fn transitions(zone: &Zone, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Transition> {
    let mut found = Vec::new();
    let mut segment = zone.segment(from);
    while let Some(at) = segment.until.filter(|at| *at <= until) {
        segment = zone.segment(at);
        found.extend(transition(at, &segment));
    }
    found
}
