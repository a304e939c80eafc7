//! Reading again while the daemon runs: what is right takes effect, what is broken leaves the version
//! before it in place.
//!
//! Schedules, channels and variables are exchanged. `[service]` needs a restart; what a review goes by
//! is read by each review anyway.
//! Invariant: a broken file changes nothing but what people are told.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::load::{Read, Usable, good, read};
use super::schedule::BUILT_IN;
use super::version::LastGood;
use super::{Config, Environment, Location, channel};
use crate::alert::channel::ChannelSettings;
use crate::schedule::Schedule;
use crate::timezone::TimeZones;

/// Reads all files again and takes what is right; of the rest, the last good version, or else what is
/// in effect.
#[must_use]
pub fn reload(
    before: &Config,
    location: &Location,
    process: &BTreeMap<String, String>,
    last_good: &LastGood,
) -> Usable {
    let read = match read(location, process, last_good) {
        Ok(read) => read,
        Err(problems) => {
            let (config, good) = (before.clone(), last_good.clone());
            return Usable { config, problems: problems.0, good };
        }
    };
    let config = Config {
        schedules: schedules(before, &read),
        channels: channels(before, &read, last_good),
        switched_off: read.schedules.off.iter().chain(&read.channels.off_files).cloned().collect(),
        environment: if read.is_env_whole {
            Environment(read.variables.clone().into_map())
        } else {
            before.environment.clone()
        },
        only_in_dotenv: if read.is_env_whole {
            read.variables.only_in_dotenv()
        } else {
            before.only_in_dotenv.clone()
        },
        ..before.clone()
    };
    let good = good(&read.channels.good, &read.schedules.good);
    Usable { config, problems: read.problems, good }
}

fn schedules(before: &Config, read: &Read) -> Vec<Schedule> {
    if !read.schedules.is_folder_readable {
        let schedules = before.schedules.iter();
        return schedules.map(|it| with_present_rules(it, &before.zones)).collect();
    }
    let (on, broken) = (&read.schedules.on, &read.schedules.broken);
    // A new file that was never right says nothing yet: the built-in schedule goes on.
    let is_replaced = !on.is_empty()
        || broken.is_empty()
        || read.schedules.off.contains(&format!("schedules/{BUILT_IN}.toml"));
    let kept = before.schedules.iter().filter(|it| {
        let name = it.name.as_str();
        broken.iter().any(|stem| stem == name) || name == BUILT_IN && !is_replaced
    });
    let kept = kept.map(|it| with_present_rules(it, &before.zones));
    let mut schedules: Vec<Schedule> = on.iter().cloned().chain(kept).collect();
    schedules.sort_by(|one, other| one.name.cmp(&other.name));
    schedules
}

/// Its file is broken, and yet its zone may have changed.
fn with_present_rules(schedule: &Schedule, zones: &TimeZones) -> Schedule {
    let timezone = zones.find(schedule.timezone.name());
    let timezone = timezone.unwrap_or_else(|| schedule.timezone.clone());
    Schedule { timezone, ..schedule.clone() }
}

fn channels(before: &Config, read: &Read, last_good: &LastGood) -> Vec<ChannelSettings> {
    if !read.channels.is_folder_readable {
        return before.channels.clone();
    }
    let (on, broken) = (&read.channels.on, &read.channels.broken);
    let of_variables = |file: &str| matches!(file, ".env" | "environment");
    let is_unknown =
        !broken.is_empty() || read.problems.iter().any(|problem| of_variables(&problem.place.file));
    let was_by_variable = |name: &str| {
        let file = format!("alerts/{name}.toml");
        channel::BY_VARIABLE.contains(&name)
            && !last_good.0.contains_key(&file)
            && !read.channels.off_files.contains(&file)
    };
    let kept = before.channels.iter().filter(|it| {
        let is_there = on.iter().any(|channel| channel.name == it.name);
        let is_broken = broken.contains(&it.name);
        !is_there && (is_broken || is_unknown && was_by_variable(&it.name))
    });
    let mut channels: Vec<ChannelSettings> = on.iter().chain(kept).cloned().collect();
    channels.sort_by(|one, other| one.name.cmp(&other.name));
    channels
}

/// The files as they are on disk, without having read them: two that are equal hold the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<(PathBuf, i64, i64, u64, u64)>);

impl Fingerprint {
    /// Of all files that [`reload`] reads. What can't be looked at is left out; reading it tells why.
    #[must_use]
    pub fn take(location: &Location) -> Self {
        let Ok(file) = location.resolve() else { return Self::default() };
        let root = file.root;
        let zones = location.zones.watched_file();
        let mut paths: Vec<PathBuf> =
            file.path.into_iter().chain([root.join(".env")]).chain(zones).collect();
        for folder in ["schedules", "alerts"] {
            paths.extend(toml_files(&root.join(folder)));
        }
        paths.sort();
        let seen = paths.into_iter().filter_map(|path| {
            let data = path.metadata().ok()?;
            Some((path, data.mtime(), data.mtime_nsec(), data.size(), data.ino()))
        });
        Self(seen.collect())
    }
}

fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect()
}
