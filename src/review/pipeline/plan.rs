//! What a review is to do and when it must stop; what the pipeline keeps to, and never changes.

use std::time::Duration;

use tokio::time::Instant;

use crate::review::record::RecordId;
use crate::review::settings::BudgetSettings;
use crate::review::settle::Policy;

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
    /// Upper bound, in rows.
    pub limit: Option<u64>,
    /// These rows only, whatever their status.
    pub only: Option<Vec<RecordId>>,
    /// What becomes of rows.
    pub policy: Policy,
    /// Caps.
    pub budget: BudgetSettings,
    /// After this long of nothing but outage the run gives up.
    pub give_up_after: Duration,
    /// From then on nothing new begins.
    pub box_end: Option<Instant>,
    /// From then on nothing may be in hand; `None`: [`Plan::grace`] after the winding down began.
    pub grace_end: Option<Instant>,
    /// How long to finish what is in hand, if no end of the grace is set.
    pub grace: Duration,
}

/// What whoever started the run wants of it now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopRequest {
    /// Go on.
    #[default]
    None,
    /// Begin nothing new, finish what is in hand.
    WindDown,
    /// Release everything at once.
    Release,
}
