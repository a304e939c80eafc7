//! The one HTTP client: TLS provider, user agent, and errors that do not leak addresses.
//!
//! Who calls what, how often and how long is the callers' business.
//! Invariant: an error text made here holds no URL (`reqwest` prints it with its secrets).

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::redirect::Policy;

/// How we introduce ourselves. Supabase refuses secret keys from browser-like agents.
pub const USER_AGENT: &str = concat!("lookout/", env!("CARGO_PKG_VERSION"));

/// Must run before the first client is built: `main` and each test that makes a client call it.
/// Calling it again does nothing.
pub fn install_crypto_provider() {
    // `Err` means that a provider is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client that follows no redirects: every address we call is configured, so a redirect is
/// an answer to look at, not to obey. `connect_timeout` bounds TCP and TLS; the time of a whole
/// call is set at each request. Proxies come from the environment (`HTTPS_PROXY`), which
/// `reqwest` reads.
///
/// # Errors
/// When no TLS roots can be loaded or the resolver can't be set up.
pub fn client(connect_timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(connect_timeout).build()
}

/// The same client before it is built, for who needs a resolver of their own.
pub fn builder(connect_timeout: Duration) -> reqwest::ClientBuilder {
    install_crypto_provider();
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(connect_timeout)
        .redirect(Policy::none())
        // A pooled connection that a firewall forgot costs the next call its whole timeout.
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_keepalive(Duration::from_secs(30))
}

/// How a call failed before there was an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, no route, name not found, TLS handshake cut.
    Unreachable,
    /// Connected, but the answer did not come in time.
    TimedOut,
    /// The answer broke off or made no sense.
    Broken,
}

/// Tells the failures apart. Never call this a 503: a local network error is not the provider's.
#[must_use]
pub fn failure(error: &reqwest::Error) -> Failure {
    if error.is_connect() {
        Failure::Unreachable
    } else if error.is_timeout() {
        Failure::TimedOut
    } else {
        Failure::Broken
    }
}

/// The error and its causes on one line, without the URL.
#[must_use]
pub fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Who asks for more than this is asked again sooner: what is to be said would be stale.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// Reads a Retry-After header (RFC 9110 §10.2.3): seconds or an HTTP date, at most an hour.
/// Negative numbers, dates in the past and anything else count as if it were absent.
#[must_use]
pub fn retry_after(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits for a number means a very long time, which is capped anyway.
        let seconds = header.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    }
    let until = DateTime::parse_from_rfc2822(header).ok()?;
    let wait = (until.with_timezone(&Utc) - now).to_std().ok()?;
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_connection_is_unreachable_and_its_text_holds_no_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let client = client(Duration::from_secs(1)).unwrap();
        let error = client.get(format!("http://{address}/hidden-token")).send().await.unwrap_err();
        assert_eq!(failure(&error), Failure::Unreachable);
        let text = describe(error);
        assert!(!text.contains("hidden-token"), "{text}");
        assert!(text.contains("refused"), "{text}");
    }

    #[test]
    fn retry_after_is_capped_ignored_or_parsed() {
        let now = DateTime::parse_from_rfc3339("2026-03-04T05:00:00Z").unwrap().with_timezone(&Utc);
        for (header, wait) in [
            ("2", Some(2)),
            (" 30 ", Some(30)),
            ("0", Some(0)),
            ("86400", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("Wed, 04 Mar 2026 05:00:30 GMT", Some(30)),
            ("Wed, 04 Mar 2026 23:00:00 GMT", Some(3600)),
            ("Wed, 04 Mar 2026 04:00:00 GMT", None),
        ] {
            assert_eq!(retry_after(header, now), wait.map(Duration::from_secs), "{header:?}");
        }
    }
}
