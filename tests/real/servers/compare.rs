//! Choosing reviewed rows for a comparison, against the real PostgREST.

use chrono::TimeDelta;
use lookout::review::comparison::sampling::choose;
use lookout::review::record::SUCCESS;
use serde_json::json;

use crate::records::{at, insert, records, uuid};

#[tokio::test]
async fn rows_are_chosen_from_the_last_days_and_none_without_an_answer() {
    let rows: Vec<_> = (0..60_u32)
        .map(|i| {
            let details =
                if i % 10 == 9 { "Error parsing response: Expecting value" } else { "A stone." };
            json!({"id": uuid(i), "created_at": at(i64::from(i)), "review_status": SUCCESS,
                   "auto_review_status": "good", "auto_review_details": details,
                   "updated_at": at(0) - TimeDelta::hours(i64::from(i))})
        })
        .collect();
    insert("chosen", json!(rows)).await;
    let records = records("chosen");
    let chosen = choose(&records, 20, at(60)).await.unwrap();
    assert_eq!(chosen.rows.len(), 20);
    assert!(chosen.rows.iter().all(|row| row.updated_at > Some(at(0) - TimeDelta::days(1))));
    let chosen = choose(&records, 100, at(60)).await.unwrap();
    assert_eq!((chosen.rows.len(), chosen.n_unreadable), (54, 6));
}
