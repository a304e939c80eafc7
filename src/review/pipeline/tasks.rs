//! The tasks beside the loop: what each is about, the stage it calls, and the event it ends with.
//! The stages know nothing of tasks or events.
//!
//! Invariant: a task that ends without an event (aborted, panicked) is still known by its kind.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::Ports;
use super::bucket_health::FetchNumber;
use super::claims::{self, ClaimPage, ClaimRequest};
use super::item::{self, Fetched};
use super::write_back::{self, Close, Release, WriteError};
use crate::review::record::{Record, RecordId, Written};
use crate::review::reviewer::{Outcome, Prepared, ReviewRequest};
use crate::review::settings::BudgetSettings;
use crate::review::tries::{Begin, Begun, Row, TryEnd, TryId};
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

pub(super) async fn claim(ports: Arc<Ports>, request: ClaimRequest) -> Event {
    Event::Claimed(claims::claim(&ports, &request).await)
}

pub(super) async fn begin(ports: Arc<Ports>, begin: Begin, budget: BudgetSettings) -> Event {
    let begun = ports.tries.begin(&begin, &budget).await;
    Event::Begun { id: begin.id, begun }
}

pub(super) async fn fetch(ports: Arc<Ports>, record: Record, number: FetchNumber) -> Event {
    let fetched = item::fetch(&ports, &record).await;
    Event::Fetched { id: record.id, number, fetched }
}

pub(super) async fn review(
    ports: Arc<Ports>,
    id: RecordId,
    image: Prepared,
    correction: Option<String>,
    deadline: Instant,
) -> Event {
    let correction = correction.as_deref();
    let request = ReviewRequest { image: &id.0, picture: &image, correction, deadline };
    let outcome = ports.reviewer.review(request).await;
    Event::Reviewed { id, outcome }
}

pub(super) async fn close(ports: Arc<Ports>, close: Box<Close>) -> Event {
    let id = close.claimed.record.id.clone();
    let closed = write_back::close(&ports, &close).await;
    Event::Closed { id, close, closed }
}

/// Ends a try whose row stays where it is for now.
pub(super) async fn note(ports: Arc<Ports>, try_id: TryId, end: TryEnd) -> Event {
    Event::Noted(ports.tries.finish(try_id, &end, Row::Kept).await)
}

/// Releases a row that is no item of this run.
pub(super) async fn release(ports: Arc<Ports>, release: Box<Release>) -> Event {
    let released = write_back::release(&ports, &release).await;
    Event::Released { release, released }
}
