//! Admission: how many pictures may be in preparation, counted by their memory.
//!
//! What one picture takes is `picture::cost`'s business. Pictures run in parallel, one to a
//! processor; nothing runs in parallel inside one picture.
//! Invariant: together they never take more than the budget, except for one that is larger than
//! the whole budget: it goes alone.

use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::review::picture::header::Format;
use crate::review::picture::{PictureError, Workbench, cost, prepare_probed, probe};
use crate::review::reviewer::Prepared;
use crate::review::settings::PictureSettings;

/// Memory is counted in these; small enough for thumbnails, and 2^32 of them are 256 TiB.
const UNIT: u64 = 64 * 1024;

/// Done on the workbench of whoever takes it.
type Job = Box<dyn FnOnce(&mut Workbench) + Send>;

/// Prepares pictures from async code, within the memory budget.
#[derive(Clone, Debug)]
pub struct Preparation {
    settings: Arc<PictureSettings>,
    memory: Arc<Semaphore>,
    units: u32,
    /// To the workers; they end with the last copy of this.
    jobs: Sender<Job>,
}

impl Preparation {
    /// One worker a processor. They are threads of their own rather than the runtime's: those come
    /// and go, and the allocator keeps tens of megabytes for each that has once held a picture.
    #[must_use]
    pub fn new(settings: PictureSettings) -> Self {
        let units = u32::try_from((settings.memory / UNIT).max(1)).unwrap_or(u32::MAX);
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let n_workers = std::thread::available_parallelism().map_or(1, NonZero::get);
        for number in 1..=n_workers {
            let queue = Arc::clone(&queue);
            let builder = std::thread::Builder::new().name(format!("picture-{number}"));
            // Without any worker the queue closes, and the runtime's threads do the work.
            let _ = builder.spawn(move || work(&queue));
        }
        Self {
            settings: Arc::new(settings),
            memory: Arc::new(Semaphore::new(units as usize)),
            units,
            jobs,
        }
    }

    /// [`crate::review::picture::prepare`], off the runtime, once there is room.
    ///
    /// # Errors
    /// As `prepare`.
    pub async fn prepare(&self, bytes: Bytes) -> Result<Prepared, PictureError> {
        let (probed, settings) = (bytes.clone(), Arc::clone(&self.settings));
        // A walk over 50 MB is too long for the runtime's own threads.
        let probing = tokio::task::spawn_blocking(move || probe(&probed, &settings));
        let header =
            probing.await.unwrap_or(Err(PictureError::Crashed { format: Format::Jpeg }))?;
        // The semaphore is never closed; without a permit the picture is prepared all the same.
        let room = self.room(cost(&header, &self.settings)).await;
        let settings = Arc::clone(&self.settings);
        let format = header.format;
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |bench| {
            // Held to the end of the work, also when nobody waits for it any more.
            let _held = room;
            if !done.is_closed() {
                // Nobody waits any more: then nobody misses it.
                let _ = done.send(prepare_probed(&bytes, &header, &settings, bench));
            }
        });
        if let Err(unsent) = self.jobs.send(job) {
            tokio::task::spawn_blocking(move || (unsent.0)(&mut Workbench::default()));
        }
        outcome.await.unwrap_or(Err(PictureError::Crashed { format }))
    }

    async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        Arc::clone(&self.memory).acquire_many_owned(wanted.min(self.units)).await.ok()
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    let mut bench = Workbench::default();
    loop {
        // One worker waits in `recv`, the others for the lock: either way for a job.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(job) => job(&mut bench),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn with_memory(memory: u64) -> Preparation {
        Preparation::new(PictureSettings { memory, ..PictureSettings::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn pictures_wait_until_there_is_memory_for_them() {
        let preparation = with_memory(10 * UNIT);
        let first = preparation.room(6 * UNIT).await;
        let second = preparation.room(6 * UNIT);
        assert!(tokio::time::timeout(Duration::from_secs(1), second).await.is_err());
        drop(first);
        assert!(preparation.room(6 * UNIT).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_picture_larger_than_the_budget_goes_alone() {
        let preparation = with_memory(10 * UNIT);
        let huge = preparation.room(1000 * UNIT).await;
        let small = preparation.room(1);
        assert!(tokio::time::timeout(Duration::from_secs(1), small).await.is_err());
        drop(huge);
        assert!(preparation.room(1).await.is_some());
    }
}
