//! What people read: every kind of incident, opened and resolved, as the text of a mail.
//!
//! Change a text in `src/alert/message/`, then `cargo insta review`, and read it as somebody who
//! was woken by it.

#![expect(clippy::too_many_lines, reason = "a snapshot stands in its test")]

use lookout::alert::message::{self, Heard, Mark, Message, compose};
use lookout::redact::Redactor;
use lookout::watch::{Change, Facts, INCIDENT_KINDS, IncidentKind, News, Severity};

use serde_json::Value;

use crate::alert_news::{at, opened, reminder, resolved};

/// Opening and end, one under the other.
fn told(kind: IncidentKind) -> String {
    let opening = opened(kind);
    let end = resolved(&opening);
    let open = compose(&opening, Heard::Nothing(&opening), vec![]);
    let over = compose(&end, Heard::Before, vec![]);
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

    It had 45 min and some minutes more to finish, and was still working. What it
    had finished is kept; the rest waits for the next run.

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
    Lookout prod: quota or budget for Gemini is used up (incident 142)
    CRITICAL prod: the quota or the budget for Gemini is used up (incident 142)

    No more images are reviewed until there is room again. They wait.

    Do now
      1. Raise the quota or the credit with the provider, or [budget] in
         lookout.toml.
      2. See what is left:
           lookout doctor

    Started: 05:00 UTC
    Ended: 05:11:58 UTC
    Cost: $5.00

    The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/quota_exhausted · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: there is quota and budget for Gemini again (incident 142)

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
    WARNING prod: 90 images of the 05:00 run of image-review ended in error
    (incident 142)

    Each was tried three times and is left alone now, marked as an error.

    Do now
      1. See what the run printed:
           lookout runs show 0199a0c4-5e00-7c3a-9a51-1f2e3d4c5b6a --log
      2. Once the cause is gone, take them again:
           lookout rerun --status auto_review_error

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

fn unreachable() -> News {
    let mut news = opened(IncidentKind::ProviderUnavailable);
    news.facts.status = None;
    news.facts.detail = Some(
        "Timeout of 600.0s exceeded, last exception: 503 failed to connect to all addresses".into(),
    );
    news
}

#[test]
fn what_could_not_be_reached_is_never_called_a_503() {
    let news = unreachable();
    let message = compose(&news, Heard::Nothing(&news), vec![]);
    insta::assert_snapshot!(message::plain(&message), @"
    WARNING prod: Gemini could not be reached (incident 142)

    214 of 230 calls failed since 05:04:11 UTC. No connection, or no answer:
    Gemini or the network in between is down. 640 images were given back without
    having lost a try, and will be taken again.

    Do now
      1. Nothing, if it passes. To look for yourself:
           lookout doctor

    Started: 05:00 UTC
    Failed: 214 of 230 calls
    Result: 640 given back

    Last error
      | Timeout of 600.0s exceeded, last exception: failed to connect to all
      | addresses

    Lookout tells you when it works again. The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/provider_unavailable · message 1
    No more reminders: lookout incident ack 142
    ");
    for text in [
        message::plain(&message),
        message::html(&message),
        message::slack(&message).to_string(),
        message::json(&message, "msg_1", news.at).to_string(),
    ] {
        assert!(!text.contains("503"), "{text}");
    }
}

#[test]
fn a_reminder_says_how_long_and_how_many() {
    let news = reminder(&opened(IncidentKind::SignalMissing));
    let message = compose(&news, Heard::Before, vec![]);
    insta::assert_snapshot!(message.headline(), @"CRITICAL, still open after 4 h, prod: the 05:00 run of image-review ended without saying that it was done (incident 142)");
    assert!(message.lead.join(" ").contains("5 runs are affected since 05:12 UTC."));
}

#[test]
fn what_got_worse_says_so_unless_nobody_heard_of_it_before() {
    let mut news = opened(IncidentKind::RunTimedOut);
    news.change = Change::Raised;
    news.incident.severity = Severity::Critical;
    let raised = compose(&news, Heard::Before, vec![]).headline();
    insta::assert_snapshot!(raised, @"CRITICAL, worse than before, prod: the 05:00 run of image-review did not end in time and was stopped (incident 142)");
    let first = compose(&news, Heard::Nothing(&news), vec![]).headline();
    insta::assert_snapshot!(first, @"CRITICAL prod: the 05:00 run of image-review did not end in time and was stopped (incident 142)");
}

#[test]
fn beginning_and_end_are_told_at_once_to_whom_has_not_heard_of_the_beginning() {
    let opening = opened(IncidentKind::ProviderUnavailable);
    let end = resolved(&opening);
    let late = Mark::Late {
        by: chrono::TimeDelta::minutes(110),
        because: Some("the mail server could not be reached: connection refused".into()),
    };
    let message = compose(&end, Heard::Nothing(&opening), vec![late, Mark::PossibleRepeat]);
    insta::assert_snapshot!(message::plain(&message), @"
    RESOLVED prod: Gemini answers 503 again and again; that is over (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 05:00 UTC
    Failed: 214 of 230 calls
    Result: 640 given back

    Last error
      | 503 UNAVAILABLE: The model is overloaded. Please try again later.

    * Told late by 1 h 50 min: the mail server could not be reached: connection
      refused.
    * Possible repeat: an earlier attempt to send this may have arrived.

    --
    Incident 142 · prod/image-review/provider_unavailable · message 2
    ");
}

#[test]
fn other_zones_are_told_in_their_time_and_in_utc() {
    let mut news = opened(IncidentKind::RunMissed);
    news.facts.timezone = Some("Europe/Berlin".into());
    let message = compose(&news, Heard::Nothing(&news), vec![]);
    insta::assert_snapshot!(message::plain(&message), @"
    CRITICAL prod: the 06:00 run of image-review did not start (incident 142)

    It was due at 06:00 CET (05:00 UTC) and had not started by 06:12 CET (05:12
    UTC). Its images wait; nothing is lost.

    Do now
      1. See what is running and what is in the way:
           lookout status
      2. Start it by hand:
           lookout run image-review

    Due: 06:00 CET (05:00 UTC)

    The next run starts at 07:00 CET (06:00 UTC).

    --
    Incident 142 · prod/image-review/run_missed · message 1
    No more reminders: lookout incident ack 142
    ");
}

#[test]
fn the_subject_is_the_same_for_all_messages_of_an_incident() {
    for kind in INCIDENT_KINDS {
        let opening = opened(kind);
        let first = compose(&opening, Heard::Nothing(&opening), vec![]);
        for later in [reminder(&opening), resolved(&opening)] {
            assert_eq!(compose(&later, Heard::Before, vec![]).subject, first.subject);
        }
    }
}

#[test]
fn no_message_uses_words_of_the_inside_or_is_wider_than_a_mail() {
    for kind in INCIDENT_KINDS {
        let text = told(kind);
        for word in ["slot", "verdict", "outbox", "dispatcher", "keeper"] {
            // The incident's key may say `outbox_degraded`.
            let prose: Vec<&str> = text.lines().filter(|it| !it.contains(" · prod/")).collect();
            assert!(!prose.join(" ").contains(word), "{word} in:\n{text}");
        }
        for line in text.lines().skip(1) {
            assert!(line.chars().count() <= 78, "{line}");
        }
    }
}

#[test]
fn every_mark_says_what_is_peculiar() {
    let marks = [
        Mark::PossibleRepeat,
        Mark::Late { by: chrono::TimeDelta::hours(2), because: None },
        Mark::InsteadOf { because: "team-slack could not deliver it: Slack refused: 404".into() },
        Mark::OthersTold { channels: vec!["oncall".into(), "ops".into()] },
        Mark::NotRecorded,
        Mark::HeldBack { n: 3 },
    ];
    let words: Vec<String> = marks.iter().map(Mark::in_words).collect();
    insta::assert_snapshot!(words.join("\n"), @"
    Possible repeat: an earlier attempt to send this may have arrived.
    Told late by 2 h.
    You get this because team-slack could not deliver it: Slack refused: 404.
    Told meanwhile: oncall, ops.
    Not recorded: Lookout can't write to its state directory. This message may come again.
    3 more messages are held back so that you are not flooded. All of it: lookout incidents
    ");
}

#[test]
fn slack_gets_a_header_a_coloured_body_and_literal_quotes() {
    let opening = opened(IncidentKind::ProviderUnavailable);
    let message = compose(&opening, Heard::Nothing(&opening), vec![Mark::PossibleRepeat]);
    let json = serde_json::to_string_pretty(&message::slack(&message)).unwrap();
    insta::assert_snapshot!(json, @r##"
    {
      "attachments": [
        {
          "blocks": [
            {
              "text": {
                "text": "214 of 230 calls failed since 05:04:11 UTC. The fault is on its side, not with your key or your images. 640 images were given back without having lost a try, and will be taken again.",
                "type": "mrkdwn",
                "verbatim": true
              },
              "type": "section"
            },
            {
              "text": {
                "text": "*Do now*\n1. Nothing, if it passes. To look for yourself: `lookout doctor`",
                "type": "mrkdwn",
                "verbatim": true
              },
              "type": "section"
            },
            {
              "fields": [
                {
                  "text": "*Started*\n05:00 UTC",
                  "type": "mrkdwn",
                  "verbatim": true
                },
                {
                  "text": "*Failed*\n214 of 230 calls",
                  "type": "mrkdwn",
                  "verbatim": true
                },
                {
                  "text": "*Result*\n640 given back",
                  "type": "mrkdwn",
                  "verbatim": true
                }
              ],
              "type": "section"
            },
            {
              "text": {
                "text": "*Last error*",
                "type": "mrkdwn",
                "verbatim": true
              },
              "type": "section"
            },
            {
              "elements": [
                {
                  "elements": [
                    {
                      "text": "503 UNAVAILABLE: The model is overloaded. Please try again later.",
                      "type": "text"
                    }
                  ],
                  "type": "rich_text_preformatted"
                }
              ],
              "type": "rich_text"
            },
            {
              "elements": [
                {
                  "text": "Possible repeat: an earlier attempt to send this may have arrived.",
                  "type": "mrkdwn",
                  "verbatim": true
                }
              ],
              "type": "context"
            },
            {
              "elements": [
                {
                  "text": "Lookout tells you when it works again. The next run starts at 06:00 UTC.",
                  "type": "mrkdwn",
                  "verbatim": true
                }
              ],
              "type": "context"
            },
            {
              "elements": [
                {
                  "text": "prod · Incident 142 · prod/image-review/provider_unavailable · message 1 · no more reminders: lookout incident ack 142",
                  "type": "mrkdwn",
                  "verbatim": true
                }
              ],
              "type": "context"
            }
          ],
          "color": "#b45309",
          "fallback": "WARNING prod: Gemini answers 503 again and again (incident 142)"
        }
      ],
      "blocks": [
        {
          "text": {
            "emoji": false,
            "text": "WARNING · Gemini answers 503 again and again",
            "type": "plain_text"
          },
          "type": "header"
        }
      ],
      "text": "WARNING prod: Gemini answers 503 again and again (incident 142)",
      "unfurl_links": false
    }
    "##);
}

#[test]
fn software_gets_fields() {
    let opening = opened(IncidentKind::SignalMissing);
    let message = compose(&opening, Heard::Nothing(&opening), vec![Mark::PossibleRepeat]);
    let json = message::json(&message, "msg_prod_142_1", at("2026-11-22T05:12:01Z"));
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap(), @r#"
    {
      "data": {
        "evidence": [],
        "facts": [
          {
            "label": "Started",
            "value": "05:00 UTC"
          },
          {
            "label": "Ended",
            "value": "05:11:58 UTC"
          }
        ],
        "incident_id": 142,
        "instance": "prod",
        "instead_of": null,
        "key": "prod/image-review/signal_missing",
        "kind": "signal_missing",
        "late_seconds": 0,
        "next": "The next run starts at 06:00 UTC.",
        "notes": [
          "Possible repeat: an earlier attempt to send this may have arrived."
        ],
        "number": 1,
        "opened_at": "2026-11-22T05:12:00Z",
        "possible_repeat": true,
        "resolved_at": null,
        "run": "0199a0c4-5e00-7c3a-9a51-1f2e3d4c5b6a",
        "schedule": "image-review",
        "severity": "critical",
        "state": "open",
        "steps": [
          {
            "command": "lookout runs show 0199a0c4-5e00-7c3a-9a51-1f2e3d4c5b6a --log",
            "text": "See what the run printed:"
          },
          {
            "command": "lookout run image-review",
            "text": "Run it again, if the next run is too far away:"
          }
        ],
        "text": "It ended at 05:11:58 UTC (exit code 0) without saying “Bulk processing completed.”. Its results may be incomplete.",
        "title": "CRITICAL prod: the 05:00 run of image-review ended without saying that it was done (incident 142)"
      },
      "id": "msg_prod_142_1",
      "timestamp": "2026-11-22T05:12:00Z",
      "type": "lookout.incident.opened"
    }
    "#);
}

/// Everything that an error text can try: mentions, links, marks, code fences, HTML, headers.
const HOSTILE: &str =
    "<!channel> <http://evil|bank> *b* ``` & <img src=x onerror=alert(1)>\r\nBcc: a@b";

fn hostile(detail: &str) -> Message {
    let mut news = opened(IncidentKind::RunFailed);
    news.facts.detail = Some(detail.into());
    news.facts.ending = Some(detail.into());
    news.facts.also = vec![detail.into(); 30];
    news.facts.log_tail = vec![detail.into(); 500];
    let news = message::redacted(&news, &Redactor::default());
    compose(&news, Heard::Nothing(&news), vec![])
}

/// All strings of a JSON value.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(fields) => fields.values().flat_map(strings).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => vec![],
    }
}

#[test]
fn a_hostile_text_pings_nobody_and_runs_nothing() {
    let message = hostile(HOSTILE);
    let html = message::html(&message);
    assert!(!html.contains("<img"), "{html}");
    assert!(html.contains("&lt;img src=x"), "{html}");
    let slack = message::slack(&message);
    for mrkdwn in mrkdwn_of(&slack) {
        assert!(!mrkdwn.contains("<!"), "{mrkdwn}");
        assert!(!mrkdwn.contains("<http"), "{mrkdwn}");
    }
    assert!(!slack["text"].as_str().unwrap().contains("<!channel>"));
    assert!(!message.subject.contains('\n') && !message.headline().contains('\n'));
}

fn mrkdwn_of(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().flat_map(mrkdwn_of).collect(),
        Value::Object(fields) => {
            if fields.get("type").and_then(|it| it.as_str()) == Some("mrkdwn") {
                return strings(&fields["text"]);
            }
            fields.values().flat_map(mrkdwn_of).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![],
    }
}

#[test]
fn long_and_odd_texts_keep_every_limit() {
    let odd = format!("{}\u{0}{}{}", "&".repeat(3000), "😀".repeat(3000), "x".repeat(1_000_000));
    for text in [odd.as_str(), HOSTILE, &"<".repeat(5000), &"a b ".repeat(9000)] {
        let message = hostile(text);
        let slack = message::slack(&message);
        let blocks = slack["attachments"][0]["blocks"].as_array().unwrap();
        let header = slack["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(header.chars().count() <= 150 && !header.is_empty());
        assert!(blocks.len() <= 40);
        for text in mrkdwn_of(&slack) {
            assert!(text.chars().count() <= 2800 && !text.is_empty(), "{text}");
            assert!(!text.ends_with("&am") && !text.ends_with("&a…") && !text.contains('\0'));
        }
        let n_chars: usize = mrkdwn_of(&slack).iter().map(|it| it.chars().count()).sum();
        let quoted: usize = message.evidence.iter().map(|it| it.text.chars().count()).sum();
        assert!(n_chars + quoted.min(3000) + header.len() <= 8000, "{n_chars} + {quoted}");
        assert!(message::plain(&message).len() + message::html(&message).len() < 100_000);
        let json = message::json(&message, "msg_1", at("2026-11-22T05:12:00Z")).to_string();
        assert!(json.len() < 20_000, "{}", json.len());
    }
}

#[test]
fn secrets_that_slipped_into_facts_do_not_leave() {
    let mut news = opened(IncidentKind::RunFailed);
    let key = format!("AIza{}", "q".repeat(35));
    let slip = format!("POST https://hooks.slack.com/services/T0/B0/xyz?key={key} hunter-two-22");
    news.facts = Facts {
        detail: Some(slip.clone()),
        ending: Some(slip.clone()),
        also: vec![slip.clone()],
        log_tail: vec![slip],
        ..news.facts
    };
    let redactor = Redactor::new([lookout::secret::Secret::new("hunter-two-22")]);
    let news = message::redacted(&news, &redactor);
    let message = compose(&news, Heard::Nothing(&news), vec![]);
    for text in [
        format!("{message:?}"),
        message::plain(&message),
        message::html(&message),
        message::slack(&message).to_string(),
    ] {
        for secret in [key.as_str(), "T0/B0/xyz", "hunter-two-22"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
