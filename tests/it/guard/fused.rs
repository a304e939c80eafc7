//! A store that fails at the n-th write, before or after it was done, and stays silent until the
//! daemon is started again: a crash between any two writes.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lookout::process::ProcessIdentity;
use lookout::run::RunId;
use lookout::run::ledger::{
    Answer, Claim, Claimed, DowntimeAccount, DroppedSlot, LastSlot, Ledger, Loop, OpenRun, Pause,
    Plan, PlannedSlot, RecordedDowntime, Request, RunLease,
};
use lookout::schedule::{ScheduleName, Slot};
use lookout::storage::StorageError;
use lookout::store::GuardDb;
use lookout::watch::incidents::{Incidents, OpenIncident, Outcome, Recorded};

/// When the store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fuse {
    /// Never.
    None,
    /// Before this write from now.
    Before(u32),
    /// After this write from now, which is done and not reported.
    After(u32),
    /// Burnt: nothing works until the next start.
    Burnt,
    /// The disk is full: it can be read and not be written.
    Full,
    /// Somebody else holds the database: neither reading nor writing works.
    Busy,
}

/// The store of a world.
#[derive(Debug)]
pub(crate) struct Fused {
    db: GuardDb,
    fuse: Mutex<Fuse>,
    /// Verdicts written, by slot.
    verdicts: Mutex<HashMap<Slot, u32>>,
    /// Plans written.
    n_plans: AtomicUsize,
}

/// What a write meets.
enum Met {
    Nothing,
    CrashBefore,
    CrashAfter,
}

fn crash() -> StorageError {
    StorageError::Unwritable("crashed".into())
}

impl Fused {
    pub(crate) fn new(db: GuardDb) -> Self {
        Self {
            db,
            fuse: Mutex::new(Fuse::None),
            verdicts: Mutex::default(),
            n_plans: AtomicUsize::new(0),
        }
    }

    /// For reading what was.
    pub(crate) fn history(&self) -> std::sync::Arc<dyn lookout::watch::history::History> {
        std::sync::Arc::new(self.db.clone())
    }

    pub(crate) fn set(&self, fuse: Fuse) {
        *self.fuse.lock().unwrap() = fuse;
    }

    pub(crate) fn is_burnt(&self) -> bool {
        *self.fuse.lock().unwrap() == Fuse::Burnt
    }

    pub(crate) fn verdicts(&self) -> HashMap<Slot, u32> {
        self.verdicts.lock().unwrap().clone()
    }

    /// How many plans were written so far.
    pub(crate) fn n_plans(&self) -> usize {
        self.n_plans.load(Ordering::Relaxed)
    }

    fn readable(&self) -> Result<&GuardDb, StorageError> {
        match *self.fuse.lock().unwrap() {
            Fuse::Burnt => Err(crash()),
            Fuse::Busy => Err(StorageError::Busy("held by a test".into())),
            Fuse::None | Fuse::Before(_) | Fuse::After(_) | Fuse::Full => Ok(&self.db),
        }
    }

    fn meet(&self) -> Met {
        let mut fuse = self.fuse.lock().unwrap();
        let (now, met) = match *fuse {
            Fuse::None => (Fuse::None, Met::Nothing),
            Fuse::Before(0) | Fuse::Burnt => (Fuse::Burnt, Met::CrashBefore),
            Fuse::After(0) => (Fuse::Burnt, Met::CrashAfter),
            Fuse::Before(n) => (Fuse::Before(n - 1), Met::Nothing),
            Fuse::After(n) => (Fuse::After(n - 1), Met::Nothing),
            fails @ (Fuse::Full | Fuse::Busy) => (fails, Met::CrashBefore),
        };
        *fuse = now;
        met
    }

    async fn write<T>(
        &self,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        match self.meet() {
            Met::Nothing => work.await,
            Met::CrashBefore => Err(crash()),
            Met::CrashAfter => {
                work.await?;
                Err(crash())
            }
        }
    }
}

#[async_trait]
impl Ledger for Fused {
    async fn plans(&self) -> Result<Vec<Plan>, StorageError> {
        self.readable()?.plans().await
    }
    async fn plan(
        &self,
        plan: Plan,
        slots: Vec<PlannedSlot>,
        replace_after: Option<DateTime<Utc>>,
    ) -> Result<usize, StorageError> {
        self.n_plans.fetch_add(1, Ordering::Relaxed);
        self.write(self.db.plan(plan, slots, replace_after)).await
    }
    async fn forget(&self, name: &ScheduleName, after: DateTime<Utc>) -> Result<(), StorageError> {
        self.write(self.db.forget(name, after)).await
    }
    async fn due(&self, now: DateTime<Utc>) -> Result<Vec<PlannedSlot>, StorageError> {
        self.readable()?.due(now).await
    }
    async fn next_start(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StorageError> {
        self.readable()?.next_start(now).await
    }
    async fn try_claim(&self, claim: &Claim) -> Result<Claimed, StorageError> {
        self.write(self.db.try_claim(claim)).await
    }
    async fn keeper_started(
        &self,
        lease: &RunLease,
        keeper: &ProcessIdentity,
        at: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        self.write(self.db.keeper_started(lease, keeper, at)).await
    }
    async fn keeper_refused(&self, lease: &RunLease, error: &str) -> Result<(), StorageError> {
        self.write(self.db.keeper_refused(lease, error)).await
    }
    async fn drop_slots(&self, slots: Vec<DroppedSlot>) -> Result<(), StorageError> {
        self.write(self.db.drop_slots(slots)).await
    }
    async fn extend(&self, slot: &Slot, start_by: DateTime<Utc>) -> Result<(), StorageError> {
        self.write(self.db.extend(slot, start_by)).await
    }
    async fn record_downtime(&self, account: DowntimeAccount) -> Result<(), StorageError> {
        self.write(self.db.record_downtime(account)).await
    }
    async fn open_runs(&self) -> Result<Vec<OpenRun>, StorageError> {
        self.readable()?.open_runs().await
    }
    async fn close_run(&self, run: &RunId, ended_at: DateTime<Utc>) -> Result<(), StorageError> {
        self.write(self.db.close_run(run, ended_at)).await
    }
    async fn overdue(&self, now: DateTime<Utc>) -> Result<Vec<PlannedSlot>, StorageError> {
        self.readable()?.overdue(now).await
    }
    async fn dropped(&self) -> Result<Vec<DroppedSlot>, StorageError> {
        self.readable()?.dropped().await
    }
    async fn unreported_downtimes(&self) -> Result<Vec<RecordedDowntime>, StorageError> {
        self.readable()?.unreported_downtimes().await
    }
    async fn last_slot(
        &self,
        schedule: &ScheduleName,
        now: DateTime<Utc>,
    ) -> Result<Option<LastSlot>, StorageError> {
        self.readable()?.last_slot(schedule, now).await
    }
    async fn pauses(&self, now: DateTime<Utc>) -> Result<Vec<Pause>, StorageError> {
        self.readable()?.pauses(now).await
    }
    async fn pause(&self, pause: &Pause) -> Result<(), StorageError> {
        self.write(self.db.pause(pause)).await
    }
    async fn resume(&self, schedule: &ScheduleName) -> Result<bool, StorageError> {
        self.write(self.db.resume(schedule)).await
    }
    async fn ask(&self, request: &Request, at: DateTime<Utc>) -> Result<i64, StorageError> {
        self.write(self.db.ask(request, at)).await
    }
    async fn requests(&self) -> Result<Vec<(i64, Request)>, StorageError> {
        self.readable()?.requests().await
    }
    async fn answer(&self, id: i64, answer: &Answer) -> Result<(), StorageError> {
        self.write(self.db.answer(id, answer)).await
    }
    async fn plan_asked(&self, id: i64, slot: PlannedSlot) -> Result<Slot, StorageError> {
        self.write(self.db.plan_asked(id, slot)).await
    }
    async fn answer_to(&self, id: i64) -> Result<Option<Answer>, StorageError> {
        self.readable()?.answer_to(id).await
    }
    async fn last_seen(&self, who: Loop) -> Result<Option<DateTime<Utc>>, StorageError> {
        self.readable()?.last_seen(who).await
    }
    async fn seen(&self, who: Loop, at: DateTime<Utc>) -> Result<(), StorageError> {
        self.write(self.db.seen(who, at)).await
    }
}

#[async_trait]
impl Incidents for Fused {
    async fn open_incidents(&self) -> Result<Vec<OpenIncident>, StorageError> {
        self.readable()?.open_incidents().await
    }

    async fn record(&self, outcome: Outcome, at: DateTime<Utc>) -> Result<Recorded, StorageError> {
        let slots: Vec<Slot> = outcome.judgements.iter().map(|j| j.slot.clone()).collect();
        self.write(async {
            let recorded = self.db.record(outcome, at).await?;
            if matches!(recorded, Recorded::Written(_)) {
                let mut verdicts = self.verdicts.lock().unwrap();
                for slot in slots {
                    *verdicts.entry(slot).or_default() += 1;
                }
            }
            Ok(recorded)
        })
        .await
    }

    async fn acknowledge(&self, incident: i64) -> Result<bool, StorageError> {
        self.write(self.db.acknowledge(incident)).await
    }
}
