//! Health of the provider: an outage, or one image's own fault; and the keys it has refused.
//!
//! Pure. The counters are the reviewer's; which of its faults were one image's own is decided here.
//! Invariant: faults that meet one image again and again while its peers are answered are no outage.

use std::time::Duration;

use tokio::time::Instant;

use super::outage::{CallCounts, Outage};
use crate::protocol::{Line, Problem};
use crate::review::record::RecordId;
use crate::review::reviewer::{Answer, CallRecord, DropCause, Fault, Health};
use crate::review::settle::PeerOutcome;

/// The latest replies that are kept: the latest, and the latest of another image.
const MAX_REPLIES: usize = 2;

/// What the provider has said to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProviderReply {
    /// It has looked at it.
    Answer,
    /// It has not.
    Fault,
}

/// The provider as this run has met it.
#[derive(Debug)]
pub(super) struct ProviderHealth {
    outage: Outage,
    last_replies: Vec<(RecordId, ProviderReply)>,
    /// Attempts on images whose faults were their own; not the provider's.
    own_attempts: u64,
    n_dropped_reported: usize,
}

impl ProviderHealth {
    pub(super) fn new() -> Self {
        Self {
            outage: Outage::new("provider_unavailable", "gemini"),
            last_replies: Vec::new(),
            own_attempts: 0,
            n_dropped_reported: 0,
        }
    }

    pub(super) fn outage(&self) -> &Outage {
        &self.outage
    }

    pub(super) fn outage_mut(&mut self) -> &mut Outage {
        &mut self.outage
    }

    pub(super) fn is_down(&self, now: Instant) -> bool {
        self.outage.lasts(now) > Duration::ZERO
    }

    /// It refuses us until a person acts.
    pub(super) fn refused_for_good(&mut self) {
        self.outage.refused_for_good();
    }

    /// Takes in how a try ended, and says how the provider treats its peers. `own_faults`: of that
    /// image, before.
    pub(super) fn judge(
        &mut self,
        id: &RecordId,
        result: &Result<Answer, Fault>,
        call: &CallRecord,
        own_faults: u32,
    ) -> PeerOutcome {
        match result {
            Err(Fault::Unavailable { status, .. }) => {
                let peers = self.peers(id, *status, call, own_faults);
                match peers {
                    PeerOutcome::Answered => {
                        self.own_attempts += u64::from(call.attempts);
                        self.outage.exclude_own_faults();
                    }
                    PeerOutcome::Unknown => {}
                }
                self.replied(id, ProviderReply::Fault);
                peers
            }
            Ok(_)
            | Err(Fault::Unreadable { .. } | Fault::Picture { .. } | Fault::Blocked { .. }) => {
                self.replied(id, ProviderReply::Answer);
                PeerOutcome::Unknown
            }
            Err(
                Fault::Quota { .. } | Fault::Refused(_) | Fault::Budget { .. } | Fault::OutOfTime,
            ) => PeerOutcome::Unknown,
        }
    }

    /// How the provider has treated the others while an image met nothing but faults.
    fn peers(
        &self,
        id: &RecordId,
        status: Option<u16>,
        call: &CallRecord,
        own_faults: u32,
    ) -> PeerOutcome {
        let peers = call.peers;
        if peers.answered > peers.faults {
            return PeerOutcome::Answered;
        }
        // 500 and 504 are what an image that the service stumbles over draws; a page with 200 is what
        // a filter in between makes of one, an empty answer what the model does. 429, 503 and silence
        // are what an outage looks like. Only with the former may it be its own, alone in hand.
        if !matches!(status, Some(200 | 500 | 504)) || peers.faults > 0 {
            return PeerOutcome::Unknown;
        }
        match self.last_replies.iter().rev().find(|(other, _)| other != id) {
            Some((_, ProviderReply::Answer)) => PeerOutcome::Answered,
            None if own_faults > 0 => PeerOutcome::Answered,
            Some((_, ProviderReply::Fault)) | None => PeerOutcome::Unknown,
        }
    }

    fn replied(&mut self, id: &RecordId, reply: ProviderReply) {
        self.last_replies.retain(|(other, _)| other != id);
        self.last_replies.push((id.clone(), reply));
        let n_old = self.last_replies.len().saturating_sub(MAX_REPLIES);
        self.last_replies.drain(..n_old);
    }

    /// Takes the reviewer's counters. `reviewing`: own faults of each image that is with it now.
    pub(super) fn update(
        &mut self,
        health: Health,
        reviewing: impl Iterator<Item = u32>,
        now: Instant,
    ) {
        let mut reviewing = reviewing.peekable();
        // What only such images meet is not the provider's until their try is judged.
        if reviewing.peek().is_some() && reviewing.all(|own_faults| own_faults > 0) {
            return;
        }
        let counts = CallCounts {
            calls: health.calls.saturating_sub(self.own_attempts),
            faults: health.faults.saturating_sub(self.own_attempts),
            status: health.last_status,
            detail: health.last_detail.unwrap_or_default(),
        };
        self.outage.update(counts, now);
    }

    /// Lines about keys that were dropped since the last call: others may do the work meanwhile, but a
    /// person must see to these.
    pub(super) fn dropped_lines(&mut self, health: &Health) -> Vec<Line> {
        if health.all_dropped {
            // What the run stops for is told as a whole.
            return Vec::new();
        }
        let mut lines = Vec::new();
        for dropped in health.dropped.iter().skip(self.n_dropped_reported) {
            self.n_dropped_reported += 1;
            let kind = match dropped.cause {
                DropCause::Rejected => "credentials_rejected",
                DropCause::OutOfCredit => "quota_exhausted",
                // Of the configuration, not of the key: there is no incident of that.
                DropCause::NotAllowed => {
                    lines.push(Line::Note { text: dropped.reason.clone() });
                    continue;
                }
            };
            lines.push(Line::Problem(Problem {
                kind: kind.to_owned(),
                provider: Some("gemini".to_owned()),
                count: self.n_dropped_reported as u64,
                detail: dropped.reason.clone(),
                ..Problem::default()
            }));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::reviewer::{AttemptCounts, Dropped};

    fn id(name: &str) -> RecordId {
        RecordId(name.into())
    }

    fn fault(status: u16) -> Result<Answer, Fault> {
        Err(Fault::Unavailable { status: Some(status), reason: "fault".into() })
    }

    fn blocked() -> Result<Answer, Fault> {
        Err(Fault::Blocked { reason: "SAFETY".into(), sexually_explicit: false })
    }

    fn call(answered: u64, faults: u64) -> CallRecord {
        CallRecord {
            attempts: 5,
            peers: AttemptCounts { answered, faults },
            ..CallRecord::default()
        }
    }

    #[test]
    fn a_fault_is_an_images_own_while_most_of_its_peers_are_answered() {
        let mut provider = ProviderHealth::new();
        let judged = provider.judge(&id("a"), &fault(503), &call(9, 1), 0);
        assert_eq!(judged, PeerOutcome::Answered);
        let judged = provider.judge(&id("a"), &fault(503), &call(1, 9), 0);
        assert_eq!(judged, PeerOutcome::Unknown);
    }

    #[test]
    fn alone_in_hand_only_a_500_504_or_empty_answer_may_be_its_own() {
        for (status, expected) in [
            (500, PeerOutcome::Answered),
            (504, PeerOutcome::Answered),
            (200, PeerOutcome::Answered),
            (503, PeerOutcome::Unknown),
            (429, PeerOutcome::Unknown),
        ] {
            let mut provider = ProviderHealth::new();
            provider.judge(&id("other"), &blocked(), &call(0, 0), 0);
            let judged = provider.judge(&id("a"), &fault(status), &call(0, 0), 0);
            assert_eq!(judged, expected, "{status}");
        }
        let mut provider = ProviderHealth::new();
        let judged = provider.judge(&id("a"), &fault(500), &call(0, 0), 0);
        assert_eq!(judged, PeerOutcome::Unknown, "nothing is known of others");
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_images_with_own_faults_meet_is_no_outage_yet() {
        let now = Instant::now();
        let health = || Health { calls: 5, faults: 5, ..Health::default() };
        let mut provider = ProviderHealth::new();
        provider.update(health(), [1, 2].into_iter(), now);
        assert!(!provider.is_down(now + Duration::from_secs(60)));
        provider.update(health(), [0, 2].into_iter(), now);
        assert!(provider.is_down(now + Duration::from_secs(60)));
    }

    #[test]
    fn a_dropped_key_is_told_once_and_not_when_it_was_the_last() {
        let dropped = Dropped {
            project: "main".into(),
            key: Some("…x7Qk".into()),
            cause: DropCause::Rejected,
            reason: "not valid".into(),
        };
        let mut health = Health { dropped: vec![dropped], ..Health::default() };
        let mut provider = ProviderHealth::new();
        assert_eq!(provider.dropped_lines(&health).len(), 1);
        assert_eq!(provider.dropped_lines(&health), []);
        health.all_dropped = true;
        assert_eq!(ProviderHealth::new().dropped_lines(&health), []);
    }
}
