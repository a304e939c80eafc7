//! Which version of a file counts: the one on disk, or, where that is wrong, the last good one.
//!
//! A typo stops nothing else. What can't be used now is used as it was last read without a problem;
//! what was last switched off stays off; what never was right is left out.
//! Invariant: [`LastGood`] holds files as they were written, `${NAME}` and all, never a value.

use std::collections::BTreeMap;
use std::path::Path;

use super::document::{self, Table};
use super::environment::Variables;
use super::files::{NamedFile, is_on, mentions};
use super::problem::Problem;
use super::section::{Names, Reader, Section};
use crate::timezone::TimeZones;

/// Texts of the files of `schedules/` and `alerts/` as they were last read without a problem, by name:
/// `schedules/x.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastGood(pub BTreeMap<String, String>);

impl LastGood {
    /// Names without folder and `.toml` of what it knows of a folder.
    pub(super) fn stems(&self, folder: &str) -> Vec<String> {
        let stem = |name: &String| {
            let rest = name.strip_prefix(folder)?.strip_prefix('/')?;
            rest.strip_suffix(".toml").map(str::to_owned)
        };
        self.0.keys().filter_map(stem).collect()
    }

    fn table(&self, name: &str) -> Option<Table> {
        document::parse(name, self.0.get(name)?).ok()
    }
}

/// One file, as it is used.
pub(super) struct Entry<'a, T> {
    pub(super) file: &'a NamedFile,
    pub(super) state: State<T>,
    /// Whether the file itself is right; what it says of other files may not be.
    is_right: bool,
}

/// What is used of a file.
pub(super) enum State<T> {
    /// As it is on disk.
    OnDisk(T),
    /// As it last was right.
    LastGood(T),
    /// It says `enabled = false`, or did so last.
    Off,
    /// Wrong, and no version of it is known that could be used.
    Broken,
}

impl<T> Entry<'_, T> {
    /// What is used, whichever version.
    pub(super) fn value(&self) -> Option<&T> {
        match &self.state {
            State::OnDisk(value) | State::LastGood(value) => Some(value),
            State::Off | State::Broken => None,
        }
    }
}

/// Where files are read.
pub(super) struct Context<'a> {
    pub(super) root: &'a Path,
    pub(super) variables: &'a Variables,
    pub(super) zones: &'a TimeZones,
    pub(super) last_good: &'a LastGood,
}

impl Context<'_> {
    /// Nothing wrong so far.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader::new(self.root, self.variables, self.zones)
    }

    /// Reads one file; what is wrong with it is added to `problems`.
    pub(super) fn read<'f, T>(
        &self,
        file: &'f NamedFile,
        read: impl Fn(&Section<'_>, &str) -> Option<T>,
        problems: &mut Vec<Problem>,
    ) -> Entry<'f, T> {
        let mut wrong = file.problems.clone();
        let mut on_disk = None;
        if let Some(table) = &file.table {
            let (value, more) = self.read_table(file, table, &read);
            wrong.extend(more);
            on_disk = if is_on(table) { value.map(State::OnDisk) } else { Some(State::Off) };
        }
        let is_off = matches!(on_disk, Some(State::Off));
        let state = match on_disk {
            Some(state) if is_off || wrong.is_empty() => state,
            Some(_) | None => self.last_good(file, &read),
        };
        let is_right = file.table.is_some() && wrong.is_empty();
        problems.extend(wrong);
        Entry { file, state, is_right }
    }

    fn last_good<T>(
        &self,
        file: &NamedFile,
        read: &impl Fn(&Section<'_>, &str) -> Option<T>,
    ) -> State<T> {
        let Some(table) = self.last_good.table(&file.name) else { return State::Broken };
        if !is_on(&table) {
            return State::Off;
        }
        // Its variables may be gone since: then it can't be used either.
        let (value, wrong) = self.read_table(file, &table, read);
        value.filter(|_| wrong.is_empty()).map_or(State::Broken, State::LastGood)
    }

    fn read_table<T>(
        &self,
        file: &NamedFile,
        table: &Table,
        read: &impl Fn(&Section<'_>, &str) -> Option<T>,
    ) -> (Option<T>, Vec<Problem>) {
        let reader = self.reader();
        let names = if is_on(table) { Names::Required } else { Names::LeftAlone };
        let section = Section::file(&reader, table, &file.name, names);
        let value = read(&section, &file.stem);
        section.finish();
        (value, reader.into_problems())
    }

    /// Whether a file uses a variable, as far as anybody can know: what can't be read may say anything.
    pub(super) fn may_use(&self, file: &NamedFile, variable: &str) -> bool {
        let wanted = format!("${{{variable}}}");
        let last = self.last_good.0.get(&file.name).map(|text| text.contains(&wanted));
        match (&file.table, &file.text) {
            (Some(table), _) if is_on(table) => mentions(table, &wanted),
            (Some(_), _) => false,
            (None, Some(text)) => text.contains(&wanted) || last == Some(true),
            (None, None) => last.unwrap_or(true),
        }
    }

    /// The version of a file to remember.
    pub(super) fn good_version<T>(&self, entry: &Entry<'_, T>) -> Option<(String, String)> {
        let NamedFile { name, text, .. } = entry.file;
        let text = if entry.is_right { text.as_ref() } else { self.last_good.0.get(name) };
        text.map(|text| (name.clone(), text.clone()))
    }
}
