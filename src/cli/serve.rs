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
use crate::app::App;
use crate::app::reload::Files;
use crate::config::{self, Config};

/// Runs the daemon; the exit code.
#[must_use]
pub(super) fn run(config: Option<PathBuf>) -> u8 {
    let read = load_config::location(config).map_err(LoadError::from).and_then(|location| {
        let files = Files { location, process: load_config::process_environment() };
        let config = config::load(&files.location, &files.process)?;
        Ok((config, files))
    });
    let (config, files) = match read {
        Ok(read) => read,
        Err(error) => return load_config::refused(&error),
    };
    log::start(&config.environment);
    match serve(config, files) {
        Ok(()) => EXIT_OK,
        Err(error) => {
            tracing::error!("Lookout stopped: {error:#}");
            EXIT_FAILED
        }
    }
}

fn serve(config: Config, files: Files) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime can't be made")?;
    runtime.block_on(async {
        announce(&config);
        let app = App::build(config)?.following(files);
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
