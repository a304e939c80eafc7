//! The files below a folder that become records, and what is passed over.
//!
//! What a file really is, its content decides when it is prepared; here only names speak, for what a
//! folder of images usually holds beside them.
//! Invariant: one entry that can't be read stops nothing but itself; only the folder itself can fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::RecordId;
use super::sqlite::NewRecord;

/// Endings of files that are no images: what systems, cameras and editors put beside images, and what
/// a browser or a copying program has not finished. Lower case.
const NO_IMAGES: [&str; 46] = [
    "3gp",
    "7z",
    "aac",
    "aae",
    "avi",
    "bak",
    "crdownload",
    "csv",
    "ctg",
    "dat",
    "db",
    "doc",
    "docx",
    "exe",
    "flac",
    "gz",
    "html",
    "ini",
    "json",
    "lnk",
    "log",
    "lrf",
    "lrv",
    "m4a",
    "m4v",
    "md5",
    "mkv",
    "mov",
    "mp3",
    "mp4",
    "mpg",
    "mts",
    "part",
    "partial",
    "pp3",
    "rar",
    "sha256",
    "srt",
    "tar",
    "thm",
    "tmp",
    "txt",
    "url",
    "wav",
    "webm",
    "xmp",
];

/// Places named in a finding; the rest are counted.
const MAX_NAMED: usize = 3;

/// What is below a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Files that are or may be images, in the order of their paths.
    pub files: Vec<NewRecord>,
    /// How many files were passed over, by the ending of their name.
    pub passed_over: BTreeMap<String, u64>,
    /// Folders and entries that can't be read, each with the reason.
    pub unreadable: Vec<String>,
}

impl Listing {
    /// What a person should know, one sentence each.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if !self.unreadable.is_empty() {
            let named: Vec<&str> =
                self.unreadable.iter().take(MAX_NAMED).map(String::as_str).collect();
            let rest = self.unreadable.len() - named.len();
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            findings.push(format!(
                "part of the images' folder can't be read and was passed over: {}{more}",
                named.join("; ")
            ));
        }
        let n_passed_over: u64 = self.passed_over.values().sum();
        if n_passed_over > 0 {
            let kinds: Vec<String> =
                self.passed_over.iter().map(|(ending, n)| format!("{n} .{ending}")).collect();
            let files = if n_passed_over == 1 { "file was" } else { "files were" };
            findings.push(format!(
                "{n_passed_over} {files} passed over because the name is not an image's: {}",
                kinds.join(", ")
            ));
        }
        findings
    }
}

/// Every regular, visible file below `root`. Hidden files and folders are passed over silently, links
/// are not followed.
///
/// # Errors
/// When the folder itself can't be read.
pub fn files_below(root: &Path) -> std::io::Result<Listing> {
    // file:// addresses are absolute.
    let root = root.canonicalize()?;
    let mut listing = Listing::default();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if folder == root => return Err(error),
            Err(error) => {
                listing.unreadable.push(format!("{}: {error}", folder.display()));
                continue;
            }
        };
        for entry in entries {
            let found = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)));
            let (path, kind) = match found {
                Ok(found) => found,
                Err(error) => {
                    listing.unreadable.push(format!("in {}: {error}", folder.display()));
                    continue;
                }
            };
            let is_hidden =
                path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_hidden {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                match ending_of_no_image(&path) {
                    Some(ending) => *listing.passed_over.entry(ending).or_default() += 1,
                    None => files.push(path),
                }
            }
        }
    }
    files.sort();
    listing.files = files.iter().filter_map(|file| record_of(&root, file)).collect();
    listing.unreadable.sort();
    Ok(listing)
}

fn ending_of_no_image(path: &Path) -> Option<String> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    NO_IMAGES.contains(&ending.as_str()).then_some(ending)
}

/// The id is made of the path below the folder, so that a file keeps its row wherever the folder is.
fn record_of(root: &Path, file: &Path) -> Option<NewRecord> {
    let relative = file.strip_prefix(root).ok()?;
    let name = relative.as_os_str().as_encoded_bytes();
    Some(NewRecord {
        id: RecordId(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name).to_string()),
        job_id: relative.with_extension("").to_string_lossy().into_owned(),
        url: url::Url::from_file_path(file).ok()?.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        folder
    }

    fn jobs(listing: &Listing) -> Vec<&str> {
        listing.files.iter().map(|file| file.job_id.as_str()).collect()
    }

    #[test]
    fn files_that_are_no_images_by_name_are_passed_over_with_one_finding() {
        let folder = with(&[
            "a.jpg",
            "Thumbs.db",
            "desktop.ini",
            "film.MP4",
            "b.xmp",
            "b.AAE",
            "notes.txt",
            "no-ending",
            "c.JPEG",
            "half.jpg.part",
            ".hidden.jpg",
            "d.unknown",
        ]);
        let listing = files_below(folder.path()).unwrap();
        assert_eq!(jobs(&listing), ["a", "c", "d", "no-ending"]);
        assert_eq!(
            listing.findings(),
            ["7 files were passed over because the name is not an image's: 1 .aae, 1 .db, \
                 1 .ini, 1 .mp4, 1 .part, 1 .txt, 1 .xmp"]
        );
    }

    #[test]
    fn a_folder_of_images_alone_has_no_findings() {
        let folder = with(&["a.jpg", "b/c.png", "d.tiff", "e.heic", "f.webp", "g.psd"]);
        assert_eq!(files_below(folder.path()).unwrap().findings(), Vec::<String>::new());
    }

    #[test]
    fn one_folder_that_can_not_be_read_stops_nothing() {
        let folder = with(&["a.jpg", "locked/b.jpg", "c/d.jpg"]);
        let locked = folder.path().join("locked");
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
        let listing = files_below(folder.path());
        let is_root = std::fs::read_dir(&locked).is_ok();
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o755)).unwrap();
        let listing = listing.unwrap();
        if is_root {
            // Nothing is locked to root.
            return;
        }
        assert_eq!(jobs(&listing), ["a", "c/d"]);
        let findings = listing.findings();
        assert!(findings[0].contains("/locked: Permission denied"), "{findings:?}");
    }

    #[test]
    fn unreadable_places_are_named_up_to_three() {
        let unreadable = ["a: x", "b: x", "c: x", "d: x", "e: x"].map(str::to_owned).to_vec();
        let listing = Listing { unreadable, ..Listing::default() };
        assert_eq!(
            listing.findings(),
            ["part of the images' folder can't be read and was passed over: a: x; b: x; c: x and \
                 2 more"]
        );
    }

    #[test]
    fn what_is_no_regular_file_is_no_record() {
        let folder = with(&["a.jpg"]);
        let pipe = folder.path().join("pipe.jpg");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::os::unix::fs::symlink("a.jpg", folder.path().join("link.jpg")).unwrap();
        assert_eq!(jobs(&files_below(folder.path()).unwrap()), ["a"]);
    }

    #[test]
    fn the_folder_itself_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        assert!(files_below(&folder.path().join("gone")).is_err());
    }
}
