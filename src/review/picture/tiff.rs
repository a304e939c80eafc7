//! TIFF, read through the `tiff` crate: first page, 8-bit pixels out.
//!
//! `image` reads a part of what the crate can, gives no profile and calls what it does not know
//! damaged. Here also come palettes, grey with opacity, JPEG inside TIFF and bits in reverse order.
//! What is refused is named in words that a person can look for in another program.
//! Invariant: every chunk of a JPEG inside TIFF is whole; what a header claims allocates nothing
//! beyond the limits.

use std::borrow::Cow;
use std::io::{Cursor, ErrorKind};
use std::num::NonZero;
use std::ops::Range;

use tiff::TiffError;
use tiff::decoder::{BufferLayoutPreference, Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use crate::review::picture::error::{PictureError, plain};
use crate::review::picture::format::{Format, Orientation};
use crate::review::picture::jpeg;
use crate::review::picture::pixels::{Color, Pixels};

/// `Compression`: the samples as they are.
const NONE: u16 = 1;
/// `Compression`: a JPEG in each chunk.
const JPEG_INSIDE: u16 = 7;

// `PhotometricInterpretation` (TIFF 6.0).
const WHITE_IS_ZERO: u16 = 0;
const BLACK_IS_ZERO: u16 = 1;
const RGB: u16 = 2;
const PALETTE: u16 = 3;
const CMYK: u16 = 5;
const YCBCR: u16 = 6;

/// Tables and metadata; no pixels.
const TABLE_BYTES: usize = 64 * 1024 * 1024;
/// `FillOrder`: 2 stores the first pixel in the lowest bit.
const REVERSED: u16 = 2;
/// `PlanarConfiguration`: each colour in chunks of its own.
const PLANAR: u16 = 2;
/// `ExtraSamples`: colours are already multiplied with opacity.
const ASSOCIATED: u16 = 1;
/// `ExtraSamples`: opacity beside colours that stand as they are.
const UNASSOCIATED: u16 = 2;

type Reader<'a> = Decoder<Cursor<Cow<'a, [u8]>>>;

/// What the tags of the first page say.
struct Page {
    width: u32,
    height: u32,
    orientation: Orientation,
    photometric: u16,
    compression: u16,
    bits: u8,
    samples: u16,
    /// The first of `ExtraSamples`.
    extra: Option<u16>,
    reversed: bool,
    planar: bool,
    tiled: bool,
}

/// What is known before anything is decoded.
pub(super) struct TiffHeader {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) orientation: Orientation,
    /// Bytes that decoding takes at its worst.
    pub(super) decode_bytes: u64,
}

pub(super) fn read_header(bytes: &[u8]) -> Result<TiffHeader, PictureError> {
    let mut reader = reader(Cow::Borrowed(bytes), TABLE_BYTES)?;
    let page = read_page(&mut reader)?;
    page.check_supported()?;
    let pixels = u64::from(page.width) * u64::from(page.height);
    let stored = pixels * u64::from(page.samples) * u64::from(page.bits.div_ceil(8));
    // What the decoder returns, a chunk that it unpacks (at worst the whole page), four bytes a
    // pixel made of it; and a copy of the file where that must be changed first.
    let copy = if page.is_changed_first() { bytes.len() as u64 } else { 0 };
    let decode_bytes = stored.saturating_mul(2).saturating_add(pixels * 4 + copy);
    let Page { width, height, orientation, .. } = page;
    Ok(TiffHeader { width, height, orientation, decode_bytes })
}

pub(super) fn decode(bytes: &[u8], decode_bytes: u64) -> Result<Pixels, PictureError> {
    let limit = usize::try_from(decode_bytes).unwrap_or(usize::MAX).saturating_add(TABLE_BYTES);
    let mut first = reader(Cow::Borrowed(bytes), limit)?;
    let page = read_page(&mut first)?;
    page.check_supported()?;
    if page.compression == JPEG_INSIDE {
        for chunk in chunks(&mut first)? {
            let whole = bytes.get(chunk).ok_or_else(cut_off)?;
            jpeg::walk(whole).map_err(|error| damaged(&format!("inside it, {error}")))?;
        }
    }
    // A profile that can't be read is no reason to refuse the image, and one of inks does not
    // describe the RGB that is made of them.
    let profile = first.find_tag(Tag::IccProfile).ok().flatten();
    let profile = profile.and_then(|value| value.into_u8_vec().ok());
    let profile = profile.filter(|_| page.photometric != CMYK);
    let palette = if page.photometric == PALETTE {
        Some(Palette::read(&mut first, page.bits)?)
    } else {
        None
    };
    let mut reader = if page.is_changed_first() {
        let mut copy = bytes.to_vec();
        if page.is_reversed() {
            for chunk in chunks(&mut first)? {
                let chunk = copy.get_mut(chunk).ok_or_else(cut_off)?;
                chunk.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
            }
        }
        if palette.is_some() {
            // To the decoder the indexes are shades of grey.
            set_photometric(&mut copy, BLACK_IS_ZERO).ok_or_else(cut_off)?;
        }
        self::reader(Cow::Owned(copy), limit)?
    } else {
        first
    };
    let mut values = DecodingResult::U8(Vec::new());
    let layout = reader.read_image_to_buffer(&mut values).map_err(from_tiff)?;
    if values.as_buffer(0).as_bytes().len() < layout.complete_len {
        return Err(PictureError::TooMuchMemory { format: Format::Tiff });
    }
    if page.compression == NONE && page.bits >= 8 {
        // The decoder reads on behind a strip that is too short: into the next one, or the directory.
        let there: usize = chunks(&mut reader)?.iter().map(ExactSizeIterator::len).sum();
        if there < layout.complete_len {
            return Err(cut_off());
        }
    }
    let samples = Samples::new(values, &page, &layout)?;
    Ok(page.pixels(&samples, palette.as_ref(), profile))
}

fn reader(bytes: Cow<'_, [u8]>, limit: usize) -> Result<Reader<'_>, PictureError> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = limit;
    limits.intermediate_buffer_size = limit;
    limits.ifd_value_size = TABLE_BYTES;
    Ok(Decoder::new(Cursor::new(bytes)).map_err(from_tiff)?.with_limits(limits))
}

fn read_page(reader: &mut Reader<'_>) -> Result<Page, PictureError> {
    let (width, height) = reader.dimensions().map_err(from_tiff)?;
    let mut number = |tag: Tag, absent: u16| -> Result<u16, PictureError> {
        let values = reader.find_tag_unsigned_vec::<u16>(tag).map_err(from_tiff)?;
        Ok(values.and_then(|values| values.first().copied()).unwrap_or(absent))
    };
    let page = Page {
        width,
        height,
        orientation: Orientation::from_exif(number(Tag::Orientation, 1)?),
        photometric: number(Tag::PhotometricInterpretation, BLACK_IS_ZERO)?,
        compression: number(Tag::Compression, 1)?,
        bits: u8::try_from(number(Tag::BitsPerSample, 1)?).unwrap_or(u8::MAX),
        samples: number(Tag::SamplesPerPixel, 1)?,
        extra: Some(number(Tag::ExtraSamples, u16::MAX)?).filter(|extra| *extra != u16::MAX),
        reversed: number(Tag::FillOrder, 1)? == REVERSED,
        planar: number(Tag::PlanarConfiguration, 1)? == PLANAR,
        tiled: reader.find_tag(Tag::TileOffsets).map_err(from_tiff)?.is_some(),
    };
    Ok(page)
}

/// Where the chunks (strips or tiles) stand in the file.
fn chunks(reader: &mut Reader<'_>) -> Result<Vec<Range<usize>>, PictureError> {
    let mut list = |tags: [Tag; 2]| -> Result<Vec<usize>, PictureError> {
        for tag in tags {
            if let Some(values) = reader.find_tag_unsigned_vec::<u64>(tag).map_err(from_tiff)? {
                return Ok(values
                    .iter()
                    .map(|v| usize::try_from(*v).unwrap_or(usize::MAX))
                    .collect());
            }
        }
        Ok(Vec::new())
    };
    let starts = list([Tag::StripOffsets, Tag::TileOffsets])?;
    let lengths = list([Tag::StripByteCounts, Tag::TileByteCounts])?;
    Ok(starts.iter().zip(lengths).map(|(start, n)| *start..start.saturating_add(n)).collect())
}

/// Writes the value of `PhotometricInterpretation` in the first directory, in classic and in
/// BigTIFF (8 and 12 bytes into an entry of 12 and 20).
fn set_photometric(file: &mut [u8], value: u16) -> Option<()> {
    let big_endian = file.starts_with(b"MM");
    let number = |file: &[u8], at: usize, n: usize| -> Option<usize> {
        let bytes = file.get(at..at.checked_add(n)?)?;
        let push = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
        let value =
            if big_endian { bytes.iter().fold(0, push) } else { bytes.iter().rev().fold(0, push) };
        usize::try_from(value).ok()
    };
    let is_big = number(file, 2, 2)? == 43;
    let (directory, n_entries, first, size, at_value) = if is_big {
        let directory = number(file, 8, 8)?;
        (directory, number(file, directory, 8)?, 8, 20, 12)
    } else {
        let directory = number(file, 4, 4)?;
        (directory, number(file, directory, 2)?, 2, 12, 8)
    };
    let entries = directory.checked_add(first)?;
    let tag = usize::from(Tag::PhotometricInterpretation.to_u16());
    for i in 0..n_entries {
        let entry = entries.checked_add(i.checked_mul(size)?)?;
        if number(file, entry, 2)? == tag {
            let bytes = if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
            file.get_mut(entry + at_value..entry + at_value + 2)?.copy_from_slice(&bytes);
            return Some(());
        }
    }
    None
}

/// The colours of the indexes, 8 bits each.
struct Palette(Vec<[u8; 3]>);

impl Palette {
    fn read(reader: &mut Reader<'_>, bits: u8) -> Result<Self, PictureError> {
        let map = reader.find_tag_unsigned_vec::<u16>(Tag::ColorMap).map_err(from_tiff)?;
        let map = map.ok_or_else(|| damaged("it has no palette"))?;
        let n = 1_usize << bits.min(16);
        if map.len() < n * 3 {
            return Err(damaged("its palette is too short"));
        }
        // All reds, all greens, all blues, 16 bits each. Old programs wrote 8 bits into them.
        let is_eight_bit = map.iter().all(|value| *value < 256);
        let value = |at: usize| if is_eight_bit { low_byte(map[at]) } else { high_byte(map[at]) };
        Ok(Self((0..n).map(|i| [value(i), value(n + i), value(2 * n + i)]).collect()))
    }

    fn color(&self, index: u8) -> [u8; 3] {
        self.0.get(usize::from(index)).copied().unwrap_or_default()
    }
}

fn low_byte(value: u16) -> u8 {
    value.to_be_bytes()[1]
}

fn high_byte(value: u16) -> u8 {
    value.to_be_bytes()[0]
}

impl Page {
    fn is_changed_first(&self) -> bool {
        self.photometric == PALETTE || self.is_reversed()
    }

    /// A JPEG has an order of bits of its own.
    fn is_reversed(&self) -> bool {
        self.reversed && self.compression != JPEG_INSIDE
    }

    /// Refuses by name what the decoder can't read, or would panic on.
    fn check_supported(&self) -> Result<(), PictureError> {
        let (bits, samples) = (self.bits, self.samples);
        let no = |what: &str| Err(unsupported(what));
        match self.compression {
            // None, LZW, Deflate in two numbers, PackBits, Group 4 fax.
            1 | 4 | 5 | JPEG_INSIDE | 8 | 32_773 | 32_946 => {}
            2 | 3 | 32_771 => return no("Group 3 fax compression"),
            6 => return no("old-style JPEG compression"),
            34_925 => return no("LZMA compression"),
            50_000 => return no("Zstandard compression"),
            50_001 => return no("WebP compression"),
            other => return no(&format!("compression number {other}")),
        }
        match self.photometric {
            WHITE_IS_ZERO | BLACK_IS_ZERO | RGB | CMYK | YCBCR => {}
            PALETTE if samples == 1 && bits <= 8 => {}
            PALETTE => return no("a palette with opacity or of more than 8 bits"),
            4 => return no("a transparency mask"),
            8..=10 => return no("CIELab colours"),
            other => return no(&format!("colour system number {other}")),
        }
        match bits {
            8 | 16 | 32 => {}
            1 | 2 | 4 if samples == 1 => {}
            _ => return no(&format!("{bits} bits a sample")),
        }
        if self.photometric == YCBCR && bits != 8 {
            return no("YCbCr of more than 8 bits");
        }
        if self.planar && samples > 1 && self.tiled {
            return no("tiles of one colour each");
        }
        Ok(())
    }

    /// Which channel is opacity.
    fn alpha(&self) -> Option<usize> {
        let is_marked = matches!(self.extra, Some(ASSOCIATED | UNASSOCIATED));
        match (self.photometric, self.samples) {
            (WHITE_IS_ZERO | BLACK_IS_ZERO, 2..) if is_marked => Some(1),
            (RGB, 4..) if is_marked => Some(3),
            // Without a word about it, as other readers take it.
            (RGB, 4) if self.extra.is_none() => Some(3),
            _ => None,
        }
    }

    fn pixels(
        &self,
        samples: &Samples,
        palette: Option<&Palette>,
        profile: Option<Vec<u8>>,
    ) -> Pixels {
        let (width, height) = (self.width as usize, self.height as usize);
        let alpha = self.alpha();
        let mut data = Vec::with_capacity(width * height * 4);
        for y in 0..height {
            for x in 0..width {
                let value = |channel| samples.value(x, y, channel);
                let [r, g, b] = match (palette, self.photometric) {
                    (Some(palette), _) => palette.color(samples.stored(x, y)),
                    (None, RGB) => [value(0), value(1), value(2)],
                    (None, CMYK) => from_inks([value(0), value(1), value(2), value(3)]),
                    (None, YCBCR) => from_ycbcr([value(0), value(1), value(2)]),
                    (None, _) => [value(0); 3],
                };
                data.extend([r, g, b, alpha.map_or(u8::MAX, value)]);
            }
        }
        let is_gray = matches!(self.photometric, WHITE_IS_ZERO | BLACK_IS_ZERO);
        let color = if is_gray { Color::Gray } else { Color::Rgb };
        let pixels = Pixels { width: self.width, height: self.height, color, data, profile };
        match alpha {
            Some(_) if self.extra == Some(ASSOCIATED) => pixels.multiplied_on_white(),
            Some(_) => pixels.on_white(),
            None => pixels,
        }
    }
}

fn from_inks([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let paper = |ink: u8| u32::from(u8::MAX - ink);
    [c, m, y].map(|ink| u8::try_from(paper(ink) * paper(k) / 255).unwrap_or(u8::MAX))
}

/// As JFIF has it, in whole numbers of 65,536 parts.
fn from_ycbcr([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y) << 16, i32::from(cb) - 128, i32::from(cr) - 128);
    let r = y + 91_881 * cr;
    let g = y - 22_554 * cb - 46_802 * cr;
    let b = y + 116_130 * cb;
    [r, g, b].map(|v| u8::try_from(((v + 32_768) >> 16).clamp(0, 255)).unwrap_or(u8::MAX))
}

/// The samples of the page in 8 bits, however they are stored.
struct Samples {
    values: Vec<u8>,
    width: usize,
    /// Fewer than 8: packed, each row beginning with a byte.
    bits: u8,
    row_bytes: usize,
    /// Samples of one pixel that stand side by side.
    per_pixel: usize,
    /// Samples from one colour of a pixel to its next.
    channel: usize,
}

impl Samples {
    fn new(
        values: DecodingResult,
        page: &Page,
        layout: &BufferLayoutPreference,
    ) -> Result<Self, PictureError> {
        let values = match values {
            DecodingResult::U8(values) => values,
            DecodingResult::U16(values) => values.iter().map(|v| high_byte(*v)).collect(),
            DecodingResult::U32(values) => values.iter().map(|v| v.to_be_bytes()[0]).collect(),
            // `as` saturates; what is no number is black.
            DecodingResult::F32(values) => {
                values.iter().map(|v| (v * 255.0).round() as u8).collect()
            }
            DecodingResult::U64(_)
            | DecodingResult::F16(_)
            | DecodingResult::F64(_)
            | DecodingResult::I8(_)
            | DecodingResult::I16(_)
            | DecodingResult::I32(_)
            | DecodingResult::I64(_) => return Err(unsupported("signed or very deep samples")),
        };
        let (width, bytes) = (page.width as usize, usize::from(page.bits.div_ceil(8)));
        let row_bytes = layout.row_stride.map_or(0, NonZero::get);
        let per_pixel = if page.bits < 8 { 1 } else { row_bytes / bytes / width.max(1) };
        let plane = layout.plane_stride.map_or(0, |stride| stride.get() / bytes);
        let channel = if layout.planes > 1 { plane } else { 1 };
        Ok(Self { values, width, bits: page.bits, row_bytes, per_pixel, channel })
    }

    /// The only sample of a pixel as it is stored.
    fn stored(&self, x: usize, y: usize) -> u8 {
        if self.bits >= 8 {
            return self.value(x, y, 0);
        }
        let bit = x * usize::from(self.bits);
        let byte = self.values.get(y * self.row_bytes + bit / 8).copied().unwrap_or_default();
        (byte << (bit % 8)) >> (8 - self.bits)
    }

    /// One channel of a pixel as a shade.
    fn value(&self, x: usize, y: usize, channel: usize) -> u8 {
        if self.bits < 8 {
            let largest = u8::MAX >> (8 - self.bits);
            return self.stored(x, y) * (u8::MAX / largest);
        }
        let at = (y * self.width + x) * self.per_pixel + channel * self.channel;
        self.values.get(at).copied().unwrap_or_default()
    }
}

fn unsupported(variant: &str) -> PictureError {
    PictureError::UnsupportedVariant { format: Format::Tiff, variant: variant.to_owned() }
}

fn damaged(detail: &str) -> PictureError {
    PictureError::Damaged { format: Format::Tiff, detail: detail.to_owned() }
}

fn cut_off() -> PictureError {
    let detail = "its data ends too early".to_owned();
    PictureError::CutOff { format: Format::Tiff, detail }
}

fn from_tiff(error: TiffError) -> PictureError {
    match error {
        TiffError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => cut_off(),
        TiffError::IoError(io) => damaged(&plain(&io.to_string())),
        TiffError::UnsupportedError(what) => unsupported(&plain(&what.to_string())),
        TiffError::LimitsExceeded => PictureError::TooMuchMemory { format: Format::Tiff },
        TiffError::FormatError(what) => damaged(&plain(&what.to_string())),
        TiffError::IntSizeError => damaged("it claims sizes that no file has"),
        TiffError::UsageError(what) => damaged(&plain(&what.to_string())),
    }
}
