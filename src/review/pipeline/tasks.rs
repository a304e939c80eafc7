//! The tasks beside the loop: what each is about, and the event it ends with.
//!
//! Invariant: a task that ends without an event (aborted, panicked) is still known by its kind.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::bucket_health::FetchNumber;
use super::claims::ClaimPage;
use super::item::Fetched;
use super::write_back::{Close, Release, WriteError};
use crate::review::record::{RecordId, Written};
use crate::review::reviewer::Outcome;
use crate::review::tries::Begun;
use crate::storage::StorageError;

/// How a task ended.
#[derive(Debug)]
pub(super) enum Event {
    Claimed(ClaimPage),
    Begun { id: RecordId, begun: Result<Begun, StorageError> },
    Fetched { id: RecordId, number: FetchNumber, fetched: Fetched },
    Reviewed { id: RecordId, outcome: Outcome },
    Closed { id: RecordId, close: Box<Close>, closed: Result<Written, WriteError> },
    Released { release: Box<Release>, released: Result<Written, WriteError> },
    Noted(Result<(), StorageError>),
}

/// What a task is about, should it end without an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TaskKind {
    Claim,
    Image(RecordId),
    /// A release of a row that is no item of ours, or a note.
    Write,
}

/// The tasks under way.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    set: JoinSet<Event>,
    kinds: HashMap<Id, TaskKind>,
}

impl Tasks {
    pub(super) fn spawn(
        &mut self,
        kind: TaskKind,
        task: impl Future<Output = Event> + Send + 'static,
    ) -> AbortHandle {
        let handle = self.set.spawn(task);
        self.kinds.insert(handle.id(), kind);
        handle
    }

    /// The next task that ends; `None` if there is none. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Result<(Id, Event), JoinError>> {
        self.set.join_next_with_id().await
    }

    /// What an ended task was about.
    pub(super) fn forget(&mut self, task: Id) -> Option<TaskKind> {
        self.kinds.remove(&task)
    }

    pub(super) fn abort_all(&mut self) {
        self.set.abort_all();
    }
}
