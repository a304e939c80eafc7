//! What a file is, by its content, before any decoder sees it.
//!
//! The walk through a JPEG is in `jpeg.rs`, through a HEIC in `heif.rs`.
//! Invariant: reading a header allocates next to nothing, whatever the file claims.

use std::fmt;

use crate::review::picture::{PictureError, heif, jpeg, other};

/// The kinds of pictures that can be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// GIF; its first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF; its first page.
    Tiff,
    /// WebP; its first frame.
    WebP,
    /// HEIC: passed through, the provider reads it.
    Heic,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::WebP => "WebP",
            Self::Heic => "HEIC",
        })
    }
}

/// How the pixels must be turned to be upright (EXIF tag 0x0112, 1 to 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation(pub(super) u8);

impl Orientation {
    /// Already upright.
    pub const UPRIGHT: Self = Self(1);

    /// Anything that is no orientation counts as upright, as viewers do.
    #[must_use]
    pub fn from_exif(value: u16) -> Self {
        match u8::try_from(value) {
            Ok(value @ 1..=8) => Self(value),
            Ok(_) | Err(_) => Self::UPRIGHT,
        }
    }
}

/// What is known of a picture before it is decoded.
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
    pub(super) jpeg: Option<jpeg::JpegHeader>,
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
    for (magic, format, hint) in UNSUPPORTED {
        if bytes.starts_with(magic) {
            return Err(PictureError::Unsupported { format, hint });
        }
    }
    Err(PictureError::NotAPicture { what: describe_text(bytes) })
}

/// Kinds that people do put into buckets, and what to do about them.
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
    } else if bytes.starts_with(b"II*\0") || bytes.starts_with(b"MM\0*") {
        Some(Format::Tiff)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some(Format::WebP)
    } else if is_bmp(bytes) {
        Some(Format::Bmp)
    } else {
        None
    }
}

/// `BM` alone also begins many a text; the size of the second header tells.
fn is_bmp(bytes: &[u8]) -> bool {
    bytes.starts_with(b"BM")
        && u32_le(bytes, 14)
            .is_some_and(|size| matches!(size, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
}

/// What people want to know about a file that is no picture: most often it is an error page that
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
    let file_bytes = bytes.len() as u64;
    match format {
        Format::Jpeg => {
            let jpeg = jpeg::walk(bytes)?;
            Ok(Header {
                format,
                width: u32::from(jpeg.width),
                height: u32::from(jpeg.height),
                orientation: jpeg.orientation,
                file_bytes,
                decode_bytes: jpeg.decode_bytes(),
                jpeg: Some(jpeg),
            })
        }
        Format::Heic => {
            heif::check_whole(bytes)?;
            Ok(Header {
                format,
                width: 0,
                height: 0,
                orientation: Orientation::UPRIGHT,
                file_bytes,
                decode_bytes: 0,
                jpeg: None,
            })
        }
        Format::Png | Format::Gif | Format::Bmp | Format::Tiff | Format::WebP => {
            other::header(bytes, format)
        }
    }
}

pub(super) fn u16_be(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn u32_be(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u32_le(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
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
                "this is not a picture but an HTML page titled \"404 Not Found\"",
            ),
            (
                b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
                "this is not a picture but an XML error message (AccessDenied)",
            ),
            (b"{\"error\":1}", "this is not a picture but a JSON text"),
            (b"BMW makes cars, and not pictures", "this is not a picture but plain text"),
            (b"\x00\x01\x02\x03", "this is not a picture but a file of an unknown kind"),
            (b"%PDF-1.7", "PDF pictures are not supported: export its pages as JPEG"),
        ] {
            assert_eq!(sniff(bytes).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn an_orientation_that_is_none_counts_as_upright() {
        assert_eq!(Orientation::from_exif(0), Orientation::UPRIGHT);
        assert_eq!(Orientation::from_exif(9), Orientation::UPRIGHT);
        assert_eq!(Orientation::from_exif(6), Orientation(6));
    }
}
