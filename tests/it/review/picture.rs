//! Images: what real files become, and what broken ones are called.

use std::path::Path;

use bytes::Bytes;
use image::DynamicImage;
use lookout::review::picture::worker_pool::WorkerPool;
use lookout::review::picture::{PictureError, Scratch, cost, prepare, probe};
use lookout::review::reviewer::Prepared;
use lookout::review::settings::PictureSettings;

fn photo(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into()
}

fn photos() -> Vec<(String, Bytes)> {
    let mut found = Vec::new();
    for folder in ["", "large", "formats"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos").join(folder);
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_file() && !name.ends_with(".md") {
                found.push((name, std::fs::read(&path).unwrap().into()));
            }
        }
    }
    found.sort();
    found
}

fn prepared(bytes: &Bytes) -> Result<Prepared, PictureError> {
    prepare(bytes, &PictureSettings::default(), &mut Scratch::default())
}

fn reason(bytes: impl Into<Bytes>) -> String {
    prepared(&bytes.into()).expect_err("should be refused").to_string()
}

fn looks(prepared: &Prepared) -> DynamicImage {
    assert_eq!(prepared.mime_type, "image/jpeg");
    let image = image::load_from_memory(&prepared.bytes).unwrap();
    assert_eq!((image.width(), image.height()), (prepared.width, prepared.height));
    image
}

/// Mean difference of a channel, 0 to 255, on a small copy of both.
fn difference(a: &DynamicImage, b: &DynamicImage) -> f64 {
    let small = |image: &DynamicImage| {
        image.resize_exact(64, 48, image::imageops::FilterType::Triangle).into_rgb8()
    };
    let (a, b) = (small(a), small(b));
    let sum: u64 = a.iter().zip(b.iter()).map(|(x, y)| u64::from(x.abs_diff(*y))).sum();
    sum as f64 / a.len() as f64
}

/// Position of the first JPEG segment with this marker.
fn segment(bytes: &[u8], marker: u8) -> usize {
    bytes.windows(2).position(|w| w == [0xff, marker]).unwrap()
}

#[test]
fn every_photograph_becomes_an_upright_jpeg_of_bounded_size() {
    for (name, bytes) in photos() {
        // The large ones have tests of their own.
        if name.ends_with(".heic") || name.ends_with(".avif") || name.contains('_') {
            continue;
        }
        let prepared = prepared(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let image = looks(&prepared);
        assert!(image.width().max(image.height()) <= 1536, "{name}");
        assert!(prepared.bytes.len() < 1_000_000, "{name}: {} bytes", prepared.bytes.len());
        assert_eq!(prepared.sha256.len(), 64);
    }
}

#[test]
fn the_same_view_looks_the_same_in_every_format() {
    let plain = looks(&prepared(&photo("formats/progressive.jpg")).unwrap());
    for name in [
        "orientation-6.jpg",
        "cmyk.jpg",
        "palette.png",
        "lossy.webp",
        "picture.bmp",
        "picture.tif",
        "picture.gif",
    ] {
        let image = looks(&prepared(&photo(&format!("formats/{name}"))).unwrap());
        assert!(image.width() > image.height(), "{name} lies on its side");
        let apart = difference(&plain, &image);
        assert!(apart < 8.0, "{name} differs by {apart}");
    }
    let gray = looks(&prepared(&photo("formats/gray.jpg")).unwrap());
    let apart = difference(&DynamicImage::from(plain.to_luma8()), &gray);
    assert!(apart < 4.0, "gray differs by {apart}");
}

#[test]
fn a_large_photograph_keeps_its_shape_when_it_is_shrunk() {
    let bytes = photo("large/wine10_b.jpg");
    let prepared = prepared(&bytes).unwrap();
    assert_eq!((prepared.width, prepared.height), (1025, 1536));
    let apart = difference(&image::load_from_memory(&bytes).unwrap(), &looks(&prepared));
    assert!(apart < 2.0, "differs by {apart}");
}

#[test]
fn a_small_jpeg_is_sent_as_it_is_but_without_its_metadata() {
    let plain = photo("cat.jpg");
    assert_eq!(prepared(&plain).unwrap().bytes, plain);
    let mut with_place = plain[..2].to_vec();
    with_place.extend(b"\xff\xe1\x00\x20Exif\0\0MM\0*\0\0\0\x08\0\0GPS: 52.52, 13");
    with_place.extend(&plain[2..]);
    with_place.extend(b"trailing");
    let sent = prepared(&with_place.into()).unwrap();
    assert_eq!(sent.bytes, plain);
}

#[test]
fn transparent_parts_become_white() {
    let mut image = image::RgbaImage::from_pixel(40, 40, image::Rgba([200, 0, 0, 255]));
    image.get_pixel_mut(0, 0).0[3] = 0;
    for x in 0..20 {
        for y in 0..40 {
            image.put_pixel(x, y, image::Rgba([0, 0, 0, 0]));
        }
    }
    let out = looks(&prepared(&encoded(image, image::ImageFormat::Png)).unwrap()).into_rgb8();
    assert!(out.get_pixel(4, 20).0.iter().all(|v| *v > 245), "{:?}", out.get_pixel(4, 20));
    assert!(out.get_pixel(36, 20).0[0] > 180 && out.get_pixel(36, 20).0[1] < 20);
}

fn encoded(image: impl Into<DynamicImage>, format: image::ImageFormat) -> Bytes {
    let mut out = std::io::Cursor::new(Vec::new());
    image.into().write_to(&mut out, format).unwrap();
    out.into_inner().into()
}

#[test]
fn sixteen_bits_become_eight() {
    let plain = looks(&prepared(&photo("cat.jpg")).unwrap());
    let deep = encoded(plain.to_rgb16(), image::ImageFormat::Png);
    let apart = difference(&plain, &looks(&prepared(&deep).unwrap()));
    assert!(apart < 2.0, "differs by {apart}");
}

#[test]
fn an_interlaced_png_is_read_in_full() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/picture");
    let read = |name: &str| Bytes::from(std::fs::read(corpus.join(name)).unwrap());
    let plain = looks(&prepared(&read("rgb.png")).unwrap());
    let interlaced = looks(&prepared(&read("interlaced.png")).unwrap());
    assert_eq!(difference(&plain, &interlaced), 0.0);
}

#[test]
fn a_png_named_jpg_is_read_for_what_it_is() {
    // Names do not come into it: only the content does.
    assert_eq!(prepared(&photo("formats/palette.png")).unwrap().mime_type, "image/jpeg");
}

#[test]
fn a_heic_goes_through_whole_and_an_avif_is_refused() {
    let heic = photo("formats/picture.heic");
    let sent = prepared(&heic).unwrap();
    assert_eq!((sent.mime_type, &sent.bytes), ("image/heic", &heic));
    for length in [40, heic.len() / 2, heic.len() - 1] {
        let why = reason(heic.slice(..length));
        assert!(why.starts_with("the HEIC file is cut off"), "{why}");
    }
    let why = reason(photo("formats/picture.avif"));
    assert!(why.starts_with("AVIF images are not supported"), "{why}");
}

#[test]
fn half_a_picture_is_never_prepared() {
    for (name, bytes) in photos() {
        if name.ends_with(".avif") {
            continue;
        }
        for percent in [1, 10, 50, 90, 99] {
            let cut = bytes.slice(..bytes.len() * percent / 100);
            let why = reason(cut);
            assert!(
                why.contains("cut off") || why.contains("damaged"),
                "{name} at {percent} %: {why}"
            );
        }
    }
}

#[test]
fn a_jpeg_without_its_end_marker_is_cut_off() {
    for name in ["cat.jpg", "coins.jpg", "formats/progressive.jpg", "formats/cmyk.jpg"] {
        let bytes = photo(name);
        let why = reason(bytes.slice(..bytes.len() - 2));
        assert!(why.contains("without an end marker"), "{name}: {why}");
    }
}

#[test]
fn an_end_marker_in_the_middle_does_not_make_half_a_picture_whole() {
    for name in ["cat.jpg", "coins.jpg", "formats/cmyk.jpg", "formats/gray.jpg"] {
        let bytes = photo(name);
        // A block or two at the very end can't be told from padding.
        for missing in [12, 100, 1000, bytes.len() / 2, bytes.len() * 2 / 3] {
            let mut half = bytes[..bytes.len() - 2 - missing].to_vec();
            half.extend(b"\xff\xd9");
            let result = prepared(&half.into());
            assert!(result.is_err(), "{name} without {missing} bytes");
        }
    }
}

#[test]
fn what_claims_to_be_huge_is_refused_before_it_is_decoded() {
    let mut bytes = photo("large/sunset12_b.jpg").to_vec();
    let frame = segment(&bytes, 0xc0);
    bytes[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    let why = reason(bytes);
    assert_eq!(
        why,
        "the image is too large: 65500 x 65500 pixels, the limit is 20000 pixels an edge"
    );
    let strict = PictureSettings { max_pixels: 100_000, ..PictureSettings::default() };
    let why = prepare(&photo("cat.jpg"), &strict, &mut Scratch::default()).unwrap_err().to_string();
    assert!(why.contains("100000 pixels in all"), "{why}");
    let short = PictureSettings { max_bytes: 1000, ..PictureSettings::default() };
    let why = prepare(&photo("cat.jpg"), &short, &mut Scratch::default()).unwrap_err().to_string();
    assert_eq!(why, "the file is too large: 31589 bytes, the limit is 1000");
}

#[test]
fn a_png_of_fifty_thousand_pixels_an_edge_is_refused() {
    let mut bytes = photo("formats/palette.png").to_vec();
    bytes[16..20].copy_from_slice(&50_000_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&50_000_u32.to_be_bytes());
    // The checksum of the header does not fit any more; either way nothing is decoded.
    let why = reason(bytes);
    assert!(why.contains("too large") || why.contains("damaged"), "{why}");
}

#[test]
fn a_thousand_scans_are_a_trap() {
    let bytes = photo("formats/progressive.jpg");
    let scan = segment(&bytes, 0xda);
    let end = bytes.len() - 2;
    let mut trap = bytes[..end].to_vec();
    for _ in 0..200 {
        trap.extend(&bytes[scan..scan + 40]);
    }
    trap.extend(b"\xff\xd9");
    let why = reason(trap);
    assert!(why.contains("scans"), "{why}");
}

#[test]
fn what_is_no_picture_says_what_it_is() {
    assert_eq!(reason(""), "the file is empty (0 bytes)");
    assert_eq!(
        reason("<html><head><title>Access denied</title></head></html>"),
        "this is not an image but an HTML page titled \"Access denied\""
    );
    assert!(reason(&b"\xff\xd8"[..]).contains("cut off"));
    assert!(reason(&b"\xff\xd8\xff\xe0"[..]).contains("cut off"));
}

#[test]
fn no_damage_breaks_the_program() {
    let mut random = fastrand::Rng::with_seed(20_261_122);
    let settings = PictureSettings { longest_edge: 64, ..PictureSettings::default() };
    let mut scratch = Scratch::default();
    for (name, bytes) in photos() {
        if bytes.len() > 600_000 {
            continue;
        }
        for _ in 0..6 {
            let mut damaged = bytes.to_vec();
            for _ in 0..random.usize(1..20) {
                let at = random.usize(..damaged.len().min(4000));
                damaged[at] = random.u8(..);
            }
            // Either outcome is fine; what matters is that there is one.
            if let Err(error) = prepare(&damaged.into(), &settings, &mut scratch) {
                assert!(!error.to_string().is_empty(), "{name}");
            }
        }
    }
}

#[test]
fn a_picture_comes_out_the_same_whatever_was_prepared_before_it() {
    let mut scratch = Scratch::default();
    let settings = PictureSettings::default();
    for (name, bytes) in photos() {
        // Whole, then broken off in the middle of its pixels, then whole again.
        let fresh = prepare(&bytes, &settings, &mut Scratch::default()).map(|p| p.bytes);
        let first = prepare(&bytes, &settings, &mut scratch).map(|p| p.bytes);
        let half = bytes.slice(..bytes.len() / 2);
        assert!(prepare(&half, &settings, &mut scratch).is_err(), "{name}: half of it");
        let second = prepare(&bytes, &settings, &mut scratch).map(|p| p.bytes);
        assert!(fresh == first && first == second, "{name}");
    }
}

#[test]
fn the_cost_of_a_picture_is_known_from_its_header() {
    let settings = PictureSettings::default();
    let cost_of = |name: &str| {
        let bytes = photo(name);
        cost(&probe(&bytes, &settings).unwrap(), &settings)
    };
    let megabytes = |name: &str| cost_of(name) / 1_000_000;
    // 16 megapixels take 48 MB decoded, and 21 half shrunk and 21 shrunk at the most.
    assert!((80..110).contains(&megabytes("large/seeding16_b.jpg")));
    // 6.3 megapixels, progressive: 19 MB decoded and 2 bytes for each of the samples.
    assert!((60..100).contains(&megabytes("large/life6_p.jpg")));
    assert!(megabytes("cat.jpg") < 5);
}

#[tokio::test]
async fn many_pictures_at_once_are_all_prepared() {
    let preparation =
        WorkerPool::new(PictureSettings { memory: 40 * 1024 * 1024, ..PictureSettings::default() });
    let mut tasks = tokio::task::JoinSet::new();
    for name in ["large/wine10_b.jpg", "cat.jpg", "formats/cmyk.jpg", "large/life6_p.jpg"] {
        let preparation = preparation.clone();
        let bytes = photo(name);
        tasks.spawn(async move { preparation.prepare(bytes).await });
    }
    for outcome in tasks.join_all().await {
        outcome.unwrap();
    }
}
