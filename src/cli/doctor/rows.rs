//! Rows: is the table there with its columns, what waits in it, and what is wrong with what is in it?
//!
//! Through the same adapters as the review, reading only; `pictures.rs` fetches the picture of one.
//! Invariant: a database that is down is never told as one that refuses us.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::key;
use super::pictures;
use super::report::{Finding, State};
use crate::app::review::{self, SetupError};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::review::record::folder_listing::files_below;
use crate::review::record::selection::{RERUN, STUCK_AFTER, Selection};
use crate::review::record::sqlite::SqliteRecords;
use crate::review::record::supabase::SupabaseRecords;
use crate::review::record::{ERROR, PROCESSING, Record, RecordError, Records, SUCCESS};
use crate::review::settings::{ImageSettings, RecordKind, RecordSettings};

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
    let looked = match &settings.records.kind {
        RecordKind::Sqlite { path } => embedded(path, config, &mut examined).await,
        RecordKind::Supabase { url, key } => {
            examined.findings.extend(key::examine(url, key, SystemClock.now()));
            let RecordSettings { schema, table, columns, statuses, .. } = &settings.records;
            let records = SupabaseRecords::new(url, key, table, columns);
            match records.and_then(|records| records.in_schema(schema.as_deref())) {
                Ok(records) => {
                    let records = records.with_statuses(statuses);
                    of_supabase(records, &settings.records, &mut examined).await
                }
                Err(error) => Err(error),
            }
        }
    };
    let rows = looked.unwrap_or_else(|error| {
        examined.findings.push(refused(&error));
        Vec::new()
    });
    examined.findings.push(match &settings.images {
        ImageSettings::Folder { path } => pictures::of_folder(path, &settings.picture),
        ImageSettings::Http { .. } | ImageSettings::S3 { .. } => match review::source(settings) {
            Ok(source) => pictures::of_rows(source, &rows, &settings.picture).await,
            Err(error) => Finding::new("images", state_of(&error), error.to_string(), ""),
        },
    });
    examined
}

fn state_of(error: &SetupError) -> State {
    match error {
        SetupError::Records(RecordError::Unavailable(_)) => State::Unavailable,
        SetupError::Records(
            RecordError::Refused(_) | RecordError::Rejected(_) | RecordError::Misconfigured(_),
        )
        | SetupError::Configuration(_)
        | SetupError::Images(_)
        | SetupError::State(_) => State::Failed,
    }
}

/// The embedded database, if there is one: doctor makes nothing.
async fn embedded(
    path: &Path,
    config: &Config,
    examined: &mut Examined,
) -> Result<Vec<Record>, RecordError> {
    let settings = &config.review;
    let shown = path.display();
    let files = match &settings.images {
        // What is wrong with the folder, the pictures' finding says.
        ImageSettings::Folder { path } => files_below(path).unwrap_or_default().files,
        ImageSettings::Http { .. } | ImageSettings::S3 { .. } => Vec::new(),
    };
    if !path.exists() {
        let what = format!("{shown} (embedded) will be made by the first review");
        examined.findings.push(Finding::good("records", what));
        examined.n_waiting = Some(files.len() as u64);
        return Ok(Vec::new());
    }
    let RecordSettings { table, columns, statuses, .. } = &settings.records;
    let records = SqliteRecords::open_existing(path, table, columns)?.with_statuses(statuses);
    let ids: Vec<_> = files.into_iter().map(|file| file.id).collect();
    let n_known = records.rows_by_id(&ids).await?.len();
    let what = format!("{shown} (embedded) is there");
    of_table(Arc::new(records), &settings.records, &what, examined).await.inspect(|_| {
        let n_new = ids.len().saturating_sub(n_known) as u64;
        examined.n_waiting = examined.n_waiting.map(|n_rows| n_rows + n_new);
    })
}

async fn of_supabase(
    records: SupabaseRecords,
    settings: &RecordSettings,
    examined: &mut Examined,
) -> Result<Vec<Record>, RecordError> {
    let seen = records.inspect().await?;
    if seen.rows == 0 {
        examined.findings.push(Finding::new(
            "records",
            State::Warning,
            format!("this key sees no row of \"{}\" at all", settings.table),
            "the table is empty, or row-level security hides its rows: use the project's secret key",
        ));
    }
    let what = "table and columns are there";
    let rows = of_table(Arc::new(records), settings, what, examined).await?;
    examined.findings.push(Finding::new(
        "records",
        State::NotChecked,
        "whether rows may be changed (nothing was written)",
        "lookout review --limit 1 shows it",
    ));
    Ok(rows)
}

/// What waits, what is stuck, what was approved by accident; a few rows whose pictures can be tried.
async fn of_table(
    records: Arc<dyn Records>,
    settings: &RecordSettings,
    what: &str,
    examined: &mut Examined,
) -> Result<Vec<Record>, RecordError> {
    let pick_up = &settings.pick_up;
    let n_rows = records.count(pick_up).await?;
    examined.n_waiting = Some(n_rows);
    let findings = &mut examined.findings;
    let what = format!("{what}; {} ({})", waiting(n_rows), pick_up.join(", "));
    findings.push(Finding::good("records", what));
    findings.extend(accidents(records.as_ref(), settings, SystemClock.now()).await?);
    let rows = records.candidates(pick_up, None, PICTURES).await?;
    if !rows.is_empty() {
        return Ok(rows);
    }
    records.candidates(&[SUCCESS.to_owned(), ERROR.to_owned()], None, PICTURES).await
}

/// Rows that a service left behind, and rows that it approved by accident.
async fn accidents(
    records: &dyn Records,
    settings: &RecordSettings,
    now: DateTime<Utc>,
) -> Result<Vec<Finding>, RecordError> {
    let statuses = &settings.statuses;
    let processing = &statuses.processing;
    let mut findings = Vec::new();
    let n_stuck = records.count_of(&Selection::stuck(now - STUCK_AFTER)).await?;
    if n_stuck > 0 {
        findings.push(Finding::new(
            "records",
            State::Warning,
            format!("{} in {processing} for more than a day", are(n_stuck)),
            "nothing brings them back by itself: lookout rerun --stuck shows them; with --yes they \
             return to the queue",
        ));
    }
    let n_fresh = records.count(&[PROCESSING.to_owned()]).await?.saturating_sub(n_stuck);
    if n_fresh > 0 {
        let what = format!("{} being processed ({processing})", are(n_fresh));
        findings.push(Finding::good("records", what));
    }
    let n_unreadable = records.count_of(&Selection::unreadable()).await?;
    if n_unreadable > 0 {
        findings.push(Finding::new(
            "records",
            State::Warning,
            format!(
                "{} good by accident: the old service could not read the model's answer",
                are(n_unreadable)
            ),
            "lookout rerun --unreadable shows them; with --yes they are reviewed again",
        ));
    }
    let parked = statuses.in_table(RERUN);
    let n_parked =
        if settings.picks_up(RERUN) { 0 } else { records.count(&[RERUN.to_owned()]).await? };
    if n_parked > 0 {
        findings.push(Finding::new(
            "records",
            State::Warning,
            format!(
                "{} parked as {parked}: they count as good, and no run reviews them",
                are(n_parked)
            ),
            format!(
                "lookout rerun --status {parked} shows them; with --yes they are reviewed again"
            ),
        ));
    }
    Ok(findings)
}

fn are(n: u64) -> String {
    if n == 1 { "1 image is".to_owned() } else { format!("{n} images are") }
}

fn waiting(n: u64) -> String {
    if n == 1 { "1 image waits".to_owned() } else { format!("{n} images wait") }
}

fn refused(error: &RecordError) -> Finding {
    let state = match error {
        RecordError::Unavailable(_) => State::Unavailable,
        RecordError::Refused(_) | RecordError::Rejected(_) | RecordError::Misconfigured(_) => {
            State::Failed
        }
    };
    Finding::new("records", state, error.to_string(), "")
}
