//! Where a request comes from: by which name it asks, whether a proxy passed it on, whether a page of
//! another site sent it. Pure.
//!
//! On loopback no token is asked for, so that a browser on this machine is the way in: a foreign page
//! can send requests here, and by DNS rebinding (its own name pointing to 127.0.0.1) also read the
//! answers. A name that is not ours gives the second away, `Origin` and `Sec-Fetch-Site` the first.
//! Invariant: what can't be understood counts as foreign.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::header::{FORWARDED, HOST, ORIGIN, VIA};
use axum::http::{HeaderMap, HeaderName, Method, Uri, Version};

/// What proxies add to the requests that they pass on, besides `X-Forwarded-…`.
const PROXIES: [HeaderName; 3] = [FORWARDED, VIA, HeaderName::from_static("x-real-ip")];

/// Set by browsers alone, and by no script in them (Fetch Metadata, W3C).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Names that the pages may be asked by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    /// These besides IP addresses and `localhost`, with or without a port.
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().filter_map(|name| Some(host_of(name)?.to_ascii_lowercase())).collect())
    }

    /// Whether a request asks by a name that leads here on purpose.
    pub(super) fn admit(&self, headers: &HeaderMap, uri: &Uri, version: Version) -> bool {
        // `GET http://name/ HTTP/1.1`: this name counts, whatever `Host` says.
        let is_target_ours = uri.authority().is_none_or(|target| self.has(target.as_str()));
        let mut asked = headers.get_all(HOST).iter();
        let is_host_ours = match (asked.next(), asked.next()) {
            (Some(host), None) => host.to_str().is_ok_and(|host| self.has(host)),
            // Programs of that age need not say it; every browser does.
            (None, _) => version < Version::HTTP_11,
            (Some(_), Some(_)) => false,
        };
        is_target_ours && is_host_ours
    }

    fn has(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_address = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
            None => host.parse::<Ipv4Addr>().is_ok(),
        };
        is_address || host == "localhost" || self.0.contains(&host)
    }
}

/// The name or address before the port.
fn host_of(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let is_port = |port: &str| port.chars().all(|digit| digit.is_ascii_digit());
    let is_whole = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (is_whole && !host.is_empty()).then_some(host)
}

/// Whether a proxy passed the request on: then it comes from anywhere, also if it reaches us on loopback.
pub(super) fn came_through_a_proxy(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| PROXIES.contains(name) || name.as_str().starts_with("x-forwarded-"))
}

/// Whether a page of another site sent it, and it does or tells something. Following a link to a page
/// does neither: what it shows can't be read from there.
pub(super) fn is_foreign(method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    let is_reading = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if is_reading && !(uri.path() == "/api" || uri.path().starts_with("/api/")) {
        return false;
    }
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("null"));
    match text(&ORIGIN) {
        Some(origin) => {
            let from = origin.split_once("://").map(|(_, authority)| authority);
            from.is_none() || from != text(&HOST)
        }
        None => matches!(text(&FETCH_SITE), Some(site) if site != "same-origin" && site != "none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn addresses_localhost_and_configured_names_are_right_with_any_port() {
        let hosts = Hosts::new(&["Lookout.Example.com".to_owned(), "nas:8720".to_owned()]);
        let right = [
            "127.0.0.1",
            "127.0.0.1:8720",
            "10.0.0.7:80",
            "[::1]",
            "[::1]:8720",
            "[fd00::7]:1",
            "localhost",
            "LocalHost:9",
            "localhost.",
            "lookout.example.com:443",
            "LOOKOUT.example.COM",
            "nas",
            "nas:80",
        ];
        let wrong = [
            "",
            ":8720",
            "evil.example",
            "evil.example:8720",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "lookout.example.com.evil.example",
            "user@localhost",
            "localhost:80:80",
            "localhost:x",
            "[::1",
            "[evil]",
            "0x7f.1",
            "2130706433",
            "::1",
        ];
        for (names, is_right) in [(&right[..], true), (&wrong[..], false)] {
            for name in names {
                let asked = headers(&[("host", name)]);
                let admitted = hosts.admit(&asked, &Uri::from_static("/"), Version::HTTP_11);
                assert_eq!(admitted, is_right, "{name}");
            }
        }
    }

    #[test]
    fn every_name_that_a_request_gives_must_be_right() {
        let hosts = Hosts::default();
        let local = headers(&[("host", "localhost")]);
        let both = headers(&[("host", "localhost"), ("host", "evil.example")]);
        let admit = |headers: &HeaderMap, target: &'static str, version| {
            hosts.admit(headers, &Uri::from_static(target), version)
        };
        assert!(admit(&local, "http://127.0.0.1/", Version::HTTP_11));
        assert!(!admit(&local, "http://evil.example/", Version::HTTP_11));
        assert!(!admit(&both, "/", Version::HTTP_11));
        assert!(!admit(&HeaderMap::new(), "/", Version::HTTP_11));
        assert!(admit(&HeaderMap::new(), "/", Version::HTTP_10));
    }

    #[test]
    fn a_page_of_another_site_may_neither_do_nor_read_anything_and_a_program_may() {
        let host = ("host", "127.0.0.1:8720");
        let own: &[&[(&'static str, &str)]] = &[
            &[host],
            &[host, ("origin", "http://127.0.0.1:8720")],
            &[host, ("sec-fetch-site", "same-origin")],
            &[host, ("sec-fetch-site", "none")],
        ];
        let foreign: &[&[(&'static str, &str)]] = &[
            &[host, ("origin", "https://evil.example")],
            &[host, ("origin", "http://127.0.0.1:9999")],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://127.0.0.1:8720.evil.example")],
            &[("origin", "http://127.0.0.1:8720")],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("sec-fetch-site", "something-new")],
        ];
        // (method, path, whether a foreign page is refused)
        let requests = [
            (Method::POST, "/bulk_auto_review", true),
            (Method::POST, "/auto_review/job/1", true),
            (Method::DELETE, "/", true),
            (Method::PUT, "/api/status", true),
            (Method::GET, "/api/status", true),
            (Method::HEAD, "/api/status", true),
            (Method::GET, "/", false),
            (Method::GET, "/style.css", false),
            (Method::GET, "/healthz", false),
        ];
        for (method, path, is_refused) in requests {
            for pairs in own {
                let sent = headers(pairs);
                assert!(!is_foreign(&method, &Uri::from_static(path), &sent), "{path} {pairs:?}");
            }
            for pairs in foreign {
                let refused = is_foreign(&method, &Uri::from_static(path), &headers(pairs));
                assert_eq!(refused, is_refused, "{method} {path} {pairs:?}");
            }
        }
    }

    #[test]
    fn each_header_of_a_proxy_gives_it_away() {
        for name in [
            "forwarded",
            "via",
            "x-real-ip",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-prefix",
        ] {
            assert!(came_through_a_proxy(&headers(&[(name, "203.0.113.7")])), "{name}");
        }
        assert!(!came_through_a_proxy(&headers(&[("host", "localhost"), ("accept", "*/*")])));
    }
}
