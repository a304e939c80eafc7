//! Incidents of batches that callers of the legacy API start.
//!
//! A batch is one try at what waits, and gave up by itself: what it ended with is certain, and needs no
//! window as a run's problem lines do. It belongs to no schedule, so its incidents name none.
//! Invariant: what one batch could not do is over when another has reviewed something.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::protocol::Problem;
use crate::storage::StorageError;
use crate::watch::faults::CAUSES;
use crate::watch::incidents::{
    FaultKey, FaultWrite, IncidentWrite, Incidents, Occasion, OpenIncident, Outcome,
};
use crate::watch::{Facts, IncidentKind, Severity};
use crate::web::legacy_api::Ended;

/// Records what stopped a batch, and that another one got through.
#[derive(Debug)]
pub(in crate::app) struct BatchIncidents {
    pub(in crate::app) incidents: Arc<dyn Incidents>,
    pub(in crate::app) instance: String,
    pub(in crate::app) clock: Arc<dyn Clock>,
}

impl BatchIncidents {
    /// A batch has ended.
    pub(super) async fn record(&self, ended: &Ended, problem: Option<&Problem>) {
        if let Err(error) = self.write(ended, problem).await {
            // The caller has its answer all the same, and the watchdog reports the disk.
            tracing::warn!(%error, "the incident of a batch could not be recorded");
        }
    }

    async fn write(&self, ended: &Ended, problem: Option<&Problem>) -> Result<(), StorageError> {
        let now = self.clock.now();
        let open = self.incidents.open_incidents().await?;
        let incidents = writes(&self.instance, &open, ended, problem, now);
        if !incidents.is_empty() {
            self.incidents.record(Outcome { incidents, ..Outcome::default() }, now).await?;
        }
        Ok(())
    }
}

fn key(instance: &str, kind: IncidentKind) -> FaultKey {
    FaultKey::new(instance, None, kind)
}

fn writes(
    instance: &str,
    open: &[OpenIncident],
    ended: &Ended,
    problem: Option<&Problem>,
    now: DateTime<Utc>,
) -> Vec<IncidentWrite> {
    let open_as = |kind| {
        let key = key(instance, kind).text();
        open.iter().find(|open| open.incident.key == key)
    };
    match ended {
        // Nothing waited: that says nothing about the provider.
        Ended::Well(answer) if answer["summary"]["claimed"] == 0 => Vec::new(),
        Ended::Well(_) => CAUSES
            .into_iter()
            .filter(|kind| open_as(*kind).is_some())
            .map(|kind| IncidentWrite::Over {
                key: key(instance, kind).text(),
                facts: Box::new(Facts { recovered_at: Some(now), ..Facts::default() }),
            })
            .collect(),
        Ended::Provider { .. } | Ended::Budget { .. } | Ended::Badly(_) => {
            let known = problem.and_then(|problem| {
                let kind = IncidentKind::parse(&problem.kind)?;
                CAUSES.contains(&kind).then_some((kind, problem))
            });
            let Some((kind, problem)) = known else { return Vec::new() };
            vec![fault(key(instance, kind), problem, open_as(kind), now)]
        }
    }
}

fn fault(
    key: FaultKey,
    problem: &Problem,
    open: Option<&OpenIncident>,
    now: DateTime<Utc>,
) -> IncidentWrite {
    // As for runs: a key does not come back by itself, the rest may have by the next time.
    let severity = match (key.kind, open, &problem.action) {
        (IncidentKind::CredentialsRejected, _, _) | (_, Some(_), _) | (_, _, Some(_)) => {
            Severity::Critical
        }
        (_, None, None) => Severity::Warning,
    };
    IncidentWrite::Fault(Box::new(FaultWrite {
        key,
        severity,
        occasion: Some(Occasion::Slot(now)),
        facts: Facts {
            provider: problem.provider.clone(),
            status: problem.status,
            faults: problem.calls.map(|_| problem.count),
            calls: problem.calls,
            detail: Some(problem.detail.clone()).filter(|detail| !detail.is_empty()),
            title: problem.title.clone(),
            action: problem.action.clone(),
            also: vec!["seen by a caller of POST /bulk_auto_review".to_owned()],
            ..Facts::default()
        },
        notify: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn problem(kind: &str) -> Problem {
        let provider = Some("gemini".to_owned());
        Problem { kind: kind.into(), provider, count: 7, calls: Some(9), ..Problem::default() }
    }

    fn stopped() -> Ended {
        Ended::Provider { answer: json!({}), reason: "503".into() }
    }

    #[test]
    fn what_stopped_a_batch_opens_the_incident_of_its_kind() {
        for (kind, severity) in [
            ("provider_unavailable", Severity::Warning),
            ("credentials_rejected", Severity::Critical),
            ("records_unavailable", Severity::Warning),
        ] {
            let written = writes("prod", &[], &stopped(), Some(&problem(kind)), now());
            let [IncidentWrite::Fault(fault)] = written.as_slice() else { panic!("{written:?}") };
            assert_eq!(fault.key.text(), format!("prod/-/{kind}"));
            assert_eq!((fault.severity, fault.facts.calls), (severity, Some(9)));
        }
        assert_eq!(writes("prod", &[], &stopped(), None, now()), []);
        let failure = problem("failure");
        assert_eq!(writes("prod", &[], &Ended::Badly("x".into()), Some(&failure), now()), []);
    }

    #[test]
    fn a_batch_that_had_nothing_to_do_ends_no_incident() {
        let ended = Ended::Well(json!({"summary": {"claimed": 0}}));
        assert_eq!(writes("prod", &[], &ended, None, now()), []);
    }
}
