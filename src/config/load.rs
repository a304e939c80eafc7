//! Loading: finds the files, reads them all, notes every problem, and only then decides.
//!
//! `check` is strict ([`load`]); who runs or shows something takes what is right ([`usable`],
//! [`reload`](super::reload::reload)); a review reads nothing but what it needs ([`for_review`]).
//! Invariant: a file that can't be read never brings the built-in schedule or a variable's channel
//! to life.

use std::collections::BTreeMap;

use super::channel;
use super::combination::{self, ChannelNames};
use super::environment::{self, Variables};
use super::files::{self, Folder};
use super::main_file::{Main, MainFile};
use super::problem::{Place, Problem, Problems};
use super::schedule;
use super::section::{Names, Reader, Section};
use super::version::{Context, Entry, LastGood, State};
use super::{Config, Environment, Location};
use crate::alert::channel::ChannelSettings;
use crate::review::settings::RecordKind;
use crate::schedule::{Job, Schedule};
use crate::timezone::TimeZones;

/// Records claimed at a time.
const BATCH: u32 = 100;

/// A configuration of all that is right.
#[derive(Clone, Debug)]
pub struct Usable {
    /// What can be used.
    pub config: Config,
    /// What can't, and why: in the order of files and lines.
    pub problems: Vec<Problem>,
    /// The files as they are to be remembered.
    pub good: LastGood,
}

/// Reads everything anew. `process` are the variables of the process.
///
/// # Errors
/// All problems of all files.
pub fn load(location: &Location, process: &BTreeMap<String, String>) -> Result<Config, Problems> {
    let usable = usable(location, process, &LastGood::default())?;
    if usable.problems.is_empty() { Ok(usable.config) } else { Err(Problems(usable.problems)) }
}

/// What is right, with the last good version of what is not.
///
/// # Errors
/// All problems of all files, if `lookout.toml` can't be read or leaves open where the state is.
pub fn usable(
    location: &Location,
    process: &BTreeMap<String, String>,
    last_good: &LastGood,
) -> Result<Usable, Problems> {
    let read = read(location, process, last_good)?;
    let Read { main, batch, channels, schedules, variables, problems, file, .. } = read;
    let Some(main) = main.filter(|main| main.service_problems.is_empty()) else {
        return Err(Problems(problems));
    };
    let good = good(&channels.good, &schedules.good);
    let config = Config {
        root: file.root,
        file: file.path,
        review: main.review(batch),
        service: main.service,
        switched_off: schedules.off.into_iter().chain(channels.off_files).collect(),
        schedules: schedules.on,
        channels: channels.on,
        only_in_dotenv: variables.only_in_dotenv(),
        environment: Environment(variables.into_map()),
        zones: file.zones,
    };
    Ok(Usable { config, problems, good })
}

/// What a review needs, and nothing else: no schedule and no alert file is read.
///
/// # Errors
/// All problems of `lookout.toml` and `.env` that could change what is reviewed, or at what cost.
pub fn for_review(
    location: &Location,
    process: &BTreeMap<String, String>,
) -> Result<Config, Problems> {
    let file = location.resolve()?;
    let mut problems = Vec::new();
    let variables = environment::read(&file.root, process, &mut problems);
    problems.retain(environment::may_change_a_review);
    let (batch, wrong) = batch(&file, &variables);
    problems.extend(wrong);
    let main = match file.read(&variables) {
        Ok(main) => main,
        Err(wrong) => {
            problems.extend(wrong);
            return Err(Problems::sorted(problems));
        }
    };
    problems.extend(main.review_problems.iter().cloned());
    let of_state = |problem: &&Problem| {
        problem.key == "service" || problem.key.to_lowercase().contains("state_dir")
    };
    problems.extend(main.service_problems.iter().filter(of_state).cloned());
    problems.extend(images_unknown(&main));
    if !problems.is_empty() {
        return Err(Problems::sorted(problems));
    }
    Ok(Config {
        root: file.root,
        file: file.path,
        review: main.review(batch),
        service: main.service,
        schedules: Vec::new(),
        channels: Vec::new(),
        switched_off: Vec::new(),
        only_in_dotenv: variables.only_in_dotenv(),
        environment: Environment(variables.into_map()),
        zones: file.zones,
    })
}

/// The variables alone, for a keeper: its schedule was checked when its run began, and a mistake in
/// a file since then must not keep a secret of `.env` from being hidden.
#[must_use]
pub fn variables(location: &Location, process: &BTreeMap<String, String>) -> Environment {
    let read = location.resolve().map(|file| {
        let mut problems = Vec::new();
        Environment(environment::read(&file.root, process, &mut problems).into_map())
    });
    read.unwrap_or_else(|_| Environment(process.clone()))
}

/// Everything that could be read, and every problem.
pub(super) struct Read {
    pub(super) main: Option<Main>,
    batch: u32,
    pub(super) channels: Channels,
    pub(super) schedules: Schedules,
    pub(super) variables: Variables,
    /// Whether each of the variables could be read.
    pub(super) is_env_whole: bool,
    /// In the order of files and lines.
    pub(super) problems: Vec<Problem>,
    pub(super) file: MainFile,
}

/// Reads all files, however broken some of them are.
pub(super) fn read(
    location: &Location,
    process: &BTreeMap<String, String>,
    last_good: &LastGood,
) -> Result<Read, Problems> {
    location.zones.refresh();
    let file = location.resolve()?;
    let mut problems = Vec::new();
    let variables = environment::read(&file.root, process, &mut problems);
    let is_env_whole = problems.is_empty();
    let main = match file.read(&variables) {
        Ok(main) => Some(main),
        Err(wrong) => {
            problems.extend(wrong);
            None
        }
    };
    let (batch, wrong) = batch(&file, &variables);
    problems.extend(wrong);
    let zones: &TimeZones = &file.zones;
    let context = Context { root: &file.root, variables: &variables, zones, last_good };
    let alerts = files::folder(&file.root, "alerts", last_good);
    let channels = read_channels(&context, &alerts, &mut problems);
    let folder = files::folder(&file.root, "schedules", last_good);
    let schedules = read_schedules(&context, &folder, batch, &mut problems);
    check_notify(&context, &schedules.entries, &channels.names, &mut problems);
    if let Some(main) = &main {
        problems.extend(main.service_problems.iter().chain(&main.review_problems).cloned());
        if schedules.on.iter().any(|schedule| matches!(schedule.job, Job::Review { .. })) {
            problems.extend(images_unknown(main));
            problems.extend(no_key(main));
        }
    }
    problems.sort();
    problems.dedup();
    let schedules = schedules.without_entries();
    Ok(Read { main, batch, channels, schedules, variables, is_env_whole, problems, file })
}

/// `LIMIT`, as the old service read it.
fn batch(file: &MainFile, variables: &Variables) -> (u32, Vec<Problem>) {
    let Some(limit) = variables.get("LIMIT") else { return (BATCH, Vec::new()) };
    match limit.parse() {
        Ok(limit @ 1..=100_000) => (limit, Vec::new()),
        _ => {
            let reader = Reader::new(&file.root, variables, &file.zones);
            let what = format!("\"{limit}\" is not a valid number of images");
            let instead = "write a whole number from 1 to 100000, or take the line out";
            reader.problem(variables.place("LIMIT"), "LIMIT", what, instead);
            (BATCH, reader.into_problems())
        }
    }
}

pub(super) fn good(channels: &LastGood, schedules: &LastGood) -> LastGood {
    LastGood(channels.0.iter().chain(&schedules.0).map(|(n, t)| (n.clone(), t.clone())).collect())
}

/// What `alerts/` and the variables come to.
pub(super) struct Channels {
    pub(super) on: Vec<ChannelSettings>,
    /// `alerts/x.toml`.
    pub(super) off_files: Vec<String>,
    /// Names of files of which no version can be used.
    pub(super) broken: Vec<String>,
    pub(super) is_folder_readable: bool,
    pub(super) good: LastGood,
    names: ChannelNames,
}

fn read_channels(context: &Context<'_>, folder: &Folder, problems: &mut Vec<Problem>) -> Channels {
    problems.extend(folder.problem.clone());
    let read = |section: &Section<'_>, stem: &str| channel::read(section, stem);
    let entries: Vec<Entry<'_, ChannelSettings>> =
        folder.files.iter().map(|file| context.read(file, read, problems)).collect();
    let mut on: Vec<ChannelSettings> =
        entries.iter().filter_map(|entry| entry.value().cloned()).collect();
    // A folder that can't be read and of which nothing is known may use every variable.
    let is_unknown = folder.problem.is_some() && folder.files.is_empty();
    let uses = |variable: &str| {
        is_unknown || folder.files.iter().any(|file| context.may_use(file, variable))
    };
    let is_taken = |name: &str| folder.files.iter().any(|file| file.stem == name);
    let (by_variable, wrong) = channel::by_variable(context, uses, is_taken);
    on.extend(by_variable);
    problems.extend(wrong);
    let stems = |wanted: fn(&State<ChannelSettings>) -> bool| {
        let wanted = entries.iter().filter(move |entry| wanted(&entry.state));
        wanted.map(|entry| entry.file.stem.clone()).collect::<Vec<String>>()
    };
    let off = stems(|state| matches!(state, State::Off));
    let broken = stems(|state| matches!(state, State::Broken));
    let names = ChannelNames {
        on: on.iter().map(|channel| channel.name.clone()).collect(),
        off: off.clone(),
        broken: broken.clone(),
    };
    check_fallbacks(context, &entries, &names, &mut on, problems);
    Channels {
        on,
        off_files: off.iter().map(|name| format!("alerts/{name}.toml")).collect(),
        broken,
        is_folder_readable: folder.problem.is_none(),
        good: LastGood(entries.iter().filter_map(|entry| context.good_version(entry)).collect()),
        names,
    }
}

/// A fallback that leads nowhere is taken away, so that the channel itself can be used.
fn check_fallbacks(
    context: &Context<'_>,
    entries: &[Entry<'_, ChannelSettings>],
    names: &ChannelNames,
    on: &mut [ChannelSettings],
    problems: &mut Vec<Problem>,
) {
    let reader = context.reader();
    let known = on.to_vec();
    for entry in entries {
        let Some(fallback) = entry.value().and_then(|channel| channel.fallback.as_ref()) else {
            continue;
        };
        let name = entry.file.stem.as_str();
        let circle = combination::circle(&known, name);
        let leads_on = circle.is_none() && names.on.contains(fallback);
        for channel in on.iter_mut().filter(|channel| channel.name == name && !leads_on) {
            channel.fallback = None;
        }
        let (State::OnDisk(_), Some(table)) = (&entry.state, &entry.file.table) else { continue };
        let section = Section::file(&reader, table, &entry.file.name, Names::Required);
        names.check(&section, "fallback", fallback);
        if let Some(circle) = circle {
            let what = format!("the fallbacks go in a circle: {circle}");
            section.problem("fallback", what, "take the fallback out of one of them");
        }
    }
    problems.extend(reader.into_problems());
}

/// What `schedules/` comes to.
pub(super) struct Schedules<E = ()> {
    pub(super) on: Vec<Schedule>,
    /// `schedules/x.toml`.
    pub(super) off: Vec<String>,
    /// Names of files of which no version can be used.
    pub(super) broken: Vec<String>,
    pub(super) is_folder_readable: bool,
    pub(super) good: LastGood,
    entries: E,
}

impl<E> Schedules<E> {
    fn without_entries(self) -> Schedules {
        let Self { on, off, broken, is_folder_readable, good, entries: _ } = self;
        Schedules { on, off, broken, is_folder_readable, good, entries: () }
    }
}

fn read_schedules<'f>(
    context: &Context<'_>,
    folder: &'f Folder,
    batch: u32,
    problems: &mut Vec<Problem>,
) -> Schedules<Vec<Entry<'f, Schedule>>> {
    problems.extend(folder.problem.clone());
    let read = |section: &Section<'_>, stem: &str| {
        let schedule = schedule::read(section, stem, batch)?;
        combination::check_times(section, &schedule);
        Some(schedule)
    };
    let entries: Vec<Entry<'f, Schedule>> =
        folder.files.iter().map(|file| context.read(file, read, problems)).collect();
    let is_off = |entry: &Entry<'_, Schedule>| matches!(entry.state, State::Off);
    // The built-in schedule stands in until somebody says what to run: examples that are switched
    // off say nothing, but a file of its own name does, also when it is switched off.
    let is_said = folder.problem.is_some()
        || entries.iter().any(|entry| !is_off(entry) || entry.file.stem == schedule::BUILT_IN);
    let mut on: Vec<Schedule> = entries.iter().filter_map(|entry| entry.value().cloned()).collect();
    if !is_said {
        on.push(schedule::built_in(batch));
    }
    let is_broken = |entry: &&Entry<'_, Schedule>| matches!(entry.state, State::Broken);
    let off = entries.iter().filter(|entry| is_off(entry));
    Schedules {
        on,
        off: off.map(|entry| entry.file.name.clone()).collect(),
        broken: entries.iter().filter(is_broken).map(|entry| entry.file.stem.clone()).collect(),
        is_folder_readable: folder.problem.is_none(),
        good: LastGood(entries.iter().filter_map(|entry| context.good_version(entry)).collect()),
        entries,
    }
}

/// Names of channels that lead nowhere are reported and change nothing: news for channels that are
/// all unknown go to every channel.
fn check_notify(
    context: &Context<'_>,
    entries: &[Entry<'_, Schedule>],
    names: &ChannelNames,
    problems: &mut Vec<Problem>,
) {
    let reader = context.reader();
    for entry in entries {
        let (State::OnDisk(schedule), Some(table)) = (&entry.state, &entry.file.table) else {
            continue;
        };
        let section = Section::file(&reader, table, &entry.file.name, Names::Required);
        for name in &schedule.notify {
            names.check(&section, "notify", name);
        }
    }
    problems.extend(reader.into_problems());
}

/// Rows in Supabase have their images anywhere: no default can stand in.
fn images_unknown(main: &Main) -> Option<Problem> {
    let is_supabase = matches!(main.records.kind, RecordKind::Supabase { .. });
    (is_supabase && !main.images_said).then(|| Problem {
        place: Place::file(".env"),
        key: "IMAGE_URL".to_owned(),
        what: "the rows are in Supabase, but nothing says where their images are".to_owned(),
        instead:
            "put IMAGE_URL=https://BUCKET.s3.REGION.amazonaws.com/{job_id}__{image_index}.jpg \
                  into .env"
                .to_owned(),
    })
}

/// Without rows or images of anybody's, a missing key is only warned of.
fn no_key(main: &Main) -> Option<Problem> {
    let is_supabase = matches!(main.records.kind, RecordKind::Supabase { .. });
    let is_meant = is_supabase || main.images_said;
    (main.reviewer.projects.is_empty() && is_meant).then(|| Problem {
        place: Place::file(".env"),
        key: "GEMINI_API_KEY".to_owned(),
        what: "there is no key for Gemini".to_owned(),
        instead: "put GEMINI_API_KEY=… (from https://aistudio.google.com/apikey) into .env"
            .to_owned(),
    })
}
