//! What nearly every command begins with: the configuration, read once, its problems told.
//!
//! Invariant: the process's environment and working directory are read here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::output;
use crate::config::problem::Problems;
use crate::config::{self, Config, Location};
use crate::timezone::{SYSTEM_FOLDER, TimeZones};

/// Where the configuration is looked for.
///
/// # Errors
/// When the working directory is gone.
pub fn location(config: Option<PathBuf>) -> std::io::Result<Location> {
    Ok(Location { config, cwd: std::env::current_dir()?, zones: time_zones() })
}

/// The newer of the machine's time zone data and our own; `TZDIR` names their folder, as for the C
/// library.
#[must_use]
pub fn time_zones() -> TimeZones {
    let folder = std::env::var_os("TZDIR").filter(|folder| !folder.is_empty());
    TimeZones::of_folder(folder.map_or_else(|| SYSTEM_FOLDER.into(), PathBuf::from))
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
    /// Exit code 1.
    #[error("the working directory can't be found: {0}")]
    WorkingDirectory(#[from] std::io::Error),
}

/// Reads the configuration as it is now.
///
/// # Errors
/// All its problems.
pub fn configuration(config: Option<PathBuf>) -> Result<Config, LoadError> {
    Ok(config::load(&location(config)?, &process_environment())?)
}

/// The configuration as it is now for a command that only looks; says what of it is broken.
///
/// # Errors
/// All its problems, if they hide where the state is.
pub fn configuration_to_look(config: Option<PathBuf>) -> Result<Config, LoadError> {
    let (config, problems) = config::look(&location(config)?, &process_environment())?;
    let files: BTreeSet<&str> =
        problems.0.iter().map(|problem| problem.place.file.as_str()).collect();
    for file in files {
        output::complain(&format!(
            "lookout: {file} is broken and left out here; `lookout check` says where"
        ));
    }
    Ok(config)
}

/// Tells why there is no configuration; the exit code that says so.
#[must_use]
pub fn refused(error: &LoadError) -> u8 {
    output::complain(&error.to_string());
    match error {
        LoadError::Configuration(_) => {
            output::complain("Nothing was started. `lookout check` says whether all is right.");
            super::EXIT_CONFIG
        }
        LoadError::WorkingDirectory(_) => super::EXIT_FAILED,
    }
}
