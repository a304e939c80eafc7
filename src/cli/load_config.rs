//! What nearly every command begins with: the configuration, read once, its problems told.
//!
//! Three ways, by what a command is for: strict (`check`), what a review needs ([`for_review`]), and
//! what is right ([`usable`]) for all that run or show something.
//! Invariant: the process's environment and working directory are read here and nowhere else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::output;
use crate::app;
use crate::app::open_state::OpenError;
use crate::app::reload::Files;
use crate::config::problem::{Problem, Problems};
use crate::config::{self, Config, Location, Usable};
use crate::timezone::{SYSTEM_FOLDER, TimeZones};

/// Where the configuration is looked for.
///
/// # Errors
/// When the working directory is gone.
pub fn location(config: Option<PathBuf>) -> std::io::Result<Location> {
    Ok(Location::find(config, std::env::current_dir()?, time_zones()))
}

/// The newer of the machine's time zone data and our own; `TZDIR` names their folder, as for the C
/// library.
#[must_use]
pub fn time_zones() -> TimeZones {
    let folder = std::env::var_os("TZDIR").filter(|folder| !folder.is_empty());
    TimeZones::of_folder(folder.map_or_else(|| SYSTEM_FOLDER.into(), PathBuf::from))
}

/// The same with the variables of the process.
///
/// # Errors
/// When the working directory is gone.
pub fn files(config: Option<PathBuf>) -> std::io::Result<Files> {
    Ok(Files { location: location(config)?, process: process_environment() })
}

/// The variables of the process; bytes that are no text are replaced.
#[must_use]
pub fn process_environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .collect()
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Exit code 78.
    #[error("{0}")]
    Configuration(#[from] Problems),
    /// Exit code 78.
    #[error("{0}")]
    NotConfigured(String),
    /// Exit code 1.
    #[error("the working directory can't be found: {0}")]
    WorkingDirectory(#[from] std::io::Error),
    /// Exit code 1.
    #[error("lookout: {0:#}")]
    State(anyhow::Error),
}

impl From<OpenError> for LoadError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotConfigured(text) => Self::NotConfigured(text),
            OpenError::Configuration(problems) => Self::Configuration(problems),
            OpenError::State(error) => Self::State(error),
        }
    }
}

/// Reads the configuration as it is now, strictly.
///
/// # Errors
/// All its problems.
pub fn strict(config: Option<PathBuf>) -> Result<Config, LoadError> {
    Ok(config::load(&location(config)?, &process_environment())?)
}

/// Reads what a review needs; nothing that is wrong elsewhere matters.
///
/// # Errors
/// The problems that could change what is reviewed, or at what cost.
pub fn for_review(config: Option<PathBuf>) -> Result<Config, LoadError> {
    Ok(config::for_review(&location(config)?, &process_environment())?)
}

/// Reads what the daemon goes by: what is right, and the last good version of what is not.
///
/// # Errors
/// When nothing is configured here, or `lookout.toml` leaves open where the state is.
pub fn usable(config: Option<PathBuf>) -> Result<Usable, LoadError> {
    let files = files(config)?;
    match files.not_configured() {
        Some(text) => Err(LoadError::NotConfigured(text)),
        None => Ok(app::usable_configuration(&files)?),
    }
}

/// As [`usable`], and says on standard error what is wrong.
///
/// # Errors
/// As [`usable`].
pub fn usable_aloud(config: Option<PathBuf>) -> Result<Config, LoadError> {
    let usable = usable(config)?;
    warn_of(&usable.problems);
    Ok(usable.config)
}

/// Says what is wrong and not used as it is.
pub fn warn_of(problems: &[Problem]) {
    for problem in problems {
        output::complain(&format!("Warning: {problem}"));
    }
    if !problems.is_empty() {
        output::complain("Where there is one, the last good version of these files is used.\n");
    }
}

/// Tells why there is no configuration; the exit code that says so.
#[must_use]
pub fn refused(error: &LoadError) -> u8 {
    output::complain(&error.to_string());
    match error {
        LoadError::Configuration(_) => {
            output::complain("Nothing was started. `lookout check` shows every problem.");
            super::EXIT_CONFIG
        }
        LoadError::NotConfigured(_) => super::EXIT_CONFIG,
        LoadError::WorkingDirectory(_) | LoadError::State(_) => super::EXIT_FAILED,
    }
}
