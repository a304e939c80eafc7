//! `[job]`: the review, a command, or an endpoint.
//!
//! `${NAME}`s in `url`, `headers`, `body` and `[job.env]` are checked here and filled in by the keeper
//! when the run starts; `argv` is literal, since a shell has a `${` of its own; elsewhere a `${` is
//! refused. Invariant: no secret stands in a job as it is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use super::environment;
use super::records::is_http;
use super::section::{Names, Section};
use crate::placeholder;
use crate::redact::is_secret;
use crate::schedule::{CommandJob, HttpJob, Job};

/// A call of the old service that hangs ends by itself after 640 to 660 s (docs/legacy-service.md);
/// one that outlasts this is stuck.
const CALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Time for new rows to come before the next call.
const IDLE_PAUSE: Duration = Duration::from_secs(60);
/// A batch's answer is a few hundred kB; more is not an answer.
const MAX_BODY: u64 = 16 * 1024 * 1024;

#[derive(Clone, Copy)]
enum KindChoice {
    Review,
    Command,
    Http,
}

/// Reads the section; `batch` is what a review takes at a time unless told otherwise.
pub(super) fn read(section: Section<'_>, batch: u32) -> Option<Job> {
    let choices = [
        ("review", KindChoice::Review),
        ("command", KindChoice::Command),
        ("http", KindChoice::Http),
    ];
    if !section.has("kind") {
        let instead = "write [job] and kind = \"review\", \"command\" or \"http\"";
        section.problem("kind", "this file does not say what to run", instead);
    }
    let job = match section.choice("kind", &choices)? {
        KindChoice::Review => {
            Some(Job::Review { batch: section.integer("batch", 1..=100_000).unwrap_or(batch) })
        }
        KindChoice::Command => command(&section).map(Job::Command),
        KindChoice::Http => http(&section).map(Job::Http),
    };
    section.finish();
    job
}

fn command(section: &Section<'_>) -> Option<CommandJob> {
    let argv = section.literal_texts("argv");
    let is_empty = argv.as_ref().is_none_or(|argv| argv.first().is_none_or(String::is_empty));
    if is_empty && (argv.is_some() || !section.has("argv")) {
        let instead = "write argv = [\"python\", \"run_bulk_auto_review.py\"]; there is no shell";
        section.problem("argv", "the program to start is missing", instead);
    }
    let signals = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"];
    let job = CommandJob {
        cwd: section.plain("cwd").map(|cwd| section.reader.root.join(cwd)),
        env: texts_by_name(&section.section("env")),
        stop_signal: section
            .choice("stop_signal", &signals.map(|signal| (signal, signal)))
            .unwrap_or("SIGTERM")
            .to_owned(),
        user: section.plain("user"),
        argv: argv.filter(|_| !is_empty)?,
    };
    Some(job)
}

fn http(section: &Section<'_>) -> Option<HttpJob> {
    let url = section.raw_text("url");
    if !section.has("url") {
        let instead = "write url = \"http://127.0.0.1:8000/bulk_auto_review\"";
        section.problem("url", "the address to call is missing", instead);
    }
    if let Some(url) = &url
        && section.names() == Names::Required
        && let Ok(resolved) = environment::resolve(url, section.reader.variables)
        && !is_http(&resolved)
    {
        let instead = "write an address that begins with http:// or https://";
        section.problem("url", "this is not a web address", instead);
    }
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let method = section.choice("method", &methods.map(|method| (method, method)));
    let idle = section.literal("idle");
    if idle.as_ref().is_some_and(|idle| idle.trim().is_empty()) {
        let instead = "write the text of an answer that means \"nothing to do\"";
        section.problem("idle", "an empty text is found in every answer", instead);
    }
    Some(HttpJob {
        method: method.unwrap_or("POST").to_owned(),
        headers: texts_by_name(&section.section("headers")),
        body: section.raw_text("body"),
        repeat: section.flag("repeat").unwrap_or(false),
        idle,
        idle_pause: section.duration("idle_pause").unwrap_or(IDLE_PAUSE),
        call_timeout: section.duration("call_timeout").unwrap_or(CALL_TIMEOUT),
        max_body: section.size("max_body").unwrap_or(MAX_BODY),
        url: url?,
    })
}

/// Headers or variables; a name that says "secret" must have a `${NAME}` as its value.
fn texts_by_name(section: &Section<'_>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for name in section.keys() {
        let Some(value) = section.raw_text(&name) else { continue };
        let typed = placeholder::typed(&value);
        if is_secret(&name, &typed) && !is_scheme(typed.trim()) {
            section.problem(
                &name,
                "this is a secret; secrets do not belong in TOML files",
                format!("put it into .env and write {name} = \"${{NAME}}\" with its name there"),
            );
            continue;
        }
        texts.insert(name, value);
    }
    texts
}

/// `Bearer ${TOKEN}`: the word before the secret is none.
fn is_scheme(typed: &str) -> bool {
    ["bearer", "basic", "token"].iter().any(|scheme| typed.eq_ignore_ascii_case(scheme))
}
