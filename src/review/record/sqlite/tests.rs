//! The embedded records, through the port and from another connection's eyes.

use super::*;

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
async fn a_claim_takes_a_row_once_and_the_result_stands_in_the_contracts_columns() {
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
async fn a_row_that_is_not_ours_any_more_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let records = with_rows(folder.path(), &["a"]).await;
    let ids = [RecordId("a".into())];
    let ours = records.claim(&ids, "downloaded", at(5)).await.unwrap().remove(0);
    assert_eq!(records.give_back(&ours).await.unwrap(), Written::Yes);
    assert_eq!(records.give_back(&ours).await.unwrap(), Written::Lost);
    let theirs = records.claim(&ids, "downloaded", at(6)).await.unwrap().remove(0);
    assert_eq!(records.settle(&ours, &settlement()).await.unwrap(), Written::Lost);
    assert_eq!(records.give_back(&ours).await.unwrap(), Written::Lost);
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
    for name in ["z.jpg", "set 1/a b#?.png", "set 1/.thumbs/a.jpg", ".DS_Store", "note.txt"] {
        std::fs::write(images.join(name), b"x").unwrap();
    }
    std::os::unix::fs::symlink("/etc/hostname", images.join("link.jpg")).unwrap();
    let found = files_below(&images).unwrap();
    assert_eq!(found, files_below(&images).unwrap());
    let jobs: Vec<&str> = found.iter().map(|record| record.job_id.as_str()).collect();
    assert_eq!(jobs, ["note", "set 1/a b#?", "z"]);
    let path = url::Url::parse(&found[1].url).unwrap().to_file_path().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"x");
    let records = open_in(folder.path());
    assert_eq!(records.insert_new(found.clone(), "downloaded", at(0)).await.unwrap(), 3);
    assert_eq!(records.insert_new(found.clone(), "downloaded", at(1)).await.unwrap(), 0);
    let row = records.get(&found[0].id).await.unwrap().unwrap();
    assert_eq!((row.image_index, row.status.as_str()), (Some(0), "downloaded"));
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
