//! `schedules/*.toml`: one file, one schedule.
//!
//! What is due when is `schedule::slot`'s business; the arithmetic of impossible combinations is
//! `combination.rs`'s. Invariant: every expression, pattern and zone has been parsed once.

use std::time::Duration;

use super::job;
use super::section::Section;
use super::zone;
use crate::schedule::{
    Cadence, CatchUp, Find, Job, Maintenance, OnStall, Overlap, Pattern, Schedule, ScheduleName,
    SignalMatch, StallOn, slot,
};
use crate::timezone::Zone;
use crate::watch::INCIDENT_KINDS;

const START_GRACE: Duration = Duration::from_secs(120);
const TIME_BOX: Duration = Duration::from_secs(45 * 60);
const SIGNAL_GRACE: Duration = Duration::from_secs(300);
const KILL_GRACE: Duration = Duration::from_secs(10);
const STALL_AFTER: Duration = Duration::from_secs(600);

/// What the review prints last, and the old service's answers hold.
pub(super) const SIGNAL: &str = "Bulk processing completed.";

/// What a pattern of no incident's kind speaks for.
const FAILURE: &str = "failure";

/// The same, as the incident that it opens is called.
const RUN_FAILED: &str = "run_failed";

/// The schedule of the shortest way: every hour, a box of 45 minutes.
pub(super) const BUILT_IN: &str = "image-review";

/// Built in, with this batch.
pub(super) fn built_in(batch: u32) -> Schedule {
    Schedule {
        name: ScheduleName::new(BUILT_IN),
        cadence: Cadence::Cron("0 * * * *".to_owned()),
        timezone: Zone::utc(),
        jitter: Duration::ZERO,
        start_grace: START_GRACE,
        time_box: TIME_BOX,
        signal_grace: SIGNAL_GRACE,
        kill_grace: KILL_GRACE,
        stall_after: STALL_AFTER,
        stall_on: StallOn::Output,
        on_stall: OnStall::Alert,
        signal: SIGNAL.to_owned(),
        signal_match: SignalMatch::Text,
        overlap: Overlap::Skip,
        catch_up: CatchUp::Latest,
        notify: Vec::new(),
        patterns: Vec::new(),
        maintenance: Vec::new(),
        image_errors_at_least: 20,
        image_errors_percent: 10,
        job: Job::Review { batch },
    }
}

/// Reads one file. `None` only if it is unknown when or what to run.
pub(super) fn read(section: &Section<'_>, name: &str, batch: u32) -> Option<Schedule> {
    let defaults = built_in(batch);
    let _ = section.flag("enabled");
    let cadence = cadence(section);
    let timezone = zone::read(section);
    let duration = |key: &str, default: Duration| section.duration(key).unwrap_or(default);
    let time_box = duration("time_box", defaults.time_box);
    let signal_grace = duration("signal_grace", defaults.signal_grace);
    let stall_after = section
        .duration("stall_after")
        // A box shorter than the default may stay silent to its end.
        .unwrap_or_else(|| defaults.stall_after.min(time_box + signal_grace));
    let job = job::read(section.section("job"), batch);
    let schedule = Schedule {
        name: ScheduleName::new(name),
        // Every key is read before anything is given up, so that all problems are told.
        cadence: cadence.clone().unwrap_or(Cadence::Continuous),
        timezone,
        jitter: duration("jitter", defaults.jitter),
        start_grace: duration("start_grace", defaults.start_grace),
        time_box,
        signal_grace,
        kill_grace: duration("kill_grace", defaults.kill_grace),
        stall_after,
        stall_on: section
            .choice("stall_on", &[("output", StallOn::Output), ("progress", StallOn::Progress)])
            .unwrap_or(defaults.stall_on),
        on_stall: section
            .choice("on_stall", &[("alert", OnStall::Alert), ("stop", OnStall::Stop)])
            .unwrap_or(defaults.on_stall),
        signal: signal(section, job.as_ref()),
        signal_match: signal_match(section, job.as_ref()),
        overlap: section
            .choice(
                "overlap",
                &[
                    ("skip", Overlap::Skip),
                    ("queue", Overlap::Queue),
                    ("replace", Overlap::Replace),
                ],
            )
            .unwrap_or(defaults.overlap),
        catch_up: section
            .choice("catch_up", &[("none", CatchUp::None), ("latest", CatchUp::Latest)])
            .unwrap_or(defaults.catch_up),
        notify: section.plain_texts("notify").unwrap_or_default(),
        patterns: section.sections("pattern").into_iter().filter_map(pattern).collect(),
        maintenance: section.sections("maintenance").into_iter().filter_map(maintenance).collect(),
        image_errors_at_least: section
            .integer("image_errors_at_least", 1..=1_000_000)
            .unwrap_or(defaults.image_errors_at_least),
        image_errors_percent: section
            .integer("image_errors_percent", 0..=100)
            .unwrap_or(defaults.image_errors_percent),
        job: job.clone().unwrap_or(Job::Review { batch }),
    };
    (cadence.is_some() && job.is_some()).then_some(schedule)
}

fn cadence(section: &Section<'_>) -> Option<Cadence> {
    let is_continuous = section.flag("continuous") == Some(true);
    let cron = section.plain("cron");
    match (cron, is_continuous) {
        (Some(_), true) => {
            let instead = "keep one of them";
            section.problem("continuous", "both cron and continuous are set", instead);
            None
        }
        (None, true) => Some(Cadence::Continuous),
        (Some(cron), false) => match slot::parse(&cron) {
            Ok(_) => Some(Cadence::Cron(cron)),
            Err(refusal) => {
                section.problem("cron", refusal.what, refusal.instead);
                None
            }
        },
        (None, false) => {
            if !section.has("cron") {
                let instead = "write cron = \"0 * * * *\" (every full hour), or continuous = true";
                section.problem("cron", "this file does not say when to run", instead);
            }
            None
        }
    }
}

fn signal(section: &Section<'_>, job: Option<&Job>) -> String {
    let signal = section.literal("signal").unwrap_or_else(|| SIGNAL.to_owned());
    if signal.trim().is_empty() {
        let instead = "write the text that the job prints when it has done its work";
        section.problem("signal", "an empty text is found in every output", instead);
    } else if matches!(job, Some(Job::Review { .. })) && signal != SIGNAL {
        section.problem(
            "signal",
            format!("the built-in review never prints this: it ends with \"{SIGNAL}\""),
            "leave signal out",
        );
    }
    signal
}

fn signal_match(section: &Section<'_>, job: Option<&Job>) -> SignalMatch {
    let choices = [("text", SignalMatch::Text), ("line", SignalMatch::Line)];
    let chosen = section.choice("signal_match", &choices);
    if chosen.is_some() && matches!(job, Some(Job::Review { .. })) {
        let what = "the built-in review ends with a line of its own, which names its run";
        section.problem("signal_match", what, "leave signal_match out");
    }
    chosen.unwrap_or_default()
}

fn pattern(section: Section<'_>) -> Option<Pattern> {
    let text = section.literal("text");
    let regex = section.literal("regex");
    let instead = "write text = \"…\" for a literal text or regex = \"…\" for an expression";
    let find = match (text, regex) {
        (Some(text), None) if text.is_empty() => {
            section.problem("text", "an empty text is found in every output", instead);
            None
        }
        (Some(text), None) => Some(Find::Text(text)),
        (None, Some(regex)) => match regex::bytes::Regex::new(&regex) {
            Ok(found) if found.is_match(b"") => {
                let what = "this expression also matches an empty line";
                section.problem("regex", what, "make it ask for at least one letter");
                None
            }
            Ok(_) => Some(Find::Regex(regex)),
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or("it can't be parsed").to_owned();
                section.problem(
                    "regex",
                    format!("\"{regex}\" is not a valid regular expression: {reason}"),
                    instead,
                );
                None
            }
        },
        (Some(_), Some(_)) => {
            section.problem("regex", "both text and regex are set", "keep one of them");
            None
        }
        (None, None) => {
            section.problem("text", "this pattern does not say what to look for", instead);
            None
        }
    };
    let kind = pattern_kind(&section);
    let count = section.integer("count", 1..=1_000_000).unwrap_or(1);
    let within = section.duration("within");
    section.finish();
    Some(Pattern { find: find?, kind: kind?, count, within })
}

/// A pattern reads a job's output, so it can speak for what a job meets, not for Lookout's own.
fn pattern_kind(section: &Section<'_>) -> Option<String> {
    if !section.has("kind") {
        let instead = "write kind = \"provider_unavailable\", \"credentials_rejected\", … or \
                       \"failure\"";
        section.problem("kind", "this pattern does not say what it means", instead);
        return None;
    }
    let kinds: Vec<(&str, &str)> = INCIDENT_KINDS
        .into_iter()
        .filter(|kind| kind.is_for_jobs_to_say())
        .map(|kind| (kind.as_str(), kind.as_str()))
        .chain([(FAILURE, FAILURE), (RUN_FAILED, FAILURE)])
        .collect();
    section.choice("kind", &kinds).map(str::to_owned)
}

fn maintenance(section: Section<'_>) -> Option<Maintenance> {
    let from = section.plain("from");
    let lasts = section.duration("lasts");
    let reason = section.plain("reason").unwrap_or_else(|| "maintenance".to_owned());
    let example = "write from = \"0 2 * * 0\" (Sundays at two) and lasts = \"2h\"";
    if !section.has("from") {
        section.problem("from", "this window does not say when it begins", example);
    }
    if !section.has("lasts") {
        section.problem("lasts", "this window does not say how long it lasts", example);
    }
    let from = from.filter(|from| match slot::parse(from) {
        Ok(_) => true,
        Err(refusal) => {
            section.problem("from", refusal.what, refusal.instead);
            false
        }
    });
    section.finish();
    Some(Maintenance { from: from?, lasts: lasts?, reason })
}
