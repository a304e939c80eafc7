//! What a file is, by its content, and how large its image is, before anything is decoded.
//!
//! The walk over a JPEG is in `jpeg/walk.rs`, over a HEIC in `heif.rs`, over a WebP in `webp.rs`.
//! Invariant: reading a header allocates next to nothing, whatever the file claims.

use crate::review::picture::error::PictureError;
use crate::review::picture::format::{Format, Orientation, u32_le};
use crate::review::picture::jpeg::{self, JpegHeader};
use crate::review::picture::{heif, raster, tiff, webp};

/// What is known of an image before it is decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Kind, by content.
    pub format: Format,
    /// Pixels as stored; 0 for HEIC.
    pub width: u32,
    /// Pixels as stored; 0 for HEIC.
    pub height: u32,
    /// How to turn it.
    pub orientation: Orientation,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes that decoding takes at its worst.
    pub decode_bytes: u64,
    /// More about a JPEG.
    pub(super) jpeg: Option<JpegHeader>,
    /// Where a HEIC's container ends; behind it may stand what a maker has added.
    pub(super) container_end: usize,
}

/// Which kind of file this is.
///
/// # Errors
/// When it is none that can be prepared, with what it is instead.
pub fn sniff(bytes: &[u8]) -> Result<Format, PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    if let Some(format) = known(bytes) {
        return Ok(format);
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return heif::sniff(bytes);
    }
    if is_png_after_text_transfer(bytes) {
        return Err(PictureError::Damaged {
            format: Format::Png,
            detail: "it was transferred as text, which changes line ends and high bytes: \
                     transfer it in binary mode"
                .to_owned(),
        });
    }
    for (magic, format, hint) in UNSUPPORTED {
        if bytes.starts_with(magic) {
            return Err(PictureError::Unsupported { format, hint });
        }
    }
    Err(PictureError::NotAPicture { what: describe_text(bytes) })
}

/// TIFF and BigTIFF (a `+` in place of the `*`), in both byte orders.
const TIFF: [&[u8]; 4] = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"];

/// Formats that people do put into buckets, and what to do about them.
const UNSUPPORTED: [(&[u8], &str, &str); 8] = [
    (b"\xff\x0a", "JPEG XL", ": convert it to JPEG"),
    (b"\0\0\0\x0cJXL ", "JPEG XL", ": convert it to JPEG"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000", ": convert it to JPEG"),
    (b"8BPS", "Photoshop", ": export it as JPEG"),
    (b"\0\0\x01\0", "icon", ""),
    (b"<svg", "SVG", ": render it to JPEG"),
    (b"%PDF-", "PDF", ": export its pages as JPEG"),
    (b"PK\x03\x04", "zipped", ": unpack the archive"),
];

fn known(bytes: &[u8]) -> Option<Format> {
    if bytes.starts_with(b"\xff\xd8\xff") || bytes == b"\xff\xd8" {
        Some(Format::Jpeg)
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(Format::Png)
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Some(Format::Gif)
    } else if TIFF.iter().any(|magic| bytes.starts_with(magic)) {
        Some(Format::Tiff)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some(Format::WebP)
    } else if is_bmp(bytes) {
        Some(Format::Bmp)
    } else {
        None
    }
}

/// The first bytes of a PNG are made to show this (PNG specification, 5.2): a carriage return that is
/// gone or doubled, a high bit that was cleared.
fn is_png_after_text_transfer(bytes: &[u8]) -> bool {
    let head = bytes.get(..bytes.len().min(16)).unwrap_or(bytes);
    matches!(head.first(), Some(0x89 | 0x09)) && head.get(1..4) == Some(b"PNG")
        || head.starts_with(b"\xc2\x89PNG")
        || head.starts_with(b"\xef\xbf\xbdPNG")
}

/// `BM` alone also begins many a text; the size of the second header tells.
fn is_bmp(bytes: &[u8]) -> bool {
    bytes.starts_with(b"BM")
        && u32_le(bytes, 14)
            .is_some_and(|size| matches!(size, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
}

/// What people want to know about a file that is no image: most often it is an error page that
/// a server sent instead.
fn describe_text(bytes: &[u8]) -> String {
    // The beginning says what it is; the rest may be megabytes.
    let head = String::from_utf8_lossy(bytes.get(..2048).unwrap_or(bytes));
    let text = head.trim_start_matches('\u{feff}').trim_start();
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return match tagged(text, &lower, "title") {
            Some(title) => format!("an HTML page titled \"{title}\""),
            None => "an HTML page".into(),
        };
    }
    if lower.starts_with("<?xml") || lower.starts_with("<error") {
        return match tagged(text, &lower, "code") {
            Some(code) => format!("an XML error message ({code})"),
            None => "an XML document".into(),
        };
    }
    if text.starts_with('{') || text.starts_with('[') {
        return "a JSON text".into();
    }
    let is_text = !text.is_empty()
        && text.chars().all(|c| !c.is_control() || c.is_whitespace())
        && !text.contains(char::REPLACEMENT_CHARACTER);
    if is_text { "plain text".into() } else { "a file of an unknown kind".into() }
}

/// The content of the first `<tag>…</tag>`, on one line and not longer than a title is.
fn tagged(text: &str, lower: &str, tag: &str) -> Option<String> {
    let open = format!("<{tag}>");
    let from = lower.find(&open)? + open.len();
    let to = from + lower.get(from..)?.find("</")?;
    let words: Vec<&str> = text.get(from..to)?.split_whitespace().collect();
    let short: String = words.join(" ").chars().take(80).collect();
    (!short.is_empty()).then_some(short)
}

/// Reads what is needed to decide about limits and memory.
pub(super) fn read(bytes: &[u8], format: Format) -> Result<Header, PictureError> {
    let mut header = Header {
        format,
        width: 0,
        height: 0,
        orientation: Orientation::UPRIGHT,
        file_bytes: bytes.len() as u64,
        decode_bytes: 0,
        jpeg: None,
        container_end: bytes.len(),
    };
    match format {
        Format::Jpeg => {
            let jpeg = jpeg::walk(bytes)?;
            header.width = u32::from(jpeg.width);
            header.height = u32::from(jpeg.height);
            header.orientation = jpeg.orientation;
            header.decode_bytes = jpeg.decode_bytes();
            header.jpeg = Some(jpeg);
        }
        Format::Heic => header.container_end = heif::end_of_container(bytes)?,
        Format::Tiff => {
            let found = tiff::read_header(bytes)?;
            header.width = found.width;
            header.height = found.height;
            header.orientation = found.orientation;
            header.decode_bytes = found.decode_bytes;
        }
        Format::Png | Format::Gif | Format::Bmp | Format::WebP => {
            let in_container =
                if format == Format::WebP { Some(webp::check_whole(bytes)?) } else { None };
            let found = raster::read_header(bytes, format)?;
            header.width = found.width;
            header.height = found.height;
            header.orientation = in_container.unwrap_or(found.orientation);
            header.decode_bytes = found.decode_bytes;
        }
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_picture_is_named_for_what_it_is() {
        for (bytes, expected) in [
            (&b""[..], "the file is empty (0 bytes)"),
            (
                b"\n<!DOCTYPE html><html><head><title>404\n Not Found</title>",
                "this is not an image but an HTML page titled \"404 Not Found\"",
            ),
            (
                b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
                "this is not an image but an XML error message (AccessDenied)",
            ),
            (b"{\"error\":1}", "this is not an image but a JSON text"),
            (b"BMW makes cars, and not images", "this is not an image but plain text"),
            (b"\x00\x01\x02\x03", "this is not an image but a file of an unknown kind"),
            (
                b"\x89PNG\n\x1a\n\0\0\0\rIHDR",
                "the PNG file is damaged: it was transferred as text, which changes line ends and \
                 high bytes: transfer it in binary mode",
            ),
            (b"%PDF-1.7", "PDF images are not supported: export its pages as JPEG"),
        ] {
            assert_eq!(sniff(bytes).unwrap_err().to_string(), expected);
        }
    }
}
