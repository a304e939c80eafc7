//! The command line: one file a command; this one holds the grammar and the exit codes.
//!
//! It prints for people (or `--json`), and leaves all work to the library.
//! Invariant: exit codes are 0 done, 1 the work failed, 2 wrong usage, 75 try later,
//! 78 configuration.

pub mod alert;

pub mod audit;
pub mod check;
mod demo;
pub mod doctor;
pub mod help;
pub mod history;
pub mod incident;
pub mod incidents;
pub mod init;
mod keeper;
pub mod load_config;
mod log;
mod names;
pub mod next;
mod open_state;
pub mod output;
pub mod pause;
mod request;
pub mod rerun;
pub mod review;
mod run;
pub mod run_stop;
pub mod runs;
mod serve;
pub mod simulate;
pub mod stand_in;
pub mod status;
pub mod time_arg;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{FromArgMatches as _, Parser, Subcommand};

/// Done.
pub const EXIT_OK: u8 = 0;
/// The work failed.
pub const EXIT_FAILED: u8 = 1;
/// Wrong usage (as clap has it).
pub const EXIT_USAGE: u8 = 2;
/// The provider was unavailable, try later (`EX_TEMPFAIL`, sysexits.h).
pub const EXIT_TRY_LATER: u8 = 75;
/// Configuration (`EX_CONFIG`, sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

/// Review images on a schedule, and alert people when a run goes wrong.
#[derive(Debug, Parser)]
#[command(name = "lookout", version, propagate_version = true)]
pub struct Cli {
    /// Configuration file; schedules/, alerts/ and .env are read from its folder
    #[arg(short, long, global = true, env = "LOOKOUT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Test channels; list and resend undelivered messages
    #[command(subcommand)]
    Alert(alert::AlertCommand),
    /// Check that every run has its verdict and every bad one its message
    Audit(audit::Args),
    /// Validate the configuration without contacting anything
    Check {
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Show the whole program at work on this machine in three minutes
    Demo(demo::DemoArguments),
    /// Test every connection and job; change nothing, send no message
    Doctor {
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
        /// Send Gemini one small real request: shows whether there is quota and credit, and whether the
        /// model answers
        #[arg(long)]
        call: bool,
    },
    /// Show recent runs
    History(history::Args),
    /// Acknowledge an incident
    #[command(subcommand)]
    Incident(incident::IncidentCommand),
    /// List open incidents
    Incidents(incidents::Args),
    /// Write a first configuration into this folder; keep existing files
    Init,
    /// Hold one run; started by the daemon, not by hand
    #[command(hide = true)]
    Keeper {
        /// The run's directory, with its order.
        directory: PathBuf,
    },
    /// Show upcoming runs
    Next(next::Args),
    /// Review images again, or return stuck ones to the queue
    Rerun(rerun::Args),
    /// Review images now, in the foreground
    Review(review::Args),
    /// Pause a schedule; its runs are skipped, with the reason
    Pause(pause::PauseArgs),
    /// End a pause
    Resume(pause::ResumeArgs),
    /// Start a run now and wait for its verdict, or stop one
    Run(RunCommand),
    /// Show one run in detail
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Run the daemon: start runs, judge them, alert people
    Serve,
    /// Simulate the configuration: runs, clock changes, overlaps
    Simulate(simulate::Args),
    /// Show the current status
    Status(output::JsonFlag),
    /// Run a fake Gemini on this machine, for trials and tests
    #[command(subcommand)]
    StandIn(stand_in::StandInCommand),
}

/// `lookout run SCHEDULE` and `lookout run stop ID`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct RunCommand {
    /// Something other than a run now.
    #[command(subcommand)]
    pub other: Option<OtherThanRun>,
    /// A run now.
    #[command(flatten)]
    pub now: Option<run::Args>,
}

/// What else can be done with a run.
#[derive(Debug, Subcommand)]
pub enum OtherThanRun {
    /// Stop a run: SIGTERM to all its processes, SIGKILL to those that remain
    Stop(run_stop::Args),
}

/// Parses the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    crate::http::install_crypto_provider();
    let zones =
        format!("{}\ntime zone data {}", env!("CARGO_PKG_VERSION"), load_config::time_zones());
    let matches = help::command().long_version(zones).try_get_matches();
    match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => dispatch(cli),
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE);
            // Help and version are output like any other; a wrong usage goes to standard error.
            let failure = error.print().err().filter(|it| it.kind() != ErrorKind::BrokenPipe);
            ExitCode::from(match (failure, code) {
                (Some(failure), EXIT_OK) => {
                    output::fail(&format!("lookout: can't write to standard output: {failure}"))
                }
                (Some(_) | None, code) => code,
            })
        }
    }
}

fn dispatch(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Alert(command) => ExitCode::from(alert::run(cli.config, &command)),
        Command::Check { json } => {
            let form = if json { check::Form::Json } else { check::Form::Text };
            ExitCode::from(check::run(cli.config, form))
        }
        Command::Demo(arguments) => finish(on_a_runtime(demo::run(arguments))),
        Command::Doctor { json, call } => {
            let form = if json { check::Form::Json } else { check::Form::Text };
            let calls = if call { doctor::Calls::One } else { doctor::Calls::None };
            finish(on_a_runtime(async { Ok(doctor::run(cli.config, form, calls).await) }))
        }
        Command::Audit(args) => ExitCode::from(audit::run(cli.config, &args)),
        Command::History(args) => ExitCode::from(history::run(cli.config, &args)),
        Command::Incident(command) => ExitCode::from(incident::run(cli.config, &command)),
        Command::Incidents(args) => ExitCode::from(incidents::run(cli.config, &args)),
        Command::Init => {
            let written = std::env::current_dir().map_err(anyhow::Error::from);
            finish(written.and_then(|folder| init::run(&folder)))
        }
        Command::Keeper { directory } => keeper::run(cli.config, directory),
        Command::Next(args) => ExitCode::from(next::run(cli.config, &args)),
        Command::Rerun(args) => ExitCode::from(rerun::run(cli.config, &args)),
        Command::Review(args) => ExitCode::from(review::run(cli.config, &args)),
        Command::Pause(args) => ExitCode::from(pause::pause(cli.config, &args)),
        Command::Resume(args) => ExitCode::from(pause::resume(cli.config, &args)),
        Command::Run(RunCommand { other: Some(OtherThanRun::Stop(args)), .. }) => {
            ExitCode::from(run_stop::run(cli.config, &args))
        }
        Command::Run(RunCommand { now: Some(args), .. }) => {
            ExitCode::from(run::run(cli.config, &args))
        }
        Command::Run(RunCommand { other: None, now: None }) => ExitCode::from(EXIT_USAGE),
        Command::Runs(command) => ExitCode::from(runs::run(cli.config, &command)),
        Command::Status(json) => ExitCode::from(status::run(cli.config, json)),
        Command::Serve => ExitCode::from(serve::run(cli.config)),
        Command::Simulate(args) => ExitCode::from(simulate::run(cli.config, &args)),
        Command::StandIn(command) => finish(on_a_runtime(stand_in::run(command))),
    }
}

/// Runs a command on a runtime of its own.
fn on_a_runtime<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}

/// A command's exit code; an error is told in one line, causes included.
fn finish(outcome: anyhow::Result<u8>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(output::fail(&format!("lookout: {error:#}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        help::command().debug_assert();
    }
}
