//! Source: where a record's picture comes from.
//!
//! Invariant: an error says whose fault it is; only [`SourceError::Picture`] may cost a try.

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use crate::review::record::Record;

mod download;
pub mod folder;
mod guard;
pub mod http;
pub mod s3;
mod template;

/// Why there are no bytes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SourceError {
    /// This picture: not found, empty, an HTML page, too large, no address. Uses up a try, unless
    /// (nearly) every picture meets it.
    #[error("{0}")]
    Picture(String),
    /// The transfer broke off: worth one more attempt at once; then as `Picture`.
    #[error("{0}")]
    BrokeOff(String),
    /// The bucket refuses us (403 and the like): a picture's fault only while others succeed.
    #[error("{0}")]
    Refused(String),
    /// The bucket is down or can't be reached: no picture's fault.
    #[error("{0}")]
    Unavailable(String),
}

/// Where pictures come from.
#[async_trait]
pub trait Source: Send + Sync {
    /// The bytes of the record's picture, at most the configured size.
    async fn fetch(&self, record: &Record) -> Result<Bytes, SourceError>;
}
