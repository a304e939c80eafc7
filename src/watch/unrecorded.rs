//! News from memory, for the time in which nothing can be written down.
//!
//! Pure. Such news has the id 0 and its incident the number 0: there is no row. It may be told again when
//! the disk is back, which is better than not at all.
//! Invariant: only openings are made here; what is over needs a row to be over in.

use chrono::{DateTime, Utc};

use super::incidents::{FaultKey, FaultWrite, IncidentWrite, Outcome};
use super::{Change, Facts, Incident, IncidentKind, IncidentState, News, Severity};

/// What an outcome would have told.
#[must_use]
pub fn news_of(outcome: &Outcome, at: DateTime<Utc>) -> Vec<News> {
    outcome
        .incidents
        .iter()
        .filter_map(|write| match write {
            IncidentWrite::Fault(fault) => Some(news(fault, Change::Opened, at)),
            IncidentWrite::Over { .. }
            | IncidentWrite::Remind { .. }
            | IncidentWrite::Notice(_) => None,
        })
        .collect()
}

/// That nothing can be recorded, or that it can again.
#[must_use]
pub fn storage_news(instance: &str, change: Change, facts: Facts, at: DateTime<Utc>) -> News {
    let key = FaultKey {
        instance: instance.to_owned(),
        schedule: None,
        kind: IncidentKind::OutboxDegraded,
    };
    let fault =
        FaultWrite { key, severity: Severity::Critical, occasion: None, facts, notify: Vec::new() };
    news(&fault, change, at)
}

fn news(fault: &FaultWrite, change: Change, at: DateTime<Utc>) -> News {
    let (state, resolved_at) = match change {
        Change::Resolved => (IncidentState::Resolved, Some(at)),
        Change::Opened | Change::Raised | Change::Reminder => (IncidentState::Open, None),
    };
    News {
        id: 0,
        incident: Incident {
            id: 0,
            key: fault.key.text(),
            instance: fault.key.instance.clone(),
            schedule: fault.key.schedule.clone(),
            kind: fault.key.kind,
            severity: fault.severity,
            state,
            opened_at: at,
            resolved_at,
            runs_affected: 1,
        },
        change,
        number: 1,
        at,
        notify: fault.notify.clone(),
        facts: fault.facts.clone(),
    }
}
