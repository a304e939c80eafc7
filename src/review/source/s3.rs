//! Images over the S3 API: private buckets, any compatible server.
//!
//! `rusty-s3` signs (it knows no network), our client downloads. Keys go byte for byte. Signatures
//! stand in the address's query, so no address is ever put into a text.
//! Invariant: what is signed is valid for minutes, and credentials of the machine's role are
//! renewed before they end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusty_s3::credentials::Ec2SecurityCredentialsMetadataResponse;
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::download::{CONNECT, Downloader, Got};
use super::ssrf::MetadataBlockingResolver;
use super::template::{Encoding, Template, TemplateError, Unnamed};
use super::{Source, SourceError};
use crate::http;
use crate::review::picture::memory_budget::MemoryBudget;
use crate::review::record::Record;
use crate::review::settings::S3Keys;

/// How long a signed address is valid: it is used at once, and a clock may be off by minutes.
const VALID: Duration = Duration::from_secs(600);

/// Where EC2 tells an instance its role's credentials.
const METADATA: &str = "http://169.254.169.254";
/// It is on the same host: what takes longer is not there.
const METADATA_TIMEOUT: Duration = Duration::from_secs(3);
/// Age at which a role's credentials are requested again; they are valid for hours, and EC2 renews
/// them at least five minutes before they end.
const METADATA_RENEW: Duration = Duration::from_secs(240);

/// Where the bucket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Place<'a> {
    /// Its name.
    pub bucket: &'a str,
    /// Its region.
    pub region: &'a str,
    /// Of a compatible server; absent: Amazon's for the region.
    pub endpoint: Option<&'a str>,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`.
    pub path_style: bool,
}

#[derive(Debug)]
enum Keys {
    Given(Credentials),
    /// Of the machine's role, asked for at `at`.
    Role {
        at: Url,
        client: reqwest::Client,
        held: Mutex<Option<(Credentials, Instant)>>,
    },
}

/// The port on a bucket.
#[derive(Debug)]
pub struct S3Source {
    bucket: Bucket,
    key: Template,
    keys: Keys,
    downloader: Downloader,
}

impl S3Source {
    /// Images named by `key`, a template. Without credentials the machine's role is asked for
    /// them (EC2).
    ///
    /// # Errors
    /// When place or template can't be used.
    pub fn new(
        place: &S3Place<'_>,
        key: &str,
        credentials: Option<&S3Keys>,
        max_bytes: u64,
    ) -> Result<Self, TemplateError> {
        Self::with_metadata_at(METADATA, place, key, credentials, max_bytes)
    }

    /// As [`S3Source::new`], with another address of the metadata service.
    ///
    /// # Errors
    /// When place or template can't be used.
    pub fn with_metadata_at(
        metadata: &str,
        place: &S3Place<'_>,
        key: &str,
        credentials: Option<&S3Keys>,
        max_bytes: u64,
    ) -> Result<Self, TemplateError> {
        let wrong = |what: String| TemplateError(what);
        let amazon = format!("https://s3.{}.amazonaws.com", place.region);
        let endpoint = place.endpoint.unwrap_or(&amazon);
        let endpoint = Url::parse(endpoint)
            .map_err(|error| wrong(format!("[images] endpoint \"{endpoint}\": {error}")))?;
        let style = if place.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = Bucket::new(endpoint, style, place.bucket.to_owned(), place.region.to_owned());
        let bucket = bucket.map_err(|error| {
            wrong(format!(
                "bucket \"{}\" and endpoint make no address ({error}); with an IP address as \
                 endpoint set path_style = true",
                place.bucket
            ))
        })?;
        let no_client = |error| wrong(format!("no client: {}", http::describe(error)));
        let client = http::client(CONNECT).map_err(no_client)?;
        let guarded = http::builder(CONNECT).dns_resolver(Arc::new(MetadataBlockingResolver));
        let downloader = Downloader::new(guarded.build().map_err(no_client)?, max_bytes);
        let keys = match credentials {
            Some(keys) => Keys::Given(given(keys)),
            None => Keys::Role {
                at: Url::parse(metadata).map_err(|error| wrong(error.to_string()))?,
                client,
                held: Mutex::new(None),
            },
        };
        Ok(Self { bucket, key: Template::parse(key)?, keys, downloader })
    }

    /// Files are charged to this budget.
    #[must_use]
    pub fn within(self, budget: &Arc<MemoryBudget>) -> Self {
        Self { downloader: self.downloader.within(budget), ..self }
    }

    async fn credentials(&self) -> Result<Credentials, SourceError> {
        match &self.keys {
            Keys::Given(credentials) => Ok(credentials.clone()),
            Keys::Role { at, client, held } => {
                let mut held = held.lock().await;
                if let Some((credentials, asked)) = &*held
                    && asked.elapsed() < METADATA_RENEW
                {
                    return Ok(credentials.clone());
                }
                let credentials = of_the_role(client, at).await?;
                *held = Some((credentials.clone(), Instant::now()));
                Ok(credentials)
            }
        }
    }
}

fn given(keys: &S3Keys) -> Credentials {
    let (id, secret) = (keys.access_key_id.expose(), keys.secret_access_key.expose());
    match &keys.session_token {
        Some(token) => Credentials::new_with_token(id, secret, token.expose()),
        None => Credentials::new(id, secret),
    }
}

/// Asks the metadata service (version 2: a token first, so that no request that was smuggled
/// through a server can read credentials).
async fn of_the_role(client: &reqwest::Client, at: &Url) -> Result<Credentials, SourceError> {
    let none = |why: String| {
        SourceError::Refused(format!(
            "there are no S3 keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this \
             machine a role ({why})"
        ))
    };
    let text = async |request: reqwest::RequestBuilder| {
        let response = request.timeout(METADATA_TIMEOUT).send().await.map_err(http::describe)?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("the metadata service answered {}", status.as_u16()));
        }
        response.text().await.map_err(http::describe)
    };
    let base = at.as_str().trim_end_matches('/');
    let token = client
        .put(format!("{base}/latest/api/token"))
        .header("x-aws-ec2-metadata-token-ttl-seconds", "300");
    let token = text(token).await.map_err(none)?;
    let roles = format!("{base}/latest/meta-data/iam/security-credentials/");
    let ask = |url: String| text(client.get(url).header("x-aws-ec2-metadata-token", token.trim()));
    let role = ask(roles.clone()).await.map_err(none)?;
    let role = role.lines().next().unwrap_or_default().trim().to_owned();
    let answer = ask(format!("{roles}{role}")).await.map_err(none)?;
    let parsed = Ec2SecurityCredentialsMetadataResponse::deserialize(&answer)
        .map_err(|_| none("the metadata service's answer holds no credentials".to_owned()))?;
    Ok(parsed.into_credentials())
}

#[async_trait]
impl Source for S3Source {
    async fn fetch(&self, record: &Record) -> Result<Bytes, SourceError> {
        let key = self.key.fill(record, Encoding::Plain).map_err(|unnamed| {
            SourceError::Picture(match unnamed {
                Unnamed::Lacks(column) => format!("the row has no {column}, which the key needs"),
                Unnamed::Unusable(column) => {
                    format!("what stands in {column} can't be part of a key")
                }
            })
        })?;
        let credentials = self.credentials().await?;
        // Signing reads the system's clock: S3 compares with its own, and a simulated one would
        // only be refused.
        let address = || self.bucket.get_object(Some(&credentials), &key).sign(VALID);
        match self.downloader.get(address).await? {
            Got::File(file) => Ok(file),
            Got::Elsewhere(to) => Err(SourceError::Refused(format!(
                "the bucket answers from {}; set [images] region or endpoint to that",
                to.host_str().unwrap_or("elsewhere")
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_makes_no_address_says_what_to_change() {
        let place = S3Place {
            bucket: "b",
            region: "us-east-1",
            endpoint: Some("http://127.0.0.1:9000"),
            path_style: false,
        };
        let error = S3Source::new(&place, "{id}", None, 1).unwrap_err();
        assert!(error.to_string().contains("path_style = true"), "{error}");
        let place = S3Place { path_style: true, ..place };
        assert!(S3Source::new(&place, "{id}", None, 1).is_ok());
    }
}
