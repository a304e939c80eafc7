//! Decoded pixels: put on white, shrink, turn, encode, in that order.
//!
//! Every image is held in four bytes a pixel, red, green, blue and one that means nothing: one pixel
//! type makes one instance of the resizer and of the encoder, and four bytes are shrunk and read
//! faster than three. Turning comes after shrinking, since a tenth of the pixels is then left to move.
//! Invariant: `data` holds exactly `width * height * 4` bytes.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions};
use jpeg_encoder::{Encoder, ImageBuffer, JpegColorType, SamplingFactor, rgb_to_ycbcr};

use crate::review::picture::error::PictureError;
use crate::review::picture::format::{Format, Orientation};
use crate::review::picture::scratch::{Scratch, zeroed};

/// What Pillow calls BICUBIC, and shrinks with unless told otherwise. Lanczos looks at three pixels
/// to each side instead of two, takes half as long again, and adds less than JPEG takes away.
const SHRINKING: FilterType = FilterType::CatmullRom;

/// Pixels that are converted together before they go into the encoder's buffers: as many as fill the
/// widest registers there are, and few enough to stay in them.
const CHUNK: usize = 16;

/// What the colours of the four bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Color {
    /// The first three are equal; it becomes a JPEG of one component.
    Gray,
    Rgb,
}

/// A decoded image.
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) color: Color,
    pub(super) data: Vec<u8>,
    /// ICC profile that describes these pixels.
    pub(super) profile: Option<Vec<u8>>,
}

/// Three bytes a pixel at the beginning of the buffer become four, in place: from the last pixel to
/// the first, no byte is written before it was read.
pub(super) fn widen_rgb(data: &mut [u8], n_pixels: usize) {
    for pixel in (0..n_pixels).rev() {
        let (from, to) = (pixel * 3, pixel * 4);
        data.copy_within(from..from + 3, to);
        data[to + 3] = u8::MAX;
    }
}

impl Pixels {
    /// The fourth byte is opacity: on white, as a page would show it. Before shrinking this gives
    /// what shrinking with weighted colours and flattening afterwards would.
    pub(super) fn on_white(mut self) -> Self {
        for pixel in self.data.chunks_exact_mut(4) {
            let alpha = u32::from(pixel[3]);
            if alpha == 255 {
                continue;
            }
            for value in &mut pixel[..3] {
                let blended = (u32::from(*value) * alpha + 255 * (255 - alpha) + 127) / 255;
                *value = u8::try_from(blended).unwrap_or(u8::MAX);
            }
        }
        self
    }

    /// As [`Self::on_white`], for colours that are already multiplied with opacity.
    pub(super) fn multiplied_on_white(mut self) -> Self {
        for pixel in self.data.chunks_exact_mut(4) {
            let white = u8::MAX - pixel[3];
            pixel[..3].iter_mut().for_each(|value| *value = value.saturating_add(white));
        }
        self
    }

    /// At most `longest_edge` pixels an edge; smaller images stay as they are.
    pub(super) fn shrunk(
        self,
        longest_edge: u32,
        format: Format,
        scratch: &mut Scratch,
    ) -> Result<Self, PictureError> {
        let longest = self.width.max(self.height);
        if longest <= longest_edge {
            return Ok(self);
        }
        let scaled = |edge: u32| {
            let rounded = (u64::from(edge) * u64::from(longest_edge) + u64::from(longest) / 2)
                / u64::from(longest);
            u32::try_from(rounded).unwrap_or(longest_edge).max(1)
        };
        let (width, height) = (scaled(self.width), scaled(self.height));
        let failed = |error: &dyn std::fmt::Display| PictureError::Damaged {
            format,
            detail: format!("it could not be shrunk: {error}"),
        };
        let source = ImageRef::new(self.width, self.height, &self.data, PixelType::U8x4)
            .map_err(|error| failed(&error))?;
        let mut data = zeroed(&mut scratch.shrunk, width as usize * height as usize * 4);
        let mut target = Image::from_slice_u8(width, height, &mut data, PixelType::U8x4)
            .map_err(|error| failed(&error))?;
        let options =
            ResizeOptions::new().resize_alg(ResizeAlg::Convolution(SHRINKING)).use_alpha(false);
        scratch
            .resizer
            .resize(&source, &mut target, Some(&options))
            .map_err(|error| failed(&error))?;
        scratch.decoded = self.data;
        // Not first when all is done: turning and encoding take as long again.
        scratch.trim();
        Ok(Self { width, height, data, color: self.color, profile: self.profile })
    }

    /// Upright.
    pub(super) fn turned(self, orientation: Orientation) -> Self {
        if orientation == Orientation::UPRIGHT {
            return self;
        }
        let (w, h) = (self.width as usize, self.height as usize);
        let swaps_edges = orientation.0 >= 5;
        let (new_w, new_h) = if swaps_edges { (h, w) } else { (w, h) };
        let mut data = Vec::with_capacity(self.data.len());
        for y in 0..new_h {
            for x in 0..new_w {
                let (from_x, from_y) = match orientation.0 {
                    2 => (w - 1 - x, y),
                    3 => (w - 1 - x, h - 1 - y),
                    4 => (x, h - 1 - y),
                    5 => (y, x),
                    6 => (y, h - 1 - x),
                    7 => (w - 1 - y, h - 1 - x),
                    8 => (w - 1 - y, x),
                    _ => (x, y),
                };
                let at = (from_y * w + from_x) * 4;
                data.extend_from_slice(&self.data[at..at + 4]);
            }
        }
        let (width, height) =
            if swaps_edges { (self.height, self.width) } else { (self.width, self.height) };
        Self { width, height, data, ..self }
    }

    /// As JPEG, 4:2:0, in place of what stands in `out`.
    pub(super) fn encode_into(
        &self,
        out: &mut Vec<u8>,
        quality: u8,
        format: Format,
    ) -> Result<(), PictureError> {
        let failed = |detail: String| PictureError::Damaged { format, detail };
        let edge = |pixels: u32| {
            u16::try_from(pixels)
                .map_err(|_| failed(format!("{pixels} pixels are too many for a JPEG")))
        };
        let (width, height) = (edge(self.width)?, edge(self.height)?);
        out.clear();
        let mut encoder = Encoder::new(out, quality);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        if let Some(profile) = &self.profile {
            // Only a profile of more than 16 MB is refused; the image is worth more than it.
            let _ = encoder.add_icc_profile(profile);
        }
        let rows = Rows { data: &self.data, width, height, color: self.color };
        encoder
            .encode_image(rows)
            .map_err(|error| failed(format!("it could not be encoded: {error}")))
    }
}

/// The pixels as the encoder asks for them. `Encoder::encode` would be compiled for nine pixel types,
/// twice each.
struct Rows<'a> {
    data: &'a [u8],
    width: u16,
    height: u16,
    color: Color,
}

impl ImageBuffer for Rows<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        match self.color {
            Color::Gray => JpegColorType::Luma,
            Color::Rgb => JpegColorType::Ycbcr,
        }
    }

    fn width(&self) -> u16 {
        self.width
    }

    fn height(&self) -> u16 {
        self.height
    }

    fn fill_buffers(&self, y: u16, buffers: &mut [Vec<u8>; 4]) {
        let stride = usize::from(self.width) * 4;
        let row = &self.data[usize::from(y) * stride..][..stride];
        let [luma, blue, red, _] = buffers;
        if self.color == Color::Gray {
            luma.extend(row.iter().step_by(4));
            return;
        }
        // Whole chunks in arrays of a known size are what the compiler vectorises.
        let chunks = row.chunks_exact(CHUNK * 4);
        let rest = chunks.remainder();
        for chunk in chunks {
            let (mut y, mut cb, mut cr) = ([0; CHUNK], [0; CHUNK], [0; CHUNK]);
            for (i, pixel) in chunk.chunks_exact(4).enumerate() {
                (y[i], cb[i], cr[i]) = rgb_to_ycbcr(pixel[0], pixel[1], pixel[2]);
            }
            luma.extend_from_slice(&y);
            blue.extend_from_slice(&cb);
            red.extend_from_slice(&cr);
        }
        for pixel in rest.chunks_exact(4) {
            let (y, cb, cr) = rgb_to_ycbcr(pixel[0], pixel[1], pixel[2]);
            luma.push(y);
            blue.push(cb);
            red.push(cr);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: u32, height: u32, values: &[u8]) -> Pixels {
        let data = values.iter().flat_map(|v| [*v, *v, *v, 255]).collect();
        Pixels { width, height, color: Color::Gray, data, profile: None }
    }

    fn first_bytes(pixels: &Pixels) -> Vec<u8> {
        pixels.data.iter().step_by(4).copied().collect()
    }

    #[test]
    fn each_orientation_is_undone() {
        // Two rows of three: 1 2 3 / 4 5 6.
        for (value, width, expected) in [
            (1, 3, [1, 2, 3, 4, 5, 6]),
            (2, 3, [3, 2, 1, 6, 5, 4]),
            (3, 3, [6, 5, 4, 3, 2, 1]),
            (4, 3, [4, 5, 6, 1, 2, 3]),
            (5, 2, [1, 4, 2, 5, 3, 6]),
            (6, 2, [4, 1, 5, 2, 6, 3]),
            (7, 2, [6, 3, 5, 2, 4, 1]),
            (8, 2, [3, 6, 2, 5, 1, 4]),
        ] {
            let turned = gray(3, 2, &[1, 2, 3, 4, 5, 6]).turned(Orientation::from_exif(value));
            assert_eq!((turned.width, first_bytes(&turned)), (width, expected.to_vec()), "{value}");
        }
    }

    #[test]
    fn what_is_transparent_becomes_white() {
        let data = vec![10, 20, 30, 0, 10, 20, 30, 255, 0, 0, 0, 51];
        let pixels = Pixels { width: 3, height: 1, color: Color::Rgb, data, profile: None };
        let data = pixels.on_white().data;
        assert_eq!(data, [255, 255, 255, 0, 10, 20, 30, 255, 204, 204, 204, 51]);
    }

    #[test]
    fn three_bytes_become_four_in_place() {
        let mut data = vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0];
        widen_rgb(&mut data, 3);
        assert_eq!(data, [1, 2, 3, 255, 4, 5, 6, 255, 7, 8, 9, 255]);
    }

    #[test]
    fn a_thin_strip_keeps_a_pixel() {
        let strip = gray(5000, 1, &[9; 5000]);
        let shrunk = strip.shrunk(1000, Format::Png, &mut Scratch::default()).unwrap();
        assert_eq!((shrunk.width, shrunk.height), (1000, 1));
        assert_eq!(first_bytes(&shrunk), [9; 1000]);
    }

    #[test]
    fn the_encoder_is_given_each_pixel_of_a_row_once() {
        for width in [1_u16, 15, 16, 17, 40] {
            let data: Vec<u8> = (0..u32::from(width) * 8).map(|i| (i * 7 % 251) as u8).collect();
            let rows = Rows { data: &data, width, height: 2, color: Color::Rgb };
            let mut buffers = [const { Vec::new() }; 4];
            rows.fill_buffers(1, &mut buffers);
            let row = &data[usize::from(width) * 4..];
            let expected: Vec<_> =
                row.chunks_exact(4).map(|p| rgb_to_ycbcr(p[0], p[1], p[2])).collect();
            let got: Vec<_> = (0..usize::from(width))
                .map(|x| (buffers[0][x], buffers[1][x], buffers[2][x]))
                .collect();
            assert_eq!((got, buffers[0].len()), (expected, usize::from(width)));
        }
    }
}
