//! A past to look at: slots, runs and incidents written through the ports, as the daemon does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lookout::process::ProcessIdentity;
use lookout::run::RunId;
use lookout::run::ledger::{Ledger, Origin, Plan, PlannedSlot, RunLease, claim};
use lookout::schedule::{
    Cadence, CatchUp, CommandJob, Job, OnStall, Overlap, Schedule, ScheduleName, Slot, StallOn,
};
use lookout::store::GuardDb;
use lookout::timezone::Zone;
use lookout::watch::history::Summary;
use lookout::watch::incidents::{
    FaultKey, FaultWrite, IncidentWrite, Incidents, Judgement, Outcome, Recorded,
};
use lookout::watch::{Facts, IncidentKind, Severity, Verdict};

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
}

/// By the built-in rules: no test reads the machine's.
pub(crate) fn zone(name: &str) -> Zone {
    Zone::built_in(name).unwrap()
}

pub(crate) fn schedule(name: &str, cron: &str, timezone: Zone) -> Schedule {
    let minutes = |n: u64| Duration::from_secs(n * 60);
    Schedule {
        name: ScheduleName::new(name),
        cadence: Cadence::Cron(cron.to_owned()),
        timezone,
        jitter: Duration::ZERO,
        start_grace: minutes(2),
        time_box: minutes(45),
        signal_grace: minutes(5),
        kill_grace: Duration::from_secs(10),
        stall_after: minutes(10),
        stall_on: StallOn::Output,
        on_stall: OnStall::Alert,
        signal: "done".to_owned(),
        signal_match: lookout::schedule::SignalMatch::Text,
        overlap: Overlap::Skip,
        catch_up: CatchUp::Latest,
        notify: Vec::new(),
        patterns: Vec::new(),
        maintenance: Vec::new(),
        image_errors_at_least: 20,
        image_errors_percent: 10,
        job: Job::Command(CommandJob {
            argv: vec!["true".to_owned()],
            cwd: None,
            env: BTreeMap::new(),
            stop_signal: "SIGTERM".to_owned(),
            user: None,
        }),
    }
}

/// A past in a database of its own.
pub(crate) struct Past {
    pub(crate) db: Arc<GuardDb>,
}

impl Past {
    pub(crate) fn new() -> Self {
        Self { db: Arc::new(GuardDb::in_memory().unwrap()) }
    }

    /// Writes a slot down and nothing more.
    pub(crate) async fn planned(&self, schedule: &Schedule, due: &str) -> Slot {
        let slot = Slot { schedule: schedule.name.clone(), due_at: at(due) };
        let planned = PlannedSlot {
            slot: slot.clone(),
            schedule: schedule.clone(),
            origin: Origin::Schedule,
            start_at: slot.due_at,
            start_by: slot.due_at + TimeDelta::from_std(schedule.start_grace).unwrap(),
            downtime: None,
        };
        let plan = Plan { schedule: schedule.clone(), until: slot.due_at };
        self.db.plan(plan, vec![planned], None).await.unwrap();
        slot
    }

    /// Writes a slot down and starts its run.
    pub(crate) async fn started(&self, schedule: &Schedule, due: &str, run: &str) -> RunLease {
        let slot = self.planned(schedule, due).await;
        let due_at = slot.due_at;
        let id = RunId::from_stored(run);
        let lease = claim(&*self.db, slot, schedule.clone(), id, due_at).await.unwrap().unwrap();
        let keeper = ProcessIdentity { pid: 4711, start_ticks: 1, boot_id: "boot".to_owned() };
        self.db.keeper_started(&lease, &keeper, due_at).await.unwrap();
        lease
    }

    /// A run that is over, with its verdict after `minutes`.
    pub(crate) async fn judged(
        &self,
        schedule: &Schedule,
        due: &str,
        minutes: i64,
        verdict: Verdict,
        reason: &str,
        counts: &[(&str, u64)],
    ) {
        let run = format!("run-{}-{due}", schedule.name);
        let lease = self.started(schedule, due, &run).await;
        let ended_at = at(due) + TimeDelta::minutes(minutes);
        let summary = Summary {
            started_at: Some(at(due)),
            ended_at: Some(ended_at),
            seconds: Some((minutes * 60) as f64),
            counts: counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            ..Summary::default()
        };
        let judgement = Judgement {
            slot: lease.run().slot.clone(),
            run: Some(lease.run().id.clone()),
            verdict,
            reason: reason.to_owned(),
            findings: Vec::new(),
            summary,
            at: ended_at,
        };
        let outcome = Outcome {
            judgements: vec![judgement],
            closed: vec![(lease.run().id.clone(), ended_at)],
            ..Outcome::default()
        };
        self.record(outcome, ended_at).await;
    }

    /// A slot that never came to a run.
    pub(crate) async fn not_run(
        &self,
        schedule: &Schedule,
        due: &str,
        verdict: Verdict,
        reason: &str,
        incidents: Vec<IncidentWrite>,
    ) {
        let slot = self.planned(schedule, due).await;
        let judged_at = slot.due_at + TimeDelta::from_std(schedule.start_grace).unwrap();
        let judgement = Judgement {
            slot,
            run: None,
            verdict,
            reason: reason.to_owned(),
            findings: Vec::new(),
            summary: Summary::default(),
            at: judged_at,
        };
        let outcome = Outcome { judgements: vec![judgement], incidents, ..Outcome::default() };
        self.record(outcome, judged_at).await;
    }

    pub(crate) async fn record(&self, outcome: Outcome, at: DateTime<Utc>) {
        let recorded = self.db.record(outcome, at).await.unwrap();
        assert!(matches!(recorded, Recorded::Written(_)), "{recorded:?}");
    }

    /// Opens an incident.
    pub(crate) async fn fault(&self, schedule: &str, kind: IncidentKind, when: &str) {
        let outcome = Outcome { incidents: vec![fault(schedule, kind)], ..Outcome::default() };
        self.record(outcome, at(when)).await;
    }
}

pub(crate) fn fault(schedule: &str, kind: IncidentKind) -> IncidentWrite {
    IncidentWrite::Fault(Box::new(FaultWrite {
        key: FaultKey::new("prod", Some(schedule), kind),
        severity: Severity::Critical,
        occasion: None,
        facts: Facts::default(),
        notify: Vec::new(),
    }))
}
