//! Supabase records against the real PostgREST and `PostgreSQL` behind a gateway like Supabase's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, TimeZone as _, Utc};
use lookout::http;
use lookout::review::record::supabase::{Inspection, SupabaseRecords};
use lookout::review::record::{
    Claimed, Cursor, ERROR, PROCESSING, RecordError, RecordId, Records, SUCCESS, Settlement,
    Written,
};
use lookout::review::settings::Columns;
use lookout::secret::Secret;
use serde_json::{Value, json};

use crate::given;

pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 22, 10, 0, 0).unwrap() + TimeDelta::seconds(seconds)
}

pub(crate) fn records_at(
    place: &str,
    key: &str,
    table: &str,
    columns: &Columns,
) -> SupabaseRecords {
    let url = format!("{}{place}", given("SUPABASE"));
    SupabaseRecords::new(&url, &Secret::new(key), table, columns).unwrap()
}

pub(crate) fn records(table: &str) -> SupabaseRecords {
    records_at("", &given("KEY_SECRET"), table, &Columns::default())
}

pub(crate) async fn request(method: reqwest::Method, path: &str, body: Value) -> Value {
    let url = format!("{}/rest/v1/{path}", given("SUPABASE"));
    let client = http::client(Duration::from_secs(5)).unwrap();
    let request = client.request(method, url).header("apikey", given("KEY_SECRET"));
    let response = request.header("prefer", "return=representation").json(&body).send();
    let response = response.await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}

pub(crate) async fn insert(table: &str, rows: Value) {
    request(reqwest::Method::POST, table, rows).await;
}

pub(crate) async fn row(table: &str, id: &str) -> Value {
    let rows = request(reqwest::Method::GET, &format!("{table}?id=eq.{id}"), Value::Null).await;
    rows[0].clone()
}

pub(crate) fn uuid(i: u32) -> String {
    format!("00000000-0000-4000-8000-{i:012}")
}

fn statuses(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn ids(range: std::ops::Range<u32>) -> Vec<RecordId> {
    range.map(|i| RecordId(uuid(i))).collect()
}

fn good(details: &str) -> Settlement {
    Settlement {
        review_status: SUCCESS.into(),
        auto_review_status: "good".into(),
        auto_review_details: details.into(),
    }
}

/// Every row by pages of this size.
async fn all(records: &SupabaseRecords, of: &[String], limit: u32) -> Vec<RecordId> {
    let mut found = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let page = records.candidates(of, cursor.as_ref(), limit).await.unwrap();
        let Some(last) = page.last() else { return found };
        cursor = Some(Cursor { created_at: last.created_at, id: last.id.clone() });
        found.extend(page.into_iter().map(|record| record.id));
    }
}

#[tokio::test]
async fn pages_bring_every_row_once_oldest_first_whatever_the_servers_own_limit() {
    // Same times, no times, and more rows than the server gives at once (1,000).
    let rows: Vec<Value> = (0..1_200_u32)
        .map(|i| {
            let created_at = (i % 50 != 7).then(|| at(i64::from(1_200 - i) / 10));
            let status = if i % 3 == 0 { "added" } else { "downloaded" };
            json!({"id": uuid(i), "job_id": "a,b", "image_index": i, "created_at": created_at,
                   "review_status": status})
        })
        .collect();
    insert("paging", json!(rows)).await;
    insert("paging", json!([{"id": uuid(5_000), "review_status": "elsewhere"}])).await;
    let records = records("paging");
    let both = statuses(&["downloaded", "added"]);
    assert_eq!(records.count(&both).await.unwrap(), 1_200);
    for limit in [2_000, 333] {
        let found = all(&records, &both, limit).await;
        assert_eq!(found.len(), 1_200, "limit {limit}");
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 1_200);
        assert_eq!(found.first().unwrap().0, uuid(1_191), "the oldest, the smaller id first");
        assert_eq!(found.last().unwrap().0, uuid(1_157), "rows without a date come last");
    }
    let one = records.get(&RecordId(uuid(42))).await.unwrap().unwrap();
    assert_eq!((one.job_id.as_deref(), one.image_index.as_deref()), (Some("a,b"), Some("42")));
    assert_eq!(records.get(&RecordId(uuid(9_999))).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_workers_claim_each_row_exactly_once() {
    let rows: Vec<Value> = (0..400).map(|i| json!({"id": uuid(i)})).collect();
    insert("claiming", json!(rows)).await;
    let workers = (0..8).map(|worker| {
        tokio::spawn(async move {
            let records = records("claiming");
            let mut ours = Vec::new();
            for part in ids(0..400).chunks(20) {
                ours.extend(records.claim(part, "downloaded", at(worker)).await.unwrap());
            }
            ours
        })
    });
    let mut claimed: Vec<RecordId> = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        for Claimed { record, .. } in worker.await.unwrap() {
            assert_eq!(record.status, "downloaded", "where it came from");
            claimed.push(record.id);
        }
    }
    assert_eq!(claimed.len(), 400);
    assert_eq!(claimed.iter().collect::<BTreeSet<_>>().len(), 400);
    assert_eq!(records("claiming").count(&statuses(&[PROCESSING])).await.unwrap(), 400);
}

#[tokio::test]
async fn a_result_is_written_only_while_the_row_is_ours() {
    insert("settling", json!([{"id": uuid(1)}, {"id": uuid(2)}, {"id": uuid(3)}])).await;
    let records = records("settling");
    let now = at(0) + TimeDelta::nanoseconds(123_456_789);
    let claimed = records.claim(&ids(1..4), "downloaded", now).await.unwrap();
    assert_eq!(claimed.len(), 3);
    let by_id = |i: u32| claimed.iter().find(|c| c.record.id.0 == uuid(i)).unwrap();
    // Details that would break anything that is not quoted.
    let details = "He said: \"100 %\" – 'ok', (a,b) \\ ünïcödé 🙂\nline";
    assert_eq!(records.settle(by_id(1), &good(details)).await, Ok(Written::Yes));
    let settled = row("settling", &uuid(1)).await;
    assert_eq!(settled["review_status"], SUCCESS);
    assert_eq!(settled["auto_review_status"], "good");
    assert_eq!(settled["auto_review_details"], details);
    assert_eq!(records.settle(by_id(1), &good("again")).await, Ok(Written::Lost));

    assert_eq!(records.release(by_id(2)).await, Ok(Written::Yes));
    assert_eq!(row("settling", &uuid(2)).await["review_status"], "downloaded");
    assert_eq!(records.release(by_id(2)).await, Ok(Written::Lost));

    // Somebody else takes the row over: same status, another time.
    let elsewhere = json!({"updated_at": at(60)});
    let path = format!("settling?id=eq.{}", uuid(3));
    request(reqwest::Method::PATCH, &path, elsewhere).await;
    assert_eq!(records.settle(by_id(3), &good("late")).await, Ok(Written::Lost));
    assert_eq!(row("settling", &uuid(3)).await["auto_review_status"], Value::Null);
}

#[tokio::test]
async fn an_answer_that_is_lost_loses_no_row() {
    let rows: Vec<Value> = (0..4).map(|i| json!({"id": uuid(i)})).collect();
    insert("lost_answers", json!(rows)).await;
    let key = given("KEY_SECRET");
    let cut = |place: &str| records_at(place, &key, "lost_answers", &Columns::default());
    let claimed = cut("/cut-1-claim").claim(&ids(0..4), "downloaded", at(5)).await.unwrap();
    assert_eq!(claimed.len(), 4, "carried out, and found out by the time it wrote");
    assert_eq!(cut("/cut-1-settle").settle(&claimed[0], &good("x")).await, Ok(Written::Yes));
    assert_eq!(cut("/cut-2-settle").settle(&claimed[1], &good("x")).await, Ok(Written::Yes));
    assert_eq!(cut("/cut-1-back").release(&claimed[2]).await, Ok(Written::Yes));
    let error = cut("/cut-9-settle").settle(&claimed[3], &good("x")).await.unwrap_err();
    assert!(matches!(error, RecordError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn a_table_of_other_names_text_ids_and_times_without_zone_works() {
    let columns = Columns {
        id: "picture".into(),
        job_id: "job".into(),
        image_index: "n".into(),
        review_status: "state".into(),
        auto_review_status: "verdict".into(),
        auto_review_details: "why".into(),
        created_at: "made".into(),
        updated_at: "touched".into(),
        actual_image_url: "no_such_column".into(),
    };
    let names = [
        "a,b.jpg",
        "say \"x\"",
        "back\\slash",
        "(brackets)",
        "per%cent&amp",
        "ünï 🙂",
        "*",
        "null",
    ];
    let rows: Vec<Value> = names
        .iter()
        .zip(0..)
        .map(|(name, i)| json!({"picture": name, "state": "new, fresh", "made": at(i)}))
        .collect();
    insert("old_pictures", json!(rows)).await;
    let records = records_at("", &given("KEY_SERVICE"), "old_pictures", &columns);
    let fresh = statuses(&["new, fresh"]);
    let found = all(&records, &fresh, 3).await;
    assert_eq!(found.iter().map(|id| id.0.as_str()).collect::<Vec<_>>(), names);
    let claimed = records.claim(&found, "new, fresh", at(9)).await.unwrap();
    assert_eq!(claimed.len(), names.len());
    for claimed in &claimed {
        assert_eq!(claimed.claimed_at, at(9));
        let one = records.get(&claimed.record.id).await.unwrap().unwrap();
        assert_eq!(one.status, PROCESSING);
        assert_eq!(records.settle(claimed, &good("fine")).await, Ok(Written::Yes));
    }
    assert_eq!(records.count(&statuses(&[SUCCESS])).await, Ok(8));
    let seen = records.inspect().await.unwrap();
    assert_eq!(seen, Inspection { rows: 8, has_actual_image_url: false });
}

#[tokio::test]
async fn a_trigger_that_sets_its_own_time_does_not_lock_us_out() {
    insert("stamped", json!([{"id": uuid(1)}, {"id": uuid(2)}])).await;
    let records = records("stamped");
    let claimed = records.claim(&ids(1..3), "downloaded", at(0)).await.unwrap();
    assert_ne!(claimed[0].claimed_at, at(0), "the time that came back, not ours");
    assert_eq!(records.settle(&claimed[0], &good("x")).await, Ok(Written::Yes));
    assert_eq!(records.release(&claimed[1]).await, Ok(Written::Yes));
}

#[tokio::test]
async fn each_kind_of_key_works_as_supabase_wants_it_and_a_wrong_one_says_what_to_do() {
    insert("keys", json!([{"id": uuid(1)}])).await;
    let of = |key: &str| records_at("", key, "keys", &Columns::default());
    let downloaded = statuses(&["downloaded"]);
    for key in ["KEY_SECRET", "KEY_SERVICE"] {
        assert_eq!(of(&given(key)).count(&downloaded).await, Ok(1), "{key}");
    }
    for (key, part) in [
        (given("KEY_PUBLISHABLE"), "no permission"),
        (given("KEY_ANON"), "no permission"),
        (given("KEY_EXPIRED"), "expired"),
        ("some-other-key".to_owned(), "belongs to the project"),
        (String::new(), "set SUPABASE_KEY"),
    ] {
        let error = of(&key).count(&downloaded).await.unwrap_err();
        assert!(matches!(&error, RecordError::Refused(_)), "{key}: {error:?}");
        assert!(error.to_string().contains(part), "{part}: {error}");
        assert!(key.is_empty() || !error.to_string().contains(&key), "a key in a message");
    }
    let paused = records_at("/paused", &given("KEY_SECRET"), "keys", &Columns::default());
    let error = paused.count(&downloaded).await.unwrap_err();
    assert!(matches!(&error, RecordError::Refused(text) if text.contains("paused")), "{error:?}");
}

#[tokio::test]
async fn a_wrong_table_or_column_is_named() {
    for (table, part) in [("no_such_table", "no table"), ("lacking", "[records.columns]")] {
        let error = records(table).inspect().await.unwrap_err();
        assert!(matches!(&error, RecordError::Misconfigured(_)), "{table}: {error:?}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = records("lacking").claim(&ids(1..2), "downloaded", at(0)).await.unwrap_err();
    assert!(matches!(&error, RecordError::Misconfigured(_)), "{error:?}");
    let error = records("keys").get(&RecordId("no-uuid".into())).await.unwrap_err();
    assert!(error.to_string().contains("another type"), "{error}");
}

#[tokio::test]
async fn a_key_that_may_read_and_not_write_is_found_out() {
    insert("hidden", json!([{"id": uuid(1)}])).await;
    insert("readable", json!([{"id": uuid(1)}])).await;
    for (table, part) in [("hidden", "row-level security"), ("readable", "no permission")] {
        let records = records_at("", &given("KEY_READER"), table, &Columns::default());
        let error = records.claim(&ids(1..2), "downloaded", at(0)).await.unwrap_err();
        assert!(matches!(&error, RecordError::Refused(_)), "{table}: {error:?}");
        assert!(error.to_string().contains(part), "{error}");
    }
    // Another worker was faster: that is no error.
    let secret = records("hidden");
    assert_eq!(secret.claim(&ids(1..2), "added", at(0)).await.unwrap(), []);
}

#[tokio::test]
async fn a_rule_of_the_table_that_forbids_our_statuses_is_named() {
    insert("ruled", json!([{"id": uuid(1)}])).await;
    let error = records("ruled").claim(&ids(1..2), "downloaded", at(0)).await.unwrap_err();
    assert!(
        matches!(&error, RecordError::Misconfigured(text) if text.contains(ERROR)),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_outage_is_unavailable_and_nothing_else() {
    let key = given("KEY_SECRET");
    for place in ["/down", "/html"] {
        let records = Arc::new(records_at(place, &key, "keys", &Columns::default()));
        let error = records.count(&statuses(&["downloaded"])).await.unwrap_err();
        assert!(matches!(&error, RecordError::Unavailable(_)), "{place}: {error:?}");
    }
    let nobody =
        SupabaseRecords::new("http://127.0.0.1:9", &Secret::new(key), "keys", &Columns::default());
    let error = nobody.unwrap().get(&RecordId(uuid(1))).await.unwrap_err();
    assert!(matches!(&error, RecordError::Unavailable(text) if text.contains("reached")));
}
