//! What follows from an error: for the key, the run and the try.
//!
//! Invariant: only the service's refusal of the picture itself uses up a try.

use super::{Kind, Misunderstood, OnKey, OnRun, OnTry, Quota};

impl Kind {
    /// What becomes of the key.
    #[must_use]
    pub fn on_key(self) -> OnKey {
        match self {
            Self::KeyRejected => OnKey::Drop,
            Self::ProjectRejected | Self::OutOfCredit | Self::Location | Self::ModelRetired => {
                OnKey::DropProject
            }
            Self::Quota(Quota::Account(_)) => OnKey::RestAll,
            Self::Quota(Quota::Day | Quota::Minute(_) | Quota::Long(_) | Quota::Vague) => {
                OnKey::Rest
            }
            Self::NoSuchModel | Self::Misunderstood(_) | Self::Picture(_) | Self::Overloaded(_) => {
                OnKey::Keep
            }
        }
    }

    /// What becomes of the run.
    #[must_use]
    pub fn on_run(self) -> OnRun {
        match self {
            Self::KeyRejected
            | Self::ProjectRejected
            | Self::OutOfCredit
            | Self::Location
            | Self::ModelRetired
            | Self::Quota(Quota::Day | Quota::Long(_)) => OnRun::StopWhenNoneLeft,
            Self::NoSuchModel | Self::Misunderstood(Misunderstood::Other) => OnRun::Stop,
            Self::Misunderstood(Misunderstood::SchemaForm | Misunderstood::Thinking)
            | Self::Picture(_) => OnRun::Continue,
            Self::Overloaded(_)
            | Self::Quota(Quota::Account(_) | Quota::Minute(_) | Quota::Vague) => OnRun::MayWait,
        }
    }

    /// What becomes of the try.
    #[must_use]
    pub fn on_try(self) -> OnTry {
        match self {
            Self::Picture(_) => OnTry::UsedUp,
            Self::KeyRejected
            | Self::ProjectRejected
            | Self::OutOfCredit
            | Self::Location
            | Self::NoSuchModel
            | Self::ModelRetired
            | Self::Misunderstood(_)
            | Self::Overloaded(_)
            | Self::Quota(_) => OnTry::Kept,
        }
    }
}
