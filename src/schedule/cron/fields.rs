//! One field of an expression: its text to the set that it names, or the reason why it names none.
//!
//! The grammar is that of crontab(5), with `L`, `W` and `#` in the day fields and `+` before the
//! weekday, which makes both day fields necessary. What other programs write is [`super::foreign`]'s.
//! Invariant: every character of a field counts; nothing that was written is passed over.

use super::calendar::{MonthDays, Weekdays};
use super::refusal::{Refusal, quote};

/// Which field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Second,
    Minute,
    Hour,
    MonthDay,
    Month,
    Weekday,
}

/// In the order of six fields.
pub(super) const PLACES: [Place; 6] =
    [Place::Second, Place::Minute, Place::Hour, Place::MonthDay, Place::Month, Place::Weekday];

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Names as people write them out.
const LONG_NAMES: [&str; 19] = [
    "JANUARY",
    "FEBRUARY",
    "MARCH",
    "APRIL",
    "JUNE",
    "JULY",
    "AUGUST",
    "SEPTEMBER",
    "OCTOBER",
    "NOVEMBER",
    "DECEMBER",
    "SUNDAY",
    "MONDAY",
    "TUESDAY",
    "WEDNESDAY",
    "THURSDAY",
    "FRIDAY",
    "SATURDAY",
    "SEPT",
];

impl Place {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::MonthDay => "day of the month",
            Self::Month => "month",
            Self::Weekday => "weekday",
        }
    }

    fn with_article(self) -> String {
        let article = if self == Self::Hour { "an" } else { "a" };
        format!("{article} {}", self.name())
    }

    pub(super) fn min(self) -> u32 {
        match self {
            Self::Second | Self::Minute | Self::Hour | Self::Weekday => 0,
            Self::MonthDay | Self::Month => 1,
        }
    }

    /// 7 is Sunday, as 0 is.
    pub(super) fn max(self) -> u32 {
        match self {
            Self::Second | Self::Minute => 59,
            Self::Hour => 23,
            Self::MonthDay => 31,
            Self::Month => 12,
            Self::Weekday => 7,
        }
    }

    /// The last value of `*`.
    fn last(self) -> u32 {
        if self == Self::Weekday { 6 } else { self.max() }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &MONTHS,
            Self::Weekday => &WEEKDAYS,
            Self::Second | Self::Minute | Self::Hour | Self::MonthDay => &[],
        }
    }

    fn is_day(self) -> bool {
        matches!(self, Self::MonthDay | Self::Weekday)
    }

    /// What may stand there, for those who wrote something else.
    fn hint(self) -> &'static str {
        match self {
            Self::Second => "write 0 to 59, like `0`, `0,30` or `*/10`",
            Self::Minute => "write 0 to 59, like `0`, `0,30`, `10-50/10` or `*/10`",
            Self::Hour => "write 0 to 23, like `5`, `1,13`, `8-18` or `*/2`",
            Self::MonthDay => {
                "write 1 to 31, `L` for the last day, `LW` for the last weekday or `15W` for the \
                 weekday nearest to the 15th"
            }
            Self::Month => "write 1 to 12 or JAN to DEC, like `1-6` or `MAR,SEP`",
            Self::Weekday => {
                "write 0 to 7 or SUN to SAT (0 and 7 are Sunday), like `MON-FRI`, `MON#1` for the \
                 first Monday or `5L` for the last Friday of a month"
            }
        }
    }

    fn value_name(self, value: u32) -> String {
        let name = self.names().get((value - self.min()) as usize % self.names().len().max(1));
        name.map_or_else(|| value.to_string(), |name| (*name).to_owned())
    }
}

/// A field in which every item is a number, a range or a step.
pub(super) fn plain(place: Place, text: &str) -> Result<u64, Refusal> {
    list(place, text)?.try_fold(0, |bits, item| Ok(bits | span(place, item)?.bits()))
}

/// The day of the month.
pub(super) fn month_days(text: &str) -> Result<MonthDays, Refusal> {
    let mut named = MonthDays::default();
    for item in list(Place::MonthDay, text)? {
        let upper = item.to_ascii_uppercase();
        match upper.as_str() {
            "L" => named.last = true,
            "LW" => named.last_weekday = true,
            _ if upper.ends_with('W') || upper.starts_with('L') => {
                named.nearest_weekday |= 1 << nearest_to(item, &upper)?;
            }
            _ => named.days |= low_half(span(Place::MonthDay, item)?.bits()),
        }
    }
    Ok(named)
}

/// The weekday, without a `+` before it.
pub(super) fn weekdays(text: &str) -> Result<Weekdays, Refusal> {
    let mut named = Weekdays::default();
    for item in list(Place::Weekday, text)? {
        let upper = item.to_ascii_uppercase();
        if upper == "L" {
            return Err(Refusal::new(
                "`L` alone is no weekday",
                "name the weekday: `5L` or `FRIL` for the last Friday of a month, `SAT` for every \
                 Saturday (which `L` means in Quartz)",
            ));
        }
        if let Some((weekday, nth)) = item.split_once('#') {
            let bits = week_bits(span(Place::Weekday, weekday)?.bits());
            match nth {
                "L" | "l" => named.last |= bits,
                "1" | "2" | "3" | "4" | "5" => {
                    let index = nth.parse::<usize>().unwrap_or(1) - 1;
                    if let Some(nth) = named.nth.get_mut(index) {
                        *nth |= bits;
                    }
                }
                _ => {
                    let what = format!("{} names no weekday of a month", quote(item));
                    let instead = "after `#` write 1 to 5: `MON#1` is the first Monday of a month";
                    return Err(Refusal::new(what, instead));
                }
            }
        } else if let Some(weekday) = upper.strip_suffix('L').filter(|it| is_weekday(it)) {
            named.last |= week_bits(single(Place::Weekday, weekday, item)?);
        } else {
            named.every |= week_bits(span(Place::Weekday, item)?.bits());
        }
    }
    Ok(named)
}

fn is_weekday(text: &str) -> bool {
    WEEKDAYS.contains(&text) || !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit())
}

/// `15W`: the day.
fn nearest_to(item: &str, upper: &str) -> Result<u32, Refusal> {
    let day = upper.strip_suffix('W').filter(|day| day.bytes().all(|byte| byte.is_ascii_digit()));
    match day.and_then(|day| day.parse().ok()) {
        Some(day @ 1..=31) => Ok(day),
        Some(_) | None => {
            let what = format!("{} is not a day of the month", quote(item));
            Err(Refusal::new(what, Place::MonthDay.hint()))
        }
    }
}

/// The items between commas.
fn list(place: Place, text: &str) -> Result<impl Iterator<Item = &str>, Refusal> {
    if text.is_empty() || text.split(',').any(str::is_empty) {
        let what = format!("{} has an empty entry, as the {}", quote(text), place.name());
        let instead = "write one comma between two values, and no space: `0,15,30`";
        return Err(Refusal::new(what, instead));
    }
    Ok(text.split(','))
}

/// Values from `from` to `to`, each `step`th.
struct Span {
    from: u32,
    to: u32,
    step: u32,
}

impl Span {
    fn bits(&self) -> u64 {
        let step = self.step.max(1) as usize;
        (self.from..=self.to).step_by(step).fold(0, |bits, value| bits | 1 << value)
    }
}

fn span(place: Place, item: &str) -> Result<Span, Refusal> {
    let (base, step) = match item.split_once('/') {
        Some((base, step)) => (base, Some(step)),
        None => (item, None),
    };
    let step = step.map(|step| step_of(place, item, base, step)).transpose()?;
    if base == "*" || base == "?" && place.is_day() {
        return Ok(Span { from: place.min(), to: place.last(), step: step.unwrap_or(1) });
    }
    if let Some((from, to)) = base.split_once('-') {
        let from = value(place, from, item)?;
        let to = end_of(place, from, to, item)?;
        if from > to {
            return Err(falling(place, from, to, step, item));
        }
        return Ok(Span { from, to, step: step.unwrap_or(1) });
    }
    let from = value(place, base, item)?;
    match step {
        None => Ok(Span { from, to: from, step: 1 }),
        Some(step) => Err(step_from(place, from, step, item)),
    }
}

fn single(place: Place, text: &str, item: &str) -> Result<u64, Refusal> {
    Ok(1 << value(place, text, item)?)
}

/// `FRI-SUN` ends with the seventh day, `SUN-SUN` with the first.
fn end_of(place: Place, from: u32, to: &str, item: &str) -> Result<u32, Refusal> {
    let is_week_end = place == Place::Weekday && from > 0 && to.eq_ignore_ascii_case("SUN");
    let to = if is_week_end { "7" } else { to };
    value(place, to, item)
}

fn step_of(place: Place, item: &str, base: &str, step: &str) -> Result<u32, Refusal> {
    if base.is_empty() {
        let what = format!("{} is not {}", quote(item), place.with_article());
        return Err(Refusal::new(what, format!("write `*` before the step: `*/{step}`")));
    }
    let number = Some(step).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    match number.and_then(|number| number.parse().ok()) {
        Some(0) => {
            let what = format!("{} has a step of 0, as the {}", quote(item), place.name());
            Err(Refusal::new(what, format!("write a step of 1 or more: `{base}/1`")))
        }
        Some(step) => Ok(step),
        None => {
            let what =
                format!("{} has no number as its step, as the {}", quote(item), place.name());
            Err(Refusal::new(what, format!("write a number after the slash: `{base}/2`")))
        }
    }
}

/// `0/15`: Quartz, Spring and Go's cron take it, Vixie's does not.
fn step_from(place: Place, from: u32, step: u32, item: &str) -> Refusal {
    let what = format!(
        "{} is not {}: a step needs `*` or a range before it",
        quote(item),
        place.with_article()
    );
    let range = format!("`{from}-{}/{step}`", place.last());
    let instead = if from == place.min() {
        format!("write `*/{step}` or {range}")
    } else {
        format!("write {range}")
    };
    Refusal::new(what, instead)
}

/// `22-6`: what it would be as two ranges.
fn falling(place: Place, from: u32, to: u32, step: Option<u32>, item: &str) -> Refusal {
    let what = format!("{} is not a range: it must rise, as the {}", quote(item), place.name());
    let names = item.bytes().any(|byte| byte.is_ascii_alphabetic());
    let show = |value: u32| if names { place.value_name(value) } else { value.to_string() };
    let range = |from: u32, to: u32| {
        if from == to { show(from) } else { format!("{}-{}", show(from), show(to)) }
    };
    let step = step.unwrap_or(1);
    let instead = if step == 1 {
        format!("{},{}", range(from, place.last()), range(place.min(), to))
    } else {
        let n_values = place.last() + 1 - place.min();
        let values = (from..=to + n_values).step_by(step as usize);
        let values = values.map(|it| show((it - place.min()) % n_values + place.min()));
        values.collect::<Vec<_>>().join(",")
    };
    Refusal::new(what, format!("write `{instead}`"))
}

/// A number or a name.
fn value(place: Place, text: &str, item: &str) -> Result<u32, Refusal> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.parse().ok().filter(|it| (place.min()..=place.max()).contains(it));
        return number.ok_or_else(|| out_of_range(place, text, item));
    }
    let names = place.names();
    let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let index = named.and_then(|index| u32::try_from(index).ok());
    index.map(|index| place.min() + index).ok_or_else(|| no_value(place, text, item))
}

fn out_of_range(place: Place, text: &str, item: &str) -> Refusal {
    let inside = if text == item { String::new() } else { format!(" (in {})", quote(item)) };
    let what = format!("{} {} is out of range{inside}", place.name(), quote(text));
    let instead = match (place, text) {
        (Place::Hour, "24") => "write 0 for midnight; hours go from 0 to 23",
        (Place::Minute | Place::Second, "60") => {
            "write 0 for the full hour or minute; 59 is the last"
        }
        _ => place.hint(),
    };
    Refusal::new(what, instead)
}

fn no_value(place: Place, text: &str, item: &str) -> Refusal {
    let upper = text.to_uppercase();
    let what = format!("{} is not {}", quote(item), place.with_article());
    let long = LONG_NAMES.iter().find(|long| **long == upper).map(|long| &long[..3]);
    let instead = if text.is_empty() && item.contains('-') {
        "a number is missing beside the hyphen: write a range such as `1-5`".to_owned()
    } else if text.contains(['–', '—', '−']) {
        format!("write a plain hyphen: `{}`", item.replace(['–', '—', '−'], "-"))
    } else if text.contains(['"', '\'', '`', '\\']) {
        "leave out quotes and backslashes".to_owned()
    } else if let Some(short) = long.filter(|short| place.names().contains(short)) {
        format!("write the first three letters: `{short}`")
    } else if let Some(names) = joined_names(place, &upper) {
        format!("write a comma between two names: `{}`", names.join(","))
    } else if let Some(other) = other_field(place, long.unwrap_or(&upper)) {
        format!("this is a {}; the order is minute, hour, day, month, weekday", other.name())
    } else if text == "?" {
        "write `*`; `?` can stand only as the day of the month or the weekday".to_owned()
    } else if upper.starts_with(['H', 'R', '~']) || upper.contains('~') {
        "write a number; to spread the starts of many schedules set jitter = \"10m\"".to_owned()
    } else if text.contains('*') {
        "let `*` stand alone or before a step: `*` or `*/2`".to_owned()
    } else {
        place.hint().to_owned()
    };
    Refusal::new(what, instead)
}

/// The names that a text is made of, if it is made of names alone.
pub(super) fn joined_names(place: Place, upper: &str) -> Option<Vec<&str>> {
    if !upper.is_ascii() || upper.len() < 6 || !upper.len().is_multiple_of(3) {
        return None;
    }
    let names: Vec<&str> = (0..upper.len()).step_by(3).map(|at| &upper[at..at + 3]).collect();
    names.iter().all(|name| place.names().contains(name)).then_some(names)
}

fn other_field(place: Place, upper: &str) -> Option<Place> {
    [Place::Month, Place::Weekday]
        .into_iter()
        .find(|other| *other != place && other.names().contains(&upper))
}

fn low_half(bits: u64) -> u32 {
    u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0)
}

/// 7 is Sunday, as 0 is.
fn week_bits(bits: u64) -> u8 {
    u8::try_from((bits | bits >> 7) & 0x7f).unwrap_or(0)
}
