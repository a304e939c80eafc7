//! When faults of somebody else (Gemini, the bucket, Supabase) are an outage: windows over the
//! problem lines of one run.
//!
//! Pure. Single faults are noise, and so are many parallel ones in one second; an outage is when
//! most calls fail for a while, when at three moments nothing else came, or when a source that has
//! done its own counting says so.
//! Invariant: what is open stays open until `recovered` or until the run is over.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::IncidentKind;
use super::moment::Moment;

/// Faults, each in a second of its own, before it counts.
const AT_LEAST: u64 = 5;
/// The same where no call has succeeded since the first of them: who meets nothing but faults makes
/// way and asks after 30 s, 60 s, then every 120 s, so that five moments would be five minutes.
const AT_LEAST_OF_NOTHING_ELSE: u64 = 3;
/// Between the first and the last of them.
const OVER: Duration = Duration::from_secs(60);
/// Older faults say nothing about now.
const WITHIN: Duration = Duration::from_secs(600);
/// Parallel calls fail together: one second, one fault.
const ONE_FAULT: Duration = Duration::from_secs(1);
/// Samples kept a kind: the keeper writes at most one entry a second.
const MOST_SAMPLES: usize = 700;

/// Kinds that a job can report about somebody else, worst first: the first that is open is the
/// cause that is named.
pub const CAUSES: [IncidentKind; 5] = [
    IncidentKind::CredentialsRejected,
    IncidentKind::QuotaExhausted,
    IncidentKind::RecordsUnavailable,
    IncidentKind::ImagesUnavailable,
    IncidentKind::ProviderUnavailable,
];

/// One problem entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Who.
    pub provider: Option<String>,
    /// HTTP status; absent when it could not be reached.
    pub status: Option<u16>,
    /// Faults so far.
    pub count: u64,
    /// Calls so far, if the source counts them.
    pub calls: Option<u64>,
    /// One line for people.
    pub detail: String,
    /// What it is in a few words, if it does not pass by itself.
    pub title: Option<String>,
    /// What a person must do about it, if it does not pass by itself.
    pub action: Option<String>,
    /// Who did the counting.
    pub source: Source,
}

/// A problem entry in its time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    moment: Moment,
    /// Cumulative, as reported.
    count: u64,
    calls: u64,
    /// Faults it stands for, parallel ones counted as one.
    weight: u64,
}

/// Faults of one kind in one run.
#[derive(Clone, Debug)]
pub struct Fault {
    samples: VecDeque<Sample>,
    /// The newest entry.
    pub last: Problem,
    /// When the trouble began.
    pub since: Moment,
    /// When it was last seen.
    pub latest: Moment,
    /// When it was over, if it is.
    pub recovered: Option<Moment>,
}

/// How a fault stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Too little to speak of.
    Noise,
    /// An outage.
    Open,
    /// It was there and is over.
    Recovered,
}

/// Faults of a run, by kind.
#[derive(Clone, Debug, Default)]
pub struct Faults(BTreeMap<IncidentKind, Fault>);

impl Faults {
    /// Takes a problem entry.
    pub fn problem(&mut self, kind: IncidentKind, moment: Moment, problem: Problem) {
        let fault = self.0.entry(kind).or_insert_with(|| Fault::new(moment));
        if fault.recovered.is_some() {
            // A new outage: what was before it does not count again.
            *fault = Fault { samples: fault.last_sample_only(), ..Fault::new(moment) };
        }
        fault.take(moment, problem);
    }

    /// It works again.
    pub fn recovered(&mut self, kind: IncidentKind, moment: Moment) {
        if let Some(fault) = self.0.get_mut(&kind) {
            fault.recovered = Some(moment);
        }
    }

    /// The faults of a kind.
    #[must_use]
    pub fn of(&self, kind: IncidentKind) -> Option<&Fault> {
        self.0.get(&kind)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (IncidentKind, &Fault)> {
        self.0.iter().map(|(kind, fault)| (*kind, fault))
    }
}

impl Fault {
    fn new(moment: Moment) -> Self {
        Self {
            samples: VecDeque::new(),
            last: Problem::default(),
            since: moment,
            latest: moment,
            recovered: None,
        }
    }

    /// The base for the differences of a following outage: counters go on.
    fn last_sample_only(&self) -> VecDeque<Sample> {
        self.samples.back().map(|last| Sample { weight: 0, ..*last }).into_iter().collect()
    }

    fn take(&mut self, moment: Moment, problem: Problem) {
        let before = self.samples.back().copied();
        // A counter that went down began anew: its whole value is news.
        let risen = match before {
            Some(before) if problem.count >= before.count => problem.count - before.count,
            Some(_) | None => problem.count,
        };
        let seconds = before.map_or(1, |before| {
            moment.boot.saturating_sub(before.moment.boot).as_secs() / ONE_FAULT.as_secs()
        });
        let weight = risen.min(seconds);
        let calls = problem.calls.unwrap_or(problem.count);
        self.samples.push_back(Sample { moment, count: problem.count, calls, weight });
        if self.samples.len() > MOST_SAMPLES {
            self.samples.pop_front();
        }
        self.latest = moment;
        self.last = problem;
    }

    /// How it stands at `now` (boot time), for a source of this sort.
    #[must_use]
    pub fn standing(&self, source: Source, now: Duration) -> Standing {
        if self.recovered.is_some() {
            return Standing::Recovered;
        }
        match source {
            Source::Counted => Standing::Open,
            Source::Raw if self.is_outage(now) => Standing::Open,
            Source::Raw => Standing::Noise,
        }
    }

    /// Some stretch that begins with a fault and reaches to the newest one meets all conditions.
    /// How well things went before it says nothing: a thousand good calls a minute must not hide
    /// the outage that follows them, in which hardly any call is made.
    fn is_outage(&self, now: Duration) -> bool {
        let start = now.saturating_sub(WITHIN);
        let Some(last) = self.samples.back() else { return false };
        let (mut weight, mut moments, mut faults, mut calls) = (0, 0, 0, 0);
        for (i, sample) in self.samples.iter().enumerate().rev() {
            let before = i.checked_sub(1).and_then(|i| self.samples.get(i));
            let is_base = before.is_none() && sample.weight == 0;
            if sample.moment.boot < start || is_base {
                break;
            }
            // As in `take`: a counter that went down began anew.
            let rise = |now: u64, then: u64| if now >= then { now - then } else { now };
            let own_faults = rise(sample.count, before.map_or(0, |b| b.count));
            weight += sample.weight;
            moments += sample.weight.min(1);
            faults += own_faults;
            let is_most = weight >= AT_LEAST && faults * 2 >= calls + own_faults;
            let is_all = moments >= AT_LEAST_OF_NOTHING_ELSE
                && faults >= AT_LEAST
                && faults >= calls + own_faults;
            let over = last.moment.boot.saturating_sub(sample.moment.boot);
            if over >= OVER && (is_most || is_all) {
                return true;
            }
            calls += rise(sample.calls, before.map_or(0, |b| b.calls)).max(own_faults);
        }
        false
    }

    /// Whether more than half of all calls failed, where that is known.
    #[must_use]
    pub fn is_most_of_the_calls(&self) -> bool {
        self.last.calls.is_none_or(|calls| self.last.count * 2 >= calls)
    }
}

/// Who did the counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Every fault is reported: the window decides.
    Raw,
    /// A pattern that reached its count, a refusal that is certain, an endpoint that failed as a
    /// whole (the old service spends ten minutes on a call that hangs): it is open at once.
    #[default]
    Counted,
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    const KIND: IncidentKind = IncidentKind::ProviderUnavailable;

    fn moment(seconds: u64) -> Moment {
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Moment {
            at: at + chrono::TimeDelta::seconds(i64::try_from(seconds).unwrap()),
            boot: Duration::from_secs(5000 + seconds),
        }
    }

    /// Entries as (second, faults so far, calls so far).
    fn standing(entries: &[(u64, u64, u64)], now: u64) -> Standing {
        let mut faults = Faults::default();
        for (second, count, calls) in entries {
            let problem = Problem { count: *count, calls: Some(*calls), ..Problem::default() };
            faults.problem(KIND, moment(*second), problem);
        }
        faults.of(KIND).unwrap().standing(Source::Raw, moment(now).boot)
    }

    #[test]
    fn five_faults_over_a_minute_that_are_half_of_the_calls_are_an_outage() {
        let entries = [(0, 1, 2), (15, 2, 4), (30, 3, 6), (45, 4, 8), (60, 5, 10)];
        assert_eq!(standing(&entries, 60), Standing::Open);
    }

    #[test]
    fn each_of_the_three_conditions_is_needed() {
        let four = [(0, 1, 2), (20, 2, 4), (40, 3, 6), (60, 4, 8)];
        assert_eq!(standing(&four, 60), Standing::Noise);
        let too_fast = [(0, 1, 2), (15, 2, 4), (30, 3, 6), (45, 4, 8), (59, 5, 10)];
        assert_eq!(standing(&too_fast, 59), Standing::Noise);
        let too_few_of_the_calls = [(0, 1, 3), (15, 2, 6), (30, 3, 9), (45, 4, 12), (60, 5, 15)];
        assert_eq!(standing(&too_few_of_the_calls, 60), Standing::Noise);
    }

    #[test]
    fn five_parallel_faults_in_a_second_are_one() {
        assert_eq!(standing(&[(0, 5, 5)], 0), Standing::Noise);
        assert_eq!(standing(&[(0, 16, 16), (70, 17, 17)], 70), Standing::Noise);
    }

    #[test]
    fn nothing_but_faults_is_an_outage_at_the_third_moment() {
        // Sixteen in flight fail together, then one probe at a time.
        let burst = [(0, 16, 116), (30, 17, 117), (90, 18, 118)];
        assert_eq!(standing(&burst[..2], 60), Standing::Noise);
        assert_eq!(standing(&burst, 90), Standing::Open);
        let one_was_good = [(0, 16, 116), (30, 17, 117), (90, 18, 119)];
        assert_eq!(standing(&one_was_good, 90), Standing::Noise);
        let too_fast = [(0, 16, 16), (30, 17, 17), (59, 18, 18)];
        assert_eq!(standing(&too_fast, 59), Standing::Noise);
        let one_at_a_time = [(0, 1, 1), (60, 2, 2), (120, 3, 3), (180, 4, 4)];
        assert_eq!(standing(&one_at_a_time, 180), Standing::Noise, "five faults are needed");
    }

    #[test]
    fn one_entry_may_stand_for_many_seconds() {
        assert_eq!(standing(&[(0, 1, 1), (61, 7, 7)], 61), Standing::Open);
    }

    #[test]
    fn what_is_older_than_ten_minutes_does_not_count() {
        let entries = [(0, 1, 1), (10, 2, 2), (20, 3, 3), (30, 4, 4), (700, 5, 5)];
        assert_eq!(standing(&entries, 700), Standing::Noise);
    }

    #[test]
    fn successes_before_the_window_do_not_hide_an_outage() {
        let entries = [
            (0, 1, 1000),
            (700, 2, 1001),
            (730, 3, 1002),
            (745, 4, 1003),
            (755, 6, 1006),
            (765, 7, 1007),
        ];
        assert_eq!(standing(&entries, 765), Standing::Open);
    }

    #[test]
    fn an_outage_after_a_good_time_with_a_fault_now_and_then_is_seen() {
        let mut entries: Vec<(u64, u64, u64)> =
            (0..5).map(|n| (n * 100, n + 1, n * 4000)).collect();
        assert_eq!(standing(&entries, 400), Standing::Noise);
        // From here on nothing but faults: those under way, then one probe at a time.
        entries.extend([(500, 20, 20_015), (530, 21, 20_016)]);
        assert_eq!(standing(&entries, 530), Standing::Noise, "half a minute");
        entries.push((590, 22, 20_017));
        assert_eq!(standing(&entries, 590), Standing::Open);
    }

    #[test]
    fn a_source_that_has_counted_is_believed_at_once() {
        let mut faults = Faults::default();
        faults.problem(KIND, moment(0), Problem { count: 1, ..Problem::default() });
        let fault = faults.of(KIND).unwrap();
        assert_eq!(fault.standing(Source::Counted, moment(0).boot), Standing::Open);
    }

    #[test]
    fn after_a_recovery_an_outage_begins_anew() {
        let mut faults = Faults::default();
        let problem = |count| Problem { count, calls: Some(count), ..Problem::default() };
        for n in 0..6 {
            faults.problem(KIND, moment(n * 20), problem(n + 1));
        }
        let at =
            |faults: &Faults, s| faults.of(KIND).unwrap().standing(Source::Raw, moment(s).boot);
        assert_eq!(at(&faults, 100), Standing::Open);
        faults.recovered(KIND, moment(120));
        assert_eq!(at(&faults, 120), Standing::Recovered);
        faults.problem(KIND, moment(130), problem(7));
        assert_eq!(at(&faults, 130), Standing::Noise);
        assert_eq!(faults.of(KIND).unwrap().since, moment(130));
    }
}
