//! The demo's own folder: photographs, two broken files, and a configuration like a user's.
//!
//! Invariant: nothing outside this folder is written, and the visitor's own photographs are
//! copied, never touched.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The photographs that come with the program; sources and licences in `tests/photos/SOURCES.md`.
const PHOTOGRAPHS: [(&str, &[u8]); 11] = [
    ("astronaut.jpg", include_bytes!("../../../tests/photos/astronaut.jpg")),
    ("cat.jpg", include_bytes!("../../../tests/photos/cat.jpg")),
    ("coffee.jpg", include_bytes!("../../../tests/photos/coffee.jpg")),
    ("coins.jpg", include_bytes!("../../../tests/photos/coins.jpg")),
    ("flower.jpg", include_bytes!("../../../tests/photos/flower.jpg")),
    ("hopper.jpg", include_bytes!("../../../tests/photos/hopper.jpg")),
    ("hubble.jpg", include_bytes!("../../../tests/photos/hubble.jpg")),
    ("photographer.jpg", include_bytes!("../../../tests/photos/photographer.jpg")),
    ("rocket.jpg", include_bytes!("../../../tests/photos/rocket.jpg")),
    ("temple.jpg", include_bytes!("../../../tests/photos/temple.jpg")),
    ("text.jpg", include_bytes!("../../../tests/photos/text.jpg")),
];

/// Endings of files that are copied from the visitor's folder.
const PICTURE_ENDINGS: [&str; 9] =
    ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "heic"];

/// The demo's folder.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Where.
    pub(super) root: PathBuf,
    /// Pictures for later runs: name and bytes.
    pictures: Vec<(String, Vec<u8>)>,
}

/// Where the demo's parts listen.
#[derive(Debug)]
pub(super) struct Addresses<'a> {
    /// The stand-in.
    pub(super) gemini: &'a str,
    /// The receiver.
    pub(super) alerts: &'a str,
    /// Where the page will be.
    pub(super) page: &'a str,
}

impl Scratch {
    /// Makes the folder and reads the pictures, the visitor's or ours.
    pub(super) fn new(images: Option<&Path>) -> anyhow::Result<Self> {
        let root = std::env::temp_dir().join(format!("lookout-demo-{}", std::process::id()));
        fs::create_dir_all(root.join("images")).with_context(|| {
            format!("can't create {}; set TMPDIR to a folder that can be written", root.display())
        })?;
        let pictures = match images {
            Some(folder) => visitors_pictures(folder)?,
            None => PHOTOGRAPHS.iter().map(|(n, b)| ((*n).to_owned(), b.to_vec())).collect(),
        };
        Ok(Self { root, pictures })
    }

    /// How many whole pictures a run finds.
    pub(super) fn n_pictures(&self) -> usize {
        self.pictures.len()
    }

    /// Puts the pictures into the images folder, under names of this round.
    pub(super) fn add_pictures(&self, round: &str) -> anyhow::Result<()> {
        for (name, bytes) in &self.pictures {
            self.add(&format!("{round}-{name}"), bytes)?;
        }
        Ok(())
    }

    /// Adds a photograph cut in half and a web page that calls itself a photograph.
    pub(super) fn add_broken_files(&self) -> anyhow::Result<()> {
        let (_, whole) = PHOTOGRAPHS[2];
        self.add("cut-in-half.jpg", &whole[..whole.len() / 2])?;
        self.add("not-a-picture.jpg", b"<!doctype html><title>404 Not Found</title>\n")
    }

    fn add(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.root.join("images").join(name);
        fs::write(&path, bytes).with_context(|| format!("can't write {}", path.display()))
    }

    /// Writes what a user would have written.
    pub(super) fn write_configuration(&self, at: &Addresses<'_>) -> anyhow::Result<PathBuf> {
        let file = self.root.join("lookout.toml");
        self.write(
            "lookout.toml",
            &format!(
                r#"[service]
instance = "demo"
bind = "{page}"
[records]
kind = "sqlite"
path = "state/records.db"
[images]
kind = "folder"
path = "images"
[reviewer]
kind = "gemini"
base_url = "{gemini}"
attempt_timeout = "5s"
give_up_after = "12s"          # ten minutes in real life
[[reviewer.project]]
name = "demo"
keys = ["${{GEMINI_API_KEY}}"]
"#,
                page = at.page,
                gemini = at.gemini
            ),
        )?;
        self.write(
            "schedules/image-review.toml",
            r#"cron = "* * * * *"             # every hour in real life
time_box = "40s"               # 45 minutes in real life
signal_grace = "10s"
kill_grace = "2s"
start_grace = "10s"
stall_after = "38s"            # longer than the 30 s between two tries of a picture
[job]
kind = "review"
"#,
        )?;
        self.write(
            "schedules/nightly-export.toml",
            r#"cron = "0 4 1 1 *"             # once a year; the demo runs it by hand
time_box = "10s"
signal = "export finished"
signal_grace = "2s"
stall_after = "5s"
[job]
kind = "command"
argv = ["sh", "-c", "echo exporting 3 files; echo 'out of paper' >&2"]
"#,
        )?;
        self.write(
            "alerts/team-webhook.toml",
            "kind = \"webhook\"\nurl = \"${DEMO_WEBHOOK_URL}\"\nseverity = \"info\"\n",
        )?;
        self.write(
            ".env",
            &format!("GEMINI_API_KEY=demo-key-not-real\nDEMO_WEBHOOK_URL={}\n", at.alerts),
        )?;
        Ok(file)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.root.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
    }
}

/// Reads the visitor's pictures; at most 50 MB each, because larger ones are refused anyway.
fn visitors_pictures(folder: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut pictures = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| {
        format!("can't read the folder {} given with --images", folder.display())
    })?;
    for entry in entries {
        let path = entry?.path();
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        if path.is_file() && PICTURE_ENDINGS.contains(&ending.as_str()) {
            let bytes =
                fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
            pictures.push((name.to_owned(), bytes));
        }
    }
    if pictures.is_empty() {
        bail!(
            "{} holds no images ({}); name a folder with some, or leave out --images",
            folder.display(),
            PICTURE_ENDINGS.join(", ")
        );
    }
    pictures.sort();
    Ok(pictures)
}
