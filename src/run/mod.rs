//! Runs: one try at a slot's work, from due to over.
//!
//! `conductor.rs` is the loop (due → claim → keeper → evidence), `ledger.rs` and `keeper.rs` are its
//! ports. What a run's end means is `watch`'s business.
//! Invariant: no run without a slot that was claimed in the ledger first.

pub mod conductor;
pub mod decide;
pub mod downtime;
pub mod forecast;
pub mod hold;
pub mod keeper;
pub mod ledger;
pub mod planner;
pub mod retention;
pub mod simulation;

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::process::ProcessIdentity;
use crate::schedule::{Schedule, Slot};

/// Identity of a run: a UUID (version 7) as text, also the name of its directory under `runs/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// One that was stored.
    #[must_use]
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a daemon sees to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Everything that is configured.
    #[default]
    Everything,
    /// Runs that somebody asks for, and those that go on: `lookout run` without a daemon. What the
    /// schedules owe meanwhile, and what fell into the time before, is left as it is for the daemon
    /// that comes.
    Asked,
}

/// How much of something was done: what takes long is done in parts, one a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// There is more to come.
    Part,
    /// All of it, or the last part.
    #[default]
    Whole,
}

/// One try at a slot's work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Identity.
    pub id: RunId,
    /// Whose work.
    pub slot: Slot,
    /// The configuration it started with; it is judged under this one.
    pub schedule: Schedule,
    /// When the slot was claimed for it.
    pub claimed_at: DateTime<Utc>,
    /// When its keeper was started; `None` until then.
    pub started_at: Option<DateTime<Utc>>,
    /// Its keeper, as soon as it is known.
    pub keeper: Option<ProcessIdentity>,
    /// When it was over.
    pub ended_at: Option<DateTime<Utc>>,
}
