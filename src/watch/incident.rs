//! The life of an incident: what a write does to the one that is open, and what of it is news.
//!
//! Pure; the store loads what is open and saves what [`apply`] returns.
//! Invariants: severity rises and never falls; each occasion counts once; the end is called by the
//! names that the beginning had, so that both have one subject.

use chrono::{DateTime, Utc};

use super::incidents::{FaultWrite, IncidentWrite, OpenIncident};
use super::{Change, Facts, Incident, IncidentState, News};

/// Lines of symptoms that an incident keeps: a month of them does not fit into a message.
const MAX_SYMPTOMS: usize = 10;

/// An incident and how much of it was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracked {
    /// The incident; its id is 0 as long as it has no row.
    pub open: OpenIncident,
    /// Number of its last news.
    pub n_news: u32,
}

/// What a write came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The incident as it now is.
    pub tracked: Tracked,
    /// What people must know of it; its ids are 0 until it has a row.
    pub news: Option<News>,
}

impl IncidentWrite {
    /// Which open incident it is about; `None`: a notice is always one of its own.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Fault(fault) => Some(fault.key.text()),
            Self::Over { key, .. } | Self::Remind { key } => Some(key.clone()),
            Self::Notice(_) => None,
        }
    }
}

/// What `write` does at `at`, with the incident of its key if one is open; `None`: nothing.
#[must_use]
pub fn apply(open: Option<Tracked>, write: &IncidentWrite, at: DateTime<Utc>) -> Option<Applied> {
    match (write, open) {
        (IncidentWrite::Fault(fault), None) => Some(news(begun(fault, at), Change::Opened, at)),
        (IncidentWrite::Fault(fault), Some(tracked)) => Some(touched(tracked, fault, at)),
        (IncidentWrite::Over { facts, .. }, Some(tracked)) => Some(over(tracked, facts, at)),
        (IncidentWrite::Remind { .. }, Some(mut tracked)) => {
            if tracked.open.incident.state == IncidentState::Acked {
                return None;
            }
            tracked.open.n_reminders += 1;
            Some(news(tracked, Change::Reminder, at))
        }
        (IncidentWrite::Over { .. } | IncidentWrite::Remind { .. }, None) => None,
        (IncidentWrite::Notice(fault), _) => {
            let mut tracked = begun(fault, at);
            tracked.open.incident.state = IncidentState::Resolved;
            tracked.open.incident.resolved_at = Some(at);
            Some(news(tracked, Change::Opened, at))
        }
    }
}

fn begun(fault: &FaultWrite, at: DateTime<Utc>) -> Tracked {
    let incident = Incident {
        id: 0,
        key: fault.key.text(),
        instance: fault.key.instance.clone(),
        schedule: fault.key.schedule.clone(),
        kind: fault.key.kind,
        severity: fault.severity,
        state: IncidentState::Open,
        opened_at: at,
        resolved_at: None,
        runs_affected: u32::from(fault.occasion.is_some()),
    };
    let open = OpenIncident {
        incident,
        facts: fault.facts.clone(),
        notify: fault.notify.clone(),
        notified_at: at,
        n_reminders: 0,
        last_occasion: fault.occasion.clone(),
    };
    Tracked { open, n_news: 0 }
}

/// The fault is still there, or there again: news only if it got worse.
fn touched(mut tracked: Tracked, fault: &FaultWrite, at: DateTime<Utc>) -> Applied {
    let open = &mut tracked.open;
    if fault.occasion.is_some() && fault.occasion != open.last_occasion {
        open.incident.runs_affected += 1;
        open.last_occasion.clone_from(&fault.occasion);
    }
    open.facts = Facts { also: joined(&open.facts.also, &fault.facts.also), ..fault.facts.clone() };
    open.notify.clone_from(&fault.notify);
    if fault.severity > open.incident.severity {
        open.incident.severity = fault.severity;
        return news(tracked, Change::Raised, at);
    }
    Applied { tracked, news: None }
}

/// Both lists, each line once, the last few.
fn joined(before: &[String], now: &[String]) -> Vec<String> {
    let mut all: Vec<String> = before.iter().filter(|line| !now.contains(line)).cloned().collect();
    all.extend(now.iter().cloned());
    all.split_off(all.len().saturating_sub(MAX_SYMPTOMS))
}

fn over(mut tracked: Tracked, facts: &Facts, at: DateTime<Utc>) -> Applied {
    let open = &mut tracked.open;
    open.incident.state = IncidentState::Resolved;
    open.incident.resolved_at = Some(at);
    let named = std::mem::take(&mut open.facts);
    let mut facts = facts.clone();
    // What the beginning was called by; a good run does not say whom it did not miss.
    facts.provider = named.provider.or(facts.provider);
    facts.refused = named.refused.or(facts.refused);
    facts.downtime_cause = named.downtime_cause.or(facts.downtime_cause);
    facts.since = named.since.or(facts.since);
    open.facts = facts;
    news(tracked, Change::Resolved, at)
}

fn news(mut tracked: Tracked, change: Change, at: DateTime<Utc>) -> Applied {
    tracked.n_news += 1;
    tracked.open.notified_at = at;
    let news = News {
        id: 0,
        incident: tracked.open.incident.clone(),
        change,
        number: tracked.n_news,
        at,
        notify: tracked.open.notify.clone(),
        facts: tracked.open.facts.clone(),
    };
    Applied { tracked, news: Some(news) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::incidents::{FaultKey, Occasion};
    use crate::watch::{IncidentKind, Severity};

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_772_600_400 + 60 * minute, 0).unwrap()
    }

    fn fault(severity: Severity, slot: i64) -> FaultWrite {
        FaultWrite {
            key: FaultKey::new("prod", Some("nightly"), IncidentKind::ProviderUnavailable),
            severity,
            occasion: Some(Occasion::Slot(at(slot))),
            facts: Facts { provider: Some("gemini".into()), ..Facts::default() },
            notify: vec!["slack".into()],
        }
    }

    fn write(severity: Severity, slot: i64) -> IncidentWrite {
        IncidentWrite::Fault(Box::new(fault(severity, slot)))
    }

    fn end(facts: Facts) -> IncidentWrite {
        let key = fault(Severity::Warning, 0).key.text();
        IncidentWrite::Over { key, facts: Box::new(facts) }
    }

    fn opened() -> Tracked {
        apply(None, &write(Severity::Warning, 0), at(0)).unwrap().tracked
    }

    #[test]
    fn a_fault_opens_once_and_each_occasion_counts_once() {
        let applied = apply(None, &write(Severity::Warning, 0), at(0)).unwrap();
        let news = applied.news.unwrap();
        assert_eq!((news.change, news.number, news.incident.runs_affected), (Change::Opened, 1, 1));
        let again = apply(Some(applied.tracked), &write(Severity::Warning, 0), at(1)).unwrap();
        assert_eq!(again.news, None);
        assert_eq!(again.tracked.open.incident.runs_affected, 1);
        assert_eq!(again.tracked.open.notified_at, at(0), "nobody was told");
        let other = apply(Some(again.tracked), &write(Severity::Warning, 60), at(61)).unwrap();
        assert_eq!(other.tracked.open.incident.runs_affected, 2);
    }

    #[test]
    fn severity_rises_with_news_and_never_falls() {
        let raised = apply(Some(opened()), &write(Severity::Critical, 0), at(1)).unwrap();
        assert_eq!(raised.news.unwrap().change, Change::Raised);
        let lower = apply(Some(raised.tracked), &write(Severity::Info, 0), at(2)).unwrap();
        assert_eq!(lower.news, None);
        assert_eq!(lower.tracked.open.incident.severity, Severity::Critical);
    }

    #[test]
    fn the_end_is_called_by_the_names_of_the_beginning() {
        let facts = Facts { usd: Some(0.5), ..Facts::default() };
        let news = apply(Some(opened()), &end(facts), at(72)).unwrap().news.unwrap();
        assert_eq!(news.change, Change::Resolved);
        assert_eq!(news.incident.resolved_at, Some(at(72)));
        assert_eq!(news.facts.provider.as_deref(), Some("gemini"));
        assert_eq!(news.facts.usd, Some(0.5));
        assert_eq!(apply(None, &end(Facts::default()), at(1)), None, "nothing was open");
    }

    #[test]
    fn who_has_taken_it_is_not_reminded() {
        let key = fault(Severity::Warning, 0).key.text();
        let remind = IncidentWrite::Remind { key };
        let mut tracked = opened();
        let reminded = apply(Some(tracked.clone()), &remind, at(60)).unwrap();
        assert_eq!(reminded.tracked.open.n_reminders, 1);
        assert_eq!(reminded.news.unwrap().number, 2);
        tracked.open.incident.state = IncidentState::Acked;
        assert_eq!(apply(Some(tracked), &remind, at(60)), None);
    }

    #[test]
    fn a_notice_is_over_when_it_is_told() {
        let notice = IncidentWrite::Notice(Box::new(fault(Severity::Info, 0)));
        assert_eq!(notice.key(), None);
        let applied = apply(None, &notice, at(0)).unwrap();
        assert_eq!(applied.tracked.open.incident.state, IncidentState::Resolved);
        assert_eq!(applied.news.unwrap().change, Change::Opened);
    }

    #[test]
    fn symptoms_are_kept_once_each_and_the_last_few() {
        let lines = |range: std::ops::Range<u32>| range.map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(joined(&lines(0..3), &lines(2..4)), lines(0..4));
        assert_eq!(joined(&lines(0..12), &[]), lines(2..12));
    }
}
