//! The formats that can be prepared, how an image is oriented, and numbers at a place in a file.
//!
//! What a file is, `header.rs` decides. Nothing here imports another part of `picture`.
//! Invariant: nothing here panics or allocates, whatever the bytes are.

use std::fmt;

/// The formats that can be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG; of an animated one, the image that viewers without animation show.
    Png,
    /// GIF; its first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF; its first page.
    Tiff,
    /// WebP; its first frame.
    WebP,
    /// HEIC: passed through, Gemini reads it.
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

    /// What an EXIF block says: tag 0x0112 of its first directory. JPEG requires `Exif\0\0` before
    /// the block; in WebP the specification has none, but libvips and older Pillow write it.
    pub(super) fn in_exif(block: &[u8]) -> Option<Self> {
        let tiff = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
        let big_endian = match tiff.get(..4)? {
            b"MM\0*" => true,
            b"II*\0" => false,
            _ => return None,
        };
        let short = |at: usize| {
            u16_be(tiff, at).map(|value| if big_endian { value } else { value.swap_bytes() })
        };
        let directory =
            u32_be(tiff, 4).map(|v| if big_endian { v } else { v.swap_bytes() })? as usize;
        let entries = usize::from(short(directory)?);
        (0..entries)
            .map(|i| directory + 2 + i * 12)
            .find(|at| short(*at) == Some(0x0112))
            .and_then(|at| short(at + 8))
            .map(Self::from_exif)
    }
}

pub(super) fn u16_be(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn u32_be(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn u32_le(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orientation_that_is_none_counts_as_upright() {
        assert_eq!(Orientation::from_exif(0), Orientation::UPRIGHT);
        assert_eq!(Orientation::from_exif(9), Orientation::UPRIGHT);
        assert_eq!(Orientation::from_exif(6), Orientation(6));
    }

    #[test]
    fn an_orientation_is_read_in_both_byte_orders_with_and_without_the_prefix() {
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0";
        for (block, expected) in [(&big[..], 6), (&little[..], 8)] {
            let expected = Some(Orientation::from_exif(expected));
            assert_eq!(Orientation::in_exif(block), expected);
            assert_eq!(Orientation::in_exif(&[b"Exif\0\0", block].concat()), expected);
        }
        assert_eq!(Orientation::in_exif(b"MM\0*\xff\xff\xff\xff"), None);
        assert_eq!(Orientation::in_exif(b""), None);
    }
}
