//! Opens files that others name, and waits for none of them.
//!
//! Opening a named pipe that nobody writes to blocks for ever, a device can do anything, and a folder
//! fails only when it is read. Who may be named at all is the caller's business.
//! Invariant: what is returned is a regular file, and no call here waits for another process.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// What to do with a symbolic link in the last place of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Go where it leads: paths that a person has configured.
    Follow,
    /// Refuse it: paths that were resolved and checked before.
    Refuse,
}

/// Opens a regular file for reading.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] when it is anything but a regular file, with what it is; else what the
/// system says.
pub fn open(path: &Path, links: Links) -> Result<File> {
    // Looked at before it is opened, since opening a device may already do something.
    let before = match links {
        Links::Follow => std::fs::metadata(path)?,
        Links::Refuse => std::fs::symlink_metadata(path)?,
    };
    check(&before)?;
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if links == Links::Refuse {
        flags |= OFlags::NOFOLLOW;
    }
    let flags = i32::try_from(flags.bits()).map_err(Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // It may have been replaced in between.
    check(&file.metadata()?)?;
    Ok(file)
}

/// A whole regular file of at most `max_bytes`.
///
/// # Errors
/// As [`open`], and [`ErrorKind::FileTooLarge`].
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let file = open(path, Links::Follow)?;
    let too_large =
        || Error::new(ErrorKind::FileTooLarge, format!("it is larger than {max_bytes} bytes"));
    if file.metadata()?.len() > max_bytes {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    let n_read = file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if n_read as u64 > max_bytes { Err(too_large()) } else { Ok(bytes) }
}

/// A whole regular file, as text.
///
/// # Errors
/// As [`open`], and [`ErrorKind::InvalidData`] when it is not UTF-8.
pub fn read_to_string(path: &Path) -> Result<String> {
    std::io::read_to_string(open(path, Links::Follow)?)
}

fn check(metadata: &Metadata) -> Result<()> {
    let kind = metadata.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else {
        "a device"
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("it is {what}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_named_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("pipe", at("link")).unwrap();
        for (path, expected) in [
            (at("pipe"), "it is a named pipe, not a regular file"),
            (at("link"), "it is a named pipe, not a regular file"),
            (at("socket"), "it is a socket, not a regular file"),
            (folder.path().to_owned(), "it is a folder, not a regular file"),
            ("/dev/zero".into(), "it is a device, not a regular file"),
        ] {
            for error in [read(&path, 9).unwrap_err(), read_to_string(&path).unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert_eq!(error.to_string(), expected, "{}", path.display());
            }
        }
    }

    #[test]
    fn a_regular_file_is_read_up_to_the_limit_and_links_only_where_they_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "eight ch").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        assert_eq!(read(&link, 8).unwrap(), b"eight ch");
        assert_eq!(read(&file, 7).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert!(open(&file, Links::Refuse).is_ok());
        assert_eq!(open(&link, Links::Refuse).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
