//! HEIC and AVIF: which of the two, and whether the container is whole.
//!
//! Neither is decoded here: the provider reads HEIC, and AVIF it does not.
//! Invariant: a container that is cut off is never passed on.

use crate::review::picture::PictureError;
use crate::review::picture::header::{Format, u32_be};

/// Brands of HEVC pictures (ISO/IEC 23008-12, annex B). `mif1` and `msf1` say only "some HEIF".
const HEIC_BRANDS: [&[u8]; 8] =
    [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"];

/// Which of the container's pictures this is; called when `ftyp` is at its place.
pub(super) fn sniff(bytes: &[u8]) -> Result<Format, PictureError> {
    let length = u32_be(bytes, 0).unwrap_or(0) as usize;
    // A whole file-type box has a handful of brands; more than these are not worth reading.
    let brands = bytes.get(8..length.clamp(8, 256).min(bytes.len())).unwrap_or(&[]);
    let has = |brand: &[u8]| brands.chunks_exact(4).any(|b| b == brand);
    if has(b"avif") || has(b"avis") {
        return Err(PictureError::Unsupported {
            format: "AVIF",
            hint: " (the vision service does not read them): convert it to JPEG",
        });
    }
    if HEIC_BRANDS.iter().any(|brand| has(brand)) {
        return Ok(Format::Heic);
    }
    Err(PictureError::NotAPicture { what: "a video or another media file".into() })
}

/// Every box must lie within the file, and the two that a picture needs must be there.
pub(super) fn check_whole(bytes: &[u8]) -> Result<(), PictureError> {
    let cut = |detail: &str| PictureError::CutOff { format: Format::Heic, detail: detail.into() };
    let mut at = 0_usize;
    let (mut has_meta, mut has_data) = (false, false);
    while at < bytes.len() {
        let short = u32_be(bytes, at).ok_or_else(|| cut("it ends in the middle of a box"))?;
        let kind =
            bytes.get(at + 4..at + 8).ok_or_else(|| cut("it ends in the middle of a box"))?;
        let length = match short {
            // Up to the end of the file; only the last box may say so.
            0 => bytes.len() - at,
            1 => {
                let high = u32_be(bytes, at + 8).ok_or_else(|| cut("a box has no length"))?;
                let low = u32_be(bytes, at + 12).ok_or_else(|| cut("a box has no length"))?;
                usize::try_from((u64::from(high) << 32) | u64::from(low)).unwrap_or(usize::MAX)
            }
            length => length as usize,
        };
        if length < 8 {
            let detail = "a box is shorter than its own head".to_owned();
            return Err(PictureError::Damaged { format: Format::Heic, detail });
        }
        has_meta |= kind == b"meta";
        has_data |= kind == b"mdat";
        at = at.checked_add(length).ok_or_else(|| cut("a box is longer than any file"))?;
    }
    if at > bytes.len() {
        return Err(cut(&format!("{} of {at} bytes are there", bytes.len())));
    }
    if !has_meta || !has_data {
        return Err(cut("it has no picture data"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_whole_only_with_all_its_boxes() {
        let mut file = b"\0\0\0\x14ftypheic\0\0\0\0mif1".to_vec();
        assert_eq!(sniff(&file), Ok(Format::Heic));
        assert!(check_whole(&file).unwrap_err().to_string().contains("no picture data"));
        file.extend(b"\0\0\0\x08meta\0\0\0\x0cmdat1234");
        assert_eq!(check_whole(&file), Ok(()));
        file.pop();
        assert!(check_whole(&file).unwrap_err().to_string().contains("cut off"));
    }

    #[test]
    fn an_avif_is_refused_for_what_it_is() {
        let error = sniff(b"\0\0\0\x14ftypmif1\0\0\0\0avif").unwrap_err();
        assert!(error.to_string().starts_with("AVIF pictures are not supported"), "{error}");
    }
}
