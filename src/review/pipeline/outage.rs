//! Outages: how long a provider, a bucket or the records have brought nothing but faults, and the
//! lines that tell the keeper.
//!
//! Pure. Whose fault it is has been decided before it gets here.
//! Invariant: what was reported as broken is reported as working again as soon as it does.

use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::{Line, Problem};

/// Lines of one kind at most this often: the keeper writes each to its evidence.
const MIN_LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Single faults that an attempt heals are reported, too; when this long none has come while calls
/// succeeded, the outage is over.
const RECOVERED_AFTER: Duration = Duration::from_secs(60);

/// Counters of one party since the start of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CallCounts {
    pub(super) calls: u64,
    pub(super) faults: u64,
    pub(super) status: Option<u16>,
    pub(super) detail: String,
}

/// One party's outage.
#[derive(Debug)]
pub(super) struct Outage {
    kind: &'static str,
    provider: &'static str,
    seen: CallCounts,
    /// First fault since the last success.
    since: Option<Instant>,
    last_fault: Option<Instant>,
    last_reported: Option<Reported>,
    /// It refuses us until a person acts: told by itself, and over by no success of this run.
    for_good: bool,
}

#[derive(Clone, Copy, Debug)]
struct Reported {
    at: Instant,
    faults: u64,
}

impl Outage {
    pub(super) fn new(kind: &'static str, provider: &'static str) -> Self {
        let seen = CallCounts::default();
        Self {
            kind,
            provider,
            seen,
            since: None,
            last_fault: None,
            last_reported: None,
            for_good: false,
        }
    }

    /// Takes new counters; they only grow.
    pub(super) fn update(&mut self, seen: CallCounts, now: Instant) {
        let good = |seen: &CallCounts| seen.calls.saturating_sub(seen.faults);
        if good(&seen) > good(&self.seen) {
            self.since = None;
        }
        if seen.faults > self.seen.faults {
            self.last_fault = Some(now);
            if good(&seen) <= good(&self.seen) {
                self.since = self.since.or(Some(now));
            }
        }
        self.seen = seen;
    }

    /// So many calls that failed.
    pub(super) fn record_faults(&mut self, n: u64, detail: &str, now: Instant) {
        let CallCounts { calls, faults, status, .. } = self.seen;
        let detail = detail.to_owned();
        self.update(CallCounts { calls: calls + n, faults: faults + n, status, detail }, now);
    }

    /// One call that did not.
    pub(super) fn record_success(&mut self, now: Instant) {
        let seen = CallCounts { calls: self.seen.calls + 1, ..self.seen.clone() };
        self.update(seen, now);
    }

    /// The faults since the last success were one picture's own.
    pub(super) fn exclude_own_faults(&mut self) {
        self.since = None;
    }

    /// It refuses us until a person acts, which is told by itself.
    pub(super) fn refused_for_good(&mut self) {
        self.for_good = true;
    }

    /// There has been nothing but faults for so long.
    pub(super) fn lasts(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// When it will have lasted so long.
    pub(super) fn lasts_until(&self, limit: Duration) -> Option<Instant> {
        self.since.map(|since| since + limit)
    }

    /// The incident that it is.
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn detail(&self) -> &str {
        &self.seen.detail
    }

    /// The line to print now, if there is something to say.
    pub(super) fn line(&mut self, now: Instant) -> Option<Line> {
        let too_soon = self.last_reported.is_some_and(|told| now < told.at + MIN_LINE_INTERVAL);
        if !too_soon && let Some(line) = self.last_line() {
            self.last_reported = Some(Reported { at: now, faults: self.seen.faults });
            return Some(line);
        }
        let quiet = self.last_fault.is_some_and(|last| now >= last + RECOVERED_AFTER);
        if self.since.is_none() && quiet { self.recovered() } else { None }
    }

    /// The lines at the end of a run: what has not been told yet, and that it is over, if it is.
    pub(super) fn last_lines(&mut self, now: Instant) -> Vec<Line> {
        let is_over = self.lasts(now) == Duration::ZERO;
        let mut lines: Vec<Line> = self.last_line().into_iter().collect();
        lines.extend(if is_over { self.recovered() } else { None });
        lines
    }

    /// What has not been told yet.
    fn last_line(&self) -> Option<Line> {
        let n_reported = self.last_reported.map_or(0, |told| told.faults);
        (self.seen.faults > n_reported && !self.for_good).then(|| {
            Line::Problem(Problem {
                kind: self.kind.to_owned(),
                provider: Some(self.provider.to_owned()),
                status: self.seen.status,
                count: self.seen.faults,
                calls: Some(self.seen.calls),
                detail: self.seen.detail.clone(),
                ..Problem::default()
            })
        })
    }

    /// It is over, if there was one.
    fn recovered(&mut self) -> Option<Line> {
        self.last_fault.take().filter(|_| !self.for_good)?;
        Some(Line::Recovered { kind: self.kind.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(calls: u64, faults: u64) -> CallCounts {
        CallCounts { calls, faults, status: Some(503), detail: "overloaded".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_lasts_from_its_first_fault_to_the_next_success() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outage = Outage::new("provider_unavailable", "gemini");
        outage.update(seen(1, 0), at(0));
        outage.update(seen(2, 1), at(5));
        outage.update(seen(9, 8), at(60));
        assert_eq!(outage.lasts(at(65)), Duration::from_secs(60));
        assert_eq!(outage.lasts_until(Duration::from_secs(600)), Some(at(605)));
        outage.update(seen(10, 8), at(66));
        assert_eq!(outage.lasts(at(70)), Duration::ZERO);
        // A success among faults is no outage.
        outage.update(seen(20, 17), at(71));
        assert_eq!(outage.lasts(at(72)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn faults_that_were_one_pictures_own_are_no_outage() {
        let start = Instant::now();
        let mut outage = Outage::new("provider_unavailable", "gemini");
        outage.update(seen(104, 5), start);
        outage.update(seen(105, 6), start);
        assert_eq!(outage.lasts_until(Duration::ZERO), Some(start));
        outage.exclude_own_faults();
        outage.update(seen(99, 0), start);
        assert_eq!(outage.lasts(start + Duration::from_secs(900)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_cumulative_rare_and_end_with_the_recovery() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut outage = Outage::new("provider_unavailable", "gemini");
        assert_eq!(outage.line(at(0)), None);
        outage.update(seen(3, 2), at(0));
        let line = outage.line(at(0)).unwrap().to_string();
        assert_eq!(
            line,
            "::lookout::problem kind=provider_unavailable provider=gemini status=503 count=2 \
             calls=3 detail=overloaded"
        );
        outage.update(seen(5, 4), at(500));
        assert_eq!(outage.line(at(500)), None, "not twice a second");
        assert!(outage.line(at(1000)).unwrap().to_string().contains("count=4 calls=5"));
        outage.update(seen(6, 4), at(2000));
        assert_eq!(outage.line(at(59_000)), None);
        let line = outage.line(at(60_500)).unwrap().to_string();
        assert_eq!(line, "::lookout::recovered kind=provider_unavailable");
        assert_eq!(outage.line(at(99_000)), None, "said once");
    }
}
