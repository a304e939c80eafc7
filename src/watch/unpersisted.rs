//! News from memory, for the time in which nothing can be written down.
//!
//! Pure. Such news has the id 0 and its incident the number 0: there is no row. It may be told again when
//! the disk is back, which is better than not at all.
//! Invariant: only openings are made here; what is over needs a row to be over in.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::incidents::{FaultKey, FaultWrite, IncidentWrite, Outcome};
use super::{Change, Facts, Incident, IncidentKind, IncidentState, News, Severity};
use crate::storage::StorageError;

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
    let key = FaultKey::new(instance, None, IncidentKind::OutboxDegraded);
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

/// Another process may hold the database for a while (a back-up, a look with `sqlite3`): nobody is
/// woken for less.
const BUSY_FOR: Duration = Duration::from_secs(60);

/// When people hear that nothing can be recorded, and that it is over: once each, however the
/// error's words change meanwhile.
#[derive(Debug, Default)]
pub struct StorageOutage {
    /// Boot time of the first failed step.
    since: Option<Duration>,
    reported: Option<Reported>,
}

#[derive(Debug)]
struct Reported;

impl StorageOutage {
    /// How a step ended; what is to be told of it.
    pub fn step(&mut self, error: Option<&StorageError>, boot: Duration) -> Option<Change> {
        let Some(error) = error else {
            self.since = None;
            return self.reported.take().map(|_| Change::Resolved);
        };
        let lasts = boot.saturating_sub(*self.since.get_or_insert(boot));
        let may_pass = matches!(error, StorageError::Busy(_)) && lasts < BUSY_FOR;
        if may_pass || self.reported.is_some() {
            return None;
        }
        self.reported = Some(Reported);
        Some(Change::Opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_reported_at_once_and_a_held_database_after_a_minute() {
        let full = StorageError::Unwritable("no space".into());
        let other = StorageError::Unwritable("input/output error".into());
        let busy = StorageError::Busy("held".into());
        let at = Duration::from_secs;
        let mut outage = StorageOutage::default();
        assert_eq!(outage.step(Some(&full), at(10)), Some(Change::Opened));
        assert_eq!(outage.step(Some(&other), at(11)), None, "other words, the same outage");
        assert_eq!(outage.step(None, at(12)), Some(Change::Resolved));
        assert_eq!(outage.step(Some(&busy), at(20)), None);
        assert_eq!(outage.step(None, at(25)), None, "nobody has heard of it");
        assert_eq!(outage.step(Some(&busy), at(30)), None);
        assert_eq!(outage.step(Some(&busy), at(90)), Some(Change::Opened));
    }
}
