//! What is allowed and yet often not meant, in words; and why an expression never comes.

use super::calendar::DayRule;
use super::fields::{PLACES, Place};
use super::refusal::{Refusal, quote};
use super::{Expression, Kind};

/// Values that are listed; more are counted.
const MAX_LISTED: usize = 6;

impl Expression {
    /// What its writer may not have meant; each a sentence without a full stop.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.n_fields == 6 {
            remarks.push(format!("six fields, seconds first: {}", self.in_words()));
        }
        for (place, text) in PLACES.into_iter().zip(&self.written) {
            let name = place.name();
            for item in text.split(',') {
                let step = item.split_once('/').and_then(|(base, step)| {
                    let from_star = matches!(base, "*" | "?");
                    step.parse::<u32>().ok().filter(|_| from_star)
                });
                let n_values =
                    if place == Place::Weekday { 7 } else { place.max() + 1 - place.min() };
                if step.is_some_and(|step| step >= n_values) {
                    let first = place.min();
                    remarks.push(format!(
                        "`{item}` steps past the end of the {name} field and names {first} alone"
                    ));
                }
            }
            if text.contains(',') && text.split(',').any(|item| matches!(item, "*" | "?")) {
                remarks
                    .push(format!("`{text}` names every {name}, whatever else stands beside `*`"));
            }
        }
        remarks.extend(self.either_day());
        remarks
    }

    /// The classic mistake: `0 9 1-7 * MON` for the first Monday.
    fn either_day(&self) -> Option<String> {
        let (day, weekday) = (self.written.get(3)?, self.written.get(5)?);
        let is_restricted = |text: &str| !text.starts_with(['*', '?', '+']);
        (is_restricted(day) && is_restricted(weekday)).then(|| {
            format!(
                "day of the month `{day}` or weekday `{weekday}` is enough for a run; write \
                 `+{weekday}` if a day must fit both"
            )
        })
    }

    /// `at second 0 of minute 3 of every hour, 24 runs a day`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let time = |index: usize, name: &str| {
            let text = self.written.get(index).map_or("", String::as_str);
            in_words(text, name)
        };
        let days: Vec<String> = [Place::MonthDay, Place::Month, Place::Weekday]
            .into_iter()
            .zip(self.written.iter().skip(3))
            .filter(|(_, text)| !matches!(text.as_str(), "*" | "?"))
            .map(|(place, text)| format!("{} `{text}`", place.name()))
            .collect();
        let days =
            if days.is_empty() { String::new() } else { format!(", on {}", days.join(" and ")) };
        let runs = match self.n_in_day() {
            1 => "1 run".to_owned(),
            n => format!("{n} runs"),
        };
        let (second, minute, hour) = (time(0, "second"), time(1, "minute"), time(2, "hour"));
        format!("{second} of {minute} of {hour}{days}: {runs} a day")
    }

    /// Whether it keeps real time through a clock change.
    #[must_use]
    pub fn keeps_real_time(&self) -> bool {
        self.kind == Kind::Wildcard
    }
}

fn in_words(text: &str, name: &str) -> String {
    let items = text.split(',').count();
    match text.strip_prefix("*/") {
        _ if text == "*" => format!("every {name}"),
        Some(step) if items == 1 => format!("every {name} that {step} divides"),
        _ if items == 1 && !text.contains('-') => format!("{name} {text}"),
        _ if items <= MAX_LISTED => format!("{name}s {text}"),
        _ => format!("{items} {name}s"),
    }
}

/// Each field is good, together they name no date.
pub(super) fn never(text: &str, written: &[String], rule: DayRule) -> Refusal {
    let field = |index: usize| written.get(index).map_or("", String::as_str);
    let (day, month, weekday) = (field(3), field(4), field(5));
    let is_any = |text: &str| matches!(text, "*" | "?" | "+*" | "+?");
    let months =
        if is_any(month) { "no month".to_owned() } else { format!("no month of `{month}`") };
    let why = match (rule, is_any(day), is_any(weekday)) {
        (DayRule::Both, false, false) => {
            format!("{months} has a day that fits both `{day}` and weekday `{weekday}`")
        }
        (DayRule::Both | DayRule::Either, _, true) => format!("{months} has a day `{day}`"),
        (DayRule::Both | DayRule::Either, true, false) => {
            format!("{months} has a weekday `{weekday}`")
        }
        (DayRule::Either, false, false) => {
            format!("{months} has a day `{day}` or a weekday `{weekday}`")
        }
    };
    Refusal::new(
        format!("the cron expression {} never comes: {why}", quote(text)),
        "change the day, the month or the weekday so that a date fits",
    )
}
