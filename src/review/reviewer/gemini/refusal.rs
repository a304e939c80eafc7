//! A refusal that does not pass by itself, in words for people: what it is, and what to do.
//!
//! Pure. What an error means is `classifier.rs`'s to say; that the run stops for it, the pipeline's.
//! Invariant: a title names one cause and has no counts or times in it, so that it stays the same for
//! as long as the cause lasts.

use chrono::{DateTime, Datelike as _, Months, NaiveTime, TimeZone as _, Utc};

use crate::review::reviewer::gemini::classifier::Kind;
use crate::review::reviewer::{Refusal, RefusalCause};
use crate::timezone::Zone;

/// Whom it concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    /// The project, as the user calls it; empty where none is concerned.
    pub project: String,
    /// `…` and the last characters of the key, if it is one key's matter.
    pub key: Option<String>,
}

/// The refusal behind an error of this kind. `says` is the error in words, keys redacted.
#[must_use]
#[expect(clippy::too_many_lines, reason = "one table, a refusal a row")]
pub(super) fn refusal(
    kind: Kind,
    concerned: &Concerned,
    model: &str,
    message: &str,
    now: DateTime<Utc>,
) -> Refusal {
    let project = &concerned.project;
    let mut until = None;
    let mut reason = message.to_owned();
    let (cause, title, action) = match kind {
        Kind::KeyRejected => {
            let title = match &concerned.key {
                Some(key) => format!("Gemini rejects API key {key}"),
                None => "No API key for Gemini".to_owned(),
            };
            let action = "create or enable a key at https://aistudio.google.com/apikey and put it \
                          into .env as GEMINI_API_KEY; no restart is needed";
            (RefusalCause::Key, title, action.to_owned())
        }
        Kind::ProjectRejected => (
            RefusalCause::Key,
            format!("Gemini refuses project {project}"),
            format!(
                "see https://aistudio.google.com for project {project}, or use another project"
            ),
        ),
        Kind::OutOfCredit => (
            RefusalCause::Credit,
            "Gemini prepaid credit used up".to_owned(),
            format!("add credit at https://ai.studio/projects (project {project})"),
        ),
        Kind::SpendCap => {
            let end = next_month(now);
            until = Some(end);
            reason = format!(
                "Gemini monthly spend cap reached: no image is reviewed until {} PT",
                end.with_timezone(&california()).format("%-d %b %H:%M")
            );
            (
                RefusalCause::SpendCap,
                "Gemini spend cap reached".to_owned(),
                format!("raise the cap at https://ai.studio/spend (project {project})"),
            )
        }
        Kind::NoQuota => (
            RefusalCause::NoQuota,
            format!("Gemini grants no quota for {model}"),
            format!(
                "link billing to project {project} at https://ai.studio/projects, or set \
                 [reviewer] model to one that it has quota for"
            ),
        ),
        Kind::NoSuchModel | Kind::ModelRetired => (
            RefusalCause::Model,
            format!("Gemini model {model} is not available"),
            "set [reviewer] model to a current one: https://ai.google.dev/gemini-api/docs/models"
                .to_owned(),
        ),
        Kind::Location => (
            RefusalCause::Model,
            format!("Gemini can't be used by project {project} from here"),
            format!(
                "link billing to project {project}, or run Lookout in a region of \
                 https://ai.google.dev/gemini-api/docs/available-regions"
            ),
        ),
        Kind::Picture(_) => (
            RefusalCause::Request,
            "Gemini refuses every image".to_owned(),
            "review one of them with `lookout review --image` and see [picture]".to_owned(),
        ),
        // Overloads and quotas that come back pass by themselves; they never get here.
        Kind::InvalidRequest(_) | Kind::Overloaded(_) | Kind::Quota(_) => (
            RefusalCause::Request,
            "Gemini refuses Lookout's requests".to_owned(),
            "check [reviewer] base_url and api_version; if they are right, report it as an error \
             of Lookout"
                .to_owned(),
        ),
    };
    Refusal { cause, title: format!("{title}, reviews stopped"), reason, action, until }
}

/// Google's days and months begin in California.
pub(super) fn california() -> Zone {
    Zone::built_in("America/Los_Angeles").unwrap_or_else(Zone::utc)
}

/// A monthly cap begins anew at midnight of the first in California (Google's billing page).
fn next_month(now: DateTime<Utc>) -> DateTime<Utc> {
    let california = california();
    let today = now.with_timezone(&california).date_naive();
    let in_a_month = now + chrono::TimeDelta::days(31);
    today
        .with_day(1)
        .and_then(|first| first.checked_add_months(Months::new(1)))
        .map(|first| first.and_time(NaiveTime::MIN))
        // Clocks change at two in the morning there, so midnight is there once on every day.
        .and_then(|midnight| california.from_local_datetime(&midnight).earliest())
        .map_or(in_a_month, |midnight| midnight.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_spend_cap_lasts_to_the_first_of_the_month_in_california() {
        for (now, end) in [
            ("2026-11-27T22:00:00Z", "2026-12-01T08:00:00Z"),
            // Still the 30th there.
            ("2026-12-01T07:59:59Z", "2026-12-01T08:00:00Z"),
            ("2026-12-01T08:00:00Z", "2027-01-01T08:00:00Z"),
            ("2026-10-31T12:00:00Z", "2026-11-01T07:00:00Z"),
        ] {
            assert_eq!(next_month(at(now)), at(end), "{now}");
        }
        let concerned = Concerned { project: "main".into(), key: None };
        let now = at("2026-11-27T22:00:00Z");
        let refusal = refusal(Kind::SpendCap, &concerned, "m", "", now);
        assert_eq!(
            refusal.reason,
            "Gemini monthly spend cap reached: no image is reviewed until 1 Dec 00:00 PT"
        );
    }

    #[test]
    fn every_refusal_has_a_title_without_numbers_and_something_to_do() {
        let concerned = Concerned { project: "main".into(), key: Some("…x7Qk".into()) };
        for kind in [
            Kind::KeyRejected,
            Kind::ProjectRejected,
            Kind::OutOfCredit,
            Kind::SpendCap,
            Kind::NoQuota,
            Kind::NoSuchModel,
            Kind::ModelRetired,
            Kind::Location,
        ] {
            let refusal =
                refusal(kind, &concerned, "gemini-pro", "says", at("2026-11-27T22:00:00Z"));
            assert!(refusal.title.ends_with(", reviews stopped"), "{refusal:?}");
            let without_hint = refusal.title.replace("x7Qk", "");
            assert!(!without_hint.contains(|c: char| c.is_ascii_digit()), "{refusal:?}");
            assert!(!refusal.action.is_empty(), "{refusal:?}");
        }
    }
}
