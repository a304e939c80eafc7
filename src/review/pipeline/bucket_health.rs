//! Health of the bucket: whose fault it is when there is no file for us, the image's or the bucket's,
//! and when a bucket that is down is asked again.
//!
//! Pure. A refused image is held until a later fetch of another one succeeds (then it is the image's
//! own) or until this many are refused one after the other that it is nearly every one (then it is
//! the bucket's, and no try is used up). While the bucket is down, one of the held is fetched from
//! time to time to find out when it serves us again.
//! Invariant: no image is judged by fetches that began before its own.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::outage::Outage;
use crate::review::record::RecordId;
use crate::review::settle::WorkResult;
use crate::review::source::SourceError;

/// 403 and the like, or down: five in a row without a success between them are no coincidence.
const MAX_REFUSED: usize = 5;

/// Not found, empty, an HTML page: whole jobs may have lost their files, so it takes more.
const MAX_MISSING: usize = 20;

/// A bucket that refuses nearly every image is asked for one again this often: soon enough for an
/// outage of minutes, and 90 requests in a box of 45.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

/// What a refusal looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// This image is missing, empty, no image.
    Missing,
    /// The bucket refuses us or is down.
    Refused,
}

/// A refusal that is not yet judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    id: RecordId,
    kind: Kind,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(id: RecordId, error: SourceError) -> Self {
        let (kind, reason) = match error {
            SourceError::Picture(reason) | SourceError::BrokeOff(reason) => (Kind::Missing, reason),
            SourceError::Refused(reason) | SourceError::Unavailable(reason) => {
                (Kind::Refused, reason)
            }
        };
        Self { id, kind, reason }
    }

    pub(super) fn is_missing(&self) -> bool {
        self.kind == Kind::Missing
    }

    /// What it means for the image, now that it is known to be its own.
    pub(super) fn into_result(self) -> (RecordId, WorkResult) {
        let result = match self.kind {
            Kind::Missing => WorkResult::NoFile(self.reason),
            Kind::Refused => WorkResult::BucketFault(self.reason),
        };
        (self.id, result)
    }
}

/// Number of a fetch in the order of their beginnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FetchNumber(u64);

/// When one of the held is fetched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// The bucket serves us.
    Off,
    /// The next one.
    At(Instant),
    UnderWay,
}

/// What may be fetched now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The bucket serves us.
    Anything,
    /// Only this one, to see whether the bucket serves us again.
    Probe(RecordId),
    Nothing,
}

/// What follows from a file that was served.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// Refusals that are the images' own.
    pub(super) judged: Vec<Refusal>,
    /// The outage is over: these are asked for again and have lost nothing.
    pub(super) requeued: Vec<RecordId>,
}

/// The bucket as this run has met it.
#[derive(Debug)]
pub(super) struct BucketHealth {
    held: BTreeMap<FetchNumber, Refusal>,
    n_started: u64,
    n_served: u64,
    n_refused: u64,
    probe: Probe,
    outage: Outage,
}

impl BucketHealth {
    pub(super) fn new() -> Self {
        Self {
            held: BTreeMap::new(),
            n_started: 0,
            n_served: 0,
            n_refused: 0,
            probe: Probe::Off,
            outage: Outage::new("images_unavailable", "images"),
        }
    }

    pub(super) fn outage(&self) -> &Outage {
        &self.outage
    }

    pub(super) fn outage_mut(&mut self) -> &mut Outage {
        &mut self.outage
    }

    /// The number of a fetch that starts now.
    pub(super) fn next_number(&mut self) -> FetchNumber {
        self.n_started += 1;
        FetchNumber(self.n_started)
    }

    /// Nearly every image is refused.
    pub(super) fn is_down(&self) -> bool {
        self.probe != Probe::Off
    }

    pub(super) fn n_held(&self) -> usize {
        self.held.len()
    }

    /// When the next probe is due.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        match self.probe {
            Probe::At(at) => Some(at),
            Probe::Off | Probe::UnderWay => None,
        }
    }

    /// What may be fetched now; a probe is under way from here on.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        match self.probe {
            Probe::Off => Next::Anything,
            Probe::At(at) if at <= now => {
                self.probe = Probe::UnderWay;
                let first = self.held.pop_first();
                first.map_or(Next::Nothing, |(_, refusal)| Next::Probe(refusal.id))
            }
            Probe::At(_) | Probe::UnderWay => Next::Nothing,
        }
    }

    /// A fetch brought nothing: held until it can be judged.
    pub(super) fn refused(&mut self, number: FetchNumber, refusal: Refusal, now: Instant) {
        self.n_refused += 1;
        let reason = refusal.reason.clone();
        self.held.insert(number, refusal);
        match self.probe {
            Probe::Off if self.is_nearly_every_one() => self.goes_down(now),
            Probe::Off => {}
            Probe::At(_) | Probe::UnderWay => {
                self.outage.record_faults(1, &reason, now);
                self.probe = Probe::At(now + PROBE_INTERVAL);
            }
        }
    }

    /// A fetch brought a file: every refusal of an earlier fetch is that image's own, unless the
    /// bucket was down.
    pub(super) fn served(&mut self, number: FetchNumber, now: Instant) -> Served {
        self.n_served += 1;
        self.outage.record_success(now);
        if self.probe != Probe::Off {
            return Served { judged: Vec::new(), requeued: self.take_held() };
        }
        let later = self.held.split_off(&number);
        let judged = std::mem::replace(&mut self.held, later).into_values().collect();
        Served { judged, requeued: Vec::new() }
    }

    /// No more fetches will come: those whose refusal is their own. Where it is nearly every image,
    /// the bucket is down instead.
    pub(super) fn judge_the_last(&mut self, now: Instant) -> Vec<Refusal> {
        if self.is_down() {
            return Vec::new();
        }
        let any_refused = self.held.values().any(|refusal| refusal.kind == Kind::Refused);
        // A bucket that has served others has lost these, a whole job perhaps. One that has served
        // none is believed a few missing images, but no refusal.
        if self.n_served == 0 && (any_refused || self.held.len() >= MAX_REFUSED) {
            self.goes_down(now);
            return Vec::new();
        }
        std::mem::take(&mut self.held).into_values().collect()
    }

    /// Gives up judging: the ids of all that are held.
    pub(super) fn take_held(&mut self) -> Vec<RecordId> {
        self.probe = Probe::Off;
        std::mem::take(&mut self.held).into_values().map(|refusal| refusal.id).collect()
    }

    fn is_nearly_every_one(&self) -> bool {
        let n_refused = self.held.values().filter(|refusal| refusal.kind == Kind::Refused).count();
        n_refused >= MAX_REFUSED || self.held.len() >= MAX_MISSING
    }

    /// No try is used up; one is asked for from time to time.
    fn goes_down(&mut self, now: Instant) {
        let latest = self.held.values().next_back().map(|refusal| refusal.reason.as_str());
        let n_held = self.held.len();
        let detail = format!(
            "{n_held} images in a row could not be fetched ({} of {} in this run); the last one: {}",
            self.n_refused,
            self.n_refused + self.n_served,
            latest.unwrap_or("no image can be fetched")
        );
        self.outage.record_faults(n_held as u64, &detail, now);
        self.probe = Probe::At(now + PROBE_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(bucket: &mut BucketHealth, error: fn(String) -> SourceError) {
        let number = bucket.next_number();
        let id = RecordId(number.0.to_string());
        bucket.refused(number, Refusal::new(id, error("403".into())), Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_is_judged_by_a_later_success_only() {
        let mut bucket = BucketHealth::new();
        let earlier = bucket.next_number();
        refuse(&mut bucket, SourceError::Refused);
        let served = bucket.served(earlier, Instant::now());
        assert!(served.judged.is_empty(), "that fetch began before the refused one");
        let later = bucket.next_number();
        assert_eq!(bucket.served(later, Instant::now()).judged.len(), 1);
        assert_eq!(bucket.n_held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn five_refusals_or_twenty_missing_images_without_a_success_are_an_outage() {
        type Refuse = fn(String) -> SourceError;
        let kinds: [(Refuse, usize); 2] =
            [(SourceError::Refused, MAX_REFUSED), (SourceError::Picture, MAX_MISSING)];
        for (error, many) in kinds {
            let mut bucket = BucketHealth::new();
            for n in 0..many {
                assert!(!bucket.is_down(), "{n}");
                refuse(&mut bucket, error);
            }
            assert!(bucket.is_down());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_is_down_is_asked_for_one_image_at_a_time_and_loses_nothing() {
        let mut bucket = BucketHealth::new();
        (0..MAX_REFUSED).for_each(|_| refuse(&mut bucket, SourceError::Refused));
        let now = Instant::now();
        assert_eq!(bucket.next(now), Next::Nothing);
        assert_eq!(bucket.next_probe(), Some(now + PROBE_INTERVAL));
        let later = now + PROBE_INTERVAL;
        assert!(matches!(bucket.next(later), Next::Probe(_)));
        assert_eq!(bucket.next(later), Next::Nothing, "one at a time");
        let number = bucket.next_number();
        let served = bucket.served(number, later);
        assert_eq!((served.judged.len(), served.requeued.len()), (0, MAX_REFUSED - 1));
        assert_eq!(bucket.next(later), Next::Anything);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_missing_ones_are_the_buckets_fault_if_they_are_many_and_all() {
        let now = Instant::now();
        let mut bucket = BucketHealth::new();
        refuse(&mut bucket, SourceError::Picture);
        assert_eq!(bucket.judge_the_last(now).len(), 1);
        (0..MAX_REFUSED).for_each(|_| refuse(&mut bucket, SourceError::Picture));
        assert!(bucket.judge_the_last(now).is_empty() && bucket.is_down());
        let mut bucket = BucketHealth::new();
        let number = bucket.next_number();
        bucket.served(number, now);
        (0..MAX_REFUSED).for_each(|_| refuse(&mut bucket, SourceError::Picture));
        assert_eq!(bucket.judge_the_last(now).len(), MAX_REFUSED, "others are there");
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_a_refusal_is_the_images_own_only_if_others_were_served() {
        let now = Instant::now();
        let mut bucket = BucketHealth::new();
        refuse(&mut bucket, SourceError::Refused);
        assert!(bucket.judge_the_last(now).is_empty() && bucket.is_down());
        let mut bucket = BucketHealth::new();
        let number = bucket.next_number();
        bucket.served(number, now);
        refuse(&mut bucket, SourceError::Refused);
        assert_eq!(bucket.judge_the_last(now).len(), 1);
    }
}
