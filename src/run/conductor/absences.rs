//! The conductor's own absences: noticed by the clocks, accounted for slot by slot, and the sign of life
//! by which the next daemon knows how long nobody was there.
//!
//! Which slot is caught up and which is given up is [`absence`](crate::run::absence)'s decision.
//! Invariant: no sign of life is left while slots of an absence are not accounted for.

use chrono::{DateTime, TimeDelta, Utc};

use super::Conductor;
use crate::run::Extent;
use crate::run::absence::{Gap, Ground, Reading, Why, account};
use crate::run::ledger::{Loop, PlannedSlot};
use crate::schedule::ScheduleName;
use crate::schedule::slot::in_maintenance;
use crate::storage::StorageError;

/// Between two signs of life on disk: each is an fsync, and an absence is told from 15 s on.
const SIGN_OF_LIFE_EVERY: TimeDelta = TimeDelta::seconds(10);

/// Set back by less, the clock comes to no slot again: they are on whole seconds.
const WORTH_A_PLAN: TimeDelta = TimeDelta::seconds(1);

impl Conductor {
    /// Remembers the absence that ends with this step, if there was one. A step that fails later
    /// was there all the same: what is due while nothing can be recorded is missed, not unseen.
    pub(super) async fn notice_absence(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        let reading = Reading::take(&*self.clock, now);
        let gap = match &self.last {
            Some(last) => {
                if reading.clock_set_since(last) < -WORTH_A_PLAN {
                    self.planner.renew();
                }
                Gap::between(last, &reading)
            }
            None => Gap::since_sign(self.ledger.last_seen(Loop::Conductor).await?, now),
        };
        self.last = Some(reading);
        // One that could not be accounted for grows.
        self.gap = match (self.gap, gap) {
            (Some(before), Some(gap)) => Some(Gap { to: gap.to, ..before }),
            (before, gap) => gap.or(before),
        };
        Ok(())
    }

    pub(super) async fn sign_of_life(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        // Also after the clock was set back: the row must not stay in the future.
        // While an absence is not accounted for, its beginning is what the next daemon must find.
        if self.gap.is_some() {
            return Ok(());
        }
        let is_fresh =
            self.last_written.is_some_and(|last| last <= now && now - last < SIGN_OF_LIFE_EVERY);
        if !is_fresh {
            self.ledger.seen(Loop::Conductor, now).await?;
            self.last_written = Some(now);
        }
        Ok(())
    }

    /// Accounts for the slots of an absence; as far as they have their rows, if that takes several
    /// steps.
    pub(super) async fn account_for_absence(
        &mut self,
        past: Extent,
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let Some(mut gap) = self.gap else { return Ok(()) };
        // What becomes due while it is being counted had no row to be started by.
        if self.counted == Extent::Part || past == Extent::Part {
            gap.to = now;
            self.gap = Some(gap);
        }
        let due = self.ledger.due(now).await?;
        let has_fallen = due.iter().any(|slot| gap.holds(slot.start_by));
        // A daemon before us may have died with some of its slots counted and nobody told.
        let may_be_counted = self.counted == Extent::Part || gap.why == Why::Down;
        if has_fallen || may_be_counted {
            self.account_for(gap, past, &due, now).await?;
        }
        self.counted = past;
        if past == Extent::Whole {
            self.gap = None;
        }
        Ok(())
    }

    async fn account_for(
        &self,
        gap: Gap,
        extent: Extent,
        due: &[PlannedSlot],
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let pauses = self.ledger.pauses(gap.from).await?;
        let holds = self.ledger.pauses(now).await?;
        let mut held: Vec<ScheduleName> = holds.into_iter().map(|pause| pause.schedule).collect();
        let open = self.ledger.open_runs().await?;
        held.extend(open.into_iter().map(|open| open.run.slot.schedule));
        let in_window = self.schedules.iter().filter(|s| in_maintenance(s, now).is_some());
        held.extend(in_window.map(|schedule| schedule.name.clone()));
        let schedules = &self.schedules;
        let ground = Ground { gap, extent, due, schedules, pauses: &pauses, held: &held };
        let accounts = account(ground);
        if !accounts.excused.is_empty() {
            self.ledger.drop_slots(accounts.excused).await?;
        }
        self.ledger.record_absence(accounts.absence).await
    }
}
