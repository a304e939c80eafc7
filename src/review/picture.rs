//! Pictures: a file of any kind in, an upright JPEG of bounded size out, or why not.
//!
//! `header.rs` looks before anything is decoded, `jpeg.rs` and `other.rs` decode, `pixels.rs`
//! shrinks, turns and encodes in the buffers of `workbench.rs`, `admission.rs` and
//! `room.rs` keep the memory bounded. Fetching is the source's business, sending the reviewer's.
//! Invariant: half a picture is never prepared; what can't be read whole is an error that says
//! why, and nothing is allocated for a picture beyond the limits.

pub mod admission;
pub mod header;
mod heif;
mod jpeg;
mod other;
mod pixels;
pub mod room;
mod workbench;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::review::picture::header::{Format, Header};
pub use crate::review::picture::workbench::Workbench;
use crate::review::reviewer::Prepared;
use crate::review::settings::PictureSettings;

/// Largest picture that is sent as it is (HEIC). The request holds it in base64, four thirds of
/// this; the service is documented to take 20 MB requests everywhere, 100 MB in some places.
const MAX_PASSED_THROUGH: usize = 14 * 1024 * 1024;

/// Why there is no picture to send. Every one of them is the file's own fault.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PictureError {
    /// Nothing in it.
    #[error("the file is empty (0 bytes)")]
    Empty,
    /// Not a picture at all.
    #[error("this is not a picture but {what}")]
    NotAPicture {
        /// `an HTML page`, `plain text`, …
        what: String,
    },
    /// A picture that neither we nor the provider can read.
    #[error("{format} pictures are not supported{hint}")]
    Unsupported {
        /// Name of the format.
        format: &'static str,
        /// What to do, with a leading `: `, or nothing.
        hint: &'static str,
    },
    /// The end is missing.
    #[error("the {format} file is cut off: {detail}")]
    CutOff {
        /// The format.
        format: Format,
        /// How we know.
        detail: String,
    },
    /// Damaged.
    #[error("the {format} file is damaged: {detail}")]
    Damaged {
        /// The format.
        format: Format,
        /// What the decoder said.
        detail: String,
    },
    /// Beyond the limits of `[picture]`.
    #[error("the picture is too large: {width} x {height} pixels, the limit is {limit}")]
    TooManyPixels {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// The limit that it breaks, in words.
        limit: String,
    },
    /// Beyond the limit on the file.
    #[error("the file is too large: {bytes} bytes, the limit is {limit}")]
    TooManyBytes {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A small file that would keep a processor busy for minutes.
    #[error("the JPEG file has {scans} or more scans: it is made to keep programs busy")]
    TooManyScans {
        /// Counted so far.
        scans: u32,
    },
    /// The decoder broke down on it.
    #[error("the {format} file is damaged in a way that broke the program that reads it")]
    Crashed {
        /// The format.
        format: Format,
    },
}

/// Reads, checks, shrinks, turns and encodes one picture. Takes a processor for up to some tenths
/// of a second and the memory that [`cost`] says: [`admission::Preparation`] is the way to call it
/// from async code.
///
/// # Errors
/// See [`PictureError`]; each is the picture's own fault.
pub fn prepare(
    bytes: &Bytes,
    settings: &PictureSettings,
    bench: &mut Workbench,
) -> Result<Prepared, PictureError> {
    let header = probe(bytes, settings)?;
    prepare_probed(bytes, &header, settings, bench)
}

/// Looks at the header and refuses what is beyond the limits, before anything is allocated.
///
/// # Errors
/// When it is no picture, one that can't be read, or too large.
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

/// Bytes that preparing this picture takes at its worst, the file included.
#[must_use]
pub fn cost(header: &Header, settings: &PictureSettings) -> u64 {
    let pixels = u64::from(header.width) * u64::from(header.height);
    let edge = u64::from(settings.longest_edge);
    // As wide as it will be and as high as it is, on the way.
    let half_shrunk = edge.min(u64::from(header.width)) * u64::from(header.height) * 4;
    // The shrunk picture, turned (so twice), and its encoded form.
    let shrunk = (edge * edge).min(pixels) * (4 + 4 + 1);
    header.file_bytes + header.decode_bytes + half_shrunk + shrunk
}

fn prepare_probed(
    bytes: &Bytes,
    header: &Header,
    settings: &PictureSettings,
    bench: &mut Workbench,
) -> Result<Prepared, PictureError> {
    let outcome = guarded(header.format, || prepare_unguarded(bytes, header, settings, bench));
    if matches!(outcome, Err(PictureError::Crashed { .. })) {
        *bench = Workbench::default();
    }
    bench.tidied();
    outcome
}

fn prepare_unguarded(
    bytes: &Bytes,
    header: &Header,
    settings: &PictureSettings,
    bench: &mut Workbench,
) -> Result<Prepared, PictureError> {
    let sha256 = hex(&Sha256::digest(bytes));
    if header.format == Format::Heic {
        if bytes.len() > MAX_PASSED_THROUGH {
            return Err(PictureError::TooManyBytes {
                bytes: bytes.len() as u64,
                limit: MAX_PASSED_THROUGH as u64,
            });
        }
        return Ok(Prepared {
            mime_type: "image/heic",
            bytes: bytes.clone(),
            width: 0,
            height: 0,
            sha256,
        });
    }
    let decoded = match &header.jpeg {
        Some(jpeg_header) => jpeg::decode(bytes, header, jpeg_header, bench)?,
        None => other::decode(bytes, header)?,
    };
    if let Some(jpeg_header) = &header.jpeg
        && jpeg_header.may_be_sent_as_it_is(header, settings.longest_edge)
    {
        bench.decoded = decoded.data;
        return Ok(Prepared {
            mime_type: "image/jpeg",
            bytes: jpeg::without_metadata(bytes, jpeg_header),
            width: header.width,
            height: header.height,
            sha256,
        });
    }
    let upright = decoded
        .shrunk(settings.longest_edge, header.format, bench)?
        .flattened()
        .turned(header.orientation);
    let (width, height) = (upright.width, upright.height);
    upright.encode_into(&mut bench.encoded, settings.quality, header.format)?;
    bench.shrunk = upright.data;
    // A copy is as large as it must be: it is held for as long as the call takes.
    let bytes = Bytes::copy_from_slice(&bench.encoded);
    Ok(Prepared { mime_type: "image/jpeg", bytes, width, height, sha256 })
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

/// Decoders are other people's code and the files come from anywhere: a panic is a damaged file,
/// not the end of the review.
fn guarded<T>(
    format: Format,
    work: impl FnOnce() -> Result<T, PictureError>,
) -> Result<T, PictureError> {
    // Nothing that `work` has touched is used again after a panic.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(PictureError::Crashed { format }))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(digest.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
