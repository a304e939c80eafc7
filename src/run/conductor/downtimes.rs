//! The conductor's own downtimes: noticed by the clocks, accounted for slot by slot, and the sign of life
//! by which the next daemon knows how long nobody was there.
//!
//! Which slot is caught up and which is given up is [`downtime`](crate::run::downtime)'s decision.
//! Invariant: no sign of life is left while slots of a downtime are not accounted for.

use chrono::{DateTime, TimeDelta, Utc};

use super::Conductor;
use crate::run::Extent;
use crate::run::downtime::{ClockSample, Downtime, Ground, account};
use crate::run::ledger::{DowntimeCause, Loop, PlannedSlot};
use crate::schedule::ScheduleName;
use crate::schedule::slot::in_maintenance;
use crate::storage::StorageError;

/// Between two signs of life on disk: each is an fsync, and a downtime is reported from 15 s on.
const SIGN_OF_LIFE_EVERY: TimeDelta = TimeDelta::seconds(10);

/// Set back by less, the clock comes to no slot again: they are on whole seconds.
const WORTH_A_PLAN: TimeDelta = TimeDelta::seconds(1);

impl Conductor {
    /// Remembers the downtime that ends with this step, if there was one. A step that fails later
    /// was there all the same: what is due while nothing can be recorded is missed, not unseen.
    pub(super) async fn detect_downtime(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        let sample = ClockSample::take(&*self.clock, now);
        let downtime = match &self.last {
            Some(last) => {
                if sample.clock_set_since(last) < -WORTH_A_PLAN {
                    self.planner.renew();
                }
                Downtime::between(last, &sample)
            }
            None => Downtime::since_sign(self.ledger.last_seen(Loop::Conductor).await?, now),
        };
        self.last = Some(sample);
        // One that could not be accounted for grows.
        self.downtime = match (self.downtime, downtime) {
            (Some(before), Some(downtime)) => Some(Downtime { to: downtime.to, ..before }),
            (before, downtime) => downtime.or(before),
        };
        Ok(())
    }

    pub(super) async fn sign_of_life(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        // Also after the clock was set back: the row must not stay in the future.
        // While a downtime is not accounted for, its beginning is what the next daemon must find.
        if self.downtime.is_some() {
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

    /// Accounts for the slots of a downtime; as far as they have their rows, if that takes several
    /// steps.
    pub(super) async fn account_for_downtime(
        &mut self,
        past: Extent,
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let Some(mut downtime) = self.downtime else { return Ok(()) };
        // What becomes due while it is being counted had no row to be started by.
        if self.counted == Extent::Part || past == Extent::Part {
            downtime.to = now;
            self.downtime = Some(downtime);
        }
        let due = self.ledger.due(now).await?;
        let has_fallen = due.iter().any(|slot| downtime.holds(slot.start_by));
        // A daemon before us may have died with some of its slots counted and nobody told.
        let may_be_counted = self.counted == Extent::Part || downtime.cause == DowntimeCause::Down;
        if has_fallen || may_be_counted {
            self.account_for(downtime, past, &due, now).await?;
        }
        self.counted = past;
        if past == Extent::Whole {
            self.downtime = None;
        }
        Ok(())
    }

    async fn account_for(
        &self,
        downtime: Downtime,
        extent: Extent,
        due: &[PlannedSlot],
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let pauses = self.ledger.pauses(downtime.from).await?;
        let holds = self.ledger.pauses(now).await?;
        let mut held: Vec<ScheduleName> = holds.into_iter().map(|pause| pause.schedule).collect();
        let open = self.ledger.open_runs().await?;
        held.extend(open.into_iter().map(|open| open.run.slot.schedule));
        let in_window = self.schedules.iter().filter(|s| in_maintenance(s, now).is_some());
        held.extend(in_window.map(|schedule| schedule.name.clone()));
        let schedules = &self.schedules;
        let ground = Ground { downtime, extent, due, schedules, pauses: &pauses, held: &held };
        let accounts = account(ground);
        if !accounts.excused.is_empty() {
            self.ledger.drop_slots(accounts.excused).await?;
        }
        self.ledger.record_downtime(accounts.account).await
    }
}
