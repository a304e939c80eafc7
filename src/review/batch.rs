//! The loop of a review: claim, fetch, prepare, ask, write down, until the backlog or the box ends.
//!
//! One loop owns all state; the work itself runs beside it in tasks (`work`) whose ends come back as
//! events. What may begin is `desk`'s to say, whose fault a refusal is `refusals`', how long an
//! outage lasts `outage`'s, what becomes of a row `settle`'s.
//! Invariant: each claimed row is settled or given back exactly once, or the report says that it
//! was not.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::clock::Clock;
use crate::review::picture::worker_pool::WorkerPool;
use crate::review::record::{Claimed, Cursor, RecordId, Records};
use crate::review::report::{Counts, End, Failures, Listener, News, Report};
use crate::review::reviewer::{Prepared, Reviewer};
use crate::review::settings::BudgetSettings;
use crate::review::settle::{FailureCause, History, Policy};
use crate::review::source::Source;
use crate::review::tries::{Spent, Tries, TryId};

mod closing;
mod deciding;
mod desk;
mod ending;
mod hearing;
mod outage;
mod refusals;
mod starting;
mod work;

use self::desk::{Desk, Limits};
use self::outage::Outage;
use self::refusals::Refusals;
use self::work::{Close, Event, Undo};

/// The loop looks at health, time and progress at least so often while something is going on.
const TICK: Duration = Duration::from_secs(1);

/// Makes a picture ready for the reviewer, within limits of its own for memory and processors.
#[async_trait]
pub trait Preparer: Send + Sync {
    /// The prepared picture, or why there is none, for people.
    async fn prepare(&self, bytes: Bytes) -> Result<Prepared, String>;
}

#[async_trait]
impl Preparer for WorkerPool {
    async fn prepare(&self, bytes: Bytes) -> Result<Prepared, String> {
        Self::prepare(self, bytes).await.map_err(|error| error.to_string())
    }
}

/// Whom the loop works with.
pub struct Ports {
    /// Rows.
    pub records: Arc<dyn Records>,
    /// Files.
    pub source: Arc<dyn Source>,
    /// From file to picture.
    pub preparer: Arc<dyn Preparer>,
    /// From picture to answer.
    pub reviewer: Arc<dyn Reviewer>,
    /// What must not be forgotten.
    pub tries: Arc<dyn Tries>,
    /// Wall time for what is written down.
    pub clock: Arc<dyn Clock>,
}

/// What this run is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Run id.
    pub run: String,
    /// Statuses to pick up.
    pub pick_up: Vec<String>,
    /// The status whose rows count as good and are picked up by no run; `None`: it is picked up.
    pub parked: Option<String>,
    /// Rows to claim at a time.
    pub batch: u32,
    /// Rows at most.
    pub limit: Option<u64>,
    /// These rows only, whatever their status.
    pub only: Option<Vec<RecordId>>,
    /// What becomes of rows.
    pub policy: Policy,
    /// Caps.
    pub budget: BudgetSettings,
    /// Nothing but outage for so long: give up.
    pub give_up_after: Duration,
    /// From then on nothing new begins.
    pub box_end: Option<Instant>,
    /// From then on nothing may be in hand; `None`: [`Plan::grace`] after the winding down began.
    pub grace_end: Option<Instant>,
    /// How long to finish what is in hand, if no end of the grace is set.
    pub grace: Duration,
}

/// What somebody outside wants of a run that goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    #[default]
    GoOn,
    /// Begin nothing new, finish what is in hand.
    WindDown,
    /// Give everything back at once.
    GiveBack,
}

/// How far the run is in ending.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Rows that dead processes left are put right; nothing is claimed yet.
    PuttingRight,
    /// At work.
    Working,
    /// Nothing new begins; at `until` what is in hand is given back.
    WindingDown { end: End, until: Instant },
    /// Everything goes back; writes are tried until `until`.
    GivingBack { end: End, until: Instant },
}

/// A claimed row and how far it is.
#[derive(Debug)]
struct Item {
    claimed: Claimed,
    history: History,
    /// What the model should be told about its answer before.
    correction: Option<String>,
    stage: Stage,
    work: Option<Work>,
}

/// Where a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waiting or delayed.
    Queued,
    /// Its try is being written down.
    Beginning,
    /// Being fetched and prepared.
    Fetching,
    /// Prepared, waiting for the provider.
    Ready,
    /// At the provider.
    Reviewing,
    /// Refused by the bucket, not yet judged.
    Held,
    /// What came of it is being written down.
    Closing,
}

/// Work under way, or the last one.
#[derive(Debug)]
struct Work {
    try_id: TryId,
    begun: Instant,
    sha256: Option<String>,
    picture: Option<Prepared>,
    /// Whether the provider was asked about it.
    asked: Asked,
    task: Option<AbortHandle>,
}

/// Whether a picture was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    No,
    Yes,
}

/// What the provider has said to a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It has looked at it.
    Answer,
    /// It has not.
    Fault,
}

/// Whose a task is, should it end without an event.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Claim,
    Image(RecordId),
    Undo,
}

/// While nearly every picture is refused, one is tried again from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// The bucket serves us.
    Off,
    /// The next one.
    At(Instant),
    UnderWay,
}

/// A write that is tried again.
#[derive(Debug)]
enum Rewrite {
    Close(Box<Close>),
    Undo(Box<Undo>),
}

/// How claiming stands.
#[derive(Debug, PartialEq, Eq)]
enum Claiming {
    /// More may be claimed, from this time on.
    From(Instant),
    /// A claim is under way.
    UnderWay,
    /// There are no more rows, or no more are wanted.
    Over,
}

/// The loop's state.
struct Batch {
    ports: Arc<Ports>,
    plan: Plan,
    listener: Arc<dyn Listener>,
    phase: Phase,
    desk: Desk,
    items: HashMap<RecordId, Item>,
    tasks: JoinSet<Event>,
    owners: HashMap<Id, Owner>,
    claiming: Claiming,
    cursor: Option<Cursor>,
    /// So many of [`Plan::only`] have been asked for.
    n_asked: usize,
    refusals: Refusals,
    n_fetches: u64,
    probe: Probe,
    provider: Outage,
    images: Outage,
    records: Outage,
    /// The provider's latest words, and on whose picture.
    last_words: Vec<(RecordId, Word)>,
    /// Attempts on pictures whose faults were their own; not the provider's.
    own_attempts: u64,
    /// So many of the keys that were dropped have been told.
    n_dropped_told: usize,
    rewrites: Vec<(Instant, Rewrite)>,
    n_undoing: usize,
    /// The budget holds no further picture until one in hand has given some back.
    over_budget: Option<String>,
    counts: Counts,
    unwritten: u64,
    reasons: BTreeMap<String, u64>,
    /// Images that ended without a review, by what they have in common.
    failures: BTreeMap<FailureCause, Failures>,
    /// Rows in a row whose result their table did not take.
    n_rejected: u32,
    /// Titles of refusals that have been told: one cause is one line.
    told_refusals: Vec<String>,
    backlog: Option<u64>,
    told: Option<(Instant, u64)>,
    started: Instant,
}

/// Runs until the backlog or the box ends, or something stops it. Everything that was claimed is
/// settled or given back on return, as far as the records could be reached.
pub async fn run(
    ports: Ports,
    plan: Plan,
    mut wish: watch::Receiver<Wish>,
    listener: Arc<dyn Listener>,
) -> Report {
    let mut batch = Batch::new(ports, plan, listener);
    batch.put_right().await;
    let mut wishes_end = false;
    loop {
        let now = Instant::now();
        let wanted = *wish.borrow_and_update();
        batch.look(wanted, now);
        batch.fill(now);
        if batch.is_over() {
            break;
        }
        let wake = batch.next_wake(now);
        tokio::select! {
            Some(ended) = batch.tasks.join_next_with_id() => batch.hear(ended),
            () = sleep_until(wake) => {}
            // A sender that is gone wishes nothing any more.
            changed = wish.changed(), if !wishes_end => wishes_end = changed.is_err(),
        }
    }
    batch.conclude().await
}

impl Batch {
    fn new(ports: Ports, plan: Plan, listener: Arc<dyn Listener>) -> Self {
        let now = Instant::now();
        Self {
            ports: Arc::new(ports),
            plan,
            listener,
            phase: Phase::PuttingRight,
            desk: Desk::default(),
            items: HashMap::new(),
            tasks: JoinSet::new(),
            owners: HashMap::new(),
            claiming: Claiming::From(now),
            cursor: None,
            n_asked: 0,
            refusals: Refusals::default(),
            n_fetches: 0,
            probe: Probe::Off,
            provider: Outage::new("provider_unavailable", "gemini"),
            images: Outage::new("images_unavailable", "images"),
            records: Outage::new("records_unavailable", "records"),
            last_words: Vec::new(),
            own_attempts: 0,
            n_dropped_told: 0,
            rewrites: Vec::new(),
            n_undoing: 0,
            over_budget: None,
            counts: Counts::default(),
            unwritten: 0,
            reasons: BTreeMap::new(),
            failures: BTreeMap::new(),
            n_rejected: 0,
            told_refusals: Vec::new(),
            backlog: None,
            told: None,
            started: now,
        }
    }

    /// Nothing is left to wait for.
    fn is_over(&self) -> bool {
        match self.phase {
            Phase::PuttingRight | Phase::Working | Phase::WindingDown { .. } => false,
            Phase::GivingBack { until, .. } => {
                let nothing_left = self.items.is_empty()
                    && self.rewrites.is_empty()
                    && self.n_undoing == 0
                    && self.claiming != Claiming::UnderWay;
                nothing_left || Instant::now() >= until
            }
        }
    }

    /// No try of ours is open, as far as the budget is concerned.
    fn has_no_open_try(&self) -> bool {
        self.desk.n_in_hand() == 0 && self.n_undoing == 0
    }

    fn limits(&self) -> Limits {
        Limits::new(self.ports.reviewer.capacity())
    }

    /// When the loop must look again even if nothing ends.
    fn next_wake(&self, now: Instant) -> Instant {
        let mut times: Vec<Instant> = self.rewrites.iter().map(|(at, _)| *at).collect();
        match &self.phase {
            Phase::WindingDown { until, .. } | Phase::GivingBack { until, .. } => {
                times.push(*until);
            }
            Phase::PuttingRight | Phase::Working => {
                times.extend(self.plan.box_end);
                times.extend(self.desk.next_delayed());
                if let Claiming::From(at) = self.claiming {
                    times.extend(Some(at).filter(|at| *at > now));
                }
                if let Probe::At(at) = self.probe {
                    times.push(at);
                }
                for outage in [&self.provider, &self.images, &self.records] {
                    times.extend(outage.lasts_until(self.plan.give_up_after));
                }
            }
        }
        if self.desk.n_in_hand() > 0 {
            times.push(now + TICK);
        }
        // Something is always awaited; were it not, a minute would show it.
        times.into_iter().min().unwrap_or(now + Duration::from_secs(60)).max(now)
    }

    fn say(&self, news: &News) {
        self.listener.hear(news);
    }

    fn note(&self, text: String) {
        self.say(&News::Line(crate::protocol::Line::Note { text }));
    }
}

/// Costs of a run that can't be read are unknown, never 0.
const UNKNOWN: Spent =
    Spent { tries: 0, tokens_in: 0, tokens_out: 0, usd: None, possibly_billed: 0, not_told: 0 };
