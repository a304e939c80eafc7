//! The kept output: its beginning and its end, without secrets.
//!
//! Bytes wait in memory as they came, at most head and tail of them; only what has been through
//! the redactor reaches the disk. Reading streams and finding signals is others' business.
//! Invariant: a secret is never cut in two and stored by halves: where bytes are left out, the
//! words at the edges are left out with them.

use std::io;

use memchr::memrchr;

use crate::protocol::LONGEST_LINE;
use crate::redact::Redactor;

use super::stream_search::ControlSequences;
use crate::rundir::Stream;
use crate::rundir::directory::{RunDirectory, replace_file};

/// A keeper must stay small whatever a schedule says: each side holds at most this, and a copy
/// few of it while it is being redacted (32 MB is what a keeper may grow by).
const MOST_KEPT: u64 = 2 * 1024 * 1024;

/// Words longer than this are cut anyway; tokens of all providers we know are shorter.
const LONGEST_WORD: usize = 4096;

/// Output of all streams of a run, in the order in which it was read.
#[derive(Debug)]
pub(super) struct Log {
    head: Vec<u8>,
    head_limit: usize,
    /// Written round and round once it is full.
    tail: Vec<u8>,
    tail_limit: usize,
    next_in_tail: usize,
    n_taken: u64,
    /// Lines whose end has not come, by stream: two streams must not cut each other's words.
    unfinished: [Vec<u8>; 3],
}

/// A copy of what is kept, still with secrets.
#[derive(Debug, Default)]
pub(super) struct Kept {
    head: Vec<u8>,
    tail: Vec<u8>,
    n_dropped: u64,
}

impl Log {
    /// Keeps this many bytes of the beginning and of the end.
    pub(super) fn new(head_bytes: u64, tail_bytes: u64) -> Self {
        let limit = |bytes: u64| usize::try_from(bytes.min(MOST_KEPT)).unwrap_or(0);
        Self {
            head: Vec::new(),
            head_limit: limit(head_bytes),
            tail: Vec::new(),
            tail_limit: limit(tail_bytes),
            next_in_tail: 0,
            n_taken: 0,
            unfinished: Default::default(),
        }
    }

    /// Takes the next bytes of a stream.
    pub(super) fn append(&mut self, stream: Stream, bytes: &[u8]) {
        let index = match stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
            Stream::Body => 2,
        };
        let mut unfinished = std::mem::take(&mut self.unfinished[index]);
        let whole_lines = match memrchr(b'\n', bytes) {
            Some(end) => end + 1,
            // Nobody waits for ever for the end of a line.
            None if unfinished.len() + bytes.len() > LONGEST_LINE => bytes.len(),
            None => 0,
        };
        if whole_lines > 0 {
            self.take(&unfinished);
            self.take(&bytes[..whole_lines]);
            unfinished.clear();
        }
        unfinished.extend_from_slice(&bytes[whole_lines..]);
        self.unfinished[index] = unfinished;
    }

    /// All streams are over.
    pub(super) fn finish(&mut self) {
        for unfinished in std::mem::take(&mut self.unfinished) {
            self.take(&unfinished);
        }
    }

    /// Bytes of which at least the count is known.
    pub(super) fn n_taken(&self) -> u64 {
        self.n_taken
    }

    /// Bytes that neither side keeps.
    pub(super) fn n_dropped(&self) -> u64 {
        self.n_taken - self.head.len() as u64 - self.tail.len() as u64
    }

    /// Copies what is kept; redacting and storing need not hold up the reading.
    pub(super) fn kept(&self) -> Kept {
        let (newest, oldest) = self.tail.split_at(self.next_in_tail.min(self.tail.len()));
        let tail = [oldest, newest].concat();
        Kept { head: self.head.clone(), tail, n_dropped: self.n_dropped() }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.n_taken += bytes.len() as u64;
        let room = self.head_limit.saturating_sub(self.head.len());
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        if rest.is_empty() {
            return;
        }
        if !first.is_empty() {
            // The word that does not fit belongs to the tail as a whole.
            let last_word = self.head.split_off(last_word_of(&self.head));
            self.head_limit = self.head.len();
            self.take_into_tail(&last_word);
        }
        self.take_into_tail(rest);
    }

    fn take_into_tail(&mut self, bytes: &[u8]) {
        if self.tail_limit == 0 {
            return;
        }
        let mut bytes = &bytes[bytes.len().saturating_sub(self.tail_limit)..];
        let room = self.tail_limit - self.tail.len();
        let n_first = room.min(bytes.len());
        self.tail.extend_from_slice(&bytes[..n_first]);
        bytes = &bytes[n_first..];
        while !bytes.is_empty() {
            let n = bytes.len().min(self.tail_limit - self.next_in_tail);
            self.tail[self.next_in_tail..self.next_in_tail + n].copy_from_slice(&bytes[..n]);
            self.next_in_tail = (self.next_in_tail + n) % self.tail_limit;
            bytes = &bytes[n..];
        }
    }
}

impl Kept {
    /// Writes it without secrets.
    ///
    /// # Errors
    /// When the directory can't be written; the next time writes it all.
    pub(super) fn store(&self, redactor: &Redactor, directory: &RunDirectory) -> io::Result<()> {
        let (head, tail) = self.texts(redactor);
        replace_file(&directory.log_head_path(), head.as_bytes())?;
        if tail.is_empty() {
            return Ok(());
        }
        replace_file(&directory.log_tail_path(), tail.as_bytes())
    }

    fn texts(&self, redactor: &Redactor) -> (String, String) {
        let clean = |bytes: &[u8]| {
            let plain = ControlSequences::strip(bytes);
            redactor.redact(&String::from_utf8_lossy(&plain)).into_owned()
        };
        if self.n_dropped == 0 {
            return (clean(&self.head), clean(&self.tail));
        }
        // What was overwritten ended somewhere in the first word.
        let first_word = first_word_of(&self.tail);
        let n_dropped = self.n_dropped + first_word as u64;
        let tail = clean(&self.tail[first_word..]);
        (clean(&self.head), format!("[… {n_dropped} bytes left out …]\n{tail}"))
    }
}

/// Where words end, also in compact JSON and in URLs.
fn is_border(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(byte, b'"' | b'\'' | b',' | b';' | b'{' | b'}' | b'[' | b']' | b'<' | b'>' | 0)
}

/// Where the last word begins.
pub(super) fn last_word_of(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(LONGEST_WORD);
    bytes[from..].iter().rposition(|b| is_border(*b)).map_or(from, |n| from + n + 1)
}

/// Where the first word ends.
pub(super) fn first_word_of(bytes: &[u8]) -> usize {
    let to = bytes.len().min(LONGEST_WORD);
    bytes[..to].iter().position(|b| is_border(*b)).unwrap_or(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const SECRET: &str = "not-a-real-secret-0123456789";

    fn redactor() -> Redactor {
        Redactor::new([Secret::new(SECRET)])
    }

    fn texts(log: &mut Log) -> (String, String) {
        log.finish();
        log.kept().texts(&redactor())
    }

    #[test]
    fn what_fits_is_kept_as_it_came() {
        let mut log = Log::new(100, 100);
        log.append(Stream::Stdout, b"one\ntw");
        log.append(Stream::Stderr, b"err\n");
        log.append(Stream::Stdout, b"o\n\x1b[31mred\x1b[0m");
        assert_eq!(texts(&mut log), ("one\nerr\ntwo\nred".into(), String::new()));
        assert_eq!(log.n_dropped(), 0);
    }

    #[test]
    fn of_long_output_head_and_tail_are_kept_and_the_gap_is_marked() {
        let mut log = Log::new(50, 50);
        for n in 0..100 {
            log.append(Stream::Stdout, format!("line {n}\n").as_bytes());
        }
        let (head, tail) = texts(&mut log);
        assert!(head.starts_with("line 0\nline 1\n") && head.len() <= 50, "{head}");
        assert!(tail.starts_with("[… ") && tail.ends_with("line 98\nline 99\n"), "{tail}");
        assert_eq!(log.n_taken(), 790);
        assert_eq!(log.n_dropped(), 790 - log.head.len() as u64 - 50);
    }

    #[test]
    fn a_secret_is_hidden_wherever_it_is_cut() {
        // Slides the secret over every border: chunks, head, gap and tail.
        for offset in 0..200 {
            for chunk in [1, 7, 64] {
                let mut log = Log::new(64, 64);
                let text = format!(
                    "{} key={SECRET} {}",
                    "a ".repeat(offset / 2),
                    "b ".repeat((200 - offset) / 2)
                );
                for bytes in text.as_bytes().chunks(chunk) {
                    log.append(Stream::Stdout, bytes);
                }
                let (head, tail) = texts(&mut log);
                for part in ["not-a", "real", "secret", "0123", "789"] {
                    let shown = format!("{head}{tail}");
                    assert!(!shown.contains(part), "offset {offset}: {shown}");
                }
            }
        }
    }

    #[test]
    fn a_secret_written_in_two_halves_around_another_stream_is_hidden() {
        let mut log = Log::new(1000, 1000);
        let (first, second) = SECRET.split_at(12);
        log.append(Stream::Stdout, first.as_bytes());
        log.append(Stream::Stderr, b"progress\n");
        log.append(Stream::Stdout, second.as_bytes());
        assert_eq!(texts(&mut log).0, "progress\n[redacted]");
    }

    #[test]
    fn nothing_may_be_kept() {
        let mut log = Log::new(0, 0);
        log.append(Stream::Stdout, b"one\n");
        assert_eq!(log.n_dropped(), 4);
        assert_eq!(texts(&mut log).0, "");
    }
}
