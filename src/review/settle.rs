//! What becomes of a row when a piece of work on its picture has ended: the states of
//! docs/legacy-service.md.
//!
//! Pure: history and result in, decision out. Writing it is `pipeline::write_back`'s; whether a bucket
//! that refuses one image refuses them all, `pipeline::bucket_health`'s.
//! Invariant: only a picture's own fault uses up a try, and only a whole answer or a block ends a
//! row before its third.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::review::category::{Code, category};
use crate::review::record::{ERROR, SUCCESS, Settlement};
use crate::review::reviewer::{Answer, Fault, Refusal};
use crate::review::settings::OnBlocked;
use crate::text;

/// Tries of an image; after them it is marked as an error and left alone (docs/legacy-service.md,
/// "What its users asked for").
pub const TRIES: usize = 3;

/// Longest reason that is kept, in characters: three of them and the last error must stay readable
/// in one cell of a table.
const LONGEST_REASON: usize = 400;

/// What is remembered of an image since it was last picked up afresh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Reasons of the tries it has used up, oldest first.
    pub failed: Vec<String>,
    /// SHA-256 of the file that the last of them had.
    pub last_file: Option<String>,
    /// Provider and bucket faults that met it while others succeeded, and used up no try.
    pub own_faults: u32,
    /// It was in hand when a process died: it is worked on alone.
    pub suspect: bool,
}

/// How a piece of work ended.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkResult {
    /// The reviewer has spoken.
    Reviewed(Result<Answer, Fault>),
    /// There is no file, and it is this image's fault: missing, empty.
    NoFile(String),
    /// There is a file that can't be sent: damaged, unsupported, too large, no image.
    NoImage {
        /// Why.
        reason: String,
        /// Of the file.
        sha256: String,
    },
    /// The bucket refused or failed for this picture while it served others.
    BucketFault(String),
}

/// How the provider treats the other pictures just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerOutcome {
    /// Its latest word on another picture was an answer.
    Answered,
    /// It was a fault, or there is no other picture.
    Unknown,
}

/// How a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    /// Reviewed.
    Succeeded,
    /// Three tries failed; the last of them for this.
    Errored(FailureCause),
    /// The provider blocked the picture.
    Blocked,
}

/// Why an image ended without a review: what images that fail for one reason have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureCause {
    /// The model's answers could not be used.
    Unreadable,
    /// The provider would not look at it.
    Blocked,
    /// The provider or the bucket failed for it again and again while it served others.
    Fault,
    /// There was no file.
    NoFile,
    /// The file could not be sent, or the provider could not read it.
    NoImage,
    /// What was made of it could not be written into its row.
    Unwritable,
    /// The process died of it.
    Crash,
}

impl FailureCause {
    /// Whether it is the model's or the provider's doing rather than the image's own.
    #[must_use]
    pub fn is_the_providers(self) -> bool {
        match self {
            Self::Unreadable | Self::Blocked | Self::Fault => true,
            Self::NoFile | Self::NoImage | Self::Unwritable | Self::Crash => false,
        }
    }
}

/// Why nothing more can be reviewed in this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The provider will not serve us until a person acts.
    Refused(Refusal),
    /// A quota that comes back by itself is used up.
    Quota {
        /// When it comes back, if known.
        until: Option<DateTime<Utc>>,
        /// For people.
        reason: String,
    },
    /// The cap of `[budget]` is reached.
    Budget(String),
}

impl Stop {
    /// For people.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.reason,
            Self::Quota { reason, .. } | Self::Budget(reason) => reason,
        }
    }
}

/// What becomes of the row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowDecision {
    /// It is written and done with.
    Settle {
        /// What is written.
        settlement: Settlement,
        /// What it counts as.
        outcome: RowOutcome,
    },
    /// A try is used up; the next one follows in this run, if there is time.
    TryAgain {
        /// Why it failed.
        reason: String,
        /// What the model should be told.
        correction: Option<String>,
        /// At the end of the queue, after so long.
        wait: Duration,
    },
    /// No try is used up; later in this run, if there is time.
    Later {
        /// Why.
        reason: String,
        /// Others succeeded meanwhile: the next time it is the picture's own.
        peers: PeerOutcome,
        /// At the end of the queue, after so long.
        wait: Duration,
    },
    /// No try is used up, and there is no time left: back to where it came from.
    Release,
    /// No try is used up, back to where it came from, and the run stops.
    Stop(Stop),
}

/// What the user has decided, and how long to wait before the second and the third try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What a picture that the provider blocks becomes.
    pub on_blocked: OnBlocked,
    /// 30 s and 2 min (docs/decisions.md, "Three tries within a run"): long enough for an upload that was still under way or a
    /// hiccup to pass, short enough to fit a box.
    pub waits: [Duration; TRIES - 1],
}

impl Policy {
    /// The waits before the second and the third try.
    pub const WAITS: [Duration; TRIES - 1] = [Duration::from_secs(30), Duration::from_secs(120)];
}

/// Decides.
#[must_use]
pub fn decide(
    policy: &Policy,
    history: &History,
    result: WorkResult,
    peers: PeerOutcome,
) -> RowDecision {
    match result {
        WorkResult::Reviewed(Ok(answer)) => success(category(&answer), answer.details),
        WorkResult::Reviewed(Err(fault)) => after_fault(policy, history, fault, peers),
        WorkResult::NoFile(reason) => {
            failed_try(policy, history, reason, FailureCause::NoFile, None)
        }
        WorkResult::NoImage { reason, sha256 } if history.last_file.as_ref() == Some(&sha256) => {
            // What was still being uploaded would have changed; these bytes bring nothing new.
            let reasons = [history.failed.as_slice(), &[shorten(&reason)]].concat();
            let Settlement { auto_review_details, .. } = given_up(&reasons);
            let details = auto_review_details.trim_end_matches(')');
            let settlement = error(format!("{details}; the file has not changed)"));
            RowDecision::Settle { settlement, outcome: RowOutcome::Errored(FailureCause::NoImage) }
        }
        WorkResult::NoImage { reason, sha256: _ } => {
            failed_try(policy, history, reason, FailureCause::NoImage, None)
        }
        WorkResult::BucketFault(reason) => {
            fault_of_others(policy, history, reason, PeerOutcome::Answered)
        }
    }
}

fn after_fault(
    policy: &Policy,
    history: &History,
    fault: Fault,
    peers: PeerOutcome,
) -> RowDecision {
    match fault {
        Fault::Unreadable { reason, correction } => {
            failed_try(policy, history, reason, FailureCause::Unreadable, Some(correction))
        }
        Fault::Picture { reason } => {
            failed_try(policy, history, reason, FailureCause::NoImage, None)
        }
        Fault::Blocked { reason, sexually_explicit } => {
            let is_sexual = is_sexual(&reason, sexually_explicit);
            let details = format!("blocked by Gemini: {reason}");
            match policy.on_blocked {
                OnBlocked::N1 if is_sexual => success(Code::N1.as_str().to_owned(), details),
                OnBlocked::N1 | OnBlocked::Error => {
                    RowDecision::Settle { settlement: error(details), outcome: RowOutcome::Blocked }
                }
            }
        }
        Fault::Unavailable { status: _, reason } => fault_of_others(policy, history, reason, peers),
        Fault::Quota { until, reason } => RowDecision::Stop(Stop::Quota { until, reason }),
        Fault::Refused(refusal) => RowDecision::Stop(Stop::Refused(refusal)),
        Fault::Budget { reason } => RowDecision::Stop(Stop::Budget(reason)),
        Fault::OutOfTime => RowDecision::Release,
    }
}

/// Whether a block says itself that what is in the picture is sexual: only one for SAFETY does.
#[must_use]
#[expect(clippy::fn_params_excessive_bools, reason = "a fact of the answer, as it is stored")]
pub fn is_sexual(reason: &str, sexually_explicit: bool) -> bool {
    sexually_explicit && reason.starts_with("SAFETY")
}

fn success(category: String, details: String) -> RowDecision {
    RowDecision::Settle {
        settlement: Settlement {
            review_status: SUCCESS.to_owned(),
            auto_review_status: category,
            auto_review_details: details,
        },
        outcome: RowOutcome::Succeeded,
    }
}

/// A fault of a provider or bucket uses up no try, unless it meets this picture again while others
/// succeed (docs/decisions.md, "A fault of others is never the image's").
fn fault_of_others(
    policy: &Policy,
    history: &History,
    reason: String,
    peers: PeerOutcome,
) -> RowDecision {
    match peers {
        PeerOutcome::Answered if history.own_faults > 0 => {
            failed_try(policy, history, reason, FailureCause::Fault, None)
        }
        PeerOutcome::Answered | PeerOutcome::Unknown => {
            RowDecision::Later { reason: shorten(&reason), peers, wait: policy.waits[0] }
        }
    }
}

fn failed_try(
    policy: &Policy,
    history: &History,
    reason: String,
    cause: FailureCause,
    correction: Option<String>,
) -> RowDecision {
    let reason = shorten(&reason);
    match policy.waits.get(history.failed.len()) {
        Some(&wait) => RowDecision::TryAgain { reason, correction, wait },
        None => {
            let mut reasons = history.failed.clone();
            reasons.push(reason);
            RowDecision::Settle {
                settlement: given_up(&reasons),
                outcome: RowOutcome::Errored(cause),
            }
        }
    }
}

/// What a row becomes whose tries are used up: the last error, how many tries there were, and what the
/// others met if that was something else. Each reason stands once.
#[must_use]
pub fn given_up(reasons: &[String]) -> Settlement {
    let last = reasons.last().map_or("unknown error", String::as_str);
    let mut earlier: Vec<&str> = Vec::new();
    for reason in reasons {
        if reason != last && !earlier.contains(&reason.as_str()) {
            earlier.push(reason);
        }
    }
    let earlier = if earlier.is_empty() {
        String::new()
    } else {
        format!("; before: {}", earlier.join("; "))
    };
    error(format!("{last} ({} tries{earlier})", reasons.len()))
}

/// The last error alone, out of the details that [`given_up`] or a block has written.
#[must_use]
pub fn last_reason(details: &str) -> &str {
    let end = (2..=TRIES).filter_map(|n| details.find(&format!(" ({n} tries"))).min();
    end.map_or(details, |end| &details[..end])
}

/// What a row becomes whose result its table does not take.
#[must_use]
pub fn unwritable(reason: &str) -> Settlement {
    error(shorten(&format!("the result could not be written into this row: {reason}")))
}

fn error(details: String) -> Settlement {
    Settlement {
        review_status: ERROR.to_owned(),
        auto_review_status: ERROR.to_owned(),
        auto_review_details: details,
    }
}

/// One line of bounded length.
#[must_use]
pub fn shorten(reason: &str) -> String {
    text::line(reason, LONGEST_REASON)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::reviewer::RefusalCause;

    const POLICY: Policy = Policy { on_blocked: OnBlocked::Error, waits: Policy::WAITS };
    const N1: Policy = Policy { on_blocked: OnBlocked::N1, waits: Policy::WAITS };

    fn history(n_failed: usize, own_faults: u32) -> History {
        let failed = (1..=n_failed).map(|n| format!("reason {n}")).collect();
        History { failed, own_faults, ..History::default() }
    }

    fn fault(fault: Fault) -> WorkResult {
        WorkResult::Reviewed(Err(fault))
    }

    fn unavailable() -> WorkResult {
        fault(Fault::Unavailable { status: Some(500), reason: "500 internal".into() })
    }

    fn unreadable() -> WorkResult {
        fault(Fault::Unreadable { reason: "cut".into(), correction: "answer in full".into() })
    }

    #[test]
    fn a_whole_answer_is_a_success_with_its_category() {
        let answer = Answer {
            text_present: false,
            text_correct: false,
            text_errors: false,
            watermark: true,
            humans: true,
            nudity: false,
            blood: false,
            brands: false,
            copyright: false,
            places: false,
            people: false,
            details: "A crowd under a mark.".into(),
        };
        let ended = WorkResult::Reviewed(Ok(answer));
        let RowDecision::Settle { settlement, outcome } =
            decide(&POLICY, &history(2, 9), ended, PeerOutcome::Unknown)
        else {
            panic!("not settled")
        };
        assert_eq!(outcome, RowOutcome::Succeeded);
        assert_eq!(settlement.review_status, "auto_review_success");
        assert_eq!(settlement.auto_review_status, "W1, H1");
        assert_eq!(settlement.auto_review_details, "A crowd under a mark.");
    }

    #[test]
    fn the_third_failed_try_is_an_error_with_each_reason_once() {
        for (n_failed, wait) in [(0, 30), (1, 120)] {
            let expected = RowDecision::TryAgain {
                reason: "cut".into(),
                correction: Some("answer in full".into()),
                wait: Duration::from_secs(wait),
            };
            assert_eq!(
                decide(&POLICY, &history(n_failed, 0), unreadable(), PeerOutcome::Answered),
                expected
            );
        }
        let ended = WorkResult::NoImage { reason: "it is no image".into(), sha256: "a".into() };
        let RowDecision::Settle { settlement, outcome } =
            decide(&POLICY, &history(2, 0), ended, PeerOutcome::Unknown)
        else {
            panic!("not settled")
        };
        assert_eq!(outcome, RowOutcome::Errored(FailureCause::NoImage));
        assert_eq!(settlement.review_status, "auto_review_error");
        assert_eq!(settlement.auto_review_status, "auto_review_error");
        assert_eq!(
            settlement.auto_review_details,
            "it is no image (3 tries; before: reason 1; reason 2)"
        );
        assert_eq!(last_reason(&settlement.auto_review_details), "it is no image");
        let same = given_up(&["cut off (1 MB)".into(), "gone".into(), "cut off (1 MB)".into()]);
        assert_eq!(same.auto_review_details, "cut off (1 MB) (3 tries; before: gone)");
        assert_eq!(last_reason(&same.auto_review_details), "cut off (1 MB)");
        let same = given_up(&["cut off".into(), "cut off".into(), "cut off".into()]);
        assert_eq!(same.auto_review_details, "cut off (3 tries)");
        assert_eq!(last_reason("blocked by Gemini: SAFETY"), "blocked by Gemini: SAFETY");
    }

    #[test]
    fn a_file_that_has_not_changed_since_the_try_before_ends_the_tries() {
        let bad =
            |sha256: &str| WorkResult::NoImage { reason: "cut".into(), sha256: sha256.into() };
        let after = |last_file: Option<&str>| History {
            failed: vec!["cut".into()],
            last_file: last_file.map(str::to_owned),
            ..History::default()
        };
        for history in [after(None), after(Some("other"))] {
            let next = decide(&POLICY, &history, bad("same"), PeerOutcome::Unknown);
            assert!(matches!(next, RowDecision::TryAgain { .. }), "{next:?}");
        }
        let next = decide(&POLICY, &after(Some("same")), bad("same"), PeerOutcome::Unknown);
        let RowDecision::Settle { settlement, outcome: RowOutcome::Errored(_) } = next else {
            panic!("{next:?}")
        };
        assert_eq!(settlement.auto_review_details, "cut (2 tries; the file has not changed)");
        assert_eq!(last_reason(&settlement.auto_review_details), "cut");
    }

    #[test]
    fn a_providers_fault_uses_up_no_try_however_often_it_comes() {
        for n_failed in 0..3 {
            for own_faults in 0..9 {
                let next = decide(
                    &POLICY,
                    &history(n_failed, own_faults),
                    unavailable(),
                    PeerOutcome::Unknown,
                );
                assert!(
                    matches!(next, RowDecision::Later { peers: PeerOutcome::Unknown, .. }),
                    "{next:?}"
                );
            }
        }
    }

    #[test]
    fn a_fault_that_meets_one_picture_again_while_others_are_answered_is_its_own() {
        let first = decide(&POLICY, &history(0, 0), unavailable(), PeerOutcome::Answered);
        assert!(
            matches!(first, RowDecision::Later { peers: PeerOutcome::Answered, .. }),
            "{first:?}"
        );
        let second = decide(&POLICY, &history(0, 1), unavailable(), PeerOutcome::Answered);
        assert!(matches!(second, RowDecision::TryAgain { .. }), "{second:?}");
        let last = decide(&POLICY, &history(2, 1), unavailable(), PeerOutcome::Answered);
        assert!(
            matches!(last, RowDecision::Settle { outcome: RowOutcome::Errored(_), .. }),
            "{last:?}"
        );
        let bucket = WorkResult::BucketFault("403".into());
        let last = decide(&POLICY, &history(2, 1), bucket, PeerOutcome::Unknown);
        assert!(
            matches!(last, RowDecision::Settle { outcome: RowOutcome::Errored(_), .. }),
            "{last:?}"
        );
    }

    #[test]
    fn a_block_is_final_after_one_call_and_n1_only_for_what_is_sexually_explicit() {
        for (policy, reason, explicit, status, category) in [
            (POLICY, "SAFETY", true, ERROR, ERROR),
            (POLICY, "PROHIBITED_CONTENT", true, ERROR, ERROR),
            (N1, "SAFETY", true, SUCCESS, "N1"),
            (N1, "SAFETY", false, ERROR, ERROR),
            (N1, "PROHIBITED_CONTENT", true, ERROR, ERROR),
        ] {
            let ended =
                fault(Fault::Blocked { reason: reason.into(), sexually_explicit: explicit });
            let RowDecision::Settle { settlement, .. } =
                decide(&policy, &history(0, 0), ended, PeerOutcome::Answered)
            else {
                panic!("not settled")
            };
            assert_eq!(settlement.review_status, status);
            assert_eq!(settlement.auto_review_status, category);
            assert_eq!(settlement.auto_review_details, format!("blocked by Gemini: {reason}"));
        }
    }

    #[test]
    fn what_concerns_every_picture_stops_the_run_and_uses_up_no_try() {
        let reason = || "why".to_owned();
        let refusal = || Refusal {
            cause: RefusalCause::Model,
            title: "Gemini model m is not available".into(),
            reason: reason(),
            action: "choose another".into(),
            until: None,
        };
        for (ended, expected) in [
            (Fault::Refused(refusal()), Stop::Refused(refusal())),
            (Fault::Budget { reason: reason() }, Stop::Budget(reason())),
            (
                Fault::Quota { until: None, reason: reason() },
                Stop::Quota { until: None, reason: reason() },
            ),
        ] {
            let next = decide(&POLICY, &history(2, 9), fault(ended), PeerOutcome::Answered);
            assert_eq!(next, RowDecision::Stop(expected));
        }
        let next = decide(&POLICY, &history(2, 9), fault(Fault::OutOfTime), PeerOutcome::Answered);
        assert_eq!(next, RowDecision::Release);
    }

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        assert_eq!(shorten("a\n  b\tc"), "a b c");
        assert_eq!(shorten(&"x".repeat(1000)).chars().count(), LONGEST_REASON);
    }
}
