//! How messages get through: at least once, marked when perhaps twice, by another way if need be.

use std::time::Duration;

use lookout::alert::channel::{Arrival, ConfiguredChannel, Scope, SendError};
use lookout::alert::health::ChannelState;
use lookout::alert::message::Annotation;
use lookout::alert::outbox::{Outbox, Replayed};
use lookout::watch::{IncidentKind, Severity};
use tokio_util::sync::CancellationToken;

use crate::alert::news::opened;
use crate::alert::world::{
    Act, Script, World, broken, channel, is_marked_as_repeat, notes, refused, refused_connection,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn each_change_is_told_once_to_every_channel_and_not_again_after_a_restart() {
    let (slack, mail) = (Script::accepting(vec![]), Script::accepting(vec![]));
    let mut world = World::new(vec![channel("slack", &slack), channel("mail", &mail)]);
    world.open(Severity::Critical).await;
    world.settle().await;
    world.restart();
    world.settle().await;
    world.resolve().await;
    world.settle().await;
    world.restart();
    world.pass(HOUR).await;
    for script in [slack, mail] {
        assert_eq!(
            script.headlines(),
            [
                "CRITICAL prod: the 05:00 run of image-review did not start (incident 1)",
                "RESOLVED prod: image-review starts again (incident 1)"
            ]
        );
        assert_eq!(script.n_attempts(), 2);
    }
    assert_eq!(world.backlog().await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_was_down_for_two_hours_tells_it_once_and_says_how_late() {
    let (slack, mail) = (Script::accepting(vec![]), Script::failing(refused_connection()));
    let mut world = World::new(vec![channel("slack", &slack), channel("mail", &mail)]);
    world.open(Severity::Critical).await;
    world.pass(2 * HOUR).await;
    assert_eq!(slack.n_accepted(), 1);
    assert!(matches!(world.state(1), ChannelState::Failing { .. }));
    mail.will_accept();
    world.pass(37 * MINUTE).await;
    assert_eq!(mail.n_accepted(), 1);
    let (message, _) = mail.accepted(0);
    assert!(notes(&message).contains("Told late by 2 h"), "{}", notes(&message));
    assert!(notes(&message).contains("connection refused"));
    assert!(!is_marked_as_repeat(&message), "a refused connection brings nothing");
    assert!(mail.n_attempts() < 16, "{} attempts in two hours", mail.n_attempts());
    assert_eq!(slack.n_accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_could_not_hear_the_beginning_hears_both_at_once() {
    let mail = Script::failing(refused_connection());
    let mut world = World::new(vec![channel("mail", &mail)]);
    world.open(Severity::Critical).await;
    world.pass(HOUR).await;
    world.resolve().await;
    world.pass(10 * MINUTE).await;
    mail.will_accept();
    world.pass(40 * MINUTE).await;
    assert_eq!(
        mail.headlines(),
        ["RESOLVED prod: the 05:00 run of image-review did not start; that is over (incident 1)"]
    );
    assert!(notes(&mail.accepted(0).0).contains("Told late by 1 h"));
    assert_eq!(world.backlog().await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_was_never_to_be_told_is_not_told_that_it_is_over() {
    let script = Script::accepting(vec![]);
    let critical = ConfiguredChannel { severity: Severity::Critical, ..channel("c", &script) };
    let mut world = World::new(vec![critical]);
    world.open(Severity::Warning).await;
    world.settle().await;
    world.resolve().await;
    world.settle().await;
    assert!(script.headlines().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_to_slow_down_holds_the_whole_channel() {
    let slow = || {
        Act::Fail(SendError::Throttled {
            reason: "429".into(),
            retry_after: Some(2 * MINUTE),
            arrival: Arrival::No,
        })
    };
    let slack = Script::accepting(vec![slow(), slow()]);
    let mut world = World::new(vec![channel("slack", &slack)]);
    world.open_for("a", Severity::Critical).await;
    world.settle().await;
    world.open_for("b", Severity::Critical).await;
    world.pass(5 * MINUTE).await;
    let times: Vec<i64> =
        slack.attempts.lock().unwrap().iter().map(|(_, it)| it.at.timestamp()).collect();
    assert_eq!(times.len(), 4);
    assert!(times[1] - times[0] >= 120 && times[2] - times[1] >= 120, "{times:?}");
    assert_eq!(slack.n_accepted(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_broken_channel_is_told_by_its_fallback_at_once_and_probed_after_half_an_hour() {
    let (slack, mail) = (Script::failing(broken()), Script::accepting(vec![]));
    let slack_channel =
        ConfiguredChannel { fallback: Some("mail".into()), ..channel("slack", &slack) };
    // The mail is only for the worst, and for what Slack can't tell.
    let mail_channel = ConfiguredChannel { severity: Severity::Critical, ..channel("mail", &mail) };
    let mut world = World::new(vec![slack_channel, mail_channel]);
    world.open(Severity::Warning).await;
    world.settle().await;
    assert_eq!(slack.n_attempts(), 1);
    assert_eq!(mail.n_accepted(), 1);
    let (message, _) = mail.accepted(0);
    assert_eq!(
        notes(&message),
        "You get this because slack could not deliver it: Slack refused: 404 no_service."
    );
    let ChannelState::Broken { reason, .. } = world.state(0) else { panic!("not broken") };
    assert_eq!(reason, "Slack refused: 404 no_service");
    world.pass(29 * MINUTE).await;
    assert_eq!(slack.n_attempts(), 1, "no probe before its time");
    slack.will_accept();
    world.pass(2 * MINUTE).await;
    assert_eq!(slack.n_accepted(), 1);
    assert_eq!(world.state(0), ChannelState::Working);
    let late = notes(&slack.accepted(0).0);
    assert!(late.contains("Told meanwhile: mail."), "{late}");
    world.resolve().await;
    world.settle().await;
    assert_eq!(slack.n_accepted() + mail.n_accepted(), 4, "both hear the end");
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_stays_silent_for_three_minutes_is_told_by_its_fallback() {
    let (slack, mail) = (Script::failing(refused_connection()), Script::accepting(vec![]));
    let slack_channel =
        ConfiguredChannel { fallback: Some("mail".into()), ..channel("slack", &slack) };
    let mail_channel = ConfiguredChannel { severity: Severity::Critical, ..channel("mail", &mail) };
    let mut world = World::new(vec![slack_channel, mail_channel]);
    world.open(Severity::Warning).await;
    world.pass(2 * MINUTE).await;
    assert_eq!(mail.n_accepted(), 0);
    world.pass(2 * MINUTE).await;
    assert_eq!(mail.n_accepted(), 1);
    world.pass(HOUR).await;
    assert_eq!(mail.n_accepted(), 1, "once is enough");
    assert!(slack.n_attempts() > 5, "it goes on trying");
}

#[tokio::test(start_paused = true)]
async fn a_death_between_acceptance_and_the_row_repeats_with_the_same_id_and_says_so() {
    let slack = Script::accepting(vec![Act::AcceptAndHang]);
    let mut world = World::new(vec![channel("slack", &slack)]);
    world.open(Severity::Critical).await;
    world.step_and_die().await;
    world.settle().await;
    let ((first, sent), (second, again)) = (slack.accepted(0), slack.accepted(1));
    assert_eq!(slack.n_accepted(), 2);
    assert_eq!(sent.id, again.id);
    assert!(!is_marked_as_repeat(&first));
    assert!(is_marked_as_repeat(&second));
    world.restart();
    world.pass(HOUR).await;
    assert_eq!(slack.n_accepted(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_makes_the_next_attempt_a_possible_repeat() {
    let lost = SendError::Transient { reason: "broke off".into(), arrival: Arrival::Unknown };
    let slack = Script::accepting(vec![Act::Fail(refused_connection()), Act::Fail(lost)]);
    let mut world = World::new(vec![channel("slack", &slack)]);
    world.open(Severity::Critical).await;
    world.pass(2 * MINUTE).await;
    let attempts = slack.attempts.lock().unwrap();
    let marked: Vec<bool> = attempts.iter().map(|(it, _)| is_marked_as_repeat(it)).collect();
    assert_eq!(marked, [false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_storm_is_held_back_and_says_so_but_what_is_critical_gets_through() {
    let slack = Script::accepting(vec![]);
    let mut world = World::new(vec![channel("slack", &slack)]);
    for n in 0..40 {
        world.open_for(&format!("job-{n}"), Severity::Warning).await;
    }
    world.pass(MINUTE).await;
    assert_eq!(slack.n_accepted(), 15);
    world.open_for("worst", Severity::Critical).await;
    world.settle().await;
    assert_eq!(slack.n_accepted(), 16);
    let note = notes(&slack.accepted(15).0);
    assert!(note.contains("25 more messages are held back"), "{note}");
    world.pass(4 * HOUR).await;
    assert_eq!(slack.n_accepted(), 41, "nothing was lost");
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_can_be_seen_and_sent_again() {
    let mail = Script::failing(refused_connection());
    let mut world = World::new(vec![channel("mail", &mail)]);
    world.open(Severity::Warning).await;
    world.settle().await;
    for _ in 0..26 {
        tokio::time::advance(HOUR / 2).await;
        world.settle().await;
    }
    assert_eq!(world.backlog().await, (0, 1));
    let dead = world.db.dead().await.unwrap().remove(0);
    assert!(dead.reason.starts_with("not delivered within 12 h"), "{}", dead.reason);
    mail.will_accept();
    assert_eq!(world.db.replay("nonsense", world.now()).await.unwrap(), Replayed::Unknown);
    assert_eq!(world.db.replay(&dead.id, world.now()).await.unwrap(), Replayed::Queued);
    world.settle().await;
    assert_eq!(mail.n_accepted(), 1);
    assert_eq!(mail.accepted(0).1.id, dead.id);
    assert!(is_marked_as_repeat(&mail.accepted(0).0));
    assert_eq!(world.db.replay(&dead.id, world.now()).await.unwrap(), Replayed::NotDead);
}

#[tokio::test(start_paused = true)]
async fn after_a_long_downtime_everything_gets_at_least_one_attempt() {
    let mail = Script::accepting(vec![]);
    let mut world = World::new(vec![channel("mail", &mail)]);
    world.open(Severity::Warning).await;
    tokio::time::advance(72 * HOUR).await;
    world.settle().await;
    assert_eq!(mail.n_accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_refused_recipient_costs_the_others_nothing() {
    let mail = Script::to(&["a@x.test", "b@x.test", "c@x.test"], vec![]);
    mail.will_refuse(|_, to| (to == "a@x.test").then(|| refused(Scope::Recipient)));
    let mut world = World::new(vec![channel("mail", &mail)]);
    world.open(Severity::Critical).await;
    world.settle().await;
    assert_eq!(mail.n_accepted(), 2, "at once");
    world.pass(MINUTE).await;
    assert_eq!(mail.n_accepted(), 2);
    assert_eq!(mail.n_attempts(), 5, "three for the one who is refused");
    assert_eq!(world.backlog().await, (0, 1));
    assert_eq!(world.state(0), ChannelState::Working);
    let ids: Vec<String> = (0..2).map(|n| mail.accepted(n).1.id).collect();
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test(start_paused = true)]
async fn messages_for_a_channel_that_is_gone_do_not_vanish() {
    let (old, new) = (Script::failing(refused_connection()), Script::accepting(vec![]));
    let mut world = World::new(vec![channel("old", &old)]);
    world.open(Severity::Critical).await;
    world.settle().await;
    world.restart_with(vec![channel("new", &new)]);
    world.settle().await;
    let dead = world.db.dead().await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].reason, "the channel old is no longer configured");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_written_delays_no_message_and_repeats_none() {
    let (slack, mail) = (Script::accepting(vec![]), Script::accepting(vec![]));
    let mut world = World::new(vec![channel("slack", &slack), channel("mail", &mail)]);
    world.open(Severity::Critical).await;
    world.write_protect("on").await;
    world.pass(MINUTE).await;
    for script in [&slack, &mail] {
        assert_eq!(script.n_accepted(), 1);
        assert!(notes(&script.accepted(0).0).starts_with("Not recorded"));
    }
    world.pass(10 * MINUTE).await;
    world.write_protect("off").await;
    world.pass(10 * MINUTE).await;
    assert_eq!(slack.n_accepted() + mail.n_accepted(), 2, "recovery repeats nothing");
    assert_eq!(world.backlog().await, (0, 0));
    world.restart();
    world.pass(MINUTE).await;
    assert_eq!(slack.n_accepted() + mail.n_accepted(), 2);
    world.resolve().await;
    world.settle().await;
    assert_eq!(slack.headlines()[1], "RESOLVED prod: image-review starts again (incident 1)");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fills_up_between_claim_and_row_repeats_nothing() {
    let slack = Script::accepting(vec![Act::Fail(refused_connection())]);
    let mut world = World::new(vec![channel("slack", &slack)]);
    world.open(Severity::Critical).await;
    world.settle().await;
    assert_eq!(slack.n_accepted(), 0, "claimed and failed once");
    world.write_protect("on").await;
    world.pass(5 * MINUTE).await;
    assert_eq!(slack.n_accepted(), 1);
    world.write_protect("off").await;
    world.pass(5 * MINUTE).await;
    world.restart();
    world.pass(5 * MINUTE).await;
    assert_eq!(slack.n_accepted(), 1);
    assert_eq!(world.backlog().await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_watchdog_could_not_record_is_told_all_the_same() {
    let (slack, mail) = (Script::failing(broken()), Script::accepting(vec![]));
    let slack_channel =
        ConfiguredChannel { fallback: Some("mail".into()), ..channel("slack", &slack) };
    let mail_channel = ConfiguredChannel { severity: Severity::Critical, ..channel("mail", &mail) };
    let mut world = World::new(vec![slack_channel, mail_channel]);
    let mut news = opened(IncidentKind::RunStalled);
    news.id = 0;
    assert!(world.handle().notify_unpersisted(news));
    world.pass(MINUTE).await;
    assert_eq!(slack.n_attempts(), 1);
    assert_eq!(mail.n_accepted(), 1);
    let note = notes(&mail.accepted(0).0);
    assert!(note.contains("Not recorded") && note.contains("slack could not deliver it"), "{note}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_stretches_no_wait() {
    let slack = Script::accepting(vec![Act::Fail(refused_connection())]);
    let mut world = World::new(vec![channel("slack", &slack)]);
    world.open(Severity::Critical).await;
    world.settle().await;
    world.clock.step_wall(chrono::TimeDelta::hours(-3));
    world.pass(MINUTE).await;
    assert_eq!(slack.n_accepted(), 1);
    assert!(
        !slack.accepted(0).0.annotations.iter().any(|it| matches!(it, Annotation::Late { .. }))
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_for_another_channel_and_the_end_delivers_what_is_due() {
    let (slack, mail) = (Script::accepting(vec![Act::AcceptAndHang]), Script::accepting(vec![]));
    let mut world = World::new(vec![channel("slack", &slack), channel("mail", &mail)]);
    world.open(Severity::Critical).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.take_dispatcher().run(stop.clone()));
    while slack.n_accepted() == 0 || mail.n_accepted() == 0 {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.resolve().await;
    let stopped_at = tokio::time::Instant::now();
    stop.cancel();
    running.await.unwrap();
    assert!(stopped_at.elapsed() <= Duration::from_secs(12), "{:?}", stopped_at.elapsed());
    assert_eq!(mail.n_accepted(), 2, "the last news went out before the end");
    world.settle().await;
    assert!(slack.headlines().last().unwrap().starts_with("RESOLVED"));
    assert!(is_marked_as_repeat(&slack.accepted(slack.n_accepted() - 1).0));
}

#[tokio::test(start_paused = true)]
async fn two_faults_of_the_same_second_that_nobody_could_record_are_both_told() {
    let slack = Script::accepting(vec![]);
    let mut world = World::new(vec![channel("slack", &slack)]);
    for kind in [IncidentKind::RunStalled, IncidentKind::OutboxDegraded] {
        let mut news = opened(kind);
        news.id = 0;
        news.incident.id = 0;
        assert!(world.handle().notify_unpersisted(news));
    }
    world.pass(MINUTE).await;
    assert_eq!(
        slack.headlines(),
        [
            "WARNING prod: the 05:00 run of image-review stands still",
            "CRITICAL prod: messages are late, or can't be written down",
        ]
    );
}
