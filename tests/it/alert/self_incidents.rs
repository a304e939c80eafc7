//! What people read when Lookout itself is the trouble: a part that stands still, a file that can't be
//! used, a downtime by its reason; and a backlog that grows.

use lookout::alert::message::{self, AlreadyNotified, compose};
use lookout::watch::{DowntimeCause, IncidentKind};

use crate::alert::news::{opened, resolved};

/// Opening and end, one under the other.
fn told(kind: IncidentKind) -> String {
    let opening = opened(kind);
    let end = resolved(&opening);
    let open = compose(&opening, AlreadyNotified::No(&opening), vec![]);
    let over = compose(&end, AlreadyNotified::Yes, vec![]);
    format!("{}\n{}\n{}", open.subject, message::plain(&open), over.headline())
}

#[test]
fn a_part_that_stands_still() {
    insta::assert_snapshot!(told(IncidentKind::LookoutImpaired), @"
    Lookout prod: a part of Lookout stands still (incident 142)
    WARNING prod: a part of Lookout stands still: the scheduler tick (incident
    142)

    Runs that go on are kept and judged all the same. New ones may start late, or
    not at all.

    Do now
      1. See what moves and what does not:
           lookout status
      2. If it does not pass: restart Lookout. Runs that go on are not touched.

    Due: 05:00 UTC

    What stands still
      | the scheduler tick has not moved for 6 s

    The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/lookout_impaired · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: every part of Lookout moves again (incident 142)
    ");
}

#[test]
fn a_file_that_can_not_be_used() {
    insta::assert_snapshot!(told(IncidentKind::ConfigurationBroken), @r#"
    Lookout prod: schedules/nightly.toml can't be used (incident 142)
    WARNING prod: schedules/nightly.toml can't be used as it is now (incident 142)

    What was read from it before still holds; a file that is new has no effect.
    All other files are in use as they are.

    Do now
      1. See what is wrong, with the line:
           lookout check
      2. Correct the file. Lookout reads it again by itself.

    Due: 05:00 UTC

    What is wrong
      | schedules/nightly.toml:3: time_box: "45x" is no time

    The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/configuration_broken · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: the configuration is right again (incident 142)
    "#);
}

#[test]
fn a_backlog_that_grows() {
    insta::assert_snapshot!(told(IncidentKind::BacklogGrowing), @"
    Lookout prod: the backlog of image-review grows (incident 142)
    WARNING prod: the backlog of image-review grows with every run: 3,100 left
    (incident 142)

    Every run works, but more comes in than one run gets done. Nothing is lost; it
    waits longer and longer.

    Do now
      1. See what the runs get done:
           lookout history
      2. Let it run oftener or longer (cron, time_box), or raise [reviewer]
         max_in_flight.

    Started: 05:00 UTC
    Ended: 05:11:58 UTC
    Result: 900 reviewed, 3,100 left

    How it grew
      | left after the last 6 runs: 1240, 1500, 1910, 2300, 2710, 3100

    The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/backlog_growing · message 1
    No more reminders: lookout incident ack 142

    RESOLVED prod: the backlog of image-review no longer grows (incident 142)
    ");
}

#[test]
fn a_downtime_is_called_what_it_was() {
    for (away, what) in [
        (DowntimeCause::Down, "Lookout itself was not running"),
        (DowntimeCause::Suspended, "the machine was asleep"),
        (DowntimeCause::ClockSet, "the clock of the machine was set forward"),
        (DowntimeCause::HeldUp, "Lookout stood still"),
    ] {
        let mut news = opened(IncidentKind::WasBlind);
        news.facts.downtime_cause = Some(away);
        let message = compose(&news, AlreadyNotified::No(&news), vec![]);
        assert_eq!(message.headline(), format!("INFO prod: {what} (incident 142)"));
    }
}
