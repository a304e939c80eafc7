//! Gemini: is every key taken, and is the model there?
//!
//! The reviewer's own check asks `GET /models/{model}`, which costs nothing, and with `--call` sends
//! one small request a project; so doctor and review say the same about the same error. Invariant: a service that can't be reached is never told as
//! one that refuses us.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use reqwest::header::DATE;

use super::report::{Finding, State};
use super::{Calls, LIMIT};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::http;
use crate::review::prompt::Prompt;
use crate::review::reviewer::gemini::check::{Finding as Found, KeyCheck};
use crate::review::reviewer::gemini::client::Gemini;
use crate::schedule::Job;

/// What Gemini said, and what time it has there.
pub(super) struct Examined {
    pub(super) findings: Vec<Finding>,
    pub(super) clock_of_the_service: Option<DateTime<Utc>>,
}

/// Asks with every key.
pub(super) async fn examine(config: &Config, calls: Calls) -> Examined {
    let alone = |finding: Finding| Examined { findings: vec![finding], clock_of_the_service: None };
    let mut settings = config.review.reviewer.clone();
    if settings.projects.is_empty() {
        return alone(without_key(config));
    }
    settings.attempt_timeout = settings.attempt_timeout.min(LIMIT);
    let prompt = match settings.prompt_file.as_deref().map(Prompt::read) {
        None => Prompt::built_in(),
        Some(Ok(prompt)) => prompt,
        Some(Err(error)) => {
            let what = format!("the prompt can't be used: {error:#}");
            return alone(Finding::new("reviewer", State::Failed, what, "see prompt_file"));
        }
    };
    let gemini = match Gemini::new(&settings, prompt, Arc::new(SystemClock)) {
        Ok(gemini) => gemini,
        Err(error) => {
            let what = format!("the HTTP client can't start: {}", http::describe(error));
            return alone(Finding::new("reviewer", State::Failed, what, ""));
        }
    };
    let (checks, clock_of_the_service) =
        tokio::join!(gemini.check_key_and_model(), clock(&settings.base_url));
    let mut findings: Vec<Finding> =
        checks.into_iter().map(|check| key_finding(check, &settings.model)).collect();
    match calls {
        Calls::None => findings.push(Finding::new(
            "reviewer",
            State::NotChecked,
            "whether there is quota and credit, and whether the model answers",
            "lookout doctor --call sends one small request",
        )),
        Calls::One => {
            let tried = gemini.try_one_request().await;
            findings.extend(tried.into_iter().map(answered));
        }
    }
    findings.push(Finding::new(
        "reviewer",
        State::NotChecked,
        "how well the model judges your images",
        "lookout review --limit 5, or --compare 50 where the old service has reviewed some",
    ));
    Examined { findings, clock_of_the_service }
}

fn without_key(config: &Config) -> Finding {
    let is_review = |job: &Job| matches!(job, Job::Review { .. });
    let is_needed = config.schedules.iter().any(|schedule| is_review(&schedule.job));
    let state = if is_needed { State::Failed } else { State::NotChecked };
    let instead = "put GEMINI_API_KEY=… (from https://aistudio.google.com/apikey) into .env";
    Finding::new("reviewer", state, "there is no key for Gemini", instead)
}

fn key_finding(check: KeyCheck, model: &str) -> Finding {
    let name = format!("key {} of {}", check.key, check.project);
    let good = match &check.finding {
        Found::Good { display_name: Some(display_name) } => {
            format!("is taken, {model} ({display_name}) is there")
        }
        Found::Good { display_name: None }
        | Found::KeyRefused { .. }
        | Found::ModelRefused { .. }
        | Found::Refused(_)
        | Found::Unknown { .. } => format!("is taken, {model} is there"),
    };
    finding(check.finding, good).of(name)
}

fn answered(check: KeyCheck) -> Finding {
    let good = "a real request is answered: there is quota and credit".to_owned();
    finding(check.finding, good).of(format!("project {}", check.project))
}

fn finding(found: Found, good: String) -> Finding {
    match found {
        Found::Good { display_name: _ } => Finding::good("reviewer", good),
        Found::Refused(refusal) => {
            Finding::new("reviewer", State::Failed, refusal.reason, refusal.action)
        }
        Found::KeyRefused { message } => Finding::new(
            "reviewer",
            State::Failed,
            message,
            "keys: https://aistudio.google.com/apikey; put the new one into .env",
        ),
        Found::ModelRefused { message } => Finding::new(
            "reviewer",
            State::Failed,
            message,
            "see [reviewer] model, api_version and base_url",
        ),
        Found::Unknown { message } => Finding::new(
            "reviewer",
            State::Unavailable,
            message,
            "nothing was learned about the key; see this machine's network and HTTPS_PROXY",
        ),
    }
}

/// What time the service has: the `Date` of any answer at all.
async fn clock(base_url: &str) -> Option<DateTime<Utc>> {
    let client = http::client(LIMIT).ok()?;
    let answer = client.head(base_url).timeout(LIMIT).send().await.ok()?;
    let date = answer.headers().get(DATE)?.to_str().ok()?;
    Some(DateTime::parse_from_rfc2822(date).ok()?.with_timezone(&Utc))
}
