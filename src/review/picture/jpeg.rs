//! JPEG: our own walk over the markers, then zune-jpeg in strict mode.
//!
//! `image`'s JPEG path is not used: it has zune's lax mode built in and takes a picture that was
//! cut in half. The walk also looks for the end marker, which strict mode does not miss.
//! Invariant: what `decode` returns was there from the first to the last block.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::review::picture::PictureError;
use crate::review::picture::header::{Format, Header, Orientation, u16_be, u32_be};
use crate::review::picture::pixels::{Layout, Pixels};
use crate::review::picture::workbench::{Workbench, zeroed};

/// Real progressive files have about ten; a file with a thousand costs a minute of processor.
const MAX_SCANS: u32 = 100;

/// A file with more bytes than pixels (above 8 bits each) is smaller when encoded anew.
const GENEROUS_BYTES: u64 = 64 * 1024;

/// Pixels of a picture that is decoded into four bytes a pixel, which is quicker; for a large one a
/// third more memory is a higher price.
const SMALL: u64 = 2_500_000;

/// Zeros after the picture's data; less than one block of a picture can be made from them.
const READ_AHEAD: usize = 16;

/// What the walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::review) struct JpegHeader {
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) orientation: Orientation,
    components: u8,
    coding: Coding,
    scans: u32,
    /// All samples of all components, subsampling considered.
    samples: u64,
    /// Four components with Adobe's marker are stored inverted, as all programs do; without it
    /// they are not.
    adobe: Adobe,
    /// EXIF, XMP, IPTC and comments: where and when a picture was taken is nobody's business.
    metadata: Vec<Range<usize>>,
    /// Where the data of the first scan ends.
    first_scan_end: usize,
    /// Just after the end marker.
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Baseline,
    Progressive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adobe {
    Marked,
    Unmarked,
}

impl JpegHeader {
    /// Decoded pixels, and the coefficients where the decoder holds them all.
    pub(super) fn decode_bytes(&self) -> u64 {
        // A single scan is copied, to be padded.
        let copy = self.first_scan_end as u64;
        let holds_all =
            self.coding == Coding::Progressive || self.scans > 1 || self.components == 4;
        self.pixels() * self.decodes_to().1.channels() as u64
            + if holds_all { self.samples * 2 } else { copy }
    }

    fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    fn decodes_to(&self) -> (ColorSpace, Layout) {
        match self.components {
            1 => (ColorSpace::Luma, Layout::Luma),
            3 if self.pixels() <= SMALL => (ColorSpace::RGBA, Layout::Rgbx),
            // CMYK comes out wrong in four bytes (zune-jpeg 0.5.15).
            _ => (ColorSpace::RGB, Layout::Rgb),
        }
    }

    /// Whether decoding it would only be repeated by encoding it again.
    pub(super) fn may_be_sent_as_it_is(&self, header: &Header, longest_edge: u32) -> bool {
        header.width.max(header.height) <= longest_edge
            && self.orientation == Orientation::UPRIGHT
            && self.coding == Coding::Baseline
            && matches!(self.components, 1 | 3)
            && header.file_bytes
                <= u64::from(header.width) * u64::from(header.height) + GENEROUS_BYTES
    }
}

/// The file without metadata and without what follows its end.
pub(super) fn without_metadata(bytes: &Bytes, header: &JpegHeader) -> Bytes {
    if header.metadata.is_empty() {
        return bytes.slice(..header.end);
    }
    let mut kept = BytesMut::with_capacity(header.end);
    let mut from = 0;
    for range in &header.metadata {
        kept.extend_from_slice(&bytes[from..range.start]);
        from = range.end;
    }
    kept.extend_from_slice(&bytes[from..header.end]);
    kept.freeze()
}

struct Frame {
    width: u16,
    height: u16,
    components: u8,
    coding: Coding,
    samples: u64,
}

/// Walks over all markers up to the end of the picture.
pub(super) fn walk(bytes: &[u8]) -> Result<JpegHeader, PictureError> {
    let mut at = 2;
    let mut frame: Option<Frame> = None;
    let mut orientation = Orientation::UPRIGHT;
    let mut adobe = Adobe::Unmarked;
    let mut metadata = Vec::new();
    let mut scans = Scans::default();
    loop {
        let start = at;
        let marker = next_marker(bytes, &mut at, scans.n)?;
        match marker {
            0xd9 => break,
            // Markers without a segment.
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let length = usize::from(u16_be(bytes, at).ok_or_else(|| cut_off(bytes, scans.n))?);
        let segment = bytes.get(at + 2..at + length).ok_or_else(|| {
            if length < 2 { damaged("a segment has no length") } else { cut_off(bytes, scans.n) }
        })?;
        at += length;
        match marker {
            0xc0..=0xc2 if frame.is_some() => return Err(damaged("it has two frames")),
            0xc0..=0xc2 => frame = Some(read_frame(marker, segment)?),
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Err(PictureError::Unsupported {
                    format: "lossless and arithmetic JPEG",
                    hint: ": save it as an ordinary JPEG",
                });
            }
            0xe1 => {
                if let Some(tiff) = segment.strip_prefix(b"Exif\0\0") {
                    orientation = exif_orientation(tiff).unwrap_or(orientation);
                }
                metadata.push(start..at);
            }
            0xed | 0xfe => metadata.push(start..at),
            0xee if segment.starts_with(b"Adobe") => adobe = Adobe::Marked,
            0xda => {
                at = end_of_scan(bytes, at).ok_or_else(|| cut_off(bytes, scans.n + 1))?;
                scans.add(segment, at)?;
            }
            _ => {}
        }
    }
    let Some(Frame { width, height, components, coding, samples }) = frame else {
        return Err(damaged("it has no frame"));
    };
    scans.check(components, coding)?;
    Ok(JpegHeader {
        width,
        height,
        orientation,
        components,
        coding,
        scans: scans.n,
        samples,
        adobe,
        metadata,
        first_scan_end: scans.first_end,
        end: at,
    })
}

/// The scans met so far.
#[derive(Default)]
struct Scans {
    n: u32,
    first_end: usize,
    components_of_first: usize,
    /// Ids of components whose coarse picture has come in full precision.
    complete: Vec<u8>,
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
            self.complete.extend(selectors.chunks_exact(2).map(|selector| selector[0]));
        }
        Ok(())
    }

    /// A file that was cut off and closed with an end marker lacks scans.
    fn check(&mut self, components: u8, coding: Coding) -> Result<(), PictureError> {
        self.complete.sort_unstable();
        self.complete.dedup();
        if self.complete.len() < usize::from(components) {
            let detail = "not all of its colours are there".to_owned();
            return Err(PictureError::CutOff { format: Format::Jpeg, detail });
        }
        let one_scan_has_all = self.components_of_first == usize::from(components);
        if coding == Coding::Baseline && one_scan_has_all && self.n > 1 {
            return Err(damaged("it holds more than one picture in one frame"));
        }
        Ok(())
    }
}

/// The next marker's code; `at` is moved behind it.
fn next_marker(bytes: &[u8], at: &mut usize, scans: u32) -> Result<u8, PictureError> {
    match bytes.get(*at) {
        Some(0xff) => {}
        Some(_) => return Err(damaged("there is something between its segments")),
        None => return Err(cut_off(bytes, scans)),
    }
    // Any number of fill bytes may stand before the code.
    while bytes.get(*at) == Some(&0xff) {
        *at += 1;
    }
    let marker = *bytes.get(*at).ok_or_else(|| cut_off(bytes, scans))?;
    *at += 1;
    Ok(marker)
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
    let factors = segment.get(6..6 + usize::from(components) * 3).ok_or_else(short)?;
    let factors = || factors.chunks_exact(3).map(|c| (u64::from(c[1] >> 4), u64::from(c[1] & 15)));
    let h_max = factors().map(|f| f.0).max().unwrap_or(1).max(1);
    let v_max = factors().map(|f| f.1).max().unwrap_or(1).max(1);
    let samples = factors()
        .map(|(h, v)| {
            // Whole blocks: up to 15 more than the picture's edge in either direction.
            (u64::from(width) + 16) * h / h_max * ((u64::from(height) + 16) * v / v_max)
        })
        .sum();
    let coding = if marker == 0xc2 { Coding::Progressive } else { Coding::Baseline };
    Ok(Frame { width, height, components, coding, samples })
}

/// Tag 0x0112 of the first directory.
fn exif_orientation(tiff: &[u8]) -> Option<Orientation> {
    let big_endian = match tiff.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let short = |at: usize| {
        u16_be(tiff, at).map(|value| if big_endian { value } else { value.swap_bytes() })
    };
    let directory = u32_be(tiff, 4).map(|v| if big_endian { v } else { v.swap_bytes() })? as usize;
    let entries = usize::from(short(directory)?);
    (0..entries)
        .map(|i| directory + 2 + i * 12)
        .find(|at| short(*at) == Some(0x0112))
        .and_then(|at| short(at + 8))
        .map(Orientation::from_exif)
}

/// Decodes the whole picture or fails.
pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    jpeg: &JpegHeader,
    bench: &mut Workbench,
) -> Result<Pixels, PictureError> {
    let (out, layout) = jpeg.decodes_to();
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(jpeg.width))
        .set_max_height(usize::from(jpeg.height))
        .jpeg_set_max_scans(MAX_SCANS as usize)
        .jpeg_set_out_colorspace(out);
    let padded;
    let source = if jpeg.coding == Coding::Baseline && jpeg.scans == 1 {
        // At an end marker the decoder makes up the rest of the picture, wherever the marker
        // stands; without one it fails if the data ends too early. It reads ahead by up to 8
        // bytes, and must not take that for an early end.
        padded = [&bytes[..jpeg.first_scan_end], &[0; READ_AHEAD]].concat();
        &padded[..]
    } else {
        // What follows the end marker is not the decoder's to see.
        &bytes[..jpeg.end]
    };
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(source), options);
    decoder.decode_headers().map_err(from_zune)?;
    let expected = header.width as usize * header.height as usize * layout.channels();
    if decoder.output_buffer_size() != Some(expected) {
        return Err(damaged("its pixels are not what its header says"));
    }
    let mut data = zeroed(&mut bench.decoded, expected);
    decoder.decode_into(&mut data).map_err(from_zune)?;
    if jpeg.components == 4 && jpeg.adobe == Adobe::Unmarked {
        // zune multiplies as if inverted; without Adobe's marker the picture comes out negative.
        data.iter_mut().for_each(|value| *value = 255 - *value);
    }
    // A CMYK profile does not describe the RGB that we made.
    let profile = if jpeg.components == 4 { None } else { decoder.icc_profile() };
    Ok(Pixels { width: header.width, height: header.height, layout, data, profile })
}

fn damaged(detail: &str) -> PictureError {
    PictureError::Damaged { format: Format::Jpeg, detail: detail.into() }
}

fn cut_off(bytes: &[u8], scans: u32) -> PictureError {
    let detail = if scans == 0 {
        format!("it ends after {} bytes, before the picture begins", bytes.len())
    } else {
        format!("it ends after {} bytes without an end marker", bytes.len())
    };
    PictureError::CutOff { format: Format::Jpeg, detail }
}

fn from_zune(error: DecodeErrors) -> PictureError {
    let text = if matches!(error, DecodeErrors::ExhaustedData) {
        "its data ends too early".into()
    } else {
        error.to_string()
    };
    let short: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    PictureError::Damaged { format: Format::Jpeg, detail: short.chars().take(200).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orientation_is_read_in_both_byte_orders() {
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0";
        assert_eq!(exif_orientation(big), Some(Orientation::from_exif(6)));
        assert_eq!(exif_orientation(little), Some(Orientation::from_exif(8)));
        assert_eq!(exif_orientation(b"MM\0*\xff\xff\xff\xff"), None);
    }

    #[test]
    fn a_file_that_ends_before_the_picture_says_so() {
        for bytes in [&b"\xff\xd8"[..], b"\xff\xd8\xff\xe0\0\x10JFIF", b"\xff\xd8\xff\xd9"] {
            let error = walk(bytes).unwrap_err().to_string();
            assert!(error.contains("cut off") || error.contains("no frame"), "{error}");
        }
    }
}
