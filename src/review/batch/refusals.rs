//! Whose fault it is when a bucket has no picture for us: the picture's, or the bucket's.
//!
//! Pure. A refused picture is held until a later fetch of another one succeeds (then it is the
//! picture's own) or until so many are refused one after the other that it is nearly every one
//! (then it is the bucket's, and nobody has used up a try).
//! Invariant: no picture is judged by fetches that began before its own.

use std::collections::BTreeMap;

use crate::review::record::RecordId;
use crate::review::source::SourceError;

/// 403 and the like, or down: five in a row without a success between them are no coincidence.
const MANY_REFUSED: usize = 5;

/// Not found, empty, an HTML page: whole jobs may have lost their files, so it takes more.
const MANY_MISSING: usize = 20;

/// What a refusal looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// This picture is missing, empty, no picture.
    Missing,
    /// The bucket refuses us or is down.
    Refused,
}

/// A refusal that is not yet judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) id: RecordId,
    pub(super) kind: Kind,
    pub(super) reason: String,
}

/// Number of a fetch in the order of their beginnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FetchNo(pub(super) u64);

/// The judge.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    held: BTreeMap<u64, Refusal>,
    n_good: u64,
    n_refused: u64,
}

impl Refusals {
    /// Splits an error into kind and words.
    pub(super) fn kind_of(error: SourceError) -> (Kind, String) {
        match error {
            SourceError::Picture(reason) => (Kind::Missing, reason),
            SourceError::BrokeOff(reason) => (Kind::Missing, reason),
            SourceError::Refused(reason) | SourceError::Unavailable(reason) => {
                (Kind::Refused, reason)
            }
        }
    }

    /// A fetch brought nothing: held until it can be judged.
    pub(super) fn refused(&mut self, number: FetchNo, refusal: Refusal) {
        self.n_refused += 1;
        self.held.insert(number.0, refusal);
    }

    /// A fetch brought a file: every refusal of an earlier fetch is that picture's own.
    pub(super) fn served(&mut self, number: FetchNo) -> Vec<Refusal> {
        self.n_good += 1;
        let later = self.held.split_off(&number.0);
        std::mem::replace(&mut self.held, later).into_values().collect()
    }

    /// Nearly every picture is refused.
    pub(super) fn is_outage(&self) -> bool {
        let n_refused = self.held.values().filter(|refusal| refusal.kind == Kind::Refused).count();
        n_refused >= MANY_REFUSED || self.held.len() >= MANY_MISSING
    }

    /// No more fetches will come: the last judgement. `None`: nearly every picture is refused.
    pub(super) fn at_the_end(&mut self) -> Option<Vec<Refusal>> {
        let any_refused = self.held.values().any(|refusal| refusal.kind == Kind::Refused);
        // A bucket that has served others has lost these, a whole job perhaps. One that has served
        // none is believed a few missing pictures, but no refusal.
        let is_outage = self.n_good == 0 && (any_refused || self.held.len() >= MANY_REFUSED);
        (!is_outage).then(|| self.take())
    }

    /// Gives up judging and hands all of them out.
    pub(super) fn take(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.held).into_values().collect()
    }

    /// One of them to try again.
    pub(super) fn take_one(&mut self) -> Option<Refusal> {
        self.held.pop_first().map(|(_, refusal)| refusal)
    }

    pub(super) fn n_held(&self) -> usize {
        self.held.len()
    }

    /// Words of the latest refusal.
    pub(super) fn latest(&self) -> Option<&str> {
        self.held.values().next_back().map(|refusal| refusal.reason.as_str())
    }

    /// Refused, and fetched in all.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.n_refused, self.n_refused + self.n_good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(refusals: &mut Refusals, number: u64, kind: Kind) {
        let id = RecordId(number.to_string());
        refusals.refused(FetchNo(number), Refusal { id, kind, reason: "403".into() });
    }

    #[test]
    fn a_picture_is_judged_by_a_later_success_only() {
        let mut refusals = Refusals::default();
        refuse(&mut refusals, 5, Kind::Refused);
        assert!(refusals.served(FetchNo(4)).is_empty(), "that fetch began before the refused one");
        let judged = refusals.served(FetchNo(6));
        assert_eq!(judged.len(), 1);
        assert_eq!(refusals.n_held(), 0);
    }

    #[test]
    fn five_refusals_or_twenty_missing_pictures_without_a_success_are_an_outage() {
        for (kind, many) in [(Kind::Refused, MANY_REFUSED), (Kind::Missing, MANY_MISSING)] {
            let mut refusals = Refusals::default();
            for number in 0..many {
                assert!(!refusals.is_outage(), "{kind:?} {number}");
                refuse(&mut refusals, number as u64, kind);
            }
            assert!(refusals.is_outage(), "{kind:?}");
        }
    }

    #[test]
    fn at_the_end_missing_ones_are_the_buckets_fault_if_they_are_many_and_all() {
        let mut refusals = Refusals::default();
        refuse(&mut refusals, 1, Kind::Missing);
        assert_eq!(refusals.at_the_end().map(|judged| judged.len()), Some(1));
        (0..5).for_each(|number| refuse(&mut refusals, number, Kind::Missing));
        assert_eq!(refusals.at_the_end(), None);
        refusals.served(FetchNo(0));
        assert_eq!(refusals.at_the_end().map(|judged| judged.len()), Some(5), "others are there");
    }

    #[test]
    fn at_the_end_a_refusal_is_the_pictures_only_if_others_were_served() {
        let mut refusals = Refusals::default();
        refuse(&mut refusals, 1, Kind::Refused);
        assert_eq!(refusals.at_the_end(), None);
        let mut refusals = Refusals::default();
        refusals.served(FetchNo(1));
        refuse(&mut refusals, 2, Kind::Refused);
        assert_eq!(refusals.at_the_end().map(|judged| judged.len()), Some(1));
    }
}
