//! The embedded records, through the port and as another connection sees them.

use super::*;
use crate::review::record::folder_listing::files_below;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn downloaded() -> Vec<String> {
    vec!["downloaded".to_owned()]
}

fn new_record(name: &str) -> NewRecord {
    NewRecord { id: RecordId(name.into()), job_id: name.into(), url: format!("file:///{name}") }
}

fn open_in(folder: &Path) -> SqliteRecords {
    let path = folder.join("state/records.db");
    SqliteRecords::open(&path, "midbot_images", &Columns::default()).unwrap()
}

async fn with_rows(folder: &Path, names: &[&str]) -> SqliteRecords {
    let records = open_in(folder);
    let rows = names.iter().map(|name| new_record(name)).collect();
    records.insert_new(rows, "downloaded", at(0)).await.unwrap();
    records
}

fn settlement() -> Settlement {
    Settlement {
        review_status: "auto_review_success".into(),
        auto_review_status: "good".into(),
        auto_review_details: "A stone.".into(),
    }
}

#[tokio::test]
async fn a_claim_takes_a_row_once_and_the_result_stands_in_the_standard_columns() {
    let folder = tempfile::tempdir().unwrap();
    let records = with_rows(folder.path(), &["a", "b"]).await;
    let ids = [RecordId("a".into()), RecordId("missing".into())];
    let mut claimed = records.claim(&ids, "downloaded", at(5)).await.unwrap();
    let claimed = claimed.pop().unwrap();
    assert_eq!(claimed.record.status, "downloaded");
    assert!(records.claim(&ids, "downloaded", at(6)).await.unwrap().is_empty());
    assert_eq!(records.count(&downloaded()).await.unwrap(), 1);
    assert_eq!(records.settle(&claimed, &settlement()).await.unwrap(), Written::Yes);
    let connection = Connection::open(folder.path().join("state/records.db")).unwrap();
    let row: (String, String, String, String) = connection
        .query_row(
            "SELECT review_status, auto_review_status, auto_review_details, updated_at
             FROM midbot_images WHERE id = 'a'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    let expected = ("auto_review_success", "good", "A stone.", "2027-01-15T08:00:05.000000Z");
    assert_eq!((row.0.as_str(), row.1.as_str(), row.2.as_str(), row.3.as_str()), expected);
}

#[tokio::test]
async fn a_table_with_words_of_its_own_for_the_statuses_holds_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let words = Statuses {
        processing: "taken".into(),
        success: "done".into(),
        error: "broken".into(),
        rerun: "again".into(),
    };
    let records = with_rows(folder.path(), &["a", "b", "c"]).await.with_statuses(&words);
    let connection = Connection::open(folder.path().join("state/records.db")).unwrap();
    let in_table = || -> Vec<String> {
        let mut select =
            connection.prepare("SELECT review_status FROM midbot_images ORDER BY id").unwrap();
        let rows = select.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let ids = ["a", "b", "c"].map(|id| RecordId(id.into()));
    let claimed = records.claim(&ids, "downloaded", at(5)).await.unwrap();
    assert_eq!(in_table(), ["taken"; 3]);
    assert_eq!(
        records.get(&ids[0]).await.unwrap().unwrap().status,
        crate::review::record::PROCESSING
    );
    assert_eq!(records.settle(&claimed[0], &settlement()).await, Ok(Written::Yes));
    let error = Settlement {
        review_status: "auto_review_error".into(),
        auto_review_status: "auto_review_error".into(),
        ..settlement()
    };
    assert_eq!(records.settle(&claimed[1], &error).await, Ok(Written::Yes));
    assert_eq!(records.release(&claimed[2]).await, Ok(Written::Yes));
    assert_eq!(in_table(), ["done", "broken", "downloaded"]);
    // `auto_review_status` is not renamed: [records.statuses] is about `review_status` alone.
    let found = records.rows_by_id(&ids[..2]).await.unwrap();
    assert_eq!(found[1].auto_review_status.as_deref(), Some("auto_review_error"));
    assert_eq!(records.send_back(&found, &SendBack::Rerun).await.unwrap().len(), 2);
    assert_eq!(in_table(), ["again", "again", "downloaded"]);
    let waiting = ["again".to_owned()];
    assert_eq!(records.count(&waiting).await, Ok(2));
    let rows = records.candidates(&waiting, None, 9).await.unwrap();
    assert_eq!(rows[0].status, crate::review::record::selection::RERUN);
    let again = records.claim(&ids, &rows[0].status, at(9)).await.unwrap();
    assert_eq!(records.release(&again[0]).await, Ok(Written::Yes));
    assert_eq!(in_table(), ["again", "taken", "downloaded"]);
}

#[tokio::test]
async fn a_row_that_is_not_ours_any_more_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let records = with_rows(folder.path(), &["a"]).await;
    let ids = [RecordId("a".into())];
    let ours = records.claim(&ids, "downloaded", at(5)).await.unwrap().remove(0);
    assert_eq!(records.release(&ours).await.unwrap(), Written::Yes);
    assert_eq!(records.release(&ours).await.unwrap(), Written::Lost);
    let theirs = records.claim(&ids, "downloaded", at(6)).await.unwrap().remove(0);
    assert_eq!(records.settle(&ours, &settlement()).await.unwrap(), Written::Lost);
    assert_eq!(records.release(&ours).await.unwrap(), Written::Lost);
    assert_eq!(records.settle(&theirs, &settlement()).await.unwrap(), Written::Yes);
}

#[tokio::test]
async fn pages_come_oldest_first_and_end_with_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let records = with_rows(folder.path(), &["d", "c", "b"]).await;
    let late = vec![new_record("a"), new_record("d")];
    assert_eq!(records.insert_new(late, "downloaded", at(-9)).await.unwrap(), 1);
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = records.candidates(&downloaded(), cursor.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        cursor = Some(Cursor { created_at: last.created_at, id: last.id.clone() });
        seen.extend(page.into_iter().map(|record| record.id.0));
    }
    assert_eq!(seen, ["a", "d", "c", "b"]);
    assert!(records.candidates(&["added".to_owned()], None, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_folder_becomes_rows_without_hidden_files_and_always_with_the_same_ids() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    std::fs::create_dir_all(images.join("set 1/.thumbs")).unwrap();
    for name in ["z.jpg", "set 1/a b#?.png", "set 1/.thumbs/a.jpg", ".DS_Store", "note"] {
        std::fs::write(images.join(name), b"x").unwrap();
    }
    std::os::unix::fs::symlink("/etc/hostname", images.join("link.jpg")).unwrap();
    let found = files_below(&images).unwrap().files;
    assert_eq!(found, files_below(&images).unwrap().files);
    let jobs: Vec<&str> = found.iter().map(|record| record.job_id.as_str()).collect();
    assert_eq!(jobs, ["note", "set 1/a b#?", "z"]);
    let path = url::Url::parse(&found[1].url).unwrap().to_file_path().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"x");
    let records = open_in(folder.path());
    assert_eq!(records.insert_new(found.clone(), "downloaded", at(0)).await.unwrap(), 3);
    assert_eq!(records.insert_new(found.clone(), "downloaded", at(1)).await.unwrap(), 0);
    let row = records.get(&found[0].id).await.unwrap().unwrap();
    assert_eq!((row.image_index.as_deref(), row.status.as_str()), (Some("0"), "downloaded"));
}

#[tokio::test]
async fn the_users_own_names_may_hold_anything() {
    let folder = tempfile::tempdir().unwrap();
    let columns = Columns { id: "the \"id\"".into(), ..Columns::default() };
    let path = folder.path().join("records.db");
    let records = SqliteRecords::open(&path, "my images; --", &columns).unwrap();
    records.insert_new(vec![new_record("a")], "new", at(0)).await.unwrap();
    assert_eq!(records.count(&["new".to_owned()]).await.unwrap(), 1);
    let other = SqliteRecords::open(&path, "my images; --", &Columns::default());
    assert!(matches!(other, Err(RecordError::Misconfigured(_))), "{other:?}");
}

mod selection {
    use super::*;
    use crate::review::record::selection::{Details, Found, RERUN, Selection, SendBack, Taken};
    use crate::review::record::{ERROR, PROCESSING, SUCCESS};

    /// id, status, category, details, taken
    type Row<'a> = (&'a str, &'a str, Option<&'a str>, Option<&'a str>, Option<i64>);

    async fn with(folder: &Path, rows: &[Row<'_>]) -> SqliteRecords {
        let names: Vec<&str> = rows.iter().map(|row| row.0).collect();
        let records = with_rows(folder, &names).await;
        let connection = Connection::open(folder.join("state/records.db")).unwrap();
        for (id, status, category, details, taken) in rows {
            let sql = "UPDATE midbot_images SET review_status = ?2, auto_review_status = ?3,
                           auto_review_details = ?4, updated_at = ?5 WHERE id = ?1";
            let taken = taken.map(|seconds| stamp(at(seconds)));
            connection.execute(sql, params![id, status, category, details, taken]).unwrap();
        }
        records
    }

    fn reviewed(categories: &[&str], taken: Taken) -> Selection {
        Selection {
            statuses: vec![SUCCESS.into(), ERROR.into()],
            categories: categories.iter().map(|code| (*code).to_owned()).collect(),
            details: Details::Any,
            taken,
        }
    }

    async fn ids(records: &SqliteRecords, selection: &Selection) -> Vec<String> {
        let mut found: Vec<Found> = Vec::new();
        loop {
            let cursor = found
                .last()
                .map(|row| Cursor { created_at: row.record.created_at, id: row.record.id.clone() });
            let page = records.find(selection, cursor.as_ref(), 2).await.unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(records.count_of(selection).await.unwrap(), found.len() as u64);
        found.into_iter().map(|row| row.record.id.0).collect()
    }

    #[tokio::test]
    async fn rows_are_found_by_code_date_and_the_old_services_words() {
        let folder = tempfile::tempdir().unwrap();
        let broken = Some("Error parsing response: Expecting value");
        let rows: [Row<'_>; 9] = [
            ("a", SUCCESS, Some("T1, W1, H1"), Some("x"), Some(10)),
            ("b", SUCCESS, Some("H1"), Some("x"), Some(20)),
            ("c", SUCCESS, Some("good"), broken, Some(30)),
            ("d", SUCCESS, Some("good"), Some("Analysis failed - invalid JSON response."), None),
            ("e", SUCCESS, Some("good"), Some("A stone. Error parsing response"), Some(40)),
            ("f", ERROR, Some(ERROR), broken, Some(50)),
            ("g", PROCESSING, None, None, Some(-100_000)),
            ("h", PROCESSING, None, None, Some(60)),
            ("i", "downloaded", None, None, None),
        ];
        let records = with(folder.path(), &rows).await;
        assert_eq!(ids(&records, &reviewed(&["H1"], Taken::Any)).await, ["a", "b"]);
        assert_eq!(
            ids(&records, &reviewed(&["W1", "good"], Taken::Any)).await,
            ["a", "c", "d", "e"]
        );
        assert_eq!(ids(&records, &reviewed(&["T"], Taken::Any)).await, [""; 0]);
        let between = Taken::Between(Some(at(20)), Some(at(50)));
        assert_eq!(ids(&records, &reviewed(&[], between)).await, ["b", "c", "e"]);
        assert_eq!(ids(&records, &Selection::unreadable()).await, ["c", "d"]);
        assert_eq!(ids(&records, &Selection::stuck(at(-86_400))).await, ["g"]);
    }

    #[tokio::test]
    async fn a_row_is_sent_back_only_if_it_still_is_as_it_was_found() {
        let folder = tempfile::tempdir().unwrap();
        let rows: [Row<'_>; 4] = [
            ("a", SUCCESS, Some("N1"), Some("x"), Some(10)),
            ("b", SUCCESS, Some("N1"), Some("x"), Some(10)),
            ("c", SUCCESS, Some("N1"), Some("x"), Some(10)),
            ("d", SUCCESS, Some("N1"), Some("x"), None),
        ];
        let records = with(folder.path(), &rows).await;
        let found = records.find(&reviewed(&["N1"], Taken::Any), None, 9).await.unwrap();
        let connection = Connection::open(folder.path().join("state/records.db")).unwrap();
        // A person corrects one, and another review takes one and brings it back.
        let change = |sql: &str| connection.execute(sql, []).unwrap();
        change("UPDATE midbot_images SET auto_review_status = 'good' WHERE id = 'b'");
        change("UPDATE midbot_images SET updated_at = '2030-01-01T00:00:00Z' WHERE id = 'c'");
        let changed = records.send_back(&found, &SendBack::Rerun).await.unwrap();
        assert_eq!(changed, [RecordId("a".into()), RecordId("d".into())]);
        let row = records.rows_by_id(&changed[..1]).await.unwrap().remove(0);
        assert_eq!(row.record.status, RERUN);
        assert_eq!(row.auto_review_status.as_deref(), Some("good"));
        assert_eq!(row.auto_review_details.as_deref(), Some("x"), "nothing else is changed");
        assert_eq!(row.updated_at, Some(at(10)));
        assert!(records.send_back(&found[..1], &SendBack::Rerun).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_stuck_row_waits_again_and_nothing_else_of_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let rows: [Row<'_>; 1] = [("a", PROCESSING, Some("old"), None, Some(-100_000))];
        let records = with(folder.path(), &rows).await;
        let found = records.find(&Selection::stuck(at(-86_400)), None, 9).await.unwrap();
        let to = SendBack::Waiting("downloaded".into());
        assert_eq!(records.send_back(&found, &to).await.unwrap().len(), 1);
        let row = records.rows_by_id(&[RecordId("a".into())]).await.unwrap().remove(0);
        assert_eq!(row.record.status, "downloaded");
        assert_eq!(row.auto_review_status.as_deref(), Some("old"));
    }
}
