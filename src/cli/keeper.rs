//! `lookout keeper DIR`: holds one run. The daemon starts it; people need not know of it.
//!
//! Only starts the runtime; [`crate::keep`] does the work.
//! Invariant: exit code 0 says that the evidence is complete, whatever the job did.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::load_config;
use crate::clock::SystemClock;
use crate::rundir::directory::RunDirectory;

/// One thread reads each stream, the main thread keeps the box.
const THREADS: usize = 2;

/// Runs the command.
pub(super) fn run(config: Option<PathBuf>, directory: PathBuf) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // It would report with `eprintln!`, which panics where standard error is closed.
        .log_internal_errors(false)
        .init();
    // `.env` is read anew for every run; it fills `${NAME}` and says what must be hidden.
    let process = load_config::process_environment();
    let variables = match load_config::location(config) {
        Ok(location) => crate::config::variables(&location, &process).0,
        Err(_) => process,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let kept = match runtime {
        Ok(runtime) => {
            let directory = RunDirectory::at(directory);
            let kept =
                runtime.block_on(crate::keep::run(&directory, Arc::new(SystemClock), &variables));
            // A disk that hangs must not hold a keeper whose evidence is complete.
            runtime.shutdown_background();
            kept.map_err(anyhow::Error::from)
        }
        Err(error) => Err(anyhow::Error::from(error).context("the runtime can't be started")),
    };
    match kept {
        Ok(()) => ExitCode::from(super::EXIT_OK),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(super::EXIT_FAILED)
        }
    }
}
