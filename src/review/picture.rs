//! Images: a file of any kind in, an upright JPEG of bounded size out, or why not.
//!
//! `header.rs` looks before anything is decoded; `jpeg.rs`, `tiff.rs` and `raster.rs` decode, `pixels.rs`
//! shrinks, turns and encodes in the buffers of `scratch.rs`; `worker_pool.rs` and `memory_budget.rs`
//! keep the memory bounded. Fetching is the source's business, sending the reviewer's.
//! Invariant: half an image is never prepared; what can't be read whole is an error that says why,
//! and nothing is allocated for an image beyond the limits.

mod error;
mod format;
pub mod header;
mod heif;
mod jpeg;
pub mod memory_budget;
mod pixels;
mod raster;
mod scratch;
mod tiff;
mod webp;
pub mod worker_pool;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use sha2::{Digest, Sha256};

pub use crate::review::picture::error::PictureError;
pub use crate::review::picture::format::Format;
use crate::review::picture::header::Header;
pub use crate::review::picture::scratch::Scratch;
use crate::review::reviewer::Prepared;
use crate::review::settings::PictureSettings;

/// Largest image that is sent as it is (HEIC). The request holds it in base64, four thirds of
/// this; Gemini is documented to take 20 MB requests everywhere, 100 MB in some places.
const MAX_PASSED_THROUGH: usize = 14 * 1024 * 1024;

/// Reads, checks, shrinks, turns and encodes one image. Takes a processor for up to some tenths
/// of a second and the memory that [`cost`] says: [`worker_pool::WorkerPool`] is the way to call it
/// from async code.
///
/// # Errors
/// See [`PictureError`]; each is the image's own fault.
pub fn prepare(
    bytes: &Bytes,
    settings: &PictureSettings,
    scratch: &mut Scratch,
) -> Result<Prepared, PictureError> {
    let header = probe(bytes, settings)?;
    prepare_probed(bytes, &header, settings, scratch)
}

/// Looks at the header and refuses what is beyond the limits, before anything is allocated.
///
/// # Errors
/// When it is no image, one that can't be read, or too large.
pub fn probe(bytes: &[u8], settings: &PictureSettings) -> Result<Header, PictureError> {
    let n_bytes = bytes.len() as u64;
    if n_bytes > settings.max_bytes {
        return Err(PictureError::TooManyBytes { bytes: n_bytes, limit: settings.max_bytes });
    }
    let format = header::sniff(bytes)?;
    let header = guarded(format, || header::read(bytes, format))?;
    check_limits(&header, settings)?;
    Ok(header)
}

/// Bytes that preparing this image takes at its worst, the file included.
#[must_use]
pub fn cost(header: &Header, settings: &PictureSettings) -> u64 {
    let pixels = u64::from(header.width) * u64::from(header.height);
    let edge = u64::from(settings.longest_edge);
    // As wide as it will be and as high as it is, on the way.
    let half_shrunk = edge.min(u64::from(header.width)) * u64::from(header.height) * 4;
    // The shrunk image, turned (so twice), and its encoded form.
    let shrunk = (edge * edge).min(pixels) * (4 + 4 + 1);
    header.file_bytes + header.decode_bytes + half_shrunk + shrunk
}

fn prepare_probed(
    bytes: &Bytes,
    header: &Header,
    settings: &PictureSettings,
    scratch: &mut Scratch,
) -> Result<Prepared, PictureError> {
    let outcome = guarded(header.format, || prepare_unguarded(bytes, header, settings, scratch));
    if matches!(outcome, Err(PictureError::Crashed { .. })) {
        *scratch = Scratch::default();
    }
    scratch.trim();
    outcome
}

fn prepare_unguarded(
    bytes: &Bytes,
    header: &Header,
    settings: &PictureSettings,
    scratch: &mut Scratch,
) -> Result<Prepared, PictureError> {
    let sha256 = sha256_hex(bytes);
    if header.format == Format::Heic {
        return passed_through(bytes.slice(..header.container_end), sha256);
    }
    let decoded = match &header.jpeg {
        Some(jpeg) => jpeg::decode(bytes, jpeg, scratch)?,
        None if header.format == Format::Tiff => tiff::decode(bytes, header.decode_bytes)?,
        None => raster::decode(bytes, header.format, header.decode_bytes)?,
    };
    if let Some(jpeg) = &header.jpeg
        && jpeg.may_be_sent_as_it_is(header.file_bytes, settings.longest_edge)
    {
        scratch.decoded = decoded.data;
        return Ok(Prepared {
            mime_type: "image/jpeg",
            bytes: jpeg::without_metadata(bytes, jpeg),
            width: header.width,
            height: header.height,
            sha256,
        });
    }
    let upright =
        decoded.shrunk(settings.longest_edge, header.format, scratch)?.turned(header.orientation);
    let (width, height) = (upright.width, upright.height);
    upright.encode_into(&mut scratch.encoded, settings.quality, header.format)?;
    scratch.shrunk = upright.data;
    // A copy is as large as it must be: it is held for as long as the call takes.
    let bytes = Bytes::copy_from_slice(&scratch.encoded);
    Ok(Prepared { mime_type: "image/jpeg", bytes, width, height, sha256 })
}

fn passed_through(bytes: Bytes, sha256: String) -> Result<Prepared, PictureError> {
    if bytes.len() > MAX_PASSED_THROUGH {
        return Err(PictureError::TooManyBytes {
            bytes: bytes.len() as u64,
            limit: MAX_PASSED_THROUGH as u64,
        });
    }
    Ok(Prepared { mime_type: "image/heic", bytes, width: 0, height: 0, sha256 })
}

fn check_limits(header: &Header, settings: &PictureSettings) -> Result<(), PictureError> {
    // A HEIC is not decoded here, and its size is the provider's business.
    if header.format == Format::Heic {
        return Ok(());
    }
    let (width, height) = (header.width, header.height);
    if width == 0 || height == 0 {
        let detail = format!("it says that it has {width} x {height} pixels");
        return Err(PictureError::Damaged { format: header.format, detail });
    }
    let too_large = |limit| PictureError::TooManyPixels { width, height, limit };
    if width.max(height) > settings.max_edge {
        return Err(too_large(format!("{} pixels an edge", settings.max_edge)));
    }
    if u64::from(width) * u64::from(height) > settings.max_pixels {
        return Err(too_large(format!("{} pixels in all", settings.max_pixels)));
    }
    Ok(())
}

/// Decoders are other people's code and the files come from anywhere: a panic fails this file,
/// not the review.
fn guarded<T>(
    format: Format,
    work: impl FnOnce() -> Result<T, PictureError>,
) -> Result<T, PictureError> {
    // Nothing that `work` has touched is used again after a panic.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(PictureError::Crashed { format }))
}

/// The identity of a file: lower-case hex, 64 characters.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
