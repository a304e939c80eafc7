//! A state directory of an earlier version is opened, and everything is found again.
//!
//! `tests/fixtures/state-<commit>.sql` holds both databases as that version's own program left
//! them, one for each schema that was ever in use.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lookout::review::record::RecordId;
use lookout::review::tries::Tries as _;
use lookout::review::tries::sqlite::queries::ReviewDb;
use lookout::review::tries::sqlite::{HolderSettings, SqliteTries};
use lookout::run::ledger::{Ledger as _, Loop, Origin};
use lookout::schedule::{Job, ScheduleName};
use lookout::secret::Secret;
use lookout::store::GuardDb;
use lookout::store::filled_in::FilledIn;
use lookout::watch::delivery_log::{DeliveryLog as _, DeliveryState};
use lookout::watch::history::{History as _, IncidentFilter, SlotFilter, SlotState};
use lookout::watch::incidents::Incidents as _;
use lookout::watch::{Severity, Verdict};
use rusqlite::Connection;

use crate::past::at;

const FIRST: &str = include_str!("../fixtures/state-e0cb7ec.sql");
const SCOPE: &str = "sqlite:/srv/lookout/state/records.db#midbot_images";

/// Makes the files of a dump; says which version each has.
pub(crate) fn state_of(dump: &str, state_dir: &Path) -> Vec<(String, usize)> {
    let mut versions = Vec::new();
    for part in dump.split("-- file: ").skip(1) {
        let (name, sql) = part.split_once('\n').unwrap();
        let database = Connection::open(state_dir.join(name)).unwrap();
        database.execute_batch(sql).unwrap();
        versions.push((name.to_owned(), version_of(&state_dir.join(name))));
    }
    versions
}

fn version_of(path: &Path) -> usize {
    let database = Connection::open(path).unwrap();
    let version: u32 = database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    version as usize
}

/// A copy stands beside a file that was migrated, once however often it is opened, and none
/// beside one that was up to date.
fn assert_copies(state_dir: &Path, before: &[(String, usize)]) {
    let names = || fs::read_dir(state_dir).unwrap().map(|it| it.unwrap().file_name());
    for (name, version) in before {
        let now = version_of(&state_dir.join(name));
        let copies: Vec<String> = names()
            .map(|it| it.into_string().unwrap())
            .filter(|it| it.starts_with(&format!("{name}.before-")))
            .collect();
        if now == *version {
            assert!(copies.is_empty(), "{copies:?}");
            continue;
        }
        let copy = format!("{name}.before-schema-{now}");
        assert_eq!(copies, std::slice::from_ref(&copy));
        assert_eq!(version_of(&state_dir.join(&copy)), *version);
        let mode = fs::metadata(state_dir.join(&copy)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn slots_runs_incidents_and_messages_of_the_first_version_are_found_again() {
    let state = tempfile::tempdir().unwrap();
    let before = state_of(FIRST, state.path());
    for _ in 0..2 {
        let db = GuardDb::open(&state.path().join("guard.db"), &FilledIn::default()).unwrap();

        let filter = SlotFilter { verdict: Some(Verdict::Failed), ..SlotFilter::default() };
        let failed = db.slots(filter).await.unwrap();
        assert_eq!(failed.len(), 3);
        assert_eq!(failed[0].schedule, "nightly-export");
        assert_eq!(failed[0].due_at, at("2026-11-27T22:13:00Z"));
        assert_eq!(failed[0].reason.as_deref(), Some("fatal: disk full"));
        let all = db.slots(SlotFilter::default()).await.unwrap();
        let count = |state| all.iter().filter(|slot| slot.state == state).count();
        assert_eq!((count(SlotState::Planned), count(SlotState::Running)), (124, 2));
        assert_eq!(count(SlotState::Judged), 5);

        let mut open = db.open_runs().await.unwrap();
        open.sort_by(|one, other| one.run.id.cmp(&other.run.id));
        let ids: Vec<&str> = open.iter().map(|open| open.run.id.as_str()).collect();
        let (review, copy) =
            ("01a21f11-c63c-7097-a56a-f1439ccf38d2", "01a21f11-c642-7768-a557-ceb4e7c07379");
        assert_eq!(ids, [review, copy]);
        assert_eq!(open[1].origin, Origin::Asked);
        assert_eq!(open[1].run.schedule.name, ScheduleName::new("slow-copy"));
        assert!(open[1].run.keeper.is_some());
        assert_eq!(db.plans().await.unwrap().len(), 4);
        assert!(db.last_seen(Loop::Conductor).await.unwrap().is_some());
        let spans = db.spans(at("2026-11-27T22:00:00Z"), at("2026-11-28T12:00:00Z")).await.unwrap();
        assert_eq!(spans.len(), 4);

        let incidents = db.incidents(IncidentFilter::Open, 10).await.unwrap();
        assert_eq!(incidents.len(), 1);
        assert_eq!(incidents[0].key, "prod/nightly-export/run_failed");
        assert_eq!(incidents[0].severity, Severity::Critical);
        assert_eq!(db.open_incidents().await.unwrap()[0].incident.runs_affected, 3);
        let events = db.events_of(1).await.unwrap();
        let states = events
            .iter()
            .flat_map(|event| &event.recipients)
            .map(|to| (to.channel.as_str(), to.state));
        let sent = DeliveryState::Sent;
        let both = [("console", sent), ("hook", sent)];
        assert_eq!(states.collect::<Vec<_>>(), [both, both].concat());
        assert_copies(state.path(), &before[..1]);
    }
}

#[tokio::test]
async fn claims_tries_and_money_of_the_first_version_are_found_again() {
    let state = tempfile::tempdir().unwrap();
    let before = state_of(FIRST, state.path());
    let settings = HolderSettings {
        run: "the-next".to_owned(),
        scope: SCOPE.to_owned(),
        started_at: at("2026-11-27T23:00:00Z"),
        lease_until: at("2026-11-27T23:50:00Z"),
    };
    let tries = SqliteTries::open(state.path(), &settings).unwrap();
    assert_copies(state.path(), &before[1..]);

    let orphans = tries.take_over(at("2026-11-27T23:00:00Z")).await.unwrap();
    let ids: Vec<&str> = orphans.iter().map(|orphan| orphan.id.0.as_str()).collect();
    let in_hand = ["3b3f5006-c607-5491-9094-7fde2266fb61", "d623a542-ebb6-51c3-9b89-f3524963693f"];
    assert_eq!(ids, in_hand);
    assert!(orphans.iter().all(|orphan| orphan.from == "downloaded"));

    let notes = ReviewDb::open(state.path()).unwrap().unwrap();
    let damaged = RecordId("060ce904-cd12-5319-b7c8-cb44424cd1cb".to_owned());
    let story = notes.story(&damaged).unwrap();
    assert_eq!(story.len(), 3);
    assert!(story.iter().all(|row| row.outcome.as_deref() == Some("failed") && row.cleared));
    let usual = notes.usual("gemini-3.5-flash-lite").unwrap().unwrap();
    assert_eq!(usual.answers, 3);

    let reviews = Connection::open(state.path().join("review.db")).unwrap();
    let spent: f64 = reviews
        .query_row("SELECT usd FROM money WHERE period = 'day 2026-11-27'", [], |row| row.get(0))
        .unwrap();
    assert!(spent > 0.0368, "{spent}");
}

/// The order of the run in the middle, as that version's program wrote it.
const ORDER: &str = r#"{"run": "01a21f11-c642-7768-a557-ceb4e7c07379", "schedule": "slow-copy",
    "work": {"kind": "command", "cwd": "/srv", "user": "root", "stop_signal": "SIGTERM",
             "argv": ["sh", "-c", "echo copying with fake-export-token-4711; exec sleep 900"],
             "env": {"TOKEN": "${EXPORT_TOKEN}"}}}"#;

/// Names of all files below, that hold this text in whatever place.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(text) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[tokio::test]
async fn a_secret_that_was_stored_with_a_job_is_nowhere_after_the_upgrade() {
    let secret = "fake-export-token-4711";
    let state = tempfile::tempdir().unwrap();
    state_of(FIRST, state.path());
    let run = state.path().join("runs/01a21f11-c642-7768-a557-ceb4e7c07379");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("order.json"), ORDER).unwrap();
    // Pages that are free already hold it, too.
    let rows = Connection::open(state.path().join("guard.db")).unwrap();
    rows.execute_batch(
        "CREATE TABLE gone AS SELECT * FROM slots, (SELECT 1 UNION SELECT 2); DROP TABLE gone;",
    )
    .unwrap();
    drop(rows);
    assert_eq!(files_with(state.path(), secret).len(), 2);

    let values = [("EXPORT_TOKEN".to_owned(), Secret::new(secret))];
    let filled_in = FilledIn::new(values, std::collections::BTreeMap::new());
    let db = GuardDb::open(&state.path().join("guard.db"), &filled_in).unwrap();
    assert_eq!(files_with(state.path(), secret), Vec::<String>::new());

    let open = db.open_runs().await.unwrap();
    let copy = open.iter().find(|open| open.run.schedule.name.as_str() == "slow-copy").unwrap();
    let Job::Command(job) = &copy.run.schedule.job else { panic!() };
    assert_eq!(job.argv[2], "echo copying with ${EXPORT_TOKEN}; exec sleep 900");
    let order = fs::read_to_string(run.join("order.json")).unwrap();
    assert!(order.contains("echo copying with ${EXPORT_TOKEN};"), "{order}");
    let copies = files_with(state.path(), "nightly-export");
    assert!(copies.iter().any(|name| name.contains("guard.db.before-schema-")), "{copies:?}");
}
