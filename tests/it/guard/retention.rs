//! The files of old runs go; those of runs that go on, and the rows of all, stay.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use lookout::run::keeper::order::{Settings, order_for};
use lookout::run::ledger::Ledger;
use lookout::run::retention::{RetentionLimits, Sweeper};
use lookout::run::{Run, RunId};
use lookout::rundir::directory::RunDirectory;
use lookout::schedule::Slot;

use crate::guard::scripts::good;
use crate::guard::{World, hourly};

#[tokio::test(start_paused = true)]
async fn old_files_go_and_a_run_that_goes_on_keeps_its_own() {
    let mut world = World::new(vec![hourly("review")], |_| good(1200));
    // From half past on: four slots, the last of which goes on.
    world.run_for(Duration::from_secs(3 * 3600 + 2400)).await;
    let state = tempfile::tempdir().unwrap();
    let settings =
        Settings { program: "lookout".into(), config: None, root: state.path().to_owned() };
    let slots = world.slots().await;
    let directories: Vec<RunDirectory> = slots
        .iter()
        .map(|slot| {
            let id = slot.run.clone().unwrap();
            let directory = RunDirectory::of(state.path(), &id);
            let run = Run {
                id: RunId::from_stored(id),
                slot: Slot { schedule: slot.configuration.name.clone(), due_at: slot.due_at },
                schedule: (*slot.configuration).clone(),
                claimed_at: slot.due_at,
                started_at: None,
                keeper: None,
                ended_at: None,
            };
            directory.write_order(&order_for(&run, &settings)).unwrap();
            fs::write(directory.log_tail_path(), vec![b'x'; 100_000]).unwrap();
            directory
        })
        .collect();
    assert_eq!(directories.len(), 4);
    assert_eq!(world.db.open_runs().await.unwrap().len(), 1);

    let limits = RetentionLimits { per_schedule: 350_000, in_all: 1_000_000 };
    let mut sweeper = Sweeper::new(state.path().to_owned(), Arc::new(world.db.clone()), limits);
    assert_eq!(sweeper.step().await.unwrap(), 1);
    let there: Vec<bool> = directories.iter().map(|directory| directory.path().exists()).collect();
    assert_eq!(there, [false, true, true, true]);
    assert_eq!(sweeper.step().await.unwrap(), 0);

    // The fourth writes more and ends.
    fs::write(directories[3].log_tail_path(), vec![b'x'; 200_000]).unwrap();
    world.run_for(Duration::from_secs(1200)).await;
    assert_eq!(world.db.open_runs().await.unwrap().len(), 0);
    assert_eq!(sweeper.step().await.unwrap(), 1);
    assert!(!directories[1].path().exists() && directories[3].path().exists());
    assert_eq!(world.slots().await.len(), 4);
}
