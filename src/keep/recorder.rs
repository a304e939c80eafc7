//! The thread that writes: evidence and kept output, so that a slow or full disk never holds up
//! the reading of a job's output or the end of its box.
//!
//! It decides nothing about what is written.
//! Invariant: entries are written in the order in which they were handed over; when the last was
//! handed over, the thread ends only after it is on disk (or after [`GIVE_UP_AFTER`]).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::Clock;
use crate::redact::Redactor;

use super::log::Log;
use crate::rundir::directory::RunDirectory;
use crate::rundir::journal::EvidenceWriter;
use crate::rundir::{Entry, Event, Frequency};

/// How often held and waiting entries are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often the kept output is stored while the job goes on: redacting a full log takes tens of
/// milliseconds, and a keeper that is killed loses no more than this.
const STORE_EVERY: Duration = Duration::from_secs(5);

/// A job is over and the disk is still full: after this time whoever repairs it will no
/// longer look at this run, and the daemon judges it as interrupted.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3600);

/// With this many entries waiting (a disk that hangs), what a job can print without end is dropped.
const MOST_WAITING: usize = 10_000;

/// Hands entries to the thread.
#[derive(Debug)]
pub(super) struct Recorder {
    sender: Sender<Entry>,
    n_waiting: Arc<AtomicUsize>,
    thread: JoinHandle<Outcome>,
}

/// How the recording went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything is on disk.
    Complete,
    /// The disk could not be written to the end.
    Incomplete,
}

struct Writing {
    clock: Arc<dyn Clock>,
    directory: RunDirectory,
    redactor: Arc<Redactor>,
    log: Arc<Mutex<Log>>,
    writer: EvidenceWriter,
    n_waiting: Arc<AtomicUsize>,
    n_stored: Option<u64>,
    stored_at: Duration,
    is_failing: bool,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the machine gives us none.
    pub(super) fn start(
        clock: Arc<dyn Clock>,
        directory: RunDirectory,
        redactor: Arc<Redactor>,
        log: Arc<Mutex<Log>>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let n_waiting = Arc::new(AtomicUsize::new(0));
        let stored_at = clock.boot();
        let writing = Writing {
            writer: EvidenceWriter::new(&directory),
            clock,
            directory,
            redactor,
            log,
            n_waiting: Arc::clone(&n_waiting),
            n_stored: None,
            stored_at,
            is_failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || writing.run(&receiver))?;
        Ok(Self { sender, n_waiting, thread })
    }

    /// Hands over an entry.
    pub(super) fn record(&self, entry: Entry) {
        let is_repeatable = entry.event.frequency() != Frequency::Seldom;
        if is_repeatable && self.n_waiting.load(Ordering::Relaxed) > MOST_WAITING {
            return;
        }
        self.n_waiting.fetch_add(1, Ordering::Relaxed);
        // The thread ends only after this end is gone, save by a panic, which it reports itself.
        let _ = self.sender.send(entry);
    }

    /// Waits until everything is on disk. Blocks.
    pub(super) fn finish(self) -> Outcome {
        drop(self.sender);
        self.thread.join().unwrap_or(Outcome::Incomplete)
    }
}

impl Writing {
    fn run(mut self, receiver: &Receiver<Entry>) -> Outcome {
        loop {
            match receiver.recv_timeout(LOOK_EVERY) {
                Ok(entry) => {
                    self.n_waiting.fetch_sub(1, Ordering::Relaxed);
                    if matches!(entry.event, Event::Ended { .. }) {
                        // A reader of the last entry may read the log at once.
                        self.store_log();
                    }
                    let written = self.writer.record(entry);
                    self.note("evidence", written);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.clock.boot();
                    let written =
                        self.writer.release_due(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
                    self.note("evidence", written);
                }
                Err(RecvTimeoutError::Disconnected) => return self.complete(),
            }
            if self.clock.boot().saturating_sub(self.stored_at) >= STORE_EVERY {
                self.store_log();
            }
        }
    }

    /// Nothing more comes: writes what waits, and tries for a long time if it must.
    fn complete(&mut self) -> Outcome {
        let given_up_at = self.clock.boot() + GIVE_UP_AFTER;
        loop {
            let written = self.writer.flush();
            self.note("evidence", written);
            if !self.writer.is_behind() {
                self.store_log();
                return Outcome::Complete;
            }
            if self.clock.boot() >= given_up_at {
                return Outcome::Incomplete;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    fn store_log(&mut self) {
        self.stored_at = self.clock.boot();
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if self.n_stored == Some(log.n_taken()) {
            return;
        }
        let (n_taken, kept) = (log.n_taken(), log.kept());
        drop(log);
        let stored = kept.store(&self.redactor, &self.directory);
        if stored.is_ok() {
            self.n_stored = Some(n_taken);
        }
        self.note("log", stored);
    }

    /// Says once that it fails, and once that it works again.
    fn note(&mut self, what: &str, written: std::io::Result<()>) {
        match written {
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                tracing::info!("the run's directory can be written again");
            }
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                let directory = self.directory.path().display();
                tracing::error!(%directory, what, %error, "can't be written, trying on");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::rundir::Stream;
    use crate::rundir::journal::EvidenceReader;

    #[test]
    fn what_could_not_be_written_is_written_when_the_disk_is_back() {
        let folder = tempfile::tempdir().unwrap();
        // A directory that is not there is as unwritable as a full disk.
        let directory = RunDirectory::at(folder.path().join("run"));
        let log = Arc::new(Mutex::new(Log::new(100, 100)));
        let clock = Arc::new(SystemClock);
        let recorder =
            Recorder::start(clock.clone(), directory.clone(), Arc::default(), Arc::clone(&log))
                .unwrap();
        let entry = |event| Entry { at: clock.now(), boot_ms: 1, event };
        let events = [
            Event::BoxEnded,
            Event::Exited { code: Some(0), signal: None },
            Event::Ended { bytes: 4, log_dropped_bytes: 0 },
        ];
        log.lock().unwrap().append(Stream::Stdout, b"one\n");
        for event in events.clone() {
            recorder.record(entry(event));
        }
        let finishing = std::thread::spawn(move || recorder.finish());
        std::fs::create_dir(directory.path()).unwrap();
        assert_eq!(finishing.join().unwrap(), Outcome::Complete);
        let (entries, _) = EvidenceReader::new(&directory).read_from(0).unwrap();
        assert_eq!(entries.into_iter().map(|entry| entry.event).collect::<Vec<_>>(), events);
        assert_eq!(directory.read_log().unwrap().head, "one\n");
    }
}
