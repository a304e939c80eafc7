//! Admission: how many pictures may be in preparation, counted by their memory.
//!
//! What one picture takes is `picture::cost`'s business. Pictures run in parallel, one to a
//! processor; nothing runs in parallel inside one picture.
//! Invariant: together they never take more than the budget, except for one that is larger than
//! the whole budget: it goes alone.

use std::num::NonZero;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::review::picture::header::Format;
use crate::review::picture::{PictureError, cost, prepare_probed, probe};
use crate::review::reviewer::Prepared;
use crate::review::settings::PictureSettings;

/// Memory is counted in these; small enough for thumbnails, and 2^32 of them are 256 TiB.
const UNIT: u64 = 64 * 1024;

/// Prepares pictures from async code, within the memory budget.
#[derive(Clone, Debug)]
pub struct Preparation {
    settings: Arc<PictureSettings>,
    memory: Arc<Semaphore>,
    units: u32,
    workers: Arc<Semaphore>,
}

impl Preparation {
    /// One worker a processor.
    #[must_use]
    pub fn new(settings: PictureSettings) -> Self {
        let units = u32::try_from((settings.memory / UNIT).max(1)).unwrap_or(u32::MAX);
        let n_workers = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            settings: Arc::new(settings),
            memory: Arc::new(Semaphore::new(units as usize)),
            units,
            workers: Arc::new(Semaphore::new(n_workers)),
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
        let room = self.room(cost(&header, &self.settings)).await;
        // Neither semaphore is ever closed; without a permit the picture is prepared all the same.
        let worker = Arc::clone(&self.workers).acquire_owned().await.ok();
        let settings = Arc::clone(&self.settings);
        let format = header.format;
        let work = tokio::task::spawn_blocking(move || {
            // Held to the end of the work, also when nobody waits for it any more.
            let _held = (room, worker);
            prepare_probed(&bytes, &header, &settings)
        });
        work.await.unwrap_or(Err(PictureError::Crashed { format }))
    }

    async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        Arc::clone(&self.memory).acquire_many_owned(wanted.min(self.units)).await.ok()
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
