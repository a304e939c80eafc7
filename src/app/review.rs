//! Puts a review together from its settings: which adapter stands behind which port.
//!
//! It decides nothing; what can't be put together says whose business that is.
//! Invariant: nothing is claimed here, and no call is made to the provider.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock::Clock;
use crate::review::picture::memory_budget::MemoryBudget;
use crate::review::picture::worker_pool::WorkerPool;
use crate::review::pipeline::{Plan, Ports, Preparer};
use crate::review::prompt::Prompt;
use crate::review::record::folder_listing::{Listing, files_below};
use crate::review::record::selection::RERUN;
use crate::review::record::sqlite::SqliteRecords;
use crate::review::record::supabase::SupabaseRecords;
use crate::review::record::{RecordError, RecordId, Records};
use crate::review::reviewer::Reviewer;
use crate::review::reviewer::gemini::client::{Estimate, Gemini};
use crate::review::settings::{ImageSettings, RecordKind, RecordSettings, ReviewSettings};
use crate::review::settle::Policy;
use crate::review::source::Source;
use crate::review::source::folder::FolderSource;
use crate::review::source::http::HttpSource;
use crate::review::source::s3::{S3Place, S3Source};
use crate::review::tries::Tries;
use crate::review::tries::sqlite::queries::ReviewDb;
use crate::review::tries::sqlite::{HolderSettings, SqliteTries};
use crate::storage::StorageError;

/// How long what is in hand may take after Ctrl-C or `--for`, when no keeper says so: the default
/// of `signal_grace`.
const GRACE: Duration = Duration::from_secs(300);

/// How long after the end of the grace another machine may take our rows back (docs/decisions.md,
/// "Claims are written down first").
const LEASE_AFTER_GRACE: TimeDelta = TimeDelta::minutes(5);

/// The lease of a review that nobody gave an end: longer than anybody lets one run by hand.
const LEASE_WITHOUT_END: TimeDelta = TimeDelta::hours(24);

/// What is wanted of this review.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    /// Run id; a new one if nobody gave one.
    pub run: Option<String>,
    /// `LOOKOUT_BOX_ENDS_AT`.
    pub box_ends_at: Option<DateTime<Utc>>,
    /// `LOOKOUT_GRACE_ENDS_AT`.
    pub grace_ends_at: Option<DateTime<Utc>>,
    /// `--for`.
    pub lasts: Option<Duration>,
    /// Rows at most.
    pub limit: Option<u64>,
    /// These rows only.
    pub only: Option<Vec<RecordId>>,
    /// Somebody waits for the end: give up an outage after so long, if `give_up_after` is longer.
    pub max_outage: Option<Duration>,
}

/// Why there can be no review, by whose business it is.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The configuration.
    #[error("{0}")]
    Configuration(String),
    /// The place of the pictures.
    #[error("{0}")]
    Images(String),
    /// The place of the records.
    #[error("{0}")]
    Records(#[from] RecordError),
    /// The state directory.
    #[error("{0:#}")]
    State(anyhow::Error),
}

/// What looks at pictures, without rows.
pub struct ReviewAdapters {
    /// Files.
    pub source: Arc<dyn Source>,
    /// From file to picture.
    pub preparer: Arc<dyn Preparer>,
    /// From picture to answer.
    pub reviewer: Arc<dyn Reviewer>,
    /// What a try costs.
    pub estimate: Estimate,
}

/// Rows, and the files that are no rows yet.
pub struct Rows {
    /// The port.
    pub records: Arc<dyn Records>,
    embedded: Option<SqliteRecords>,
    listing: Listing,
}

/// A review ready to run.
pub struct Review {
    /// Whom it works with.
    pub ports: Ports,
    /// What it is to do.
    pub plan: Plan,
    /// What a person should know before it starts, such as files that were passed over.
    pub findings: Vec<String>,
}

/// Chooses the adapters that look at pictures.
///
/// # Errors
/// When settings, prompt or TLS can't be used.
pub fn adapters(
    settings: &ReviewSettings,
    clock: &Arc<dyn Clock>,
) -> Result<ReviewAdapters, SetupError> {
    if settings.reviewer.projects.iter().all(|project| project.keys.is_empty()) {
        return Err(SetupError::Configuration(
            "there is no key for the vision service: set GEMINI_API_KEY in .env or in the \
             environment"
                .to_owned(),
        ));
    }
    let prompt = match &settings.reviewer.prompt_file {
        Some(file) => Prompt::read(file),
        None => Ok(Prompt::built_in()),
    };
    let prompt = prompt.map_err(|error| SetupError::Configuration(format!("{error:#}")))?;
    let gemini = Gemini::new(&settings.reviewer, prompt, Arc::clone(clock)).map_err(|error| {
        SetupError::State(anyhow::Error::new(error).context("TLS can't be used"))
    })?;
    let estimate = gemini.estimate();
    let budget = &settings.budget;
    if estimate.at_most.is_none() && (budget.usd_per_run.is_some() || budget.usd_per_day.is_some())
    {
        return Err(SetupError::Configuration(format!(
            "there is a [budget], but nobody knows what the model {} costs: add its price under \
             [reviewer.prices], or take the budget away",
            settings.reviewer.model
        )));
    }
    let memory = MemoryBudget::new(settings.picture.memory);
    Ok(ReviewAdapters {
        source: source_within(settings, &memory)?,
        preparer: Arc::new(WorkerPool::new(settings.picture.clone()).within(&memory)),
        reviewer: Arc::new(gemini),
        estimate,
    })
}

/// Opens the place of the pictures; asks nobody yet.
///
/// # Errors
/// When its settings can't be used.
pub fn source(settings: &ReviewSettings) -> Result<Arc<dyn Source>, SetupError> {
    source_within(settings, &MemoryBudget::new(settings.picture.memory))
}

fn source_within(
    settings: &ReviewSettings,
    memory: &Arc<MemoryBudget>,
) -> Result<Arc<dyn Source>, SetupError> {
    let max_bytes = settings.picture.max_bytes;
    let wrong = |error: &dyn Display| SetupError::Configuration(error.to_string());
    Ok(match &settings.images {
        ImageSettings::Folder { path } => {
            Arc::new(FolderSource::new(path.clone(), max_bytes).within(memory))
        }
        ImageSettings::Http { url, allowed_hosts } => {
            let source = HttpSource::new(url, allowed_hosts, max_bytes);
            Arc::new(source.map_err(|e| wrong(&e))?.within(memory))
        }
        ImageSettings::S3 { bucket, region, endpoint, key, path_style, credentials } => {
            let endpoint = endpoint.as_deref();
            let place = S3Place { bucket, region, endpoint, path_style: *path_style };
            let source = S3Source::new(&place, key, credentials.as_ref(), max_bytes);
            Arc::new(source.map_err(|e| wrong(&e))?.within(memory))
        }
    })
}

/// Opens the records; with embedded ones, lists the files that may be new. Writes no row.
///
/// # Errors
/// When records can't be opened or the images' folder can't be read.
pub async fn rows(settings: &ReviewSettings) -> Result<Rows, SetupError> {
    let RecordSettings { kind, schema, table, columns, statuses, .. } = &settings.records;
    match kind {
        RecordKind::Sqlite { path } => {
            let listing = match &settings.images {
                ImageSettings::Folder { path } => list(path).await?,
                ImageSettings::Http { .. } | ImageSettings::S3 { .. } => Listing::default(),
            };
            let records = SqliteRecords::open(path, table, columns)?.with_statuses(statuses);
            Ok(Rows { records: Arc::new(records.clone()), embedded: Some(records), listing })
        }
        RecordKind::Supabase { url, key } => {
            let records = SupabaseRecords::new(url, key, table, columns)?
                .in_schema(schema.as_deref())?
                .with_statuses(statuses);
            Ok(Rows { records: Arc::new(records), embedded: None, listing: Listing::default() })
        }
    }
}

/// Opens the records alone, whatever the pictures.
///
/// # Errors
/// When they can't be opened.
pub fn records(settings: &RecordSettings) -> Result<Arc<dyn Records>, RecordError> {
    let RecordSettings { kind, schema, table, columns, statuses, .. } = settings;
    Ok(match kind {
        RecordKind::Sqlite { path } => {
            Arc::new(SqliteRecords::open(path, table, columns)?.with_statuses(statuses))
        }
        RecordKind::Supabase { url, key } => {
            let records = SupabaseRecords::new(url, key, table, columns)?;
            Arc::new(records.in_schema(schema.as_deref())?.with_statuses(statuses))
        }
    })
}

/// Those of the records that a review on this machine has in hand, or left behind for the next one.
///
/// # Errors
/// When `review.db` can't be read.
pub fn in_hand(
    settings: &ReviewSettings,
    ids: &[RecordId],
) -> Result<HashSet<RecordId>, StorageError> {
    match ReviewDb::open(&settings.state_dir)? {
        Some(notes) => notes.in_hand(&scope(&settings.records), ids),
        None => Ok(HashSet::new()),
    }
}

async fn list(folder: &Path) -> Result<Listing, SetupError> {
    let path = folder.to_owned();
    let listed = tokio::task::spawn_blocking(move || files_below(&path)).await;
    let problem = match listed {
        Ok(Ok(listing)) => return Ok(listing),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Err(SetupError::Images(format!(
        "the images' folder {} can't be read: {problem}",
        folder.display()
    )))
}

impl Rows {
    /// How many files are no rows yet.
    ///
    /// # Errors
    /// When the records can't be read.
    pub async fn n_new(&self) -> Result<u64, RecordError> {
        let mut n_new = 0;
        for file in &self.listing.files {
            n_new += u64::from(self.records.get(&file.id).await?.is_none());
        }
        Ok(n_new)
    }

    /// Makes rows of them.
    async fn admit(&mut self, status: &str, now: DateTime<Utc>) -> Result<(), RecordError> {
        if let Some(embedded) = &self.embedded {
            embedded.insert_new(std::mem::take(&mut self.listing.files), status, now).await?;
        }
        Ok(())
    }
}

/// Puts a whole review together; new files become rows.
///
/// # Errors
/// When any part can't be made.
pub async fn review(
    settings: &ReviewSettings,
    order: Order,
    clock: Arc<dyn Clock>,
) -> Result<Review, SetupError> {
    let ReviewAdapters { source, preparer, reviewer, estimate: _ } = adapters(settings, &clock)?;
    let mut rows = rows(settings).await?;
    let status = settings.records.pick_up.first().map_or("downloaded", String::as_str);
    rows.admit(status, clock.now()).await?;
    let now = clock.now();
    let plan = plan(settings, order, now);
    let grace_ends = plan.grace_end.map(|end| end.saturating_duration_since(Instant::now()));
    let lease = grace_ends.map_or(LEASE_WITHOUT_END, |left| {
        TimeDelta::from_std(left).unwrap_or(LEASE_WITHOUT_END) + LEASE_AFTER_GRACE
    });
    let holder = HolderSettings {
        run: plan.run.clone(),
        scope: scope(&settings.records),
        started_at: now,
        lease_until: now + lease,
    };
    let tries = SqliteTries::open(&settings.state_dir, &holder).map_err(SetupError::State)?;
    let tries = Arc::new(tries);
    let findings = rows.listing.findings();
    let ports = Ports { records: rows.records, source, preparer, reviewer, tries, clock };
    Ok(Review { ports, plan, findings })
}

/// Where looks at pictures that are no rows are written down: they cost money like any other.
///
/// # Errors
/// When `review.db` can't be made or written.
pub async fn notes_of_no_row(
    settings: &ReviewSettings,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Tries>, SetupError> {
    let now = clock.now();
    let holder = HolderSettings {
        run: Uuid::now_v7().to_string(),
        // No row's id can be taken for one of these, nor its tries.
        scope: "no row".to_owned(),
        started_at: now,
        lease_until: now + LEASE_WITHOUT_END,
    };
    let tries = SqliteTries::open(&settings.state_dir, &holder).map_err(SetupError::State)?;
    // There are no rows to put right; what the dead had set aside counts as spent.
    tries.take_over(now).await.map_err(|error| SetupError::State(error.into()))?;
    Ok(Arc::new(tries))
}

fn plan(settings: &ReviewSettings, order: Order, now: DateTime<Utc>) -> Plan {
    let start = Instant::now();
    // The only place where a wall time becomes a wait: the keeper counts on the boot clock and
    // stops us if the wall clock has been stepped meanwhile.
    let at = |end: DateTime<Utc>| start + (end - now).to_std().unwrap_or(Duration::ZERO);
    let box_end = order.box_ends_at.map(at);
    let lasts = order.lasts.map(|lasts| start + lasts);
    let box_end = [box_end, lasts].into_iter().flatten().min();
    Plan {
        run: order.run.unwrap_or_else(|| Uuid::now_v7().to_string()),
        pick_up: settings.records.pick_up.clone(),
        parked: (!settings.records.picks_up(RERUN)).then(|| RERUN.to_owned()),
        batch: settings.batch,
        limit: order.limit,
        only: order.only,
        policy: Policy { on_blocked: settings.reviewer.on_blocked, waits: Policy::WAITS },
        budget: settings.budget,
        give_up_after: settings
            .reviewer
            .give_up_after
            .min(order.max_outage.unwrap_or(Duration::MAX)),
        box_end,
        grace_end: order.grace_ends_at.map(at).or(box_end.map(|end| end + GRACE)),
        grace: GRACE,
    }
}

/// The records that ids in `review.db` belong to.
fn scope(records: &RecordSettings) -> String {
    let place = match &records.kind {
        RecordKind::Sqlite { path } => format!("sqlite:{}", path.display()),
        RecordKind::Supabase { url, .. } => format!("supabase:{url}"),
    };
    match &records.schema {
        Some(schema) => format!("{place}#{schema}.{}", records.table),
        None => format!("{place}#{}", records.table),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Location, load};
    use crate::timezone::TimeZones;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_end_is_not_kept_for_as_long_as_an_outage_may_last() {
        let folder = tempfile::tempdir().unwrap();
        let zones = TimeZones::built_in();
        let location = Location { config: None, cwd: folder.path().to_owned(), zones };
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut settings = load(&location, &BTreeMap::new()).unwrap().review;
        let gives_up = |settings: &ReviewSettings, max_outage| {
            plan(settings, Order { max_outage, ..Order::default() }, now).give_up_after.as_secs()
        };
        let max_outage = Some(Duration::from_secs(90));
        assert_eq!((gives_up(&settings, None), gives_up(&settings, max_outage)), (600, 90));
        settings.reviewer.give_up_after = Duration::from_secs(30);
        assert_eq!(gives_up(&settings, max_outage), 30, "what is configured is shorter");
    }
}
