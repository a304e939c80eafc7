//! Sends what `query.rs` builds: keys, time, size, repetition.
//!
//! Invariant: a request that changes rows is never repeated blindly after it may have been carried
//! out; the caller is told that it is not known, and looks.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::answer::{Problem, problem};
use super::query::{Method, Request};
use crate::http;
use crate::review::record::RecordError;
use crate::secret::Secret;

/// TCP and TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// A whole request. Supabase ends a statement after 8 s (anon) to 2 min; what takes longer than
/// this would hold up the run.
const WHOLE: Duration = Duration::from_secs(30);
/// Bytes of an answer: 100 rows of 300 KB would be a strange table.
const MAX_ANSWER: usize = 32 * 1024 * 1024;
/// Times a request is sent, and the pause before the second; it doubles.
const MAX_SENT: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// How a request went that was not a success.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing was changed.
    Surely(RecordError),
    /// It may or may not have been carried out.
    Perhaps(RecordError),
}

impl Failed {
    pub(super) fn into_error(self) -> RecordError {
        match self {
            Self::Surely(error) | Self::Perhaps(error) => error,
        }
    }
}

/// A success.
#[derive(Debug)]
pub(super) struct Answer {
    body: Bytes,
    /// Of `Content-Range: 0-0/1200`.
    pub(super) total: Option<u64>,
}

impl Answer {
    /// The rows.
    pub(super) fn rows(&self) -> Result<Vec<Map<String, Value>>, RecordError> {
        serde_json::from_slice(&self.body).map_err(|_| {
            RecordError::Misconfigured(
                "what answers at SUPABASE_URL is not PostgREST: its answer is no list of rows"
                    .to_owned(),
            )
        })
    }
}

/// Our client with the key in its headers.
#[derive(Debug)]
pub(super) struct Transport {
    client: reqwest::Client,
    headers: HeaderMap,
    table: String,
}

/// New keys (`sb_…`) are no tokens and go into `apikey` alone; all others are tokens and go into
/// both headers.
fn key_headers(key: &Secret) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut put = |name: HeaderName, value: &str| {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Some(())
    };
    let text = key.expose();
    put(HeaderName::from_static("apikey"), text)?;
    if !text.starts_with("sb_secret_") && !text.starts_with("sb_publishable_") {
        put(AUTHORIZATION, &format!("Bearer {text}"))?;
    }
    Some(headers)
}

impl Transport {
    pub(super) fn new(key: &Secret, table: &str) -> Result<Self, RecordError> {
        let headers = key_headers(key).ok_or_else(|| {
            RecordError::Refused(
                "SUPABASE_KEY holds characters that no key has; copy it again".to_owned(),
            )
        })?;
        let client = http::client(CONNECT).map_err(|error| {
            RecordError::Unavailable(format!("no client: {}", http::describe(error)))
        })?;
        Ok(Self { client, headers, table: table.to_owned() })
    }

    /// Names the schema for reading and for writing (PostgREST, "Schemas").
    pub(super) fn in_schema(mut self, schema: &str) -> Result<Self, RecordError> {
        let value = HeaderValue::from_str(schema).map_err(|_| {
            RecordError::Misconfigured(format!("\"{schema}\" can't be the name of a schema"))
        })?;
        for name in ["accept-profile", "content-profile"] {
            self.headers.insert(HeaderName::from_static(name), value.clone());
        }
        Ok(self)
    }

    /// Sends a request; one that reads is repeated, one that writes only if nothing was changed.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, Failed> {
        let mut pause = PAUSE;
        for n_sent in 1.. {
            let failed = match self.once(request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let again = match (&failed, request.method) {
                (Failed::Surely(RecordError::Unavailable(_)), _)
                | (Failed::Perhaps(RecordError::Unavailable(_)), Method::Get | Method::Head) => {
                    true
                }
                (Failed::Surely(_) | Failed::Perhaps(_), _) => false,
            };
            if !again || n_sent == MAX_SENT {
                return Err(failed);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        // The loop has no end of its own.
        Err(Failed::Surely(RecordError::Unavailable("nothing was sent".to_owned())))
    }

    async fn once(&self, request: &Request) -> Result<Answer, Failed> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Head => reqwest::Method::HEAD,
            Method::Patch => reqwest::Method::PATCH,
        };
        let mut sent = self.client.request(method, &request.url).timeout(WHOLE);
        for (name, value) in &request.headers {
            sent = sent.header(name, value);
        }
        let response = sent.headers(self.headers.clone()).body(request.body.clone()).send().await;
        let response = response.map_err(|error| self.broken(error))?;
        let status = response.status();
        let total = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|range| range.to_str().ok()?.rsplit_once('/')?.1.parse().ok());
        let body = self.read(response).await?;
        if status.is_success() {
            return Ok(Answer { body, total });
        }
        let Problem { error, untouched } = problem(status.as_u16(), &body, &self.table);
        if untouched || status.is_client_error() || status.is_redirection() {
            Err(Failed::Surely(error))
        } else {
            Err(Failed::Perhaps(error))
        }
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Bytes, Failed> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Failed::Perhaps(RecordError::Misconfigured(format!(
                    "an answer about \"{}\" is larger than {} MB; does the table hold image data?",
                    self.table,
                    MAX_ANSWER / 1024 / 1024
                ))));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.into())
    }

    fn broken(&self, error: reqwest::Error) -> Failed {
        if error.is_builder() {
            return Failed::Surely(RecordError::Misconfigured(format!(
                "SUPABASE_URL or [records] table is no part of an address: {}",
                http::describe(error)
            )));
        }
        let kind = http::failure(&error);
        let text = http::describe(error);
        match kind {
            http::Failure::Unreachable => Failed::Surely(RecordError::Unavailable(format!(
                "the records' server can't be reached ({text}); is SUPABASE_URL right, is the \
                 project paused?"
            ))),
            http::Failure::TimedOut => Failed::Perhaps(RecordError::Unavailable(format!(
                "the records' server did not answer within {} s",
                WHOLE.as_secs()
            ))),
            http::Failure::Broken => Failed::Perhaps(RecordError::Unavailable(format!(
                "the answer of the records' server broke off ({text})"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_key_says_which_headers_carry_it() {
        for (key, both) in [
            (format!("sb_secret_{}", "fake"), false),
            (format!("sb_publishable_{}", "fake"), false),
            (format!("eyJ{}", "fake"), true),
        ] {
            let headers = key_headers(&Secret::new(key.as_str())).unwrap();
            assert_eq!(headers["apikey"], key.as_str());
            assert_eq!(headers.contains_key(AUTHORIZATION), both, "{key}");
            assert!(!format!("{headers:?}").contains("fake"), "a key in Debug");
        }
        assert!(key_headers(&Secret::new("with\nnewline")).is_none());
    }

    #[test]
    fn a_schema_is_named_for_reading_and_for_writing() {
        let transport = || Transport::new(&Secret::new("fake"), "t").unwrap();
        let in_app = transport().in_schema("app").unwrap();
        assert_eq!(in_app.headers["accept-profile"], "app");
        assert_eq!(in_app.headers["content-profile"], "app");
        assert!(!transport().headers.contains_key("accept-profile"));
        assert!(transport().in_schema("a\nb").is_err());
    }
}
