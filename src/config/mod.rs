//! From files and environment to checked types: `lookout.toml`, `schedules/*.toml`,
//! `alerts/*.toml`, `.env`, `LOOKOUT__SECTION__KEY`, and the shortest way with no TOML at all.
//!
//! An unknown key is an error, and all problems of all files are reported at once. `check` is strict;
//! whoever runs or shows something goes on with what is right ([`usable`]).
//! Nobody below `app` sees [`Config`]; each part gets its own settings.
//! Invariant: what is in a [`Config`] has been checked; nothing later finds it impossible.

mod channel;
mod combination;
mod document;
mod dotenv;
mod environment;
mod files;
mod job;
mod load;
mod main_file;
pub mod problem;
mod records;
pub mod reload;
mod reviewer;
mod schedule;
mod secrets;
mod section;
mod service;
mod units;
mod version;
mod warning;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use load::{Usable, for_review, load, usable, variables};
pub use version::LastGood;

use crate::alert::channel::ChannelSettings;
use crate::review::settings::ReviewSettings;
use crate::run::retention::RetentionLimits;
use crate::schedule::Schedule;
use crate::secret::Secret;
use crate::timezone::TimeZones;

/// Where to look for the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// `--config` or `LOOKOUT_CONFIG`; must exist if given.
    pub config: Option<PathBuf>,
    /// Working directory, absolute: where `lookout.toml` is looked for otherwise.
    pub cwd: PathBuf,
    /// Where time zones come from.
    pub zones: TimeZones,
}

/// The environment as a map: the process's own, over `.env`'s. Holds secrets, so `Debug` shows
/// only names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Everything, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Folder that relative paths count from.
    pub root: PathBuf,
    /// `lookout.toml`, if there is one.
    pub file: Option<PathBuf>,
    /// `[service]`.
    pub service: ServiceSettings,
    /// Enabled schedules, by name.
    pub schedules: Vec<Schedule>,
    /// Enabled channels, by name.
    pub channels: Vec<ChannelSettings>,
    /// Files of schedules and alerts that say `enabled = false`: `schedules/x.toml`.
    pub switched_off: Vec<String>,
    /// What `lookout review` needs.
    pub review: ReviewSettings,
    /// For `${NAME}` and for the redactor.
    pub environment: Environment,
    /// Where the schedules' zones came from.
    pub zones: TimeZones,
    /// Names of variables that no job has by itself: they stand in `.env` alone.
    pub only_in_dotenv: BTreeSet<String>,
}

/// `[service]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Part of every incident's key and message.
    pub instance: String,
    /// Where pages and API listen.
    pub bind: SocketAddr,
    /// Names that the pages may be asked by where no token is needed; IP addresses and `localhost`
    /// always are right.
    pub hosts: Vec<String>,
    /// What callers must show; always there if `bind` can be reached from other machines.
    pub token: Option<Secret>,
    /// Absolute.
    pub state_dir: PathBuf,
    /// Runs at once over all schedules.
    pub max_running: u32,
    /// How much of what runs have written stays.
    pub kept: RetentionLimits,
}
