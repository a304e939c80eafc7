//! One download: limits on time and size, memory for what comes, and what an answer that is no image
//! means.
//!
//! Which address may be asked is decided by those who call this.
//! Invariant: never more than the limit is in memory, and no text made here holds an address's
//! query (signatures stand there).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_LENGTH, LOCATION};
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::SourceError;
use crate::http;
use crate::review::picture::memory_budget::{MemoryBudget, Reservation};

/// TCP and TLS.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// Between two pieces of a body, and before the first byte of an answer.
const SILENCE: Duration = Duration::from_secs(20);
/// A whole download: 50 MB at 4 MBit/s.
const WHOLE: Duration = Duration::from_secs(100);
/// Reserved before it is known how large a file is: most photographs fit into it.
const USUAL: u64 = 2 * 1024 * 1024;
/// Bytes of an error page that are read.
const MAX_ERROR: usize = 64 * 1024;

/// What came.
#[derive(Debug)]
pub(super) enum Got {
    /// A file.
    File(Bytes),
    /// An address to go to instead.
    Elsewhere(Url),
}

/// What came, or what it takes.
#[derive(Debug)]
enum Asked {
    Got(Got),
    /// The file is larger than what was reserved for it, and there is no more memory just now.
    NeedsMemory(u64),
}

/// Downloads files of at most `max_bytes`.
#[derive(Clone, Debug)]
pub(super) struct Downloader {
    client: Client,
    max_bytes: u64,
    budget: Arc<MemoryBudget>,
}

impl Downloader {
    pub(super) fn new(client: Client, max_bytes: u64) -> Self {
        Self { client, max_bytes, budget: MemoryBudget::new(u64::MAX) }
    }

    /// Charged to the budget of all images.
    pub(super) fn within(self, budget: &Arc<MemoryBudget>) -> Self {
        Self { budget: Arc::clone(budget), ..self }
    }

    /// One file; `address` is asked for once there is memory, since a signature ages while we wait.
    pub(super) async fn get(&self, address: impl Fn() -> Url + Send) -> Result<Got, SourceError> {
        let (usual, largest) = (USUAL.min(self.max_bytes), self.max_bytes.saturating_add(1));
        let mut wanted = usual;
        loop {
            // Waiting for memory is nobody's fault, so no limit of time runs meanwhile.
            let reservation = self.budget.for_file(wanted).await;
            let url = address();
            let whole = tokio::time::timeout(WHOLE, self.get_in_any_time(&url, reservation)).await;
            let asked = whole.unwrap_or_else(|_| {
                Err(SourceError::BrokeOff(format!(
                    "the download was not done within {} s",
                    WHOLE.as_secs()
                )))
            });
            match asked? {
                Asked::Got(got) => return Ok(got),
                // Asked for again once there is memory for it: downloads that waited with half a file
                // would wait for each other, and a server hangs up on a client that does not read.
                // The third time there is memory for any.
                Asked::NeedsMemory(bytes) => wanted = if wanted == usual { bytes } else { largest },
            }
        }
    }

    async fn get_in_any_time(
        &self,
        url: &Url,
        mut reservation: Reservation,
    ) -> Result<Asked, SourceError> {
        let sent = tokio::time::timeout(SILENCE, self.client.get(url.clone()).send()).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(unreachable(error)),
            Err(_) => {
                return Err(SourceError::Unavailable(format!(
                    "the images' server did not answer within {} s",
                    SILENCE.as_secs()
                )));
            }
        };
        let status = response.status();
        if status.is_redirection()
            && let Some(to) = elsewhere(&response, url)
        {
            return Ok(Asked::Got(Got::Elsewhere(to)));
        }
        if !status.is_success() {
            let page = read(response, MAX_ERROR as u64, &mut Measure::Nothing).await;
            return Err(refusal(status, &page.ok().flatten().unwrap_or_default()));
        }
        let announced = response.headers().get(CONTENT_LENGTH);
        let announced = announced.and_then(|n| n.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|n| n > self.max_bytes) {
            return Err(self.too_large());
        }
        if let Some(n) = announced
            && !reservation.resize(n)
        {
            return Ok(Asked::NeedsMemory(n));
        }
        let largest = self.max_bytes.saturating_add(1);
        let Some(file) = read(response, largest, &mut Measure::By(&mut reservation)).await? else {
            return Ok(Asked::NeedsMemory(largest));
        };
        let n_bytes = u64::try_from(file.len()).unwrap_or(u64::MAX);
        if n_bytes > self.max_bytes {
            return Err(self.too_large());
        }
        check_is_no_page(&file)?;
        // Less is always possible.
        let _ = reservation.resize(n_bytes.min(reservation.bytes()));
        Ok(Asked::Got(Got::File(reservation.attached_to(file))))
    }

    fn too_large(&self) -> SourceError {
        SourceError::Picture(format!(
            "the file is larger than {} MB",
            self.max_bytes.div_ceil(1024 * 1024)
        ))
    }
}

fn unreachable(error: reqwest::Error) -> SourceError {
    let kind = http::failure(&error);
    let text = http::describe(error);
    match kind {
        http::Failure::Unreachable => {
            SourceError::Unavailable(format!("the images' server can't be reached: {text}"))
        }
        http::Failure::TimedOut | http::Failure::Broken => {
            SourceError::BrokeOff(format!("the images' server broke off: {text}"))
        }
    }
}

/// What a body may take.
enum Measure<'a> {
    /// An error page: too little to count.
    Nothing,
    /// What is reserved, and more if there is memory.
    By(&'a mut Reservation),
}

impl Measure<'_> {
    /// Whether a body may grow to `n_bytes`. It grows in steps, so that not every piece is counted.
    fn allows(&mut self, n_bytes: u64, at_most: u64) -> bool {
        match self {
            Self::Nothing => true,
            Self::By(reserved) if n_bytes <= reserved.bytes() => true,
            Self::By(reserved) => {
                reserved.resize(n_bytes.saturating_mul(2).min(at_most.max(n_bytes)))
            }
        }
    }
}

/// At most `limit` bytes of a body; `None`: there is no memory for it.
async fn read(
    mut response: Response,
    limit: u64,
    measure: &mut Measure<'_>,
) -> Result<Option<Bytes>, SourceError> {
    let at_most = limit;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut body = BytesMut::new();
    while body.len() < limit {
        match tokio::time::timeout(SILENCE, response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                let n_bytes = u64::try_from(body.len() + chunk.len()).unwrap_or(u64::MAX);
                if !measure.allows(n_bytes.min(at_most), at_most) {
                    return Ok(None);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) => {
                return Err(SourceError::BrokeOff(format!(
                    "the download broke off after {} bytes: {}",
                    body.len(),
                    http::describe(error)
                )));
            }
            Err(_) => {
                return Err(SourceError::BrokeOff(format!(
                    "nothing came for {} s after {} bytes",
                    SILENCE.as_secs(),
                    body.len()
                )));
            }
        }
    }
    Ok(Some(body.freeze()))
}

/// Where a redirect leads; S3 sends redirects that lead nowhere and explain themselves in the body.
fn elsewhere(response: &Response, from: &Url) -> Option<Url> {
    from.join(response.headers().get(LOCATION)?.to_str().ok()?).ok()
}

/// The text of `<Name>…</Name>`, for S3's error bodies.
fn element(page: &str, name: &str) -> Option<String> {
    let (_, after) = page.split_once(&format!("<{name}>"))?;
    let (text, _) = after.split_once(&format!("</{name}>"))?;
    Some(text.trim().chars().take(200).collect())
}

/// What an answer that is no success means.
fn refusal(status: StatusCode, page: &[u8]) -> SourceError {
    let page = String::from_utf8_lossy(page);
    let code = element(&page, "Code").unwrap_or_default();
    let said = match (code.as_str(), element(&page, "Message")) {
        ("", _) => String::new(),
        (code, Some(message)) => format!(" ({code}: {message})"),
        (code, None) => format!(" ({code})"),
    };
    let number = status.as_u16();
    match (number, code.as_str()) {
        (_, "NoSuchBucket") => {
            SourceError::Refused(format!("there is no such bucket; check [images]{said}"))
        }
        (_, "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed") => {
            SourceError::Refused(format!(
                "the bucket is in another region or at another endpoint; check [images]{said}"
            ))
        }
        (404 | 410, _) | (_, "NoSuchKey") => {
            SourceError::Picture(format!("there is no such image{said}"))
        }
        (_, "RequestTimeTooSkewed") => SourceError::Refused(format!(
            "this machine's clock is wrong by too much for S3; set it{said}"
        )),
        (_, "ExpiredToken" | "TokenRefreshRequired" | "RequestExpired") => {
            SourceError::Refused(format!("the S3 keys have expired; give new ones{said}"))
        }
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken") => {
            SourceError::Refused(format!("the S3 keys are not accepted; check them{said}"))
        }
        (401 | 403, _) => SourceError::Refused(format!(
            "the images' server refuses us with {number}{said}; S3 says that for images that are \
             not there, too, if the keys may not list the bucket"
        )),
        (408 | 429 | 500..=599, _) => {
            SourceError::Unavailable(format!("the images' server answered {number}{said}"))
        }
        _ => SourceError::Picture(format!("the images' server answered {number}{said}")),
    }
}

/// Refuses what is plainly no image; `picture` finds out the rest.
fn check_is_no_page(file: &[u8]) -> Result<(), SourceError> {
    if file.is_empty() {
        return Err(SourceError::Picture("the file is empty".to_owned()));
    }
    let head: String =
        String::from_utf8_lossy(&file[..file.len().min(256)]).trim_start().to_lowercase();
    if head.starts_with("<!doctype html") || head.starts_with("<html") {
        return Err(SourceError::Picture(
            "the address gives an HTML page instead of an image".to_owned(),
        ));
    }
    if head.starts_with("<?xml") && !head.contains("<svg") {
        return Err(SourceError::Picture(
            "the address gives an XML text instead of an image".to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, page: &str) -> SourceError {
        refusal(StatusCode::from_u16(status).unwrap(), page.as_bytes())
    }

    #[test]
    fn a_refusal_says_whose_fault_it_is() {
        let xml =
            |code: &str| format!("<?xml?><Error><Code>{code}</Code><Message>m</Message></Error>");
        assert!(matches!(of(404, ""), SourceError::Picture(_)));
        assert!(matches!(of(404, &xml("NoSuchKey")), SourceError::Picture(_)));
        assert!(matches!(of(404, &xml("NoSuchBucket")), SourceError::Refused(_)));
        assert!(matches!(of(403, &xml("AccessDenied")), SourceError::Refused(_)));
        assert!(matches!(of(301, &xml("PermanentRedirect")), SourceError::Refused(_)));
        assert!(matches!(of(301, ""), SourceError::Picture(_)));
        let skewed = of(403, &xml("RequestTimeTooSkewed"));
        assert!(matches!(&skewed, SourceError::Refused(text) if text.contains("clock")));
        let expired = of(400, &xml("ExpiredToken"));
        assert!(matches!(&expired, SourceError::Refused(text) if text.contains("expired")));
        assert!(matches!(of(503, &xml("SlowDown")), SourceError::Unavailable(_)));
        assert!(matches!(of(415, ""), SourceError::Picture(_)));
    }

    #[test]
    fn pages_and_empty_files_are_no_images() {
        for file in ["", "  <!DOCTYPE HTML><p>", "<html>", "<?xml version='1.0'?><Error>"] {
            assert!(check_is_no_page(file.as_bytes()).is_err(), "{file}");
        }
        assert!(check_is_no_page(b"\xff\xd8\xff\xe0").is_ok());
    }
}
