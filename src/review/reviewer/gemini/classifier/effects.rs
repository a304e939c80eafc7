//! What follows from an error for the key. What follows for the try is `review_try`'s.
//!
//! Invariant: a key is dropped only for what the service says of it or of its project.

use super::{Kind, OnKey, Quota};

impl Kind {
    /// What becomes of the key.
    #[must_use]
    pub fn on_key(self) -> OnKey {
        match self {
            Self::KeyRejected => OnKey::Drop,
            Self::ProjectRejected
            | Self::OutOfCredit
            | Self::SpendCap
            | Self::NoQuota
            | Self::Location
            | Self::ModelRetired => OnKey::DropProject,
            Self::Quota(Quota::Account(_)) => OnKey::RestAll,
            Self::Quota(Quota::Day | Quota::Minute(_) | Quota::Long(_) | Quota::Vague) => {
                OnKey::Rest
            }
            Self::NoSuchModel
            | Self::InvalidRequest(_)
            | Self::Picture(_)
            | Self::Overloaded(_) => OnKey::Keep,
        }
    }
}
