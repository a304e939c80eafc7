//! Images by address: a template over HTTP, or the full address that older rows carry.
//!
//! A row is data of others: it must not be able to make Lookout call an inner address. So only the
//! configured hosts are asked, and redirects stay on the host; what their names lead to is
//! `ssrf.rs`'s business.
//! Invariant: no request leaves for a host that is not configured.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use url::Url;

use super::download::{CONNECT, Downloader, Got};
use super::ssrf::{MetadataBlockingResolver, names_a_forbidden_place};
use super::template::{Encoding, Template, TemplateError, Unnamed};
use super::{Source, SourceError};
use crate::http;
use crate::review::picture::memory_budget::MemoryBudget;
use crate::review::record::Record;

/// Redirects that are followed on one host: `/x` to `/x/` and a load balancer's.
const MAX_REDIRECTS: u32 = 3;

/// A host that may be asked; without a port, the ports of `http` and `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    host: String,
    port: Option<u16>,
}

impl Allowed {
    fn covers(&self, url: &Url) -> bool {
        let same_host = url.host_str().is_some_and(|host| host.eq_ignore_ascii_case(&self.host));
        same_host && url.port() == self.port
    }
}

/// The port on addresses.
#[derive(Clone, Debug)]
pub struct HttpSource {
    template: Template,
    allowed: Vec<Allowed>,
    downloader: Downloader,
}

impl HttpSource {
    /// Pictures at `url`, a template; `actual_image_url` may name its host, and `allowed_hosts`
    /// (`host` or `host:port`).
    ///
    /// # Errors
    /// When the template is no address, or lets a row choose the host.
    pub fn new(url: &str, allowed_hosts: &[String], max_bytes: u64) -> Result<Self, TemplateError> {
        let template = Template::parse(url)?;
        let base = url.split('{').next().unwrap_or(url);
        let whole_authority = base
            .split_once("://")
            .is_some_and(|(_, rest)| rest.contains(['/', '?']) || base.len() == url.len());
        if !whole_authority {
            return Err(TemplateError(format!(
                "\"{url}\" must begin with http:// or https:// and a host without placeholders"
            )));
        }
        let base = Url::parse(base)
            .ok()
            .filter(|base| matches!(base.scheme(), "http" | "https") && base.has_host())
            .ok_or_else(|| TemplateError(format!("\"{url}\" is no http or https address")))?;
        let host = base.host_str().unwrap_or_default().to_owned();
        let mut allowed = vec![Allowed { host, port: base.port() }];
        for host in allowed_hosts {
            let parsed = Url::parse(&format!("http://{host}/")).ok();
            let parsed = parsed.filter(|u| u.path() == "/" && u.username().is_empty());
            let parsed = parsed.and_then(|u| Some((u.host_str()?.to_owned(), u.port())));
            let Some((host, port)) = parsed else {
                return Err(TemplateError(format!(
                    "\"{host}\" in allowed_hosts is no host; write it as \"cdn.example.com\""
                )));
            };
            allowed.push(Allowed { host, port });
        }
        let client = http::builder(CONNECT)
            .dns_resolver(Arc::new(MetadataBlockingResolver))
            .build()
            .map_err(|error| TemplateError(format!("no client: {}", http::describe(error))))?;
        Ok(Self { template, allowed, downloader: Downloader::new(client, max_bytes) })
    }

    /// Files are charged to this budget.
    #[must_use]
    pub fn within(self, budget: &Arc<MemoryBudget>) -> Self {
        Self { downloader: self.downloader.within(budget), ..self }
    }

    /// The address of the record's image.
    fn address(&self, record: &Record) -> Result<Url, SourceError> {
        let lacking = match self.template.fill(record, Encoding::Percent) {
            Ok(url) => {
                let url = Url::parse(&url).map_err(|error| {
                    SourceError::Picture(format!("its values make no address: {error}"))
                });
                // A mistake in the configuration, and reported as one: it meets every image.
                return url.and_then(|url| {
                    if names_a_forbidden_place(&url) {
                        return Err(SourceError::Refused(
                            "[images] url names a metadata service, which is not called".to_owned(),
                        ));
                    }
                    Ok(url)
                });
            }
            Err(Unnamed::Unusable(column)) => {
                return Err(SourceError::Picture(format!(
                    "what stands in {column} can't be part of an address"
                )));
            }
            Err(Unnamed::Lacks(column)) => column,
        };
        let Some(url) = &record.actual_image_url else {
            return Err(SourceError::Picture(format!(
                "the row has no {lacking}, which the address needs, and no actual_image_url"
            )));
        };
        let url = Url::parse(url)
            .map_err(|error| SourceError::Picture(format!("its actual_image_url: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() {
            return Err(SourceError::Picture(
                "its actual_image_url is no plain http or https address".to_owned(),
            ));
        }
        if names_a_forbidden_place(&url) || !self.allowed.iter().any(|allowed| allowed.covers(&url))
        {
            let host = url.host_str().unwrap_or_default();
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            return Err(SourceError::Picture(format!(
                "its actual_image_url names {host}{port}, which is not allowed; if it is yours, \
                 add it to [images] allowed_hosts"
            )));
        }
        Ok(url)
    }
}

#[async_trait]
impl Source for HttpSource {
    async fn fetch(&self, record: &Record) -> Result<Bytes, SourceError> {
        let mut url = self.address(record)?;
        for _ in 0..=MAX_REDIRECTS {
            match self.downloader.get(|| url.clone()).await? {
                Got::File(file) => return Ok(file),
                Got::Elsewhere(to) => {
                    let stays = to.host() == url.host()
                        && to.port_or_known_default() == url.port_or_known_default()
                        && to.scheme() == url.scheme();
                    // From http to https on the usual ports is the same house, better locked.
                    let upgrades = to.host() == url.host()
                        && (url.scheme(), to.scheme()) == ("http", "https")
                        && (url.port(), to.port()) == (None, None);
                    if !stays && !upgrades {
                        return Err(SourceError::Picture(format!(
                            "the address redirects to another server ({}), which is not followed",
                            to.host_str().unwrap_or("no host")
                        )));
                    }
                    url = to;
                }
            }
        }
        Err(SourceError::Picture("the address redirects in a circle".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::template::tests::record;
    use super::*;

    const URL: &str = "https://bucket.s3.us-east-1.amazonaws.com/{job_id}__{image_index}.jpg";

    fn source(url: &str, allowed: &[&str]) -> HttpSource {
        let allowed: Vec<String> = allowed.iter().map(|host| (*host).to_owned()).collect();
        HttpSource::new(url, &allowed, 1024).unwrap()
    }

    fn at(source: &HttpSource, actual_image_url: &str) -> Result<Url, SourceError> {
        let mut record = record(None, None);
        record.actual_image_url = Some(actual_image_url.to_owned());
        source.address(&record)
    }

    #[test]
    fn the_old_services_template_makes_the_old_services_address() {
        let url = source(URL, &[]).address(&record(Some("abc"), Some(0))).unwrap();
        assert_eq!(url.as_str(), "https://bucket.s3.us-east-1.amazonaws.com/abc__0.jpg");
        let url = source(URL, &[]).address(&record(Some("../../x"), Some(0))).unwrap();
        assert_eq!(url.path(), "/..%2F..%2Fx__0.jpg", "no step out of its place");
    }

    #[test]
    fn a_row_can_name_only_hosts_that_are_configured() {
        let source = source(URL, &["cdn.example.com", "10.0.0.7:9000", "169.254.169.254"]);
        for fine in [
            "https://bucket.s3.us-east-1.amazonaws.com/old.jpg",
            "http://CDN.example.com/x.jpg?y",
            "http://10.0.0.7:9000/x.jpg",
        ] {
            assert!(at(&source, fine).is_ok(), "{fine}");
        }
        for wrong in [
            "http://169.254.169.254/latest/meta-data/",
            "https://bucket.s3.us-east-1.amazonaws.com:8080/x",
            "https://bucket.s3.us-east-1.amazonaws.com.evil.example/x",
            "https://user:pw@cdn.example.com/x",
            "http://10.0.0.7/x.jpg",
            "file:///etc/passwd",
            "//cdn.example.com/x",
        ] {
            assert!(matches!(at(&source, wrong), Err(SourceError::Picture(_))), "{wrong}");
        }
    }

    #[test]
    fn a_template_that_lets_a_row_choose_the_host_is_refused() {
        for url in ["https://{job_id}/x.jpg", "https://x.example{id}/y", "{id}", "ftp://x/{id}"] {
            assert!(HttpSource::new(url, &[], 1).is_err(), "{url}");
        }
        assert!(HttpSource::new("http://localhost:9000?f={id}", &[], 1).is_ok());
        assert!(HttpSource::new(URL, &["https://x.example/".to_owned()], 1).is_err());
    }
}
