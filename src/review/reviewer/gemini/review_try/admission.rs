//! How a try waits for its turn: for an outage to end, and for a key that may be used now.
//!
//! Which key is next, `key_pool.rs` knows; whether calls may pass, `circuit_breaker.rs`.
//! Invariant: a pause that the service calls a pause (five minutes at most) is waited for by those
//! who are in hand; a try that would come back at once would only make way for the next row to come
//! back at once, until the backlog has gone round.

use tokio::time::{Instant, sleep_until, timeout_at};

use super::TryState;
use crate::review::reviewer::Fault;
use crate::review::reviewer::gemini::circuit_breaker::Permit;
use crate::review::reviewer::gemini::classifier::Kind;
use crate::review::reviewer::gemini::key_pool::{KeyLease, Selection};
use crate::review::reviewer::gemini::refusal::Concerned;

/// So often a try may be told that there is no quota and still wait beyond its own limit: who is told
/// again and again is not let through at all.
const MAX_OVER_QUOTA: u32 = 1;

/// Whether the try has been given time for a rest of all projects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rested {
    No,
    Once,
}

/// What a call needs.
pub(super) struct Admitted<'a> {
    pub(super) lease: KeyLease,
    pub(super) network: Permit<'a>,
    pub(super) service: Permit<'a>,
}

impl<'g> TryState<'g> {
    /// Waits until a call may be made. The line for quota may take minutes, in which an outage may
    /// begin, so the breakers have the last word; and who waits for one holds no turn.
    pub(super) async fn admitted(&mut self) -> Result<Admitted<'g>, Fault> {
        let session = self.session;
        loop {
            if let Some(refusal) = session.refused() {
                return Err(Fault::Refused(refusal));
            }
            let ready = timeout_at(self.until, async {
                session.network.ready().await;
                session.service.ready().await;
            });
            if ready.await.is_err() {
                return Err(self.out_of_time());
            }
            let lease = self.lease().await?;
            let permits = (session.network.try_admit(), session.service.try_admit());
            if let (Some(network), Some(service)) = permits {
                return Ok(Admitted { lease, network, service });
            }
            session.key_pool.unused(&lease);
        }
    }

    /// Waits for a key's turn.
    async fn lease(&mut self) -> Result<KeyLease, Fault> {
        let session = self.session;
        let _in_line = loop {
            if let Ok(in_line) = timeout_at(self.until, session.queue.lock()).await {
                break in_line;
            }
            // Who is first in line may be waiting for the same rest.
            let rest = session.key_pool.cooldown_until(Instant::now(), session.clock.now());
            if !rest.is_some_and(|at| self.waits_out(at)) {
                return Err(Fault::OutOfTime);
            }
        };
        loop {
            match session.key_pool.select(Instant::now(), session.clock.now()) {
                Selection::Go(lease) => return Ok(lease),
                // Its turn did not come: as a rule nobody's fault.
                Selection::Wait(at) if at >= self.until && !self.waits_out(at) => {
                    return Err(self.out_of_quota().unwrap_or(Fault::OutOfTime));
                }
                Selection::Wait(at) => sleep_until(at).await,
                Selection::Closed { until, message } => {
                    return Err(Fault::Quota { until: Some(until), reason: self.clean(&message) });
                }
                Selection::NoneLeft { kind, concerned, message } => {
                    return Err(self.none_left(kind, &concerned, &message));
                }
            }
        }
    }

    /// Once, a try waits for the end of a rest that outlasts it, and has an attempt's time after it.
    fn waits_out(&mut self, at: Instant) -> bool {
        let may = self.rested == Rested::No
            && self.n_over_quota <= MAX_OVER_QUOTA
            && at < self.request.deadline;
        if may {
            self.rested = Rested::Once;
            let with_an_attempt = at + self.session.settings.attempt_timeout;
            self.until = self.request.deadline.min(with_an_attempt);
        }
        may
    }

    pub(super) fn none_left(&self, kind: Kind, concerned: &Concerned, message: &str) -> Fault {
        Fault::Refused(self.refusal(kind, concerned, message))
    }

    /// A whole try's time, and nobody was let through: quota does not come back by waiting.
    pub(super) fn out_of_quota(&self) -> Option<Fault> {
        let in_vain = self.request.deadline > self.until
            && self.session.fared().answered == self.at_first.answered;
        let reason = self.no_quota.clone().filter(|_| in_vain)?;
        Some(Fault::Quota { until: None, reason })
    }
}
