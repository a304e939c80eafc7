//! What the commands that show or request something share: configuration, open state, an end with the right exit code.

use std::io;
use std::path::PathBuf;

use super::load_config;
use super::{EXIT_OK, output};
use crate::app::open_state::{self, OpenState};
use crate::config::Config;

/// Reads the configuration, opens the ports and runs the command on a runtime of its own.
pub(super) fn with<F>(file: Option<PathBuf>, command: F) -> u8
where
    F: AsyncFnOnce(Config, OpenState) -> anyhow::Result<u8>,
{
    let config = match load_config::configuration_to_look(file) {
        Ok(config) => config,
        Err(error) => return load_config::refused(&error),
    };
    let outcome = open_state::open(&config).and_then(|state| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(command(config, state))
    });
    match outcome {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => EXIT_OK,
        Err(error) => output::fail(&format!("lookout: {error:#}")),
    }
}

/// A reader that went away (`| head`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}
