//! `timezone = "…"`: the zone, or what its writer may have meant.
//!
//! An abbreviation (`PST`) is no zone: it says the offset of one season, and several places share it.
//! The few that tz itself has as names (`EST`, `CET`) are taken as such. Invariant: a hint is never a zone
//! that shows another time than the one that was written.

use super::problem::nearest;
use super::section::Section;
use crate::timezone::{TimeZones, Zone};

/// Abbreviations and what people who write them mean: a place whose clock shows that time.
const ABBREVIATIONS: [(&[&str], &str); 26] = [
    (&["PST", "PDT", "PT"], "America/Los_Angeles"),
    (&["MDT", "MT"], "America/Denver"),
    (&["CST", "CDT", "CT"], "America/Chicago"),
    (&["EDT", "ET"], "America/New_York"),
    (&["AKST", "AKDT"], "America/Anchorage"),
    (&["AST", "ADT"], "America/Halifax"),
    (&["NST", "NDT"], "America/St_Johns"),
    (&["HDT"], "Pacific/Honolulu"),
    (&["BRT"], "America/Sao_Paulo"),
    (&["ART"], "America/Argentina/Buenos_Aires"),
    (&["CEST", "MEZ", "MESZ"], "Europe/Berlin"),
    (&["EEST"], "Europe/Helsinki"),
    (&["WEST"], "Europe/Lisbon"),
    (&["BST"], "Europe/London"),
    (&["MSK"], "Europe/Moscow"),
    (&["TRT"], "Europe/Istanbul"),
    (&["SAST"], "Africa/Johannesburg"),
    (&["EAT"], "Africa/Nairobi"),
    (&["IST"], "Asia/Kolkata"),
    (&["PKT"], "Asia/Karachi"),
    (&["SGT"], "Asia/Singapore"),
    (&["HKT"], "Asia/Hong_Kong"),
    (&["JST"], "Asia/Tokyo"),
    (&["KST"], "Asia/Seoul"),
    (&["AEST", "AEDT"], "Australia/Sydney"),
    (&["NZST", "NZDT"], "Pacific/Auckland"),
];

/// The zone of a schedule; UTC where none is written, and where a problem was noted.
pub(super) fn read(section: &Section<'_>) -> Zone {
    let Some(name) = section.plain("timezone") else { return Zone::utc() };
    section.reader.zones.find(&name).unwrap_or_else(|| {
        let what = format!("\"{}\" is not a time zone", name.escape_debug());
        section.problem("timezone", what, instead(name.trim()));
        Zone::utc()
    })
}

/// What to write instead of a name that is no zone.
fn instead(name: &str) -> String {
    let example = "write a name such as \"UTC\" or \"Europe/Berlin\"";
    let upper = name.to_uppercase();
    if let Some((_, zone)) =
        ABBREVIATIONS.iter().find(|(abbreviations, _)| abbreviations.contains(&upper.as_str()))
    {
        return format!(
            "an abbreviation does not say when clocks change; write a place; did you mean \
             \"{zone}\"?"
        );
    }
    if is_offset(&upper) {
        return format!(
            "an offset does not say when clocks change; {example} (or \"Etc/GMT-2\" for two hours \
             ahead of UTC all year: the sign is reversed)"
        );
    }
    if matches!(upper.as_str(), "LOCAL" | "LOCALTIME" | "SYSTEM" | "SERVER" | "HOST") {
        return format!("{example}; the machine's own setting may change under a schedule");
    }
    match meant(name) {
        Some(zone) => format!("{example}; did you mean \"{zone}\"?"),
        None => format!("{example}; `timedatectl list-timezones` lists them"),
    }
}

/// `UTC+2`, `GMT-05:00`, `+02:00`.
fn is_offset(upper: &str) -> bool {
    let rest = upper.strip_prefix("UTC").or_else(|| upper.strip_prefix("GMT")).unwrap_or(upper);
    rest.strip_prefix(['+', '-', '−']).is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit())
            && rest.chars().all(|c| c.is_ascii_digit() || c == ':')
    })
}

/// The zone that a misspelt name, another case, or a city alone stands for. Zones without a region are
/// left out: `PST8PDT` or `WET` are near to everything short.
fn meant(name: &str) -> Option<&'static str> {
    let spaced = name.replace([' ', '.'], "_");
    let is_same = |zone: &&str| zone.eq_ignore_ascii_case(&spaced);
    let is_city = |zone: &&str| {
        zone.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&spaced))
    };
    TimeZones::names()
        .find(is_same)
        .or_else(|| TimeZones::names().filter(|zone| zone.contains('/')).find(is_city))
        .or_else(|| nearest(&spaced, TimeZones::names().filter(|zone| zone.contains('/'))))
        .or_else(|| nearest_city(&spaced))
}

fn nearest_city(name: &str) -> Option<&'static str> {
    let cities = TimeZones::names().filter_map(|zone| zone.rsplit_once('/'));
    let city = nearest(name, cities.map(|(_, city)| city)).filter(|city| city.len() >= 4)?;
    TimeZones::names().find(|zone| zone.rsplit('/').next() == Some(city))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_never_shows_another_time_than_the_one_that_was_written() {
        for (written, meant) in [
            ("PST", "America/Los_Angeles"),
            ("pdt", "America/Los_Angeles"),
            ("CEST", "Europe/Berlin"),
            ("EDT", "America/New_York"),
            ("BST", "Europe/London"),
            ("europe/berlin", "Europe/Berlin"),
            ("Europe/Berln", "Europe/Berlin"),
            ("Europe\\Berlin", "Europe/Berlin"),
            ("Berlin", "Europe/Berlin"),
            ("new york", "America/New_York"),
            ("utc", "UTC"),
            ("America/NewYork", "America/New_York"),
        ] {
            let said = instead(written);
            assert!(said.contains(&format!("did you mean \"{meant}\"?")), "{written}: {said}");
        }
        for written in ["UTC+2", "GMT-05:00", "+02:00", "local", "Narnia", "XST", ""] {
            let said = instead(written);
            assert!(!said.contains("did you mean"), "{written}: {said}");
        }
    }

    #[test]
    fn every_hint_for_an_abbreviation_is_a_zone_and_no_zone_is_called_an_abbreviation() {
        for (abbreviations, zone) in ABBREVIATIONS {
            assert!(Zone::built_in(zone).is_some(), "{zone}");
            for abbreviation in abbreviations {
                assert_eq!(Zone::built_in(abbreviation), None, "{abbreviation}");
            }
        }
    }
}
