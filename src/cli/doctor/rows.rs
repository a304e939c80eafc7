//! Rows and pictures: is the table there with its columns, and can one picture be fetched and read?
//!
//! Through the same adapters as the review, reading only.
//! Invariant: a database or bucket that is down is never told as one that refuses us.

use std::path::Path;
use std::sync::Arc;

use super::report::{Finding, State};
use crate::app::review::{self, NoReview};
use crate::config::Config;
use crate::review::picture;
use crate::review::record::sqlite::files_below;
use crate::review::record::{PROCESSING, Record, RecordError, Records};
use crate::review::settings::{ImageSettings, PictureSettings, RecordKind};
use crate::review::source::{Source, SourceError};

/// One broken picture is that picture's fault; three in a row are not.
const PICTURES: u32 = 3;

/// What was found, and how many rows wait, if that is known.
pub(super) struct Examined {
    pub(super) findings: Vec<Finding>,
    pub(super) n_waiting: Option<u64>,
}

/// Asks for rows, then for the picture of the first.
pub(super) async fn examine(config: &Config) -> Examined {
    let settings = &config.review;
    let mut examined = Examined { findings: Vec::new(), n_waiting: None };
    let rows = match &settings.records.kind {
        // Opening the embedded database would make it; doctor makes nothing.
        RecordKind::Sqlite { path } => {
            examined.findings.push(embedded(path));
            Vec::new()
        }
        RecordKind::Supabase { .. } => match review::rows(settings).await {
            Ok(rows) => of_table(rows.records, &settings.records.pick_up, &mut examined).await,
            Err(error) => {
                examined.findings.push(Finding::new(
                    "records",
                    state_of(&error),
                    error.to_string(),
                    "",
                ));
                Vec::new()
            }
        },
    };
    examined.findings.push(match &settings.images {
        ImageSettings::Folder { path } => of_folder(path, &settings.picture),
        ImageSettings::Http { .. } | ImageSettings::S3 { .. } => match review::source(settings) {
            Ok(source) => of_rows(source, &rows, &settings.picture).await,
            Err(error) => Finding::new("images", state_of(&error), error.to_string(), ""),
        },
    });
    examined
}

fn state_of(error: &NoReview) -> State {
    match error {
        NoReview::Records(RecordError::Unavailable(_)) => State::Unavailable,
        NoReview::Records(RecordError::Refused(_) | RecordError::Misconfigured(_))
        | NoReview::Configuration(_)
        | NoReview::Images(_)
        | NoReview::State(_) => State::Failed,
    }
}

fn embedded(path: &Path) -> Finding {
    let shown = path.display();
    if path.exists() {
        Finding::good("records", format!("{shown} (embedded) is there"))
    } else {
        Finding::good("records", format!("{shown} (embedded) will be made by the first review"))
    }
}

fn of_folder(folder: &Path, settings: &PictureSettings) -> Finding {
    let shown = folder.display();
    let instead = "put pictures there, or set [images] path, or IMAGE_URL in .env";
    let files = match files_below(folder) {
        Ok(files) => files,
        Err(error) => {
            let what = format!("the folder {shown} can't be read: {error}");
            return Finding::new("images", State::Failed, what, instead);
        }
    };
    let found = files.iter().find_map(|file| {
        let path = url::Url::parse(&file.url).ok()?.to_file_path().ok()?;
        let header = picture::probe(&std::fs::read(path).ok()?, settings).ok()?;
        Some((file.job_id.clone(), header))
    });
    match found {
        Some((name, header)) => Finding::good(
            "images",
            format!(
                "{} files below {shown}; {name} is a picture of {} × {}",
                files.len(),
                header.width,
                header.height
            ),
        ),
        None if files.is_empty() => {
            Finding::new("images", State::Warning, format!("nothing below {shown}"), instead)
        }
        None => {
            let what = format!("none of the {} files below {shown} is a picture", files.len());
            Finding::new("images", State::Failed, what, instead)
        }
    }
}

async fn of_table(
    records: Arc<dyn Records>,
    pick_up: &[String],
    examined: &mut Examined,
) -> Vec<Record> {
    let findings = &mut examined.findings;
    let rows = match records.candidates(pick_up, None, PICTURES).await {
        Ok(rows) => rows,
        Err(error) => {
            findings.push(refused(&error));
            return Vec::new();
        }
    };
    match records.count(pick_up).await {
        Ok(n_rows) => {
            examined.n_waiting = Some(n_rows);
            findings.push(Finding::good(
                "records",
                format!("table and columns are there; {n_rows} rows wait ({})", pick_up.join(", ")),
            ));
        }
        Err(error) => findings.push(refused(&error)),
    }
    match records.count(&[PROCESSING.to_owned()]).await {
        Ok(0) => {}
        Ok(n_rows) => findings.push(Finding::new(
            "records",
            State::Warning,
            format!("{n_rows} rows are in {PROCESSING}: in somebody's hands, or left behind"),
            "if nothing runs now: lookout rerun --stuck takes them back",
        )),
        Err(error) => findings.push(refused(&error)),
    }
    findings.push(Finding::new(
        "records",
        State::NotChecked,
        "whether rows may be changed (nothing was written)",
        "lookout review --limit 1 shows it",
    ));
    rows
}

fn refused(error: &RecordError) -> Finding {
    let state = match error {
        RecordError::Unavailable(_) => State::Unavailable,
        RecordError::Refused(_) | RecordError::Misconfigured(_) => State::Failed,
    };
    Finding::new("records", state, error.to_string(), "")
}

async fn of_rows(source: Arc<dyn Source>, rows: &[Record], settings: &PictureSettings) -> Finding {
    if rows.is_empty() {
        let what = "no row waits whose picture could be fetched";
        return Finding::new("images", State::NotChecked, what, "");
    }
    let mut why = (State::Failed, String::new());
    for row in rows {
        let bytes = match source.fetch(row).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let state = match &error {
                    SourceError::Unavailable(_) | SourceError::BrokeOff(_) => State::Unavailable,
                    SourceError::Picture(_) | SourceError::Refused(_) => State::Failed,
                };
                why = (state, format!("row {}: {error}", row.id.0));
                continue;
            }
        };
        match picture::probe(&bytes, settings) {
            Ok(header) => {
                let what = format!(
                    "the picture of row {} is there: {} × {}, {} kB",
                    row.id.0,
                    header.width,
                    header.height,
                    bytes.len() / 1000
                );
                return Finding::good("images", what);
            }
            Err(error) => why = (State::Failed, format!("row {}: {error}", row.id.0)),
        }
    }
    let instead = "look at IMAGE_URL or [images]: open the address of one row in a browser";
    Finding::new("images", why.0, why.1, instead)
}
