//! `lookout review --compare`: what would be said of rows that have been reviewed before.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lookout::drill::fake_gemini::{Behaviour, Outcome, Rule};
use lookout::review::comparison::sampling::choose;
use lookout::review::record::RecordId;
use lookout::review::record::sqlite::{NewRecord, SqliteRecords};
use lookout::review::settings::Columns;
use rusqlite::Connection;
use serde_json::Value;

use super::binary::{add_photos, folder, lookout, stand_in, text};

/// Exit code, standard output, standard error.
async fn say(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let ended = lookout(folder, args).wait_with_output();
    let output = tokio::time::timeout(Duration::from_secs(240), ended).await.unwrap().unwrap();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Every row with every column.
fn rows(folder: &Path) -> Vec<String> {
    let connection = Connection::open(folder.join("state/records.db")).unwrap();
    let sql = "SELECT id || '|' || review_status || '|' || coalesce(auto_review_status, '') || '|'
                   || coalesce(auto_review_details, '') || '|' || coalesce(updated_at, '')
               FROM midbot_images ORDER BY id";
    let mut select = connection.prepare(sql).unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn n_tries(folder: &Path) -> i64 {
    let connection = Connection::open(folder.join("state/review.db")).unwrap();
    connection.query_row("SELECT count(*) FROM tries", [], |row| row.get(0)).unwrap()
}

fn change(folder: &Path, sql: &str) {
    let connection = Connection::open(folder.join("state/records.db")).unwrap();
    assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
}

/// `[reviewer]` is the last section of the file that `folder` writes.
fn allow_in_flight(folder: &Path, n: u32) {
    let path = folder.join("lookout.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{config}max_in_flight = {n}\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_says_where_two_answers_differ_and_writes_nothing() {
    let stand_in = stand_in(Behaviour::default()).await;
    let folder = folder(&stand_in);
    let folder = folder.path();
    let n_photos = add_photos(folder);
    let (code, out, err) = say(folder, &["review", "--compare", "5"]).await;
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("no row that has been reviewed before"), "{err}");
    assert_eq!(say(folder, &["review"]).await.0, 0);
    // What the old service might have said instead.
    change(
        folder,
        "UPDATE midbot_images SET auto_review_status = 'PP',
             auto_review_details = 'Something else.' WHERE job_id = 'cat'",
    );
    change(
        folder,
        "UPDATE midbot_images SET auto_review_status = 'good',
             auto_review_details = 'Error parsing response: Expecting value' WHERE job_id = 'text'",
    );
    std::fs::remove_file(folder.join("images/coins.jpg")).unwrap();
    let (before, n_tries_before) = (rows(folder), n_tries(folder));

    let (code, out, err) = say(folder, &["review", "--compare", "1000", "--json"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["compared"], n_photos - 2, "{said:#}");
    assert_eq!(said["same"], n_photos - 3);
    assert_eq!(said["left_out_unreadable"], 1);
    assert_eq!(said["not_compared"].as_array().unwrap().len(), 1);
    let differing = &said["differing"];
    assert_eq!(differing.as_array().unwrap().len(), 1);
    assert_eq!(differing[0]["old"]["categories"], "PP");
    assert!(differing[0]["new"]["details"].as_str().unwrap().contains("no model has looked"));
    let people = &said["codes"][9];
    assert_eq!((people["code"].as_str(), people["only_old"].as_u64()), (Some("PP"), Some(1)));
    assert!(said["usd"].as_f64().unwrap() > 0.0);

    let (code, out, _) = say(folder, &["review", "--compare", "1000"]).await;
    assert_eq!(code, 0);
    let (all, same) = (n_photos - 2, n_photos - 3);
    assert!(out.starts_with(&format!("{same} of {all} rows have the same codes")), "{out}");
    for part in
        ["before  PP", "Something else.", "Not compared", "rerun --unreadable", "Nothing was"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert_eq!(rows(folder), before);
    assert_eq!(n_tries(folder), n_tries_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_key_ends_a_comparison_at_once_and_says_how_far_it_came() {
    let stand_in = stand_in(Behaviour::default()).await;
    let folder = folder(&stand_in);
    let folder = folder.path();
    allow_in_flight(folder, 4);
    let n_photos = add_photos(folder);
    assert!(n_photos > 4, "more than can be under way: {n_photos}");
    assert_eq!(say(folder, &["review"]).await.0, 0);
    let dead = Rule::new(Outcome::KeyLeaked);
    stand_in.set_behaviour(Behaviour { rules: vec![dead], ..Behaviour::default() }).await;
    stand_in.reset_stats();
    let (code, _, err) = say(folder, &["review", "--compare", "100"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("stopped after 0 of") && err.contains("make a new one"), "{err}");
    // Those that were under way together.
    assert!(stand_in.stats().calls <= 4, "{:?}", stand_in.stats());
}

const NOW: i64 = 1_800_000_000;

/// Reviewed rows, one an hour back in time.
async fn hourly(n: usize) -> (tempfile::TempDir, SqliteRecords) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let records = SqliteRecords::open(&path, "midbot_images", &Columns::default()).unwrap();
    let new = (0..n).map(|n| {
        let id = format!("{n:05}");
        NewRecord { id: RecordId(id.clone()), job_id: id, url: String::new() }
    });
    let at = DateTime::from_timestamp(NOW, 0).unwrap();
    records.insert_new(new.collect(), "auto_review_success", at).await.unwrap();
    let connection = Connection::open(&path).unwrap();
    for n in 0..n {
        let taken = at - TimeDelta::hours(i64::try_from(n).unwrap());
        let taken = taken.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let sql =
            "UPDATE midbot_images SET updated_at = ?1, auto_review_status = 'good' WHERE id = ?2";
        connection.execute(sql, (taken, format!("{n:05}"))).unwrap();
    }
    (folder, records)
}

async fn chosen(records: &SqliteRecords, n: usize) -> BTreeSet<usize> {
    let now: DateTime<Utc> = DateTime::from_timestamp(NOW, 0).unwrap() + TimeDelta::minutes(1);
    let chosen = choose(records, n, now).await.unwrap();
    let hours: BTreeSet<usize> =
        chosen.rows.iter().map(|row| row.record.id.0.parse().unwrap()).collect();
    assert_eq!(hours.len(), chosen.rows.len(), "no row twice");
    hours
}

#[tokio::test]
async fn rows_are_chosen_from_several_moments_of_the_last_days() {
    let (_folder, records) = hourly(400).await;
    let hours = chosen(&records, 20).await;
    assert_eq!(hours.len(), 20);
    assert!(*hours.last().unwrap() < 24, "a day holds twenty: {hours:?}");
    let hours = chosen(&records, 100).await;
    assert_eq!(hours.len(), 100);
    assert!(*hours.last().unwrap() < 7 * 24, "{hours:?}");
    assert!(*hours.first().unwrap() < 17 && *hours.last().unwrap() > 150, "{hours:?}");
    assert_eq!(chosen(&records, 1000).await.len(), 400, "as many as there are");
    assert_eq!(chosen(&records, 1).await.len(), 1);
}
