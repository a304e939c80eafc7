//! `lookout rerun`: reviewed rows are to be looked at again, stuck ones go back among the waiting.
//!
//! It shows first what it would do; `--yes` does it, `--now` reviews the rows at once afterwards.
//! Which rows are meant stands here, `showing.rs` prints, `doing.rs` changes.
//! Invariant: without `--yes` nothing is changed; a row in somebody's hands never is.

mod doing;
mod showing;

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use self::doing::Changed;
use self::showing::Plan;
use super::screen::{self, Format, JsonFlag};
use super::when::When;
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
pub struct Args {
    /// This image; may be given several times
    #[arg(long, value_name = "ID", group = "which", conflicts_with_all =
        ["category", "status", "from", "to", "unreadable", "stuck", "limit"])]
    id: Vec<String>,
    /// Rows with this category code (T1, N1, good …); may be given several times
    #[arg(long, value_name = "CODE", group = "which", value_parser = category)]
    category: Vec<String>,
    /// Rows with this status; may be given several times
    #[arg(long, value_name = "STATUS", group = "which")]
    status: Vec<String>,
    /// Rows last taken for a review since then (24h, a day, or an RFC 3339 time)
    #[arg(long, value_name = "WHEN", group = "which", value_parser = When::parse)]
    from: Option<When>,
    /// Rows last taken for a review before then
    #[arg(long, value_name = "WHEN", group = "which", value_parser = When::parse)]
    to: Option<When>,
    /// Rows that the old service called good because it could not read the answer
    #[arg(long, group = "which", conflicts_with_all = ["category", "status"])]
    unreadable: bool,
    /// Rows that were taken more than a day ago and never brought back: they wait again
    #[arg(long, group = "which", conflicts_with_all =
        ["category", "status", "from", "to", "unreadable"])]
    stuck: bool,
    /// At most so many, the oldest first
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
    /// Do it
    #[arg(long)]
    yes: bool,
    /// And review these rows at once
    #[arg(long, conflicts_with = "json")]
    now: bool,
}

fn category(text: &str) -> Result<String, String> {
    let known = Code::ALL.map(Code::as_str);
    let wanted = text.trim();
    let found = known.iter().chain([&GOOD]).find(|code| code.eq_ignore_ascii_case(wanted));
    found.map(|code| (*code).to_owned()).ok_or_else(|| {
        format!("the codes are {} and {GOOD}; for rows in error: --status {ERROR}", known.join(" "))
    })
}

/// Whether anything may be changed, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Show,
    Do,
}

/// Why it ended before its end.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Records(#[from] RecordError),
    #[error("{0}")]
    State(#[from] StorageError),
    #[error("{0}")]
    Output(#[from] std::io::Error),
    #[error("{0}")]
    Usage(String),
}

/// Shows or does it; the exit code.
#[must_use]
pub fn run(file: Option<PathBuf>, args: &Args) -> u8 {
    let config = match load_config::configuration(file) {
        Ok(config) => config,
        Err(error) => return load_config::refused(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return screen::fail(&format!("lookout rerun: no runtime: {error}")),
    };
    let outcome = runtime.block_on(rerun(&config, args, SystemClock.now()));
    outcome.unwrap_or_else(|error| {
        // A reader that went away (`| head`) is no failure.
        if let Ended::Output(error) = &error
            && error.kind() == std::io::ErrorKind::BrokenPipe
        {
            return EXIT_OK;
        }
        // The code says what to do with it, as for a review.
        let code = match &error {
            Ended::Records(RecordError::Unavailable(_)) => EXIT_TRY_LATER,
            Ended::Records(RecordError::Misconfigured(_)) => EXIT_CONFIG,
            Ended::Usage(_) => EXIT_USAGE,
            Ended::Records(RecordError::Refused(_)) | Ended::State(_) | Ended::Output(_) => {
                EXIT_FAILED
            }
        };
        let text = format!("lookout rerun: {error}");
        let _ = screen::fail(&config.redactor().redact(&text));
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
    let wish = if args.steps.yes { Wish::Do } else { Wish::Show };
    let format = Format::choose(args.json);
    if !args.id.is_empty() {
        return of_ids(config, args, &records, wish, format).await;
    }
    let (selection, to) = chosen(config, args, now)?;
    let plan = Plan::of(&selection, to, config, args.limit, &records).await?;
    let nothing_to_do = plan.is_nothing() || (plan.is_so() && !args.steps.now);
    if wish == Wish::Show || nothing_to_do {
        showing::plan(&plan, config, args, format)?;
        return Ok(EXIT_OK);
    }
    let changed = doing::all(&plan, config, &records).await?;
    conclude(config, args, &plan.to, changed, format).await
}

/// What is meant, and what is to become of it.
fn chosen(
    config: &Config,
    args: &Args,
    now: DateTime<Utc>,
) -> Result<(Selection, SendBack), Ended> {
    if args.stuck {
        let waiting = config.review.records.pick_up.first().cloned().unwrap_or_default();
        return Ok((Selection::stuck(now - STUCK_AFTER), SendBack::Waiting(waiting)));
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
    Ok((selection, SendBack::Rerun))
}

async fn of_ids(
    config: &Config,
    args: &Args,
    records: &Arc<dyn Records>,
    wish: Wish,
    format: Format,
) -> Result<u8, Ended> {
    let mut ids: Vec<RecordId> = Vec::new();
    for id in args.id.iter().map(|id| RecordId(id.clone())) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let named = doing::Named::look_up(records, &ids, &config.review.records.pick_up).await?;
    showing::refusals(&named, &config.review.records.statuses, args)?;
    let refused = if named.refused.is_empty() { EXIT_OK } else { EXIT_FAILED };
    let plan = Plan::of_named(&named, args);
    if wish == Wish::Show || plan.is_nothing() {
        if !plan.is_nothing() || refused == EXIT_OK {
            showing::plan(&plan, config, args, format)?;
        }
        return Ok(refused);
    }
    let changed = doing::named(&named, records).await?;
    let code = conclude(config, args, &plan.to, changed, format).await?;
    Ok(if code == EXIT_OK { refused } else { code })
}

/// Says what was done, and reviews the rows if that is wanted.
async fn conclude(
    config: &Config,
    args: &Args,
    to: &SendBack,
    changed: Changed,
    format: Format,
) -> Result<u8, Ended> {
    showing::changed(&changed, to, config, args, format)?;
    if args.steps.now && !changed.ready.is_empty() {
        return Ok(super::review::these(config, changed.ready).await);
    }
    Ok(EXIT_OK)
}
