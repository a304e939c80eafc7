//! The version of time zone data: `2026f` is the sixth of 2026.
//!
//! Invariant: versions are ordered as they were released.

use std::fmt;
use std::path::Path;

/// Lines that are looked at to find a version: it stands in the first.
const MAX_LINE_BYTES: u64 = 256;

/// As the tz database numbers its releases: the year, then `a` to `z`, then `za`, `zb` …
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    year: u16,
    n_letters: usize,
    letters: String,
}

impl Version {
    /// `None`: not of this form, so that nobody can say what it is newer than.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (year, letters) = text.trim().split_at_checked(4)?;
        let is_good = (1..=2).contains(&letters.len())
            && letters.bytes().all(|byte| byte.is_ascii_lowercase())
            && year.bytes().all(|byte| byte.is_ascii_digit());
        let year = year.parse().ok().filter(|_| is_good)?;
        Some(Self { year, n_letters: letters.len(), letters: letters.to_owned() })
    }

    /// That of a folder of `TZif` files: the first line of `tzdata.zi` (`# version 2025b`), which
    /// distributions ship since 2017, or the file `+VERSION` of BSD and macOS.
    pub(super) fn of_folder(folder: &Path) -> Option<Self> {
        let first = first_line(&folder.join("tzdata.zi"));
        let version = first.as_deref().and_then(|line| line.strip_prefix("# version "));
        version
            .and_then(Self::parse)
            .or_else(|| Self::parse(&first_line(&folder.join("+VERSION"))?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.year, self.letters)
    }
}

fn first_line(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    // Something that is no file (a FIFO) would hold us up for ever.
    path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    std::fs::File::open(path).ok()?.take(MAX_LINE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).lines().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_they_were_released() {
        let released = ["1993g", "2025b", "2025c", "2026a", "2026f", "2026z", "2026za", "2027a"];
        let versions: Vec<Version> = released.iter().filter_map(|it| Version::parse(it)).collect();
        assert_eq!(versions.len(), released.len());
        assert!(versions.is_sorted());
        assert_eq!(versions.iter().map(Version::to_string).collect::<Vec<_>>(), released);
    }

    #[test]
    fn what_is_no_version_is_not_compared() {
        for text in ["", "2026", "unknown", "2026-f", "2026F", "26f", "2026f-dirty", "½026f"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
