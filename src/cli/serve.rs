//! `lookout serve`: the daemon in the foreground, until SIGTERM or Ctrl-C.
//!
//! Invariant: it says at start what it will do and who will be told, loudly if nobody will.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::load_config::LoadError;
use super::{EXIT_FAILED, EXIT_OK, load_config, log};
use crate::app::reload::Files;
use crate::app::{self, App};
use crate::config::Config;

/// Runs the daemon; the exit code. What is wrong in a file of `schedules/` or `alerts/` is told and
/// stops nothing; 78 only if `lookout.toml` leaves open where its state is and who may ask it.
#[must_use]
pub(super) fn run(config: Option<PathBuf>) -> u8 {
    let read = load_config::files(config).map_err(LoadError::from).and_then(|files| {
        let usable = app::usable_configuration(&files)?;
        Ok((files, usable))
    });
    let (files, usable) = match read {
        Ok(read) => read,
        Err(error) => return load_config::refused(&error),
    };
    log::start(&usable.config.environment);
    app::limits::raise();
    match serve(files) {
        Ok(()) => EXIT_OK,
        Err(error) => {
            tracing::error!("Lookout stopped: {error:#}");
            EXIT_FAILED
        }
    }
}

fn serve(files: Files) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime can't be made")?;
    runtime.block_on(async {
        let app = App::start(files)?;
        announce(app.config());
        let stop = CancellationToken::new();
        tokio::spawn(read_again_when_told(app.read_again()));
        tokio::spawn(stop_when_told(stop.clone()));
        app.run(stop).await
    })
}

/// SIGTERM and SIGINT end the daemon; runs that go on are kept by their keepers.
async fn stop_when_told(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; runs that go on are kept by their keepers");
    stop.cancel();
}

/// SIGHUP has the files read again at once.
async fn read_again_when_told(read_again: Arc<Notify>) {
    let Ok(mut hang_up) = signal(SignalKind::hangup()) else { return };
    while hang_up.recv().await.is_some() {
        tracing::info!("reading the configuration again");
        read_again.notify_one();
    }
}

fn announce(config: &Config) {
    let names =
        |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let schedules = names(config.schedules.iter().map(|s| s.name.as_str()).collect());
    let channels = names(config.channels.iter().map(|c| c.name.as_str()).collect());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        instance = config.service.instance,
        schedules,
        channels,
        page = format!("http://{}", config.service.bind),
        "Lookout is starting"
    );
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
}
