//! Images from a folder on this machine.
//!
//! Invariant: nothing outside the folder is ever read, whatever a row's address says, and nothing
//! in it is ever written.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use url::Url;

use super::{Source, SourceError};
use crate::regular_file::{self, Links};
use crate::review::picture::memory_budget::MemoryBudget;
use crate::review::record::Record;

/// The port on a folder.
#[derive(Clone, Debug)]
pub struct FolderSource {
    root: PathBuf,
    max_bytes: u64,
    budget: Arc<MemoryBudget>,
}

impl FolderSource {
    /// Reads from below `root`, files of at most `max_bytes`.
    #[must_use]
    pub fn new(root: PathBuf, max_bytes: u64) -> Self {
        Self { root, max_bytes, budget: MemoryBudget::new(u64::MAX) }
    }

    /// Files are charged to this budget.
    #[must_use]
    pub fn within(self, budget: &Arc<MemoryBudget>) -> Self {
        Self { budget: Arc::clone(budget), ..self }
    }

    /// The folder as it is called now; it may have come (back) since the start.
    async fn canonical_root(&self) -> Result<PathBuf, SourceError> {
        tokio::fs::canonicalize(&self.root).await.map_err(|error| {
            SourceError::Unavailable(format!(
                "the images' folder {} is not there: {error}",
                self.root.display()
            ))
        })
    }

    async fn read(&self, path: &Path) -> Result<Bytes, SourceError> {
        // The root first: if all of it is gone, that is no image's fault.
        let root = self.canonical_root().await?;
        let path = match tokio::fs::canonicalize(path).await {
            Ok(path) => path,
            Err(error) => return Err(blame(&root, path, &error).await),
        };
        if !path.starts_with(&root) {
            return Err(SourceError::Picture(format!(
                "{} lies outside the images' folder",
                path.display()
            )));
        }
        // No link is left in the path: one that is there now was put there meanwhile.
        let to_open = path.clone();
        let opened =
            tokio::task::spawn_blocking(move || regular_file::open(&to_open, Links::Refuse)).await;
        let file = match opened.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(file) => tokio::fs::File::from_std(file),
            Err(error) => return Err(blame(&root, &path, &error).await),
        };
        let metadata = file.metadata().await.map_err(|error| translate(&error))?;
        let reservation = self.budget.for_file(metadata.len().min(self.max_bytes)).await;
        // It may grow while we read, so the limit holds on what is read, too.
        let mut bytes = Vec::with_capacity(metadata.len().min(self.max_bytes) as usize);
        let n_read = file
            .take(self.max_bytes + 1)
            .read_to_end(&mut bytes)
            .await
            .map_err(|error| translate(&error))?;
        match n_read as u64 {
            0 => Err(SourceError::Picture("the file is empty".to_owned())),
            n if n > self.max_bytes => Err(SourceError::Picture(format!(
                "the file is larger than {} bytes",
                self.max_bytes
            ))),
            _ => Ok(reservation.attached_to(Bytes::from(bytes))),
        }
    }
}

#[async_trait]
impl Source for FolderSource {
    async fn fetch(&self, record: &Record) -> Result<Bytes, SourceError> {
        let path = record
            .actual_image_url
            .as_deref()
            .and_then(|address| Url::parse(address).ok())
            .filter(|address| address.scheme() == "file")
            .and_then(|address| address.to_file_path().ok());
        match path {
            Some(path) => self.read(&path).await,
            None => Err(SourceError::Picture(
                "the row has no file:// address, and images come from a folder".to_owned(),
            )),
        }
    }
}

/// Whose fault it is that a file can't be opened: a permission that one file lacks is its own, as long
/// as the folder of all can be read.
async fn blame(root: &Path, path: &Path, error: &std::io::Error) -> SourceError {
    let is_denied = error.kind() == ErrorKind::PermissionDenied;
    if is_denied && tokio::fs::read_dir(root).await.is_ok() {
        return SourceError::Picture(format!(
            "{} can't be read: {error}; give the user who runs lookout permission to read it",
            path.display()
        ));
    }
    translate(error)
}

fn translate(error: &std::io::Error) -> SourceError {
    let kind = error.kind();
    if matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory) {
        SourceError::Picture("the file is not there any more".to_owned())
    } else if kind == ErrorKind::PermissionDenied {
        SourceError::Refused("no permission to read the images' folder".to_owned())
    } else if kind == ErrorKind::InvalidInput {
        SourceError::Picture(error.to_string())
    } else {
        // The rest is the disk's or the network share's.
        SourceError::Unavailable(format!("the file can't be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;
    use crate::review::record::RecordId;

    fn record(address: Option<&str>) -> Record {
        Record {
            id: RecordId("a".into()),
            job_id: None,
            image_index: None,
            actual_image_url: address.map(str::to_owned),
            status: "downloaded".into(),
            created_at: None,
            columns: BTreeMap::new(),
        }
    }

    async fn fetch(source: &FolderSource, path: &Path) -> Result<Bytes, SourceError> {
        let address = Url::from_file_path(path).unwrap();
        source.fetch(&record(Some(address.as_str()))).await
    }

    #[tokio::test]
    async fn each_file_is_read_or_refused_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("images");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("good one.jpg"), b"bytes").unwrap();
        std::fs::write(root.join("empty.jpg"), b"").unwrap();
        std::fs::write(root.join("large.jpg"), b"123456789").unwrap();
        std::fs::write(folder.path().join("outside.jpg"), b"secret").unwrap();
        let pipe = root.join("pipe.jpg");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let source = FolderSource::new(root.clone(), 8);
        assert_eq!(fetch(&source, &root.join("good one.jpg")).await.unwrap(), "bytes");
        for (path, reason) in [
            ("gone.jpg", "not there any more"),
            ("empty.jpg", "is empty"),
            ("large.jpg", "larger than 8 bytes"),
            ("../outside.jpg", "outside the images' folder"),
            (".", "it is a folder, not a regular file"),
            ("pipe.jpg", "it is a named pipe, not a regular file"),
        ] {
            let error = fetch(&source, &root.join(path)).await.unwrap_err();
            let SourceError::Picture(text) = &error else { panic!("{error:?}") };
            assert!(text.contains(reason), "{path}: {text}");
        }
        for address in [None, Some("https://example.com/a.jpg"), Some("not an address")] {
            let error = source.fetch(&record(address)).await.unwrap_err();
            assert!(matches!(error, SourceError::Picture(_)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_file_without_permission_is_at_fault_itself_and_a_folder_is_not_its_fault() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("images");
        std::fs::create_dir(&root).unwrap();
        let denied = std::io::Error::from(ErrorKind::PermissionDenied);
        // Asked directly, since root may read everything.
        let error = blame(&root, &root.join("a.jpg"), &denied).await;
        let SourceError::Picture(text) = &error else { panic!("{error:?}") };
        assert!(text.contains("a.jpg can't be read: permission denied"), "{text}");
        let error = blame(&root.join("gone"), &root.join("gone/a.jpg"), &denied).await;
        assert!(matches!(error, SourceError::Refused(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_is_no_images_fault() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("images");
        let source = FolderSource::new(root.clone(), 8);
        let error = fetch(&source, &root.join("a.jpg")).await.unwrap_err();
        assert!(matches!(error, SourceError::Unavailable(_)), "{error:?}");
    }
}
