//! Pictures: can one be fetched and read?
//!
//! Invariant: a bucket that is down is never told as one that refuses us.

use std::path::Path;
use std::sync::Arc;

use super::report::{Finding, State};
use crate::regular_file;
use crate::review::picture;
use crate::review::record::Record;
use crate::review::record::folder_listing::files_below;
use crate::review::settings::PictureSettings;
use crate::review::source::{Source, SourceError};

/// A folder on this machine.
pub(super) fn of_folder(folder: &Path, settings: &PictureSettings) -> Finding {
    let shown = folder.display();
    let instead = "put images there, or set [images] path, or IMAGE_URL in .env";
    let (findings, files) = match files_below(folder) {
        Ok(listing) => (listing.findings(), listing.files),
        Err(error) => {
            let what = format!("the folder {shown} can't be read: {error}");
            return Finding::new("images", State::Failed, what, instead);
        }
    };
    let found = files.iter().find_map(|file| {
        let path = url::Url::parse(&file.url).ok()?.to_file_path().ok()?;
        let header =
            picture::probe(&regular_file::read(&path, settings.max_bytes).ok()?, settings).ok()?;
        Some((file.job_id.clone(), header))
    });
    match found {
        Some((name, header)) => {
            let size = format!("{} × {}", header.width, header.height);
            let what = format!("{} files below {shown}; {name} is an image of {size}", files.len());
            Finding::good("images", [vec![what], findings].concat().join("; "))
        }
        None if files.is_empty() => {
            Finding::new("images", State::Warning, format!("nothing below {shown}"), instead)
        }
        None => {
            let what = format!("none of the {} files below {shown} is an image", files.len());
            Finding::new("images", State::Failed, what, instead)
        }
    }
}

/// The picture of one of these rows.
pub(super) async fn of_rows(
    source: Arc<dyn Source>,
    rows: &[Record],
    settings: &PictureSettings,
) -> Finding {
    if rows.is_empty() {
        let what = "there is no row whose image could be fetched";
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
                    "the image of row {} is there: {} × {}, {} kB",
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
