//! HEIC and AVIF: which of the two, and whether the container is whole.
//!
//! Neither is decoded here: Gemini reads HEIC, and AVIF it does not.
//! Invariant: a container that is cut off is never passed on.

use crate::review::picture::error::PictureError;
use crate::review::picture::format::{Format, u32_be};

/// Brands of HEVC images (ISO/IEC 23008-12, annex B). `mif1` and `msf1` say only "some HEIF".
const HEIC_BRANDS: [&[u8]; 8] =
    [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"];

/// Boxes at the top level of a file (ISO/IEC 14496-12, table 1): one of these that reaches beyond
/// the end was cut off. Anything else behind a whole image is a trailer, such as Samsung's `SEFH…SEFT`.
const TOP_LEVEL: [&[u8]; 10] =
    [b"ftyp", b"meta", b"mdat", b"moov", b"moof", b"idat", b"free", b"skip", b"uuid", b"mpvd"];

/// Which of the container's formats this is; called when `ftyp` is at its place.
pub(super) fn sniff(bytes: &[u8]) -> Result<Format, PictureError> {
    let length = u32_be(bytes, 0).unwrap_or(0) as usize;
    // A whole file-type box has a handful of brands; more than these are not worth reading.
    let brands = bytes.get(8..length.clamp(8, 256).min(bytes.len())).unwrap_or(&[]);
    let has = |brand: &[u8]| brands.chunks_exact(4).any(|b| b == brand);
    if has(b"avif") || has(b"avis") {
        return Err(PictureError::Unsupported {
            format: "AVIF",
            hint: " (Gemini does not read them): convert it to JPEG",
        });
    }
    if HEIC_BRANDS.iter().any(|brand| has(brand)) {
        return Ok(Format::Heic);
    }
    Err(PictureError::NotAPicture { what: "a video or another media file".into() })
}

/// One box of the top level.
struct TopBox<'a> {
    kind: &'a [u8],
    length: usize,
}

fn box_at(bytes: &[u8], at: usize) -> Option<TopBox<'_>> {
    let short = u32_be(bytes, at)?;
    let kind = bytes.get(at + 4..at + 8)?;
    let length = match short {
        // Up to the end of the file; only the last box may say so.
        0 => bytes.len() - at,
        1 => {
            let (high, low) = (u32_be(bytes, at + 8)?, u32_be(bytes, at + 12)?);
            usize::try_from((u64::from(high) << 32) | u64::from(low)).unwrap_or(usize::MAX)
        }
        length => length as usize,
    };
    Some(TopBox { kind, length })
}

/// Where the container ends: every box must lie within the file, and the two that an image needs
/// must be there. What follows them and is no box is a trailer and not part of it.
pub(super) fn end_of_container(bytes: &[u8]) -> Result<usize, PictureError> {
    let cut = |detail: &str| PictureError::CutOff { format: Format::Heic, detail: detail.into() };
    let mut at = 0_usize;
    let (mut has_meta, mut has_data) = (false, false);
    while at < bytes.len() {
        let is_whole = has_meta && has_data;
        let Some(TopBox { kind, length }) = box_at(bytes, at) else {
            return if is_whole { Ok(at) } else { Err(cut("it ends in the middle of a box")) };
        };
        let end = at.saturating_add(length);
        let is_known = TOP_LEVEL.contains(&kind);
        if is_whole && !is_known && (length < 8 || end > bytes.len()) {
            return Ok(at);
        }
        if length < 8 {
            let detail = "a box is shorter than its own head".to_owned();
            return Err(PictureError::Damaged { format: Format::Heic, detail });
        }
        if end > bytes.len() {
            return Err(cut(&format!("{} of {end} bytes are there", bytes.len())));
        }
        has_meta |= kind == b"meta";
        has_data |= kind == b"mdat";
        at = end;
    }
    if has_meta && has_data { Ok(at) } else { Err(cut("it has no image data")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Vec<u8> {
        let mut file = b"\0\0\0\x14ftypheic\0\0\0\0mif1".to_vec();
        file.extend(b"\0\0\0\x08meta\0\0\0\x0cmdat1234");
        file
    }

    #[test]
    fn a_container_is_whole_only_with_all_its_boxes() {
        let file = whole();
        assert_eq!(sniff(&file), Ok(Format::Heic));
        let error = end_of_container(&file[..20]).unwrap_err().to_string();
        assert!(error.contains("no image data"), "{error}");
        assert_eq!(end_of_container(&file), Ok(file.len()));
        let error = end_of_container(&file[..file.len() - 1]).unwrap_err().to_string();
        assert!(error.contains("cut off"), "{error}");
    }

    #[test]
    fn what_a_maker_puts_behind_a_whole_image_is_no_part_of_it() {
        let file = whole();
        for trailer in [
            &b"SEFH\x6b\0\0\0\x02\0\0\0some data SEFT"[..],
            b"a text that somebody appended",
            b"\0\0\0\x04free",
            b"123",
        ] {
            let long = [&file[..], trailer].concat();
            let found = end_of_container(&long);
            // A known box that contradicts itself is no trailer.
            let expected = if trailer.ends_with(b"free") { None } else { Some(file.len()) };
            assert_eq!(found.ok(), expected, "{trailer:?}");
        }
        // Image data that are announced and missing are no trailer either.
        let half = [&file[..], b"\0\0\x10\0mdat12"].concat();
        assert!(end_of_container(&half).unwrap_err().to_string().contains("cut off"));
    }

    #[test]
    fn an_avif_is_refused_for_what_it_is() {
        let error = sniff(b"\0\0\0\x14ftypmif1\0\0\0\0avif").unwrap_err();
        assert!(error.to_string().starts_with("AVIF images are not supported"), "{error}");
    }
}
