//! How people learn that the way to them is broken: told by the others, once, and over only when a
//! message was accepted.

use std::time::Duration;

use lookout::alert::channel::{Arrival, ConfiguredChannel, Scope, SendError};
use lookout::alert::health::ChannelState;
use lookout::watch::Severity;

use crate::alert::world::{Script, World, broken, channel, refused, refused_connection};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn doubtful() -> SendError {
    SendError::Doubtful { reason: "the webhook refused: 403".into() }
}

fn throttled() -> SendError {
    SendError::Throttled { reason: "429".into(), retry_after: None, arrival: Arrival::No }
}

fn lost() -> SendError {
    SendError::Transient { reason: "500".into(), arrival: Arrival::Unknown }
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_does_not_get_through_is_an_incident_that_the_others_tell() {
    let (slack, mail) = (Script::failing(broken()), Script::accepting(vec![]));
    let mut world = World::new(vec![channel("slack", &slack), channel("mail", &mail)]);
    world.report_channels();
    world.open(Severity::Critical).await;
    world.pass(MINUTE).await;
    world.restart();
    world.report_channels();
    slack.will_accept();
    world.pass(2 * HOUR).await;
    assert_eq!(
        mail.headlines(),
        [
            "CRITICAL prod: the 05:00 run of image-review did not start (incident 1)",
            "CRITICAL prod: messages by slack do not get through (incident 2)",
            "RESOLVED prod: messages by slack get through again (incident 2)",
        ]
    );
    assert_eq!(slack.n_accepted(), 1, "it need not be told about itself");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_a_moment_is_no_incident() {
    let (slack, mail) = (Script::failing(refused_connection()), Script::accepting(vec![]));
    let mut world = World::new(vec![channel("slack", &slack), channel("mail", &mail)]);
    world.report_channels();
    world.open(Severity::Critical).await;
    world.pass(14 * MINUTE).await;
    assert_eq!(mail.n_accepted(), 1);
    world.pass(2 * MINUTE).await;
    assert!(mail.headlines()[1].contains("messages are late"), "{:?}", mail.headlines());
}

#[tokio::test(start_paused = true)]
async fn a_broken_channel_is_not_called_well_because_a_probe_meets_another_error() {
    for other in [refused_connection(), lost(), throttled(), doubtful(), refused(Scope::Message)] {
        let slack = Script::failing(broken());
        let mail = Script::accepting(vec![]);
        let mut world = World::new(vec![channel("slack", &slack), channel("mail", &mail)]);
        world.report_channels();
        world.open(Severity::Critical).await;
        world.pass(MINUTE).await;
        slack.will_fail(other.clone());
        world.pass(HOUR).await;
        slack.will_fail(broken());
        world.pass(HOUR).await;
        let about_slack: Vec<String> =
            mail.headlines().into_iter().filter(|it| it.contains("messages by slack")).collect();
        assert_eq!(
            about_slack,
            ["CRITICAL prod: messages by slack do not get through (incident 2)"],
            "{other:?}"
        );
        assert!(!mail.headlines().iter().any(|it| it.contains("late")), "{:?}", mail.headlines());
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_refuses_everything_is_told_once_whatever_is_tried_next() {
    let hook = Script::failing(doubtful());
    let mail = Script::accepting(vec![]);
    let mut world = World::new(vec![channel("hook", &hook), channel("mail", &mail)]);
    world.report_channels();
    world.open(Severity::Critical).await;
    world.pass(2 * HOUR).await;
    world.open_for("other", Severity::Critical).await;
    world.pass(2 * HOUR).await;
    let about = mail.headlines().into_iter().filter(|it| it.contains("messages by hook"));
    assert_eq!(about.count(), 1, "{:?}", mail.headlines());
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_holds_up_no_other_and_is_told_on_every_channel() {
    let hook = Script::accepting(vec![]);
    hook.will_refuse(|message, _| {
        let is_poison = message.about.as_ref()?.schedule.as_deref() == Some("poison");
        is_poison.then(|| refused(Scope::Message))
    });
    let mail = Script::accepting(vec![]);
    let mut world = World::new(vec![channel("hook", &hook), channel("mail", &mail)]);
    world.report_channels();
    world.open_for("poison", Severity::Critical).await;
    world.pass(2 * MINUTE).await;
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        world.open_for(name, Severity::Critical).await;
        world.pass(Duration::from_secs(10)).await;
        let found = hook.headlines().iter().filter(|it| it.contains(&format!("of {name}"))).count();
        assert_eq!(found, 1, "{n}: {:?}", hook.headlines());
    }
    let refusal = "CRITICAL prod: hook refuses some messages (incident 2)";
    for script in [&hook, &mail] {
        let n = script.headlines().iter().filter(|it| *it == refusal).count();
        assert_eq!(n, 1, "{:?}", script.headlines());
    }
    assert!(!mail.headlines().iter().any(|it| it.contains("do not get through")));
    let attempts = hook.attempts.lock().unwrap();
    let of_poison = |it: &&(lookout::alert::message::Message, _)| {
        it.0.about.as_ref().and_then(|it| it.schedule.as_deref()) == Some("poison")
    };
    assert!(attempts.iter().filter(of_poison).count() >= 4, "it goes on at its own pace");
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_goes_to_the_fallback() {
    let hook = Script::failing(refused(Scope::Message));
    let mail = Script::accepting(vec![]);
    let with_fallback =
        ConfiguredChannel { fallback: Some("mail".into()), ..channel("hook", &hook) };
    let for_the_worst =
        ConfiguredChannel { severity: Severity::Critical, ..channel("mail", &mail) };
    let mut world = World::new(vec![with_fallback, for_the_worst]);
    world.open(Severity::Warning).await;
    world.pass(MINUTE).await;
    assert_eq!(mail.n_accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_recipient_is_told_once_to_the_others() {
    let mail = Script::to(&["a@x.test", "b@x.test"], vec![]);
    mail.will_refuse(|_, to| (to == "a@x.test").then(|| refused(Scope::Recipient)));
    let slack = Script::accepting(vec![]);
    let mut world = World::new(vec![channel("mail", &mail), channel("slack", &slack)]);
    world.report_channels();
    for name in ["one", "two"] {
        world.open_for(name, Severity::Critical).await;
        world.pass(2 * MINUTE).await;
    }
    let refusal = "CRITICAL prod: mail refuses a@x.test (incident 2)";
    for script in [&mail, &slack] {
        let headlines = script.headlines();
        assert_eq!(headlines.iter().filter(|it| *it == refusal).count(), 1, "{headlines:?}");
        assert_eq!(headlines.len(), 3, "{headlines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_refuses_all_its_recipients_is_broken_and_loses_no_message() {
    let mail = Script::to(&["a@x.test", "b@x.test"], vec![]);
    mail.will_refuse(|_, _| Some(refused(Scope::Recipient)));
    let mut world = World::new(vec![channel("mail", &mail)]);
    world.open(Severity::Critical).await;
    world.pass(5 * MINUTE).await;
    assert!(matches!(world.state(0), ChannelState::Broken { .. }));
    assert_eq!(world.backlog().await, (2, 0));
    mail.will_refuse(|_, _| None);
    world.pass(31 * MINUTE).await;
    assert_eq!(mail.n_accepted(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_channel_that_breaks_is_told() {
    let (slack, mail) = (Script::failing(broken()), Script::accepting(vec![]));
    let hook = Script::accepting(vec![]);
    let mut world =
        World::new(vec![channel("slack", &slack), channel("mail", &mail), channel("hook", &hook)]);
    world.report_channels();
    world.open(Severity::Critical).await;
    world.pass(MINUTE).await;
    mail.will_fail(broken());
    world.open_for("other", Severity::Critical).await;
    world.pass(MINUTE).await;
    for name in ["slack", "mail"] {
        let text = format!("messages by {name} do not get through");
        let n = hook.headlines().iter().filter(|it| it.contains(&text)).count();
        assert_eq!(n, 1, "{:?}", hook.headlines());
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_channel_that_is_removed_does_not_get_through_again() {
    let (slack, mail) = (Script::failing(broken()), Script::accepting(vec![]));
    let mut world = World::new(vec![channel("slack", &slack), channel("mail", &mail)]);
    world.report_channels();
    world.open(Severity::Critical).await;
    world.pass(MINUTE).await;
    world.restart_with(vec![channel("mail", &mail)]);
    world.report_channels();
    world.pass(MINUTE).await;
    assert_eq!(
        mail.headlines().last().unwrap(),
        "RESOLVED prod: slack is no longer configured; its open incident is closed (incident 2)"
    );
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_held_back_on_purpose_are_not_late() {
    let slack = Script::accepting(vec![]);
    let mut world = World::new(vec![channel("slack", &slack)]);
    world.report_channels();
    for n in 0..40 {
        world.open_for(&format!("job-{n}"), Severity::Warning).await;
    }
    world.pass(50 * MINUTE).await;
    assert!(!slack.headlines().iter().any(|it| it.contains("late")), "{:?}", slack.headlines());
}

#[tokio::test(start_paused = true)]
async fn an_old_message_is_not_late_before_its_attempt() {
    let mail = Script::failing(refused_connection());
    let mut world = World::new(vec![channel("mail", &mail)]);
    world.open(Severity::Critical).await;
    world.settle().await;
    tokio::time::advance(40 * MINUTE).await;
    mail.will_accept();
    world.restart();
    world.report_channels();
    world.pass(MINUTE).await;
    assert_eq!(mail.headlines().len(), 1, "{:?}", mail.headlines());
}

#[tokio::test(start_paused = true)]
async fn what_failed_goes_out_as_soon_as_another_message_gets_through() {
    let mail = Script::failing(refused_connection());
    let mut world = World::new(vec![channel("mail", &mail)]);
    world.open(Severity::Critical).await;
    world.pass(HOUR).await;
    mail.will_accept();
    world.open_for("new", Severity::Critical).await;
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(mail.n_accepted(), 2, "{:?}", mail.headlines());
}
