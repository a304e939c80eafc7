//! What other programs write, recognised: crontab lines, `CRON_TZ=`, Quartz and AWS, systemd, Go's
//! `@every`, Jenkins.
//!
//! Nothing of it is taken: two programs that read one text differently are how a job runs at the wrong
//! hour. Each is answered with what to write here. Invariant: an expression that [`super::fields`]
//! takes is never looked at here.

use super::fields::{PLACES, Place, joined_names};
use super::nickname;
use super::refusal::{Refusal, quote};
use crate::timezone::TimeZones;

/// Fields of ours: without seconds, and with them.
const N_FIELDS: std::ops::RangeInclusive<usize> = 5..=6;

/// The answer to a text that is not five or six fields of ours, whatever is wrong with the fields.
pub(super) fn recognise(text: &str) -> Option<Refusal> {
    let words: Vec<&str> = text.split_whitespace().collect();
    at_form(text)
        .or_else(|| zone_before(text, &words))
        .or_else(|| aws(text))
        .or_else(|| systemd(text, &words))
        .or_else(|| comment(text))
        .or_else(|| more_than_fields(text, &words))
        .or_else(|| field_count(text, words.len()))
}

/// `@every 15m`, `@reboot`, `@hourly` misspelt, and `hourly` without the `@`.
fn at_form(text: &str) -> Option<Refusal> {
    let lower = text.to_ascii_lowercase();
    if let Some(span) = lower.strip_prefix("@every") {
        let what = format!("{} is not a cron expression", quote(text));
        let instead = match every(span.trim()) {
            Some(cron) => format!("write cron = \"{cron}\""),
            None => "write the minutes or hours of the clock, such as `*/15 * * * *`, or \
                     continuous = true to start a run whenever the one before is over"
                .to_owned(),
        };
        return Some(Refusal::new(what, instead));
    }
    if lower.starts_with("@reboot") {
        let what = "`@reboot` names no time";
        let instead = "to run when the machine starts, call `lookout run NAME` from a systemd unit; \
                       to run all the time, write continuous = true";
        return Some(Refusal::new(what, instead));
    }
    if nickname(&format!("@{lower}")).is_some() {
        let what = format!("{} is not a cron expression", quote(text));
        return Some(Refusal::new(what, format!("write `@{lower}`")));
    }
    lower.starts_with('@').then(|| {
        let instead = "write @hourly, @daily (@midnight), @weekly, @monthly or @yearly (@annually), \
                       or five fields";
        Refusal::new(format!("{} is not a known form", quote(text)), instead)
    })
}

/// A Go duration as an expression, where the clock has one.
fn every(span: &str) -> Option<String> {
    let digits = span.len() - span.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = span.split_at(digits);
    let number: u32 = number.parse().ok()?;
    // The largest unit that holds it whole: 60m are an hour.
    let seconds = match unit {
        "s" => number,
        "m" | "m0s" => number.checked_mul(60)?,
        "h" | "h0m" | "h0m0s" => number.checked_mul(3600)?,
        _ => return None,
    };
    match seconds {
        3600 => Some("0 * * * *".to_owned()),
        60 => Some("* * * * *".to_owned()),
        86_400 => Some("0 0 * * *".to_owned()),
        1..=59 if 60 % seconds == 0 => Some(format!("*/{seconds} * * * * *")),
        61..=3599 if 3600 % seconds == 0 && seconds % 60 == 0 => {
            Some(format!("*/{} * * * *", seconds / 60))
        }
        3601..=86_399 if 86_400 % seconds == 0 && seconds % 3600 == 0 => {
            Some(format!("0 */{} * * *", seconds / 3600))
        }
        _ => None,
    }
}

/// `CRON_TZ=Europe/Berlin 0 9 * * *`.
fn zone_before(text: &str, words: &[&str]) -> Option<Refusal> {
    let (name, zone) = words.first()?.split_once('=')?;
    let rest = words.get(1..)?.join(" ");
    let what = format!("{} sets a variable", quote(text));
    if !matches!(name, "CRON_TZ" | "TZ") {
        return Some(Refusal::new(
            what,
            "write the five fields alone; variables belong into [job] env",
        ));
    }
    let zone = zone.trim_matches(['"', '\'']);
    Some(Refusal::new(
        format!("{} names a time zone inside the expression", quote(text)),
        format!("write timezone = \"{zone}\" beside cron = \"{rest}\""),
    ))
}

/// `cron(0 10 * * ? *)` and `rate(5 minutes)` of AWS's scheduler.
fn aws(text: &str) -> Option<Refusal> {
    let what = || format!("{} is the form of AWS", quote(text));
    if let Some(rate) = text.strip_prefix("rate(") {
        let rate = rate.trim_end_matches(')').trim();
        let (number, unit) = rate.split_once(' ').unwrap_or((rate, ""));
        let letter = unit.trim().get(..1).unwrap_or_default();
        let cron = match letter {
            "d" => every(&format!("{}h", number.parse::<u32>().ok()?.saturating_mul(24))),
            _ => every(&format!("{number}{letter}")),
        };
        let cron = cron.unwrap_or_else(|| "*/15 * * * *".to_owned());
        return Some(Refusal::new(what(), format!("write five fields: `{cron}`")));
    }
    let inside = text.strip_prefix("cron(")?.trim_end_matches(')');
    let fields: Vec<&str> = inside.split_whitespace().collect();
    Some(Refusal::new(what(), aws_instead(&fields)))
}

/// Minute, hour, day, month, weekday, year; weekdays count from 1 for Sunday.
fn aws_instead(fields: &[&str]) -> String {
    let Some((weekday, four)) = fields.get(4).zip(fields.get(..4)) else {
        return "write five fields: minute, hour, day, month, weekday".to_owned();
    };
    let counted = weekday.bytes().any(|byte| byte.is_ascii_digit());
    let weekdays = if counted {
        ", with the weekday as a name: AWS counts from 1 for Sunday, cron from 0"
    } else {
        ""
    };
    format!("write five fields: `{} {weekday}`, without a year{weekdays}", four.join(" "))
}

/// `Mon..Fri *-*-* 09:00:00`.
fn systemd(text: &str, words: &[&str]) -> Option<Refusal> {
    let time = words.iter().find(|word| word.contains(':'));
    let is_calendar = words.iter().any(|word| word.contains("*-") || word.contains(".."));
    if time.is_none() && !is_calendar {
        return None;
    }
    let what = format!("{} is a calendar time of systemd or a time of day", quote(text));
    let example = "write minute, hour, day, month and weekday: \"30 9 * * MON-FRI\" is 9:30 on \
                   working days";
    let converted = time.and_then(|time| {
        let mut parts = time.split(':').map(|part| part.parse::<u32>().ok());
        let (hour, minute) = (parts.next()??, parts.next()??);
        let weekday = words.first().filter(|it| it.starts_with(|c: char| c.is_ascii_alphabetic()));
        let weekday =
            weekday.map_or_else(|| "*".to_owned(), |it| it.replace("..", "-").to_uppercase());
        let any_date = words.iter().all(|word| !word.contains('-') || word.ends_with("*-*-*"));
        (any_date && hour < 24 && minute < 60).then(|| format!("{minute} {hour} * * {weekday}"))
    });
    let instead = converted.map_or_else(|| example.to_owned(), |cron| format!("write `{cron}`"));
    Some(Refusal::new(what, instead))
}

fn comment(text: &str) -> Option<Refusal> {
    let (before, _) = text.split_once(" #").or_else(|| text.split_once("\t#"))?;
    if before.split_whitespace().count() < *N_FIELDS.start() {
        return None;
    }
    let what = format!("{} ends with a comment", quote(text));
    let instead = format!("write `{}`; a comment can stand after the quotes", before.trim());
    Some(Refusal::new(what, instead))
}

/// Five good fields and more: a year, a zone, a command.
fn more_than_fields(text: &str, words: &[&str]) -> Option<Refusal> {
    if words.len() < 6 {
        return None;
    }
    let five = words.get(..5)?;
    let more = words.get(5..)?;
    let five_good = are_good(&PLACES[1..], five);
    if let ([zone], true) = (more, five_good)
        && let Some(zone) = TimeZones::names().find(|name| name.eq_ignore_ascii_case(zone))
    {
        let what = format!("{} names a time zone inside the expression", quote(text));
        let instead = format!("write timezone = \"{zone}\" beside cron = \"{}\"", five.join(" "));
        return Some(Refusal::new(what, instead));
    }
    if let ([year], true) = (more, five_good)
        && is_year(year)
    {
        let instead = format!("write `{}`; there is no field for the year", five.join(" "));
        return Some(Refusal::new(format!("{} names a year", quote(text)), instead));
    }
    // AWS puts a year last and, as Quartz does, a `?` for one of the days.
    if let ([year], Some(&"?")) = (more, words.get(4))
        && (is_year(year) || *year == "*")
    {
        let what = format!("{} has the fields of AWS", quote(text));
        return Some(Refusal::new(what, aws_instead(five)));
    }
    if words.len() == 7 && are_good(&PLACES, &words[..6]) && (words[6] == "*" || is_year(words[6]))
    {
        let what = format!("{} has seven fields, with the year last as in Quartz", quote(text));
        let counted = words[5].bytes().any(|byte| byte.is_ascii_digit());
        let weekdays =
            if counted { "; Quartz counts weekdays from 1 for Sunday, cron from 0" } else { "" };
        let instead = format!("write six: `{}`{weekdays}", words[..6].join(" "));
        return Some(Refusal::new(what, instead));
    }
    let has_letters = |word: &&str| word.contains(|c: char| c.is_alphabetic());
    let is_weekdays =
        matches!(more, [one] if joined_names(Place::Weekday, &one.to_uppercase()).is_some());
    if five_good && !is_weekdays && more.iter().any(has_letters) {
        let what = format!("{} is a line of a crontab, with its command", quote(text));
        let instead = format!(
            "write cron = \"{}\" and the command in [job]: kind = \"command\", argv = [\"…\"]",
            five.join(" ")
        );
        return Some(Refusal::new(what, instead));
    }
    None
}

fn is_year(text: &str) -> bool {
    let year = text.get(..4).and_then(|year| year.parse::<u32>().ok());
    year.is_some_and(|year| (1970..2200).contains(&year))
}

fn are_good(places: &[Place], fields: &[&str]) -> bool {
    places.len() == fields.len()
        && places.iter().zip(fields).all(|(place, text)| super::understand(*place, text).is_ok())
}

fn field_count(text: &str, n_fields: usize) -> Option<Refusal> {
    if N_FIELDS.contains(&n_fields) {
        return None;
    }
    let fields = if n_fields == 1 { "field" } else { "fields" };
    let what = format!("{} has {n_fields} {fields}", quote(text));
    let instead = "a cron expression has five (minute hour day month weekday), like `0 * * * *` for \
                   every full hour, or six with seconds in front";
    Some(Refusal::new(what, instead))
}
