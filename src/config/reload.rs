//! Reading again while the daemon runs: what is right takes effect, what is broken leaves the version
//! before it in place.
//!
//! Schedules, channels and variables are exchanged. `[service]` needs a restart; what a review goes by
//! is read by each review anyway.
//! Invariant: a broken file changes nothing but what people are told.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::load::{Read, read};
use super::problem::Problem;
use super::{Config, Environment, Location};
use crate::alert::channel::ChannelSettings;
use crate::schedule::Schedule;
use crate::timezone::TimeZones;

/// What a changed configuration comes to.
#[derive(Debug)]
pub struct Reloaded {
    /// In effect from now on.
    pub config: Config,
    /// What is not, and why.
    pub problems: Vec<Problem>,
}

/// Reads all files again and takes what is right.
#[must_use]
pub fn reload(
    before: &Config,
    location: &Location,
    process: &BTreeMap<String, String>,
) -> Reloaded {
    let read = match read(location, process) {
        Ok(read) => read,
        Err(problems) => return Reloaded { config: before.clone(), problems: problems.0 },
    };
    let broken: BTreeSet<&str> =
        read.problems.iter().map(|problem| problem.place.file.as_str()).collect();
    let config = Config {
        schedules: schedules(before, &read, &broken),
        channels: channels(before, &read, &broken),
        switched_off: read.schedules.off.iter().cloned().chain(read.channels.off_files()).collect(),
        environment: if broken.contains(".env") {
            before.environment.clone()
        } else {
            Environment(read.variables.clone().into_map())
        },
        ..before.clone()
    };
    Reloaded { config, problems: read.problems }
}

fn schedules(before: &Config, read: &Read, broken: &BTreeSet<&str>) -> Vec<Schedule> {
    if broken.contains("schedules") {
        let schedules = before.schedules.iter();
        return schedules.map(|it| with_present_rules(it, &before.zones)).collect();
    }
    let file = |schedule: &Schedule| format!("schedules/{}.toml", schedule.name);
    let is_broken = |schedule: &&Schedule| broken.contains(file(schedule).as_str());
    let kept = before
        .schedules
        .iter()
        .filter(|it| is_broken(it) && !read.schedules.off.contains(&file(it)))
        .map(|it| with_present_rules(it, &before.zones));
    let right = read.schedules.on.iter().filter(|it| !is_broken(it));
    let mut schedules: Vec<Schedule> = right.cloned().chain(kept).collect();
    schedules.sort_by(|one, other| one.name.cmp(&other.name));
    schedules
}

/// Its file is broken, and yet its zone may have changed.
fn with_present_rules(schedule: &Schedule, zones: &TimeZones) -> Schedule {
    let timezone = zones.find(schedule.timezone.name());
    let timezone = timezone.unwrap_or_else(|| schedule.timezone.clone());
    Schedule { timezone, ..schedule.clone() }
}

fn channels(before: &Config, read: &Read, broken: &BTreeSet<&str>) -> Vec<ChannelSettings> {
    if broken.contains("alerts") {
        return before.channels.clone();
    }
    let file = |channel: &ChannelSettings| format!("alerts/{}.toml", channel.name);
    let is_broken = |channel: &&ChannelSettings| {
        let file = file(channel);
        // Channels without a file are made by variables.
        let by_variable = !read.root.join(&file).is_file();
        broken.contains(file.as_str())
            || by_variable && (broken.contains(".env") || broken.contains("environment"))
    };
    let off = read.channels.off_files();
    let kept = before.channels.iter().filter(|it| is_broken(it) && !off.contains(&file(it)));
    let right = read.channels.on.iter().filter(|it| !is_broken(it));
    let mut channels: Vec<ChannelSettings> = right.chain(kept).cloned().collect();
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
        let Ok((root, file)) = location.resolve() else { return Self::default() };
        let zones = location.zones.watched_file();
        let mut paths: Vec<PathBuf> =
            file.into_iter().chain([root.join(".env")]).chain(zones).collect();
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
