//! The memory budget: what files and their preparation may take together.
//!
//! Memory for a file is reserved before it is read, and the reservation goes with its bytes to wherever
//! the last copy of them is dropped: the end of its preparation, or of the call that sends it as it is.
//! Invariant: what is reserved together is never more than the limit, except that one file and one
//! preparation at a time always go on; else those that hold memory could wait for each other for ever.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Mutex as Turn, Notify};

/// Files take no more than the limit divided by this: files that wait to be prepared must leave
/// memory for preparing them.
const SHARE_OF_FILES: u64 = 2;

/// What memory is reserved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    File,
    Preparation,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reserved {
    files: u64,
    preparations: u64,
}

impl Reserved {
    fn of(&mut self, what: Use) -> &mut u64 {
        match what {
            Use::File => &mut self.files,
            Use::Preparation => &mut self.preparations,
        }
    }

    /// Whether `bytes` more fit, for a caller that holds nothing of this use yet.
    fn takes(self, limit: u64, what: Use, bytes: u64) -> bool {
        let is_alone = match what {
            Use::File => self.files == 0,
            Use::Preparation => self.preparations == 0,
        };
        is_alone || self.fits(limit, what, bytes)
    }

    fn fits(self, limit: u64, what: Use, bytes: u64) -> bool {
        let together = self.files.saturating_add(self.preparations).saturating_add(bytes);
        let files_fit = match what {
            Use::File => self.files.saturating_add(bytes) <= limit / SHARE_OF_FILES,
            Use::Preparation => true,
        };
        files_fit && together <= limit
    }
}

/// The memory of all images.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: u64,
    reserved: Mutex<Reserved>,
    freed: Notify,
    /// Who waits next: a large one must not be passed by small ones for ever.
    file_turn: Turn<()>,
    preparation_turn: Turn<()>,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            reserved: Mutex::default(),
            freed: Notify::new(),
            file_turn: Turn::new(()),
            preparation_turn: Turn::new(()),
        })
    }

    /// Reserves memory for a file, once there is some.
    pub async fn for_file(self: &Arc<Self>, bytes: u64) -> Reservation {
        let _turn = self.file_turn.lock().await;
        self.wait(Use::File, bytes).await
    }

    /// Reserves memory for preparing an image, once there is some.
    pub async fn for_preparation(self: &Arc<Self>, bytes: u64) -> Reservation {
        let _turn = self.preparation_turn.lock().await;
        self.wait(Use::Preparation, bytes).await
    }

    async fn wait(self: &Arc<Self>, what: Use, bytes: u64) -> Reservation {
        loop {
            // Before the check: what is freed after it must not be missed.
            let freed = self.freed.notified();
            {
                let mut reserved = self.reserved();
                if reserved.takes(self.limit, what, bytes) {
                    *reserved.of(what) += bytes;
                    return Reservation { budget: Arc::clone(self), what, bytes };
                }
            }
            freed.await;
        }
    }

    fn reserved(&self) -> MutexGuard<'_, Reserved> {
        // Numbers that are changed in one step are right also after a panic of another thread.
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reserved memory; free again when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<MemoryBudget>,
    what: Use,
    bytes: u64,
}

impl Reservation {
    /// Bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Changes the amount. `false`: there is no memory for more now, and nothing changed.
    pub fn resize(&mut self, bytes: u64) -> bool {
        {
            let mut reserved = self.budget.reserved();
            let more = bytes.saturating_sub(self.bytes);
            let mut others = *reserved;
            *others.of(self.what) -= self.bytes;
            if more > 0
                && !reserved.fits(self.budget.limit, self.what, more)
                && !others.takes(self.budget.limit, self.what, bytes)
            {
                return false;
            }
            *others.of(self.what) += bytes;
            *reserved = others;
        }
        self.bytes = bytes;
        self.budget.freed.notify_waiters();
        true
    }

    /// Bound to the file that it was made for; the memory is free again when its last copy is dropped.
    #[must_use]
    pub fn attached_to(self, file: Bytes) -> Bytes {
        Bytes::from_owner(Held { file, _reservation: self })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        *self.budget.reserved().of(self.what) -= self.bytes;
        self.budget.freed.notify_waiters();
    }
}

struct Held {
    file: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn waits<T>(work: impl Future<Output = T>) -> bool {
        tokio::time::timeout(Duration::from_secs(1), work).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn files_wait_until_the_last_copy_of_another_is_dropped() {
        let budget = MemoryBudget::new(100);
        let file = budget.for_file(40).await.attached_to(Bytes::from_static(b"picture"));
        assert!(waits(budget.for_file(20)).await, "half of the budget is for files");
        let slice = file.slice(2..);
        drop(file);
        assert!(waits(budget.for_file(20)).await);
        assert_eq!(slice, &b"cture"[..]);
        drop(slice);
        assert_eq!(budget.for_file(20).await.bytes(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn one_file_and_one_preparation_go_on_however_large_they_are() {
        let budget = MemoryBudget::new(100);
        let file = budget.for_file(1000).await;
        let preparation = budget.for_preparation(5000).await;
        assert!(waits(budget.for_file(1)).await);
        assert!(waits(budget.for_preparation(1)).await);
        drop((file, preparation));
        assert_eq!(*budget.reserved(), Reserved::default());
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_hold_memory_do_not_keep_each_other_from_being_prepared() {
        let budget = MemoryBudget::new(100);
        let files = [budget.for_file(25).await, budget.for_file(25).await];
        for _ in &files {
            // More than is left beside the files: one after the other.
            let preparation = budget.for_preparation(90).await;
            assert!(waits(budget.for_preparation(90)).await);
            drop(preparation);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_file_is_not_passed_by_small_ones() {
        let budget = MemoryBudget::new(100);
        let first = budget.for_file(30).await;
        let large = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.for_file(50).await }
        });
        tokio::task::yield_now().await;
        assert!(waits(budget.for_file(1)).await);
        drop(first);
        assert_eq!(large.await.unwrap().bytes(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_may_turn_out_larger_only_if_there_is_memory() {
        let budget = MemoryBudget::new(100);
        let mut file = budget.for_file(10).await;
        assert!(file.resize(500), "it is the only one");
        assert!(file.resize(10));
        let other = budget.for_file(30).await;
        assert!(!file.resize(21) && file.bytes() == 10);
        assert!(file.resize(20));
        drop(other);
        assert!(file.resize(50));
    }
}
