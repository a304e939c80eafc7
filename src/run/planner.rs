//! Which schedules are planned in a step: a bounded part of them, those with the fewest rows ahead first.
//!
//! What is written for one schedule is [`rows`]'s business. Remembers how far each schedule is
//! planned, so that a quiet second reads nothing; the ledger's rows are what counts.
//! Invariant: a schedule that was changed or removed is planned up to now as it was, before anything
//! else is planned for it.

pub mod rows;

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use self::rows::Planned;
use super::Extent;
use super::ledger::{Ledger, Plan};
use crate::schedule::{Cadence, Schedule, ScheduleName};
use crate::storage::StorageError;

/// Schedules that are planned in one step. Each is a write of a millisecond, or of twenty where the
/// disk is slow; a loop without a sign of life for 15 s counts as dead.
const MAX_PLANS: usize = 200;

/// Rows that are written in one step, give or take one schedule's: half a second's work.
const MAX_ROWS: usize = rows::MAX_BEHIND;

/// What one step may still do.
#[derive(Debug)]
pub(super) struct Budget {
    n_plans: usize,
    n_rows: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { n_plans: MAX_PLANS, n_rows: MAX_ROWS }
    }
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.n_plans == 0 || self.n_rows == 0
    }

    fn spend(&mut self, n_rows: usize) {
        self.n_plans = self.n_plans.saturating_sub(1);
        self.n_rows = self.n_rows.saturating_sub(n_rows);
    }
}

/// How far planning has come with a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Rows that are new.
    pub(super) n_new: usize,
    /// Whether every slot up to now has its row.
    pub(super) past: Extent,
    /// Whether there was time for every schedule.
    pub(super) extent: Extent,
}

/// How far one schedule is planned.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    until: DateTime<Utc>,
    again_at: DateTime<Utc>,
}

/// Whether what an earlier daemon or configuration left has been taken up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Fresh,
    Settled,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Planner {
    ahead: HashMap<ScheduleName, Ahead>,
    /// From when on, by the boot clock, each continuous schedule may have its next box.
    next_box: HashMap<ScheduleName, Duration>,
    phase: Phase,
}

impl Planner {
    /// Other schedules are configured; those that are as they were keep their plans.
    pub(super) fn change(&mut self, before: &[Schedule], after: &[Schedule]) {
        let before = by_name(before);
        let after = by_name(after);
        self.ahead
            .retain(|name, _| before.get(name).is_some_and(|old| after.get(name) == Some(old)));
        self.phase = Phase::Fresh;
    }

    /// The clock was set back: what comes again may have no rows, if Lookout was not there before.
    pub(super) fn renew(&mut self) {
        for ahead in self.ahead.values_mut() {
            ahead.again_at = DateTime::UNIX_EPOCH;
        }
    }

    /// One step's part of the planning.
    pub(super) async fn step(
        &mut self,
        ledger: &dyn Ledger,
        schedules: &[Schedule],
        now: DateTime<Utc>,
    ) -> Result<Progress, StorageError> {
        let mut budget = Budget::default();
        if self.phase == Phase::Fresh {
            self.settle(ledger, schedules, now, &mut budget).await?;
        }
        self.plan(ledger, schedules, now, &mut budget).await
    }

    /// Takes up the plans that are stored: of schedules that are gone, that have changed, and of the
    /// others how far they are.
    async fn settle(
        &mut self,
        ledger: &dyn Ledger,
        schedules: &[Schedule],
        now: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<(), StorageError> {
        let configured = by_name(schedules);
        for plan in ledger.plans().await? {
            let configured = configured.get(&plan.schedule.name).copied();
            if configured == Some(&plan.schedule) {
                let ahead = Ahead { until: plan.until, again_at: now };
                self.ahead.entry(plan.schedule.name).or_insert(ahead);
            } else if budget.is_spent()
                || self.exchange(ledger, plan, configured, now, budget).await? == Extent::Part
            {
                return Ok(());
            }
        }
        self.phase = Phase::Settled;
        Ok(())
    }

    /// Ends a plan that is no longer configured like this. Up to now it was, as far as anybody knows.
    async fn exchange(
        &mut self,
        ledger: &dyn Ledger,
        plan: Plan,
        configured: Option<&Schedule>,
        now: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Extent, StorageError> {
        let extended = rows::extend(ledger, &plan, now).await?;
        budget.spend(extended.n_rows);
        if extended.until < now {
            return Ok(Extent::Part);
        }
        match configured {
            None => ledger.forget(&plan.schedule.name, now).await?,
            Some(configured) => {
                let planned = rows::replace(ledger, configured, now).await?;
                self.remember(configured, planned);
            }
        }
        Ok(Extent::Whole)
    }

    async fn plan(
        &mut self,
        ledger: &dyn Ledger,
        schedules: &[Schedule],
        now: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Progress, StorageError> {
        let mut wanted: Vec<(Option<DateTime<Utc>>, &Schedule)> = schedules
            .iter()
            .filter(|schedule| schedule.cadence != Cadence::Continuous)
            .filter_map(|schedule| match self.ahead.get(&schedule.name) {
                Some(ahead) => {
                    rows::is_due(ahead.again_at, now).then_some((Some(ahead.until), schedule))
                }
                // It may be one that has changed, and that is not settled yet.
                None => (self.phase == Phase::Settled).then_some((None, schedule)),
            })
            .collect();
        wanted.sort_by_key(|(until, _)| *until);
        let mut progress = Progress::default();
        if self.phase == Phase::Fresh {
            (progress.past, progress.extent) = (Extent::Part, Extent::Part);
        }
        for (until, schedule) in wanted {
            let mut until = until;
            if budget.is_spent() {
                progress.extent = Extent::Part;
            } else {
                let planned = rows::ahead(ledger, schedule, until, now).await?;
                budget.spend(planned.n_rows);
                progress.n_new += planned.n_new;
                until = Some(planned.until);
                self.remember(schedule, planned);
            }
            if until.is_some_and(|until| until < now) {
                (progress.past, progress.extent) = (Extent::Part, Extent::Part);
            }
        }
        Ok(progress)
    }

    fn remember(&mut self, schedule: &Schedule, planned: Planned) {
        let ahead = Ahead { until: planned.until, again_at: planned.again_at };
        self.ahead.insert(schedule.name.clone(), ahead);
    }

    /// Makes the next box of a continuous schedule, if the one before it is over and its pause, too.
    /// The pause is on the boot clock: the wall clock may be set back.
    pub(super) async fn continuous(
        &mut self,
        ledger: &dyn Ledger,
        schedule: &Schedule,
        now: DateTime<Utc>,
        boot: Duration,
    ) -> Result<(), StorageError> {
        let last = ledger.last_slot(&schedule.name, now).await?;
        if last.as_ref().is_some_and(|last| last.is_open) {
            return Ok(());
        }
        // Of a box that another daemon made, the wall clock is all there is.
        let next_at = self.next_box.entry(schedule.name.clone()).or_insert_with(|| {
            let since = last.and_then(|last| (now - last.due_at).to_std().ok());
            let rest = since.map_or(Duration::ZERO, |s| rows::CONTINUOUS_GAP.saturating_sub(s));
            boot + rest
        });
        // No row is new where the second has one from before the clock was set back: the next is near.
        if boot >= *next_at && rows::continuous(ledger, schedule, now).await? > 0 {
            *next_at = boot + rows::CONTINUOUS_GAP;
        }
        Ok(())
    }
}

fn by_name(schedules: &[Schedule]) -> HashMap<&ScheduleName, &Schedule> {
    schedules.iter().map(|schedule| (&schedule.name, schedule)).collect()
}
