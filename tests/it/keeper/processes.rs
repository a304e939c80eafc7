//! Keepers as real processes: started apart from the daemon, found again, never started twice, killed
//! with all they left.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use lookout::process::cgroup::RunCgroup;
use lookout::process::{identity_of, is_same_process, signal_all};
use lookout::run::RunId;
use lookout::run::keeper::order::Settings;
use lookout::run::keeper::process::KeeperProcesses;
use lookout::run::keeper::{Keepers, Presence, StopHow};
use lookout::run::ledger::{Origin, RunLease, claim};
use lookout::run::planner::rows::row;
use lookout::rundir::Event;
use lookout::schedule::Slot;
use lookout::store::GuardDb;
use rustix::process::Signal;

use crate::guard::{epoch, hourly};
use crate::keeper::harness::{Keeper, shell};

/// A claimed run.
async fn lease() -> RunLease {
    use lookout::run::ledger::{Ledger, Plan};
    let db = GuardDb::in_memory().unwrap();
    let schedule = hourly("review");
    let slot = Slot { schedule: schedule.name.clone(), due_at: epoch() };
    let plan = Plan { schedule: schedule.clone(), until: epoch() };
    let planned = row(&schedule, slot.clone(), Origin::Schedule);
    db.plan(plan, vec![planned], None).await.unwrap();
    claim(&db, slot, schedule, RunId::generate(), epoch()).await.unwrap().unwrap()
}

/// Keepers whose program is a script: it says who it is, and waits.
fn keepers(folder: &Path) -> KeeperProcesses {
    let program = folder.join("keeper.sh");
    let script = "#!/bin/sh\necho $$ >> \"$2/pids\"\nexec sleep 600\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let settings = Settings { program, config: None, root: folder.to_path_buf() };
    KeeperProcesses::new(folder.to_path_buf(), settings)
}

/// Real processes take real time; this is how much they get.
async fn within_ten_seconds(mut is_so: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("it happens within ten seconds");
}

#[tokio::test]
async fn a_keeper_is_a_process_of_its_own_that_is_found_again_and_not_started_twice() {
    let folder = tempfile::tempdir().unwrap();
    let keepers = keepers(folder.path());
    let lease = lease().await;
    let run = lease.run().id.clone();
    let keeper = keepers.start(&lease).await.unwrap();
    assert_eq!(keepers.presence(&keeper).await, Presence::Alive);
    assert!(folder.path().join("runs").join(run.as_str()).join("order.json").exists());
    let own_group = rustix::process::getpgid(None).unwrap();
    let pid = rustix::process::Pid::from_raw(keeper.pid);
    assert_ne!(rustix::process::getpgid(pid).unwrap(), own_group);
    // It is found by its mark as soon as it runs its own program.
    within_ten_seconds(async || {
        std::fs::read_to_string(folder.path().join("runs").join(run.as_str()).join("pids")).is_ok()
    })
    .await;
    // A daemon that died before it could write down what it had started.
    let again = keepers.start(&lease).await.unwrap();
    assert_eq!(again, keeper);
    keepers.stop(&run, StopHow::Kill).await.unwrap();
    within_ten_seconds(async || identity_of(keeper.pid).is_none()).await;
    assert_eq!(keepers.presence(&keeper).await, Presence::Gone);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        program: folder.path().join("nothing"),
        config: None,
        root: folder.path().to_path_buf(),
    };
    let keepers = KeeperProcesses::new(folder.path().to_path_buf(), settings);
    let error = keepers.start(&lease().await).await.unwrap_err().to_string();
    assert!(error.contains("nothing") && error.contains("No such file"), "{error}");
}

/// Whether this kernel and our rights allow a control group; the name says who asks.
fn a_cgroup_can_be_made(name: &str) -> bool {
    let made = RunCgroup::make(&format!("probe-{name}-{}", std::process::id()));
    made.inspect(RunCgroup::remove).is_some()
}

#[tokio::test]
async fn what_a_killed_keeper_left_behind_is_killed_with_its_control_group() {
    // It leaves its session, its parent and its environment; only the group still knows it.
    let order = shell("env -i setsid sh -c 'echo hidden $$; sleep 600' & sleep 600");
    let keeper = Keeper::start(&order, &[]);
    keeper.wait_for(|event| matches!(event, Event::JobStarted { .. })).await;
    let group = RunCgroup::noted_in(&keeper.directory().cgroup_path());
    if group.is_none() {
        // The other way of finding a tree is tested elsewhere; here only that it was chosen for a
        // reason.
        assert!(!a_cgroup_can_be_made("killed"), "a group could be made and was not");
        return;
    }
    let group = group.unwrap();
    within_ten_seconds(async || group.processes().len() >= 4).await;
    let inside = group.processes();
    assert!(inside.iter().all(|process| process.pid != keeper.pid()), "the keeper is outside");

    let state_dir = keeper.directory().path().parent().unwrap().parent().unwrap().to_path_buf();
    let settings = Settings { program: "lookout".into(), config: None, root: state_dir.clone() };
    let keepers = KeeperProcesses::new(state_dir, settings);
    signal_all(&identity_of(keeper.pid()).into_iter().collect::<Vec<_>>(), Signal::KILL);
    within_ten_seconds(async || identity_of(keeper.pid()).is_none()).await;
    keepers.stop(&RunId::from_stored(order.run), StopHow::Kill).await.unwrap();
    within_ten_seconds(async || group.processes().is_empty()).await;
    assert!(!inside.iter().any(is_same_process), "survivors");
}

#[tokio::test]
async fn a_run_that_ends_leaves_no_control_group_behind() {
    let order = shell("echo hello");
    let kept = crate::keeper::harness::keep(&order).await;
    assert_eq!(kept.directory.cgroup_path().exists(), a_cgroup_can_be_made("ended"));
    assert!(RunCgroup::noted_in(&kept.directory.cgroup_path()).is_none());
}
