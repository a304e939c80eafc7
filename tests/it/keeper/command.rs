//! A keeper holds a command: what it prints, how it ends, and that nothing of it is left.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use lookout::rundir::{Event, Signal, Stall, StopReason, Stream, Work};
use rustix::process::{Pid, Signal as UnixSignal, kill_process};

use crate::keeper::harness::{Keeper, SIGNAL, command, keep, pattern, shell};

#[tokio::test]
async fn a_run_is_told_from_its_start_to_its_end() {
    let order = shell(
        "echo '::lookout::progress done=3 total=9 unit=images'
         echo '::lookout::problem kind=provider_unavailable provider=gemini status=503 count=7 detail=\"no answer\"'
         echo '::lookout::totals succeeded=2 errored=1 usd=0.5'
         echo 'not for the keeper: ::lookout::note text=x'
         printf 'Bulk processing com'; printf 'pleted.'",
    );
    let kept = keep(&order).await;
    assert!(kept.is_success);
    assert_eq!(kept.exit(), (Some(0), None));
    let started = kept.position(|event| matches!(event, Event::JobStarted { job: Some(_), .. }));
    let signal =
        kept.position(|event| matches!(event, Event::Signal { stream: Stream::Stdout, .. }));
    assert!(started < signal);
    assert!(
        kept.has(
            |event| *event == Event::Progress { done: 3, total: Some(9), unit: "images".into() }
        )
    );
    assert!(kept.has(|event| matches!(event, Event::Totals { usd: Some(_), .. })));
    assert!(!kept.has(|event| matches!(event, Event::Note { .. })));
    assert_eq!(
        kept.problems(),
        vec![("provider_unavailable", Some("gemini"), Some(503), "no answer")]
    );
    assert!(kept.directory.read_log().unwrap().head.ends_with(SIGNAL));
}

#[tokio::test]
async fn a_signal_that_comes_in_halves_with_a_pause_between_them_is_one() {
    let mut order = shell("printf 'Bulk processing com'; sleep 1.5; printf 'pleted.'");
    order.patterns.push(pattern("ERROR", "failure"));
    assert!(keep(&order).await.has_signal());
    let halves = shell("printf 'Bulk processing com'; printf 'pleted.' >&2");
    assert!(!keep(&halves).await.has_signal());
}

#[tokio::test]
async fn the_exit_is_told_as_it_was() {
    let kept = keep(&shell("echo 'Bulk processing completed.'; exit 7")).await;
    assert_eq!(kept.exit(), (Some(7), None));
    assert!(kept.has_signal());
    let kept = keep(&shell("kill -KILL $$")).await;
    assert_eq!(kept.exit(), (None, Some(9)));
    let kept = keep(&shell("true")).await;
    assert_eq!(kept.exit(), (Some(0), None));
    assert!(!kept.has_signal());
}

#[tokio::test]
async fn what_can_not_be_started_says_why() {
    let mut no_directory = shell("true");
    let mut no_variable = shell("true");
    let mut no_user = shell("true");
    if let Work::Command { cwd, .. } = &mut no_directory.work {
        *cwd = "/no/such/place".into();
    }
    if let Work::Command { env, .. } = &mut no_variable.work {
        env.insert("A".into(), "${LOOKOUT_TEST_NO_SUCH_VARIABLE}".into());
    }
    if let Work::Command { user, .. } = &mut no_user.work {
        *user = Some("no-such-user".into());
    }
    for (order, reason) in [
        (command(&["/no/such/program"]), "No such file"),
        (command(&["/etc/passwd"]), "ermission denied"),
        (command(&[]), "`argv` is empty"),
        (no_directory, "`/no/such/place` does not exist"),
        (no_variable, "`LOOKOUT_TEST_NO_SUCH_VARIABLE` is not set"),
        (no_user, "no user `no-such-user`"),
    ] {
        let kept = keep(&order).await;
        assert!(kept.is_success, "the keeper did its work");
        assert!(
            kept.has(
                |event| matches!(event, Event::CouldNotStart { error } if error.contains(reason))
            ),
            "{reason}: {:#?}",
            kept.entries
        );
        assert_eq!(kept.entries.len(), 3, "{:#?}", kept.entries);
    }
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipe_is_not_waited_for() {
    let kept = keep(&shell("sleep 300 & echo 'Bulk processing completed.'")).await;
    assert!(kept.has_signal());
    assert_eq!(kept.exit(), (Some(0), None));
    assert!(kept.has(|event| *event == Event::PipeHeld));
    assert!(kept.has(|event| *event == Event::Swept { n_processes: 1 }));
    assert!(!kept.has(|event| matches!(event, Event::Killed { .. })));
    assert!(kept.took() < Duration::from_secs(20), "{:?}", kept.took());
}

#[tokio::test]
async fn a_child_that_left_its_session_and_ignores_sigterm_is_killed_too() {
    let mut order = shell(
        "setsid sh -c 'trap \"\" TERM INT; echo up; while :; do sleep 1; done' &
         trap '' INT; wait; wait",
    );
    order.time_box = Duration::from_secs(1);
    order.signal_grace = Duration::from_millis(500);
    order.kill_grace = Duration::from_millis(500);
    let kept = keep(&order).await;
    let wind_down = kept.position(|event| *event == Event::BoxEnded);
    let stop = kept.position(|event| *event == Event::Stopping { reason: StopReason::TimedOut });
    let kill = kept.position(|event| matches!(event, Event::Killed { .. }));
    assert!(wind_down < stop && stop < kill, "{:#?}", kept.entries);
    let waited = kept.entries[kill].boot_ms - kept.entries[stop].boot_ms;
    assert!((450..5000).contains(&waited), "{waited} ms");
}

#[tokio::test]
async fn an_orphan_of_an_orphan_is_swept() {
    // Two forks and a new session: no parent, no group, no session leads to the keeper.
    let kept = keep(&shell(
        "(setsid sh -c 'sleep 300 >/dev/null 2>&1 & exit' &) ; sleep 0.2; echo 'Bulk processing completed.'",
    ))
    .await;
    assert!(kept.has_signal());
    assert!(!kept.has(|event| *event == Event::PipeHeld));
    assert!(kept.has(|event| *event == Event::Swept { n_processes: 1 }), "{:#?}", kept.entries);
}

#[tokio::test]
async fn a_job_that_is_wound_down_may_finish_what_is_in_hand() {
    let mut order = shell(
        "trap 'sleep 0.3; echo Bulk processing completed.; exit 0' INT
         while :; do sleep 0.1; done",
    );
    order.time_box = Duration::from_secs(1);
    let kept = keep(&order).await;
    assert!(kept.has(|event| *event == Event::BoxEnded));
    assert!(!kept.has(|event| matches!(event, Event::Stopping { .. })));
    assert_eq!(kept.exit(), (Some(0), None));
    assert!(kept.has_signal());
}

#[tokio::test]
async fn the_old_driver_signals_last_after_ctrl_c() {
    // As the old driver does: a bar on standard error, totals on SIGINT, the text at the very end.
    let mut order = shell(
        "trap 'stop=1' INT
         while [ -z \"$stop\" ]; do printf '\\r 42%%|####      | 42/100 [00:07<00:09]' >&2; sleep 0.1; done
         echo 'Total images processed: 42'; echo 'Successes: 41 (97.62%)'
         echo 'Bulk auto review process completed.'",
    );
    order.signal = Signal::Text("Bulk auto review process completed.".into());
    order.time_box = Duration::from_secs(1);
    let kept = keep(&order).await;
    let box_end = kept.position(|event| *event == Event::BoxEnded);
    let signal = kept.position(|event| matches!(event, Event::Signal { .. }));
    assert!(box_end < signal);
    assert_eq!(kept.exit(), (Some(0), None));
    assert!(!kept.has(|event| matches!(event, Event::Stopping { .. })));
}

#[tokio::test]
async fn a_job_runs_as_another_user_or_says_why_not() {
    let mut order = shell("id -u; id -G; echo $HOME");
    if let Work::Command { user, .. } = &mut order.work {
        *user = Some("nobody".into());
    }
    let kept = keep(&order).await;
    if rustix::process::getuid().is_root() {
        let log = kept.directory.read_log().unwrap().head;
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines[0] != "0" && !lines[1].split(' ').any(|group| group == "0"), "{log}");
        assert_eq!(kept.exit(), (Some(0), None));
    } else {
        assert!(kept.has(|event| matches!(event, Event::CouldNotStart { .. })));
    }
}

#[tokio::test]
async fn a_person_can_stop_a_run_by_request_and_by_sigterm_but_not_by_sigint() {
    for by_request in [true, false] {
        let keeper = Keeper::start(&shell("echo up; sleep 300"), &[]);
        keeper.wait_for(|event| matches!(event, Event::JobStarted { .. })).await;
        let pid = Pid::from_raw(keeper.pid()).unwrap();
        kill_process(pid, UnixSignal::INT).unwrap();
        kill_process(pid, UnixSignal::HUP).unwrap();
        if by_request {
            keeper.directory().request_stop().unwrap();
        } else {
            kill_process(pid, UnixSignal::TERM).unwrap();
        }
        let kept = keeper.done().await;
        assert!(kept.is_success);
        assert!(kept.has(|event| *event == Event::Stopping { reason: StopReason::Asked }));
        assert_eq!(kept.exit(), (None, Some(15)));
    }
}

#[tokio::test]
async fn a_stalled_job_is_stopped_if_the_schedule_says_so() {
    let mut order = shell("while :; do echo again; sleep 0.2; done");
    order.stop_when_stalled = Some(Stall { after: Duration::from_secs(1), on_progress: true });
    let kept = keep(&order).await;
    assert!(kept.has(|event| *event == Event::Stopping { reason: StopReason::Stalled }));
    assert!(kept.has(|event| matches!(event, Event::Activity { .. })));
}

#[tokio::test]
async fn a_job_sees_its_run_and_its_box_and_resolved_variables() {
    let mut order = shell(
        "echo $LOOKOUT_RUN_ID; echo $LOOKOUT_SCHEDULE; echo $LOOKOUT_BOX_ENDS_AT; echo $GREETING",
    );
    if let Work::Command { env, .. } = &mut order.work {
        *env = BTreeMap::from([("GREETING".into(), "hello ${LOOKOUT_TEST_WHO}".into())]);
    }
    let kept = Keeper::start(&order, &[("LOOKOUT_TEST_WHO", "world")]).done().await;
    let log = kept.directory.read_log().unwrap().head;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], order.run);
    assert_eq!(lines[1], "nightly");
    let box_ends_at = chrono::DateTime::parse_from_rfc3339(lines[2]).unwrap();
    assert!(lines[2].ends_with('Z'));
    assert!(box_ends_at > kept.entries[0].at);
    assert_eq!(lines[3], "hello world");
}

#[tokio::test]
async fn no_secret_reaches_the_disk() {
    let mut order = shell(
        "printf 'the key is '; printf $GEMINI_API_KEY | head -c 9; sleep 0.3
         printf $GEMINI_API_KEY | tail -c +10; echo
         echo \"ERROR with $GEMINI_API_KEY\" >&2
         echo \"::lookout::note text=\\\"key $GEMINI_API_KEY\\\"\"",
    );
    order.patterns.push(pattern("ERROR", "failure"));
    let secret = "not-a-real-key-0123456789";
    let kept = Keeper::start(&order, &[("GEMINI_API_KEY", secret)]).done().await;
    let mut all = String::new();
    for entry in std::fs::read_dir(kept.directory.path()).unwrap() {
        std::fs::File::open(entry.unwrap().path()).unwrap().read_to_string(&mut all).unwrap();
    }
    assert!(!all.contains(secret) && !all.contains("0123456789"), "{all}");
    assert!(all.contains("the key is [redacted]"), "{all}");
    assert_eq!(kept.problems()[0].3, "ERROR with [redacted]");
}

#[tokio::test]
async fn a_failure_on_the_line_of_the_signal_takes_it_back() {
    let mut order = shell("echo 'ERROR: Bulk processing completed. with 0 items'");
    order.patterns.push(pattern("ERROR", "failure"));
    let kept = keep(&order).await;
    assert!(!kept.has_signal());
    assert_eq!(kept.problems().len(), 1);
}

#[tokio::test]
async fn a_review_signals_with_the_id_of_its_run() {
    let mut order = shell(
        r#"echo '{"message":"Bulk processing completed.","run":"of yesterday"}'
           echo "{\"message\":\"Bulk processing completed.\",\"run\":\"$LOOKOUT_RUN_ID\",\"summary\":{}}""#,
    );
    order.signal = Signal::Review { message: SIGNAL.into() };
    let kept = keep(&order).await;
    let line = r#"{"message":"Bulk processing completed.","run":"of yesterday"}"#;
    let offset = line.len() as u64 + 1;
    assert!(
        kept.has(|event| *event == Event::Signal { stream: Stream::Stdout, offset }),
        "{:#?}",
        kept.entries
    );
}

#[tokio::test]
async fn a_run_has_one_keeper() {
    let keeper = Keeper::start(&shell("echo up; sleep 300"), &[]);
    keeper.wait_for(|event| matches!(event, Event::JobStarted { .. })).await;
    let second = Keeper::spawn(keeper.directory(), &[]).wait().await.unwrap();
    assert!(!second.success());
    keeper.directory().request_stop().unwrap();
    let kept = keeper.done().await;
    let started = |event: &&Event| matches!(event, Event::KeeperStarted { .. });
    assert_eq!(kept.events().filter(started).count(), 1);
}

/// A program that gives its signal a second after it was told to end.
const WORKER: &str = "trap 'sleep 1; echo Bulk processing completed.; exit 0' TERM
                      echo up; while :; do sleep 0.1; done";

#[tokio::test]
async fn whatever_stands_between_the_keeper_and_the_program_that_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let worker = folder.path().join("worker.sh");
    std::fs::write(&worker, WORKER).unwrap();
    let worker = worker.display();
    for script in [
        format!("sh {worker}; true"),
        format!("sh {worker} | tee {}/out.txt", folder.path().display()),
        format!("sh {worker} | cat | cat; true"),
        format!("setsid -w sh {worker}; true"),
        format!("trap : TERM; sh {worker}"),
        format!("sh {worker} & wait"),
        format!("exec sh {worker}"),
    ] {
        let mut order = shell(&script);
        order.time_box = Duration::from_secs(1);
        if let Work::Command { stop_signal, .. } = &mut order.work {
            *stop_signal = "SIGTERM".into();
        }
        let kept = keep(&order).await;
        assert!(kept.has_signal(), "{script}: {:#?}", kept.entries);
        assert!(!kept.has(|event| matches!(event, Event::Stopping { .. })), "{script}");
        let exit = kept.exit();
        assert!(matches!(exit, (Some(0 | 143), _) | (_, Some(15))), "{script}: {exit:?}");
    }
}

#[tokio::test]
async fn a_tree_that_outlives_its_shell_without_the_signal_has_the_grace_and_no_more() {
    let mut order = shell("sh -c \"trap '' INT; sleep 300; sleep 300\"; true");
    order.time_box = Duration::from_secs(1);
    order.signal_grace = Duration::from_secs(1);
    let kept = keep(&order).await;
    let stop = Event::Stopping { reason: StopReason::TimedOut };
    assert!(
        kept.position(|event| *event == Event::BoxEnded) < kept.position(|event| *event == stop)
    );
    assert!(!kept.has_signal());
    assert!(kept.took() < Duration::from_secs(20), "{:?}", kept.took());
}

#[tokio::test]
async fn what_a_worker_says_after_it_was_asked_to_stop_is_read_although_its_shell_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let worker = folder.path().join("worker.sh");
    std::fs::write(&worker, WORKER).unwrap();
    let keeper = Keeper::start(&shell(&format!("sh {}; true", worker.display())), &[]);
    keeper.wait_for(|event| matches!(event, Event::Activity { .. })).await;
    keeper.directory().request_stop().unwrap();
    let kept = keeper.done().await;
    assert!(kept.has_signal(), "{:#?}", kept.entries);
}
