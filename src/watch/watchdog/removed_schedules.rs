//! Incidents of schedules that are gone: no run will ever end them, and nobody should be reminded.
//!
//! What a removed schedule still runs is judged as ever; this waits until that is over.
//! Invariant: an incident of a schedule that has a plan or an open run is left alone.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Stepped, Watchdog};
use crate::storage::StorageError;
use crate::watch::Facts;
use crate::watch::incidents::{IncidentWrite, Outcome};

/// Since the last news of it: a file that is moved or edited is gone for a moment, and a schedule
/// that is off may be run by hand.
const GONE_FOR: TimeDelta = TimeDelta::minutes(10);

/// How often it is looked for: plans of ten thousand schedules are not read in passing.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

impl Watchdog {
    pub(super) async fn close_removed_schedules(
        &mut self,
        now: DateTime<Utc>,
        stepped: &mut Stepped,
    ) -> Result<(), StorageError> {
        let boot = self.clock.boot();
        if self
            .looked_for_removed_schedules
            .is_some_and(|last| boot.saturating_sub(last) < POLL_INTERVAL)
        {
            return Ok(());
        }
        self.looked_for_removed_schedules = Some(boot);
        let open = self.incidents.open_incidents().await?;
        let old: Vec<_> = open
            .into_iter()
            .filter(|open| now - open.notified_at >= GONE_FOR)
            .filter_map(|open| Some((open.incident.schedule.clone()?, open.incident.key)))
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        let mut known: HashSet<String> = HashSet::new();
        known.extend(
            self.ledger.plans().await?.iter().map(|plan| plan.schedule.name.as_str().to_owned()),
        );
        known.extend(
            self.ledger
                .open_runs()
                .await?
                .iter()
                .map(|open| open.run.slot.schedule.as_str().to_owned()),
        );
        let incidents: Vec<IncidentWrite> = old
            .into_iter()
            .filter(|(schedule, _)| !known.contains(schedule))
            .map(|(_, key)| {
                let withdrawn = Some("was removed or switched off".to_owned());
                let facts = Facts { withdrawn, recovered_at: Some(now), ..Facts::default() };
                IncidentWrite::Over { key, facts: Box::new(facts) }
            })
            .collect();
        if incidents.is_empty() {
            return Ok(());
        }
        self.record(Outcome { incidents, ..Outcome::default() }, now, stepped).await
    }
}
