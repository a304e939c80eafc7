//! The worker pool: prepares images from async code, as many at a time as the memory budget allows.
//!
//! What one image takes is `picture::cost`'s business, what all may take `memory_budget.rs`'. Images
//! run in parallel, one to a processor; nothing runs in parallel inside one image.
//! Invariant: an image that is larger than the whole budget is prepared alone.

use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::review::picture::memory_budget::MemoryBudget;
use crate::review::picture::{Format, PictureError, Scratch, cost, prepare_probed, probe};
use crate::review::reviewer::Prepared;
use crate::review::settings::PictureSettings;

/// Runs in the buffers of the worker that takes it.
type Job = Box<dyn FnOnce(&mut Scratch) + Send>;

/// Prepares images from async code, within the memory budget.
#[derive(Clone, Debug)]
pub struct WorkerPool {
    settings: Arc<PictureSettings>,
    budget: Arc<MemoryBudget>,
    /// To the workers; they end with the last copy of this.
    jobs: Sender<Job>,
}

impl WorkerPool {
    /// One worker a processor. They are threads of their own rather than the runtime's: those come
    /// and go, and the allocator keeps tens of megabytes for each that has once held an image.
    #[must_use]
    pub fn new(settings: PictureSettings) -> Self {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let n_workers = std::thread::available_parallelism().map_or(1, NonZero::get);
        for number in 1..=n_workers {
            let queue = Arc::clone(&queue);
            let builder = std::thread::Builder::new().name(format!("picture-{number}"));
            // Without any worker the queue closes, and the runtime's threads do the work.
            let _ = builder.spawn(move || work(&queue));
        }
        Self { budget: MemoryBudget::new(settings.memory), settings: Arc::new(settings), jobs }
    }

    /// With the budget that files are charged to as well.
    #[must_use]
    pub fn within(self, budget: &Arc<MemoryBudget>) -> Self {
        Self { budget: Arc::clone(budget), ..self }
    }

    /// [`crate::review::picture::prepare`], off the runtime, once there is memory.
    ///
    /// # Errors
    /// As `prepare`.
    pub async fn prepare(&self, bytes: Bytes) -> Result<Prepared, PictureError> {
        let (probed, settings) = (bytes.clone(), Arc::clone(&self.settings));
        // A walk over 50 MB is too long for the runtime's own threads.
        let probing = tokio::task::spawn_blocking(move || probe(&probed, &settings));
        let header =
            probing.await.unwrap_or(Err(PictureError::Crashed { format: Format::Jpeg }))?;
        // The file is charged by the source that has read it, for as long as it is there.
        let beside_the_file = cost(&header, &self.settings).saturating_sub(header.file_bytes);
        let reservation = self.budget.for_preparation(beside_the_file).await;
        let settings = Arc::clone(&self.settings);
        let format = header.format;
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |scratch| {
            // Held to the end of the work, also when the caller is gone.
            let _held = reservation;
            if !done.is_closed() {
                // If the caller is gone by now, nobody misses the result.
                let _ = done.send(prepare_probed(&bytes, &header, &settings, scratch));
            }
        });
        if let Err(unsent) = self.jobs.send(job) {
            tokio::task::spawn_blocking(move || (unsent.0)(&mut Scratch::default()));
        }
        outcome.await.unwrap_or(Err(PictureError::Crashed { format }))
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    let mut scratch = Scratch::default();
    loop {
        // One worker waits in `recv`, the others for the lock: either way for a job.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(job) => job(&mut scratch),
            Err(_) => return,
        }
    }
}
