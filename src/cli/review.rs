//! `lookout review`: the built-in job in the foreground.
//!
//! Under a keeper it prints `::lookout::` lines, on a terminal a progress bar; at the end the
//! summary, and last of all the signal, if it is true. The work is the library's.
//! Invariant: the signal is the last line, and when it can't be written the exit code says so.

mod compare;
mod dry_run;
mod first_run;
mod listener;
mod one;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args as ClapArgs;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use self::listener::Screen;
use super::output::Format;
use super::{EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_TRY_LATER};
use super::{load_config, output};
use crate::app::review::{self, Order, SetupError};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::protocol::{Line, Problem};
use crate::redact::Redactor;
use crate::review::pipeline::{self, StopRequest};
use crate::review::record::{RecordError, RecordId};
use crate::review::report::{Exit, Observer, Report, ReviewEvent};
use crate::text;

/// A caller of the old interface holds a connection open and learns nothing until the end, and the
/// next call asks again anyway. Two probes, after 30 s and 60 s, tell an outage from a hiccup; the old
/// service's callers waited ten minutes a call.
const CALLER_MAX_OUTAGE: Duration = Duration::from_secs(90);

/// Its arguments.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct Args {
    /// Start no new image after this time (45m, 1h30m)
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lasts: Option<Duration>,
    /// Upper bound, in images
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Review as many as LIMIT says, for a caller of the old HTTP interface
    #[arg(long, hide = true, conflicts_with = "limit")]
    one_batch: bool,
    /// Show how many images wait and what they would cost; write nothing, call no model
    #[arg(long, conflicts_with_all = ["lasts", "image", "id"])]
    dry_run: bool,
    /// Print one JSON object at the end, with the result of every image
    #[arg(long)]
    json: bool,
    /// Review one file or address; write no row
    #[arg(long, value_name = "PATH|URL", conflicts_with = "id")]
    image: Option<String>,
    /// Review the image with this id, whatever its status
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Review an image of this job; write no row
    #[arg(long, value_name = "JOB", requires = "image_index", conflicts_with_all = ["image", "id"])]
    job_id: Option<String>,
    /// Index of the image in the job
    #[arg(long, value_name = "N", requires = "job_id")]
    image_index: Option<i64>,
    /// Review N images again that have an answer, and show where the new one differs; write nothing
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=10_000),
        conflicts_with_all = ["lasts", "limit", "dry_run", "image", "id", "job_id"]
    )]
    compare: Option<u32>,
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::duration::parse(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "write a duration such as 45m, 90s or 1h30m".to_owned())
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

/// Reviews; the exit code.
#[must_use]
pub fn run(config: Option<PathBuf>, args: &Args) -> u8 {
    let config = match load_config::for_review(config) {
        Ok(config) => config,
        Err(error) => return load_config::refused(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("no runtime: {error}"), EXIT_FAILED),
    };
    runtime.block_on(choose(&config, args))
}

async fn choose(config: &Config, args: &Args) -> u8 {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let form = if args.json { Form::Json } else { Form::Text };
    let done = if args.dry_run {
        dry_run::run(&config.review, args.limit, form, &clock).await
    } else if let Some(n) = args.compare {
        compare::run(&config.review, n, form, &config.redactor(), &clock).await
    } else if let Some(image) = &args.image {
        one::image(&config.review, image, form, &clock).await
    } else if let (Some(job), Some(index)) = (&args.job_id, args.image_index) {
        one::of_job(&config.review, job, index, form, &clock).await
    } else {
        bulk(config, args, form, clock).await
    };
    done.unwrap_or_else(|error| no_review(&error, &config.redactor()))
}

async fn bulk(
    config: &Config,
    args: &Args,
    form: Form,
    clock: Arc<dyn Clock>,
) -> Result<u8, SetupError> {
    let variables = load_config::process_environment();
    let time = |name: &str| match variables.get(name) {
        None => Ok(None),
        Some(text) => DateTime::parse_from_rfc3339(text)
            .map(|at| Some(at.with_timezone(&Utc)))
            .map_err(|error| SetupError::Configuration(format!("{name}={text}: {error}"))),
    };
    let order = Order {
        run: variables.get("LOOKOUT_RUN_ID").cloned(),
        box_ends_at: time("LOOKOUT_BOX_ENDS_AT")?,
        grace_ends_at: time("LOOKOUT_GRACE_ENDS_AT")?,
        lasts: args.lasts,
        limit: if args.one_batch { Some(config.review.batch.into()) } else { args.limit },
        only: args.id.clone().map(|id| vec![RecordId(id)]),
        max_outage: args.one_batch.then_some(CALLER_MAX_OUTAGE),
    };
    carry_out(config, order, form, clock).await
}

/// Reviews these rows, whatever their status; the exit code.
pub(super) async fn these(config: &Config, ids: Vec<RecordId>, format: Format) -> u8 {
    let form = match format {
        Format::Json => Form::Json,
        Format::Text(_) => Form::Text,
    };
    let order = Order { only: Some(ids), ..Order::default() };
    let done = carry_out(config, order, form, Arc::new(SystemClock)).await;
    done.unwrap_or_else(|error| no_review(&error, &config.redactor()))
}

async fn carry_out(
    config: &Config,
    order: Order,
    form: Form,
    clock: Arc<dyn Clock>,
) -> Result<u8, SetupError> {
    let is_of_one = order.only.as_ref().is_some_and(|ids| ids.len() == 1);
    // Before the first claim: a signal must never find us with rows and without a handler.
    let requests = watch_signals().map_err(|error| SetupError::State(error.into()))?;
    let first = first_run::cost_of(&config.review, &order, &clock);
    let review = review::review(&config.review, order, clock).await?;
    let screen = Arc::new(Screen::new(config.redactor(), form));
    if let Some(expected) = first {
        let waiting = first_run::waiting(&review).await;
        if let Some(line) = first_run::line(&expected, waiting) {
            screen.on_event(&ReviewEvent::Line(line));
        }
    }
    for text in &review.findings {
        screen.on_event(&ReviewEvent::Line(Line::Note { text: text.clone() }));
    }
    let listener = Arc::clone(&screen) as Arc<dyn Observer>;
    let report = pipeline::run(review.ports, review.plan, requests, listener).await;
    screen.clear();
    if is_of_one && report.counts.claimed == 0 && report.complaint().is_none() {
        let text = "there is no image with this id, or it is being processed";
        return Ok(complain(text, EXIT_FAILED));
    }
    Ok(close(&report, &screen, form, &config.redactor()))
}

/// Summary, complaint and signal.
fn close(report: &Report, screen: &Screen, form: Form, redactor: &Redactor) -> u8 {
    let code = match report.exit() {
        Exit::Done => EXIT_OK,
        Exit::Failed => EXIT_FAILED,
        Exit::TryLater => EXIT_TRY_LATER,
        Exit::Configuration => EXIT_CONFIG,
    };
    let results = screen.results();
    let (text, results) = match form {
        Form::Text => (report.closing(), None),
        Form::Json => (String::new(), Some(results.as_slice())),
    };
    let complaint = report.complaint();
    let last = match (report.signal_line(results), &complaint, results) {
        (Some(signal), _, _) => signal,
        (None, Some(complaint), Some(results)) => {
            let results: Vec<_> = results.iter().map(|result| result.to_json()).collect();
            json!({ "message": complaint, "run": report.run, "results": results }).to_string()
        }
        (None, _, _) => String::new(),
    };
    if let Some(complaint) = &complaint {
        complain(&redactor.redact(complaint), code);
    }
    let last = if last.is_empty() { last } else { format!("{last}\n") };
    // The signal is written in one piece with what stands before it, so that it stays the last.
    match screen.print(&format!("{text}{last}")) {
        Ok(()) => code,
        // Whoever was to read the signal is gone, and knows.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => EXIT_FAILED,
        Err(error) => complain(&format!("can't write to standard output: {error}"), EXIT_FAILED),
    }
}

/// The first SIGTERM or Ctrl-C winds down, the second gives everything back at once.
fn watch_signals() -> std::io::Result<watch::Receiver<StopRequest>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (request, requests) = watch::channel(StopRequest::None);
    tokio::spawn(async move {
        for (next, words) in [
            (
                StopRequest::WindDown,
                "finishing the images in progress; press Ctrl-C again to stop now",
            ),
            (
                StopRequest::Release,
                "stopping; unfinished images return to the queue, no try is used",
            ),
        ] {
            tokio::select! {
                _ = terminate.recv() => {}
                // Somebody sits before it, and sees nothing happen for seconds.
                _ = interrupt.recv() => output::complain(&format!("\nlookout review: {words}")),
            }
            // Nobody listens any more: the review is over.
            let _ = request.send(next);
        }
    });
    Ok(requests)
}

/// Tells why there can be no review, to people and to the keeper; the exit code.
fn no_review(error: &SetupError, redactor: &Redactor) -> u8 {
    let text = error.to_string();
    let (kind, code) = match error {
        SetupError::Configuration(_) | SetupError::Records(RecordError::Misconfigured(_)) => {
            (None, EXIT_CONFIG)
        }
        SetupError::Images(_) => (Some("images_unavailable"), EXIT_TRY_LATER),
        SetupError::Records(RecordError::Unavailable(_)) => {
            (Some("records_unavailable"), EXIT_TRY_LATER)
        }
        SetupError::Records(RecordError::Refused(_) | RecordError::Rejected(_)) => {
            (Some("records_unavailable"), EXIT_FAILED)
        }
        SetupError::State(_) => (None, EXIT_FAILED),
    };
    let text = redactor.redact(&text);
    if let Some(kind) = kind {
        let problem = Problem {
            kind: kind.to_owned(),
            count: 1,
            calls: Some(1),
            detail: text.clone().into_owned(),
            ..Problem::default()
        };
        // The keeper reads problem lines from standard output.
        return output::print(&format!("{}\n", Line::Problem(problem)), complain(&text, code));
    }
    complain(&text, code)
}

/// One line for a person; passes the exit code on.
fn complain(text: &str, code: u8) -> u8 {
    output::complain(&format!("lookout review: {text}"));
    code
}

/// Prints one answer of a command that prints nothing else.
fn print_line(text: &str, code: u8) -> u8 {
    output::print(&format!("{}\n", text::printable(text)), code)
}
