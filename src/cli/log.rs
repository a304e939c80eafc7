//! The log: one line an event on standard error, for the journal.
//!
//! `LOOKOUT_LOG` takes the usual filter (`info`, `lookout=debug`); `LOOKOUT_LOG_FORMAT=json` makes one
//! object a line. Invariant: what is logged has been through the redactor where it came from.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::Environment;

/// Starts it for a daemon; a second call does nothing.
pub(super) fn start(environment: &Environment) {
    // What the scheduler's crate says of its own insides means nothing to whoever reads the journal.
    begin(environment, "info,tokio_cron_scheduler=warn");
}

/// Starts it for a command that speaks for itself: warnings and errors only.
pub(super) fn start_quietly(environment: &Environment) {
    begin(environment, "warn");
}

fn begin(environment: &Environment, otherwise: &str) {
    let filter = environment.0.get("LOOKOUT_LOG").map_or(otherwise, String::as_str);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // It would report with `eprintln!`, which panics where standard error is closed.
        .log_internal_errors(false);
    let is_json = environment.0.get("LOOKOUT_LOG_FORMAT").is_some_and(|format| format == "json");
    // An error means that there is a log already, which is what we want.
    let _ = if is_json { builder.json().try_init() } else { builder.try_init() };
}
