//! Cuts a stream into lines, and very long lines into parts.
//!
//! Does not look at what stands on them.
//! Invariant: holds at most [`LONGEST_LINE`] bytes; where a part ends depends on the bytes
//! alone, not on how they came.

use memchr::memchr;

use crate::protocol::LONGEST_LINE;

/// A part begins with this many bytes of the one before, so that what stands across the border is
/// found. What people look for in a line is shorter.
const REPEATED: usize = 1024;

/// A line, or a part of one that is too long.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    /// Without the line break.
    pub(super) bytes: &'a [u8],
    /// Not a part.
    pub(super) is_whole: bool,
    /// So many bytes at the beginning stood at the end of the part before.
    pub(super) n_repeated: usize,
}

/// What is done with lines that are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LongLines {
    /// Handed on in parts.
    InParts,
    /// Nobody looks at them.
    PassedOver,
}

/// Whether a line's end is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    LineBreak,
    MoreToCome,
}

/// The line being read.
#[derive(Debug)]
pub(super) struct Lines {
    long_lines: LongLines,
    unfinished: Vec<u8>,
    /// The line has been too long already.
    is_long: bool,
    n_repeated: usize,
}

impl Lines {
    /// At the beginning of a stream.
    pub(super) fn new(long_lines: LongLines) -> Self {
        Self { long_lines, unfinished: Vec::new(), is_long: false, n_repeated: 0 }
    }

    /// Hands on each piece that ends in these bytes, with the index of its line break there (of
    /// a part: the index after its last byte).
    pub(super) fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(Piece<'_>, usize)) {
        let mut from = 0;
        while from < bytes.len() {
            let line_break = memchr(b'\n', &bytes[from..]).map(|n| from + n);
            let to = line_break.unwrap_or(bytes.len());
            let end = if line_break.is_some() { End::LineBreak } else { End::MoreToCome };
            self.extend(&bytes[from..to], from, end, &mut take);
            from = to + 1;
        }
    }

    /// The stream is over: what has no line break is a line, too.
    pub(super) fn finish(&mut self, mut take: impl FnMut(Piece<'_>)) {
        if self.unfinished.len() > self.n_repeated {
            self.end_line(&[], &mut |piece, _| take(piece), 0);
        }
    }

    /// The beginning of a line whose end has not come; empty if it is too long.
    pub(super) fn unfinished(&self) -> &[u8] {
        if self.is_long { &[] } else { &self.unfinished }
    }

    fn extend(
        &mut self,
        bytes: &[u8],
        at: usize,
        end: End,
        take: &mut impl FnMut(Piece<'_>, usize),
    ) {
        let mut rest = bytes;
        while self.unfinished.len() + rest.len() > LONGEST_LINE {
            self.is_long = true;
            if self.long_lines == LongLines::PassedOver {
                self.unfinished.clear();
                rest = &[];
                break;
            }
            let n = LONGEST_LINE - self.unfinished.len();
            self.unfinished.extend_from_slice(&rest[..n]);
            rest = &rest[n..];
            let n_repeated = self.n_repeated;
            let part_end = at + bytes.len() - rest.len();
            take(Piece { bytes: &self.unfinished, is_whole: false, n_repeated }, part_end);
            self.unfinished.drain(..LONGEST_LINE - REPEATED);
            self.n_repeated = REPEATED;
        }
        match end {
            End::LineBreak => self.end_line(rest, take, at + bytes.len()),
            End::MoreToCome if self.is_looked_at() => self.unfinished.extend_from_slice(rest),
            End::MoreToCome => {}
        }
    }

    fn is_looked_at(&self) -> bool {
        !self.is_long || self.long_lines == LongLines::InParts
    }

    fn end_line(&mut self, rest: &[u8], take: &mut impl FnMut(Piece<'_>, usize), end: usize) {
        let (is_whole, n_repeated) = (!self.is_long, self.n_repeated);
        if self.is_looked_at() {
            if self.unfinished.is_empty() {
                take(Piece { bytes: rest, is_whole, n_repeated }, end);
            } else {
                self.unfinished.extend_from_slice(rest);
                take(Piece { bytes: &self.unfinished, is_whole, n_repeated }, end);
            }
        }
        self.unfinished.clear();
        self.is_long = false;
        self.n_repeated = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &[u8], mut next_len: impl FnMut() -> usize) -> Vec<(Vec<u8>, bool, usize)> {
        let mut lines = Lines::new(LongLines::InParts);
        let (mut all, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let end = (at + next_len().max(1)).min(text.len());
            lines.feed(&text[at..end], |piece, n| {
                assert!(piece.bytes.len() <= LONGEST_LINE);
                all.push((piece.bytes.to_vec(), piece.is_whole, at + n));
            });
            at = end;
        }
        lines.finish(|piece| all.push((piece.bytes.to_vec(), piece.is_whole, text.len())));
        all
    }

    #[test]
    fn any_cutting_gives_the_same_lines() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut text = b"one\n\ntwo\n".to_vec();
        text.extend(std::iter::repeat_with(|| random.alphanumeric() as u8).take(40_000));
        text.extend_from_slice(b"\nlast without its end");
        let whole = pieces(&text, || usize::MAX / 2);
        assert_eq!(whole.len(), 7, "three lines, three parts, and the last");
        assert_eq!(whole[3].0.len(), LONGEST_LINE);
        assert_eq!(whole[3].0[LONGEST_LINE - REPEATED..], whole[4].0[..REPEATED]);
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            assert_eq!(whole, pieces(&text, || random.usize(1..5000)), "seed {seed}");
        }
    }
}
