//! What people read: every kind of incident, opened and resolved, as the text of a mail.
//!
//! Change a text in `src/alert/message/`, then `cargo insta review`, and read it as somebody who
//! was woken by it.

use lookout::alert::message::{self, AlreadyNotified, compose};
use lookout::watch::IncidentKind;

use crate::alert::news::{opened, resolved};

/// Opening and end, one under the other.
pub(crate) fn told(kind: IncidentKind) -> String {
    let opening = opened(kind);
    let end = resolved(&opening);
    let open = compose(&opening, AlreadyNotified::No(&opening), vec![]);
    let over = compose(&end, AlreadyNotified::Yes, vec![]);
    format!("{}\n{}\n{}", open.subject, message::plain(&open), message::plain(&over))
}

#[test]
fn run_missed() {
    insta::assert_snapshot!(told(IncidentKind::RunMissed), @"
    Lookout prod: image-review did not start (incident 142)
    CRITICAL prod: the 05:00 run of image-review did not start (incident 142)

    It was due at 05:00 UTC and had not started by 05:12 UTC. Its images wait;
    nothing is lost.

    Do now
      1. See what is running and what is in the way:
           lookout status
      2. Start it by hand:
           lookout run image-review

    Due: 05:00 UTC

    The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/run_missed · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: image-review starts again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/run_missed · message 2
    ");
}

#[test]
fn run_stalled() {
    insta::assert_snapshot!(told(IncidentKind::RunStalled), @"
    Lookout prod: image-review stands still (incident 142)
    WARNING prod: the 05:00 run of image-review stands still (incident 142)

    Nothing has moved since 05:01:40 UTC (10 min).

    Do now
      1. See what the run printed:
           lookout runs show 0199a0c4-5e00-7c3a-9a51-1f2e3d4c5b6a --log
      2. If it hangs, stop it:
           lookout run stop 0199a0c4-5e00-7c3a-9a51-1f2e3d4c5b6a

    Started: 05:00 UTC
    Last movement: 05:01:40 UTC
    Done: 412 of 900 images

    Last lines of its output
      | image 412 of 900
      | waiting for an answer

    Lookout tells the run to finish at 05:45 UTC and stops it if it does not.

    --
    Incident 142 · prod/image-review/run_stalled · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: image-review moves again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/run_stalled · message 2
    ");
}

#[test]
fn run_timed_out() {
    insta::assert_snapshot!(told(IncidentKind::RunTimedOut), @"
    Lookout prod: image-review did not end in time (incident 142)
    WARNING prod: the 05:00 run of image-review did not end in time and was
    stopped (incident 142)

    It had 45 min and some minutes more to finish. What it had finished is kept;
    the rest waits for the next run.

    Do now
      1. See what the run printed:
           lookout runs show 0199a0c4-5e00-7c3a-9a51-1f2e3d4c5b6a --log
      2. See whether a service is slow:
           lookout doctor
      3. If it is simply too much for one run, give it a longer time_box or
         smaller batches.

    Started: 05:00 UTC
    Ended: 05:11:58 UTC
    Done: 700 of 900 images

    The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/run_timed_out · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: image-review ends in time again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/run_timed_out · message 2
    ");
}

#[test]
fn signal_missing() {
    insta::assert_snapshot!(told(IncidentKind::SignalMissing), @"
    Lookout prod: image-review ended without saying that it was done (incident 142)
    CRITICAL prod: the 05:00 run of image-review ended without saying that it was
    done (incident 142)

    It ended at 05:11:58 UTC (exit code 0) without saying “Bulk processing
    completed.”. Its results may be incomplete.

    Do now
      1. See what the run printed:
           lookout runs show 0199a0c4-5e00-7c3a-9a51-1f2e3d4c5b6a --log
      2. Run it again, if the next run is too far away:
           lookout run image-review

    Started: 05:00 UTC
    Ended: 05:11:58 UTC

    The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/signal_missing · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: image-review says again that it is done (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/signal_missing · message 2
    ");
}

#[test]
fn run_failed() {
    insta::assert_snapshot!(told(IncidentKind::RunFailed), @"
    Lookout prod: image-review failed (incident 142)
    CRITICAL prod: the 05:00 run of image-review failed (incident 142)

    It ended at 05:11:58 UTC: killed by signal 9. Mostly that means that the
    machine ran out of memory.

    Do now
      1. See what the run printed:
           lookout runs show 0199a0c4-5e00-7c3a-9a51-1f2e3d4c5b6a --log
      2. See whether everything it needs answers:
           lookout doctor

    Started: 05:00 UTC
    Ended: 05:11:58 UTC

    The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/run_failed · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: image-review works again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/run_failed · message 2
    ");
}

#[test]
fn provider_unavailable() {
    insta::assert_snapshot!(told(IncidentKind::ProviderUnavailable), @"
    Lookout prod: Gemini is not available (incident 142)
    WARNING prod: Gemini answers 503 again and again (incident 142)

    214 of 230 calls failed since 05:04:11 UTC. The fault is on its side, not with
    your key or your images. 640 images were given back without having lost a try,
    and will be taken again.

    Do now
      1. Nothing, if it passes. To look for yourself:
           lookout doctor

    Started: 05:00 UTC
    Failed: 214 of 230 calls
    Result: 640 given back

    Last error
      | 503 UNAVAILABLE: The model is overloaded. Please try again later.

    Lookout tells you when it works again. The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/provider_unavailable · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: Gemini is available again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/provider_unavailable · message 2
    ");
}

#[test]
fn images_unavailable() {
    insta::assert_snapshot!(told(IncidentKind::ImagesUnavailable), @"
    Lookout prod: the image storage is not available (incident 142)
    CRITICAL prod: the image storage refuses us (403) (incident 142)

    40 of 40 calls failed. It is there but does not let us in: look at its access
    rules.

    Do now
      1. Put key or access rules right, then look:
           lookout doctor

    Started: 05:00 UTC
    Failed: 40 of 40 calls

    Last error
      | 403 AccessDenied

    Lookout tells you when it works again. The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/images_unavailable · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: the image storage is available again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/images_unavailable · message 2
    ");
}

#[test]
fn records_unavailable() {
    insta::assert_snapshot!(told(IncidentKind::RecordsUnavailable), @"
    Lookout prod: Supabase is not available (incident 142)
    CRITICAL prod: Supabase could not be reached (incident 142)

    No connection, or no answer since 05:04:11 UTC: Supabase or the network in
    between is down.

    Do now
      1. Nothing, if it passes. To look for yourself:
           lookout doctor

    Started: 05:00 UTC

    Last error
      | could not be reached: connection refused

    Lookout tells you when it works again. The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/records_unavailable · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: Supabase is available again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/records_unavailable · message 2
    ");
}

#[test]
fn credentials_rejected() {
    insta::assert_snapshot!(told(IncidentKind::CredentialsRejected), @"
    Lookout prod: Gemini refuses our key (incident 142)
    CRITICAL prod: Gemini refuses our key (400) (incident 142)

    Every run fails until this is put right. The images wait.

    Do now
      1. Make or enable a key in Google AI Studio, and put it into .env. No
         restart is needed.
      2. See whether it is accepted:
           lookout doctor

    Started: 05:00 UTC
    Ended: 05:11:58 UTC

    Last error
      | API key not valid. Please pass a valid API key. [API_KEY_INVALID]

    The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/credentials_rejected · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: Gemini accepts our key again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/credentials_rejected · message 2
    ");
}

#[test]
fn quota_exhausted() {
    insta::assert_snapshot!(told(IncidentKind::QuotaExhausted), @"
    Lookout prod: quota or credit for Gemini is used up (incident 142)
    CRITICAL prod: the quota or the credit for Gemini is used up (incident 142)

    No more images are reviewed until there is room again. They wait.

    Do now
      1. Raise the quota or the credit with the provider.
      2. See what is left:
           lookout doctor

    Started: 05:00 UTC
    Ended: 05:11:58 UTC
    Cost: $5.00

    The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/quota_exhausted · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: there is quota for Gemini again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/quota_exhausted · message 2
    ");
}

#[test]
fn image_errors() {
    insta::assert_snapshot!(told(IncidentKind::ImageErrors), @"
    Lookout prod: many images of image-review end in error (incident 142)
    WARNING prod: 93 images of the 05:00 run of image-review ended in error
    (incident 142)

    Each is marked as an error and not tried again. The provider blocked 3 of
    them.

    Do now
      1. See what the run printed:
           lookout runs show 0199a0c4-5e00-7c3a-9a51-1f2e3d4c5b6a --log
      2. Once the cause is gone, review them again (without --yes it only lists
         them):
           lookout rerun --status auto_review_error --yes

    Started: 05:00 UTC
    Ended: 05:11:58 UTC
    Result: 310 reviewed, 90 in error, 3 blocked by the provider, 1,240 left

    Last error
      | the picture is cut off after 41,200 bytes (63 times)

    The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/image_errors · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: the images of image-review go through again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/image_errors · message 2
    ");
}

#[test]
fn channel_broken() {
    insta::assert_snapshot!(told(IncidentKind::ChannelBroken), @"
    Lookout prod: messages by team-slack do not get through (incident 142)
    CRITICAL prod: messages by team-slack do not get through (incident 142)

    Nobody who relies on team-slack alone hears of problems until this is put
    right.

    Do now
      1. Correct its address or password in .env or alerts/.
      2. See whether it works:
           lookout alert test team-slack
      3. See what was not delivered:
           lookout alert dead

    Due: 05:00 UTC

    Last error
      | Slack refused: 404 no_service

    Lookout tries it again every 30 minutes.

    --
    Incident 142 · prod/image-review/channel_broken · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: messages by team-slack get through again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/channel_broken · message 2
    ");
}

#[test]
fn outbox_degraded() {
    insta::assert_snapshot!(told(IncidentKind::OutboxDegraded), @"
    Lookout prod: messages are late or can't be written down (incident 142)
    CRITICAL prod: messages are late, or can't be written down (incident 142)

    A full disk, a state directory that can't be written, or a server that does
    not take our messages is the usual cause.

    Do now
      1. See what is wrong:
           lookout status
      2. See whether the channels take messages:
           lookout alert test
      3. See whether there is room:
           df -h

    Due: 05:00 UTC

    Last error
      | the state directory can't be written: database or disk is full

    The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/outbox_degraded · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: messages are written down and sent in time again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/outbox_degraded · message 2
    ");
}

#[test]
fn was_blind() {
    insta::assert_snapshot!(told(IncidentKind::WasBlind), @"
    Lookout prod: Lookout itself was not running (incident 142)
    INFO prod: Lookout itself was not running (incident 142)

    From 02:10 UTC to 05:12 UTC (3 h 2 min) it saw nothing. 3 runs were due in
    that time and not watched.

    Do now
      1. See what it missed:
           lookout history
      2. Find out why: a restart, a full disk, a suspended machine?

    Due: 05:00 UTC

    Lookout watches again. The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/was_blind · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: Lookout watches again (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 06:00 UTC
    Ended: 06:24 UTC
    Result: 1,050 reviewed, 0 left
    Cost: $0.63

    --
    Incident 142 · prod/image-review/was_blind · message 2
    ");
}

/// Every kind that a guarded job of any sort may have.
const OF_ANY_JOB: [IncidentKind; 8] = [
    IncidentKind::RunMissed,
    IncidentKind::RunStalled,
    IncidentKind::RunTimedOut,
    IncidentKind::SignalMissing,
    IncidentKind::RunFailed,
    IncidentKind::ProviderUnavailable,
    IncidentKind::CredentialsRejected,
    IncidentKind::QuotaExhausted,
];

#[test]
fn a_job_that_reviews_no_images_is_not_said_to_have_any() {
    for kind in OF_ANY_JOB {
        let mut opening = opened(kind);
        opening.incident.schedule = Some("backup".into());
        opening.incident.key = format!("prod/backup/{kind}");
        opening.facts = lookout::watch::Facts {
            reviews_images: false,
            counts: std::collections::BTreeMap::new(),
            log_tail: vec![],
            detail: None,
            signal: None,
            ..opening.facts
        };
        let message = compose(&opening, AlreadyNotified::No(&opening), vec![]);
        let text = message::plain(&message);
        assert!(!text.contains("image"), "{text}");
    }
}

#[test]
fn a_next_run_that_is_over_when_the_message_is_read_is_not_announced() {
    let opening = opened(IncidentKind::RunFailed);
    let says_next = |news: &lookout::watch::News, annotations| {
        let message = compose(news, AlreadyNotified::No(news), annotations);
        message::plain(&message).contains("next run")
    };
    assert!(says_next(&opening, vec![]));
    let late = message::Annotation::Late { by: chrono::TimeDelta::hours(2), because: None };
    assert!(!says_next(&opening, vec![late]));
    assert!(!says_next(&crate::alert::news::reminder(&opening), vec![]), "four hours later");
}

#[test]
fn a_rejected_key_beside_a_good_one_stops_nothing() {
    let mut news = opened(IncidentKind::CredentialsRejected);
    news.facts.counts = [("succeeded".to_owned(), 6), ("remaining".to_owned(), 0)].into();
    let text = message::plain(&compose(&news, AlreadyNotified::No(&news), vec![]));
    assert!(!text.contains("Every run fails") && !text.contains("images wait"), "{text}");
}

#[test]
fn a_budget_is_called_a_budget() {
    let mut news = opened(IncidentKind::QuotaExhausted);
    news.facts.provider = Some("budget".into());
    news.facts.faults = Some(1);
    let message = compose(&news, AlreadyNotified::No(&news), vec![]);
    let text = message::plain(&message);
    assert_eq!(message.headline(), "CRITICAL prod: the budget is used up (incident 142)");
    assert!(!text.contains("1 call") && !text.contains("provider"), "{text}");
}

#[test]
fn blocked_images_are_not_called_tried_three_times() {
    let mut news = opened(IncidentKind::ImageErrors);
    news.facts.counts = [("errored".to_owned(), 0), ("blocked".to_owned(), 25)].into();
    let message = compose(&news, AlreadyNotified::No(&news), vec![]);
    assert!(message.headline().contains("25 images"), "{}", message.headline());
    assert!(message::plain(&message).contains("The provider blocked them."));
}

#[test]
fn beginning_and_end_say_the_same_since_when() {
    let opening = opened(IncidentKind::ProviderUnavailable);
    let mut end = resolved(&opening);
    end.facts.since = opening.facts.since;
    let text = message::plain(&compose(&end, AlreadyNotified::Yes, vec![]));
    assert!(text.contains("It began at 05:04:11 UTC"), "{text}");
}
