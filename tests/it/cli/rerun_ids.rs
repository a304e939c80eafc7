//! `lookout rerun --id` with an id that is none of the table's.

use std::collections::BTreeMap;

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::process::Command;

const ID: &str = "0f9c2d1e-8a47-4c5b-9d3e-111111111111";

/// A table whose ids are UUIDs, as PostgREST shows one (code `22P02`).
async fn postgrest(uri: Uri) -> Response {
    let url = url::Url::parse(&format!("http://x{uri}")).unwrap();
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let ids = query.get("id").map(String::as_str).unwrap_or_default();
    if ids.contains("123") {
        let error = json!({"code": "22P02", "details": null, "hint": null,
                           "message": "invalid input syntax for type uuid: \"123\""});
        return (StatusCode::BAD_REQUEST, error.to_string()).into_response();
    }
    let row = json!({"id": ID, "job_id": "cat", "image_index": 0, "created_at": null,
                     "review_status": "auto_review_success", "auto_review_status": "N1",
                     "auto_review_details": "x", "updated_at": null});
    let rows = if ids.is_empty() || ids.contains(ID) { vec![row] } else { Vec::new() };
    ([("content-range", "0-0/1")], json!(rows).to_string()).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_id_is_named_and_the_others_are_shown() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(postgrest)).await });
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lookout"))
        .args(["rerun", "--id", "123", "--id", ID])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SUPABASE_URL", address.as_str())
        .env("SUPABASE_KEY", "not-a-real-key")
        .env("GEMINI_API_KEY", "not-a-real-key")
        .env("IMAGE_URL", format!("{address}/{{job_id}}__{{image_index}}.jpg"))
        .output()
        .await
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("123: not an id of this table"), "{out}{err}");
    assert!(out.contains("1 image would be reviewed again") && out.contains(ID), "{out}{err}");
}
