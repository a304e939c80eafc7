//! The work queue: which image's work may begin next, and which picture goes to the reviewer.
//!
//! Pure: ids, counts and instants; no work is done here.
//! Invariant: a suspect is worked on while nothing else is in hand, and nothing begins beside it.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use crate::review::record::RecordId;
use crate::review::tries::Isolation;

/// How much may be in hand at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// What the provider can take now.
    pub(super) reviewing: usize,
    /// Being fetched and prepared at once: enough to hide a bucket's latency, few enough that
    /// the files of all of them fit into memory.
    pub(super) fetching: usize,
    /// Prepared and waiting for the provider, so that it never waits for us.
    pub(super) ready: usize,
}

impl Limits {
    /// From what the provider can take.
    pub(super) fn new(capacity: u32) -> Self {
        let reviewing = capacity.max(1) as usize;
        Self {
            reviewing,
            fetching: (reviewing / 4).clamp(4, 16),
            ready: (reviewing / 2).clamp(4, 32),
        }
    }
}

/// Where a new image goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Behind the others.
    Ordinary,
    /// It was in hand when a process died: alone, before all others.
    Suspect,
}

/// The queues and what is in hand.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    suspects: VecDeque<RecordId>,
    waiting: VecDeque<RecordId>,
    delayed: BTreeMap<(Instant, u64), RecordId>,
    ready: VecDeque<RecordId>,
    n_delays: u64,
    n_fetching: usize,
    n_reviewing: usize,
    n_closing: usize,
    alone: bool,
}

impl WorkQueue {
    pub(super) fn add(&mut self, id: RecordId, lane: Lane) {
        match lane {
            Lane::Ordinary => self.waiting.push_back(id),
            Lane::Suspect => self.suspects.push_back(id),
        }
    }

    /// To the end of the queue, not before `until`.
    pub(super) fn delay(&mut self, id: RecordId, until: Instant) {
        self.n_delays += 1;
        self.delayed.insert((until, self.n_delays), id);
    }

    /// Lets those into the queue whose time has come.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            self.waiting.push_back(entry.remove());
        }
    }

    pub(super) fn next_delayed(&self) -> Option<Instant> {
        self.delayed.keys().next().map(|(until, _)| *until)
    }

    /// How many could begin now: when it falls short, more are claimed.
    pub(super) fn n_waiting(&self) -> usize {
        self.waiting.len() + self.suspects.len()
    }

    /// Begun and not closed.
    pub(super) fn n_in_hand(&self) -> usize {
        self.n_fetching + self.ready.len() + self.n_reviewing + self.n_closing
    }

    /// Nothing is queued, delayed or in hand.
    pub(super) fn is_idle(&self) -> bool {
        self.n_waiting() == 0 && self.delayed.is_empty() && self.n_in_hand() == 0
    }

    /// The image whose work begins now, if one may.
    pub(super) fn begin(&mut self, limits: &Limits) -> Option<(RecordId, Isolation)> {
        if self.alone {
            return None;
        }
        if !self.suspects.is_empty() {
            if self.n_in_hand() > 0 {
                return None;
            }
            self.alone = true;
            self.n_fetching += 1;
            return self.suspects.pop_front().map(|id| (id, Isolation::Exclusive));
        }
        if self.n_fetching >= limits.fetching || self.ready.len() >= limits.ready {
            return None;
        }
        let id = self.waiting.pop_front()?;
        self.n_fetching += 1;
        Some((id, Isolation::Shared))
    }

    /// It is prepared.
    pub(super) fn prepared(&mut self, id: RecordId) {
        self.n_fetching = self.n_fetching.saturating_sub(1);
        self.ready.push_back(id);
    }

    /// The picture that goes to the reviewer now, if one may.
    pub(super) fn review(&mut self, limits: &Limits) -> Option<RecordId> {
        // What is answered but not yet written down counts: else answers would pile up in memory
        // while the records are slow, and all of them would be lost with the process.
        if self.n_reviewing + self.n_closing >= limits.reviewing {
            return None;
        }
        let id = self.ready.pop_front()?;
        self.n_reviewing += 1;
        Some(id)
    }

    /// One more is fetched to see whether the bucket serves us again.
    pub(super) fn probe(&mut self) {
        self.n_fetching += 1;
    }

    /// Fetching or preparing it has ended without a picture.
    pub(super) fn fetched_nothing(&mut self) {
        self.n_fetching = self.n_fetching.saturating_sub(1);
        self.release();
    }

    /// Work on it could not begin: it is the next one again.
    pub(super) fn not_begun(&mut self, id: RecordId) {
        self.n_fetching = self.n_fetching.saturating_sub(1);
        let queue = if self.alone { &mut self.suspects } else { &mut self.waiting };
        queue.push_front(id);
        self.release();
    }

    /// The reviewer has spoken.
    pub(super) fn reviewed(&mut self) {
        self.n_reviewing = self.n_reviewing.saturating_sub(1);
    }

    /// What came of it is being written down.
    pub(super) fn closing(&mut self) {
        self.n_closing += 1;
    }

    /// What came of it is written down.
    pub(super) fn closed(&mut self) {
        self.n_closing = self.n_closing.saturating_sub(1);
        self.release();
    }

    fn release(&mut self) {
        if self.n_in_hand() == 0 {
            self.alone = false;
        }
    }

    /// Empties the queues of what has not begun.
    pub(super) fn take_unbegun(&mut self) -> Vec<RecordId> {
        let mut ids: Vec<RecordId> = self.suspects.drain(..).collect();
        ids.extend(self.waiting.drain(..));
        ids.extend(std::mem::take(&mut self.delayed).into_values());
        ids
    }

    /// Takes those that are prepared and wait for the reviewer.
    pub(super) fn take_ready(&mut self) -> Vec<RecordId> {
        self.ready.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(n: usize) -> RecordId {
        RecordId(n.to_string())
    }

    const LIMITS: Limits = Limits { reviewing: 2, fetching: 3, ready: 2 };

    #[test]
    fn no_more_than_the_limits_are_in_hand() {
        let mut queue = WorkQueue::default();
        (0..20).for_each(|n| queue.add(id(n), Lane::Ordinary));
        for n in 0..3 {
            assert_eq!(queue.begin(&LIMITS), Some((id(n), Isolation::Shared)));
        }
        assert_eq!(queue.begin(&LIMITS), None);
        queue.prepared(id(0));
        queue.prepared(id(1));
        // Two are ready: nothing more is fetched until the reviewer takes one.
        assert_eq!(queue.begin(&LIMITS), None);
        assert_eq!(queue.review(&LIMITS), Some(id(0)));
        assert_eq!(queue.begin(&LIMITS), Some((id(3), Isolation::Shared)));
        assert_eq!(queue.review(&LIMITS), Some(id(1)));
        queue.prepared(id(2));
        assert_eq!(queue.review(&LIMITS), None);
        queue.reviewed();
        queue.closing();
        assert_eq!(queue.review(&LIMITS), None, "its answer is not yet written down");
        queue.closed();
        assert_eq!(queue.review(&LIMITS), Some(id(2)));
        assert_eq!(queue.n_in_hand(), 3);
    }

    #[test]
    fn a_suspect_is_worked_on_alone() {
        let mut queue = WorkQueue::default();
        (0..3).for_each(|n| queue.add(id(n), Lane::Ordinary));
        assert!(queue.begin(&LIMITS).is_some());
        queue.add(id(9), Lane::Suspect);
        assert_eq!(queue.begin(&LIMITS), None, "another is in hand");
        queue.fetched_nothing();
        queue.closing();
        assert_eq!(queue.begin(&LIMITS), None, "it is not yet written down");
        queue.closed();
        assert_eq!(queue.begin(&LIMITS), Some((id(9), Isolation::Exclusive)));
        assert_eq!(queue.begin(&LIMITS), None, "the suspect is alone");
        queue.prepared(id(9));
        assert_eq!(queue.begin(&LIMITS), None);
        assert!(queue.review(&LIMITS).is_some());
        queue.reviewed();
        queue.closing();
        assert_eq!(queue.begin(&LIMITS), None);
        queue.closed();
        assert_eq!(queue.begin(&LIMITS), Some((id(1), Isolation::Shared)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_delayed_comes_after_the_others_and_not_too_early() {
        let mut queue = WorkQueue::default();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        queue.delay(id(7), now + second);
        queue.delay(id(8), now + second);
        queue.add(id(1), Lane::Ordinary);
        queue.wake(now);
        assert_eq!((queue.n_waiting(), queue.next_delayed()), (1, Some(now + second)));
        queue.wake(now + second);
        assert_eq!(queue.take_unbegun(), [id(1), id(7), id(8)]);
        assert!(queue.is_idle());
    }
}
