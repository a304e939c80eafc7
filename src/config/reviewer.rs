//! `[reviewer]`, `[picture]`, `[budget]`: who looks at the pictures, how they are prepared, what
//! it may cost.
//!
//! Invariant: an attempt fits into a try, and picture limits fit into the memory.

use std::collections::BTreeMap;
use std::time::Duration;

use super::records::is_http;
use super::section::{Section, split_list};
use crate::duration;
use crate::review::settings::{
    BudgetSettings, OnBlocked, PictureSettings, Price, Project, ReviewerSettings,
};
use crate::secret::Secret;

/// Why these: docs/decisions.md, "Limits of a call".
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(90);
const TRY_TIMEOUT: Duration = Duration::from_secs(300);
/// Nothing but outage for so long ends the run: long enough for a restart at the provider, short
/// enough that the message comes within the box.
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);
const MAX_IN_FLIGHT: u32 = 16;

/// Reads `[reviewer]`.
pub(super) fn read(section: Section<'_>) -> ReviewerSettings {
    // One kind so far; asked for so that a file may name it.
    let _ = section.choice("kind", &[("gemini", ())]);
    let model = section.text("model").unwrap_or_else(|| "gemini-3.5-flash-lite".to_owned());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if model.is_empty() || !model.chars().all(fits) {
        let instead = "write the model's id, for example \"gemini-3.5-flash-lite\"";
        section.problem("model", format!("\"{model}\" can't be the id of a model"), instead);
    }
    let base_url = section
        .text("base_url")
        .unwrap_or_else(|| "https://generativelanguage.googleapis.com".to_owned());
    let base_url = base_url.trim_end_matches('/').to_owned();
    if !is_http(&base_url) {
        let instead = "write base_url = \"https://generativelanguage.googleapis.com\"";
        section.problem("base_url", format!("\"{base_url}\" is not a web address"), instead);
    }
    let api_version = section
        .choice("api_version", &[("v1beta", "v1beta"), ("v1", "v1")])
        .unwrap_or("v1beta")
        .to_owned();
    let connect_timeout = section.duration("connect_timeout").unwrap_or(CONNECT_TIMEOUT);
    let attempt_timeout = section.duration("attempt_timeout").unwrap_or(ATTEMPT_TIMEOUT);
    let try_timeout =
        section.duration("try_timeout").unwrap_or_else(|| TRY_TIMEOUT.max(attempt_timeout));
    if attempt_timeout > try_timeout {
        section.problem(
            "attempt_timeout",
            format!(
                "one attempt may take {}, but all attempts of a try together only {}",
                duration::written(attempt_timeout),
                duration::written(try_timeout)
            ),
            "make attempt_timeout shorter or try_timeout longer",
        );
    }
    let settings = ReviewerSettings {
        model,
        base_url,
        api_version,
        max_in_flight: section.integer("max_in_flight", 1..=512).unwrap_or(MAX_IN_FLIGHT),
        connect_timeout,
        attempt_timeout,
        try_timeout,
        give_up_after: section.duration("give_up_after").unwrap_or(GIVE_UP_AFTER),
        on_blocked: section
            .choice("on_blocked", &[("error", OnBlocked::Error), ("N1", OnBlocked::N1)])
            .unwrap_or(OnBlocked::Error),
        projects: projects(&section),
        prompt_file: section.path("prompt_file"),
        prices: prices(section.section("prices")),
    };
    if let Some(path) = settings.prompt_file.as_ref().filter(|path| !path.is_file()) {
        let what = format!("there is no file {}", path.display());
        section.problem("prompt_file", what, "name a text file, or leave this out");
    }
    section.finish();
    settings
}

/// `[[reviewer.project]]`, else `GEMINI_API_KEY` as one project.
fn projects(section: &Section<'_>) -> Vec<Project> {
    let sections = section.sections("project");
    if sections.is_empty() {
        let keys = section.reader.variables.get("GEMINI_API_KEY").map(split_list);
        let keys: Vec<Secret> = keys.unwrap_or_default().into_iter().map(Secret::new).collect();
        if keys.is_empty() {
            return Vec::new();
        }
        return vec![Project { name: "main".to_owned(), keys }];
    }
    let mut projects: Vec<Project> = Vec::new();
    for (index, project) in sections.into_iter().enumerate() {
        let name = project.text("name").unwrap_or_else(|| format!("project-{}", index + 1));
        if projects.iter().any(|other| other.name == name) {
            let what = format!("there are two projects called \"{name}\"");
            project.problem("name", what, "give each project a name of its own");
        }
        let keys = project.secrets("keys");
        if !project.has("keys") {
            let instead = "write keys = [\"${GEMINI_API_KEY}\"]";
            project.problem("keys", "this project has no keys", instead);
        }
        project.finish();
        projects.push(Project { name, keys });
    }
    projects
}

/// `[reviewer.prices]`: `"model" = { input = 0.10, output = 0.40 }`.
fn prices(section: Section<'_>) -> BTreeMap<String, Price> {
    let mut prices = BTreeMap::new();
    for model in section.keys() {
        let price = section.section(&model);
        for key in ["input", "output"] {
            if !price.has(key) {
                let instead = "write { input = 0.10, output = 0.40 }, USD per million tokens";
                price.problem(key, "this half of the price is missing", instead);
            }
        }
        if let (Some(input), Some(output)) = (price.amount("input"), price.amount("output")) {
            prices.insert(model, Price { input, output });
        }
        price.finish();
    }
    section.finish();
    prices
}

/// Reads `[picture]`.
pub(super) fn read_picture(section: Section<'_>) -> PictureSettings {
    let defaults = PictureSettings::default();
    let settings = PictureSettings {
        longest_edge: section.integer("longest_edge", 64..=8192).unwrap_or(defaults.longest_edge),
        quality: section.integer("quality", 1..=100).unwrap_or(defaults.quality),
        memory: section.size("memory").unwrap_or(defaults.memory),
        max_pixels: section.integer("max_pixels", 1..=1_000_000_000).unwrap_or(defaults.max_pixels),
        max_edge: section.integer("max_edge", 1..=65_535).unwrap_or(defaults.max_edge),
        max_bytes: section.size("max_bytes").unwrap_or(defaults.max_bytes),
    };
    if settings.memory < settings.max_bytes {
        section.problem(
            "memory",
            format!(
                "{} bytes for all images in preparation are less than the {} bytes that one \
                 file may have",
                settings.memory, settings.max_bytes
            ),
            "make memory larger or max_bytes smaller",
        );
    }
    section.finish();
    settings
}

/// Reads `[budget]`.
pub(super) fn read_budget(section: Section<'_>) -> BudgetSettings {
    let budget = BudgetSettings {
        usd_per_run: section.amount("usd_per_run"),
        usd_per_day: section.amount("usd_per_day"),
    };
    section.finish();
    budget
}
