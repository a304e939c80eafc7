//! What becomes of a file that is new, old, newer, or written by many at once.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Barrier;

use super::*;

const TABLE: Migration = Migration::Sql("CREATE TABLE notes (text TEXT);");
const COLUMN: Migration = Migration::Sql("ALTER TABLE notes ADD COLUMN author TEXT;");
const FIRST: &[Migration] = &[TABLE];
const THIRD: &[Migration] = &[
    TABLE,
    COLUMN,
    Migration::Sql("UPDATE notes SET author = 'me'; DELETE FROM notes WHERE text = 'old';"),
];
const BROKEN: &[Migration] = &[TABLE, COLUMN, Migration::Sql("INSERT INTO nowhere VALUES (1);")];
const PURGED: &[Migration] = &[TABLE, COLUMN, Migration::Purge, Migration::Compact];

fn schema(migrations: &'static [Migration]) -> Schema {
    Schema { file: "notes.db", migrations, busy_timeout: Duration::from_secs(5) }
}

fn texts(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut select = connection.prepare("SELECT text FROM notes ORDER BY text").unwrap();
    let texts = select.query_map([], |row| row.get(0)).unwrap();
    texts.collect::<rusqlite::Result<_>>().unwrap()
}

/// A file of the first version, opened by somebody who has just written to it.
fn first_version(path: &Path) -> Database {
    let database = Database::open(path, &schema(FIRST)).unwrap();
    database.now(|notes| notes.execute("INSERT INTO notes VALUES ('old')", [])).unwrap();
    database
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm")).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_migration_keeps_one_copy_of_the_file_as_it_was_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.db");
    // What was written last stands in the write-ahead log only: the writer is still there.
    let writer = first_version(&path);
    for _ in 0..2 {
        Database::open(&path, &schema(THIRD)).unwrap();
        assert_eq!(names_in(folder.path()), ["notes.db", "notes.db.before-schema-3"]);
    }
    let copy = folder.path().join("notes.db.before-schema-3");
    assert_eq!(texts(&copy), ["old"], "the row that the migration deleted");
    assert_eq!(mode(&copy), 0o600);
    assert!(texts(&path).is_empty());
    Database::open(&copy, &schema(FIRST)).unwrap();
    drop(writer);
}

#[test]
fn a_new_file_belongs_to_its_owner_alone_and_needs_no_copy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.db");
    let database = Database::open(&path, &schema(THIRD)).unwrap();
    database.now(|notes| notes.execute("INSERT INTO notes VALUES ('a', 'b')", [])).unwrap();
    assert_eq!(names_in(folder.path()), ["notes.db"]);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&folder.path().join("notes.db-wal")), 0o600);
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.db");
    first_version(&path);
    assert!(Database::open(&path, &schema(BROKEN)).is_err());
    let reopened = Database::open(&path, &schema(FIRST)).unwrap();
    reopened.now(|notes| notes.execute("INSERT INTO notes VALUES ('one column')", [])).unwrap();
    assert_eq!(texts(&path), ["old", "one column"]);
}

/// Whether any file of the folder holds the text, in whatever page.
fn is_anywhere_in(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        memchr::memmem::find(&bytes, text.as_bytes()).is_some()
    })
}

#[test]
fn what_is_purged_is_in_no_page_of_the_file_its_log_or_the_kept_copy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.db");
    {
        let database = first_version(&path);
        let fill = |notes: &Connection| {
            for n in 0..500 {
                let text = format!("hunter22 {n} {}", "x".repeat(200));
                notes.execute("INSERT INTO notes VALUES (?1)", [text])?;
            }
            // Pages that are free already.
            notes.execute("DELETE FROM notes WHERE rowid % 3 = 0", [])
        };
        database.now(fill).unwrap();
    }
    assert!(is_anywhere_in(folder.path(), "hunter22"));
    let purge = |notes: &Connection| {
        notes.execute_batch("UPDATE notes SET text = replace(text, 'hunter22', '?');")
    };
    let open = || Database::open_purging(&path, &schema(PURGED), &purge).unwrap();
    let database = open();
    assert!(!is_anywhere_in(folder.path(), "hunter22"));
    assert_eq!(names_in(folder.path()), ["notes.db", "notes.db.before-schema-4"]);
    assert_eq!(texts(&folder.path().join("notes.db.before-schema-4")).len(), 334);
    drop(database);
    // A process that died between the migration and the compaction.
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "PRAGMA secure_delete = OFF;
             CREATE TABLE scrap (text);
             INSERT INTO scrap VALUES ('a note that holds hunter22');
             PRAGMA wal_checkpoint(TRUNCATE);
             DROP TABLE scrap;
             PRAGMA application_id = 1;",
        )
        .unwrap();
    assert!(is_anywhere_in(folder.path(), "hunter22"));
    let database = open();
    assert!(!is_anywhere_in(folder.path(), "hunter22"));
    drop(database);
}

#[test]
fn a_file_is_not_migrated_when_its_copy_cannot_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.db");
    first_version(&path);
    // A folder in the copy's place, which nothing can be renamed to.
    let copy = folder.path().join("notes.db.before-schema-3");
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("in-the-way"), "").unwrap();
    let error = Database::open(&path, &schema(THIRD)).unwrap_err();
    assert!(matches!(&error, StorageError::Unwritable(_)), "{error:?}");
    assert!(error.to_string().contains("notes.db was not migrated"), "{error}");
    assert_eq!(texts(&path), ["old"]);
}

#[test]
fn many_processes_may_open_a_file_that_must_be_migrated_at_once() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.db");
        first_version(&path);
        let together = Barrier::new(8);
        std::thread::scope(|scope| {
            let open = || {
                together.wait();
                Database::open(&path, &schema(THIRD)).map(drop)
            };
            let openers: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            for opener in openers {
                assert_eq!(opener.join().unwrap(), Ok(()));
            }
        });
        assert_eq!(names_in(folder.path()), ["notes.db", "notes.db.before-schema-3"]);
    }
}

#[test]
fn many_processes_may_open_a_new_file_at_once() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.db");
        let together = Barrier::new(8);
        std::thread::scope(|scope| {
            let open = || {
                together.wait();
                Database::open(&path, &schema(THIRD)).map(drop)
            };
            let openers: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            for opener in openers {
                assert_eq!(opener.join().unwrap(), Ok(()));
            }
        });
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.db");
    Database::open(&path, &schema(THIRD)).unwrap();
    let error = Database::open(&path, &schema(FIRST)).unwrap_err().to_string();
    assert!(error.contains("newer Lookout") && error.contains("start that version"), "{error}");
}
