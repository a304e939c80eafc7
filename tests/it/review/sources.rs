//! Images over HTTP: every way in which there is none, and the addresses that are never called.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, put};
use futures_util::StreamExt as _;
use lookout::review::picture::memory_budget::MemoryBudget;
use lookout::review::record::{Record, RecordId};
use lookout::review::source::http::HttpSource;
use lookout::review::source::s3::{S3Place, S3Source};
use lookout::review::source::{Source, SourceError};

const MAX_BYTES: u64 = 1024 * 1024;
const PICTURE: &[u8] = b"\xff\xd8\xff\xe0 not quite a picture, but no page either";

fn record(job_id: &str) -> Record {
    Record {
        id: RecordId("7".into()),
        job_id: Some(job_id.into()),
        image_index: Some("0".into()),
        actual_image_url: None,
        status: "downloaded".into(),
        created_at: None,
        columns: std::collections::BTreeMap::new(),
    }
}

/// A body in pieces; without a length, so that only counting helps.
fn pieces(n: usize, then_cut: Option<std::io::Error>) -> Body {
    let piece = || async {
        tokio::task::yield_now().await;
        Ok(Bytes::from(vec![0x11; 64 * 1024]))
    };
    let chunks = futures_util::stream::iter(0..n).then(move |_| piece());
    let end = async move {
        // What was sent must be on its way before the connection is cut.
        tokio::time::sleep(Duration::from_millis(50)).await;
        then_cut.map(Err)
    };
    Body::from_stream(chunks.chain(futures_util::stream::once(end).filter_map(|e| async { e })))
}

async fn picture(Path(name): Path<String>) -> Response {
    let cut = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    match name.as_str() {
        "fine__0.jpg" => PICTURE.into_response(),
        "page__0.jpg" => Html("\n<!DOCTYPE html><title>Sign in</title>").into_response(),
        "denied__0.jpg" => {
            let body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
            (StatusCode::FORBIDDEN, body).into_response()
        }
        "empty__0.jpg" => ().into_response(),
        "down__0.jpg" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "endless__0.jpg" => pieces(10_000, None).into_response(),
        "cut__0.jpg" => pieces(2, Some(cut())).into_response(),
        "moved__0.jpg" => Redirect::temporary("/fine__0.jpg").into_response(),
        "inner__0.jpg" => Redirect::temporary("http://169.254.169.254/latest/").into_response(),
        "circle__0.jpg" => Redirect::temporary("/circle__0.jpg").into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn served(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test]
async fn every_way_in_which_there_is_no_picture_has_its_reason() {
    let base = served(Router::new().route("/{name}", get(picture))).await;
    let url = format!("{base}/{{job_id}}__{{image_index}}.jpg");
    let source = HttpSource::new(&url, &[], MAX_BYTES).unwrap();
    assert_eq!(source.fetch(&record("fine")).await.as_deref(), Ok(PICTURE));
    assert_eq!(source.fetch(&record("moved")).await.as_deref(), Ok(PICTURE));
    for (job, part) in [
        ("page", "HTML page"),
        ("empty", "empty"),
        ("missing", "no such image"),
        ("endless", "larger than 1 MB"),
        ("inner", "another server (169.254.169.254)"),
        ("circle", "circle"),
    ] {
        let error = source.fetch(&record(job)).await.unwrap_err();
        assert!(matches!(&error, SourceError::Picture(_)), "{job}: {error:?}");
        assert!(error.to_string().contains(part), "{job}: {error}");
    }
    let denied = source.fetch(&record("denied")).await.unwrap_err();
    assert!(matches!(&denied, SourceError::Refused(text) if text.contains("AccessDenied")));
    let down = source.fetch(&record("down")).await.unwrap_err();
    assert!(matches!(&down, SourceError::Unavailable(text) if text.contains("503")), "{down:?}");
    let cut = source.fetch(&record("cut")).await.unwrap_err();
    assert!(matches!(&cut, SourceError::BrokeOff(text) if text.contains("131072")), "{cut:?}");
}

#[tokio::test]
async fn nobody_there_is_no_pictures_fault() {
    let source = HttpSource::new("http://127.0.0.1:9/{id}", &[], MAX_BYTES).unwrap();
    let error = source.fetch(&record("x")).await.unwrap_err();
    assert!(matches!(error, SourceError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn an_older_row_is_fetched_from_its_full_address_if_the_host_is_ours() {
    let base = served(Router::new().route("/{name}", get(picture))).await;
    let url = format!("{base}/{{job_id}}__{{image_index}}.jpg");
    let source = HttpSource::new(&url, &[], MAX_BYTES).unwrap();
    let mut old = record("");
    old.job_id = None;
    let lacking = source.fetch(&old).await.unwrap_err();
    assert!(lacking.to_string().contains("no job_id"), "{lacking}");
    old.actual_image_url = Some(format!("{base}/fine__0.jpg"));
    assert_eq!(source.fetch(&old).await.as_deref(), Ok(PICTURE));
    old.actual_image_url = Some("http://127.0.0.1:1/fine__0.jpg".into());
    let other = source.fetch(&old).await.unwrap_err();
    assert!(other.to_string().contains("allowed_hosts"), "{other}");
}

const MIB: usize = 1024 * 1024;

/// Large files: `known` with their length, `unknown` without.
async fn large(Path(name): Path<String>) -> Response {
    let body = Body::from(vec![0x11; 3 * MIB]);
    if name.starts_with("known") { body.into_response() } else { pieces(48, None).into_response() }
}

#[tokio::test]
async fn files_take_no_more_room_than_there_is_and_all_of_them_come() {
    let base = served(Router::new().route("/{name}", get(large))).await;
    let url = format!("{base}/{{job_id}}__{{image_index}}.jpg");
    // Half of the room is for files: one of these at a time, though four could be asked for.
    let room = MemoryBudget::new(8 * MIB as u64);
    let source = HttpSource::new(&url, &[], 5 * MIB as u64).unwrap().within(&room);
    for name in ["known", "unknown"] {
        let held = AtomicUsize::new(0);
        let fetches = futures_util::stream::iter(0..12).map(|_| async {
            let file = source.fetch(&record(name)).await.unwrap();
            assert_eq!(file.len(), 3 * MIB);
            assert_eq!(held.fetch_add(1, Ordering::SeqCst), 0, "{name}: two are held at once");
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            held.fetch_sub(1, Ordering::SeqCst);
        });
        assert_eq!(fetches.buffer_unordered(12).count().await, 12);
    }
}

/// EC2's metadata service, version 2, and a bucket beside it that wants the role's token.
fn machine_with_a_role() -> Router {
    let token = || async { "fake-metadata-token" };
    let has_token = |headers: &HeaderMap| {
        headers.get("x-aws-ec2-metadata-token").is_some_and(|t| t == "fake-metadata-token")
    };
    let role = move |headers: HeaderMap| async move {
        if has_token(&headers) { Ok("review-role\n") } else { Err(StatusCode::UNAUTHORIZED) }
    };
    let credentials = move |headers: HeaderMap| async move {
        if !has_token(&headers) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let body = serde_json::json!({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "fake-role-key",
            "SecretAccessKey": "fake-role-secret", "Token": "fake-role-token",
            "Expiration": "2099-01-01T00:00:00Z", "LastUpdated": "2026-11-22T10:00:00Z",
        });
        ([(header::CONTENT_TYPE, "text/plain")], body.to_string()).into_response()
    };
    let object = |axum::extract::RawQuery(query): axum::extract::RawQuery| async move {
        let query = query.unwrap_or_default();
        let signed = query.contains("X-Amz-Security-Token=fake-role-token")
            && query.contains("X-Amz-Credential=fake-role-key");
        if signed { Ok(PICTURE) } else { Err(StatusCode::FORBIDDEN) }
    };
    Router::new()
        .route("/latest/api/token", put(token))
        .route("/latest/meta-data/iam/security-credentials/", get(role))
        .route("/latest/meta-data/iam/security-credentials/review-role", get(credentials))
        .route("/pictures/{key}", get(object))
}

#[tokio::test]
async fn without_keys_the_machines_role_signs() {
    let base = served(machine_with_a_role()).await;
    let place = S3Place {
        bucket: "pictures",
        region: "eu-central-1",
        endpoint: Some(&base),
        path_style: true,
    };
    let source = S3Source::with_metadata_at(&base, &place, "{job_id}.jpg", None, MAX_BYTES);
    let source = source.unwrap();
    assert_eq!(source.fetch(&record("a")).await.as_deref(), Ok(PICTURE));
    assert!(!format!("{source:?}").contains("fake-role-secret"));

    let nobody = "http://127.0.0.1:9";
    let source = S3Source::with_metadata_at(nobody, &place, "{job_id}.jpg", None, MAX_BYTES);
    let error = source.unwrap().fetch(&record("a")).await.unwrap_err();
    assert!(matches!(&error, SourceError::Refused(text) if text.contains("AWS_ACCESS_KEY_ID")));
}
