//! Loading: finds the files, reads them all, notes every problem, and only then decides.
//!
//! Invariant: either there is no problem and a whole [`Config`], or all problems and no config.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::combination::{self, ChannelNames};
use super::document::{self, Table, Value};
use super::environment::{self, Variables};
use super::problem::{Place, Problem, Problems};
use super::section::{Names, Reader, Section};
use super::{
    Config, Environment, Location, ServiceSettings, channel, records, reviewer, schedule, service,
};
use crate::alert::channel::ChannelSettings;
use crate::review::settings::{
    BudgetSettings, ImageSettings, PictureSettings, RecordKind, RecordSettings, ReviewSettings,
    ReviewerSettings,
};
use crate::schedule::{Job, Schedule};
use crate::timezone::TimeZones;

/// Records claimed at a time.
const BATCH: u32 = 100;

/// Reads everything anew. `process` are the variables of the process.
///
/// # Errors
/// All problems of all files.
pub fn load(location: &Location, process: &BTreeMap<String, String>) -> Result<Config, Problems> {
    match whole(read(location, process)?) {
        (Some(config), problems) if problems.0.is_empty() => Ok(config),
        (_, problems) => Err(problems),
    }
}

/// The variables alone, for a keeper: its schedule was checked when its run began, and a mistake in
/// a file since then must not keep a secret of `.env` from being hidden.
#[must_use]
pub fn variables(location: &Location, process: &BTreeMap<String, String>) -> Environment {
    let read = location.resolve().map(|(root, _)| {
        let mut problems = Vec::new();
        Environment(environment::read(&root, process, &mut problems).into_map())
    });
    read.unwrap_or_else(|_| Environment(process.clone()))
}

/// As [`load`], for commands that look at what a daemon does or ask it for something: all they need
/// is where its state is. What is broken elsewhere is left out, and returned.
///
/// # Errors
/// All problems of all files, if `lookout.toml` can't be read or `[service]` is broken.
pub fn look(
    location: &Location,
    process: &BTreeMap<String, String>,
) -> Result<(Config, Problems), Problems> {
    let (config, problems) = whole(read(location, process)?);
    let is_lost = problems.0.iter().any(|problem| problem.key.starts_with("service"));
    match config {
        Some(config) if !is_lost => Ok((config, problems)),
        _ => Err(problems),
    }
}

/// What is right as one; `None`: `lookout.toml` could not be read at all.
fn whole(read: Read) -> (Option<Config>, Problems) {
    let Read { main, batch, channels, schedules, variables, zones, problems, root, file } = read;
    let switched_off = schedules.off.iter().cloned().chain(channels.off_files()).collect();
    let config = main.map(|main| Config {
        review: ReviewSettings {
            state_dir: main.service.state_dir.clone(),
            records: main.records,
            images: main.images,
            reviewer: main.reviewer,
            picture: main.picture,
            budget: main.budget,
            batch,
        },
        service: main.service,
        schedules: schedules.on,
        channels: channels.on,
        switched_off,
        environment: Environment(variables.into_map()),
        zones,
        root,
        file,
    });
    (config, Problems(problems))
}

/// Everything that could be read, and every problem.
pub(super) struct Read {
    main: Option<Main>,
    batch: u32,
    pub(super) channels: Channels,
    pub(super) schedules: Schedules,
    pub(super) variables: Variables,
    zones: TimeZones,
    /// In the order of files and lines.
    pub(super) problems: Vec<Problem>,
    pub(super) root: PathBuf,
    file: Option<PathBuf>,
}

/// Reads all files, however broken some of them are.
pub(super) fn read(
    location: &Location,
    process: &BTreeMap<String, String>,
) -> Result<Read, Problems> {
    let zones = location.zones.clone();
    zones.refresh();
    let (root, file) = location.resolve()?;
    let mut problems = Vec::new();
    let variables = environment::read(&root, process, &mut problems);
    let main = main_file(file.as_deref(), &variables, &mut problems);
    let alerts = folder(&root, "alerts", &mut problems);
    let schedules = folder(&root, "schedules", &mut problems);
    let reader = Reader {
        root: &root,
        variables: &variables,
        zones: &zones,
        problems: RefCell::new(problems),
    };
    let batch = batch(&reader);
    let main = main.map(|table| read_main(&reader, &table, file.as_deref()));
    let channels = read_channels(&reader, &alerts);
    let schedules = read_schedules(&reader, &schedules, &channels, batch);
    if let Some(main) = &main {
        check_review_is_whole(&reader, main, &schedules.on);
    }
    let mut problems = reader.problems.into_inner();
    problems.sort();
    problems.dedup();
    Ok(Read { main, batch, channels, schedules, variables, zones, problems, root, file })
}

impl Location {
    /// The folder that everything counts from, absolute, and `lookout.toml` if there is one.
    pub(super) fn resolve(&self) -> Result<(PathBuf, Option<PathBuf>), Problems> {
        let Some(config) = &self.config else {
            let file = self.cwd.join("lookout.toml");
            return Ok((self.cwd.clone(), file.is_file().then_some(file)));
        };
        let file = self.cwd.join(config);
        if !file.is_file() {
            return Err(Problems(vec![Problem {
                place: Place::file(config.display().to_string()),
                key: String::new(),
                what: "there is no such file".to_owned(),
                instead: "name the configuration file with --config or LOOKOUT_CONFIG, or leave \
                          both out; `lookout init` writes one"
                    .to_owned(),
            }]));
        }
        let root = file.parent().map_or_else(|| self.cwd.clone(), Path::to_path_buf);
        Ok((root, Some(file)))
    }
}

fn main_file(
    file: Option<&Path>,
    variables: &Variables,
    problems: &mut Vec<Problem>,
) -> Option<Table> {
    let name = main_name(file);
    let mut table = match file.map(|file| read_toml(file, &name)) {
        None => Table::default(),
        Some(Ok(table)) => table,
        Some(Err(wrong)) => {
            problems.extend(wrong);
            return None;
        }
    };
    for (variable, value, place) in variables.overrides() {
        problems.extend(document::overlay(&mut table, variable, value, place).err());
    }
    Some(table)
}

fn main_name(file: Option<&Path>) -> String {
    let name = file.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "lookout.toml".to_owned())
}

fn read_toml(path: &Path, name: &str) -> Result<Table, Vec<Problem>> {
    let unreadable = |why: String| {
        vec![Problem {
            place: Place::file(name),
            key: String::new(),
            what: format!("this file can't be read: {why}"),
            instead: "make it a text file (UTF-8) that the user who runs lookout may read"
                .to_owned(),
        }]
    };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    document::parse(name, &text)
}

/// One file of `schedules/` or `alerts/`.
struct NamedFile {
    /// Without `.toml`.
    stem: String,
    /// `schedules/x.toml`.
    name: String,
    /// `None`: broken, and told.
    table: Option<Table>,
}

impl NamedFile {
    fn is_on(&self) -> bool {
        let enabled = self.table.as_ref().and_then(|table| table.entries.get("enabled"));
        !enabled.is_some_and(|entry| matches!(entry.node.value, Value::Flag(false)))
    }
}

/// The TOML files of a folder by name; a folder that is not there has none.
fn folder(root: &Path, folder: &str, problems: &mut Vec<Problem>) -> Vec<NamedFile> {
    let mut paths = Vec::new();
    match std::fs::read_dir(root.join(folder)) {
        Ok(entries) => paths.extend(entries.filter_map(|e| e.ok().map(|e| e.path()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => problems.push(Problem {
            place: Place::file(folder),
            key: String::new(),
            what: format!("this folder can't be read: {error}"),
            instead: "make it readable for the user that runs lookout".to_owned(),
        }),
    }
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml") && path.is_file());
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let Some(stem) = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()) else {
            continue;
        };
        if stem.starts_with('.') {
            continue;
        }
        let name = format!("{folder}/{stem}.toml");
        if !is_good_name(&stem) {
            problems.push(Problem {
                place: Place::file(&name),
                key: String::new(),
                what: "the name of this file can't be a name in messages and addresses".to_owned(),
                instead: "rename it: small letters, digits, `-` and `_`, at most 64".to_owned(),
            });
        }
        let table = match read_toml(&path, &name) {
            Ok(table) => Some(table),
            Err(wrong) => {
                problems.extend(wrong);
                None
            }
        };
        files.push(NamedFile { stem, name, table });
    }
    files
}

fn is_good_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 64
        && name.starts_with(good)
        && name.chars().all(|c| good(c) || matches!(c, '-' | '_'))
}

/// `LIMIT`, as the old service read it.
fn batch(reader: &Reader<'_>) -> u32 {
    let Some(limit) = reader.variables.get("LIMIT") else { return BATCH };
    match limit.parse() {
        Ok(limit @ 1..=100_000) => limit,
        _ => {
            let what = format!("\"{limit}\" is no number of images");
            let instead = "write a whole number from 1 to 100000, or take the line out";
            reader.problem(reader.variables.place("LIMIT"), "LIMIT", what, instead);
            BATCH
        }
    }
}

/// What `lookout.toml` says.
pub(super) struct Main {
    service: ServiceSettings,
    records: RecordSettings,
    images: ImageSettings,
    /// Whether anybody said where the pictures are.
    images_said: bool,
    reviewer: ReviewerSettings,
    picture: PictureSettings,
    budget: BudgetSettings,
}

fn read_main(reader: &Reader<'_>, table: &Table, file: Option<&Path>) -> Main {
    let top = Section::file(reader, table, &main_name(file), Names::Required);
    let service = service::read(top.section("service"));
    let images = top.section("images");
    let images_said = !images.is_empty() || reader.variables.get("IMAGE_URL").is_some();
    let main = Main {
        records: records::read_records(top.section("records"), &service.state_dir),
        images: records::read_images(images),
        images_said,
        reviewer: reviewer::read(top.section("reviewer")),
        picture: reviewer::read_picture(top.section("picture")),
        budget: reviewer::read_budget(top.section("budget")),
        service,
    };
    top.finish();
    main
}

pub(super) struct Channels {
    pub(super) on: Vec<ChannelSettings>,
    off: Vec<String>,
    broken: Vec<String>,
}

impl Channels {
    pub(super) fn off_files(&self) -> Vec<String> {
        self.off.iter().map(|name| format!("alerts/{name}.toml")).collect()
    }

    fn names(&self) -> ChannelNames<'_> {
        ChannelNames { on: &self.on, off: &self.off, broken: &self.broken }
    }
}

fn read_channels(reader: &Reader<'_>, files: &[NamedFile]) -> Channels {
    let mut channels = Channels { on: Vec::new(), off: Vec::new(), broken: Vec::new() };
    for file in files {
        let is_on = file.is_on();
        let names = if is_on { Names::Required } else { Names::LeftAlone };
        let read = file.table.as_ref().and_then(|table| {
            let section = Section::file(reader, table, &file.name, names);
            let read = channel::read(&section, &file.stem);
            section.finish();
            read
        });
        match read {
            Some(channel) if is_on => channels.on.push(channel),
            None if is_on => channels.broken.push(file.stem.clone()),
            Some(_) | None => channels.off.push(file.stem.clone()),
        }
    }
    let uses = |variable: &str| {
        let name = format!("${{{variable}}}");
        files
            .iter()
            .filter(|file| file.is_on())
            .any(|file| file.table.as_ref().is_some_and(|table| mentions(table, &name)))
    };
    let is_taken = |name: &str| files.iter().any(|file| file.stem == name);
    channels.on.extend(channel::by_variable(reader, uses, is_taken));
    for file in files.iter().filter(|file| file.is_on()) {
        check_fallback(reader, file, &channels);
    }
    channels
}

fn check_fallback(reader: &Reader<'_>, file: &NamedFile, channels: &Channels) {
    let Some(table) = &file.table else { return };
    let channel = channels.on.iter().find(|channel| channel.name == file.stem);
    let Some(fallback) = channel.and_then(|channel| channel.fallback.as_ref()) else { return };
    let section = Section::file(reader, table, &file.name, Names::Required);
    channels.names().check(&section, "fallback", fallback);
    if let Some(circle) = combination::circle(&channels.on, &file.stem) {
        let what = format!("the fallbacks go in a circle: {circle}");
        section.problem("fallback", what, "take the fallback out of one of them");
    }
}

fn mentions(table: &Table, name: &str) -> bool {
    table.entries.values().any(|entry| value_mentions(&entry.node.value, name))
}

fn value_mentions(value: &Value, name: &str) -> bool {
    match value {
        Value::Text(text) => text.contains(name),
        Value::List(items) => items.iter().any(|item| value_mentions(&item.value, name)),
        Value::Table(table) => mentions(table, name),
        Value::Integer(_) | Value::Float(_) | Value::Flag(_) | Value::Date | Value::Untyped(_) => {
            false
        }
    }
}

pub(super) struct Schedules {
    pub(super) on: Vec<Schedule>,
    pub(super) off: Vec<String>,
}

fn read_schedules(
    reader: &Reader<'_>,
    files: &[NamedFile],
    channels: &Channels,
    batch: u32,
) -> Schedules {
    let mut schedules = Schedules { on: Vec::new(), off: Vec::new() };
    for file in files {
        let is_on = file.is_on();
        if !is_on {
            schedules.off.push(file.name.clone());
        }
        let Some(table) = &file.table else { continue };
        let names = if is_on { Names::Required } else { Names::LeftAlone };
        let section = Section::file(reader, table, &file.name, names);
        if let Some(schedule) = schedule::read(&section, &file.stem, batch) {
            combination::check_times(&section, &schedule);
            if is_on {
                for name in &schedule.notify {
                    channels.names().check(&section, "notify", name);
                }
                schedules.on.push(schedule);
            }
        }
        section.finish();
    }
    // The built-in schedule stands in until somebody says what to run: examples that are switched
    // off say nothing, but a file of its own name does, also when it is switched off.
    let said = files.iter().any(|file| file.is_on() || file.stem == schedule::BUILT_IN);
    if !said {
        schedules.on.push(schedule::built_in(batch));
    }
    schedules
}

/// What a review by schedule can't do without, and no default can stand in for.
fn check_review_is_whole(reader: &Reader<'_>, main: &Main, schedules: &[Schedule]) {
    let is_review = |schedule: &Schedule| matches!(schedule.job, Job::Review { .. });
    if !schedules.iter().any(is_review) {
        return;
    }
    let is_supabase = matches!(main.records.kind, RecordKind::Supabase { .. });
    if is_supabase && !main.images_said {
        reader.problem(
            Place::file(".env"),
            "IMAGE_URL",
            "the rows are in Supabase, but nothing says where their pictures are",
            "put IMAGE_URL=https://BUCKET.s3.REGION.amazonaws.com/{job_id}__{image_index}.jpg \
             into .env",
        );
    }
    if main.reviewer.projects.is_empty() && (is_supabase || main.images_said) {
        reader.problem(
            Place::file(".env"),
            "GEMINI_API_KEY",
            "there is no key for Gemini",
            "put GEMINI_API_KEY=… (from https://aistudio.google.com/apikey) into .env",
        );
    }
}
