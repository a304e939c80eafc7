//! What is usual for a schedule, by its own history: how long its runs take, what they leave behind.
//!
//! Pure. A run that is much shorter or much longer than all before it is a finding with the numbers; a
//! backlog that grows with every run is an incident.
//! Invariant: a schedule without enough history has nothing unusual.

use std::fmt;
use std::time::Duration;

use super::history::Summary;
use super::words;

/// Good runs that are looked at: nearly a day of hourly ones.
pub const RUNS_LOOKED_AT: u32 = 20;

/// Fewer say little about what is usual.
const RUNS_NEEDED: usize = 8;

/// A difference of less is noise, whatever the proportion: starting up takes some seconds.
const LEAST_DIFFERENCE: Duration = Duration::from_secs(30);

/// Much shorter: less than this share of the run in the middle.
const SHORT_SHARE: u32 = 4;

/// Much longer: more than so many times the run in the middle.
const LONG_TIMES: u32 = 3;

/// So many runs in a row, each leaving more than the one before it, are no coincidence: by chance
/// alone 1 in 720.
const RISING_RUNS: usize = 6;

/// And by at least this share in all: 1,000 and 1,010 are the same.
const RISING_SHARE: u64 = 5;

/// A run's length beside those of the runs before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusual {
    /// Of this run.
    pub took: Duration,
    /// So many good runs before it.
    pub n_runs: usize,
    /// The shortest of them.
    pub shortest: Duration,
    /// The one in the middle.
    pub middle: Duration,
    /// The longest of them.
    pub longest: Duration,
}

impl fmt::Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; the last {} good runs took {} to {}, {} in the middle",
            words::duration(self.took),
            self.n_runs,
            words::duration(self.shortest),
            words::duration(self.longest),
            words::duration(self.middle)
        )
    }
}

/// How unusual a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Ended much sooner.
    Short(Unusual),
    /// Took much longer.
    Long(Unusual),
}

/// Compares a run with the good ones before it; `None`: nothing unusual, or nobody can say.
#[must_use]
pub fn length(took: Duration, before: &[Summary]) -> Option<Length> {
    let seconds = before.iter().filter_map(|summary| summary.seconds);
    let mut lengths: Vec<Duration> =
        seconds.filter_map(|seconds| Duration::try_from_secs_f64(seconds).ok()).collect();
    if lengths.len() < RUNS_NEEDED {
        return None;
    }
    lengths.sort();
    let unusual = Unusual {
        took,
        n_runs: lengths.len(),
        shortest: lengths[0],
        middle: lengths[lengths.len() / 2],
        longest: lengths[lengths.len() - 1],
    };
    // Also beyond all of them: a job whose empty hours take seconds and whose full ones take an
    // hour has no usual length in between.
    let is_short = took * SHORT_SHARE < unusual.middle && took * 2 < unusual.shortest;
    let is_long = took > unusual.middle * LONG_TIMES && took > unusual.longest * 3 / 2;
    if is_short && unusual.middle - took >= LEAST_DIFFERENCE {
        Some(Length::Short(unusual))
    } else if is_long && took - unusual.middle >= LEAST_DIFFERENCE {
        Some(Length::Long(unusual))
    } else {
        None
    }
}

/// What the last runs left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// Run after run leaves more: these numbers, oldest first.
    Growing(Vec<u64>),
    /// This run left no more than the one before it.
    NotGrowing,
    /// Neither can be said.
    Unknown,
}

/// Looks at what is left: after this run, and after the good ones before it, newest first.
#[must_use]
pub fn backlog(now: Option<u64>, before: &[Summary]) -> Backlog {
    let Some(now) = now else { return Backlog::Unknown };
    let lefts = before.iter().map(|summary| summary.counts.get("remaining").copied());
    let newest_first: Vec<u64> =
        [now].into_iter().chain(lefts.map_while(|left| left)).take(RISING_RUNS).collect();
    let is_rising = |two: &[u64]| two[0] > two[1];
    match newest_first.get(1) {
        None => Backlog::Unknown,
        Some(last) if now <= *last => Backlog::NotGrowing,
        Some(_) => {
            let first = newest_first[newest_first.len() - 1];
            let is_much = (now - first.min(now)) * RISING_SHARE >= first;
            let is_long = newest_first.len() == RISING_RUNS;
            if is_long && is_much && newest_first.windows(2).all(is_rising) {
                Backlog::Growing(newest_first.into_iter().rev().collect())
            } else {
                Backlog::Unknown
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(seconds: &[f64]) -> Vec<Summary> {
        let run = |seconds: &f64| Summary { seconds: Some(*seconds), ..Summary::default() };
        seconds.iter().map(run).collect()
    }

    fn lefts(newest_first: &[u64]) -> Vec<Summary> {
        let run = |left: &u64| Summary {
            counts: [("remaining".to_owned(), *left)].into(),
            ..Summary::default()
        };
        newest_first.iter().map(run).collect()
    }

    #[test]
    fn a_run_far_beyond_all_before_it_is_reported_with_the_numbers() {
        let usual = runs(&[1190.0, 1200.0, 1210.0, 1180.0, 1220.0, 1230.0, 1170.0, 1200.0]);
        let Some(Length::Short(short)) = length(Duration::from_secs(12), &usual) else { panic!() };
        assert_eq!(
            short.to_string(),
            "12 s; the last 8 good runs took 19 min to 20 min, 20 min in the middle"
        );
        assert!(matches!(length(Duration::from_secs(4000), &usual), Some(Length::Long(_))));
        assert_eq!(length(Duration::from_secs(900), &usual), None);
        assert_eq!(length(Duration::from_secs(2400), &usual), None);
    }

    #[test]
    fn little_history_and_uneven_history_say_nothing() {
        assert_eq!(length(Duration::from_secs(1), &runs(&[1200.0; 7])), None);
        let uneven = runs(&[3.0, 2700.0, 3.0, 2600.0, 2700.0, 2650.0, 2700.0, 2700.0]);
        assert_eq!(length(Duration::from_secs(4), &uneven), None);
        assert_eq!(length(Duration::from_secs(9), &runs(&[1.0; 8])), None, "seconds are noise");
    }

    #[test]
    fn six_runs_in_a_row_that_leave_more_are_a_growing_backlog() {
        let growing = backlog(Some(60), &lefts(&[50, 40, 30, 20, 10]));
        assert_eq!(growing, Backlog::Growing(vec![10, 20, 30, 40, 50, 60]));
        assert_eq!(backlog(Some(60), &lefts(&[50, 40, 30, 20])), Backlog::Unknown);
        assert_eq!(backlog(Some(60), &lefts(&[50, 40, 40, 20, 10])), Backlog::Unknown);
        assert_eq!(backlog(Some(1005), &lefts(&[1004, 1003, 1002, 1001, 1000])), Backlog::Unknown);
        assert_eq!(backlog(Some(50), &lefts(&[50, 40])), Backlog::NotGrowing);
        assert_eq!(backlog(None, &lefts(&[50])), Backlog::Unknown);
    }
}
