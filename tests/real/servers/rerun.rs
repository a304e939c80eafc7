//! Finding rows and sending them back, against the real PostgREST: `lookout rerun`'s side of it.

use lookout::review::record::selection::{Details, Found, RERUN, Selection, SendBack, Taken};
use lookout::review::record::{Cursor, ERROR, PROCESSING, RecordError, Records, SUCCESS};
use lookout::review::settings::Columns;
use serde_json::json;

use crate::given;
use crate::records::{at, insert, records, records_at, request, row, uuid};

async fn ids(table: &str, selection: &Selection) -> Vec<String> {
    let records = records(table);
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

fn numbers(range: &[u32]) -> Vec<String> {
    range.iter().map(|i| uuid(*i)).collect()
}

fn reviewed(categories: &[&str], taken: Taken) -> Selection {
    Selection {
        statuses: vec![SUCCESS.into(), ERROR.into()],
        categories: categories.iter().map(|code| (*code).to_owned()).collect(),
        details: Details::Any,
        taken,
    }
}

#[tokio::test]
async fn rows_are_found_by_code_date_and_the_old_services_words() {
    let broken = "Error parsing response: Expecting value, line 1 (char 0)";
    let rows = [
        (1, SUCCESS, Some("T1, W1, H1"), "x", Some(10)),
        (2, SUCCESS, Some("H1"), "x", Some(20)),
        (3, SUCCESS, Some("good"), broken, Some(30)),
        (4, SUCCESS, Some("good"), "Analysis failed - invalid JSON response.", None),
        (5, SUCCESS, Some("good"), "A stone. Error parsing response", Some(40)),
        (6, ERROR, Some(ERROR), broken, Some(50)),
        (7, PROCESSING, None, "", Some(-100_000)),
        (8, PROCESSING, None, "", Some(60)),
        (9, "downloaded", None, "", None),
        (10, SUCCESS, Some("W1, H1"), "x", Some(70)),
    ];
    let body: Vec<_> = rows
        .iter()
        .map(|(i, status, category, details, taken)| {
            json!({"id": uuid(*i), "created_at": at(i64::from(*i)), "review_status": status,
                   "auto_review_status": category, "auto_review_details": details,
                   "updated_at": taken.map(at)})
        })
        .collect();
    insert("choosing", json!(body)).await;
    let found = async |selection: Selection| ids("choosing", &selection).await;
    assert_eq!(found(reviewed(&["H1"], Taken::Any)).await, numbers(&[1, 2, 10]));
    assert_eq!(found(reviewed(&["W1", "good"], Taken::Any)).await, numbers(&[1, 3, 4, 5, 10]));
    assert_eq!(found(reviewed(&["T"], Taken::Any)).await, numbers(&[]));
    let between = Taken::Between(Some(at(20)), Some(at(50)));
    assert_eq!(found(reviewed(&[], between)).await, numbers(&[2, 3, 5]));
    assert_eq!(found(Selection::unreadable()).await, numbers(&[3, 4]));
    assert_eq!(found(Selection::stuck(at(-86_400))).await, numbers(&[7]));
}

#[tokio::test]
async fn a_row_is_sent_back_only_if_it_still_is_as_it_was_found() {
    let rows: Vec<_> = (1..251)
        .map(|i| {
            json!({"id": uuid(i), "review_status": SUCCESS, "auto_review_status": "T1, N1",
                   "auto_review_details": "x", "updated_at": at(10), "created_at": at(0)})
        })
        .collect();
    insert("sending_back", json!(rows)).await;
    let records = records("sending_back");
    let ids: Vec<_> = (0..252).map(|i| lookout::review::record::RecordId(uuid(i))).collect();
    let found = records.rows_by_id(&ids).await.unwrap();
    assert_eq!(found.len(), 250, "more than one request can ask for");
    // A person corrects one, and another review takes one and brings it back.
    for (i, change) in
        [(2, json!({"auto_review_status": "good"})), (3, json!({"updated_at": at(60)}))]
    {
        let path = format!("sending_back?id=eq.{}", uuid(i));
        request(reqwest::Method::PATCH, &path, change).await;
    }
    let changed = records.send_back(&found, &SendBack::Rerun).await.unwrap();
    assert_eq!(changed.len(), 248);
    let one = row("sending_back", &uuid(1)).await;
    assert_eq!(
        (one["review_status"].as_str(), one["auto_review_status"].as_str()),
        (Some(RERUN), Some("good"))
    );
    assert_eq!(one["auto_review_details"], "x", "nothing else is changed");
    for i in [2, 3] {
        assert_eq!(row("sending_back", &uuid(i)).await["review_status"], SUCCESS);
    }
    assert!(records.send_back(&found, &SendBack::Rerun).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_found_out_and_a_key_that_may_not_write_is_told() {
    let rows: Vec<_> = (1..4)
        .map(|i| json!({"id": uuid(i), "review_status": PROCESSING, "updated_at": at(-100_000)}))
        .collect();
    insert("lost_changes", json!(rows)).await;
    let cut = records_at("/cut-1-rerun", &given("KEY_SECRET"), "lost_changes", &Columns::default());
    let found = cut.find(&Selection::stuck(at(-86_400)), None, 9).await.unwrap();
    let to = SendBack::Waiting("downloaded".into());
    assert_eq!(cut.send_back(&found, &to).await.unwrap().len(), 3);
    assert_eq!(row("lost_changes", &uuid(1)).await["review_status"], "downloaded");

    insert("hidden", json!([{"id": uuid(77), "review_status": SUCCESS}])).await;
    let reader = records_at("", &given("KEY_READER"), "hidden", &Columns::default());
    let found = reader.find(&reviewed(&[], Taken::Any), None, 9).await.unwrap();
    assert_eq!(found.len(), 1);
    let error = reader.send_back(&found, &SendBack::Rerun).await.unwrap_err();
    assert!(matches!(&error, RecordError::Refused(text) if text.contains("row-level security")));
}
