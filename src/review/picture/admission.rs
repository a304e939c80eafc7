//! Admission: how many pictures may be in preparation, counted by their memory.
//!
//! What one picture takes is `picture::cost`'s business, how much all may take `room.rs`'. Pictures
//! run in parallel, one to a processor; nothing runs in parallel inside one picture.
//! Invariant: a picture that is larger than all the room is prepared alone.

use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::review::picture::header::Format;
use crate::review::picture::room::Room;
use crate::review::picture::{PictureError, Workbench, cost, prepare_probed, probe};
use crate::review::reviewer::Prepared;
use crate::review::settings::PictureSettings;

/// Done on the workbench of whoever takes it.
type Job = Box<dyn FnOnce(&mut Workbench) + Send>;

/// Prepares pictures from async code, within the memory budget.
#[derive(Clone, Debug)]
pub struct Preparation {
    settings: Arc<PictureSettings>,
    room: Arc<Room>,
    /// To the workers; they end with the last copy of this.
    jobs: Sender<Job>,
}

impl Preparation {
    /// One worker a processor. They are threads of their own rather than the runtime's: those come
    /// and go, and the allocator keeps tens of megabytes for each that has once held a picture.
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
        Self { room: Room::new(settings.memory), settings: Arc::new(settings), jobs }
    }

    /// In the room that files are charged to as well.
    #[must_use]
    pub fn within(self, room: &Arc<Room>) -> Self {
        Self { room: Arc::clone(room), ..self }
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
        // The file is charged by whoever has read it, for as long as it is there.
        let beside_the_file = cost(&header, &self.settings).saturating_sub(header.file_bytes);
        let charge = self.room.for_preparation(beside_the_file).await;
        let settings = Arc::clone(&self.settings);
        let format = header.format;
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |bench| {
            // Held to the end of the work, also when nobody waits for it any more.
            let _held = charge;
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
