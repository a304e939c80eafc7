//! WebP: whether its container is whole, and what its EXIF block says; `raster.rs` decodes.
//!
//! The decoder takes what it finds: a file that lost bytes in its middle still decodes, with wrong
//! pixels behind the gap. The lengths of the RIFF container tell.
//! Invariant: a file that is shorter than its own header says is cut off, whatever can be decoded.

use crate::review::picture::error::PictureError;
use crate::review::picture::format::{Format, Orientation, u32_le};

/// Four characters and a length.
const CHUNK_HEAD: usize = 8;
/// Position, size, duration and flags of a frame stand before its chunks.
const FRAME_HEAD: usize = 16;

/// Every chunk must lie within the file. Returns how the image lies.
pub(super) fn check_whole(bytes: &[u8]) -> Result<Orientation, PictureError> {
    let cut = |end: usize| cut_off(format!("{} of at least {end} bytes are there", bytes.len()));
    let riff = u32_le(bytes, 4).ok_or_else(|| cut(12))? as usize;
    let end = CHUNK_HEAD.saturating_add(riff);
    if end > bytes.len() {
        return Err(cut(end));
    }
    let mut orientation = Orientation::UPRIGHT;
    let chunks = Chunks { bytes, at: 12, end };
    for chunk in chunks {
        let (kind, body) = chunk.map_err(cut)?;
        match kind {
            b"EXIF" => orientation = Orientation::in_exif(body).unwrap_or(orientation),
            b"ANMF" => {
                let mut frame = Chunks { bytes: body, at: FRAME_HEAD, end: body.len() };
                if frame.any(|chunk| chunk.is_err()) {
                    return Err(cut_off("a frame is longer than its place".to_owned()));
                }
            }
            _ => {}
        }
    }
    Ok(orientation)
}

fn cut_off(detail: String) -> PictureError {
    PictureError::CutOff { format: Format::WebP, detail }
}

/// The chunks of a container; one that reaches beyond `bytes` gives the end that it claims.
struct Chunks<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), usize>;

    fn next(&mut self) -> Option<Self::Item> {
        // Less than a head behind the last chunk is padding.
        let body = self.at.checked_add(CHUNK_HEAD).filter(|body| *body <= self.end)?;
        let kind = self.bytes.get(self.at..self.at + 4)?;
        let length = u32_le(self.bytes, self.at + 4)? as usize;
        let end = body.saturating_add(length);
        let Some(content) = self.bytes.get(body..end) else {
            self.at = usize::MAX;
            return Some(Err(end));
        };
        // Chunks begin at even places.
        self.at = end + length % 2;
        Some(Ok((kind, content)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut body = b"WEBP".to_vec();
        for (kind, content) in chunks {
            body.extend_from_slice(*kind);
            body.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
            body.extend_from_slice(content);
            body.resize(body.len().next_multiple_of(2), 0);
        }
        let mut file = b"RIFF".to_vec();
        file.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        file.extend(body);
        file
    }

    #[test]
    fn a_container_lacks_nothing_or_is_cut_off() {
        let frame = [&[0; 16][..], b"VP8 \x03\0\0\0abc\0"].concat();
        let file = riff(&[(b"VP8X", &[0; 10]), (b"ANMF", &frame), (b"ABCD", b"odd")]);
        assert_eq!(check_whole(&file), Ok(Orientation::UPRIGHT));
        assert!(check_whole(&[&file[..], b"trailer"].concat()).is_ok());
        for length in 0..file.len() {
            let error = check_whole(&file[..length]).unwrap_err();
            assert!(matches!(error, PictureError::CutOff { .. }), "{length}: {error}");
        }
    }

    #[test]
    fn a_chunk_or_a_frame_longer_than_its_place_is_cut_off() {
        let mut file = riff(&[(b"VP8 ", &[0; 20])]);
        file[16..20].copy_from_slice(&808_000_000_u32.to_le_bytes());
        assert!(check_whole(&file).is_err());
        let frame = [&[0; 16][..], b"VP8 \xff\0\0\0abc\0"].concat();
        assert!(check_whole(&riff(&[(b"ANMF", &frame)])).is_err());
    }

    #[test]
    fn the_exif_chunk_says_how_it_lies_with_and_without_the_prefix_of_jpeg() {
        let block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        for exif in [block.to_vec(), [&b"Exif\0\0"[..], block].concat()] {
            let file = riff(&[(b"VP8 ", &[0; 20]), (b"EXIF", &exif)]);
            assert_eq!(check_whole(&file), Ok(Orientation::from_exif(6)));
        }
    }
}
