//! Room: the memory that files and their preparation may take together.
//!
//! A file is charged before it is read, and the charge goes with its bytes to wherever the last copy of
//! them is dropped: the end of its preparation, or of the call that sends it as it is.
//! Invariant: what is charged together is never more than the limit, except that one file and one
//! preparation at a time always go on; else those that hold room could wait for each other for ever.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Mutex as Turn, Notify};

/// Files take no more than this part of the room: those that wait to be prepared must not be all
/// there is.
const PART_OF_FILES: u64 = 2;

/// What is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    File,
    Preparation,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Charged {
    files: u64,
    preparations: u64,
}

impl Charged {
    fn of(&mut self, what: Use) -> &mut u64 {
        match what {
            Use::File => &mut self.files,
            Use::Preparation => &mut self.preparations,
        }
    }

    /// Whether so much more fits, for somebody who holds nothing of it yet.
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
            Use::File => self.files.saturating_add(bytes) <= limit / PART_OF_FILES,
            Use::Preparation => true,
        };
        files_fit && together <= limit
    }
}

/// The memory of all pictures.
#[derive(Debug)]
pub struct Room {
    limit: u64,
    charged: Mutex<Charged>,
    freed: Notify,
    /// Whose turn it is to wait: a large one must not be passed by small ones for ever.
    file_turn: Turn<()>,
    preparation_turn: Turn<()>,
}

impl Room {
    /// So many bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            charged: Mutex::default(),
            freed: Notify::new(),
            file_turn: Turn::new(()),
            preparation_turn: Turn::new(()),
        })
    }

    /// Room for a file, once there is some.
    pub async fn for_file(self: &Arc<Self>, bytes: u64) -> Charge {
        let _turn = self.file_turn.lock().await;
        self.wait(Use::File, bytes).await
    }

    /// Room for preparing a picture, once there is some.
    pub async fn for_preparation(self: &Arc<Self>, bytes: u64) -> Charge {
        let _turn = self.preparation_turn.lock().await;
        self.wait(Use::Preparation, bytes).await
    }

    async fn wait(self: &Arc<Self>, what: Use, bytes: u64) -> Charge {
        loop {
            // Before the look: what is freed after it must not be missed.
            let freed = self.freed.notified();
            {
                let mut charged = self.charged();
                if charged.takes(self.limit, what, bytes) {
                    *charged.of(what) += bytes;
                    return Charge { room: Arc::clone(self), what, bytes };
                }
            }
            freed.await;
        }
    }

    fn charged(&self) -> MutexGuard<'_, Charged> {
        // Numbers that are changed in one step are right also after a panic of another thread.
        self.charged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room that is taken; given back when this is dropped.
#[derive(Debug)]
pub struct Charge {
    room: Arc<Room>,
    what: Use,
    bytes: u64,
}

impl Charge {
    /// Bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As much as it needs after all. `false`: there is no room for more now, and nothing changed.
    pub fn resize(&mut self, bytes: u64) -> bool {
        {
            let mut charged = self.room.charged();
            let more = bytes.saturating_sub(self.bytes);
            let mut others = *charged;
            *others.of(self.what) -= self.bytes;
            if more > 0
                && !charged.fits(self.room.limit, self.what, more)
                && !others.takes(self.room.limit, self.what, bytes)
            {
                return false;
            }
            *others.of(self.what) += bytes;
            *charged = others;
        }
        self.bytes = bytes;
        self.room.freed.notify_waiters();
        true
    }

    /// The file that it was taken for; the room is free again when the last copy is dropped.
    #[must_use]
    pub fn attached_to(self, file: Bytes) -> Bytes {
        Bytes::from_owner(Held { file, _charge: self })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        *self.room.charged().of(self.what) -= self.bytes;
        self.room.freed.notify_waiters();
    }
}

struct Held {
    file: Bytes,
    _charge: Charge,
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
        let room = Room::new(100);
        let file = room.for_file(40).await.attached_to(Bytes::from_static(b"picture"));
        assert!(waits(room.for_file(20)).await, "half of the room is for files");
        let slice = file.slice(2..);
        drop(file);
        assert!(waits(room.for_file(20)).await);
        assert_eq!(slice, &b"cture"[..]);
        drop(slice);
        assert_eq!(room.for_file(20).await.bytes(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn one_file_and_one_preparation_go_on_however_large_they_are() {
        let room = Room::new(100);
        let file = room.for_file(1000).await;
        let preparation = room.for_preparation(5000).await;
        assert!(waits(room.for_file(1)).await);
        assert!(waits(room.for_preparation(1)).await);
        drop((file, preparation));
        assert_eq!(*room.charged(), Charged::default());
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_hold_room_do_not_keep_each_other_from_being_prepared() {
        let room = Room::new(100);
        let files = [room.for_file(25).await, room.for_file(25).await];
        for _ in &files {
            // More than is left beside the files: one after the other.
            let preparation = room.for_preparation(90).await;
            assert!(waits(room.for_preparation(90)).await);
            drop(preparation);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_file_is_not_passed_by_small_ones() {
        let room = Room::new(100);
        let first = room.for_file(30).await;
        let large = tokio::spawn({
            let room = Arc::clone(&room);
            async move { room.for_file(50).await }
        });
        tokio::task::yield_now().await;
        assert!(waits(room.for_file(1)).await);
        drop(first);
        assert_eq!(large.await.unwrap().bytes(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_may_turn_out_larger_only_if_there_is_room() {
        let room = Room::new(100);
        let mut file = room.for_file(10).await;
        assert!(file.resize(500), "it is the only one");
        assert!(file.resize(10));
        let other = room.for_file(30).await;
        assert!(!file.resize(21) && file.bytes() == 10);
        assert!(file.resize(20));
        drop(other);
        assert!(file.resize(50));
    }
}
