//! TIFF in its many ways of storing one image: each shows the same, or is refused by its name.

use std::collections::BTreeMap;

use bytes::Bytes;
use image::{GrayImage, Rgb, RgbImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use lookout::review::picture::{PictureError, Scratch, prepare};
use lookout::review::settings::PictureSettings;

const WIDTH: u32 = 32;
const HEIGHT: u32 = 24;

// Tags.
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const FILL_ORDER: u16 = 266;
const SAMPLES: u16 = 277;
const PLANAR: u16 = 284;
const COLOR_MAP: u16 = 320;
const EXTRA: u16 = 338;
const PROFILE: u16 = 34_675;

#[derive(Clone, Copy, Debug)]
enum Order {
    Little,
    Big,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Classic,
    BigTiff,
}

/// A file of one page: tags with their numbers (the profile's are bytes), and a strip for each plane.
struct Tiff {
    order: Order,
    form: Form,
    tags: BTreeMap<u16, Vec<u16>>,
    strips: Vec<Vec<u8>>,
}

impl Tiff {
    fn new(photometric: u16, samples: u16, strip: Vec<u8>) -> Self {
        let tags = [
            (BITS, vec![8; usize::from(samples)]),
            (COMPRESSION, vec![1]),
            (PHOTOMETRIC, vec![photometric]),
            (SAMPLES, vec![samples]),
        ];
        Self { order: Order::Little, form: Form::Classic, tags: tags.into(), strips: vec![strip] }
    }

    fn with(mut self, tag: u16, values: &[u16]) -> Self {
        self.tags.insert(tag, values.to_vec());
        self
    }

    fn number(&self, value: u64, n_bytes: usize) -> Vec<u8> {
        match self.order {
            Order::Little => value.to_le_bytes()[..n_bytes].to_vec(),
            Order::Big => value.to_be_bytes()[8 - n_bytes..].to_vec(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let (offset, count) = match self.form {
            Form::Classic => (4, 2),
            Form::BigTiff => (8, 8),
        };
        let mut file = match self.order {
            Order::Little => b"II".to_vec(),
            Order::Big => b"MM".to_vec(),
        };
        match self.form {
            Form::Classic => file.extend(self.number(42, 2)),
            Form::BigTiff => file.extend([43, 8, 0].iter().flat_map(|v| self.number(*v, 2))),
        }
        let at_directory = file.len();
        file.resize(at_directory + offset, 0);
        let mut starts = Vec::new();
        for strip in &self.strips {
            starts.push(file.len() as u64);
            file.extend(strip);
        }
        // Tag, type, count and bytes of each entry, in the order of tags.
        let mut entries: BTreeMap<u16, (u16, usize, Vec<u8>)> = BTreeMap::new();
        for (tag, values) in &self.tags {
            let (kind, size) = if *tag == PROFILE { (7, 1) } else { (3, 2) };
            let bytes = values.iter().flat_map(|v| self.number(u64::from(*v), size)).collect();
            entries.insert(*tag, (kind, values.len(), bytes));
        }
        let longs = |values: Vec<u64>| {
            let bytes = values.iter().flat_map(|v| self.number(*v, 4)).collect();
            (4, values.len(), bytes)
        };
        entries.insert(256, longs(vec![u64::from(WIDTH)]));
        entries.insert(257, longs(vec![u64::from(HEIGHT)]));
        entries.insert(273, longs(starts));
        entries.insert(278, longs(vec![u64::from(HEIGHT)]));
        entries.insert(279, longs(self.strips.iter().map(|strip| strip.len() as u64).collect()));
        let mut directory = self.number(entries.len() as u64, count);
        for (tag, (kind, n, bytes)) in entries {
            directory.extend(self.number(tag.into(), 2));
            directory.extend(self.number(u64::from(kind), 2));
            directory.extend(self.number(n as u64, offset));
            if bytes.len() <= offset {
                let mut inline = bytes;
                inline.resize(offset, 0);
                directory.extend(inline);
            } else {
                directory.extend(self.number(file.len() as u64, offset));
                file.extend(bytes);
            }
        }
        directory.extend(vec![0; offset]);
        let start = self.number(file.len() as u64, offset);
        file[at_directory..at_directory + offset].copy_from_slice(&start);
        file.extend(directory);
        file
    }
}

/// Four fields of flat colours.
fn scene() -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| match (x < WIDTH / 2, y < HEIGHT / 2) {
        (true, true) => Rgb([200, 30, 40]),
        (true, false) => Rgb([30, 160, 60]),
        (false, true) => Rgb([20, 40, 180]),
        (false, false) => Rgb([240, 240, 230]),
    })
}

fn scene_in_gray() -> GrayImage {
    // Shades that 1, 2 and 4 bits can tell, too.
    GrayImage::from_fn(WIDTH, HEIGHT, |x, _| image::Luma([if x < WIDTH / 2 { 0 } else { 255 }]))
}

fn shown(file: &[u8]) -> Result<RgbImage, PictureError> {
    let settings = PictureSettings { quality: 95, ..PictureSettings::default() };
    let prepared = prepare(&Bytes::copy_from_slice(file), &settings, &mut Scratch::default())?;
    Ok(image::load_from_memory(&prepared.bytes).unwrap().into_rgb8())
}

/// Compares the middles of the four fields, where JPEG's blocks don't mix them.
fn assert_shows(file: &[u8], expected: &RgbImage, what: &str) {
    let found = shown(file).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(found.dimensions(), expected.dimensions(), "{what}");
    for (x, y) in [(4, 4), (WIDTH - 4, 4), (4, HEIGHT - 4), (WIDTH - 4, HEIGHT - 4)] {
        let (found, expected) = (found.get_pixel(x, y), expected.get_pixel(x, y));
        let apart = found.0.iter().zip(expected.0).map(|(a, b)| a.abs_diff(b)).max().unwrap();
        assert!(apart <= 6, "{what} at {x}, {y}: {found:?} instead of {expected:?}");
    }
}

/// The scene as indexes into a palette of its four colours.
fn palette_of(bits: u16) -> Tiff {
    let colors: Vec<Rgb<u8>> = [(0, 0), (0, HEIGHT - 1), (WIDTH - 1, 0), (WIDTH - 1, HEIGHT - 1)]
        .map(|(x, y)| *scene().get_pixel(x, y))
        .to_vec();
    let indexes: Vec<u8> = scene()
        .pixels()
        .map(|p| u8::try_from(colors.iter().position(|c| c == p).unwrap()).unwrap())
        .collect();
    let n_colors = 1_usize << bits;
    // All reds, all greens, all blues.
    let mut map = Vec::new();
    for channel in 0..3 {
        for i in 0..n_colors {
            map.push(colors.get(i).map_or(0, |color| u16::from(color.0[channel]) * 257));
        }
    }
    Tiff::new(3, 1, packed(&indexes, bits)).with(BITS, &[bits]).with(COLOR_MAP, &map)
}

/// Values of so many bits, side by side; a row of the scene fills whole bytes.
fn packed(values: &[u8], bits: u16) -> Vec<u8> {
    let per_byte = usize::from(8 / bits);
    values
        .chunks(per_byte)
        .map(|chunk| chunk.iter().fold(0_u8, |byte, value| byte.wrapping_shl(bits.into()) | value))
        .collect()
}

/// The scene as a JPEG of these components.
fn jpeg_inside(color: ColorType) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, 95);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let edges = (u16::try_from(WIDTH).unwrap(), u16::try_from(HEIGHT).unwrap());
    encoder.encode(&scene(), edges.0, edges.1, color).unwrap();
    out
}

#[test]
fn one_image_shows_the_same_in_both_byte_orders_and_in_bigtiff() {
    for order in [Order::Little, Order::Big] {
        for form in [Form::Classic, Form::BigTiff] {
            let rgb = Tiff { order, form, ..Tiff::new(2, 3, scene().into_raw()) };
            assert_shows(&rgb.bytes(), &scene(), &format!("RGB, {order:?}, {form:?}"));
            let palette = Tiff { order, form, ..palette_of(8) };
            assert_shows(&palette.bytes(), &scene(), &format!("palette, {order:?}, {form:?}"));
        }
    }
}

#[test]
fn colours_show_the_same_however_they_are_stored() {
    let raw = scene().into_raw();
    let planes: Vec<Vec<u8>> =
        (0..3).map(|c| raw.iter().skip(c).step_by(3).copied().collect()).collect();
    let planar = Tiff { strips: planes, ..Tiff::new(2, 3, Vec::new()) }.with(PLANAR, &[2]);
    let inks: Vec<u8> =
        scene().pixels().flat_map(|Rgb([r, g, b])| [255 - r, 255 - g, 255 - b, 0]).collect();
    let reversed: Vec<u8> = raw.iter().map(|byte| byte.reverse_bits()).collect();
    let deep: Vec<u8> = raw.iter().flat_map(|v| [*v, *v]).collect();
    for (what, tiff) in [
        ("planes", planar),
        ("16 bits", Tiff::new(2, 3, deep).with(BITS, &[16; 3])),
        ("reversed bits", Tiff::new(2, 3, reversed).with(FILL_ORDER, &[2])),
        ("inks", Tiff::new(5, 4, inks)),
        ("palette of 8 bits", palette_of(8)),
        ("palette of 4 bits", palette_of(4)),
        ("palette of 2 bits", palette_of(2)),
        ("a JPEG inside", Tiff::new(6, 3, jpeg_inside(ColorType::Rgb)).with(COMPRESSION, &[7])),
        (
            "an RGB JPEG inside",
            Tiff::new(2, 3, jpeg_inside(ColorType::Ycbcr)).with(COMPRESSION, &[7]),
        ),
    ] {
        assert_shows(&tiff.bytes(), &scene(), what);
    }
}

#[test]
fn shades_show_the_same_however_they_are_stored() {
    let gray = scene_in_gray();
    let expected = image::DynamicImage::from(gray.clone()).into_rgb8();
    let raw = gray.into_raw();
    let shades = |bits: u16| -> Vec<u8> {
        let largest = u8::MAX >> (8 - bits);
        packed(&raw.iter().map(|v| v / (u8::MAX / largest)).collect::<Vec<_>>(), bits)
    };
    for bits in [1, 2, 4, 8] {
        let tiff = Tiff::new(1, 1, shades(bits)).with(BITS, &[bits]);
        assert_shows(&tiff.bytes(), &expected, &format!("{bits} bits"));
        let inverted = shades(bits).iter().map(|byte| !byte).collect();
        let tiff = Tiff::new(0, 1, inverted).with(BITS, &[bits]);
        assert_shows(&tiff.bytes(), &expected, &format!("{bits} bits, white is zero"));
    }
    let with_opacity: Vec<u8> = raw.iter().flat_map(|v| [*v, 255]).collect();
    let tiff = Tiff::new(1, 2, with_opacity).with(EXTRA, &[2]);
    assert_shows(&tiff.bytes(), &expected, "grey with opacity");
}

#[test]
fn opacity_is_put_on_white_whether_colours_are_multiplied_or_not() {
    let half = |v: u8| u8::try_from((u32::from(v) * 128 + 255 * 127) / 255).unwrap();
    let expected =
        RgbImage::from_fn(WIDTH, HEIGHT, |x, y| Rgb(scene().get_pixel(x, y).0.map(half)));
    let plain: Vec<u8> = scene().pixels().flat_map(|Rgb([r, g, b])| [*r, *g, *b, 128]).collect();
    let multiplied: Vec<u8> = plain
        .iter()
        .enumerate()
        .map(
            |(i, v)| if i % 4 == 3 { *v } else { u8::try_from(u32::from(*v) * 128 / 255).unwrap() },
        )
        .collect();
    for (extra, samples) in [(2, plain), (1, multiplied)] {
        let tiff = Tiff::new(2, 4, samples).with(EXTRA, &[extra]);
        assert_shows(&tiff.bytes(), &expected, &format!("ExtraSamples {extra}"));
    }
}

#[test]
fn a_profile_goes_with_the_image_but_not_one_of_inks() {
    let profile: Vec<u16> = b"a profile of more than one byte".map(u16::from).to_vec();
    let sent = |tiff: Tiff| {
        let file = Bytes::from(tiff.with(PROFILE, &profile).bytes());
        let settings = PictureSettings::default();
        prepare(&file, &settings, &mut Scratch::default()).unwrap().bytes
    };
    let holds = |jpeg: &[u8]| jpeg.windows(31).any(|w| w == b"a profile of more than one byte");
    assert!(holds(&sent(Tiff::new(2, 3, scene().into_raw()))));
    assert!(!holds(&sent(Tiff::new(5, 4, vec![0; 32 * 24 * 4]))));
}

#[test]
fn what_can_not_be_read_is_not_supported_and_never_damaged() {
    let rgb = || Tiff::new(2, 3, scene().into_raw());
    for (tiff, expected) in [
        (rgb().with(COMPRESSION, &[3]), "Group 3 fax compression"),
        (rgb().with(COMPRESSION, &[6]), "old-style JPEG compression"),
        (rgb().with(COMPRESSION, &[50_000]), "Zstandard compression"),
        (rgb().with(COMPRESSION, &[34_925]), "LZMA compression"),
        (rgb().with(COMPRESSION, &[777]), "compression number 777"),
        (rgb().with(PHOTOMETRIC, &[8]), "CIELab colours"),
        (rgb().with(BITS, &[12; 3]), "12 bits a sample"),
    ] {
        let why = shown(&tiff.bytes()).unwrap_err().to_string();
        assert_eq!(
            why,
            format!("this kind of TIFF file is not supported ({expected}): convert it to JPEG")
        );
    }
}

#[test]
fn half_a_tiff_is_cut_off_and_so_is_half_a_jpeg_inside_one() {
    for tiff in [Tiff::new(2, 3, scene().into_raw()), palette_of(8)] {
        // The directory stands at the end, so the strip is what is shortened.
        let strip = tiff.strips[0].clone();
        let short = Tiff { strips: vec![strip[..strip.len() / 2].to_vec()], ..tiff };
        let error = shown(&short.bytes()[..]).unwrap_err().to_string();
        assert!(error.contains("cut off") || error.contains("damaged"), "{error}");
    }
    let jpeg = jpeg_inside(ColorType::Rgb);
    for n_kept in [jpeg.len() - 2, jpeg.len() / 2] {
        let tiff = Tiff::new(6, 3, jpeg[..n_kept].to_vec()).with(COMPRESSION, &[7]);
        let error = shown(&tiff.bytes()).unwrap_err().to_string();
        assert!(error.contains("cut off"), "{error}");
    }
}
