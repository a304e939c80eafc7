//! `lookout run SCHEDULE`: one run now, judged and told like a scheduled one.
//!
//! With a daemon, the run is asked of it and followed; without one, this process takes the lock and
//! is the daemon for this run, and for those that go on, until the verdict; what the schedules owe is
//! left to `lookout serve`. Ctrl-C ends the following; the run goes on with its keeper.
//! Invariant: the exit code is the verdict's: 0 completed, 75 an outage was the cause, else 1.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::{EXIT_FAILED, EXIT_OK, EXIT_TRY_LATER, EXIT_USAGE, load_config, log};
use crate::app::App;
use crate::app::lock::LockError;
use crate::app::open_state::{self, OpenState};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::run::Scope;
use crate::run::ledger::{Answer, Request};
use crate::schedule::ScheduleName;
use crate::watch::history::{SlotFilter, SlotRow};
use crate::watch::{IncidentKind, Verdict};

/// How often rows are looked at: a person waits, and a read takes microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The daemon answers within a second; after so long it is not there or not well.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of the schedule
    pub schedule: String,
    /// One JSON object at the end instead of text
    #[arg(long)]
    pub json: bool,
}

/// Runs it; the exit code.
#[must_use]
pub(super) fn run(config: Option<PathBuf>, args: &Args) -> u8 {
    let config = match load_config::configuration(config) {
        Ok(config) => config,
        Err(error) => return load_config::refused(&error),
    };
    if !config.schedules.iter().any(|schedule| schedule.name.as_str() == args.schedule) {
        return unknown(&config, &args.schedule);
    }
    log::start_quietly(&config.environment);
    let outcome = super::on_a_runtime(run_now(config, args));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            tell_error(&error);
            EXIT_FAILED
        }
    }
}

async fn run_now(config: Config, args: &Args) -> anyhow::Result<u8> {
    let name = ScheduleName::new(args.schedule.clone());
    let row = match App::build(config.clone()) {
        Ok(app) => {
            let stop = CancellationToken::new();
            let state = app.open_state();
            let running = tokio::spawn(app.within(Scope::Asked).run(stop.clone()));
            let row = followed(&state, name, args).await;
            stop.cancel();
            running.await.context("the daemon in this process broke")??;
            row?
        }
        Err(error) if error.downcast_ref::<LockError>().is_some_and(LockError::is_held) => {
            followed(&open_state::open(&config)?, name, args).await?
        }
        Err(error) => return Err(error),
    };
    tell_end(&row, args)?;
    Ok(exit_code(&row))
}

/// Asks for the run and waits for its verdict.
async fn followed(state: &OpenState, name: ScheduleName, args: &Args) -> anyhow::Result<SlotRow> {
    let request = Request::Run { schedule: name.clone() };
    let id = state.ledger.ask(&request, SystemClock.now()).await.context("can't ask for a run")?;
    let due_at = tokio::time::timeout(ANSWER_LIMIT, answer(state, id))
        .await
        .context("the daemon does not answer; see `lookout status`")??;
    if !args.json {
        tell(&format!("run of {name} asked for; waiting for its end (Ctrl-C leaves it running)"));
    }
    let filter = SlotFilter {
        schedule: Some(name.as_str().to_owned()),
        from: Some(due_at),
        until: Some(due_at + TimeDelta::seconds(1)),
        ..SlotFilter::default()
    };
    loop {
        let rows = state.history.slots(filter.clone()).await?;
        if let Some(row) = rows.into_iter().find(|row| row.verdict.is_some()) {
            return Ok(row);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn answer(state: &OpenState, id: i64) -> anyhow::Result<DateTime<Utc>> {
    loop {
        match state.ledger.answer_to(id).await? {
            Some(Answer::Planned { due_at }) => return Ok(due_at),
            Some(Answer::Refused { reason }) => bail!("{reason}"),
            Some(Answer::Done) => bail!("the daemon did not plan a run; is it another version?"),
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

fn exit_code(row: &SlotRow) -> u8 {
    let is_outage = matches!(
        row.summary.cause,
        Some(
            IncidentKind::ProviderUnavailable
                | IncidentKind::ImagesUnavailable
                | IncidentKind::RecordsUnavailable
        )
    );
    match row.verdict {
        Some(Verdict::Completed) => EXIT_OK,
        _ if is_outage => EXIT_TRY_LATER,
        _ => EXIT_FAILED,
    }
}

fn tell_end(row: &SlotRow, args: &Args) -> anyhow::Result<()> {
    if args.json {
        tell(&serde_json::to_string_pretty(row)?);
        return Ok(());
    }
    let verdict = row.verdict.map_or("not judged", Verdict::as_str).replace('_', " ");
    let reason = row.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    tell(&format!("{verdict}{reason}"));
    for finding in &row.findings {
        tell(&format!("  also: {finding}"));
    }
    if let Some(run) = &row.run {
        tell(&format!("  more: lookout runs show {run} --log"));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command's own words")]
fn tell(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the command's own words")]
fn tell_error(error: &anyhow::Error) {
    eprintln!("lookout run: {error:#}");
}

#[expect(clippy::print_stderr, reason = "the command's own words")]
fn unknown(config: &Config, name: &str) -> u8 {
    let known: Vec<&str> = config.schedules.iter().map(|s| s.name.as_str()).collect();
    let known = if known.is_empty() { "none is switched on".to_owned() } else { known.join(", ") };
    eprintln!("lookout run: there is no schedule called {name}; there are: {known}");
    EXIT_USAGE
}
