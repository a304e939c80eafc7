//! The pieces of work that run beside the loop, each a task that ends with an [`Event`].
//!
//! They know nothing of each other; what an event means is the loop's business.
//! Invariant: what another process would need to know is noted before the first effect outside.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use tokio::time::Instant;

use super::Ports;
use super::refusals::FetchNo;
use crate::review::picture::sha256_hex;
use crate::review::record::{
    Claimed, Cursor, PROCESSING, Record, RecordError, RecordId, Settlement, Written,
};
use crate::review::reviewer::{Ask, Outcome, Prepared};
use crate::review::settings::BudgetSettings;
use crate::review::settle::History;
use crate::review::source::SourceError;
use crate::review::tries::{Begin, Begun, Fence, Row, TryEnd, TryId};
use crate::storage::StorageError;

/// Rows in one claim: the port's limit.
const CLAIM_AT_ONCE: usize = 100;

/// Between noting a claim and its being carried out: three requests of 30 s at most, and clocks that
/// differ a little.
const CLAIM_TAKES_AT_MOST: TimeDelta = TimeDelta::minutes(2);

/// How a task ended.
#[derive(Debug)]
pub(super) enum Event {
    Claimed(Page),
    Begun { id: RecordId, begun: Result<Begun, StorageError> },
    Fetched { id: RecordId, number: FetchNo, fetched: Fetched },
    Reviewed { id: RecordId, outcome: Outcome },
    Closed { id: RecordId, close: Box<Close>, closed: Result<Written, Trouble> },
    Undone { undo: Box<Undo>, undone: Result<Written, Trouble> },
    Noted(Result<(), StorageError>),
}

/// What went wrong with a write.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    Records(RecordError),
    State(StorageError),
}

impl From<RecordError> for Trouble {
    fn from(error: RecordError) -> Self {
        Self::Records(error)
    }
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        Self::State(error)
    }
}

/// What a claim brought.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) items: Vec<(Claimed, History)>,
    /// Where the next one goes on.
    pub(super) cursor: Option<Cursor>,
    /// So many of those that were asked for by id have had their turn.
    pub(super) n_asked: usize,
    /// There are no more rows.
    pub(super) is_last: bool,
    /// Noted, and perhaps claimed: the answer did not come.
    pub(super) doubtful: Vec<Claimed>,
    pub(super) trouble: Option<Trouble>,
}

/// What a fetch brought.
#[derive(Debug)]
pub(super) enum Fetched {
    /// A picture to send.
    Prepared(Prepared),
    /// A file that can't be prepared, and its SHA-256.
    BadFile { reason: String, sha256: String },
    /// No file.
    Refused(SourceError),
}

/// What is written when a piece of work on an image has ended.
#[derive(Clone, Debug)]
pub(super) struct Close {
    pub(super) claimed: Claimed,
    /// The try to close; `None`: none was begun.
    pub(super) ended: Option<(TryId, TryEnd)>,
    pub(super) what: What,
    /// Writes of it that brought an error, and may have happened all the same.
    pub(super) n_failed: u32,
}

/// What becomes of the row.
#[derive(Clone, Debug)]
pub(super) enum What {
    Settle {
        settlement: Settlement,
        ending: crate::review::settle::Ending,
    },
    /// It stays ours and comes again after so long.
    Keep {
        wait: Duration,
    },
    GiveBack,
}

/// A row to put right that this run does not count: left by a dead process, or perhaps claimed.
#[derive(Clone, Debug)]
pub(super) struct Undo {
    pub(super) claimed: Claimed,
    /// How sure the time of its claim is; `None`: the notes say it.
    pub(super) fence: Option<Fence>,
    /// Its tries are used up: it is settled instead of given back.
    pub(super) settlement: Option<Settlement>,
}

/// What to claim.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) statuses: Vec<String>,
    pub(super) after: Option<Cursor>,
    pub(super) n: u32,
    /// These rows instead, whatever their status.
    pub(super) only: Option<Only>,
}

/// Rows that were asked for by id.
#[derive(Clone, Debug)]
pub(super) struct Only {
    pub(super) ids: Vec<RecordId>,
    /// No more were asked for.
    pub(super) is_all: bool,
}

/// Takes the next rows: noted first, then claimed, then unnoted what others have won.
pub(super) async fn claim(ports: Arc<Ports>, want: Want) -> Event {
    let mut page = Page { cursor: want.after.clone(), ..Page::default() };
    if let Err(trouble) = claim_into(&ports, &want, &mut page).await {
        page.trouble = Some(trouble);
    }
    Event::Claimed(page)
}

async fn claim_into(ports: &Ports, want: &Want, page: &mut Page) -> Result<(), Trouble> {
    let candidates = match &want.only {
        Some(only) => asked_for(ports, only).await?,
        None => ports.records.candidates(&want.statuses, want.after.as_ref(), want.n).await?,
    };
    let (n_asked, is_last) = match &want.only {
        Some(only) => (only.ids.len(), only.is_all),
        None => (0, candidates.is_empty()),
    };
    page.is_last = is_last;
    let Some(last) = candidates.last() else {
        page.n_asked = n_asked;
        return Ok(());
    };
    let cursor = Cursor { created_at: last.created_at, id: last.id.clone() };
    // Each status by itself, since a claim is conditional on it; the order is restored below.
    let mut by_status: HashMap<&str, Vec<&Record>> = HashMap::new();
    for record in &candidates {
        by_status.entry(&record.status).or_default().push(record);
    }
    let mut won = HashMap::new();
    for (status, records) in by_status {
        for chunk in records.chunks(CLAIM_AT_ONCE) {
            claim_chunk(ports, status, chunk, &mut won, page).await?;
        }
    }
    let claimed: Vec<Claimed> =
        candidates.iter().filter_map(|record| won.remove(&record.id)).collect();
    let ids: Vec<RecordId> = claimed.iter().map(|claimed| claimed.record.id.clone()).collect();
    match ports.tries.histories(&ids).await {
        Ok(histories) => page.items = claimed.into_iter().zip(histories).collect(),
        Err(error) => {
            page.doubtful.extend(claimed);
            return Err(error.into());
        }
    }
    page.cursor = Some(cursor);
    page.n_asked = n_asked;
    Ok(())
}

/// Those of the rows that nobody has in hand, in the order in which they were asked for.
async fn asked_for(ports: &Ports, only: &Only) -> Result<Vec<Record>, RecordError> {
    let rows = ports.records.rows_by_id(&only.ids).await?;
    let mut by_id: HashMap<RecordId, Record> =
        rows.into_iter().map(|row| (row.record.id.clone(), row.record)).collect();
    let in_order = only.ids.iter().filter_map(|id| by_id.remove(id));
    Ok(in_order.filter(|record| record.status != PROCESSING).collect())
}

async fn claim_chunk(
    ports: &Ports,
    status: &str,
    records: &[&Record],
    won: &mut HashMap<RecordId, Claimed>,
    page: &mut Page,
) -> Result<(), Trouble> {
    let ids: Vec<RecordId> = records.iter().map(|record| record.id.clone()).collect();
    let at = fence(ports.clock.now());
    let noted = ports.tries.record_claims(&ids, status, at).await?;
    if noted.is_empty() {
        return Ok(());
    }
    match ports.records.claim(&noted, status, at).await {
        Ok(rows) => {
            let rewritten: Vec<Claimed> =
                rows.iter().filter(|claimed| claimed.claimed_at != at).cloned().collect();
            won.extend(rows.into_iter().map(|claimed| (claimed.record.id.clone(), claimed)));
            if !rewritten.is_empty()
                && let Err(error) = ports.tries.record_fences(&rewritten).await
            {
                page.doubtful.extend(won.drain().map(|(_, claimed)| claimed));
                return Err(error.into());
            }
            let lost: Vec<RecordId> =
                noted.into_iter().filter(|id| !won.contains_key(id)).collect();
            if !lost.is_empty() {
                ports.tries.drop_claims(&lost).await?;
            }
            Ok(())
        }
        Err(error) => {
            // The write may have happened: what was noted is put right with the fence.
            page.doubtful.extend(
                records
                    .iter()
                    .filter(|record| noted.contains(&record.id))
                    .map(|record| Claimed { record: (*record).clone(), claimed_at: at }),
            );
            page.doubtful.extend(won.drain().map(|(_, claimed)| claimed));
            Err(error.into())
        }
    }
}

/// `PostgreSQL` keeps microseconds; a fence must come back as it was written.
fn fence(now: DateTime<Utc>) -> DateTime<Utc> {
    now.trunc_subsecs(6)
}

pub(super) async fn begin(ports: Arc<Ports>, begin: Begin, budget: BudgetSettings) -> Event {
    let begun = ports.tries.begin(&begin, &budget).await;
    Event::Begun { id: begin.id, begun }
}

/// Fetches and prepares; a transfer that broke off is repeated once, at once.
pub(super) async fn fetch(ports: Arc<Ports>, record: Record, number: FetchNo) -> Event {
    let mut file = ports.source.fetch(&record).await;
    if matches!(file, Err(SourceError::BrokeOff(_))) {
        file = ports.source.fetch(&record).await;
    }
    let fetched = match file {
        Ok(bytes) => prepare(&ports, bytes).await,
        Err(error) => Fetched::Refused(error),
    };
    Event::Fetched { id: record.id, number, fetched }
}

async fn prepare(ports: &Ports, bytes: Bytes) -> Fetched {
    match ports.preparer.prepare(bytes.clone()).await {
        Ok(prepared) => Fetched::Prepared(prepared),
        Err(reason) => {
            // Tens of megabytes take too long for the runtime's own threads.
            let hashed = tokio::task::spawn_blocking(move || sha256_hex(&bytes)).await;
            Fetched::BadFile { reason, sha256: hashed.unwrap_or_default() }
        }
    }
}

pub(super) async fn review(
    ports: Arc<Ports>,
    id: RecordId,
    picture: Prepared,
    correction: Option<String>,
    deadline: Instant,
) -> Event {
    let correction = correction.as_deref();
    let ask = Ask { image: &id.0, picture: &picture, correction, deadline };
    let outcome = ports.reviewer.review(ask).await;
    Event::Reviewed { id, outcome }
}

/// The row first, then our notes: a death between the two leaves a note that the fence refutes.
pub(super) async fn close(ports: Arc<Ports>, close: Box<Close>) -> Event {
    let id = close.claimed.record.id.clone();
    let closed = close_row(&ports, &close).await;
    Event::Closed { id, close, closed }
}

async fn close_row(ports: &Ports, close: &Close) -> Result<Written, Trouble> {
    let claimed = &close.claimed;
    let (mut written, status, row) = match &close.what {
        What::Settle { settlement, .. } => {
            let written = ports.records.settle(claimed, settlement).await?;
            (written, &settlement.review_status, Row::Settled)
        }
        What::Keep { .. } => (Written::Yes, &claimed.record.status, Row::Kept),
        What::GiveBack => {
            (ports.records.release(claimed).await?, &claimed.record.status, Row::Returned)
        }
    };
    if written == Written::Lost && close.n_failed > 0 && has_status(ports, claimed, status).await? {
        // The write before, whose answer did not come, had happened.
        written = Written::Yes;
    }
    // A row that somebody else has changed starts afresh, whoever picks it up.
    let row = if written == Written::Lost { Row::Settled } else { row };
    match &close.ended {
        Some((try_id, end)) => ports.tries.finish(*try_id, end, row).await?,
        None if row != Row::Kept => {
            ports.tries.drop_claims(std::slice::from_ref(&claimed.record.id)).await?;
        }
        None => {}
    }
    Ok(written)
}

/// Ends a try whose row stays where it is for now.
pub(super) async fn note(ports: Arc<Ports>, try_id: TryId, end: TryEnd) -> Event {
    Event::Noted(ports.tries.finish(try_id, &end, Row::Kept).await)
}

async fn has_status(ports: &Ports, claimed: &Claimed, status: &str) -> Result<bool, RecordError> {
    let record = ports.records.get(&claimed.record.id).await?;
    Ok(record.is_some_and(|record| record.status == status))
}

pub(super) async fn undo(ports: Arc<Ports>, undo: Box<Undo>) -> Event {
    let undone = undo_row(&ports, &undo).await;
    Event::Undone { undo, undone }
}

async fn put_back(
    ports: &Ports,
    claimed: &Claimed,
    settlement: Option<&Settlement>,
) -> Result<Written, RecordError> {
    match settlement {
        Some(settlement) => ports.records.settle(claimed, settlement).await,
        None => ports.records.release(claimed).await,
    }
}

/// The claim with the time that a trigger has put into its row, if that is when we made it: on this
/// machine nobody else can have taken a row that we had noted.
async fn with_the_tables_time(
    ports: &Ports,
    claimed: &Claimed,
) -> Result<Option<Claimed>, RecordError> {
    let rows = ports.records.rows_by_id(std::slice::from_ref(&claimed.record.id)).await?;
    let in_hand = rows.into_iter().find(|row| row.record.status == PROCESSING);
    let Some(taken) = in_hand.and_then(|row| row.updated_at) else { return Ok(None) };
    let is_ours = (taken - claimed.claimed_at).abs() <= CLAIM_TAKES_AT_MOST;
    Ok(is_ours.then(|| Claimed { claimed_at: taken, ..claimed.clone() }))
}

async fn undo_row(ports: &Ports, undo: &Undo) -> Result<Written, Trouble> {
    let Undo { claimed, settlement, fence } = undo;
    let mut written = put_back(ports, claimed, settlement.as_ref()).await?;
    let fence = match fence {
        Some(fence) => *fence,
        None => ports.tries.fence_without_answer().await?,
    };
    if written == Written::Lost
        && fence == Fence::Doubtful
        && let Some(claimed) = with_the_tables_time(ports, claimed).await?
    {
        written = put_back(ports, &claimed, settlement.as_ref()).await?;
    }
    let id = &claimed.record.id;
    let is_over = match written {
        Written::Yes => settlement.is_some(),
        // It was settled after all, or it never was ours: then its tries still count.
        Written::Lost => !has_status(ports, claimed, &claimed.record.status).await?,
    };
    if is_over {
        ports.tries.clear(id).await?;
    }
    ports.tries.drop_claims(std::slice::from_ref(id)).await?;
    Ok(written)
}
