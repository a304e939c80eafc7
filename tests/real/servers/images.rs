//! Pictures over the S3 API against SeaweedFS (real signatures) and moto.

use std::time::Duration;

use lookout::http;
use lookout::review::record::{Record, RecordId};
use lookout::review::settings::S3Keys;
use lookout::review::source::s3::{S3Place, S3Source};
use lookout::review::source::{Source, SourceError};
use lookout::secret::Secret;
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};

use crate::given;

const MINUTE: Duration = Duration::from_secs(60);
const MAX_BYTES: u64 = 64 * 1024;

fn record(job_id: &str, image_index: i64) -> Record {
    Record {
        id: RecordId("7".into()),
        job_id: Some(job_id.into()),
        image_index: Some(image_index.to_string()),
        actual_image_url: None,
        status: "downloaded".into(),
        created_at: None,
        columns: [("folder".to_owned(), "2026/11".to_owned())].into(),
    }
}

fn keys(secret: &str) -> S3Keys {
    S3Keys {
        access_key_id: Secret::new(given("S3_ACCESS_KEY")),
        secret_access_key: Secret::new(secret),
        session_token: None,
    }
}

/// Makes the bucket and puts these objects there.
async fn filled(endpoint: &str, bucket: &str, objects: &[(&str, Vec<u8>)]) {
    let credentials = Credentials::new(given("S3_ACCESS_KEY"), given("S3_SECRET_KEY"));
    let url = endpoint.parse().unwrap();
    let place = Bucket::new(url, UrlStyle::Path, bucket.to_owned(), "us-east-1").unwrap();
    let client = http::client(Duration::from_secs(5)).unwrap();
    let make = client.put(place.create_bucket(&credentials).sign(MINUTE));
    let made = make.header("content-length", 0).send().await.unwrap();
    assert!(made.status().is_success(), "{}", made.text().await.unwrap());
    for (key, bytes) in objects {
        let put = place.put_object(Some(&credentials), key).sign(MINUTE);
        let put = client.put(put).body(bytes.clone()).send().await.unwrap();
        assert!(put.status().is_success(), "{key}: {}", put.text().await.unwrap());
    }
}

fn source(endpoint: &str, bucket: &str, key: &str, secret: &str) -> S3Source {
    let place = S3Place { bucket, region: "us-east-1", endpoint: Some(endpoint), path_style: true };
    S3Source::new(&place, key, Some(&keys(secret)), MAX_BYTES).unwrap()
}

const AWKWARD: [&str; 7] =
    ["plain", "with space", "plus+and&amp", "per%20cent", "ünï 🙂", "a/b/c", "semi;colon=q?x#y"];

async fn every_awkward_key_is_fetched_byte_for_byte(endpoint: &str, bucket: &str) {
    let named: Vec<String> = AWKWARD.iter().map(|job| format!("2026/11/{job}__3.jpg")).collect();
    let objects: Vec<(&str, Vec<u8>)> =
        named.iter().map(|key| (key.as_str(), key.clone().into_bytes())).collect();
    filled(endpoint, bucket, &objects).await;
    let key = "{folder}/{job_id}__{image_index}.jpg";
    let source = source(endpoint, bucket, key, &given("S3_SECRET_KEY"));
    for (job, object) in AWKWARD.iter().zip(&named) {
        let bytes = source.fetch(&record(job, 3)).await;
        assert_eq!(bytes.as_deref(), Ok(object.as_bytes()), "{job}");
    }
    let missing = source.fetch(&record("missing", 3)).await.unwrap_err();
    assert!(matches!(missing, SourceError::Picture(_)), "{missing:?}");
}

#[tokio::test]
async fn seaweedfs_gives_every_key_to_whoever_signs_rightly() {
    let endpoint = given("SEAWEED");
    every_awkward_key_is_fetched_byte_for_byte(&endpoint, "pictures").await;
}

#[tokio::test]
async fn moto_gives_every_key() {
    every_awkward_key_is_fetched_byte_for_byte(&given("MOTO"), "pictures").await;
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_shows_neither_key_nor_signature() {
    let endpoint = given("SEAWEED");
    filled(&endpoint, "private", &[("a__0.jpg", b"x".to_vec())]).await;
    let source = source(&endpoint, "private", "{job_id}__{image_index}.jpg", "another-fake-secret");
    let error = source.fetch(&record("a", 0)).await.unwrap_err();
    assert!(
        matches!(&error, SourceError::Refused(text) if text.contains("not accepted")),
        "{error:?}"
    );
    let text = format!("{error} {error:?} {source:?}");
    for hidden in ["X-Amz", "another-fake-secret"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
}

#[tokio::test]
async fn what_is_too_large_empty_or_in_no_bucket_says_so() {
    let endpoint = given("SEAWEED");
    let large = vec![b'x'; usize::try_from(MAX_BYTES).unwrap() + 1];
    filled(&endpoint, "limits", &[("large__0.jpg", large), ("empty__0.jpg", Vec::new())]).await;
    let key = "{job_id}__{image_index}.jpg";
    let limits = source(&endpoint, "limits", key, &given("S3_SECRET_KEY"));
    for (job, part) in [("large", "larger than"), ("empty", "empty")] {
        let error = limits.fetch(&record(job, 0)).await.unwrap_err();
        assert!(matches!(&error, SourceError::Picture(text) if text.contains(part)), "{error:?}");
    }
    let nowhere = source(&endpoint, "no-such-bucket", key, &given("S3_SECRET_KEY"));
    let error = nowhere.fetch(&record("a", 0)).await.unwrap_err();
    assert!(matches!(&error, SourceError::Refused(text) if text.contains("bucket")), "{error:?}");
}
