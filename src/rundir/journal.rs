//! The evidence file: one writer, the keeper; any number of readers, which may come and go.
//!
//! It knows nothing of what the entries mean. What a job can cause as often as it likes (activity,
//! progress, totals, problems) is written at most once a second each, the newest always.
//! Invariant: complete lines are never changed or lost; when the disk is full, entries wait in
//! memory in their order, and a half-written line is cut off before it is written again.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::directory::RunDirectory;
use super::{Entry, Event, Frequency};

/// At most one entry of a kind in this time. A 45-minute run stays below 2,700 lines of a kind.
const MIN_ENTRY_INTERVAL: Duration = Duration::from_secs(1);

/// Notes are for people; nobody reads more. Bounds the file against a job that prints only notes.
const MAX_NOTES: u32 = 500;

/// Kinds of problem are words of ours (a dozen); a job that invents more shares the last place.
const MAX_KINDS: usize = 32;

/// Entries that may wait for the disk; far more than a run of many hours writes.
const MAX_WAITING: usize = 100_000;

/// What is held back when it comes too often; the newest replaces the one before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Limited {
    Activity,
    Progress,
    Totals,
    /// Problem and recovery of one kind share a place: only how it stands now matters.
    Fault(String),
}

#[derive(Debug, Default)]
struct Place {
    last_written_ms: Option<u64>,
    held: Option<Entry>,
}

/// The keeper's end.
#[derive(Debug)]
pub struct EvidenceWriter {
    path: PathBuf,
    file: Option<File>,
    /// Bytes of complete lines that are on disk.
    good_len: u64,
    waiting: VecDeque<Vec<u8>>,
    places: BTreeMap<Limited, Place>,
    n_notes: u32,
}

impl EvidenceWriter {
    /// Nothing is written or opened yet: a full disk must not keep a job from being held.
    #[must_use]
    pub fn new(directory: &RunDirectory) -> Self {
        Self {
            path: directory.evidence_path(),
            file: None,
            good_len: 0,
            waiting: VecDeque::new(),
            places: BTreeMap::new(),
            n_notes: 0,
        }
    }

    /// Takes an entry and writes all that may be written now, fsynced.
    ///
    /// # Errors
    /// When it can't be written; it then waits, and each later call (or [`Self::flush`]) tries
    /// again.
    pub fn record(&mut self, entry: Entry) -> io::Result<()> {
        let Some(limited) = self.limit_of(&entry.event) else {
            if matches!(entry.event, Event::Note { .. }) {
                if self.n_notes == MAX_NOTES {
                    return self.flush();
                }
                self.n_notes += 1;
            }
            // Whatever was held came before it, and must stand before it.
            self.release_held(|_| true);
            self.wait(&entry);
            return self.flush();
        };
        let now_ms = entry.boot_ms;
        self.places.entry(limited).or_default().held = Some(entry);
        self.release_due(now_ms)
    }

    /// Writes what was held back long enough and what waits for the disk.
    ///
    /// # Errors
    /// When it can't be written; it goes on waiting.
    pub fn release_due(&mut self, now_boot_ms: u64) -> io::Result<()> {
        let every_ms = u64::try_from(MIN_ENTRY_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        self.release_held(|place| {
            place.last_written_ms.is_none_or(|last| now_boot_ms.saturating_sub(last) >= every_ms)
        });
        self.flush()
    }

    /// Whether entries wait for the disk.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what waits for the disk.
    ///
    /// # Errors
    /// When it can't be written; it goes on waiting.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let written = self.write_waiting();
        if written.is_err() {
            // The directory may come back as another one (a remounted disk): open anew.
            self.file = None;
        }
        written
    }

    fn limit_of(&self, event: &Event) -> Option<Limited> {
        match event.frequency() {
            Frequency::Output => Some(Limited::Activity),
            Frequency::Progress => Some(Limited::Progress),
            Frequency::Totals => Some(Limited::Totals),
            Frequency::Fault(kind) => {
                let place = Limited::Fault(kind.to_owned());
                let has_room = self.places.len() < MAX_KINDS || self.places.contains_key(&place);
                Some(if has_room { place } else { Limited::Fault(String::new()) })
            }
            Frequency::Noted | Frequency::Seldom => None,
        }
    }

    /// Moves held entries to those that are written next, oldest first.
    fn release_held(&mut self, is_due: impl Fn(&Place) -> bool) {
        let mut released = Vec::new();
        for place in self.places.values_mut() {
            if is_due(place)
                && let Some(entry) = place.held.take()
            {
                place.last_written_ms = Some(entry.boot_ms);
                released.push(entry);
            }
        }
        released.sort_by_key(|entry| entry.boot_ms);
        for entry in &released {
            self.wait(entry);
        }
    }

    fn wait(&mut self, entry: &Entry) {
        // Entries hold only text, numbers and finite prices, so this can't fail; if it ever
        // does, one entry less is better than a job without a keeper.
        let Ok(mut line) = serde_json::to_vec(entry) else { return };
        line.push(b'\n');
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(line);
        }
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut file = OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .mode(0o600)
                    .open(&self.path)?;
                // Cuts off what a failed write left of a line.
                file.set_len(self.good_len)?;
                file.seek(SeekFrom::Start(self.good_len))?;
                file
            }
        };
        let lines: Vec<u8> = self.waiting.iter().flatten().copied().collect();
        file.write_all(&lines)?;
        file.sync_data()?;
        self.good_len += lines.len() as u64;
        self.waiting.clear();
        self.file = Some(file);
        Ok(())
    }
}

/// The daemon's end: reads from where it stopped.
#[derive(Clone, Debug)]
pub struct EvidenceReader {
    path: PathBuf,
}

impl EvidenceReader {
    /// Reads this run's evidence.
    #[must_use]
    pub fn new(directory: &RunDirectory) -> Self {
        Self { path: directory.evidence_path() }
    }

    /// The entries from this offset on, and the offset to go on from. A last line without its
    /// end is left for the next time; a file that is not there yet has no entries. A complete
    /// line that is not understood (a keeper of another version) is passed over and logged.
    ///
    /// # Errors
    /// When the file is there but can't be read.
    pub fn read_from(&self, offset: u64) -> io::Result<(Vec<Entry>, u64)> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Vec::new(), offset));
            }
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let entries = bytes[..end]
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .filter_map(|line| match serde_json::from_slice(line) {
                Ok(entry) => Some(entry),
                Err(error) => {
                    tracing::warn!(file = %self.path.display(), %error, "evidence line not understood");
                    None
                }
            })
            .collect();
        Ok((entries, offset + end as u64))
    }

    /// Bytes there are, for a reader that asks before it reads; 0 if there is no file.
    #[must_use]
    pub fn len(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |about| about.len())
    }

    /// Whether there is nothing yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn at(boot_ms: u64, event: Event) -> Entry {
        let seconds = 1_700_000_000 + i64::try_from(boot_ms / 1000).unwrap();
        Entry { at: DateTime::from_timestamp(seconds, 0).unwrap(), boot_ms, event }
    }

    fn activity(boot_ms: u64, bytes: u64) -> Entry {
        at(boot_ms, Event::Activity { bytes })
    }

    fn scratch() -> (tempfile::TempDir, RunDirectory) {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::at(folder.path().join("run"));
        (folder, directory)
    }

    #[test]
    fn a_reader_goes_on_where_it_stopped_and_leaves_a_torn_line() {
        let (_folder, directory) = scratch();
        let reader = EvidenceReader::new(&directory);
        assert_eq!(reader.read_from(0).unwrap(), (vec![], 0));
        fs::create_dir(directory.path()).unwrap();
        let mut writer = EvidenceWriter::new(&directory);
        let first = at(1, Event::BoxEnded);
        writer.record(first.clone()).unwrap();
        let (entries, offset) = reader.read_from(0).unwrap();
        assert_eq!(entries, vec![first]);
        let mut file = OpenOptions::new().append(true).open(directory.evidence_path()).unwrap();
        let second = at(2, Event::Exited { code: Some(0), signal: None });
        let line = serde_json::to_string(&second).unwrap();
        file.write_all(&line.as_bytes()[..20]).unwrap();
        assert_eq!(reader.read_from(offset).unwrap(), (vec![], offset));
        file.write_all(&line.as_bytes()[20..]).unwrap();
        file.write_all(b"\nnot an entry\n{\"half\":").unwrap();
        let (entries, end) = reader.read_from(offset).unwrap();
        assert_eq!(entries, vec![second]);
        assert_eq!(end, reader.len() - "{\"half\":".len() as u64);
    }

    #[test]
    fn what_comes_too_often_is_written_once_a_second_and_the_newest_always() {
        let (_folder, directory) = scratch();
        fs::create_dir(directory.path()).unwrap();
        let mut writer = EvidenceWriter::new(&directory);
        for n in 0..100 {
            writer.record(activity(n * 25, n)).unwrap();
        }
        writer.record(at(2490, Event::BoxEnded)).unwrap();
        let (entries, _) = EvidenceReader::new(&directory).read_from(0).unwrap();
        let seen: Vec<u64> = entries
            .iter()
            .filter_map(|entry| {
                if let Event::Activity { bytes } = entry.event { Some(bytes) } else { None }
            })
            .collect();
        assert_eq!(seen, vec![0, 40, 80, 99]);
        assert_eq!(entries.last().unwrap().event, Event::BoxEnded);
    }

    #[test]
    fn a_held_entry_is_written_when_its_second_is_over() {
        let (_folder, directory) = scratch();
        fs::create_dir(directory.path()).unwrap();
        let mut writer = EvidenceWriter::new(&directory);
        writer.record(activity(0, 1)).unwrap();
        writer.record(activity(10, 2)).unwrap();
        let reader = EvidenceReader::new(&directory);
        assert_eq!(reader.read_from(0).unwrap().0.len(), 1);
        writer.release_due(1000).unwrap();
        assert_eq!(reader.read_from(0).unwrap().0, vec![activity(0, 1), activity(10, 2)]);
    }

    #[test]
    fn a_job_that_prints_only_notes_and_invented_kinds_does_not_fill_the_disk() {
        let (_folder, directory) = scratch();
        fs::create_dir(directory.path()).unwrap();
        let mut writer = EvidenceWriter::new(&directory);
        for n in 0..2000 {
            writer.record(at(0, Event::Note { text: "again".into() })).unwrap();
            writer.record(at(0, Event::Recovered { kind: format!("kind-{n}") })).unwrap();
        }
        let (entries, _) = EvidenceReader::new(&directory).read_from(0).unwrap();
        assert!(entries.len() < 1200, "{}", entries.len());
        assert!(writer.places.len() <= MAX_KINDS + 1);
    }

    #[test]
    fn entries_wait_in_their_order_while_nothing_can_be_written() {
        let (_folder, directory) = scratch();
        // The directory is missing: as unwritable as a full disk.
        let mut writer = EvidenceWriter::new(&directory);
        assert!(writer.record(at(1, Event::BoxEnded)).is_err());
        assert!(writer.record(at(2, Event::PipeHeld)).is_err());
        assert!(writer.is_behind());
        fs::create_dir(directory.path()).unwrap();
        // What a write that broke off left behind.
        fs::write(directory.evidence_path(), "{\"at\":\"20").unwrap();
        writer.flush().unwrap();
        assert!(!writer.is_behind());
        let (entries, _) = EvidenceReader::new(&directory).read_from(0).unwrap();
        assert_eq!(entries, vec![at(1, Event::BoxEnded), at(2, Event::PipeHeld)]);
    }
}
