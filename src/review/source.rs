//! Source: where a record's image comes from.
//!
//! Invariant: an error says whose fault it is; only [`SourceError::Picture`] may cost a try.

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use crate::review::record::Record;

mod download;
pub mod folder;
pub mod http;
pub mod s3;
mod ssrf;
mod template;

/// Why there are no bytes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SourceError {
    /// This image: not found, empty, an HTML page, too large, no address. Uses up a try, unless
    /// (nearly) every image meets it.
    #[error("{0}")]
    Picture(String),
    /// The transfer broke off: worth one more attempt at once; then as `Picture`.
    #[error("{0}")]
    BrokeOff(String),
    /// The bucket refuses us (403 and the like): an image's fault only while others succeed.
    #[error("{0}")]
    Refused(String),
    /// The bucket is down or can't be reached: no image's fault.
    #[error("{0}")]
    Unavailable(String),
}

/// Where images come from.
#[async_trait]
pub trait Source: Send + Sync {
    /// The bytes of the record's image, at most the configured size.
    async fn fetch(&self, record: &Record) -> Result<Bytes, SourceError>;
}
