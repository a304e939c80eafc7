//! One HTTP request: what came back, or how it failed.
//!
//! What it means is `classifier.rs`'s and `answer.rs`'s business.
//! Invariant: it ends by its limit, and the key travels in a header only.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response};

use crate::http::{Failure, describe, failure};
use crate::secret::Secret;

/// An answer is some kilobytes; what is larger is not Gemini's.
const MAX_BODY: usize = 8 * 1024 * 1024;

const KEY_HEADER: HeaderName = HeaderName::from_static("x-goog-api-key");
const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-server-timeout");

/// How a request ended.
#[derive(Debug)]
pub(super) enum Called {
    /// Something answered.
    Answered(Answered),
    /// Nothing did, or not wholly.
    Failed(Failure, String),
    /// The key can't be put into a header, so it can't be a key.
    UnusableKey,
}

/// An answer of any status.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    pub(super) body: Bytes,
}

/// Adds key, type and body to a request and sends it.
pub(super) async fn post(
    request: RequestBuilder,
    key: &Secret,
    body: Bytes,
    limit: Duration,
    server_timeout: Option<u64>,
) -> Called {
    let mut request =
        request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
    if let Some(seconds) = server_timeout {
        request = request.header(TIMEOUT_HEADER, seconds);
    }
    send(request, key, limit).await
}

/// Adds the key to a request and sends it.
pub(super) async fn send(request: RequestBuilder, key: &Secret, limit: Duration) -> Called {
    let Ok(mut value) = HeaderValue::from_str(key.expose()) else {
        return Called::UnusableKey;
    };
    value.set_sensitive(true);
    let exchange = async {
        let response = request.header(KEY_HEADER, value).send().await?;
        read(response).await
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(Ok(answered)) => Called::Answered(answered),
        Ok(Err(error)) => Called::Failed(failure(&error), describe(error)),
        Err(_) => Called::Failed(
            Failure::TimedOut,
            format!("no answer within {:.0} s", limit.as_secs_f64().ceil()),
        ),
    }
}

async fn read(mut response: Response) -> Result<Answered, reqwest::Error> {
    let status = response.status().as_u16();
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BODY {
            // Cut off; whatever it is, it will not parse.
            break;
        }
    }
    Ok(Answered { status, retry_after, body: body.freeze() })
}
