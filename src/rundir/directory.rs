//! A run's directory: its paths, the order, the request to stop, and the kept output.
//!
//! The daemon writes the order and the request, the keeper everything else; what stands in the
//! evidence file is [`super::journal`]'s business.
//! Invariant: an order that can be read is whole: it appears under its name only after it was
//! written and fsynced under another.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Order;

/// `<state_dir>/runs/<run-id>` and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDirectory {
    path: PathBuf,
}

/// The output that was kept, as text for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogText {
    /// The beginning.
    pub head: String,
    /// The end; empty while everything still fits into the head. Between the two,
    /// [`super::Event::Ended`]'s `log_dropped_bytes` are missing.
    pub tail: String,
}

impl RunDirectory {
    /// The directory of a run below the state directory.
    #[must_use]
    pub fn of(state_dir: &Path, run_id: &str) -> Self {
        Self { path: state_dir.join("runs").join(run_id) }
    }

    /// This directory.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The order.
    #[must_use]
    pub fn order_path(&self) -> PathBuf {
        self.path.join("order.json")
    }

    /// What the keeper saw.
    #[must_use]
    pub fn evidence_path(&self) -> PathBuf {
        self.path.join("evidence.jsonl")
    }

    /// The beginning of the output.
    #[must_use]
    pub fn log_head_path(&self) -> PathBuf {
        self.path.join("log.head")
    }

    /// The end of the output.
    #[must_use]
    pub fn log_tail_path(&self) -> PathBuf {
        self.path.join("log.tail")
    }

    /// Where the job's control group is, if it has one.
    #[must_use]
    pub fn cgroup_path(&self) -> PathBuf {
        self.path.join("cgroup")
    }

    fn stop_path(&self) -> PathBuf {
        self.path.join("stop")
    }

    /// Makes the directory and writes the order, durably.
    ///
    /// # Errors
    /// When the state directory can't be written.
    pub fn write_order(&self, order: &Order) -> io::Result<()> {
        // Output may be private: the directory is its owner's alone.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let mut text = serde_json::to_vec_pretty(order)?;
        text.push(b'\n');
        replace_file(&self.order_path(), &text)?;
        // The directory's own name must survive a power cut, too.
        match self.path.parent() {
            Some(runs) => File::open(runs)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Reads the order.
    ///
    /// # Errors
    /// When there is none or it is of another version.
    pub fn read_order(&self) -> io::Result<Order> {
        Ok(serde_json::from_slice(&fs::read(self.order_path())?)?)
    }

    /// Asks the keeper to stop the job: it sees the file within a quarter of a second, also when
    /// it has yet to come up. SIGTERM to the keeper does the same, but is lost if it comes too
    /// early. Asking twice changes nothing.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn request_stop(&self) -> io::Result<()> {
        File::create(self.stop_path())?.sync_all()?;
        File::open(&self.path)?.sync_all()
    }

    /// Whether the keeper was asked to stop the job.
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        self.stop_path().exists()
    }

    /// The kept output, secrets already redacted. Empty where nothing is there yet.
    ///
    /// # Errors
    /// When a file is there but can't be read.
    pub fn read_log(&self) -> io::Result<LogText> {
        Ok(LogText {
            head: read_text(&self.log_head_path())?,
            tail: read_text(&self.log_tail_path())?,
        })
    }
}

/// Writes a file under another name, makes it durable, and gives it its name.
///
/// # Errors
/// When the directory can't be written.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new_name = path.as_os_str().to_owned();
    new_name.push(".new");
    let new_path = PathBuf::from(new_name);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new_path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new_path, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// The file as text; bytes that are no UTF-8 become the replacement character.
fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::order;
    use super::*;

    #[test]
    fn an_order_reads_back_as_it_was_written_and_leaves_nothing_else_behind() {
        let state = tempfile::tempdir().unwrap();
        let directory = RunDirectory::of(state.path(), "run-1");
        let order = order("run-1");
        directory.write_order(&order).unwrap();
        directory.write_order(&order).unwrap();
        assert_eq!(directory.read_order().unwrap(), order);
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn a_request_to_stop_waits_for_a_keeper_that_is_not_up_yet() {
        let state = tempfile::tempdir().unwrap();
        let directory = RunDirectory::at(state.path());
        assert!(!directory.stop_requested());
        directory.request_stop().unwrap();
        directory.request_stop().unwrap();
        assert!(directory.stop_requested());
    }

    #[test]
    fn a_log_that_is_no_text_is_shown_all_the_same() {
        let state = tempfile::tempdir().unwrap();
        let directory = RunDirectory::at(state.path());
        assert_eq!(directory.read_log().unwrap(), LogText::default());
        fs::write(directory.log_head_path(), b"caf\xc3\xa9 \xff").unwrap();
        assert_eq!(directory.read_log().unwrap().head, "café \u{fffd}");
    }
}
