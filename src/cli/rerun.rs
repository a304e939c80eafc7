//! `lookout rerun`: reviewed images are reviewed again, stuck ones go back to the queue.
//!
//! It shows first which images and at what price; `--yes` does it. Which rows are meant stands here,
//! `plan.rs` counts them, `apply.rs` changes them, `print.rs` prints.
//! Invariants: without `--yes` nothing is changed; a row that is being processed never is; a row that
//! is reviewed again keeps its category until the new answer is there, so that whoever reads the
//! table never takes a flagged image for a good one.

mod apply;
mod plan;
mod print;

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use self::apply::Changed;
use self::plan::{Named, Plan};
use super::output::{self, Format, JsonFlag};
use super::time_arg::When;
use super::{EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_TRY_LATER, EXIT_USAGE, load_config};
use crate::app::review;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::review::category::{Code, GOOD};
use crate::review::record::selection::{Details, RERUN, STUCK_AFTER, Selection, SendBack, Taken};
use crate::review::record::statuses::Statuses;
use crate::review::record::{ERROR, RecordError, RecordId, Records, SUCCESS};
use crate::storage::StorageError;

/// Arguments.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(group = clap::ArgGroup::new("which").multiple(true).required(true))]
#[command(override_usage = "lookout rerun <SELECTION>... [--limit <N>] [--mark] [--yes]")]
pub struct Args {
    /// Select this image; can be repeated
    #[arg(long, value_name = "ID", group = "which", conflicts_with_all =
        ["category", "status", "from", "to", "unreadable", "stuck", "limit"])]
    id: Vec<String>,
    /// Select images with this category code (T1, N1, good, ...); can be repeated
    #[arg(long, value_name = "CODE", group = "which", value_parser = category)]
    category: Vec<String>,
    /// Select images with this status; can be repeated
    #[arg(long, value_name = "STATUS", group = "which")]
    status: Vec<String>,
    /// Select images last reviewed at or after this time (24h, 2026-11-22, or an RFC 3339 time)
    #[arg(long, value_name = "WHEN", group = "which", value_parser = When::parse)]
    from: Option<When>,
    /// Select images last reviewed before this time
    #[arg(long, value_name = "WHEN", group = "which", value_parser = When::parse)]
    to: Option<When>,
    /// Select images that the old service called good because it could not read the answer
    #[arg(long, group = "which", conflicts_with_all = ["category", "status"])]
    unreadable: bool,
    /// Return images to the queue that have been in processing for more than a day
    #[arg(long, group = "which", conflicts_with_all =
        ["category", "status", "from", "to", "unreadable"])]
    stuck: bool,
    /// Upper bound, oldest images first
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    steps: Steps,
    #[command(flatten)]
    json: JsonFlag,
}

/// How far it goes.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
struct Steps {
    /// Do it, instead of only showing the images and the price
    #[arg(long)]
    yes: bool,
    /// Set the images to `good` and `rerun_for_clarity` instead, as the old rerun process did: no run
    /// reviews them until they are picked up
    #[arg(long, conflicts_with_all = ["stuck", "now"])]
    mark: bool,
    /// Review stuck images at once, too. For others `--yes` does
    #[arg(long, hide = true)]
    now: bool,
}

/// What becomes of the images.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    /// They are reviewed at once.
    Review,
    /// They are only changed, in this way.
    Change(SendBack),
    /// They are changed in this way, and reviewed at once.
    ChangeAndReview(SendBack),
}

impl Purpose {
    /// The change, if it is one.
    fn change(&self) -> Option<&SendBack> {
        match self {
            Self::Review => None,
            Self::Change(to) | Self::ChangeAndReview(to) => Some(to),
        }
    }

    fn reviews(&self) -> bool {
        match self {
            Self::Review | Self::ChangeAndReview(_) => true,
            Self::Change(_) => false,
        }
    }
}

impl Steps {
    /// What becomes of reviewed images.
    fn purpose(self) -> Purpose {
        if self.mark { Purpose::Change(SendBack::Rerun) } else { Purpose::Review }
    }
}

fn category(text: &str) -> Result<String, String> {
    let known = Code::ALL.map(Code::as_str);
    let wanted = text.trim();
    let found = known.iter().chain([&GOOD]).find(|code| code.eq_ignore_ascii_case(wanted));
    found.map(|code| (*code).to_owned()).ok_or_else(|| {
        format!("the codes are {} and {GOOD}; for rows in error: --status {ERROR}", known.join(" "))
    })
}

/// Why it ended before its end.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Records(#[from] RecordError),
    #[error("{0}")]
    State(#[from] StorageError),
    #[error("{0}")]
    Usage(String),
}

/// Shows or does it; the exit code.
#[must_use]
pub fn run(file: Option<PathBuf>, args: &Args) -> u8 {
    let config = match load_config::for_review(file) {
        Ok(config) => config,
        Err(error) => return load_config::refused(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&format!("lookout rerun: no runtime: {error}")),
    };
    let outcome = runtime.block_on(rerun(&config, args, SystemClock.now()));
    outcome.unwrap_or_else(|error| {
        // The code says what to do with it, as for a review.
        let code = match &error {
            Ended::Records(RecordError::Unavailable(_)) => EXIT_TRY_LATER,
            Ended::Records(RecordError::Misconfigured(_)) => EXIT_CONFIG,
            Ended::Usage(_) => EXIT_USAGE,
            Ended::Records(RecordError::Refused(_) | RecordError::Rejected(_))
            | Ended::State(_) => EXIT_FAILED,
        };
        let text = format!("lookout rerun: {error}");
        let _ = output::fail(&config.redactor().redact(&text));
        code
    })
}

/// The status that a person means: by the table's word for it, or by the standard one.
fn status(word: &str, statuses: &Statuses) -> Result<String, Ended> {
    let known = [SUCCESS, ERROR, RERUN];
    let meant = statuses.meant_by(word);
    let standard = known.contains(&word).then(|| word.to_owned());
    known.contains(&meant.as_str()).then_some(meant).or(standard).ok_or_else(|| {
        let known = known.map(|status| statuses.in_table(status));
        Ended::Usage(format!("--status {word}: write one of {}", known.join(", ")))
    })
}

async fn rerun(config: &Config, args: &Args, now: DateTime<Utc>) -> Result<u8, Ended> {
    let records = review::records(&config.review.records)?;
    let format = Format::choose(args.json);
    if !args.id.is_empty() {
        return of_ids(config, args, &records, format).await;
    }
    let (selection, purpose) = chosen(config, args, now)?;
    let plan = Plan::of(&selection, purpose, config, args.limit, &records).await?;
    if !args.steps.yes || plan.is_nothing() || plan.is_done() {
        return Ok(print::plan(&plan, config, format));
    }
    let changed = apply::all(&plan, config, &records).await?;
    Ok(conclude(config, &plan.purpose, changed, format).await)
}

/// What is meant, and what is to become of it.
fn chosen(config: &Config, args: &Args, now: DateTime<Utc>) -> Result<(Selection, Purpose), Ended> {
    if args.stuck {
        let waiting = config.review.records.pick_up.first().cloned().unwrap_or_default();
        let to = SendBack::Waiting(waiting);
        let purpose =
            if args.steps.now { Purpose::ChangeAndReview(to) } else { Purpose::Change(to) };
        return Ok((Selection::stuck(now - STUCK_AFTER), purpose));
    }
    let time = |when: Option<When>| when.map(|when| when.before(now));
    let (from, to) = (time(args.from), time(args.to));
    let taken = match (from, to) {
        (None, None) => Taken::Any,
        (from, to) => Taken::Between(from, to),
    };
    let mut selection = if args.unreadable {
        Selection::unreadable()
    } else {
        Selection {
            statuses: args
                .status
                .iter()
                .map(|word| status(word, &config.review.records.statuses))
                .collect::<Result<_, _>>()?,
            categories: args.category.clone(),
            details: Details::Any,
            taken: Taken::Any,
        }
    };
    if selection.statuses.is_empty() {
        selection.statuses = vec![SUCCESS.to_owned(), ERROR.to_owned()];
    }
    selection.taken = taken;
    Ok((selection, args.steps.purpose()))
}

async fn of_ids(
    config: &Config,
    args: &Args,
    records: &Arc<dyn Records>,
    format: Format,
) -> Result<u8, Ended> {
    let mut ids: Vec<RecordId> = Vec::new();
    for id in args.id.iter().map(|id| RecordId(id.clone())) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let purpose = args.steps.purpose();
    let named = Named::look_up(records, &ids, &config.review.records, &purpose).await?;
    print::refusals(&named);
    let refused = if named.refused.is_empty() { EXIT_OK } else { EXIT_FAILED };
    let plan = Plan::of_named(&named, purpose);
    if !args.steps.yes || plan.is_nothing() {
        let nothing = plan.is_nothing() && refused != EXIT_OK;
        let code = if nothing { EXIT_OK } else { print::plan(&plan, config, format) };
        return Ok(if code == EXIT_OK { refused } else { code });
    }
    let changed = apply::named(&named, &plan.purpose, records).await?;
    let code = conclude(config, &plan.purpose, changed, format).await;
    Ok(if code == EXIT_OK { refused } else { code })
}

/// Says what was changed, and reviews the images if that is meant.
async fn conclude(config: &Config, purpose: &Purpose, changed: Changed, format: Format) -> u8 {
    // What is reviewed at once has an output of its own, of which the signal is the last line.
    let code = match purpose {
        Purpose::Review => EXIT_OK,
        Purpose::ChangeAndReview(_) if format == Format::Json => EXIT_OK,
        Purpose::Change(to) | Purpose::ChangeAndReview(to) => {
            print::changed(&changed, to, purpose, config, format)
        }
    };
    if purpose.reviews() && !changed.ready.is_empty() {
        return super::review::these(config, changed.ready, format).await;
    }
    code
}
