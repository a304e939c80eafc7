//! Pictures from a folder on this machine.
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
use crate::review::picture::room::Room;
use crate::review::record::Record;

/// The port on a folder.
#[derive(Clone, Debug)]
pub struct FolderSource {
    root: PathBuf,
    max_bytes: u64,
    room: Arc<Room>,
}

impl FolderSource {
    /// Reads from below `root`, files of at most so many bytes.
    #[must_use]
    pub fn new(root: PathBuf, max_bytes: u64) -> Self {
        Self { root, max_bytes, room: Room::new(u64::MAX) }
    }

    /// Files are charged to this room.
    #[must_use]
    pub fn within(self, room: &Arc<Room>) -> Self {
        Self { room: Arc::clone(room), ..self }
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
        // The root first: if all of it is gone, that is no picture's fault.
        let root = self.canonical_root().await?;
        let path = tokio::fs::canonicalize(path).await.map_err(|error| translate(&error))?;
        if !path.starts_with(root) {
            return Err(SourceError::Picture(format!(
                "{} lies outside the images' folder",
                path.display()
            )));
        }
        let file = tokio::fs::File::open(&path).await.map_err(|error| translate(&error))?;
        let metadata = file.metadata().await.map_err(|error| translate(&error))?;
        if !metadata.is_file() {
            return Err(SourceError::Picture("it is no regular file".to_owned()));
        }
        let charge = self.room.for_file(metadata.len().min(self.max_bytes)).await;
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
            _ => Ok(charge.attached_to(Bytes::from(bytes))),
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
                "the row has no file:// address, and pictures come from a folder".to_owned(),
            )),
        }
    }
}

fn translate(error: &std::io::Error) -> SourceError {
    let kind = error.kind();
    if matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory) {
        SourceError::Picture("the file is not there any more".to_owned())
    } else if kind == ErrorKind::PermissionDenied {
        SourceError::Refused("no permission to read the file".to_owned())
    } else {
        // The rest is the disk's or the network share's.
        SourceError::Unavailable(format!("the file can't be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
        let source = FolderSource::new(root.clone(), 8);
        assert_eq!(fetch(&source, &root.join("good one.jpg")).await.unwrap(), "bytes");
        for (path, reason) in [
            ("gone.jpg", "not there any more"),
            ("empty.jpg", "is empty"),
            ("large.jpg", "larger than 8 bytes"),
            ("../outside.jpg", "outside the images' folder"),
            (".", "no regular file"),
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
    async fn a_folder_that_is_gone_is_no_pictures_fault() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("images");
        let source = FolderSource::new(root.clone(), 8);
        let error = fetch(&source, &root.join("a.jpg")).await.unwrap_err();
        assert!(matches!(error, SourceError::Unavailable(_)), "{error:?}");
    }
}
