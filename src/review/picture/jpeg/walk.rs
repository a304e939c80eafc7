//! The walk over a JPEG's markers, before any pixel is decoded.
//!
//! What it finds decides about limits, memory and the way of decoding (`jpeg.rs`).
//! Invariant: a file that the walk accepts has every scan of every colour and its end marker.

use std::ops::Range;

use crate::review::picture::error::PictureError;
use crate::review::picture::format::{Format, Orientation, u16_be};

/// Real progressive files have about ten; a file with a thousand costs a minute of processor.
pub(super) const MAX_SCANS: u32 = 100;

/// What the walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::review::picture) struct JpegHeader {
    pub(in crate::review::picture) width: u16,
    pub(in crate::review::picture) height: u16,
    pub(in crate::review::picture) orientation: Orientation,
    pub(super) colors: Colors,
    pub(super) coding: Coding,
    pub(super) scans: u32,
    /// All samples of all components, subsampling considered.
    samples: u64,
    /// EXIF, XMP, IPTC and comments: where and when a photograph was taken is private.
    pub(super) metadata: Vec<Range<usize>>,
    /// What stands between segments and belongs to none, and segments that say nothing.
    pub(super) stray: Vec<Range<usize>>,
    /// Where the data of the first scan ends.
    pub(super) first_scan_end: usize,
    /// Just after the end marker.
    pub(super) end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Baseline,
    Progressive,
}

/// What the components are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colors {
    Gray,
    YCbCr,
    /// Three components that are red, green and blue as they stand: named `R`, `G`, `B`, or marked
    /// with transform 0 by Adobe's segment (as jpegli and Pillow's `keep_rgb` write them).
    Rgb,
    /// Four. All programs take them as stored inverted, with and without Adobe's segment.
    Cmyk,
}

impl JpegHeader {
    /// Bytes of the decoded pixels, four each, and of the coefficients where the decoder holds
    /// them all.
    pub(in crate::review::picture) fn decode_bytes(&self) -> u64 {
        let holds_all =
            self.coding == Coding::Progressive || self.scans > 1 || self.colors == Colors::Cmyk;
        // A single scan is copied to be padded, and what has stray bytes to be rid of them.
        let copy = if self.is_single_scan() {
            self.first_scan_end
        } else if self.stray.is_empty() {
            0
        } else {
            self.end
        };
        let coefficients = if holds_all { self.samples * 2 } else { 0 };
        u64::from(self.width) * u64::from(self.height) * 4 + coefficients + copy as u64
    }

    pub(super) fn is_single_scan(&self) -> bool {
        self.coding == Coding::Baseline && self.scans == 1
    }
}

struct Frame {
    width: u16,
    height: u16,
    components: u8,
    has_ids_of_rgb: bool,
    coding: Coding,
    samples: u64,
}

/// Walks over all markers up to the end of the image.
pub(in crate::review::picture) fn walk(bytes: &[u8]) -> Result<JpegHeader, PictureError> {
    let mut at = 2;
    let mut found = Found::default();
    loop {
        let before = at;
        let Marker { code, start } = next_marker(bytes, &mut at, found.scans.n)?;
        if start > before {
            found.stray.push(before..start);
        }
        match code {
            0xd9 => break,
            // Markers without a segment.
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let n_scans = found.scans.n;
        let length = usize::from(u16_be(bytes, at).ok_or_else(|| cut_off(bytes, n_scans))?);
        let segment = bytes.get(at + 2..at + length).ok_or_else(|| {
            if length < 2 { damaged("a segment has no length") } else { cut_off(bytes, n_scans) }
        })?;
        at += length;
        if code == 0xda {
            at = end_of_scan(bytes, at).ok_or_else(|| cut_off(bytes, n_scans + 1))?;
            found.scans.add(segment, at)?;
        } else {
            found.take(code, segment, start..at)?;
        }
    }
    found.into_header(at)
}

/// What the segments say.
#[derive(Default)]
struct Found {
    frame: Option<Frame>,
    orientation: Option<Orientation>,
    has_jfif: bool,
    /// The transform of Adobe's segment, and where that stands.
    adobe: Option<(u8, Range<usize>)>,
    metadata: Vec<Range<usize>>,
    stray: Vec<Range<usize>>,
    scans: Scans,
}

impl Found {
    fn take(&mut self, code: u8, segment: &[u8], at: Range<usize>) -> Result<(), PictureError> {
        match code {
            0xc0..=0xc2 if self.frame.is_some() => return Err(damaged("it has two frames")),
            0xc0..=0xc2 => self.frame = Some(read_frame(code, segment)?),
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Err(PictureError::Unsupported {
                    format: "lossless and arithmetic JPEG",
                    hint: ": save it as an ordinary JPEG",
                });
            }
            0xe1 => {
                if segment.starts_with(b"Exif\0\0") {
                    self.orientation = Orientation::in_exif(segment).or(self.orientation);
                }
                self.metadata.push(at);
            }
            0xe0 => self.has_jfif |= segment.starts_with(b"JFIF\0"),
            0xed | 0xfe => self.metadata.push(at),
            0xee if segment.starts_with(b"Adobe") => match segment.get(11) {
                Some(transform @ 0..=2) => self.adobe = Some((*transform, at)),
                // Too short, or a transform that does not exist: it says nothing.
                Some(_) | None => self.stray.push(at),
            },
            _ => {}
        }
        Ok(())
    }

    fn into_header(mut self, end: usize) -> Result<JpegHeader, PictureError> {
        let Some(frame) = self.frame else {
            return Err(damaged("it has no frame"));
        };
        self.scans.check(frame.components, frame.coding)?;
        let is_marked_rgb = matches!(self.adobe, Some((0, _)));
        let colors = match frame.components {
            1 => Colors::Gray,
            // JFIF knows three colours only as YCbCr, and wins over Adobe's segment (libjpeg).
            3 if self.has_jfif && is_marked_rgb => {
                self.stray.extend(self.adobe.map(|(_, at)| at));
                self.stray.sort_by_key(|range| range.start);
                Colors::YCbCr
            }
            3 if frame.has_ids_of_rgb || is_marked_rgb => Colors::Rgb,
            3 => Colors::YCbCr,
            _ => Colors::Cmyk,
        };
        Ok(JpegHeader {
            width: frame.width,
            height: frame.height,
            orientation: self.orientation.unwrap_or(Orientation::UPRIGHT),
            colors,
            coding: frame.coding,
            scans: self.scans.n,
            samples: frame.samples,
            metadata: self.metadata,
            stray: self.stray,
            first_scan_end: self.scans.first_end,
            end,
        })
    }
}

/// The scans met so far.
#[derive(Default)]
struct Scans {
    n: u32,
    first_end: usize,
    components_of_first: usize,
    /// Ids of components whose coarse image has come in full precision.
    complete: Vec<u8>,
    /// How many components one such scan had: in broken files several share one id.
    largest_complete: usize,
}

impl Scans {
    /// `head`: count, (id, tables) for each component, first and last coefficient, precision.
    fn add(&mut self, head: &[u8], end: usize) -> Result<(), PictureError> {
        self.n += 1;
        if self.n > MAX_SCANS {
            return Err(PictureError::TooManyScans { scans: self.n });
        }
        let short = || damaged("a scan header is too short");
        let n_components = usize::from(*head.first().ok_or_else(short)?);
        let selectors = head.get(1..1 + n_components * 2).ok_or_else(short)?;
        let [from, _, precision] = *head.get(1 + n_components * 2..).ok_or_else(short)? else {
            return Err(short());
        };
        if self.n == 1 {
            self.first_end = end;
            self.components_of_first = n_components;
        }
        if from == 0 && precision & 15 == 0 {
            self.largest_complete = self.largest_complete.max(n_components);
            self.complete.extend(selectors.chunks_exact(2).map(|selector| selector[0]));
        }
        Ok(())
    }

    /// A file that was cut off and closed with an end marker lacks scans.
    fn check(&mut self, components: u8, coding: Coding) -> Result<(), PictureError> {
        self.complete.sort_unstable();
        self.complete.dedup();
        if self.complete.len().max(self.largest_complete) < usize::from(components) {
            let detail = "not all of its colours are there".to_owned();
            return Err(PictureError::CutOff { format: Format::Jpeg, detail });
        }
        let one_scan_has_all = self.components_of_first == usize::from(components);
        if coding == Coding::Baseline && one_scan_has_all && self.n > 1 {
            return Err(damaged("it holds more than one image in one frame"));
        }
        Ok(())
    }
}

/// A marker and where it begins, its fill bytes left out.
struct Marker {
    code: u8,
    start: usize,
}

/// The next marker; `at` is moved behind it. Before the first scan stray bytes are passed over, as
/// all decoders do: nothing of the image can stand there.
fn next_marker(bytes: &[u8], at: &mut usize, scans: u32) -> Result<Marker, PictureError> {
    loop {
        let rest = bytes.get(*at..).unwrap_or(&[]);
        match rest.iter().position(|byte| *byte == 0xff) {
            Some(n_stray) if n_stray > 0 && scans > 0 => {
                return Err(damaged("there is something between its scans"));
            }
            Some(n_stray) => *at += n_stray,
            None => return Err(cut_off(bytes, scans)),
        }
        // Any number of fill bytes may stand before the code.
        while bytes.get(*at) == Some(&0xff) {
            *at += 1;
        }
        let code = *bytes.get(*at).ok_or_else(|| cut_off(bytes, scans))?;
        *at += 1;
        if code != 0 {
            return Ok(Marker { code, start: *at - 2 });
        }
        if scans > 0 {
            return Err(damaged("there is something between its scans"));
        }
    }
}

/// Where the entropy-coded data ends: at a marker that is neither a stuffed byte nor a restart.
fn end_of_scan(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        match bytes.get(at + 1)? {
            0x00 | 0xd0..=0xd7 => at += 2,
            0xff => at += 1,
            _ => return Some(at),
        }
    }
}

fn read_frame(marker: u8, segment: &[u8]) -> Result<Frame, PictureError> {
    let short = || damaged("its frame header is too short");
    let precision = *segment.first().ok_or_else(short)?;
    let height = u16_be(segment, 1).ok_or_else(short)?;
    let width = u16_be(segment, 3).ok_or_else(short)?;
    let components = *segment.get(5).ok_or_else(short)?;
    if precision != 8 {
        return Err(PictureError::Unsupported {
            format: "12-bit JPEG",
            hint: ": save it with 8 bits a colour",
        });
    }
    if !matches!(components, 1 | 3 | 4) {
        return Err(damaged("it has neither 1, 3 nor 4 colour components"));
    }
    let described = segment.get(6..6 + usize::from(components) * 3).ok_or_else(short)?;
    let has_ids_of_rgb = described.iter().step_by(3).eq(b"RGB");
    let factors =
        || described.chunks_exact(3).map(|c| (u64::from(c[1] >> 4), u64::from(c[1] & 15)));
    let h_max = factors().map(|f| f.0).max().unwrap_or(1).max(1);
    let v_max = factors().map(|f| f.1).max().unwrap_or(1).max(1);
    let samples = factors()
        .map(|(h, v)| {
            // Whole blocks: up to 15 more than the image's edge in either direction.
            (u64::from(width) + 16) * h / h_max * ((u64::from(height) + 16) * v / v_max)
        })
        .sum();
    let coding = if marker == 0xc2 { Coding::Progressive } else { Coding::Baseline };
    Ok(Frame { width, height, components, has_ids_of_rgb, coding, samples })
}

pub(super) fn damaged(detail: &str) -> PictureError {
    PictureError::Damaged { format: Format::Jpeg, detail: detail.into() }
}

fn cut_off(bytes: &[u8], scans: u32) -> PictureError {
    let detail = if scans == 0 {
        format!("it ends after {} bytes, before the image begins", bytes.len())
    } else {
        format!("it ends after {} bytes without an end marker", bytes.len())
    };
    PictureError::CutOff { format: Format::Jpeg, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_ends_before_the_image_says_so() {
        for bytes in [&b"\xff\xd8"[..], b"\xff\xd8\xff\xe0\0\x10JFIF", b"\xff\xd8\xff\xd9"] {
            let error = walk(bytes).unwrap_err().to_string();
            assert!(error.contains("cut off") || error.contains("no frame"), "{error}");
        }
    }
}
