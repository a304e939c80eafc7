//! From files and environment to checked types: `lookout.toml`, `schedules/*.toml`,
//! `alerts/*.toml`, `.env`, `LOOKOUT__SECTION__KEY`, and the shortest way with no TOML at all.
//!
//! Strict: an unknown key is an error, and all problems of all files are reported at once.
//! Nobody below `app` sees [`Config`]; each part gets its own settings.
//! Invariant: what is in a [`Config`] has been checked; nothing later finds it impossible.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::alert::channel::ChannelSettings;
use crate::review::settings::ReviewSettings;
use crate::schedule::Schedule;

/// The environment as a map: the process's own, over `.env`'s. Holds secrets, so no `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<String, String>);

/// Everything, checked.
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
    /// What `lookout review` needs.
    pub review: ReviewSettings,
    /// For `${NAME}` and for the redactor.
    pub environment: Environment,
}

/// `[service]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Part of every incident's key and message.
    pub instance: String,
    /// Where pages and API listen.
    pub bind: SocketAddr,
    /// Absolute.
    pub state_dir: PathBuf,
    /// Runs at once over all schedules.
    pub max_running: u32,
}
