//! What the observer of a run is told, and how often: progress, results, problems, notes.
//!
//! Invariant: progress at most once a second, and one line for one cause.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::Line;
use crate::review::report::{Counts, Observer, ReviewEvent, RowResult};

/// The keeper writes each line to its evidence: once a second is enough for a bar.
const MIN_PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What has been told so far.
pub(super) struct Progress {
    observer: Arc<dyn Observer>,
    started: Instant,
    /// Rows to do, as counted at the start; `None`: not known.
    backlog: Option<u64>,
    /// When, and how many were done then.
    last_reported: Option<(Instant, u64)>,
    /// Causes that have had their line.
    reported_causes: Vec<String>,
}

impl Progress {
    pub(super) fn new(observer: Arc<dyn Observer>, now: Instant) -> Self {
        let (last_reported, reported_causes) = (None, Vec::new());
        Self { observer, started: now, backlog: None, last_reported, reported_causes }
    }

    pub(super) fn set_backlog(&mut self, backlog: Option<u64>) {
        self.backlog = backlog;
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn line(&self, line: Line) {
        self.observer.on_event(&ReviewEvent::Line(line));
    }

    pub(super) fn note(&self, text: String) {
        self.line(Line::Note { text });
    }

    pub(super) fn result(&self, result: RowResult) {
        self.observer.on_event(&ReviewEvent::Result(result));
    }

    /// The line of a cause that stops the run, unless it has had one.
    pub(super) fn line_of_cause(&mut self, cause: String, line: Line) {
        if !self.reported_causes.contains(&cause) {
            self.reported_causes.push(cause);
            self.line(line);
        }
    }

    /// How far the run is, if that has changed and it is time.
    pub(super) fn report(&mut self, counts: &Counts, limit: Option<u64>, now: Instant) {
        let done = counts.settled();
        let is_due = self
            .last_reported
            .is_none_or(|(at, before)| done != before && now >= at + MIN_PROGRESS_INTERVAL);
        if is_due {
            self.report_now(counts, limit, now);
        }
    }

    /// How far the run has come, unless that has been told.
    pub(super) fn report_last(&mut self, counts: &Counts, limit: Option<u64>, now: Instant) {
        if self.last_reported.is_none_or(|(_, before)| before != counts.settled()) {
            self.report_now(counts, limit, now);
        }
    }

    fn report_now(&mut self, counts: &Counts, limit: Option<u64>, now: Instant) {
        let done = counts.settled();
        self.last_reported = Some((now, done));
        // Rows may have come since they were counted.
        let backlog = self.backlog.unwrap_or(0).max(counts.claimed);
        let total = backlog.min(limit.unwrap_or(u64::MAX)).max(done);
        self.observer.on_event(&ReviewEvent::Progress { done, total });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<ReviewEvent>>);

    impl Observer for Recorder {
        fn on_event(&self, event: &ReviewEvent) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
        }
    }

    fn counts(succeeded: u64) -> Counts {
        Counts { claimed: 10, succeeded, ..Counts::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn progress_comes_once_a_second_and_the_last_always() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let recorder = Arc::new(Recorder::default());
        let mut progress = Progress::new(Arc::clone(&recorder) as Arc<dyn Observer>, start);
        progress.set_backlog(Some(100));
        progress.report(&counts(0), None, at(0));
        progress.report(&counts(1), None, at(500));
        progress.report(&counts(2), None, at(1000));
        progress.report(&counts(2), None, at(5000));
        progress.report_last(&counts(2), None, at(5001));
        progress.report_last(&counts(3), Some(50), at(5002));
        let told = recorder.0.lock().unwrap().clone();
        let expected = [(0, 100), (2, 100), (3, 50)];
        assert_eq!(told, expected.map(|(done, total)| ReviewEvent::Progress { done, total }));
    }

    #[tokio::test(start_paused = true)]
    async fn one_cause_has_one_line() {
        let recorder = Arc::new(Recorder::default());
        let observer = Arc::clone(&recorder) as Arc<dyn Observer>;
        let mut progress = Progress::new(observer, Instant::now());
        for cause in ["quota", "quota", "key"] {
            progress.line_of_cause(cause.into(), Line::Note { text: cause.into() });
        }
        assert_eq!(recorder.0.lock().unwrap().len(), 2);
    }
}
