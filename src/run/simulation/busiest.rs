//! The second in which most runs go on.
//!
//! Day by day: each run adds one where it begins and takes one away where it ends, and the sums of a day
//! show its peak. So a month of two thousand schedules needs the memory of a day.
//! Invariant: of several peaks of one height the first is found.

use chrono::{DateTime, Utc};

use super::{Period, Slots, free_runs, longest};
use crate::schedule::{Cadence, Schedule};

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// The runs of one schedule.
pub(super) enum Runs {
    /// None meets another: they are computed as they are needed.
    Free { schedule: Box<Schedule> },
    /// Begin and end of each, in Unix seconds, in rising order.
    Played(Vec<(i64, i64)>),
}

/// The peak.
pub(super) struct Peak {
    pub(super) at: DateTime<Utc>,
    /// Indices of the runs that go on.
    pub(super) groups: Vec<usize>,
}

/// The sums of one day, and what of them lies behind it.
struct Day {
    begins_s: i64,
    changes: Vec<i64>,
    /// Ends that are later, with how many they take away.
    later: Vec<(i64, i64)>,
}

impl Day {
    fn add(&mut self, at_s: i64, n: i64) {
        // With jitter a run of the day before may come to light late.
        let index = usize::try_from((at_s - self.begins_s).max(0)).ok();
        match index.and_then(|index| self.changes.get_mut(index)) {
            Some(change) => *change += n,
            None => self.later.push((at_s, n)),
        }
    }

    fn next(&mut self) {
        self.begins_s += DAY_S;
        self.changes.fill(0);
        for (at_s, n) in std::mem::take(&mut self.later) {
            self.add(at_s, n);
        }
    }
}

/// Of runs, each with the number of schedules that have the same ones.
pub(super) fn busiest(runs: &[(Runs, usize)], period: Period) -> Option<Peak> {
    let slots: Vec<Option<Slots<'_>>> = runs
        .iter()
        .map(|(runs, _)| match runs {
            Runs::Free { schedule } => Slots::of(schedule),
            Runs::Played(_) => None,
        })
        .collect();
    let mut streams: Vec<_> = runs
        .iter()
        .zip(&slots)
        .map(|((runs, _), slots)| stream(runs, slots, period).peekable())
        .collect();
    let days = usize::try_from(DAY_S).unwrap_or(0);
    let mut day =
        Day { begins_s: period.from.timestamp(), changes: vec![0; days], later: Vec::new() };
    let (mut n_running, mut best) = (0_i64, (0_i64, 0_i64));
    // Queued runs may begin after the period.
    while streams.iter_mut().any(|stream| stream.peek().is_some()) {
        let ends_s = day.begins_s + DAY_S;
        for (stream, (_, n_same)) in streams.iter_mut().zip(runs) {
            let n_same = i64::try_from(*n_same).unwrap_or(0);
            while let Some((from_s, until_s)) = stream.next_if(|(from_s, _)| *from_s < ends_s) {
                day.add(from_s, n_same);
                day.add(until_s, -n_same);
            }
        }
        for (change, at_s) in day.changes.iter().zip(day.begins_s..) {
            n_running += change;
            if n_running > best.0 {
                best = (n_running, at_s);
            }
        }
        day.next();
    }
    let (n_most, at_s) = best;
    let at = DateTime::from_timestamp(at_s, 0).filter(|_| n_most > 0)?;
    let groups = (0..runs.len())
        .filter(|index| runs.get(*index).is_some_and(|(runs, _)| goes_on(runs, at_s, period)));
    Some(Peak { at, groups: groups.collect() })
}

fn stream<'a>(
    runs: &'a Runs,
    slots: &'a Option<Slots<'a>>,
    period: Period,
) -> Box<dyn Iterator<Item = (i64, i64)> + 'a> {
    match (runs, slots) {
        (Runs::Free { schedule }, Some(slots)) => Box::new(free_runs(slots, schedule, period)),
        (Runs::Free { .. }, None) => Box::new(std::iter::empty()),
        (Runs::Played(runs), _) => Box::new(runs.iter().copied()),
    }
}

fn goes_on(runs: &Runs, at_s: i64, period: Period) -> bool {
    let covers = |(from_s, until_s): (i64, i64)| from_s <= at_s && at_s < until_s;
    match runs {
        Runs::Played(runs) => runs.iter().copied().any(covers),
        Runs::Free { schedule } => {
            // Runs that began earlier are over. Boxes of a continuous schedule follow from the first.
            let back = chrono::TimeDelta::from_std(longest(schedule) + schedule.jitter);
            let at = DateTime::from_timestamp(at_s, 0);
            let from = at.zip(back.ok()).and_then(|(at, back)| at.checked_sub_signed(back));
            let from = match schedule.cadence {
                Cadence::Cron(_) => from.unwrap_or(period.from).max(period.from),
                Cadence::Continuous => period.from,
            };
            let Some(slots) = Slots::of(schedule) else { return false };
            let period = Period { from, ..period };
            free_runs(&slots, schedule, period)
                .take_while(|(from_s, _)| {
                    *from_s <= at_s + i64::try_from(schedule.jitter.as_secs()).unwrap_or(0)
                })
                .any(covers)
        }
    }
}
