//! Claims: which rows are asked for next, and how they become ours.
//!
//! A row is noted before it is claimed, and the claim's time is its fence afterwards; what a dead
//! process had noted is recovered first.
//! Invariant: what another process would need to know is noted before the first effect outside, and
//! one claim is under way at a time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, Utc};
use tokio::time::{Instant, timeout};

use super::write_back::{Release, WriteError};
use super::{Plan, Ports};
use crate::review::record::{Claimed, Cursor, PROCESSING, Record, RecordError, RecordId};
use crate::review::settle::{History, TRIES, given_up};
use crate::review::tries::Orphan;
use crate::storage::StorageError;

/// Rows in one claim: the port's limit.
const MAX_ROWS_A_CLAIM: usize = 100;

/// Counting a large table may take long; without a count the run goes on all the same.
pub(super) const COUNT_TIMEOUT: Duration = Duration::from_secs(10);

/// How claiming stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More may be claimed, from this time on.
    From(Instant),
    UnderWay,
    /// There are no more rows, or no more are wanted.
    Over,
}

/// Where the run is in its backlog.
#[derive(Debug)]
pub(super) struct Claims {
    state: State,
    cursor: Option<Cursor>,
    /// How many of [`Plan::only`] have been asked for.
    n_asked: usize,
}

/// What to claim.
#[derive(Clone, Debug)]
pub(super) struct ClaimRequest {
    statuses: Vec<String>,
    after: Option<Cursor>,
    n: u32,
    /// These rows instead, whatever their status.
    only: Option<IdSlice>,
}

/// Rows that were asked for by id.
#[derive(Clone, Debug)]
struct IdSlice {
    ids: Vec<RecordId>,
    /// No more were asked for.
    is_all: bool,
}

/// What a claim brought.
#[derive(Debug, Default)]
pub(super) struct ClaimPage {
    pub(super) items: Vec<(Claimed, History)>,
    /// Noted, and perhaps claimed: the answer did not come.
    pub(super) doubtful: Vec<Claimed>,
    pub(super) error: Option<WriteError>,
    /// Where the next one goes on.
    cursor: Option<Cursor>,
    /// How many of those that were asked for by id have had their turn.
    n_asked: usize,
    is_last: bool,
}

impl Claims {
    pub(super) fn new(now: Instant) -> Self {
        Self { state: State::From(now), cursor: None, n_asked: 0 }
    }

    /// Ends the claiming once as many rows are ours as are wanted.
    pub(super) fn close_at(&mut self, limit: Option<u64>, n_claimed: u64) {
        if limit.is_some_and(|limit| n_claimed >= limit) {
            self.stop();
        }
    }

    /// The next rows to claim, if it is time for some; from here on a claim is under way.
    pub(super) fn next_request(
        &mut self,
        plan: &Plan,
        n_claimed: u64,
        now: Instant,
    ) -> Option<ClaimRequest> {
        let State::From(at) = self.state else { return None };
        if at > now {
            return None;
        }
        self.state = State::UnderWay;
        let left = plan.limit.map_or(u64::MAX, |limit| limit.saturating_sub(n_claimed));
        let n = u32::try_from(left).unwrap_or(u32::MAX).min(plan.batch.max(1));
        Some(ClaimRequest {
            statuses: plan.pick_up.clone(),
            after: self.cursor.clone(),
            n,
            only: plan.only.as_ref().map(|ids| next_of(ids, self.n_asked, n)),
        })
    }

    /// Takes note of what a claim brought, and passes it on.
    pub(super) fn take(&mut self, page: ClaimPage, now: Instant) -> ClaimPage {
        self.state = if page.is_last { State::Over } else { State::From(now) };
        self.cursor.clone_from(&page.cursor);
        self.n_asked += page.n_asked;
        page
    }

    /// The last claim failed: the next one waits.
    pub(super) fn wait_until(&mut self, at: Instant) {
        self.state = State::From(at);
    }

    /// Nothing more is claimed; a claim under way still ends.
    pub(super) fn stop(&mut self) {
        if self.state != State::UnderWay {
            self.state = State::Over;
        }
    }

    /// The claim under way ended without an event.
    pub(super) fn fail(&mut self) {
        self.state = State::Over;
    }

    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.state == State::UnderWay
    }

    /// When the next claim may be made, if it must wait.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::From(at) => Some(at).filter(|at| *at > now),
            State::UnderWay | State::Over => None,
        }
    }
}

/// The next of the rows that were asked for by id.
fn next_of(ids: &[RecordId], n_asked: usize, n: u32) -> IdSlice {
    let rest = ids.get(n_asked..).unwrap_or_default();
    let ids: Vec<RecordId> = rest.iter().take(n as usize).cloned().collect();
    IdSlice { is_all: ids.len() == rest.len(), ids }
}

/// How many rows there are to do; `None` if they can't be counted: what is wrong with the records,
/// the first claim will say.
pub(super) async fn count_backlog(ports: &Ports, plan: &Plan) -> Option<u64> {
    if let Some(ids) = &plan.only {
        return Some(ids.len() as u64);
    }
    timeout(COUNT_TIMEOUT, ports.records.count(&plan.pick_up)).await.ok()?.ok()
}

/// What dead processes have left: each of their rows goes back, or ends if the deaths have used up
/// its tries.
pub(super) async fn recover_orphans(ports: &Ports) -> Result<Vec<Release>, StorageError> {
    let orphans = ports.tries.take_over(ports.clock.now()).await?;
    Ok(orphans.into_iter().map(release_of).collect())
}

fn release_of(orphan: Orphan) -> Release {
    let Orphan { id, from, claimed_at, fence, history } = orphan;
    let record = Record {
        id,
        job_id: None,
        image_index: None,
        actual_image_url: None,
        status: from,
        created_at: None,
        columns: BTreeMap::new(),
    };
    let settlement = (history.failed.len() >= TRIES).then(|| given_up(&history.failed));
    Release { claimed: Claimed { record, claimed_at }, fence: Some(fence), settlement }
}

/// Takes the next rows: noted first, then claimed, then unnoted what others have won.
pub(super) async fn claim(ports: &Ports, request: &ClaimRequest) -> ClaimPage {
    let mut page = ClaimPage { cursor: request.after.clone(), ..ClaimPage::default() };
    if let Err(error) = claim_into(ports, request, &mut page).await {
        page.error = Some(error);
    }
    page
}

async fn claim_into(
    ports: &Ports,
    request: &ClaimRequest,
    page: &mut ClaimPage,
) -> Result<(), WriteError> {
    let candidates = match &request.only {
        Some(only) => asked_for(ports, only).await?,
        None => {
            let ClaimRequest { statuses, after, n, .. } = request;
            ports.records.candidates(statuses, after.as_ref(), *n).await?
        }
    };
    let (n_asked, is_last) = match &request.only {
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
        for chunk in records.chunks(MAX_ROWS_A_CLAIM) {
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
async fn asked_for(ports: &Ports, only: &IdSlice) -> Result<Vec<Record>, RecordError> {
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
    page: &mut ClaimPage,
) -> Result<(), WriteError> {
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
            // The write may have happened: what was noted is recovered with the fence.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::settings::{BudgetSettings, OnBlocked};
    use crate::review::settle::Policy;

    fn plan(limit: Option<u64>, only: Option<usize>) -> Plan {
        Plan {
            run: "run".into(),
            pick_up: vec!["downloaded".into()],
            parked: None,
            batch: 100,
            limit,
            only: only.map(|n| (0..n).map(|n| RecordId(n.to_string())).collect()),
            policy: Policy { on_blocked: OnBlocked::Error, waits: Policy::WAITS },
            budget: BudgetSettings::default(),
            give_up_after: Duration::from_secs(600),
            box_end: None,
            grace_end: None,
            grace: Duration::from_secs(60),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_claim_is_under_way_at_a_time_and_a_failed_one_waits() {
        let now = Instant::now();
        let plan = plan(None, None);
        let mut claims = Claims::new(now);
        assert_eq!(claims.next_request(&plan, 0, now).unwrap().n, 100);
        assert!(claims.next_request(&plan, 0, now).is_none() && claims.is_under_way());
        claims.take(ClaimPage::default(), now);
        let later = now + Duration::from_secs(5);
        claims.wait_until(later);
        assert!(claims.next_request(&plan, 0, now).is_none());
        assert_eq!(claims.next_at(now), Some(later));
        assert!(claims.next_request(&plan, 0, later).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_never_passed_and_ends_the_claiming() {
        let now = Instant::now();
        let plan = plan(Some(130), None);
        let mut claims = Claims::new(now);
        assert_eq!(claims.next_request(&plan, 100, now).unwrap().n, 30);
        claims.take(ClaimPage::default(), now);
        claims.close_at(plan.limit, 129);
        assert!(!claims.is_over());
        claims.close_at(plan.limit, 130);
        assert!(claims.is_over() && claims.next_request(&plan, 130, now).is_none());
    }

    #[test]
    fn rows_asked_for_by_id_come_in_slices_and_the_last_says_so() {
        let ids: Vec<RecordId> = (0..5).map(|n| RecordId(n.to_string())).collect();
        let first = next_of(&ids, 0, 3);
        assert_eq!((first.ids.len(), first.is_all), (3, false));
        let rest = next_of(&ids, 3, 3);
        assert_eq!((rest.ids.len(), rest.is_all), (2, true));
        assert!(next_of(&ids, 9, 3).is_all);
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_lets_a_claim_that_is_under_way_end() {
        let now = Instant::now();
        let mut claims = Claims::new(now);
        claims.next_request(&plan(None, None), 0, now).unwrap();
        claims.stop();
        assert!(!claims.is_over(), "its rows are still to come");
        claims.take(ClaimPage::default(), now);
        claims.stop();
        assert!(claims.is_over());
    }
}
