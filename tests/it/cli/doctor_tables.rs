//! `lookout doctor` against a table like Supabase's, with pictures over HTTP and S3: what it finds in
//! the rows, and what it says about keys.
//!
//! The stand-in answers by what is asked for, and refuses to change anything;
//! `tests/real/whole_review.sh` asks the real servers.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use lookout::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::doctor::{Said, doctor};
use crate::config::folder;

/// What the table holds.
#[derive(Clone, Copy)]
struct Table {
    waiting: u64,
    stuck: u64,
    fresh: u64,
    unreadable: u64,
    parked: u64,
    all: u64,
}

#[derive(Clone)]
struct Server {
    table: Table,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Table and bucket at one address.
async fn server(table: Table) -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let server = Server { table, asked: Arc::clone(&asked) };
    let router = Router::new().fallback(answer).with_state(server);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, asked)
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let uri = request.uri().to_string();
    server.asked.lock().unwrap().push(format!("{} {uri}", request.method()));
    if uri.starts_with("/bucket/") {
        let photo = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/photos/cat.jpg");
        return std::fs::read(photo).unwrap().into_response();
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return StatusCode::FORBIDDEN.into_response();
    }
    if request.headers()["apikey"] == "an-old-key" {
        let body = json!({"message": "Legacy API keys are disabled", "hint": "use new ones"});
        return (StatusCode::UNAUTHORIZED, body.to_string()).into_response();
    }
    let url = url::Url::parse(&format!("http://x{uri}")).unwrap();
    let has = |text: &str| url.query_pairs().any(|(_, value)| value.contains(text));
    let Table { waiting, stuck, fresh, unreadable, parked, all } = server.table;
    let n = if has("Error parsing response") {
        unreadable
    } else if has("rerun_for_clarity") {
        parked
    } else if has("updated_at.lt.") {
        stuck
    } else if has("processing") {
        stuck + fresh
    } else if has("downloaded") {
        waiting
    } else {
        all
    };
    let row = json!({"id": "7", "job_id": "cat", "image_index": 0, "review_status": "downloaded",
                     "created_at": "2026-11-22T10:00:00+00:00", "updated_at": null});
    let rows: Vec<Value> = (0..n.min(1)).map(|_| row.clone()).collect();
    let range = format!("0-0/{n}");
    ([("content-range", range)], json!(rows).to_string()).into_response()
}

async fn ask(table: Table, key: &str, toml: &str) -> (Said, Vec<String>) {
    let (address, asked) = server(table).await;
    let gemini = FakeGemini::start(FakeGeminiSettings { port: 0, behaviour: Behaviour::default() });
    let gemini = gemini.await.unwrap();
    let root = folder(&[("lookout.toml", &toml.replace("SERVER", &address))]);
    let image_url = format!("{address}/bucket/{{job_id}}__{{image_index}}.jpg");
    let mut variables = vec![
        ("LOOKOUT__REVIEWER__BASE_URL", gemini.base_url.as_str()),
        ("SUPABASE_URL", address.as_str()),
        ("SUPABASE_KEY", key),
        ("AWS_ACCESS_KEY_ID", "not-a-real-id"),
        ("AWS_SECRET_ACCESS_KEY", "not-a-real-secret-of-s3"),
    ];
    if toml.is_empty() {
        variables.push(("IMAGE_URL", image_url.as_str()));
    }
    let said = doctor(root.path(), &variables, &["--json"]).await;
    assert!(!said.text.contains(key) && !said.text.contains("real-secret"), "{}", said.text);
    let asked = asked.lock().unwrap().clone();
    (said, asked)
}

const BUSY: Table =
    Table { waiting: 1_240, stuck: 3, fresh: 2, unreadable: 17, parked: 5, all: 90_000 };

fn words(said: &Said, state: &str) -> String {
    let findings = said.findings();
    let of_state = findings.iter().filter(|finding| finding["state"] == state);
    of_state.map(|f| format!("{} {}\n", f["what"].as_str().unwrap(), f["instead"])).collect()
}

#[tokio::test]
async fn stuck_rows_and_accidents_of_the_old_service_are_counted_and_the_backlog_has_a_price() {
    let (said, asked) = ask(BUSY, "some-secret-key", "").await;
    assert_eq!(said.code, 0, "{}", said.text);
    let warnings = words(&said, "warning");
    assert!(warnings.contains("3 images are in processing for more than a day"), "{warnings}");
    assert!(warnings.contains("lookout rerun --stuck"), "{warnings}");
    assert!(warnings.contains("17 images are good by accident"), "{warnings}");
    assert!(warnings.contains("lookout rerun --unreadable"), "{warnings}");
    assert!(warnings.contains("5 images are parked as rerun_for_clarity"), "{warnings}");
    assert!(warnings.contains("lookout rerun --status rerun_for_clarity"), "{warnings}");
    let good = words(&said, "good");
    assert!(good.contains("1240 images wait (downloaded)"), "{good}");
    assert!(good.contains("2 images are being processed"), "{good}");
    assert!(good.contains("the 1240 images that wait: about "), "{good}");
    assert!(good.contains("(an estimate: no answer of it was seen here)"), "{good}");
    assert!(good.contains("the image of row 7 is there"), "{good}");
    assert!(words(&said, "not_checked").contains("whether rows may be changed"));
    assert!(asked.iter().all(|one| one.starts_with("GET") || one.starts_with("HEAD")), "{asked:?}");
    assert!(asked.iter().any(|one| one.starts_with("GET /bucket/cat__0.jpg")), "{asked:?}");
}

#[tokio::test]
async fn pictures_in_s3_are_fetched_with_a_signature() {
    let toml = "[images]\nkind = \"s3\"\nbucket = \"bucket\"\nregion = \"us-east-1\"\n\
                endpoint = \"SERVER\"\npath_style = true\nkey = \"{job_id}__{image_index}.jpg\"\n";
    let (said, asked) = ask(BUSY, "some-secret-key", toml).await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert!(words(&said, "good").contains("the image of row 7 is there"), "{}", said.text);
    let signed = |one: &String| one.contains("/bucket/cat__0.jpg") && one.contains("Signature");
    assert!(asked.iter().any(signed), "{asked:?}");
}

#[tokio::test]
async fn a_retired_key_is_named_for_what_it_is() {
    let (said, _) = ask(BUSY, "an-old-key", "").await;
    let (state, what) = said.about("records");
    assert_eq!((said.code, state.as_str()), (1, "failed"), "{what}");
    assert!(what.contains("this key is retired"), "{what}");
    assert_eq!(said.about("images").0, "not_checked", "{}", said.text);
}

#[tokio::test]
async fn an_unknown_price_is_not_checked_and_an_empty_table_may_be_hidden() {
    let table = Table { waiting: 9, ..BUSY };
    let toml = "[reviewer]\nkind = \"gemini\"\nmodel = \"gemini-flash-latest\"\n\
                [images]\nkind = \"http\"\nurl = \"SERVER/bucket/{job_id}__{image_index}.jpg\"\n";
    let (said, _) = ask(table, "some-secret-key", toml).await;
    let unknown = words(&said, "not_checked");
    assert!(unknown.contains("the 9 images that wait: the cost is unknown"), "{}", said.text);

    let empty = Table { waiting: 0, stuck: 0, fresh: 0, unreadable: 0, parked: 0, all: 0 };
    let (said, _) = ask(empty, "some-secret-key", "").await;
    assert!(words(&said, "warning").contains("row-level security hides its rows"), "{}", said.text);
    assert_eq!(said.about("images").0, "not_checked");
}
