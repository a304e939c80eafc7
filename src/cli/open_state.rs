//! What the commands that show or request something share: configuration, open state, an end with
//! the right exit code.

use std::io;
use std::path::PathBuf;

use super::load_config::{self, LoadError};
use super::{EXIT_OK, output};
use crate::app::open_state::{self, Access, OpenState, Opened};
use crate::config::Config;

/// Shows something: reads the configuration, opens the state and runs the command on a runtime of its
/// own. Creates nothing.
pub(super) fn show<F>(file: Option<PathBuf>, command: F) -> u8
where
    F: AsyncFnOnce(Config, OpenState) -> anyhow::Result<u8>,
{
    with(file, Access::Look, command)
}

/// The same for a command that asks the daemon for something.
pub(super) fn request<F>(file: Option<PathBuf>, command: F) -> u8
where
    F: AsyncFnOnce(Config, OpenState) -> anyhow::Result<u8>,
{
    with(file, Access::Request, command)
}

fn with<F>(file: Option<PathBuf>, access: Access, command: F) -> u8
where
    F: AsyncFnOnce(Config, OpenState) -> anyhow::Result<u8>,
{
    let opened = load_config::files(file)
        .map_err(LoadError::from)
        .and_then(|files| Ok(open_state::open(&files, access)?));
    let Opened { config, problems, state } = match opened {
        Ok(opened) => opened,
        Err(error) => return load_config::refused(&error),
    };
    load_config::warn_of(&problems);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(command(config, state)));
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
