//! What can be measured about a picture without knowing what it shows.
//!
//! The stand-in answers from these numbers; that they are no judgement is said in every answer.
//! Invariant: the same bytes give the same look; a picture that a strict decoder refuses has none.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, ImageReader, Limits, RgbImage};
use sha2::{Digest, Sha256};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::behaviour::Looking;

/// Pixels of the longer edge of what is measured: enough for shares of colours and edges, and as
/// good as free.
const MEASURED_EDGE: u32 = 96;

/// Larger pictures are refused; the client is to shrink to far less than this.
const MAX_EDGE: u32 = 20_000;

/// Memory one decoder may take: 100 megapixels of RGB.
const MAX_ALLOC: u64 = 300 * 1024 * 1024;

/// The measurements. Shares are between 0 and 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ImageStats {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) brightness: f64,
    /// Neighbours that differ by more than a quarter of the range.
    pub(super) edges: f64,
    pub(super) skin: f64,
    pub(super) deep_red: f64,
    /// Blue, in the upper third.
    pub(super) sky: f64,
    /// The most frequent of 64 colours.
    pub(super) top_colour: f64,
    pub(super) saturation: f64,
    /// Near black or near white.
    pub(super) ink: f64,
    /// Mean of the top left corner.
    pub(super) corner: Option<[u8; 3]>,
    /// First eight bytes of the SHA-256 of the bytes.
    pub(super) print: u64,
}

/// SHA-256 of the bytes, lower-case hex.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Looks at a picture; `None`: it can't be processed.
pub(super) fn image_stats(bytes: &[u8], mime_type: &str, looking: Looking) -> Option<ImageStats> {
    let digest = Sha256::digest(bytes);
    let print = digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    if is_heif(bytes) {
        // There is no HEIC decoder here; the container's head must do.
        return mime_type
            .starts_with("image/hei")
            .then(|| ImageStats { print, ..ImageStats::default() });
    }
    let format = image::guess_format(bytes).ok()?;
    if !matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP) {
        return None;
    }
    if looking == Looking::Bytes {
        let (width, height) =
            ImageReader::with_format(Cursor::new(bytes), format).into_dimensions().ok()?;
        return Some(ImageStats { width, height, print, ..ImageStats::default() });
    }
    let picture = if format == ImageFormat::Jpeg { jpeg(bytes)? } else { other(bytes, format)? };
    let (width, height) = (picture.width(), picture.height());
    if width == 0 || height == 0 {
        return None;
    }
    let small = picture.thumbnail(MEASURED_EDGE.min(width), MEASURED_EDGE.min(height)).to_rgb8();
    Some(ImageStats { width, height, print, ..measure(&small) })
}

/// ISO base media file with a HEIF brand.
fn is_heif(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(b"ftyp")
        && matches!(bytes.get(8..12), Some(b"heic" | b"heix" | b"heif" | b"mif1" | b"msf1"))
}

/// Strictly, as the service refuses what is cut off: `image` fills the missing part with grey.
fn jpeg(bytes: &[u8]) -> Option<DynamicImage> {
    let edge = usize::try_from(MAX_EDGE).ok()?;
    let options = DecoderOptions::new_cmd()
        .set_strict_mode(true)
        .set_max_width(edge)
        .set_max_height(edge)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().ok()?;
    let info = decoder.info()?;
    RgbImage::from_raw(info.width.into(), info.height.into(), pixels).map(DynamicImage::from)
}

fn other(bytes: &[u8], format: ImageFormat) -> Option<DynamicImage> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_EDGE);
    limits.max_image_height = Some(MAX_EDGE);
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    reader.decode().ok()
}

fn luma([r, g, b]: [u8; 3]) -> i32 {
    (i32::from(r) * 299 + i32::from(g) * 587 + i32::from(b) * 114) / 1000
}

/// The classic rule for skin in RGB (Kovac et al. 2003, daylight): crude, and meant to be.
fn is_skin([r, g, b]: [u8; 3]) -> bool {
    let spread = r.max(g).max(b) - r.min(g).min(b);
    r > 95 && g > 40 && b > 20 && spread > 15 && r > g && r > b && r.abs_diff(g) > 15
}

fn measure(picture: &RgbImage) -> ImageStats {
    let (width, height) = picture.dimensions();
    let mut counts = [0_u32; 64];
    let mut sums = ImageStats::default();
    for (x, y, pixel) in picture.enumerate_pixels() {
        let rgb @ [r, g, b] = pixel.0;
        let light = luma(rgb);
        let (max, min) = (r.max(g).max(b), r.min(g).min(b));
        sums.brightness += f64::from(light) / 255.0;
        sums.saturation += f64::from(max - min) / 255.0;
        sums.ink += f64::from(!(40..=215).contains(&light));
        sums.skin += f64::from(is_skin(rgb));
        sums.deep_red += f64::from(r > 90 && r / 2 > g && r / 2 > b);
        sums.sky += f64::from(y < height.div_ceil(3) && b > 120 && b > r.saturating_add(20));
        for (nx, ny) in [(x + 1, y), (x, y + 1)] {
            if nx < width && ny < height {
                let step = (luma(picture.get_pixel(nx, ny).0) - light).abs();
                sums.edges += f64::from(step > 64) / 2.0;
            }
        }
        counts[usize::from((r >> 6) << 4 | (g >> 6) << 2 | b >> 6)] += 1;
    }
    let n = f64::from(width * height);
    let top = counts.iter().copied().max().unwrap_or(0);
    ImageStats {
        brightness: sums.brightness / n,
        saturation: sums.saturation / n,
        ink: sums.ink / n,
        skin: sums.skin / n,
        deep_red: sums.deep_red / n,
        sky: sums.sky / n * 3.0,
        edges: sums.edges / n,
        top_colour: f64::from(top) / n,
        corner: Some(corner(picture)),
        ..ImageStats::default()
    }
}

/// Mean of the top left twelfth (each way), rounded down so that a mark of a tenth fills it.
fn corner(picture: &RgbImage) -> [u8; 3] {
    let (width, height) = ((picture.width() / 12).max(1), (picture.height() / 12).max(1));
    let mut sums = [0_u32; 3];
    for y in 0..height {
        for x in 0..width {
            for (sum, channel) in sums.iter_mut().zip(picture.get_pixel(x, y).0) {
                *sum += u32::from(channel);
            }
        }
    }
    sums.map(|sum| u8::try_from(sum / (width * height)).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn jpeg_of(picture: &RgbImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (width, height) = picture.dimensions();
        jpeg_encoder::Encoder::new(&mut bytes, 85)
            .encode(
                picture,
                u16::try_from(width).unwrap(),
                u16::try_from(height).unwrap(),
                jpeg_encoder::ColorType::Rgb,
            )
            .unwrap();
        bytes
    }

    #[test]
    fn a_picture_is_measured_the_same_each_time() {
        let red = RgbImage::from_pixel(200, 100, Rgb([200, 20, 20]));
        let bytes = jpeg_of(&red);
        let first = image_stats(&bytes, "image/jpeg", Looking::Pixels).unwrap();
        assert_eq!((first.width, first.height), (200, 100));
        assert!(first.deep_red > 0.95 && first.top_colour > 0.95 && first.edges < 0.01);
        assert_eq!(image_stats(&bytes, "image/jpeg", Looking::Pixels), Some(first));
    }

    #[test]
    fn what_is_cut_off_or_no_picture_has_no_look() {
        let bytes = jpeg_of(&RgbImage::from_fn(300, 300, |x, y| {
            Rgb([u8::try_from(x * y % 256).unwrap(), 0, 0])
        }));
        assert!(image_stats(&bytes[..bytes.len() / 2], "image/jpeg", Looking::Pixels).is_none());
        assert!(image_stats(b"<html>not found</html>", "image/jpeg", Looking::Pixels).is_none());
        assert!(image_stats(b"GIF89a\x01\x00\x01\x00", "image/png", Looking::Bytes).is_none());
    }

    #[test]
    fn a_mark_in_the_corner_is_seen_in_a_large_picture() {
        let marked = RgbImage::from_fn(1000, 800, |x, y| {
            if x < 100 && y < 80 { Rgb([255, 0, 255]) } else { Rgb([30, 120, 60]) }
        });
        let seen = image_stats(&jpeg_of(&marked), "image/jpeg", Looking::Pixels).unwrap();
        let [r, g, b] = seen.corner.unwrap();
        assert!(r > 230 && g < 25 && b > 230, "{r} {g} {b}");
    }
}
