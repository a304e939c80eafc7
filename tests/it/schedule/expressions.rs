//! What an expression names, against a calendar that looks at every day; and what is refused.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc, Weekday};
use lookout::schedule::cron::{Expression, Refusal};
use lookout::timezone::Zone;

use crate::past::at;

fn refused(expression: &str) -> Refusal {
    match Expression::parse(expression) {
        Ok(_) => panic!("{expression:?} was accepted"),
        Err(refusal) => refusal,
    }
}

/// The first `n` times after the beginning of 2026.
fn next(expression: &str, n: usize) -> Vec<DateTime<Utc>> {
    let understood = Expression::parse(expression).unwrap_or_else(|it| panic!("{it}"));
    understood.times(&Zone::utc(), at("2026-01-01T00:00:00Z")).take(n).collect()
}

/// A day field: as written, and which days it names.
type DayField = (&'static str, fn(NaiveDate) -> bool);

fn last_of_month(day: NaiveDate) -> NaiveDate {
    let next = if day.month() == 12 {
        NaiveDate::from_ymd_opt(day.year() + 1, 1, 1)
    } else {
        NaiveDate::from_ymd_opt(day.year(), day.month() + 1, 1)
    };
    next.unwrap() - Days::new(1)
}

fn is_working_day(day: NaiveDate) -> bool {
    !matches!(day.weekday(), Weekday::Sat | Weekday::Sun)
}

/// Whether `day` is the Monday to Friday nearest to the `wanted`th of its month.
fn is_nearest(day: NaiveDate, wanted: u32) -> bool {
    let Some(wanted) = day.with_day(wanted) else { return false };
    let same_month = |other: &NaiveDate| other.month() == wanted.month();
    let candidates = (-2_i64..=2).filter_map(|by| {
        let other = wanted + chrono::TimeDelta::days(by);
        (is_working_day(other) && same_month(&other)).then_some((by.abs(), other))
    });
    candidates.min().map(|(_, other)| other) == Some(day)
}

const MONTH_DAYS: [DayField; 15] = [
    ("*", |_| true),
    ("?", |_| true),
    ("*/2", |day| day.day() % 2 == 1),
    ("*/10,7", |day| day.day() % 10 == 1 || day.day() == 7),
    ("*/3,20-22", |day| day.day() % 3 == 1 || (20..=22).contains(&day.day())),
    ("1-7", |day| day.day() <= 7),
    ("1-31/2", |day| day.day() % 2 == 1),
    ("13", |day| day.day() == 13),
    ("31", |day| day.day() == 31),
    ("L", |day| day == last_of_month(day)),
    ("LW", |day| {
        is_working_day(day)
            && !(1..=6).any(|n| {
                let later = day + Days::new(n);
                later.month() == day.month() && is_working_day(later)
            })
    }),
    ("L,LW", |day| day == last_of_month(day) || (MONTH_DAYS[10].1)(day)),
    ("15W", |day| is_nearest(day, 15)),
    ("1W,30W", |day| is_nearest(day, 1) || is_nearest(day, 30)),
    ("lw,5", |day| (MONTH_DAYS[10].1)(day) || day.day() == 5),
];

fn weekday(day: NaiveDate) -> u32 {
    day.weekday().num_days_from_sunday()
}

const WEEKDAYS: [DayField; 16] = [
    ("*", |_| true),
    ("?", |_| true),
    ("*/2", |day| weekday(day).is_multiple_of(2)),
    ("*/7,FRI", |day| matches!(weekday(day), 0 | 5)),
    ("MON", |day| weekday(day) == 1),
    ("sun", |day| weekday(day) == 0),
    ("SUN-SUN", |day| weekday(day) == 0),
    ("0-7", |_| true),
    ("7", |day| weekday(day) == 0),
    ("FRI-SUN", |day| matches!(weekday(day), 5 | 6 | 0)),
    ("5-7/2", |day| matches!(weekday(day), 5 | 0)),
    ("MON-5", |day| (1..=5).contains(&weekday(day))),
    ("MON#1", |day| weekday(day) == 1 && day.day() <= 7),
    ("5#5,2", |day| weekday(day) == 5 && day.day() > 28 || weekday(day) == 2),
    ("5L", |day| weekday(day) == 5 && (day + Days::new(7)).month() != day.month()),
    ("SATL,7#3", |day| {
        weekday(day) == 6 && (day + Days::new(7)).month() != day.month()
            || weekday(day) == 0 && (15..=21).contains(&day.day())
    }),
];

#[test]
fn a_day_field_that_begins_with_a_star_makes_both_necessary_and_else_either_is_enough() {
    let begins_with_star = |text: &str| text.starts_with(['*', '?']);
    for (day_text, fits_day) in MONTH_DAYS {
        for (weekday_text, fits_weekday) in WEEKDAYS {
            let both = begins_with_star(day_text) || begins_with_star(weekday_text);
            for (plus, both) in [("", both), ("+", true)] {
                let expression = format!("0 0 {day_text} * {plus}{weekday_text}");
                let from = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
                let expected: Vec<NaiveDate> = from
                    .iter_days()
                    .skip(1)
                    .take(900)
                    .filter(|day| {
                        let (day, weekday) = (fits_day(*day), fits_weekday(*day));
                        if both { day && weekday } else { day || weekday }
                    })
                    .collect();
                let Ok(understood) = Expression::parse(&expression) else {
                    assert_eq!(expected, vec![], "{expression} was refused");
                    continue;
                };
                let until = from + Days::new(900);
                let found: Vec<NaiveDate> = understood
                    .times(&Zone::utc(), at("2026-01-01T00:00:00Z"))
                    .map(|at| at.date_naive())
                    .take_while(|day| *day <= until)
                    .collect();
                assert_eq!(found, expected, "{expression}");
            }
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one line a case")]
fn every_character_of_a_field_counts() {
    for (field, wrong) in [
        (
            "minute",
            vec![
                "61",
                "5-",
                "-5",
                "*/",
                "/5",
                "5-1",
                "0,,5",
                "0,",
                ",0",
                "5/0",
                "*/0",
                "1-5/",
                "1.5",
                "1-2-3",
                "**",
                "*5",
                "5*",
                "*/5/2",
                "MON",
                "JAN",
                "L",
                "0x5",
                "+5",
                "٣",
                "5;",
                "4294967301",
            ],
        ),
        ("hour", vec!["24", "23-0", "1-24", "8-18h", "9am", "FRI", "1#2", "15W"]),
        (
            "day of the month",
            vec![
                "0", "32", "15W3", "LW5", "15WW", "WL", "W", "W1", "L5", "L-3", "LL", "32W", "0W",
                "1-5W", "1W-5W", "5L", "1#2", "15Wx", "WED", "1,L3", "*L", "L*",
            ],
        ),
        (
            "month",
            vec![
                "0",
                "13",
                "JANFEB",
                "FEBRUARYMAR",
                "JAN1",
                "1JAN",
                "JANUARY",
                "MON",
                "JANX",
                "XJAN",
                "JAN-FEBMAR",
                "JAN,FEBMAR",
                "L",
                "DEC-MAR",
                "11-2",
            ],
        ),
        (
            "weekday",
            vec![
                "8",
                "SUNMON",
                "MONDAY",
                "MON1",
                "1MON",
                "L",
                "1,L",
                "L,1",
                "MONX",
                "JAN",
                "MON#",
                "MON#0",
                "MON#6",
                "MON#1#2",
                "#1",
                "5LL",
                "LFRI",
                "5L3",
                "MON-",
                "MONTUE-FRI",
                "6-2",
                "+",
                "1+2",
                "FRI-MON",
                "15W",
            ],
        ),
    ] {
        for text in wrong {
            let place = ["minute", "hour", "day of the month", "month", "weekday"];
            let index = place.iter().position(|name| *name == field).unwrap();
            for seconds in [false, true] {
                let mut fields = vec!["0", "0", "1", "1", "*"];
                if index != 2 && index != 4 {
                    fields[2] = "*";
                }
                fields[index] = text;
                if seconds {
                    fields.insert(0, "0");
                }
                let expression = fields.join(" ");
                let refusal = refused(&expression);
                let said = format!("{} {}", refusal.what, refusal.instead);
                let without = said.replace(&expression, "").replace(text, "");
                // Behind a blank, `#` begins a comment, which belongs to no field.
                let is_comment = text == "#1" && without.contains("comment");
                assert!(is_comment || without.contains(field), "{expression}: {said}");
            }
        }
    }
}

/// The texts between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn a_range_that_falls_is_answered_with_the_rising_ranges_that_name_the_same_values() {
    for (place, item, values) in [
        (1, "22-6", vec![22, 23, 0, 1, 2, 3, 4, 5, 6]),
        (1, "23-0", vec![23, 0]),
        (1, "22-6/2", vec![22, 0, 2, 4, 6]),
        (0, "55-5", vec![55, 56, 57, 58, 59, 0, 1, 2, 3, 4, 5]),
        (0, "50-10/15", vec![50, 5]),
        (3, "NOV-MAR", vec![11, 12, 1, 2, 3]),
        (3, "11-2", vec![11, 12, 1, 2]),
        (4, "FRI-MON", vec![5, 6, 0, 1]),
        (4, "sat-tue", vec![6, 0, 1, 2]),
        (4, "6-2", vec![6, 0, 1, 2]),
        (2, "28-3", vec![28, 29, 30, 31, 1, 2, 3]),
    ] {
        let with = |item: &str| {
            let mut fields = ["0", "0", "*", "*", "*"].map(str::to_owned);
            fields[place] = item.to_owned();
            fields.join(" ")
        };
        let refusal = refused(&with(item));
        let instead = quoted(&refusal.instead)[0];
        let values: Vec<String> = values.iter().map(u32::to_string).collect();
        assert_eq!(next(&with(instead), 500), next(&with(&values.join(",")), 500), "{refusal}");
    }
}

#[test]
fn a_step_from_a_number_is_answered_with_the_range_that_names_the_same_values() {
    for (place, item, range, n_values) in [
        (0, "0/15", "*/15", 4),
        (0, "5/20", "5-59/20", 3),
        (1, "0/6", "*/6", 4),
        (1, "8/4", "8-23/4", 4),
        (2, "1/10", "*/10", 4),
        (3, "2/3", "2-12/3", 4),
        (4, "1/2", "1-6/2", 3),
    ] {
        let with = |item: &str| {
            let mut fields = ["0", "0", "*", "*", "*"].map(str::to_owned);
            fields[place] = item.to_owned();
            fields.join(" ")
        };
        let refusal = refused(&with(item));
        assert_eq!(quoted(&refusal.instead)[0], range, "{refusal}");
        let times: BTreeSet<u32> = next(&with(range), 400)
            .into_iter()
            .map(|at| match place {
                0 => at.format("%M"),
                1 => at.format("%H"),
                2 => at.format("%d"),
                3 => at.format("%m"),
                _ => at.format("%w"),
            })
            .map(|value| value.to_string().parse().unwrap())
            .collect();
        assert_eq!(times.len(), n_values, "{range}");
    }
}

#[test]
fn what_is_often_meant_is_said_with_the_refusal() {
    for (expression, instead) in [
        ("0 24 * * *", "0 for midnight"),
        ("60 * * * *", "59 is the last"),
        ("0 0 * * MONDAY", "`MON`"),
        ("0 0 * SEPTEMBER *", "`SEP`"),
        ("0 0 * * JAN", "this is a month"),
        ("0 0 * MON *", "this is a weekday"),
        ("0 0 * JANFEB *", "`JAN,FEB`"),
        ("0 9 * * 1–5", "`1-5`"),
        ("? * * * *", "only as the day of the month or the weekday"),
        ("H * * * *", "jitter"),
        ("H/15 * * * *", "jitter"),
        ("0 0 * * L", "`SAT`"),
        ("0 0 1,,15 * *", "one comma"),
        ("/5 * * * *", "`*/5`"),
        ("0 0 * * MON#6", "1 to 5"),
        ("\"0 * * * *\"", "leave out quotes"),
    ] {
        let refusal = refused(expression);
        assert!(refusal.instead.contains(instead), "{expression}: {refusal}");
    }
}

#[test]
fn an_expression_that_never_comes_says_which_fields_no_date_fits() {
    for (expression, why) in [
        ("0 0 30 2 *", "no month of `2` has a day `30`"),
        ("0 0 31 4,6,9,11 *", "no month of `4,6,9,11` has a day `31`"),
        ("0 0 30W 2 *", "no month of `2` has a day `30W`"),
        ("0 9 * * +SAT#1,8", "out of range"),
        ("0 9 31 2 MON#5", ""),
        ("0 9 3 * +6#5", "no month has a day that fits both `3` and weekday `+6#5`"),
        ("0 0 30 2 +MON", "no month of `2` has a day that fits both"),
        ("0 0 */31 2 MON#5", "no month of `2` has a day that fits both `*/31` and weekday `MON#5`"),
        ("0 0 * 2 +TUE#5", ""),
    ] {
        match (Expression::parse(expression), why) {
            (Ok(_), "") => {}
            (Ok(_), _) => panic!("{expression} was accepted"),
            (Err(refusal), why) => {
                assert!(!why.is_empty() && refusal.what.contains(why), "{expression}: {refusal}");
            }
        }
    }
}

#[test]
fn a_message_is_bounded_and_holds_no_control_character_whatever_was_written() {
    let long = format!("0 9 * * {}", vec!["1"; 3000].join(","));
    assert!(Expression::parse(&long).is_ok(), "long, but right");
    let texts = [
        format!("{long}x"),
        "0 0 * * \0".to_owned(),
        "\u{1b}[2J * * * *".to_owned(),
        "0\u{7}0 * * * *".to_owned(),
        "x".repeat(100_000),
        "* ".repeat(50_000),
        "@every \0".to_owned(),
        format!("CRON_TZ={} 0 9 * * *", "x".repeat(9000)),
        format!("cron({})", "9 ".repeat(9000)),
        format!("0 0 * * {}", "MON".repeat(5000)),
        format!("0 0 * * * {}", "MON".repeat(5000)),
        format!("{}-1 * * * *", "9".repeat(5000)),
        format!("*/{} * * * *x", "9".repeat(5000)),
        format!("5/{} * * * *", "0".repeat(5000)),
        format!("0 9 * * * /bin/{}", "x".repeat(9000)),
        format!("Mon..{} *-*-* 09:00", "x".repeat(9000)),
    ];
    for text in texts {
        let refusal = refused(&text);
        let start: String = text.chars().take(40).collect();
        let said = refusal.to_string();
        assert!(said.chars().count() < 700, "{start:?}: {} characters", said.chars().count());
        assert!(!said.chars().any(char::is_control), "{start:?}: {said:?}");
    }
}

#[test]
fn six_fields_begin_with_seconds_and_at_forms_are_known() {
    let next = |expression: &str| {
        let understood = Expression::parse(expression).unwrap();
        let next = understood.next_after(&Zone::utc(), at("2025-01-01T00:00:00Z")).unwrap();
        next.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    };
    for (expression, expected) in [
        ("*/10 * * * * *", "2025-01-01T00:00:10Z"),
        ("* * * * *", "2025-01-01T00:01:00Z"),
        (" 5  4 * *\tmon ", "2025-01-06T04:05:00Z"),
        ("@hourly", "2025-01-01T01:00:00Z"),
        ("@Daily", "2025-01-02T00:00:00Z"),
        ("@weekly", "2025-01-05T00:00:00Z"),
        ("@monthly", "2025-02-01T00:00:00Z"),
        ("@yearly", "2026-01-01T00:00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("0 12 L * *", "2025-01-31T12:00:00Z"),
        ("0 0 * JAN,mar SUN", "2025-01-05T00:00:00Z"),
        ("59 59 23 31 12 *", "2025-12-31T23:59:59Z"),
        ("0 0 * 2 MON#5", "2044-02-29T00:00:00Z"),
    ] {
        assert_eq!(next(expression), expected, "{expression}");
    }
}

#[test]
fn leap_day_schedules_skip_the_year_2100_and_one_on_a_weekday_may_wait_forty_years() {
    let next = |expression: &str, after: &str| {
        Expression::parse(expression).unwrap().next_after(&Zone::utc(), at(after)).unwrap()
    };
    assert_eq!(next("0 0 29 2 *", "2096-02-29T00:00:00Z"), at("2104-02-29T00:00:00Z"));
    assert_eq!(next("0 0 29 2 +WED", "2096-02-29T00:00:00Z"), at("2108-02-29T00:00:00Z"));
    assert_eq!(next("0 0 29 2 +SUN", "2088-02-29T00:00:00Z"), at("2128-02-29T00:00:00Z"));
}

#[test]
fn what_its_writer_may_not_have_meant_is_remarked_on() {
    for (expression, remark) in [
        ("*/90 * * * *", "`*/90` steps past the end of the minute field and names 0 alone"),
        ("*/60 * * * *", "names 0 alone"),
        ("* */24 * * *", "`*/24` steps past the end of the hour field"),
        (
            "0 0 */31 * *",
            "`*/31` steps past the end of the day of the month field and names 1 alone",
        ),
        ("0 3 * * * *", "second 0 of minute 3 of every hour: 24 runs a day"),
        ("30 9 * * 1-5 *", "second 30 of minute 9 of every hour, on month `1-5`: 24 runs a day"),
        ("*/10 * * * * *", "8640 runs a day"),
        ("0 9 1-7 * MON", "write `+MON` if a day must fit both"),
        ("*,5 * * * *", "names every minute"),
    ] {
        let remarks = Expression::parse(expression).unwrap().remarks();
        assert!(remarks.iter().any(|it| it.contains(remark)), "{expression}: {remarks:?}");
    }
    for expression in [
        "*/30 * * * *",
        "0 9 1-7 * +MON",
        "0 0 */2 * MON",
        "0 9 * * MON-FRI",
        "0 0 1 * *",
        "*/59 * * * *",
    ] {
        assert_eq!(Expression::parse(expression).unwrap().remarks(), Vec::<String>::new());
    }
}
