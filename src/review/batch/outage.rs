//! Outages: how long a provider, a bucket or the records have brought nothing but faults, and
//! what the keeper is told of it.
//!
//! Pure. Whether a fault is somebody else's at all is decided before it gets here.
//! Invariant: what was said to be broken is said to work again as soon as it does.

use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::{Line, Problem};

/// Lines of one kind at most this often: the keeper writes each to its evidence.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// Single faults that an attempt heals are reported, too; when this long none has come while calls
/// succeeded, the trouble is over.
const QUIET: Duration = Duration::from_secs(60);

/// Counters of one party since the start of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
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
    seen: Seen,
    /// First fault since the last success.
    since: Option<Instant>,
    last_fault: Option<Instant>,
    told: Option<Told>,
    /// It refuses us until a person acts: told by itself, and over by no success of this run.
    for_good: bool,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    at: Instant,
    faults: u64,
}

impl Outage {
    pub(super) fn new(kind: &'static str, provider: &'static str) -> Self {
        let seen = Seen::default();
        Self { kind, provider, seen, since: None, last_fault: None, told: None, for_good: false }
    }

    /// Takes new counters; they only grow.
    pub(super) fn see(&mut self, seen: Seen, now: Instant) {
        let good = |seen: &Seen| seen.calls.saturating_sub(seen.faults);
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
    pub(super) fn faults(&mut self, n: u64, detail: &str, now: Instant) {
        let Seen { calls, faults, status, .. } = self.seen;
        let detail = detail.to_owned();
        self.see(Seen { calls: calls + n, faults: faults + n, status, detail }, now);
    }

    /// One call that did not.
    pub(super) fn good(&mut self, now: Instant) {
        let seen = Seen { calls: self.seen.calls + 1, ..self.seen.clone() };
        self.see(seen, now);
    }

    /// The faults since the last success were one picture's own.
    pub(super) fn absolve(&mut self) {
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

    pub(super) fn detail(&self) -> &str {
        &self.seen.detail
    }

    /// The line to print now, if there is something to say.
    pub(super) fn line(&mut self, now: Instant) -> Option<Line> {
        let too_soon = self.told.is_some_and(|told| now < told.at + BETWEEN_LINES);
        if !too_soon && let Some(line) = self.last_line() {
            self.told = Some(Told { at: now, faults: self.seen.faults });
            return Some(line);
        }
        let quiet = self.last_fault.is_some_and(|last| now >= last + QUIET);
        if self.since.is_none() && quiet { self.recovered() } else { None }
    }

    /// What has not been told yet.
    pub(super) fn last_line(&self) -> Option<Line> {
        let n_told = self.told.map_or(0, |told| told.faults);
        (self.seen.faults > n_told && !self.for_good).then(|| {
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

    /// The trouble is over, if there was any.
    pub(super) fn recovered(&mut self) -> Option<Line> {
        self.last_fault.take().filter(|_| !self.for_good)?;
        Some(Line::Recovered { kind: self.kind.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(calls: u64, faults: u64) -> Seen {
        Seen { calls, faults, status: Some(503), detail: "overloaded".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_lasts_from_its_first_fault_to_the_next_success() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outage = Outage::new("provider_unavailable", "gemini");
        outage.see(seen(1, 0), at(0));
        outage.see(seen(2, 1), at(5));
        outage.see(seen(9, 8), at(60));
        assert_eq!(outage.lasts(at(65)), Duration::from_secs(60));
        assert_eq!(outage.lasts_until(Duration::from_secs(600)), Some(at(605)));
        outage.see(seen(10, 8), at(66));
        assert_eq!(outage.lasts(at(70)), Duration::ZERO);
        // A success among faults is no outage.
        outage.see(seen(20, 17), at(71));
        assert_eq!(outage.lasts(at(72)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn faults_that_were_one_pictures_own_are_no_outage() {
        let start = Instant::now();
        let mut outage = Outage::new("provider_unavailable", "gemini");
        outage.see(seen(104, 5), start);
        outage.see(seen(105, 6), start);
        assert_eq!(outage.lasts_until(Duration::ZERO), Some(start));
        outage.absolve();
        outage.see(seen(99, 0), start);
        assert_eq!(outage.lasts(start + Duration::from_secs(900)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_cumulative_rare_and_end_with_the_recovery() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut outage = Outage::new("provider_unavailable", "gemini");
        assert_eq!(outage.line(at(0)), None);
        outage.see(seen(3, 2), at(0));
        let line = outage.line(at(0)).unwrap().to_string();
        assert_eq!(
            line,
            "::lookout::problem kind=provider_unavailable provider=gemini status=503 count=2 \
             calls=3 detail=overloaded"
        );
        outage.see(seen(5, 4), at(500));
        assert_eq!(outage.line(at(500)), None, "not twice a second");
        assert!(outage.line(at(1000)).unwrap().to_string().contains("count=4 calls=5"));
        outage.see(seen(6, 4), at(2000));
        assert_eq!(outage.line(at(59_000)), None);
        let line = outage.line(at(60_500)).unwrap().to_string();
        assert_eq!(line, "::lookout::recovered kind=provider_unavailable");
        assert_eq!(outage.line(at(99_000)), None, "said once");
    }
}
