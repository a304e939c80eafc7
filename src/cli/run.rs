//! `lookout run SCHEDULE`: one run now, judged and told like a scheduled one.
//!
//! With a daemon, the run is asked of it and followed; without one, this process takes the lock and
//! is the daemon for this run, and for those that go on, until the verdict; what the schedules owe is
//! left to `lookout serve`. Ctrl-C ends the following; the run goes on with its keeper.
//! Invariants: the exit code is the verdict's (0 completed, 75 an outage was the cause, else 1), also
//! where nobody reads the output; it ends within seconds of the daemon that it waits for.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::output::{self, Output};
use super::{EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_TRY_LATER, load_config, log, names};
use crate::app::App;
use crate::app::lock::LockError;
use crate::app::open_state::{Access, OpenState};
use crate::app::run_now::{Judge, Progress, RunNow};
use crate::config::{Config, Usable};
use crate::run::Scope;
use crate::schedule::ScheduleName;
use crate::watch::history::SlotRow;
use crate::watch::{IncidentKind, Verdict};

/// What is asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Schedule
    pub schedule: String,
    /// Print JSON instead of text, at the end
    #[arg(long)]
    pub json: bool,
}

/// Runs it; the exit code.
#[must_use]
pub(super) fn run(config: Option<PathBuf>, args: &Args) -> u8 {
    let Usable { config, problems, .. } = match load_config::usable(config) {
        Ok(usable) => usable,
        Err(error) => return load_config::refused(&error),
    };
    load_config::warn_of(&problems);
    if !config.schedules.iter().any(|schedule| schedule.name.as_str() == args.schedule) {
        let file = format!("schedules/{}.toml", args.schedule);
        if problems.iter().any(|problem| problem.place.file == file) {
            output::complain(&format!("lookout run: {file} can't be used; correct it first"));
            return EXIT_CONFIG;
        }
        let known = config.schedules.iter().map(|schedule| schedule.name.as_str());
        return names::unknown("schedule", &args.schedule, known);
    }
    log::start_quietly(&config.environment);
    let outcome = super::on_a_runtime(run_now(config, args));
    match outcome {
        Ok(code) => code,
        Err(error) => output::fail(&format!("lookout run: {error:#}")),
    }
}

async fn run_now(config: Config, args: &Args) -> anyhow::Result<u8> {
    let name = ScheduleName::new(args.schedule.clone());
    let mut out = Output::stdout();
    let row = match App::build(config.clone()) {
        Ok(app) => {
            if !args.json {
                writeln!(
                    out,
                    "No daemon is running; this command starts and judges the run itself."
                )?;
            }
            let stop = CancellationToken::new();
            let state = app.open_state();
            let mut running = tokio::spawn(app.within(Scope::Asked).run(stop.clone()));
            let run = RunNow::new(&state, name, Judge::Here);
            let row = tokio::select! {
                row = followed(&run, args, &mut out) => row,
                ended = &mut running => return Err(ended_early(ended)),
            };
            stop.cancel();
            running.await.context("the daemon in this process broke")??;
            row?
        }
        Err(error) if error.downcast_ref::<LockError>().is_some_and(LockError::is_held) => {
            let state = OpenState::open(&config, Access::Request)?;
            let judge = Judge::Daemon(config.service.state_dir.clone());
            followed(&RunNow::new(&state, name, judge), args, &mut out).await?
        }
        Err(error) => return Err(error),
    };
    print_end(&row, args, &mut out)?;
    Ok(out.end(exit_code(&row)))
}

/// Why the daemon in this process ended before the run did.
fn ended_early(ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("the daemon in this process ended before the run did"),
        Ok(Err(error)) => error,
        Err(error) => anyhow::Error::new(error).context("the daemon in this process broke"),
    }
}

/// Asks for the run and waits for its verdict and the end of its processes.
async fn followed(run: &RunNow<'_>, args: &Args, out: &mut Output) -> anyhow::Result<SlotRow> {
    let due_at = run.ask().await?;
    if !args.json {
        writeln!(
            out,
            "Run of {} requested; waiting for its end. Ctrl-C stops waiting, not the run.",
            args.schedule
        )?;
    }
    let shown = (io::stderr().is_terminal() && !args.json).then(progress_line);
    let mut progress = Progress::default();
    let row = run
        .verdict(due_at, |row| {
            if let (Some(line), Some(text)) = (&shown, progress.read(run.state(), row)) {
                line.set_message(text.to_owned());
            }
        })
        .await;
    if let Some(line) = shown {
        line.finish_and_clear();
    }
    let row = row?;
    if !run.processes_ended(&row).await {
        output::complain("lookout run: some processes of this run have not ended yet");
    }
    Ok(row)
}

/// A line on standard error that shows how far the run is, for a person who waits.
fn progress_line() -> ProgressBar {
    let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
    // The template is ours; were it wrong, the default one would do.
    let style = ProgressStyle::with_template("{elapsed_precise} {msg}");
    line.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    line.set_message("waiting for the job");
    line
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

fn print_end(row: &SlotRow, args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    if args.json {
        return Ok(output::print_json(out, row)?);
    }
    let verdict = row.verdict.map_or("not judged", Verdict::as_str).replace('_', " ");
    let reason = row.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    writeln!(out, "{verdict}{reason}")?;
    for finding in &row.findings {
        writeln!(out, "  also: {finding}")?;
    }
    if let Some(run) = &row.run {
        writeln!(out, "  more: lookout runs show {run} --log")?;
    }
    Ok(())
}
