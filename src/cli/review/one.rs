//! `lookout review --image …`: one picture, no row written.
//!
//! What it costs is reserved and written down in `review.db` as for any other: a caller in a loop must
//! not spend past the day's `[budget]`, and a person can see afterwards what was answered.
//! Invariant: the records are not opened; the provider is not asked before the money is set aside.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::Instant;

use super::{EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_TRY_LATER, Form, print_line};
use crate::app::review::{ReviewAdapters, SetupError, adapters, notes_of_no_row};
use crate::clock::Clock;
use crate::http;
use crate::regular_file;
use crate::review::category::category;
use crate::review::record::folder_listing::files_below;
use crate::review::record::{Record, RecordId};
use crate::review::report::{End, Exit};
use crate::review::reviewer::{Answer, CallRecord, Fault, Outcome, ReviewRequest};
use crate::review::settings::{ImageSettings, ReviewSettings};
use crate::review::source::SourceError;
use crate::review::tries::{Begin, Begun, Isolation, Row, TryEnd, TryOutcome};
use crate::storage::StorageError;

/// A file or an address that a person names, so any will do.
pub(super) async fn image(
    settings: &ReviewSettings,
    image: &str,
    form: Form,
    clock: &Arc<dyn Clock>,
) -> Result<u8, SetupError> {
    let adapters = adapters(settings, clock)?;
    let bytes = if image.starts_with("http://") || image.starts_with("https://") {
        download(settings, image).await
    } else {
        read(Path::new(image), settings.picture.max_bytes).await
    };
    Ok(match bytes {
        Ok(bytes) => {
            let id = RecordId(name_of(image));
            look(Looking { settings, adapters: &adapters, clock, form }, id, bytes).await?
        }
        Err(reason) => tell_failure(form, &reason, EXIT_FAILED),
    })
}

/// The image of a job, from where images are.
pub(super) async fn of_job(
    settings: &ReviewSettings,
    job: &str,
    index: i64,
    form: Form,
    clock: &Arc<dyn Clock>,
) -> Result<u8, SetupError> {
    let adapters = adapters(settings, clock)?;
    let mut record = Record {
        id: RecordId(String::new()),
        job_id: Some(job.to_owned()),
        image_index: Some(index.to_string()),
        actual_image_url: None,
        status: String::new(),
        created_at: None,
        columns: BTreeMap::new(),
    };
    if let ImageSettings::Folder { path } = &settings.images {
        record.actual_image_url = address_below(path, job);
    }
    Ok(match adapters.source.fetch(&record).await {
        Ok(bytes) => {
            let id = RecordId(format!("{job}__{index}"));
            look(Looking { settings, adapters: &adapters, clock, form }, id, bytes).await?
        }
        Err(error) => {
            let code = match &error {
                SourceError::Picture(_) | SourceError::BrokeOff(_) | SourceError::Refused(_) => {
                    EXIT_FAILED
                }
                SourceError::Unavailable(_) => EXIT_TRY_LATER,
            };
            tell_failure(form, &error.to_string(), code)
        }
    })
}

/// A folder has files and no jobs: the file whose path without its ending is the job's name.
fn address_below(folder: &Path, job: &str) -> Option<String> {
    let files = files_below(folder).ok()?.files;
    files.into_iter().find(|file| file.job_id == job).map(|file| file.url)
}

async fn read(path: &Path, max_bytes: u64) -> Result<Bytes, String> {
    let path = path.to_owned();
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || regular_file::read(&path, max_bytes)).await;
    let read = read.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    read.map(Bytes::from).map_err(|error| format!("{shown} can't be read: {error}"))
}

async fn download(settings: &ReviewSettings, address: &str) -> Result<Bytes, String> {
    let message = |error| format!("the image can't be fetched: {}", http::describe(error));
    let client = http::client(settings.reviewer.connect_timeout).map_err(message)?;
    let request = client.get(address).timeout(settings.reviewer.attempt_timeout);
    let answer = request.send().await.map_err(message)?;
    if !answer.status().is_success() {
        return Err(format!("the image can't be fetched: {}", answer.status()));
    }
    let mut bytes = BytesMut::new();
    let mut stream = answer.bytes_stream();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(message)?);
        if bytes.len() as u64 > settings.picture.max_bytes {
            return Err(format!("the image is larger than {} bytes", settings.picture.max_bytes));
        }
    }
    Ok(bytes.freeze())
}

/// The file's name, without what may be secret in an address.
fn name_of(image: &str) -> String {
    let path = image.split(['?', '#']).next().unwrap_or(image).trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// What a look needs.
struct Looking<'a> {
    settings: &'a ReviewSettings,
    adapters: &'a ReviewAdapters,
    clock: &'a Arc<dyn Clock>,
    form: Form,
}

async fn look(looking: Looking<'_>, id: RecordId, bytes: Bytes) -> Result<u8, SetupError> {
    let Looking { settings, adapters, clock, form } = looking;
    let began = Instant::now();
    let picture = match adapters.preparer.prepare(bytes).await {
        Ok(picture) => picture,
        Err(reason) => return Ok(tell_failure(form, &reason, EXIT_FAILED)),
    };
    let notes = notes_of_no_row(settings, clock).await?;
    let reserve = adapters.reviewer.usd_per_try();
    let begin = Begin { id, at: clock.now(), isolation: Isolation::Shared, reserve };
    let unwritten = |error: StorageError| SetupError::State(error.into());
    let try_id = match notes.begin(&begin, &settings.budget).await.map_err(unwritten)? {
        Begun::Yes(try_id) => try_id,
        Begun::OverBudget { reason } => return Ok(tell_failure(form, &reason, EXIT_TRY_LATER)),
    };
    let deadline = Instant::now() + settings.reviewer.try_timeout;
    let ask = ReviewRequest { image: "", picture: &picture, correction: None, deadline };
    let Outcome { result, call } = adapters.reviewer.review(ask).await;
    let end = end_of_try(&result, call, reserve, clock.now());
    let end = TryEnd { sha256: Some(picture.sha256), took: began.elapsed(), ..end };
    if let Err(error) = notes.finish(try_id, &end, Row::Settled).await {
        // The answer is paid for; what was set aside for it counts as spent.
        super::complain(&format!("this look could not be written down: {error}"), EXIT_OK);
    }
    Ok(tell(form, result))
}

fn end_of_try(
    result: &Result<Answer, Fault>,
    call: CallRecord,
    reserve: Option<f64>,
    at: DateTime<Utc>,
) -> TryEnd {
    // Never more than was set aside.
    let cost = call.usd_at_most.or(call.usd).or(reserve).unwrap_or(0.0);
    let (outcome, reason) = match result {
        Ok(_) => (TryOutcome::Answered, None),
        Err(Fault::Blocked { reason, .. }) => (TryOutcome::Blocked, Some(reason.clone())),
        Err(Fault::Unreadable { reason, .. } | Fault::Picture { reason }) => {
            (TryOutcome::Failed, Some(reason.clone()))
        }
        Err(fault) => (TryOutcome::Fault, Some(words(fault.clone()).0)),
    };
    TryEnd {
        outcome,
        at,
        reason,
        sha256: None,
        result: result.as_ref().ok().map(|answer| (category(answer), answer.details.clone())),
        cost,
        call: Some(call),
        took: Duration::ZERO,
    }
}

fn tell(form: Form, result: Result<Answer, Fault>) -> u8 {
    match result {
        Ok(answer) => {
            let categories = category(&answer);
            let text = match form {
                Form::Text => format!("{categories}\n{}", answer.details),
                Form::Json => json!({
                    "message": "Auto review success",
                    "categories": categories,
                    "details": answer.details,
                })
                .to_string(),
            };
            print_line(&text, EXIT_OK)
        }
        Err(fault) => {
            let (reason, code) = words(fault);
            tell_failure(form, &reason, code)
        }
    }
}

pub(super) fn words(fault: Fault) -> (String, u8) {
    match fault {
        Fault::Unreadable { reason, correction: _ } | Fault::Picture { reason } => {
            (reason, EXIT_FAILED)
        }
        Fault::Blocked { reason, sexually_explicit: _ } => {
            (format!("blocked by Gemini: {reason}"), EXIT_FAILED)
        }
        Fault::Unavailable { reason, status: _ } | Fault::Quota { reason, until: _ } => {
            (reason, EXIT_TRY_LATER)
        }
        Fault::Budget { reason } => (reason, EXIT_TRY_LATER),
        Fault::Refused(refusal) => {
            let code = match End::of_refusal(&refusal).exit() {
                Exit::Done | Exit::Failed => EXIT_FAILED,
                Exit::TryLater => EXIT_TRY_LATER,
                Exit::Configuration => EXIT_CONFIG,
            };
            (format!("{}; {}", refusal.reason, refusal.action), code)
        }
        Fault::OutOfTime => ("no answer came in time".to_owned(), EXIT_TRY_LATER),
    }
}

/// In JSON as the old service's `{"detail": …}`.
fn tell_failure(form: Form, reason: &str, code: u8) -> u8 {
    match form {
        Form::Text => super::complain(reason, code),
        Form::Json => print_line(&json!({ "detail": reason }).to_string(), code),
    }
}
