//! Finds one text in a stream of bytes that comes in pieces.
//!
//! Knows nothing of lines or of what a text means; [`super::output_scanner`] does.
//! Invariant: the same bytes give the same matches however they are cut, and at most the needle's
//! length is remembered between two pieces.

use memchr::{memchr, memmem};

/// A text to look for.
#[derive(Clone, Debug)]
pub(super) struct Needle {
    finder: memmem::Finder<'static>,
}

impl Needle {
    /// `None` for the empty text, which stands everywhere and so says nothing.
    pub(super) fn new(text: &str) -> Option<Self> {
        (!text.is_empty())
            .then(|| Self { finder: memmem::Finder::new(text.as_bytes()).into_owned() })
    }

    pub(super) fn len(&self) -> usize {
        self.finder.needle().len()
    }
}

/// Where a text was found, as offsets in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Of its first byte.
    pub(super) start: u64,
    /// After its last byte.
    pub(super) end: u64,
}

/// How far the search for one needle has come in one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    /// The last bytes, one fewer than the needle has, and the offset of each: between two bytes
    /// that are neighbours here, colour codes may have been left out.
    carry: Vec<u8>,
    carry_at: Vec<u64>,
    /// Matches do not overlap: the next one starts here or later.
    resume: u64,
}

impl Search {
    /// Looks at the next bytes, the first of which has the offset `at`.
    pub(super) fn feed(
        &mut self,
        needle: &Needle,
        bytes: &[u8],
        at: u64,
        found: &mut impl FnMut(Found),
    ) {
        let keep = needle.len() - 1;
        self.search_border(needle, &bytes[..keep.min(bytes.len())], at, found);
        let mut from = usize::try_from(self.resume.saturating_sub(at)).unwrap_or(usize::MAX);
        while let Some(position) =
            bytes.get(from..).and_then(|rest| needle.finder.find(rest)).map(|p| p + from)
        {
            from = position + needle.len();
            self.resume = at + from as u64;
            found(Found { start: at + position as u64, end: self.resume });
        }
        self.remember(keep, bytes, at);
    }

    /// Matches that begin in the bytes before and end in these.
    fn search_border(
        &mut self,
        needle: &Needle,
        bytes: &[u8],
        at: u64,
        found: &mut impl FnMut(Found),
    ) {
        let n_carried = self.carry.len();
        if n_carried == 0 {
            return;
        }
        self.carry.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(position) = needle.finder.find(&self.carry[from..]).map(|p| p + from) {
            if position >= n_carried {
                break;
            }
            let start = self.carry_at[position];
            if start < self.resume {
                from = position + 1;
                continue;
            }
            from = position + needle.len();
            // The carried bytes are fewer than the needle has, so it ends in the new ones.
            self.resume = at + (from - n_carried) as u64;
            found(Found { start, end: self.resume });
        }
        self.carry.truncate(n_carried);
    }

    fn remember(&mut self, keep: usize, bytes: &[u8], at: u64) {
        let fresh = &bytes[bytes.len().saturating_sub(keep)..];
        let too_many = (self.carry.len() + fresh.len()).saturating_sub(keep);
        self.carry.drain(..too_many);
        self.carry_at.drain(..too_many);
        self.carry.extend_from_slice(fresh);
        let fresh_at = at + (bytes.len() - fresh.len()) as u64;
        self.carry_at.extend((fresh_at..).take(fresh.len()));
    }
}

/// Longest sequence that is taken for one; window titles and links are far shorter. After that
/// many bytes it was no sequence, and the text is text again.
const LONGEST_SEQUENCE: usize = 4096;

const ESC: u8 = 0x1b;

/// Leaves out terminal control sequences (ECMA-48: colours, cursor, titles), in pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct ControlSequences {
    state: State,
    n_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// ESC and a byte that announces one more (`ESC ( B`).
    Intermediate,
    /// `ESC [` … up to a letter.
    Control,
    /// `ESC ]` and its like: up to BEL or `ESC \`.
    Long,
    /// ESC inside such a text.
    LongEscape,
}

impl ControlSequences {
    /// Hands on what is text, piece by piece, with the offset of each.
    pub(super) fn leave_out(&mut self, bytes: &[u8], at: u64, mut text: impl FnMut(&[u8], u64)) {
        let mut position = 0;
        while position < bytes.len() {
            if self.state == State::Text {
                let end = memchr(ESC, &bytes[position..]).map_or(bytes.len(), |n| position + n);
                if end > position {
                    text(&bytes[position..end], at + position as u64);
                }
                if end < bytes.len() {
                    self.state = State::Escape;
                    self.n_bytes = 0;
                }
                position = end + 1;
                continue;
            }
            // A line break inside means that this was no sequence, or a broken one.
            if bytes[position] == b'\n' || self.n_bytes == LONGEST_SEQUENCE {
                self.state = State::Text;
                continue;
            }
            self.n_bytes += 1;
            self.state = self.state.after(bytes[position]);
            position += 1;
        }
    }

    /// All text of one line, sequences left out.
    pub(super) fn strip(line: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(line.len());
        Self::default().leave_out(line, 0, |text, _| plain.extend_from_slice(text));
        plain
    }

    /// Whether a sequence begins in these bytes.
    pub(super) fn any_in(bytes: &[u8]) -> bool {
        memchr(ESC, bytes).is_some()
    }
}

impl State {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Escape | Self::LongEscape, ESC) => Self::Escape,
            (Self::Escape, b'[') => Self::Control,
            (Self::Escape, b']' | b'P' | b'^' | b'_' | b'X') => Self::Long,
            (Self::Escape, 0x20..=0x2f) | (Self::Intermediate, 0x20..=0x2f) => Self::Intermediate,
            (Self::Control, 0x20..=0x3f) => Self::Control,
            (Self::Control | Self::Long, ESC) => {
                if self == Self::Long {
                    Self::LongEscape
                } else {
                    Self::Escape
                }
            }
            (Self::Long, 0x07) => Self::Text,
            (Self::Long, _) => Self::Long,
            (Self::Text, _)
            | (Self::Escape | Self::Intermediate | Self::Control | Self::LongEscape, _) => {
                Self::Text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All matches when the bytes come in pieces of these lengths.
    fn matches(needle: &str, bytes: &[u8], mut next_len: impl FnMut() -> usize) -> Vec<Found> {
        let needle = Needle::new(needle).unwrap();
        let mut search = Search::default();
        let (mut found, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let end = (at + next_len().max(1)).min(bytes.len());
            search.feed(&needle, &bytes[at..end], at as u64, &mut |f| found.push(f));
            at = end;
        }
        found
    }

    #[test]
    fn any_cutting_gives_the_same_matches() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..2000 {
            // Few letters, so that needles overlap themselves and each other.
            let text: Vec<u8> = (0..random.usize(0..60)).map(|_| random.u8(b'a'..=b'b')).collect();
            let needle: String =
                (0..random.usize(1..6)).map(|_| char::from(random.u8(b'a'..=b'b'))).collect();
            let whole = matches(&needle, &text, || usize::MAX / 2);
            let pieces = matches(&needle, &text, || random.usize(1..8));
            assert_eq!(whole, pieces, "round {round}: {needle} in {text:?}");
            assert_eq!(
                whole.len(),
                std::str::from_utf8(&text).unwrap().matches(&needle).count(),
                "round {round}"
            );
        }
    }

    #[test]
    fn sequences_are_left_out_however_they_are_cut() {
        let text = b"a\x1b[1;31mb\x1b]8;;http://x\x1b\\c\x1b(B\x1b]0;title\x07d\x1b[\ne\x1b";
        for len in 1..text.len() {
            let mut sequences = ControlSequences::default();
            let mut plain = Vec::new();
            for (n, piece) in text.chunks(len).enumerate() {
                sequences.leave_out(piece, (n * len) as u64, |bytes, at| {
                    let at = usize::try_from(at).unwrap();
                    assert_eq!(&text[at..at + bytes.len()], bytes);
                    plain.extend_from_slice(bytes);
                });
            }
            assert_eq!(plain, b"abcd\ne", "pieces of {len}");
        }
        assert_eq!(ControlSequences::strip(b"\x1b[32mok\x1b[0m"), b"ok");
    }

    #[test]
    fn a_sequence_without_an_end_does_not_swallow_the_rest() {
        let mut text = b"\x1b]".to_vec();
        text.extend(std::iter::repeat_n(b'x', LONGEST_SEQUENCE + 10));
        text.extend_from_slice(b"done");
        assert!(ControlSequences::strip(&text).ends_with(b"done"));
    }
}
