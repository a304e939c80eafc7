//! `lookout.toml` with the overrides of the environment, and where it is looked for.
//!
//! Problems are kept apart by whom they stop: what is wrong in `[service]` leaves open where the
//! state is and who may ask; what is wrong elsewhere leaves open what is reviewed, and at what cost.
//! Invariant: an unknown section counts as both, since it may be a slip of either name.

use std::path::{Path, PathBuf};

use super::document::{self, Table};
use super::environment::Variables;
use super::files::read_toml;
use super::problem::{Place, Problem, Problems};
use super::section::{Names, Reader, Section};
use super::{Location, ServiceSettings, records, reviewer, service};
use crate::review::settings::{
    BudgetSettings, ImageSettings, PictureSettings, RecordSettings, ReviewSettings,
    ReviewerSettings,
};
use crate::timezone::TimeZones;

/// Where a machine's configuration is, if the working directory has none.
pub(super) const SYSTEM_FOLDER: &str = "/etc/lookout";

/// What makes a folder one that Lookout is configured in.
const MARKS: [&str; 5] = ["lookout.toml", "schedules", "alerts", ".env", "state/guard.db"];

/// Variables that configure Lookout without any file; also all that begin with `LOOKOUT__`.
const VARIABLES: [&str; 8] = [
    "SUPABASE_URL",
    "IMAGE_URL",
    "GEMINI_API_KEY",
    "SLACK_WEBHOOK_URL",
    "ALERT_WEBHOOK_URL",
    "ALERT_EMAIL_TO",
    "SMTP_URL",
    "LOOKOUT_TOKEN",
];

/// The folder that everything counts from, absolute, and `lookout.toml` if there is one.
#[derive(Clone, Debug)]
pub(super) struct MainFile {
    pub(super) root: PathBuf,
    pub(super) path: Option<PathBuf>,
    pub(super) zones: TimeZones,
}

impl Location {
    /// Without `--config`: the working directory, or `/etc/lookout` if only that is configured.
    #[must_use]
    pub fn find(config: Option<PathBuf>, cwd: PathBuf, zones: TimeZones) -> Self {
        Self::find_in(config, cwd, zones, Path::new(SYSTEM_FOLDER))
    }

    fn find_in(config: Option<PathBuf>, cwd: PathBuf, zones: TimeZones, system: &Path) -> Self {
        let is_elsewhere = config.is_none() && !has_marks(&cwd) && has_marks(system);
        Self { cwd: if is_elsewhere { system.to_owned() } else { cwd }, config, zones }
    }

    /// What to tell somebody who asks in a folder that has nothing to do with Lookout; `None`: it is
    /// configured, be it by a file, by a variable, or by the state of earlier runs.
    #[must_use]
    pub fn not_configured<'a>(
        &self,
        variables: impl IntoIterator<Item = &'a str>,
    ) -> Option<String> {
        let is_ours = |name: &str| VARIABLES.contains(&name) || name.starts_with("LOOKOUT__");
        if self.config.is_some() || has_marks(&self.cwd) || variables.into_iter().any(is_ours) {
            return None;
        }
        Some(format!(
            "Lookout is not configured here: there is no lookout.toml, schedules/, alerts/ or .env \
             in {} or in {SYSTEM_FOLDER}.\nChange to the folder that has them, name the file with \
             --config or LOOKOUT_CONFIG, or write a first one with `lookout init`.",
            self.cwd.display()
        ))
    }

    pub(super) fn resolve(&self) -> Result<MainFile, Problems> {
        let Some(config) = &self.config else {
            let file = self.cwd.join("lookout.toml");
            // What is there and can't be read is no reason to go on without it.
            let path = file.symlink_metadata().is_ok().then_some(file);
            return Ok(MainFile { root: self.cwd.clone(), path, zones: self.zones.clone() });
        };
        let file = self.cwd.join(config);
        if !file.is_file() {
            let what = if file.is_dir() { "this is a folder" } else { "there is no such file" };
            return Err(Problems(vec![Problem {
                place: Place::file(config.display().to_string()),
                key: String::new(),
                what: what.to_owned(),
                instead: "name the configuration file with --config or LOOKOUT_CONFIG, or leave \
                          both out; `lookout init` writes one"
                    .to_owned(),
            }]));
        }
        let root = file.parent().map_or_else(|| self.cwd.clone(), Path::to_path_buf);
        Ok(MainFile { root, path: Some(file), zones: self.zones.clone() })
    }
}

fn has_marks(folder: &Path) -> bool {
    MARKS.iter().any(|mark| folder.join(mark).symlink_metadata().is_ok())
}

/// What `lookout.toml` says.
#[derive(Debug)]
pub(super) struct Main {
    pub(super) service: ServiceSettings,
    pub(super) records: RecordSettings,
    images: ImageSettings,
    /// Whether anybody said where the images are.
    pub(super) images_said: bool,
    pub(super) reviewer: ReviewerSettings,
    picture: PictureSettings,
    budget: BudgetSettings,
    pub(super) service_problems: Vec<Problem>,
    pub(super) review_problems: Vec<Problem>,
}

impl Main {
    pub(super) fn review(&self, batch: u32) -> ReviewSettings {
        ReviewSettings {
            state_dir: self.service.state_dir.clone(),
            records: self.records.clone(),
            images: self.images.clone(),
            reviewer: self.reviewer.clone(),
            picture: self.picture.clone(),
            budget: self.budget,
            batch,
        }
    }
}

impl MainFile {
    /// Reads it, if there is one, and the overrides.
    pub(super) fn read(&self, variables: &Variables) -> Result<Main, Vec<Problem>> {
        let name = self.name();
        let mut table = match &self.path {
            None => Table::default(),
            Some(path) => read_toml(path, &name)?,
        };
        let mut overlaid = Vec::new();
        for (variable, value, place) in variables.overrides() {
            overlaid.extend(document::overlay(&mut table, variable, value, place).err());
        }
        Ok(self.read_table(&table, &name, variables, overlaid))
    }

    fn name(&self) -> String {
        let name = self.path.as_ref().and_then(|path| path.file_name());
        name.map_or_else(|| "lookout.toml".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    fn read_table(
        &self,
        table: &Table,
        name: &str,
        variables: &Variables,
        overlaid: Vec<Problem>,
    ) -> Main {
        let reader = Reader::new(&self.root, variables, &self.zones);
        let top = Section::file(&reader, table, name, Names::Required);
        let service = service::read(top.section("service"));
        let mut service_problems = reader.take_problems();
        let images = top.section("images");
        let images_said = !images.is_empty() || variables.get("IMAGE_URL").is_some();
        let records = records::read_records(top.section("records"), &service.state_dir);
        let images = records::read_images(images);
        let reviewer_settings = reviewer::read(top.section("reviewer"));
        let picture = reviewer::read_picture(top.section("picture"));
        let budget = reviewer::read_budget(top.section("budget"));
        let mut review_problems = reader.take_problems();
        top.finish();
        let of_both = reader.into_problems().into_iter().chain(overlaid);
        for problem in of_both {
            service_problems.push(problem.clone());
            review_problems.push(problem);
        }
        Main {
            service,
            records,
            images,
            images_said,
            reviewer: reviewer_settings,
            picture,
            budget,
            service_problems,
            review_problems,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_folder_is_looked_in_after_the_working_directory() {
        let (cwd, system) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let found = |config: Option<&str>| {
            let config = config.map(PathBuf::from);
            Location::find_in(config, cwd.path().to_owned(), TimeZones::built_in(), system.path())
                .cwd
        };
        assert_eq!(found(None), cwd.path(), "neither is configured");
        std::fs::write(system.path().join(".env"), "").unwrap();
        assert_eq!(found(None), system.path());
        assert_eq!(found(Some("x.toml")), cwd.path(), "a relative path counts from here");
        for mark in MARKS {
            let path = cwd.path().join(mark);
            std::fs::create_dir_all(&path).unwrap();
            assert_eq!(found(None), cwd.path(), "{mark}");
            std::fs::remove_dir(&path).unwrap();
        }
    }

    #[test]
    fn a_file_a_variable_or_a_named_file_makes_a_configuration() {
        let cwd = tempfile::tempdir().unwrap();
        let here = |config: Option<&str>| Location {
            config: config.map(PathBuf::from),
            cwd: cwd.path().to_owned(),
            zones: TimeZones::built_in(),
        };
        let text = here(None).not_configured(["PATH", "HOME"]).unwrap();
        assert!(text.contains(&cwd.path().display().to_string()), "{text}");
        assert!(text.contains("/etc/lookout"), "{text}");
        assert_eq!(here(None).not_configured(["PATH", "SUPABASE_URL"]), None);
        assert_eq!(here(None).not_configured(["LOOKOUT__SERVICE__STATE_DIR"]), None);
        assert_eq!(here(Some("x.toml")).not_configured([]), None);
        std::fs::create_dir(cwd.path().join("schedules")).unwrap();
        assert_eq!(here(None).not_configured([]), None);
    }
}
