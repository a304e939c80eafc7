//! PNG, GIF, BMP, TIFF and WebP, read by `image` within limits.
//!
//! JPEG never comes here. Only the first frame or page is read: a film of 20,000 frames is as
//! quick as a picture.
//! Invariant: what a decoder may allocate is bounded by what the header's size allows.

use std::io::{Cursor, ErrorKind};

use image::error::ImageError;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::review::picture::PictureError;
use crate::review::picture::header::{Format, Header, Orientation};
use crate::review::picture::pixels::{Layout, Pixels};

/// What reading a header may take: metadata chunks and tables, no pixels.
const HEADER_BYTES: u64 = 64 * 1024 * 1024;

fn kind(format: Format) -> ImageFormat {
    match format {
        // Never asked for: `jpeg.rs` and `heif.rs` read those.
        Format::Jpeg | Format::Heic => ImageFormat::Jpeg,
        Format::Png => ImageFormat::Png,
        Format::Gif => ImageFormat::Gif,
        Format::Bmp => ImageFormat::Bmp,
        Format::Tiff => ImageFormat::Tiff,
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

pub(super) fn header(bytes: &[u8], format: Format) -> Result<Header, PictureError> {
    let mut decoder = decoder(bytes, format, HEADER_BYTES)?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder
        .orientation()
        .map_or(Orientation::UPRIGHT, |o| Orientation::from_exif(u16::from(o.to_exif())));
    // Decoders hold what they unpack beside what they return (a frame and its canvas, planes and
    // pixels), and 16 bits become 8 in a second buffer.
    let decode_bytes = decoder.total_bytes().saturating_mul(2);
    Ok(Header {
        format,
        width,
        height,
        orientation,
        file_bytes: bytes.len() as u64,
        decode_bytes,
        jpeg: None,
    })
}

pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Pixels, PictureError> {
    let format = header.format;
    let mut decoder = decoder(bytes, format, header.decode_bytes + HEADER_BYTES)?;
    // A profile that can't be read is no reason to refuse the picture.
    let profile = decoder.icc_profile().unwrap_or(None);
    let gray = matches!(decoder.color_type(), ColorType::L8 | ColorType::L16);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| from_image(format, &error))?;
    let (width, height) = (image.width(), image.height());
    let (layout, data) = if gray {
        (Layout::Luma, image.into_luma8().into_raw())
    } else if image.color().has_alpha() {
        (Layout::Rgba, image.into_rgba8().into_raw())
    } else {
        (Layout::Rgb, image.into_rgb8().into_raw())
    };
    Ok(Pixels { width, height, layout, data, profile })
}

fn from_image(format: Format, error: &ImageError) -> PictureError {
    let mut text = error.to_string();
    let mut is_cut = false;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            is_cut |= io.kind() == ErrorKind::UnexpectedEof;
        }
        cause = current.source();
    }
    let lower = text.to_ascii_lowercase();
    is_cut |= ["unexpected end", "unexpected eof", "failed to fill", "not enough data"]
        .iter()
        .any(|words| lower.contains(words));
    text = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect();
    if is_cut {
        PictureError::CutOff { format, detail: text }
    } else {
        PictureError::Damaged { format, detail: text }
    }
}
