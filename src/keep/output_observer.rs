//! Turns what streams bring into entries, and remembers what the time box needs to know.
//!
//! Shared by the tasks that read and the loop that decides. It writes nothing itself
//! ([`super::recorder`] does) and stops nothing.
//! Invariant: no text of a job leaves here without having been through the redactor.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::protocol::Line;
use crate::redact::Redactor;

use super::log::Log;
use super::output_scanner::{Finding, Scanner};
use super::recorder::{Outcome, Recorder};
use super::rules::{Cause, MatchCounter, Matched, PROVIDER, Rules};
use super::stream_search::ControlSequences;
use crate::rundir::directory::RunDirectory;
use crate::rundir::{Entry, Event, Order, Stream};

/// Read at once. A pipe holds 64 KiB, or 1 MiB where it can be widened; with a quarter of that
/// a gigabyte takes about as long as `cat` needs for it.
const BUFFER_BYTES: usize = 256 * 1024;

/// A completion message without a line break counts when nothing follows within this time.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

/// Details are one line in a message, names a word in it.
const LONGEST_DETAIL: usize = 500;
const LONGEST_NAME: usize = 64;

/// Watches all output of a run and records what it means.
#[derive(Debug)]
pub(super) struct OutputObserver {
    clock: Arc<dyn Clock>,
    redactor: Arc<Redactor>,
    rules: Arc<Rules>,
    counter: Arc<Mutex<MatchCounter>>,
    log: Arc<Mutex<Log>>,
    recorder: Recorder,
    /// Who the patterns say this job depends on, for faults whose text names nobody.
    provider: Option<String>,
    stall_on: StallOn,
    n_bytes: AtomicU64,
    n_bytes_recorded: AtomicU64,
    moved_at_ms: AtomicU64,
    most_done: AtomicU64,
    n_calls: AtomicU64,
    signal_recorded: AtomicBool,
}

/// What counts as activity for a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StallOn {
    Output,
    Progress,
}

/// What was found in one stream, or in one part of it; also in the evidence already.
#[derive(Clone, Debug, Default)]
pub(super) struct ScanResult {
    /// The completion text.
    pub(super) signal: bool,
    /// The text of an endpoint that has nothing to do.
    pub(super) idle: bool,
    /// Kind and detail of each pattern that reached its count.
    pub(super) problems: Vec<(String, String)>,
}

impl ScanResult {
    /// Adds what came later.
    pub(super) fn add(&mut self, later: Self) {
        self.signal |= later.signal;
        self.idle |= later.idle;
        self.problems.extend(later.problems);
    }

    /// Whether it says how the call went.
    pub(super) fn is_decisive(&self) -> bool {
        self.signal || self.idle || !self.problems.is_empty()
    }
}

impl OutputObserver {
    /// Starts the recording of a run.
    ///
    /// # Errors
    /// When the order's patterns can't be compiled or no thread can be started; for people.
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        directory: RunDirectory,
        redactor: Redactor,
        order: &Order,
        rules: Rules,
    ) -> std::io::Result<Self> {
        let redactor = Arc::new(redactor);
        let log = Arc::new(Mutex::new(Log::new(order.log_head_bytes, order.log_tail_bytes)));
        let recorder = Recorder::start(
            Arc::clone(&clock),
            directory,
            Arc::clone(&redactor),
            Arc::clone(&log),
        )?;
        let names_gemini = |text: &Option<String>| {
            text.as_ref().is_some_and(|text| text.to_lowercase().contains("gemini"))
        };
        let provider = rules
            .patterns
            .iter()
            .any(|pattern| names_gemini(&pattern.text) || names_gemini(&pattern.regex))
            .then(|| "gemini".to_owned());
        let stall_on = match &order.stop_when_stalled {
            Some(stall) if stall.on_progress => StallOn::Progress,
            Some(_) | None => StallOn::Output,
        };
        let observer = Self {
            redactor,
            rules: Arc::new(rules),
            counter: Arc::default(),
            log,
            recorder,
            provider,
            stall_on,
            n_bytes: AtomicU64::new(0),
            n_bytes_recorded: AtomicU64::new(0),
            moved_at_ms: AtomicU64::new(0),
            most_done: AtomicU64::new(0),
            n_calls: AtomicU64::new(0),
            signal_recorded: AtomicBool::new(false),
            clock,
        };
        observer.moved();
        Ok(observer)
    }

    /// Boot time.
    pub(super) fn now(&self) -> Duration {
        self.clock.boot()
    }

    /// Wall time, for people.
    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Writes an entry.
    pub(super) fn record(&self, event: Event) {
        self.record_seen_at(event, self.clock.boot());
    }

    /// The text without secrets and control characters, on one line, at most `LONGEST_DETAIL`.
    pub(super) fn say(&self, text: &str) -> String {
        one_line(&self.redactor.redact(text), LONGEST_DETAIL)
    }

    /// When the job last moved, in the sense of the stall that is asked for.
    pub(super) fn last_moved(&self) -> Duration {
        Duration::from_millis(self.moved_at_ms.load(Ordering::Relaxed))
    }

    /// Counts a call that begins; returns its number, from 1.
    pub(super) fn begin_call(&self) -> u64 {
        self.n_calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The job moved (an HTTP call that came back, the start).
    pub(super) fn moved(&self) {
        self.moved_at_ms.store(millis(self.clock.boot()), Ordering::Relaxed);
    }

    /// Who is behind a fault whose text names nobody.
    pub(super) fn provider(&self) -> Option<String> {
        self.provider.clone()
    }

    /// Whether the schedule knows texts of this kind.
    pub(super) fn knows(&self, kind: &str) -> bool {
        self.rules.patterns.iter().any(|pattern| pattern.kind == kind)
    }

    /// Whether the completion text was seen.
    pub(super) fn has_signal(&self) -> bool {
        self.signal_recorded.load(Ordering::Relaxed)
    }

    /// Tells of output since the last time; called several times a second.
    pub(super) fn tick(&self) {
        let bytes = self.n_bytes.load(Ordering::Relaxed);
        if self.n_bytes_recorded.swap(bytes, Ordering::Relaxed) != bytes {
            self.record(Event::Activity { bytes });
        }
    }

    /// A scanner for a stream that begins now.
    pub(super) fn scanner(&self, stream: Stream) -> Scanner {
        Scanner::new(Arc::clone(&self.rules), Arc::clone(&self.counter), stream)
    }

    /// The same for a stream in which the completion text means nothing.
    pub(super) fn scanner_without_signal(&self, stream: Stream) -> Scanner {
        self.scanner(stream).without_signal()
    }

    /// Takes bytes of a stream.
    pub(super) fn take(&self, scanner: &mut Scanner, stream: Stream, bytes: &[u8]) -> ScanResult {
        let now = self.clock.boot();
        self.n_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.stall_on == StallOn::Output {
            self.moved_at_ms.store(millis(now), Ordering::Relaxed);
        }
        self.log.lock().unwrap_or_else(PoisonError::into_inner).append(stream, bytes);
        let findings = scanner.feed(bytes, now);
        self.report(stream, findings)
    }

    /// The stream is over.
    pub(super) fn finish_stream(&self, mut scanner: Scanner, stream: Stream) -> ScanResult {
        if stream == Stream::Body {
            // The next answer begins a line of its own in the kept output.
            self.log.lock().unwrap_or_else(PoisonError::into_inner).append(stream, b"\n");
        }
        let findings = scanner.finish(self.clock.boot());
        self.report(stream, findings)
    }

    /// Reads a pipe to its end, or until nobody waits for it any more.
    pub(super) async fn read(
        &self,
        stream: Stream,
        mut pipe: impl AsyncRead + Unpin,
        stop: CancellationToken,
    ) {
        let mut scanner = self.scanner(stream);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let is_waiting = scanner.is_waiting();
            tokio::select! {
                // First, or a grandchild that never stops printing is never left alone.
                biased;
                () = stop.cancelled() => break,
                read = pipe.read(&mut buffer) => match read {
                    Ok(0) => break,
                    Ok(n) => {
                        self.take(&mut scanner, stream, &buffer[..n]);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        tracing::warn!(?stream, %error, "the job's output can't be read");
                        break;
                    }
                },
                () = tokio::time::sleep(SETTLE_AFTER), if is_waiting => {
                    let findings = scanner.settle(self.clock.boot());
                    self.report(stream, findings);
                }
            }
        }
        self.finish_stream(scanner, stream);
    }

    /// Writes the last entry and waits until all is on disk.
    pub(super) async fn finish(self) -> Outcome {
        self.tick();
        let log_dropped_bytes = {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.finish();
            log.n_dropped()
        };
        let bytes = self.n_bytes.load(Ordering::Relaxed);
        self.record(Event::Ended { bytes, log_dropped_bytes });
        let recorder = self.recorder;
        tokio::task::spawn_blocking(move || recorder.finish()).await.unwrap_or(Outcome::Incomplete)
    }

    fn record_seen_at(&self, event: Event, seen_at: Duration) {
        let ago = TimeDelta::from_std(self.clock.boot().saturating_sub(seen_at));
        let at = self.clock.now() - ago.unwrap_or_default();
        self.recorder.record(Entry { at, boot_ms: millis(seen_at), event });
    }

    fn report(&self, stream: Stream, findings: Vec<Finding>) -> ScanResult {
        let mut scanned = ScanResult::default();
        for finding in findings {
            match finding {
                Finding::Signal { offset, seen_at } => {
                    scanned.signal = true;
                    if !self.signal_recorded.swap(true, Ordering::Relaxed) {
                        self.record_seen_at(Event::Signal { stream, offset }, seen_at);
                    }
                }
                Finding::Idle => scanned.idle = true,
                Finding::Matched(matched) => scanned.problems.extend(self.problem(&matched)),
                Finding::Line(line) => self.line(line),
            }
        }
        scanned
    }

    fn problem(&self, matched: &Matched) -> Option<(String, String)> {
        let kind = self.rules.patterns.get(matched.pattern)?.kind.clone();
        let plain = ControlSequences::strip(&matched.excerpt);
        let text = unwrapped(String::from_utf8_lossy(&plain).trim());
        let cause = Cause::read(&text);
        let detail = self.say(&text);
        let n_calls = self.n_calls.load(Ordering::Relaxed);
        let provider = cause.provider.or_else(|| self.provider.clone());
        self.record(Event::Problem {
            provider: if kind == PROVIDER { provider } else { None },
            kind: kind.clone(),
            status: cause.status,
            count: matched.count,
            calls: (n_calls > 0).then_some(n_calls),
            detail: detail.clone(),
            title: None,
            action: None,
        });
        Some((kind, detail))
    }

    fn line(&self, line: Line) {
        let name = |text: &str| one_line(&self.redactor.redact(text), LONGEST_NAME);
        match line {
            Line::Progress { done, total, unit } => {
                if self.most_done.fetch_max(done, Ordering::Relaxed) < done {
                    self.moved();
                }
                self.record(Event::Progress { done, total, unit: name(&unit) });
            }
            Line::Problem(problem) => self.record(Event::Problem {
                kind: name(&problem.kind),
                provider: problem.provider.as_deref().map(name),
                status: problem.status,
                count: problem.count,
                calls: problem.calls,
                detail: self.say(&problem.detail),
                title: problem.title.as_deref().map(|title| self.say(title)),
                action: problem.action.as_deref().map(|action| self.say(action)),
            }),
            Line::Recovered { kind } => self.record(Event::Recovered { kind: name(&kind) }),
            Line::Totals(totals) => {
                let counts = totals.counts.iter().map(|(k, n)| (name(k), *n)).collect();
                self.record(Event::Totals {
                    counts,
                    usd: totals.usd.filter(|usd| usd.is_finite()),
                });
            }
            Line::Note { text } => self.record(Event::Note { text: self.say(&text) }),
        }
    }
}

fn millis(boot: Duration) -> u64 {
    u64::try_from(boot.as_millis()).unwrap_or(u64::MAX)
}

/// The old service wraps its sentence in an object with one member; people want the sentence.
pub(super) fn unwrapped(text: &str) -> String {
    let wrapped = text
        .strip_prefix(r#"{"message":""#)
        .or_else(|| text.strip_prefix(r#"{"detail":""#))
        .map(|rest| rest.strip_suffix(r#""}"#).unwrap_or(rest));
    let Some(sentence) = wrapped else { return text.to_owned() };
    // What was cut in the middle may be no JSON string; then it is shown as it is.
    serde_json::from_str(&format!("\"{sentence}\"")).unwrap_or_else(|_| sentence.to_owned())
}

/// Control characters become spaces; a text that is too long ends with `…`.
fn one_line(text: &str, longest: usize) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let flat = flat.trim();
    if flat.chars().count() <= longest {
        return flat.to_owned();
    }
    let cut: String = flat.chars().take(longest - 1).collect();
    format!("{cut}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_taken_out_of_its_object() {
        assert_eq!(unwrapped(r#"{"message":"key \"A\" is wrong"}"#), r#"key "A" is wrong"#);
        assert_eq!(unwrapped(r#"{"detail":"cut in the mid \"#), r"cut in the mid \");
        assert_eq!(unwrapped(r#"{"other":"x"}"#), r#"{"other":"x"}"#);
    }

    #[test]
    fn a_detail_is_one_line_of_bounded_length() {
        assert_eq!(one_line(" a\tb\nc\u{7} ", 10), "a b c");
        assert_eq!(one_line("äöüß", 4), "äöüß");
        assert_eq!(one_line("äöüßx", 4), "äöü…");
    }
}
