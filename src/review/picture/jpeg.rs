//! JPEG: `jpeg/walk.rs` over the markers, then zune-jpeg in strict mode.
//!
//! `image`'s JPEG path is not used: it has zune's lax mode built in and takes an image that was cut in
//! half. The walk also looks for the end marker, which strict mode does not miss.
//! Invariant: what `decode` returns was there from the first to the last block.

mod walk;

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use self::walk::{Coding, Colors, MAX_SCANS, damaged};
pub(super) use self::walk::{JpegHeader, walk};
use crate::review::picture::error::{PictureError, plain};
use crate::review::picture::format::{Format, Orientation};
use crate::review::picture::pixels::{Color, Pixels, widen_rgb};
use crate::review::picture::scratch::{Scratch, zeroed};

/// A file with more bytes than pixels (above 8 bits each) is smaller when encoded anew.
const GENEROUS_BYTES: u64 = 64 * 1024;

/// Zeros after the data of the last scan; less than one block can be made from them.
const READ_AHEAD: usize = 16;

impl JpegHeader {
    /// Whether decoding it would only be repeated by encoding it again. What not every reader
    /// understands (four components, RGB) goes out as an ordinary JPEG.
    pub(super) fn may_be_sent_as_it_is(&self, file_bytes: u64, longest_edge: u32) -> bool {
        u32::from(self.width.max(self.height)) <= longest_edge
            && self.orientation == Orientation::UPRIGHT
            && self.coding == Coding::Baseline
            && matches!(self.colors, Colors::Gray | Colors::YCbCr)
            && file_bytes <= u64::from(self.width) * u64::from(self.height) + GENEROUS_BYTES
    }
}

/// The file without metadata, stray bytes and what follows its end.
pub(super) fn without_metadata(bytes: &Bytes, header: &JpegHeader) -> Bytes {
    let mut dropped = [header.metadata.as_slice(), header.stray.as_slice()].concat();
    dropped.sort_by_key(|range| range.start);
    if dropped.is_empty() { bytes.slice(..header.end) } else { kept(bytes, header.end, &dropped) }
}

/// The bytes up to `end` that lie in none of these ranges, which are in order.
fn kept(bytes: &[u8], end: usize, dropped: &[Range<usize>]) -> Bytes {
    let mut kept = BytesMut::with_capacity(end + READ_AHEAD);
    let mut from = 0;
    for range in dropped.iter().filter(|range| range.end <= end) {
        kept.extend_from_slice(&bytes[from..range.start]);
        from = range.end;
    }
    kept.extend_from_slice(&bytes[from..end]);
    kept.freeze()
}

/// Decodes the whole image or fails.
pub(super) fn decode(
    bytes: &[u8],
    jpeg: &JpegHeader,
    scratch: &mut Scratch,
) -> Result<Pixels, PictureError> {
    // Four bytes a pixel are quicker to shrink; zune makes them of three kinds only.
    let (out, channels) = match jpeg.colors {
        Colors::Gray | Colors::YCbCr => (ColorSpace::RGBA, 4),
        Colors::Rgb | Colors::Cmyk => (ColorSpace::RGB, 3),
    };
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(jpeg.width))
        .set_max_height(usize::from(jpeg.height))
        .jpeg_set_max_scans(MAX_SCANS as usize)
        .jpeg_set_out_colorspace(out);
    let copy;
    let source = if jpeg.is_single_scan() {
        // At an end marker the decoder makes up the rest of the image, wherever the marker
        // stands; without one it fails if the data ends too early. It reads ahead by up to 8
        // bytes, and must not take that for an early end.
        copy = [&kept(bytes, jpeg.first_scan_end, &jpeg.stray)[..], &[0; READ_AHEAD]].concat();
        &copy[..]
    } else if jpeg.stray.is_empty() {
        // What follows the end marker is not the decoder's to see.
        &bytes[..jpeg.end]
    } else {
        copy = kept(bytes, jpeg.end, &jpeg.stray).to_vec();
        &copy[..]
    };
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(source), options);
    decoder.decode_headers().map_err(|error| from_zune(&error))?;
    let n_pixels = usize::from(jpeg.width) * usize::from(jpeg.height);
    if decoder.output_buffer_size() != Some(n_pixels * channels) {
        return Err(damaged("its pixels are not what its header says"));
    }
    let mut data = zeroed(&mut scratch.decoded, n_pixels * 4);
    let decoded = &mut data[..n_pixels * channels];
    decoder.decode_into(decoded).map_err(|error| from_zune(&error))?;
    if channels == 3 {
        widen_rgb(&mut data, n_pixels);
    }
    let (color, profile) = match jpeg.colors {
        Colors::Gray => (Color::Gray, decoder.icc_profile()),
        Colors::YCbCr | Colors::Rgb => (Color::Rgb, decoder.icc_profile()),
        // A CMYK profile does not describe the RGB that we made.
        Colors::Cmyk => (Color::Rgb, None),
    };
    let (width, height) = (u32::from(jpeg.width), u32::from(jpeg.height));
    Ok(Pixels { width, height, color, data, profile })
}

fn from_zune(error: &DecodeErrors) -> PictureError {
    let detail = if matches!(error, DecodeErrors::ExhaustedData) {
        "its data ends too early".to_owned()
    } else {
        plain(&error.to_string())
    };
    PictureError::Damaged { format: Format::Jpeg, detail }
}
