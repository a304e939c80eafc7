//! Decoded pixels: shrink, flatten, turn, encode, in that order.
//!
//! Turning comes after shrinking, since a tenth of the pixels is then left to move.
//! Invariant: every buffer holds exactly `width * height * channels` bytes.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::review::picture::PictureError;
use crate::review::picture::header::{Format, Orientation};
use crate::review::picture::workbench::{Workbench, zeroed};

/// What Pillow calls BICUBIC, and shrinks with unless told otherwise. Lanczos looks at three pixels
/// to each side instead of two, takes half as long again, and adds less than JPEG takes away.
const SHRINKING: FilterType = FilterType::CatmullRom;

/// Channels of a pixel, 8 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Luma,
    Rgb,
    /// The fourth is nothing: four bytes are moved, shrunk and read faster than three.
    Rgbx,
    Rgba,
}

impl Layout {
    pub(super) fn channels(self) -> usize {
        match self {
            Self::Luma => 1,
            Self::Rgb => 3,
            Self::Rgbx | Self::Rgba => 4,
        }
    }
}

/// A decoded picture.
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) layout: Layout,
    pub(super) data: Vec<u8>,
    /// ICC profile that describes these pixels.
    pub(super) profile: Option<Vec<u8>>,
}

impl Pixels {
    /// At most `longest_edge` pixels an edge; smaller pictures stay as they are.
    pub(super) fn shrunk(
        self,
        longest_edge: u32,
        format: Format,
        bench: &mut Workbench,
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
        let (pixel_type, has_alpha) = match self.layout {
            Layout::Luma => (PixelType::U8, false),
            Layout::Rgb => (PixelType::U8x3, false),
            Layout::Rgbx => (PixelType::U8x4, false),
            Layout::Rgba => (PixelType::U8x4, true),
        };
        let failed = |error: &dyn std::fmt::Display| PictureError::Damaged {
            format,
            detail: format!("it could not be shrunk: {error}"),
        };
        let source = ImageRef::new(self.width, self.height, &self.data, pixel_type)
            .map_err(|error| failed(&error))?;
        let n_bytes = width as usize * height as usize * self.layout.channels();
        let mut data = zeroed(&mut bench.shrunk, n_bytes);
        let mut target = Image::from_slice_u8(width, height, &mut data, pixel_type)
            .map_err(|error| failed(&error))?;
        let options =
            ResizeOptions::new().resize_alg(ResizeAlg::Convolution(SHRINKING)).use_alpha(has_alpha);
        bench
            .resizer
            .resize(&source, &mut target, Some(&options))
            .map_err(|error| failed(&error))?;
        bench.decoded = self.data;
        // Not first when all is done: turning and encoding take as long again.
        bench.tidied();
        Ok(Self { width, height, data, layout: self.layout, profile: self.profile })
    }

    /// On white, as a page would show it.
    pub(super) fn flattened(self) -> Self {
        if self.layout != Layout::Rgba {
            return self;
        }
        let data = self
            .data
            .chunks_exact(4)
            .flat_map(|pixel| {
                let alpha = u32::from(pixel[3]);
                [pixel[0], pixel[1], pixel[2]].map(|value| {
                    let blended = (u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255;
                    u8::try_from(blended).unwrap_or(u8::MAX)
                })
            })
            .collect();
        Self { layout: Layout::Rgb, data, ..self }
    }

    /// Upright.
    pub(super) fn turned(self, orientation: Orientation) -> Self {
        if orientation == Orientation::UPRIGHT {
            return self;
        }
        let (w, h) = (self.width as usize, self.height as usize);
        let swaps_edges = orientation.0 >= 5;
        let (new_w, new_h) = if swaps_edges { (h, w) } else { (w, h) };
        let n = self.layout.channels();
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
                let at = (from_y * w + from_x) * n;
                data.extend_from_slice(&self.data[at..at + n]);
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
        let color = match self.layout {
            Layout::Luma => ColorType::Luma,
            Layout::Rgb => ColorType::Rgb,
            // The encoder reads three of the four.
            Layout::Rgbx | Layout::Rgba => ColorType::Rgba,
        };
        out.clear();
        let mut encoder = Encoder::new(out, quality);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        if let Some(profile) = &self.profile {
            // Only a profile of more than 16 MB is refused; the picture is worth more than it.
            let _ = encoder.add_icc_profile(profile);
        }
        encoder
            .encode(&self.data, width, height, color)
            .map_err(|error| failed(format!("it could not be encoded: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of three: 1 2 3 / 4 5 6.
    fn six() -> Pixels {
        Pixels {
            width: 3,
            height: 2,
            layout: Layout::Luma,
            data: vec![1, 2, 3, 4, 5, 6],
            profile: None,
        }
    }

    #[test]
    fn each_orientation_is_undone() {
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
            let turned = six().turned(Orientation::from_exif(value));
            assert_eq!((turned.width, &turned.data[..]), (width, &expected[..]), "{value}");
        }
    }

    #[test]
    fn what_is_transparent_becomes_white() {
        let pixels = Pixels {
            width: 2,
            height: 1,
            layout: Layout::Rgba,
            data: vec![10, 20, 30, 0, 10, 20, 30, 255],
            profile: None,
        };
        assert_eq!(pixels.flattened().data, [255, 255, 255, 10, 20, 30]);
    }

    #[test]
    fn a_thin_strip_keeps_a_pixel() {
        let strip = Pixels {
            width: 5000,
            height: 1,
            layout: Layout::Luma,
            data: vec![9; 5000],
            profile: None,
        };
        let shrunk = strip.shrunk(1000, Format::Png, &mut Workbench::default()).unwrap();
        assert_eq!((shrunk.width, shrunk.height, shrunk.data.len()), (1000, 1, 1000));
    }
}
