//! Images that viewers show and that decoders are strict about: made here, one property a test.

use bytes::Bytes;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ImageEncoder as _, Rgb, RgbImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use lookout::review::picture::{PictureError, Scratch, prepare};
use lookout::review::settings::PictureSettings;

/// Adobe's segment with this transform.
fn adobe(transform: u8) -> Vec<u8> {
    let mut segment = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0".to_vec();
    segment.push(transform);
    segment
}

/// Dark red at the left, light blue at the right, with a gradient down.
fn scene(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let shade = u8::try_from(y * 60 / height).unwrap();
        if x < width / 2 { Rgb([150, 10 + shade, 20]) } else { Rgb([120, 170 + shade, 250]) }
    })
}

fn shown(bytes: &[u8]) -> Result<RgbImage, PictureError> {
    let settings = PictureSettings::default();
    let prepared = prepare(&Bytes::copy_from_slice(bytes), &settings, &mut Scratch::default())?;
    assert_eq!(prepared.mime_type, "image/jpeg");
    Ok(image::load_from_memory(&prepared.bytes).unwrap().into_rgb8())
}

/// Mean difference of a channel between small copies, 0 to 255.
fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    let small = |image: &RgbImage| {
        image::imageops::resize(image, 32, 32, image::imageops::FilterType::Triangle)
    };
    let (a, b) = (small(a), small(b));
    let sum: u64 = a.iter().zip(b.iter()).map(|(x, y)| u64::from(x.abs_diff(*y))).sum();
    sum as f64 / a.len() as f64
}

/// A JPEG whose components are `samples` as they stand.
fn jpeg_of(samples: &[u8], width: u32, height: u32, color: ColorType) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, 92);
    encoder.set_sampling_factor(SamplingFactor::F_1_1);
    let edge = |pixels: u32| u16::try_from(pixels).unwrap();
    encoder.encode(samples, edge(width), edge(height), color).unwrap();
    out
}

/// Where each segment before the first scan begins, and the first scan's.
fn segments(jpeg: &[u8]) -> Vec<usize> {
    let (mut found, mut at) = (Vec::new(), 2);
    loop {
        found.push(at);
        if jpeg[at + 1] == 0xda {
            return found;
        }
        at += 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
    }
}

/// The file without its first segment with this marker.
fn without(jpeg: &[u8], marker: u8) -> Vec<u8> {
    let starts = segments(jpeg);
    let i = starts.iter().position(|at| jpeg[at + 1] == marker).unwrap();
    [&jpeg[..starts[i]], &jpeg[starts[i + 1]..]].concat()
}

fn inserted(jpeg: &[u8], at: usize, what: &[u8]) -> Vec<u8> {
    [&jpeg[..at], what, &jpeg[at..]].concat()
}

#[test]
fn an_rgb_jpeg_of_any_size_shows_its_colours() {
    // Below and above what is sent without being shrunk, and above 2.5 megapixels.
    for (width, height) in [(40, 30), (1500, 1500), (2000, 1600)] {
        let scene = scene(width, height);
        let plain = without(&jpeg_of(&scene, width, height, ColorType::Ycbcr), 0xe0);
        let mut named = plain.clone();
        let starts = segments(&plain);
        let frame = starts.iter().find(|at| plain[**at + 1] == 0xc0).unwrap();
        let scan = starts.last().unwrap();
        for (i, name) in b"RGB".iter().enumerate() {
            named[frame + 10 + i * 3] = *name;
            named[scan + 5 + i * 2] = *name;
        }
        let marked = inserted(&plain, 2, &adobe(0));
        for (file, what) in [(named, "components R, G, B"), (marked, "Adobe's transform 0")] {
            let apart = difference(&scene, &shown(&file).unwrap());
            assert!(apart < 4.0, "{what}, {width} x {height}: differs by {apart}");
        }
        // JFIF has the last word: these components are then YCbCr.
        let with_jfif = inserted(&jpeg_of(&scene, width, height, ColorType::Rgb), 2, &adobe(0));
        let apart = difference(&scene, &shown(&with_jfif).unwrap());
        assert!(apart < 4.0, "JFIF, {width} x {height}: differs by {apart}");
    }
}

#[test]
fn four_components_show_the_same_with_and_without_adobes_segment() {
    // Stored inverted: 255 is no ink.
    let scene = scene(40, 30);
    let inks: Vec<u8> = scene.pixels().flat_map(|Rgb([r, g, b])| [*r, *g, *b, 255]).collect();
    let marked = jpeg_of(&inks, 40, 30, ColorType::Cmyk);
    // The encoder inverts for Adobe's readers; what matters is what the readers make of it.
    let unmarked = without(&marked, 0xee);
    assert!(shown(&marked).unwrap() == shown(&unmarked).unwrap());
}

#[test]
fn stray_bytes_before_the_first_scan_change_nothing() {
    let scene = scene(64, 48);
    let jpegs = [
        jpeg_of(&scene, 64, 48, ColorType::Rgb),
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/photos/formats/progressive.jpg"))
            .unwrap(),
    ];
    for jpeg in jpegs {
        let whole = shown(&jpeg).unwrap();
        // Directly after its first two bytes nothing would tell that it is a JPEG.
        for at in segments(&jpeg).into_iter().skip(1) {
            for stray in [&b"\0"[..], b"\0\0", b" ", b"\xff\0\x01", b"sixteen strays !!", &[7; 300]]
            {
                let found = shown(&inserted(&jpeg, at, stray));
                let found = found.unwrap_or_else(|e| panic!("{} bytes at {at}: {e}", stray.len()));
                assert!(found == whole, "{} bytes at {at} change the image", stray.len());
            }
        }
        let short = [&adobe(1)[..3], b"\x08Adobe\0"].concat();
        assert!(shown(&inserted(&jpeg, 2, &short)).unwrap() == whole, "a short Adobe segment");
        // The data of the image are still checked to the last byte.
        let last = *segments(&jpeg).last().unwrap();
        let broken = inserted(&jpeg[..jpeg.len() - 2], last, b"\0\0");
        assert!(matches!(shown(&broken), Err(PictureError::CutOff { .. })));
    }
}

/// Lossless, with this EXIF block.
fn webp_of(image: &RgbImage, exif: Option<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut out);
    if let Some(exif) = exif {
        encoder.set_exif_metadata(exif).unwrap();
    }
    let (width, height) = image.dimensions();
    encoder.write_image(image, width, height, image::ExtendedColorType::Rgb8).unwrap();
    out
}

fn exif_with(orientation: u8) -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    block.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    block
}

#[test]
fn a_webp_is_turned_upright_whichever_way_its_exif_begins() {
    let upright = DynamicImage::from(scene(64, 48));
    let stored = [
        (2, upright.fliph()),
        (3, upright.rotate180()),
        (4, upright.flipv()),
        (5, upright.rotate90().fliph()),
        (6, upright.rotate270()),
        (7, upright.rotate270().fliph()),
        (8, upright.rotate90()),
    ];
    for (orientation, stored) in stored {
        let block = exif_with(orientation);
        for exif in [block.clone(), [&b"Exif\0\0"[..], &block].concat()] {
            let image = shown(&webp_of(&stored.to_rgb8(), Some(exif))).unwrap();
            assert_eq!(image.dimensions(), (64, 48), "orientation {orientation}");
            let apart = difference(&upright.to_rgb8(), &image);
            assert!(apart < 4.0, "orientation {orientation} differs by {apart}");
        }
    }
}

#[test]
fn a_webp_that_lacks_a_byte_anywhere_is_cut_off() {
    for exif in [None, Some(exif_with(1))] {
        let webp = webp_of(&scene(64, 48), exif);
        assert!(shown(&webp).is_ok());
        for n_lost in [1, 2, 16, webp.len() / 10, webp.len() / 2] {
            let end = shown(&webp[..webp.len() - n_lost]).unwrap_err();
            assert!(matches!(end, PictureError::CutOff { .. }), "{n_lost} at the end: {end}");
            let middle = webp.len() / 3;
            let gap = [&webp[..middle], &webp[middle + n_lost..]].concat();
            let gap = shown(&gap).unwrap_err();
            assert!(matches!(gap, PictureError::CutOff { .. }), "{n_lost} in the middle: {gap}");
        }
        assert!(shown(&[&webp[..], b"trailing"].concat()).is_ok());
    }
}
