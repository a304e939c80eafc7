//! `lookout check`: is the configuration right, and what does it say?
//!
//! Reads files and variables, and asks nobody (that is `doctor`'s business).
//! Invariant: what it prints holds no secret; exit code 78 exactly when something is wrong.

use std::fmt::Write as _;
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::load_config::{self, LoadError};
use super::output::time;
use super::{EXIT_CONFIG, EXIT_OK, output};
use crate::alert::channel::{ChannelKind, ChannelSettings, email};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::config::problem::Problems;
use crate::duration;
use crate::review::settings::{ImageSettings, RecordKind};
use crate::schedule::{Cadence, Job, Overlap, Schedule, slot};

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Checks and prints; the exit code.
#[must_use]
pub fn run(config: Option<PathBuf>, form: Form) -> u8 {
    match (load_config::strict(config), form) {
        (Ok(config), Form::Text) => {
            output::print(&config.redactor().redact(&text(&config, SystemClock.now())), EXIT_OK)
        }
        (Ok(config), Form::Json) => {
            let object = format!("{}\n", object(&config, SystemClock.now()));
            output::print(&config.redactor().redact(&object), EXIT_OK)
        }
        (Err(LoadError::Configuration(problems)), Form::Text) => {
            output::complain(&problems.to_string());
            EXIT_CONFIG
        }
        (Err(LoadError::Configuration(problems)), Form::Json) => {
            output::print(&format!("{}\n", problems_object(&problems)), EXIT_CONFIG)
        }
        (
            Err(
                error @ (LoadError::WorkingDirectory(_)
                | LoadError::NotConfigured(_)
                | LoadError::State(_)),
            ),
            _,
        ) => output::fail(&format!("lookout check: {error}")),
    }
}

/// What was understood, in plain lines.
#[must_use]
pub fn text(config: &Config, now: DateTime<Utc>) -> String {
    let mut out = String::new();
    let mut line = |name: &str, what: &str| {
        // Writing to a String can't fail.
        let _ = writeln!(out, "{name:<10} {what}");
    };
    let file = config.file.as_ref().map_or_else(
        || format!("no lookout.toml in {}: defaults and environment", config.root.display()),
        |file| file.display().to_string(),
    );
    line("settings", &file);
    let mut name = "schedules";
    for schedule in &config.schedules {
        line(name, &schedule_line(schedule, now));
        name = "";
    }
    let mut name = "told";
    for channel in &config.channels {
        line(name, &channel_line(channel));
        name = "";
    }
    line("records", &records_line(config));
    line("images", &images_line(config));
    line("reviewer", &reviewer_line(config));
    line("pages", &format!("http://{}", config.service.bind));
    line("state", &config.service.state_dir.display().to_string());
    line("time zones", &config.zones.to_string());
    if !config.switched_off.is_empty() {
        line("off", &config.switched_off.join(", "));
    }
    for warning in config.warnings() {
        let _ = write!(out, "\nWarning: {warning}\n");
    }
    for note in clock_change_notes(config, now) {
        let _ = write!(out, "\nNote: {note}\n");
    }
    out.push_str(
        "\nThe configuration is right. `lookout doctor` asks whether everything answers.\n",
    );
    out
}

fn schedule_line(schedule: &Schedule, now: DateTime<Utc>) -> String {
    let when = match &schedule.cadence {
        Cadence::Cron(cron) => format!("\"{cron}\" ({})", schedule.timezone.name()),
        Cadence::Continuous => "all the time".to_owned(),
    };
    let what = match &schedule.job {
        Job::Review { batch } => format!("review, {batch} rows at a time"),
        Job::Command(job) => format!("command {}", job.argv.join(" ")),
        Job::Http(job) => format!("{} {}", job.method, job.url),
    };
    let next = next_due(schedule, now).map(|due| {
        let utc = due.format("%Y-%m-%d %H:%M:%S UTC");
        if schedule.timezone.is_utc() {
            format!("; next {utc}")
        } else {
            format!("; next {utc} ({})", time::local(due, &schedule.timezone))
        }
    });
    let next = next.unwrap_or_default();
    let name = schedule.name.as_str();
    format!("{name}: {what}; {when}, box {}{next}", duration::written(schedule.time_box))
}

/// A year with both clock changes, and a month to spare.
const NOTED_AHEAD: TimeDelta = TimeDelta::days(400);

/// Schedules whose runs may meet on the night of a clock change alone.
fn clock_change_notes(config: &Config, now: DateTime<Utc>) -> Vec<String> {
    let skipping = config.schedules.iter().filter(|it| it.overlap == Overlap::Skip);
    let noted = skipping.filter_map(|schedule| {
        let busy = schedule.time_box + schedule.signal_grace + schedule.jitter;
        let (due_at, gap) = slot::closer_at_a_clock_change(schedule, busy, now, now + NOTED_AHEAD)?;
        Some(format!(
            "{}: on the night of a clock change the run at {} UTC ({}) comes {} after the one before, \
             and is skipped if that takes its whole time ({})",
            schedule.name,
            time::utc(due_at),
            time::local(due_at, &schedule.timezone),
            duration::written(gap),
            duration::written(busy)
        ))
    });
    noted.collect()
}

fn next_due(schedule: &Schedule, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match &schedule.cadence {
        Cadence::Cron(_) => slot::next_after(schedule, now).map(|slot| slot.due_at),
        Cadence::Continuous => None,
    }
}

fn channel_line(channel: &ChannelSettings) -> String {
    let fallback =
        channel.fallback.as_ref().map(|name| format!(", else {name}")).unwrap_or_default();
    let to = match &channel.kind {
        ChannelKind::Email { smtp_url, from, to } => {
            // What can't be read has been told as a problem.
            let sender = email::sender(smtp_url, from.as_deref()).unwrap_or_default();
            format!(" from {sender} to {}", to.join(", "))
        }
        ChannelKind::Console | ChannelKind::Slack { .. } | ChannelKind::Webhook { .. } => {
            String::new()
        }
    };
    let (name, kind, severity) =
        (&channel.name, kind_name(&channel.kind), channel.severity.as_str());
    format!("{name}: {kind}{to}, {severity} and above{fallback}")
}

fn kind_name(kind: &ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Console => "console",
        ChannelKind::Slack { .. } => "slack",
        ChannelKind::Webhook { .. } => "webhook",
        ChannelKind::Email { .. } => "email",
    }
}

fn records_line(config: &Config) -> String {
    let records = &config.review.records;
    let pick_up = records.pick_up.join(", ");
    match &records.kind {
        RecordKind::Sqlite { path } => {
            format!("{} (embedded), picks up: {pick_up}", path.display())
        }
        RecordKind::Supabase { url, key } => format!(
            "Supabase {url} (key {}), table {}, picks up: {pick_up}",
            key.hint(),
            records.table
        ),
    }
}

fn images_line(config: &Config) -> String {
    match &config.review.images {
        ImageSettings::Folder { path } => format!("the folder {}", path.display()),
        ImageSettings::Http { url, .. } => url.clone(),
        ImageSettings::S3 { bucket, region, endpoint, key, .. } => {
            let endpoint = endpoint.as_deref().map(|at| format!(" at {at}")).unwrap_or_default();
            format!("S3 bucket {bucket} ({region}){endpoint}, {key}")
        }
    }
}

fn reviewer_line(config: &Config) -> String {
    let reviewer = &config.review.reviewer;
    let keys: Vec<String> = reviewer
        .projects
        .iter()
        .map(|project| {
            let hints: Vec<String> = project.keys.iter().map(|key| key.hint()).collect();
            format!("{} {}", project.name, hints.join(" "))
        })
        .collect();
    let keys = if keys.is_empty() { "no keys".to_owned() } else { keys.join("; ") };
    format!("Gemini {}, at most {} at once, keys: {keys}", reviewer.model, reviewer.max_in_flight)
}

/// The same as one JSON object.
#[must_use]
pub fn object(config: &Config, now: DateTime<Utc>) -> Value {
    let rfc3339 = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let schedules: Vec<Value> = config
        .schedules
        .iter()
        .map(|schedule| {
            json!({
                "schedule": schedule.name,
                "cadence": schedule.cadence,
                "timezone": schedule.timezone.name(),
                "time_box_seconds": schedule.time_box.as_secs(),
                "job": job_kind(&schedule.job),
                "next_due_at": next_due(schedule, now).map(rfc3339),
            })
        })
        .collect();
    let channels: Vec<Value> = config
        .channels
        .iter()
        .map(|channel| {
            json!({
                "channel": channel.name,
                "kind": kind_name(&channel.kind),
                "severity": channel.severity,
                "fallback": channel.fallback,
            })
        })
        .collect();
    json!({
        "ok": true,
        "file": config.file,
        "instance": config.service.instance,
        "bind": config.service.bind,
        "state_dir": config.service.state_dir,
        "schedules": schedules,
        "channels": channels,
        "records": records_line(config),
        "images": images_line(config),
        "reviewer": reviewer_line(config),
        "switched_off": config.switched_off,
        "time_zones": {
            "version": config.zones.version().map(|version| version.to_string()),
            "origin": config.zones.origin(),
        },
        "warnings": config.warnings(),
        "notes": clock_change_notes(config, now),
        "problems": [],
    })
}

fn job_kind(job: &Job) -> &'static str {
    match job {
        Job::Review { .. } => "review",
        Job::Command(_) => "command",
        Job::Http(_) => "http",
    }
}

pub(super) fn problems_object(problems: &Problems) -> Value {
    let problems: Vec<Value> = problems
        .0
        .iter()
        .map(|problem| {
            json!({
                "file": problem.place.file,
                "line": problem.place.line,
                "key": problem.key,
                "what": problem.what,
                "instead": problem.instead,
            })
        })
        .collect();
    json!({ "ok": false, "problems": problems })
}
