//! How fast real photographs go through the whole review, and in how much memory.
//!
//! `cargo bench --bench review` plays every case of [`CASES`]: makes its pictures once (crops and
//! sizes of `tests/photos/large`, kept under `target/`), measures the processor time of preparing
//! them alone, then runs the program itself on the folder, against the stand-in with the case's
//! latency. A case fails if the run takes more than its share of the larger of the two unavoidable
//! times, or more memory than it may. `-- --case mixed` plays one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement may panic, and prints its result"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use image::DynamicImage;
use image::imageops::FilterType;
use lookout::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings, Looking};
use lookout::review::picture::{Scratch, prepare};
use lookout::review::settings::PictureSettings;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// What is measured, and what it may take.
struct Case {
    name: &'static str,
    n: usize,
    /// Megapixels, from and to; sizes between them are spread evenly by factors.
    megapixels: (f64, f64),
    latency: Duration,
    in_flight: u32,
    /// The most that the review may take of the larger unavoidable time.
    most: f64,
    most_megabytes: u64,
}

const CASES: [Case; 4] = [
    Case {
        name: "mixed",
        n: 500,
        megapixels: (0.5, 16.0),
        latency: Duration::from_millis(200),
        in_flight: 16,
        most: 1.3,
        most_megabytes: 300,
    },
    Case {
        name: "two-megapixels",
        n: 1000,
        megapixels: (2.0, 2.0),
        latency: Duration::from_millis(1500),
        in_flight: 64,
        most: 1.3,
        most_megabytes: 250,
    },
    Case {
        name: "half-a-megapixel",
        n: 1000,
        megapixels: (0.5, 0.5),
        latency: Duration::from_millis(1500),
        in_flight: 64,
        most: 1.1,
        most_megabytes: 250,
    },
    Case {
        name: "large",
        n: 48,
        megapixels: (24.0, 24.0),
        latency: Duration::from_millis(1500),
        in_flight: 16,
        // Preparing is nearly all of it, and three rounds of 16 leave the processors idle.
        most: 2.0,
        most_megabytes: 400,
    },
];

fn main() {
    let mut arguments = std::env::args();
    let only = arguments.by_ref().find(|word| word == "--case").and_then(|_| arguments.next());
    let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    assert!(
        only.as_deref().is_none_or(|only| names.contains(&only)),
        "there is no such case; there are {names:?}"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let wanted = |case: &&Case| only.as_deref().is_none_or(|only| only == case.name);
    let missed: Vec<&str> = CASES
        .iter()
        .filter(wanted)
        .filter(|case| {
            let folder = pictures(case);
            let preparing = prepare_alone(&folder);
            !runtime.block_on(review(case, &folder, preparing))
        })
        .map(|case| case.name)
        .collect();
    assert!(missed.is_empty(), "too slow or too large: {missed:?}");
}

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of pictures; made once, since that takes longer than the review.
fn pictures(case: &Case) -> PathBuf {
    let (name, n) = (case.name, case.n);
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let folder = target.join(format!("pictures-{name}"));
    let made = target.join(format!("pictures-{name}.made"));
    if made.exists() {
        return folder;
    }
    fs::create_dir_all(&folder).unwrap();
    println!("making {n} pictures in {}", folder.display());
    let mut sources: Vec<PathBuf> = fs::read_dir(manifest().join("tests/photos/large"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    sources.sort();
    let sources: Vec<DynamicImage> =
        sources.iter().map(|path| image::open(path).unwrap()).collect();
    let mut random = fastrand::Rng::with_seed(500);
    for number in 0..n {
        let source = &sources[number % sources.len()];
        let (width, height) = (source.width(), source.height());
        // Half of them crops, half of them the whole view in another size.
        let (least, most) = case.megapixels;
        let megapixels = least * (most / least).powf(random.f64());
        let largest = f64::from(width) * f64::from(height) / 1e6;
        let scale = (megapixels.min(largest) / largest).sqrt();
        let (w, h) = ((f64::from(width) * scale) as u32, (f64::from(height) * scale) as u32);
        let picture = if megapixels > largest {
            let scale = (megapixels / largest).sqrt();
            let (w, h) = ((f64::from(width) * scale) as u32, (f64::from(height) * scale) as u32);
            source.resize_exact(w, h, FilterType::Triangle)
        } else if number % 2 == 0 {
            source.crop_imm(random.u32(0..=width - w), random.u32(0..=height - h), w, h)
        } else {
            source.resize_exact(w, h, FilterType::Triangle)
        };
        let rgb = picture.into_rgb8();
        let path = folder.join(format!("{number:04}.jpg"));
        let mut encoder = jpeg_encoder::Encoder::new_file(&path, 88).unwrap();
        encoder.set_progressive(number % 10 == 9);
        let (w, h) = (u16::try_from(w).unwrap(), u16::try_from(h).unwrap());
        encoder.encode(&rgb, w, h, jpeg_encoder::ColorType::Rgb).unwrap();
    }
    fs::write(made, "").unwrap();
    folder
}

/// Processor time of preparing every picture, one after another.
fn prepare_alone(folder: &Path) -> Duration {
    let settings = PictureSettings::default();
    let mut scratch = Scratch::default();
    let mut n_bytes = 0;
    let before = processor_time();
    for entry in fs::read_dir(folder).unwrap() {
        let bytes = Bytes::from(fs::read(entry.unwrap().path()).unwrap());
        n_bytes += bytes.len();
        prepare(&bytes, &settings, &mut scratch).unwrap();
    }
    let took = processor_time().checked_sub(before).unwrap();
    println!(
        "preparing alone: {:.1} s of processor for {} MB",
        took.as_secs_f64(),
        n_bytes / 1_000_000
    );
    took
}

fn processor_time() -> Duration {
    let at = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(at.tv_sec.try_into().unwrap(), at.tv_nsec.try_into().unwrap())
}

/// Whether the program keeps within the case's limits.
async fn review(case: &Case, folder: &Path, preparing: Duration) -> bool {
    let behaviour = Behaviour { looking: Looking::Bytes, ..Behaviour::slow(case.latency) };
    let stand_in = FakeGemini::start(FakeGeminiSettings { port: 0, behaviour }).await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("lookout.toml");
    let text = format!(
        "[records]\nkind = \"sqlite\"\n[images]\nkind = \"folder\"\npath = {:?}\n\
         [reviewer]\nbase_url = {:?}\nmax_in_flight = {}\n",
        folder.to_str().unwrap(),
        stand_in.base_url,
        case.in_flight
    );
    fs::write(&config, text).unwrap();
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lookout"))
        .arg("--config")
        .arg(&config)
        .arg("review")
        .current_dir(scratch.path())
        .env("GEMINI_API_KEY", "a-key-for-the-stand-in")
        .stdin(Stdio::null())
        .stdout(fs::File::create(scratch.path().join("out")).unwrap())
        .spawn()
        .unwrap();
    let mut megabytes = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        megabytes = megabytes.max(high_water(child.id()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let took = started.elapsed().as_secs_f64();
    let out = fs::read_to_string(scratch.path().join("out")).unwrap();
    let end: Vec<&str> = out.lines().rev().take(3).collect();
    assert!(status.success(), "{status}: {out}");
    assert!(end.iter().any(|line| line.contains("Bulk processing completed.")), "{end:?}");

    let cores = std::thread::available_parallelism().unwrap().get();
    let waiting = case.n as f64 * case.latency.as_secs_f64() / f64::from(case.in_flight);
    let preparing = preparing.as_secs_f64() / cores as f64;
    let least = waiting.max(preparing);
    let ratio = took / least;
    println!(
        "{}: {took:.1} s for {}; unavoidable {least:.1} s (waiting {waiting:.1} s, preparing on \
         {cores} cores {preparing:.1} s); ratio {ratio:.2} of {}; {megabytes} MB of {}",
        case.name, case.n, case.most, case.most_megabytes
    );
    ratio <= case.most && megabytes <= case.most_megabytes
}

/// The most resident memory so far, in megabytes.
fn high_water(pid: u32) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024 / 1_000_000)
}
