//! The fields of an expression as sets, and the times on a plain calendar that they name.
//!
//! No zone and no clock change: a day has 24 hours here. Whether a day is named depends only on its
//! month, the weekday of the month's first day and the month's length, so the days are worked out once
//! for each of the 28 kinds of month.
//! Invariant: [`Calendar::next`] is later than what it was asked, and nothing in between is named.

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

/// Seconds of a day.
const DAY_S: u32 = 24 * 3600;

/// The Gregorian calendar, weekdays included, comes again after 400 years.
const CYCLE_MONTHS: u32 = 400 * 12;

/// The longest wait for a date: a 29 February on one weekday comes every 28 years, and after 40 where a
/// year like 2100 is in between.
const MAX_WAIT_MONTHS: u32 = 40 * 12;

/// The shortest and the number of lengths of a month: 28 to 31 days.
const SHORTEST_MONTH: u32 = 28;
const N_LENGTHS: usize = 4;

/// How the two day fields go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DayRule {
    /// A day must fit both.
    Both,
    /// Either is enough.
    Either,
}

/// Days of the month as written; bit 1 is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MonthDays {
    pub(super) days: u32,
    /// `15W`: the Monday to Friday nearest to the 15th, within the month.
    pub(super) nearest_weekday: u32,
    /// `L`.
    pub(super) last: bool,
    /// `LW`.
    pub(super) last_weekday: bool,
}

/// Weekdays as written; bit 0 is Sunday.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weekdays {
    pub(super) every: u8,
    /// `MON#2` is bit 1 of the second entry.
    pub(super) nth: [u8; 5],
    /// `5L`.
    pub(super) last: u8,
}

/// All fields, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u32,
    pub(super) month_days: MonthDays,
    /// Bit 1 is January.
    pub(super) months: u16,
    pub(super) weekdays: Weekdays,
    pub(super) day_rule: DayRule,
}

/// The times that fields name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    seconds: u64,
    minutes: u64,
    hours: u32,
    months: u16,
    /// Days of a month by the weekday of its first day (0 is Sunday) and its length; bit 1 is the first.
    days: [[u32; N_LENGTHS]; 7],
}

impl Calendar {
    pub(super) fn new(fields: &Fields) -> Self {
        let mut days = [[0; N_LENGTHS]; 7];
        for (first_weekday, by_length) in (0..).zip(&mut days) {
            for (length, named) in (SHORTEST_MONTH..).zip(by_length) {
                *named = named_days(fields, first_weekday, length);
            }
        }
        let Fields { seconds, minutes, hours, months, .. } = *fields;
        Self { seconds, minutes, hours, months, days }
    }

    /// Whether no date has it. Each month begins on each weekday some year, February in both lengths.
    pub(super) fn is_empty(&self) -> bool {
        let lengths = |month: u32| match month {
            2 => 28..=29,
            4 | 6 | 9 | 11 => 30..=30,
            _ => 31..=31,
        };
        (1..=12)
            .filter(|month| self.months >> month & 1 == 1)
            .flat_map(lengths)
            .all(|length| (0..7).all(|first_weekday| self.days_of(first_weekday, length) == 0))
    }

    /// The next time after this one.
    pub(super) fn next(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let (date, second) = (after.date(), after.num_seconds_from_midnight());
        if self.is_named(date)
            && let Some(next) = self.next_in_day(second + 1)
        {
            return Some(date.and_time(next));
        }
        Some(self.next_date(date)?.and_time(self.next_in_day(0)?))
    }

    fn is_named(&self, date: NaiveDate) -> bool {
        self.days_in(date.year(), date.month()) >> date.day() & 1 == 1
    }

    fn next_date(&self, after: NaiveDate) -> Option<NaiveDate> {
        let (mut year, mut month) = (after.year(), after.month());
        // Those after the day; bit 31 has nothing after it.
        let mut days = self.days_in(year, month) & (!1_u32).checked_shl(after.day()).unwrap_or(0);
        for _ in 0..=MAX_WAIT_MONTHS {
            if days != 0 {
                return NaiveDate::from_ymd_opt(year, month, days.trailing_zeros());
            }
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            days = self.days_in(year, month);
        }
        None
    }

    fn days_in(&self, year: i32, month: u32) -> u32 {
        if self.months >> month & 1 == 0 {
            return 0;
        }
        let Some(first) = NaiveDate::from_ymd_opt(year, month, 1) else { return 0 };
        let length = u32::from(first.num_days_in_month());
        self.days_of(first.weekday().num_days_from_sunday(), length)
    }

    fn days_of(&self, first_weekday: u32, length: u32) -> u32 {
        let by_length = self.days.get(first_weekday as usize);
        let index = length.saturating_sub(SHORTEST_MONTH) as usize;
        by_length.and_then(|days| days.get(index)).copied().unwrap_or(0)
    }

    /// The first time of a named day at or after this second of it.
    fn next_in_day(&self, second: u32) -> Option<NaiveTime> {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        if hour < 24 && self.hours >> hour & 1 == 1 {
            if self.minutes >> minute & 1 == 1
                && let Some(second) = from_bit(self.seconds, second)
            {
                return NaiveTime::from_hms_opt(hour, minute, second);
            }
            if let Some(minute) = from_bit(self.minutes, minute + 1) {
                return NaiveTime::from_hms_opt(hour, minute, self.seconds.trailing_zeros());
            }
        }
        let hour = from_bit(u64::from(self.hours), hour + 1)?;
        NaiveTime::from_hms_opt(hour, self.minutes.trailing_zeros(), self.seconds.trailing_zeros())
    }

    /// How many times a named day has.
    pub(super) fn n_in_day(&self) -> u32 {
        self.seconds.count_ones() * self.minutes.count_ones() * self.hours.count_ones()
    }

    /// The shortest time between two that follow each other, in seconds; `None`: there is only one.
    pub(super) fn shortest_gap_s(&self) -> Option<u32> {
        let (first_s, last_s) = self.ends_of_day()?;
        let over_midnight =
            self.fewest_days_apart().map(|n_days| n_days * DAY_S - (last_s - first_s));
        [self.shortest_gap_in_day_s(), over_midnight].into_iter().flatten().min()
    }

    /// The shortest time between two of one day. Between two of one minute that is the seconds'
    /// distance; else from the last second of one minute to the first of the next, and so on.
    fn shortest_gap_in_day_s(&self) -> Option<u32> {
        let span_s = |bits: u64| 63 - bits.leading_zeros() - bits.trailing_zeros();
        let seconds = closest(self.seconds);
        let minutes = closest(self.minutes).map(|gap| gap * 60 - span_s(self.seconds));
        let in_hour_s = span_s(self.minutes) * 60 + span_s(self.seconds);
        let hours = closest(u64::from(self.hours)).map(|gap| gap * 3600 - in_hour_s);
        [seconds, minutes, hours].into_iter().flatten().min()
    }

    /// The first and the last second of a day that are named.
    fn ends_of_day(&self) -> Option<(u32, u32)> {
        let first = self.next_in_day(0)?.num_seconds_from_midnight();
        let last = |bits: u64| 63 - bits.leading_zeros();
        let hour_s = last(u64::from(self.hours)) * 3600;
        Some((first, hour_s + last(self.minutes) * 60 + last(self.seconds)))
    }

    /// The fewest days from a named day to the next one, over a whole cycle of the calendar.
    fn fewest_days_apart(&self) -> Option<u32> {
        let mut fewest: Option<u32> = None;
        // Days since the last named one; `None`: there was none yet.
        let mut since: Option<u32> = None;
        let (mut year, mut month) = (2000, 1);
        let mut first_weekday = 6; // 1 January 2000 was a Saturday.
        for _ in 0..CYCLE_MONTHS + MAX_WAIT_MONTHS {
            let length = length_of(year, month);
            let named = self.months >> month & 1 == 1;
            let days = if named { self.days_of(first_weekday, length) } else { 0 };
            if days == 0 {
                since = since.map(|since| since + length);
            } else {
                let first = days.trailing_zeros();
                let apart = since.map(|since| since + first);
                fewest = [fewest, apart, closest(u64::from(days))].into_iter().flatten().min();
                since = Some(length - (31 - days.leading_zeros()));
            }
            if fewest == Some(1) {
                break;
            }
            first_weekday = (first_weekday + length) % 7;
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        }
        fewest
    }
}

/// The days of such a month that the fields name.
fn named_days(fields: &Fields, first_weekday: u32, length: u32) -> u32 {
    let weekday = |day: u32| (first_weekday + day - 1) % 7;
    let (mut by_month_day, mut by_weekday) = (0, 0);
    for day in 1..=length {
        let (bit, weekday_bit) = (1 << day, 1 << weekday(day));
        let written = &fields.month_days;
        if written.days & bit != 0 || written.last && day == length {
            by_month_day |= bit;
        }
        if written.nearest_weekday & bit != 0 {
            by_month_day |= 1 << nearest_weekday(day, weekday(day), length);
        }
        if written.last_weekday && day == length {
            by_month_day |= 1 << nearest_weekday_before(day, weekday(day));
        }
        let written = &fields.weekdays;
        let nth = written.nth.get((day as usize - 1) / 7).copied().unwrap_or(0);
        let last = if day + 7 > length { written.last } else { 0 };
        if (written.every | nth | last) & weekday_bit != 0 {
            by_weekday |= bit;
        }
    }
    match fields.day_rule {
        DayRule::Both => by_month_day & by_weekday,
        DayRule::Either => by_month_day | by_weekday,
    }
}

/// The Monday to Friday nearest to this day that is in the same month.
fn nearest_weekday(day: u32, weekday: u32, length: u32) -> u32 {
    match weekday {
        6 if day == 1 => 3,
        6 => day - 1,
        0 if day == length => day - 2,
        0 => day + 1,
        _ => day,
    }
}

fn nearest_weekday_before(day: u32, weekday: u32) -> u32 {
    match weekday {
        6 => day - 1,
        0 => day - 2,
        _ => day,
    }
}

fn length_of(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The lowest bit at or above this one.
fn from_bit(bits: u64, lowest: u32) -> Option<u32> {
    let rest = bits.checked_shr(lowest)?;
    (rest != 0).then(|| lowest + rest.trailing_zeros())
}

/// The shortest distance between two bits that follow each other.
fn closest(mut bits: u64) -> Option<u32> {
    let mut closest = None;
    while bits != 0 {
        let here = bits.trailing_zeros();
        bits &= bits - 1;
        if bits != 0 {
            let gap = bits.trailing_zeros() - here;
            closest = Some(closest.map_or(gap, |closest: u32| closest.min(gap)));
        }
    }
    closest
}
