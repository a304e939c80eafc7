//! What a job's output means: the signal, the patterns, the `::lookout::` lines.
//!
//! One [`Scanner`] a stream (or HTTP body) reads every byte and remembers little; [`Rules`] are
//! what it looks for, [`MatchCounter`] what all scanners of a run counted. It redacts nothing and writes
//! nothing: [`super::output_observer`] does.
//! Invariant: any cutting of the same bytes gives the same findings; memory is bounded by
//! [`LONGEST_LINE`] and the texts looked for, whatever is printed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use memchr::memchr;

use crate::protocol::{LONGEST_LINE, Line};

use super::line::{Lines, LongLines, Piece};
use super::log::{first_word_of, last_word_of};
use super::rules::{MatchCounter, Matched, Meaning, Rules};
use super::stream_search::{ControlSequences, Found, Search};
use crate::rundir::Stream;

/// Bytes of a line that are shown before and after what was found: enough for the old service's
/// longest message, with room in a chat message for several.
const SHOWN_BEFORE: usize = 160;
const SHOWN_AFTER: usize = 600;

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Finding {
    /// The completion.
    Signal {
        /// Of its first byte.
        offset: u64,
        /// Boot time at which its last byte was read.
        seen_at: Duration,
    },
    /// The text of an endpoint that has nothing to do.
    Idle,
    /// A pattern that reached its count.
    Matched(Matched),
    /// A line that the job meant for us.
    Line(Line),
}

/// What stands at one place.
#[derive(Debug)]
enum Hit {
    Signal { start: u64 },
    Idle,
    Pattern { index: usize, start: u64, excerpt: Option<Vec<u8>> },
    Line(Line),
}

/// A line on which something was found; it waits for its end, because what else stands on it
/// may change what it means.
#[derive(Debug)]
struct OpenLine {
    opened_at: u64,
    /// Line breaks before this offset have been looked for.
    searched_to: u64,
    signal: Option<(u64, Duration)>,
    /// Patterns that reached their count here.
    reached: Vec<(usize, u64)>,
    excerpt: Vec<u8>,
    /// Offset after the excerpt's last byte, and where it ends at the latest.
    excerpt_to: u64,
    excerpt_limit: u64,
}

/// Reads one stream.
#[derive(Debug)]
pub(super) struct Scanner {
    rules: Arc<Rules>,
    counter: Arc<Mutex<MatchCounter>>,
    stream: Stream,
    /// Bytes so far.
    at: u64,
    raw: Vec<Search>,
    /// The same texts in the stream without control sequences; `None` until there is one.
    plain: Option<(ControlSequences, Vec<Search>)>,
    lines: Option<Lines>,
    open: Option<OpenLine>,
    /// The last bytes before the present ones, for excerpts.
    recent: Vec<u8>,
    signal_given: bool,
}

impl Scanner {
    /// A scanner at the beginning of a stream.
    pub(super) fn new(
        rules: Arc<Rules>,
        counter: Arc<Mutex<MatchCounter>>,
        stream: Stream,
    ) -> Self {
        let raw = vec![Search::default(); rules.needles.len()];
        let long_lines =
            if rules.regexes.is_empty() { LongLines::PassedOver } else { LongLines::InParts };
        let lines = rules.reads_lines_of(stream).then(|| Lines::new(long_lines));
        Self {
            rules,
            counter,
            stream,
            at: 0,
            raw,
            plain: None,
            lines,
            open: None,
            recent: Vec::new(),
            signal_given: false,
        }
    }

    /// The completion text means nothing here.
    pub(super) fn without_signal(mut self) -> Self {
        self.signal_given = true;
        self
    }

    /// Reads the next bytes; `now` is boot time.
    pub(super) fn feed(&mut self, bytes: &[u8], now: Duration) -> Vec<Finding> {
        let mut hits = self.text_hits(bytes);
        hits.extend(self.line_hits(bytes));
        hits.sort_by_key(|(end, _)| *end);
        let mut findings = Vec::new();
        for (end, hit) in hits {
            self.close_up_to(end, bytes, now, &mut findings);
            self.take(end, hit, bytes, now, &mut findings);
        }
        self.close_up_to(self.at + bytes.len() as u64, bytes, now, &mut findings);
        self.extend_excerpt(self.at + bytes.len() as u64, bytes);
        self.at += bytes.len() as u64;
        let keep = SHOWN_BEFORE + self.rules.longest_needle();
        if bytes.len() >= keep {
            self.recent.clear();
        } else {
            self.recent.drain(..(self.recent.len() + bytes.len()).saturating_sub(keep));
        }
        self.recent.extend_from_slice(&bytes[bytes.len().saturating_sub(keep)..]);
        findings
    }

    /// Whether something waits for the end of its line.
    pub(super) fn is_waiting(&self) -> bool {
        let is_so_far = |lines: &Lines| self.rules.may_become_signal(lines.unfinished());
        self.open.is_some() || !self.signal_given && self.lines.as_ref().is_some_and(is_so_far)
    }

    /// Nothing more came for a while: what waits for the end of its line waits no longer.
    pub(super) fn settle(&mut self, now: Duration) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(line) = self.lines.as_ref().map(|lines| lines.unfinished().to_vec())
            && self.rules.is_signal_line(self.stream, &ControlSequences::strip(&line))
        {
            let hit = Hit::Signal { start: self.at.saturating_sub(line.len() as u64) };
            self.take(self.at, hit, &[], now, &mut findings);
        }
        self.close(now, &mut findings);
        findings
    }

    /// The stream is over.
    pub(super) fn finish(&mut self, now: Duration) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut hits = Vec::new();
        if let Some(mut lines) = self.lines.take() {
            let (rules, stream, at) = (Arc::clone(&self.rules), self.stream, self.at);
            lines.finish(|piece| hits_of_piece(&rules, stream, &piece, at, &mut hits));
        }
        for (end, hit) in hits {
            self.take(end, hit, &[], now, &mut findings);
        }
        self.close(now, &mut findings);
        let suppressed =
            self.counter.lock().unwrap_or_else(PoisonError::into_inner).take_suppressed(now);
        findings.extend(suppressed.into_iter().map(Finding::Matched));
        findings
    }

    fn text_hits(&mut self, bytes: &[u8]) -> Vec<(u64, Hit)> {
        if self.plain.is_none() && ControlSequences::any_in(bytes) {
            self.plain = Some((ControlSequences::default(), self.raw.clone()));
        }
        let mut found: Vec<(Found, usize)> = Vec::new();
        for (n, (needle, search)) in self.rules.needles.iter().zip(&mut self.raw).enumerate() {
            if needle.meaning == Meaning::Signal && self.signal_given {
                continue;
            }
            search.feed(&needle.needle, bytes, self.at, &mut |f| found.push((f, n)));
        }
        if let Some((sequences, searches)) = &mut self.plain {
            let rules = &self.rules;
            sequences.leave_out(bytes, self.at, |text, at| {
                for (n, (needle, search)) in rules.needles.iter().zip(&mut *searches).enumerate() {
                    search.feed(&needle.needle, text, at, &mut |f| found.push((f, n)));
                }
            });
            // What holds no sequence was found twice, at the same place.
            found.sort_by_key(|(f, n)| (f.end, *n));
            found.dedup_by_key(|(f, n)| (f.end, *n));
        }
        let meaning = |n: usize| self.rules.needles.get(n).map(|needle| needle.meaning);
        found
            .into_iter()
            .filter_map(|(Found { start, end }, n)| {
                let hit = match meaning(n)? {
                    Meaning::Signal => Hit::Signal { start },
                    Meaning::Idle => Hit::Idle,
                    Meaning::Pattern(index) => Hit::Pattern { index, start, excerpt: None },
                };
                Some((end, hit))
            })
            .collect()
    }

    fn line_hits(&mut self, bytes: &[u8]) -> Vec<(u64, Hit)> {
        let mut hits = Vec::new();
        if let Some(lines) = &mut self.lines {
            let (rules, stream, at) = (&self.rules, self.stream, self.at);
            lines.feed(bytes, |piece, end| {
                hits_of_piece(rules, stream, &piece, at + end as u64, &mut hits);
            });
        }
        hits
    }

    /// Takes a hit into the open line, or opens one.
    fn take(
        &mut self,
        end: u64,
        hit: Hit,
        bytes: &[u8],
        now: Duration,
        findings: &mut Vec<Finding>,
    ) {
        match hit {
            Hit::Line(line) => findings.push(Finding::Line(line)),
            Hit::Idle => findings.push(Finding::Idle),
            Hit::Signal { .. } if self.signal_given => {}
            Hit::Signal { start } if !self.rules.failures_matter => {
                self.signal_given = true;
                findings.push(Finding::Signal { offset: start, seen_at: now });
            }
            Hit::Signal { start } => {
                self.open_line(end).signal.get_or_insert((start, now));
            }
            Hit::Pattern { index, start, excerpt } => {
                let counted = self.counter.lock().unwrap_or_else(PoisonError::into_inner).count(
                    &self.rules,
                    index,
                    now,
                );
                let Some(count) = counted else { return };
                let shown = excerpt.unwrap_or_else(|| self.excerpt_before(start, end, bytes));
                let open = self.open_line(end);
                if open.excerpt.is_empty() {
                    open.excerpt = shown;
                    open.excerpt_to = end;
                    open.excerpt_limit = end + SHOWN_AFTER as u64;
                }
                match open.reached.iter_mut().find(|(reached, _)| *reached == index) {
                    Some((_, so_far)) => *so_far = count,
                    None => open.reached.push((index, count)),
                }
            }
        }
    }

    fn open_line(&mut self, end: u64) -> &mut OpenLine {
        self.open.get_or_insert_with(|| OpenLine {
            opened_at: end,
            searched_to: end,
            signal: None,
            reached: Vec::new(),
            excerpt: Vec::new(),
            excerpt_to: 0,
            excerpt_limit: 0,
        })
    }

    /// The line's bytes up to the end of what was found.
    fn excerpt_before(&self, start: u64, end: u64, bytes: &[u8]) -> Vec<u8> {
        let mut before = self.recent.clone();
        let in_bytes = usize::try_from(end.saturating_sub(self.at)).unwrap_or(0).min(bytes.len());
        before.extend_from_slice(&bytes[..in_bytes]);
        let found_len = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        let n_cut = before.len().saturating_sub(found_len + SHOWN_BEFORE);
        before.drain(..n_cut);
        let n_before = before.len().saturating_sub(found_len);
        match before[..n_before].iter().rposition(|b| *b == b'\n') {
            Some(line_break) => before.split_off(line_break + 1),
            // Half a word may be half a secret, which no redactor recognises.
            None if n_cut > 0 => before.split_off(first_word_of(&before[..n_before])),
            None => before,
        }
    }

    /// Closes the open line if it ends before this offset.
    fn close_up_to(
        &mut self,
        offset: u64,
        bytes: &[u8],
        now: Duration,
        findings: &mut Vec<Finding>,
    ) {
        let Some(open) = &self.open else { return };
        let limit = open.opened_at + LONGEST_LINE as u64;
        let from = usize::try_from(open.searched_to.saturating_sub(self.at)).unwrap_or(0);
        let to = usize::try_from(offset.saturating_sub(self.at)).unwrap_or(0).min(bytes.len());
        let line_break = bytes.get(from..to).and_then(|rest| memchr(b'\n', rest));
        let ends_at = line_break.map(|n| self.at + (from + n) as u64);
        match ends_at {
            Some(end) => {
                self.extend_excerpt(end.min(limit), bytes);
                self.close(now, findings);
            }
            None if offset > limit => {
                self.extend_excerpt(limit, bytes);
                self.close(now, findings);
            }
            None => {
                if let Some(open) = &mut self.open {
                    open.searched_to = open.searched_to.max(offset);
                }
            }
        }
    }

    fn extend_excerpt(&mut self, offset: u64, bytes: &[u8]) {
        let Some(open) = &mut self.open else { return };
        let to = offset.min(open.excerpt_limit);
        if open.excerpt.is_empty() || to <= open.excerpt_to {
            return;
        }
        let from = usize::try_from(open.excerpt_to.saturating_sub(self.at)).unwrap_or(0);
        let end = usize::try_from(to.saturating_sub(self.at)).unwrap_or(0).min(bytes.len());
        if let Some(more) = bytes.get(from..end) {
            open.excerpt.extend_from_slice(more);
            open.excerpt_to = self.at + end as u64;
        }
    }

    fn close(&mut self, now: Duration, findings: &mut Vec<Finding>) {
        let Some(open) = self.open.take() else { return };
        let mut excerpt = open.excerpt;
        if open.excerpt_to == open.excerpt_limit && excerpt.len() > SHOWN_AFTER {
            let n_sure = excerpt.len() - SHOWN_AFTER;
            excerpt.truncate(n_sure + last_word_of(&excerpt[n_sure..]));
        }
        let reached = self.rules.causes_of(open.reached);
        let is_failure = reached.iter().any(|(index, _)| self.rules.is_failure(*index));
        if let Some((offset, seen_at)) = open.signal
            && !is_failure
            && !self.signal_given
        {
            self.signal_given = true;
            findings.push(Finding::Signal { offset, seen_at });
        }
        let mut counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        for (pattern, count) in reached {
            let matched = Matched { pattern, count, excerpt: excerpt.clone() };
            findings.extend(counter.say(matched, now).map(Finding::Matched));
        }
    }
}

/// What a line (or a part of a very long one) holds; `end` is the offset of its line break.
fn hits_of_piece(
    rules: &Rules,
    stream: Stream,
    piece: &Piece<'_>,
    end: u64,
    hits: &mut Vec<(u64, Hit)>,
) {
    let stripped;
    let text = if ControlSequences::any_in(piece.bytes) {
        stripped = ControlSequences::strip(piece.bytes);
        &stripped
    } else {
        piece.bytes
    };
    let start = end.saturating_sub(piece.bytes.len() as u64);
    let for_us = (stream == Stream::Stdout).then(|| rules.line_for_us(text)).flatten();
    match for_us.filter(|_| piece.is_whole) {
        Some(line) => hits.push((end, Hit::Line(line))),
        None if piece.is_whole && rules.is_signal_line(stream, text) => {
            hits.push((end, Hit::Signal { start }));
        }
        None => {}
    }
    for (regex, index) in &rules.regexes {
        for found in regex.find_iter(text).filter(|found| found.end() > piece.n_repeated) {
            let excerpt = Some(excerpt_around(text, found.range()));
            hits.push((end, Hit::Pattern { index: *index, start, excerpt }));
        }
    }
}

/// The same for a match in a line that is there as a whole.
fn excerpt_around(line: &[u8], found: std::ops::Range<usize>) -> Vec<u8> {
    let mut from = found.start.saturating_sub(SHOWN_BEFORE);
    if from > 0 {
        from += first_word_of(&line[from..found.start]);
    }
    let mut to = (found.end + SHOWN_AFTER).min(line.len());
    if to < line.len() {
        to = found.end + last_word_of(&line[found.end..to]);
    }
    line[from..to].to_vec()
}

#[cfg(test)]
#[path = "output_scanner_tests.rs"]
mod tests;
