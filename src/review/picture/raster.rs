//! PNG, GIF, BMP and WebP, read by `image` within limits.
//!
//! JPEG and TIFF never come here. Only the first frame is read: a film of 20,000 frames is as
//! quick as a still image.
//! Invariant: what a decoder may allocate is bounded by what the header's size allows.

use std::borrow::Cow;
use std::io::{Cursor, ErrorKind};

use image::error::ImageError;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::review::picture::error::{PictureError, plain};
use crate::review::picture::format::{Format, Orientation, u32_le};
use crate::review::picture::pixels::{Color, Pixels};

/// What reading a header may take: metadata chunks and tables, no pixels.
const HEADER_BYTES: u64 = 64 * 1024 * 1024;

fn kind(format: Format) -> ImageFormat {
    match format {
        // Never asked for: `jpeg.rs`, `heif.rs` and `tiff.rs` read those.
        Format::Jpeg | Format::Heic | Format::Tiff => ImageFormat::Jpeg,
        Format::Png => ImageFormat::Png,
        Format::Gif => ImageFormat::Gif,
        Format::Bmp => ImageFormat::Bmp,
        Format::WebP => ImageFormat::WebP,
    }
}

fn decoder<'a>(
    bytes: &'a [u8],
    format: Format,
    max_alloc: u64,
) -> Result<impl ImageDecoder + 'a, PictureError> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(max_alloc);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind(format));
    reader.limits(limits);
    reader.into_decoder().map_err(|error| from_image(format, &error))
}

/// The file as the decoder takes it: a bitmap that claims more colours than its pixels can name is
/// refused by `image` and shown by browsers.
fn readable(bytes: &[u8], format: Format) -> Cow<'_, [u8]> {
    // Bits of a pixel and colours of the palette, in the header that all but the oldest have.
    let (bits, used) = (bytes.get(28).copied().unwrap_or(0), u32_le(bytes, 46).unwrap_or(0));
    let has_them = u32_le(bytes, 14).is_some_and(|size| size >= 40);
    if format != Format::Bmp || !has_them || !matches!(bits, 1..=8) || used <= 1 << bits {
        return Cow::Borrowed(bytes);
    }
    let mut fitting = bytes.to_vec();
    fitting[46..50].copy_from_slice(&(1_u32 << bits).to_le_bytes());
    Cow::Owned(fitting)
}

/// What a decoder says before it decodes.
pub(super) struct RasterHeader {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) orientation: Orientation,
    /// Bytes that decoding takes at its worst.
    pub(super) decode_bytes: u64,
}

pub(super) fn read_header(bytes: &[u8], format: Format) -> Result<RasterHeader, PictureError> {
    if format == Format::Png && bytes.get(12..16) == Some(b"CgBI") {
        let variant = "Apple's own PNG (CgBI), as iOS apps contain it".to_owned();
        return Err(PictureError::UnsupportedVariant { format, variant });
    }
    let bytes = readable(bytes, format);
    let mut decoder = decoder(&bytes, format, HEADER_BYTES)?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder
        .orientation()
        .map_or(Orientation::UPRIGHT, |o| Orientation::from_exif(u16::from(o.to_exif())));
    let decoded = decoder.total_bytes();
    // Decoders hold what they unpack beside what they return (a frame and its canvas, planes and
    // pixels); four bytes a pixel are made of it in a second buffer.
    let beside = decoded.max(u64::from(width) * u64::from(height) * 4);
    let decode_bytes = decoded.saturating_add(beside);
    Ok(RasterHeader { width, height, orientation, decode_bytes })
}

/// Decodes the whole image; `decode_bytes` is what [`read_header`] said.
pub(super) fn decode(
    bytes: &[u8],
    format: Format,
    decode_bytes: u64,
) -> Result<Pixels, PictureError> {
    let bytes = readable(bytes, format);
    let mut decoder = decoder(&bytes, format, decode_bytes.saturating_add(HEADER_BYTES))?;
    // A profile that can't be read is no reason to refuse the image.
    let profile = decoder.icc_profile().unwrap_or(None);
    let is_gray = matches!(
        decoder.color_type(),
        ColorType::L8 | ColorType::L16 | ColorType::La8 | ColorType::La16
    );
    let color = if is_gray { Color::Gray } else { Color::Rgb };
    let image = DynamicImage::from_decoder(decoder).map_err(|error| from_image(format, &error))?;
    let has_alpha = image.color().has_alpha();
    let (width, height) = (image.width(), image.height());
    let pixels = Pixels { width, height, color, data: image.into_rgba8().into_raw(), profile };
    Ok(if has_alpha { pixels.on_white() } else { pixels })
}

/// What a decoder's error means: unsupported, too large, cut off or damaged.
fn from_image(format: Format, error: &ImageError) -> PictureError {
    match error {
        ImageError::Limits(_) => return PictureError::TooMuchMemory { format },
        ImageError::Unsupported(_) => {
            return PictureError::UnsupportedVariant { format, variant: variant(error) };
        }
        ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_)
        | ImageError::IoError(_) => {}
    }
    let said = error.to_string();
    if ["too large", "limit"].iter().any(|words| said.contains(words)) {
        return PictureError::TooMuchMemory { format };
    }
    let detail = plain(&without_structures(&said));
    if UNSUPPORTED.iter().any(|words| detail.contains(words)) {
        let variant = without_prefix(&detail).to_owned();
        return PictureError::UnsupportedVariant { format, variant };
    }
    if ended_early(error) {
        PictureError::CutOff { format, detail: "its data ends too early".to_owned() }
    } else {
        PictureError::Damaged { format, detail: without_prefix(&detail).to_owned() }
    }
}

/// What decoders call an error of format though it is a feature that they lack.
const UNSUPPORTED: [&str; 3] =
    ["for top-down image", "Unknown image compression type", "Unrecognized critical chunk"];

/// `png` prints chunks as structures: `ChunkType { type: IDAT, critical: true, … }`.
fn without_structures(said: &str) -> String {
    let mut text = said.to_owned();
    while let Some(start) = text.find("ChunkType {") {
        let rest = &text[start..];
        let end = rest.find('}').map_or(text.len(), |end| start + end + 1);
        let name = rest.split_once("type: ").map_or("", |(_, rest)| rest);
        let name: String = name.chars().take_while(char::is_ascii_alphanumeric).collect();
        text.replace_range(start..end, &name);
    }
    text
}

/// `image` says "Format error decoding Png: …" before what matters.
fn without_prefix(detail: &str) -> &str {
    let after = detail.strip_prefix("Format error decoding ");
    after.and_then(|rest| rest.split_once(": ")).map_or(detail, |(_, rest)| rest)
}

/// What is not supported, in the decoder's words, without their introduction.
fn variant(error: &ImageError) -> String {
    let text = plain(&error.to_string());
    let words = ["does not support the format features ", "does not support the color type "];
    let rest = words.iter().find_map(|intro| text.split_once(intro)).map(|(_, rest)| rest);
    rest.unwrap_or(&text).to_owned()
}

fn ended_early(error: &ImageError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        let io = current.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = current.source();
    }
    let said = error.to_string().to_ascii_lowercase();
    ["unexpected end", "unexpected eof", "failed to fill", "not enough data"]
        .iter()
        .any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_named_and_not_printed_as_a_structure() {
        for (said, expected) in [
            (
                "Chunk ChunkType { type: tRNS, critical: false, safecopy: false } is invalid",
                "Chunk tRNS is invalid",
            ),
            ("ChunkType { type: IDAT", "IDAT"),
            ("ChunkType {}", ""),
            ("CRC error", "CRC error"),
        ] {
            assert_eq!(without_structures(said), expected);
        }
    }

    #[test]
    fn a_bitmaps_palette_is_no_longer_than_its_pixels_can_name() {
        let mut file = vec![0; 60];
        (file[14], file[28]) = (40, 8);
        file[46..48].copy_from_slice(&300_u16.to_le_bytes());
        assert_eq!(u32_le(&readable(&file, Format::Bmp), 46), Some(256));
        assert_eq!(u32_le(&readable(&file, Format::Png), 46), Some(300));
        file[28] = 24;
        assert_eq!(u32_le(&readable(&file, Format::Bmp), 46), Some(300));
    }
}
