//! Who is told, and what is run: do mail servers, hooks, endpoints answer, are programs there?
//!
//! Invariant: no message is sent and no job is started; endpoints are asked for their front page's
//! head only.

use std::path::Path;

use rustix::fs::{Access, access};

use super::LIMIT;
use super::report::{Finding, State};
use crate::alert::channel::{self, ChannelKind, ChannelSettings, Scope, SendError};
use crate::config::Config;
use crate::http;
use crate::schedule::{CommandJob, HttpJob, Job};

/// Asks every channel's server.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        futures_util::future::join_all(config.channels.iter().map(ask)).await;
    if !config.channels.is_empty() {
        findings.push(Finding::new(
            "channel",
            State::NotChecked,
            "whether a message arrives",
            "lookout alert test sends one to every channel",
        ));
    }
    findings
}

async fn ask(settings: &ChannelSettings) -> Finding {
    if settings.kind == ChannelKind::Console {
        return Finding::good("channel", "writes to standard error").of(&settings.name);
    }
    let channel = match channel::build(settings) {
        Ok(channel) => channel,
        Err(error) => {
            return Finding::new("channel", State::Failed, error.problem, "").of(&settings.name);
        }
    };
    match channel.probe().await {
        Ok(found) => Finding::good("channel", found),
        Err(SendError::Refused { reason, scope: Scope::Recipient }) => {
            let instead = "these recipients get no mail; correct or remove them";
            Finding::new("channel", State::Failed, reason, instead)
        }
        Err(error) => {
            let state = match &error {
                SendError::Transient { .. } | SendError::Throttled { .. } => State::Unavailable,
                SendError::Doubtful { .. } => State::Warning,
                SendError::Refused { .. } | SendError::Broken { .. } => State::Failed,
            };
            let instead = "no alert arrives this way until this is fixed";
            Finding::new("channel", state, error.to_string(), instead)
        }
    }
    .of(&settings.name)
}

/// Looks whether the users' own jobs could be started.
pub(super) async fn examine_jobs(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for schedule in &config.schedules {
        let finding = match &schedule.job {
            Job::Review { .. } => continue,
            Job::Command(job) => command(job, config),
            Job::Http(job) => endpoint(job, config).await,
        };
        findings.push(finding.of(schedule.name.as_str()));
    }
    findings
}

fn command(job: &CommandJob, config: &Config) -> Finding {
    let cwd = job.cwd.as_deref().unwrap_or(&config.root);
    if !cwd.is_dir() {
        let what = format!("the folder {} is not there", cwd.display());
        return Finding::new("job", State::Failed, what, "set [job] cwd");
    }
    let Some(program) = job.argv.first() else {
        return Finding::new("job", State::Failed, "there is no program", "set [job] argv");
    };
    if is_there(program, cwd, config) {
        return Finding::good("job", format!("{program} is there; it was not started"));
    }
    let what = format!("the program {program} can't be found or may not be run");
    Finding::new("job", State::Failed, what, "write its whole path as the first part of argv")
}

/// As the shell would look: a path as it is, a bare name along `PATH`.
fn is_there(program: &str, cwd: &Path, config: &Config) -> bool {
    let can_run = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if program.contains('/') {
        return can_run(&cwd.join(program));
    }
    let path = config.environment.0.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", |p| p);
    std::env::split_paths(path).any(|folder| can_run(&folder.join(program)))
}

async fn endpoint(job: &HttpJob, config: &Config) -> Finding {
    let mut address = job.url.clone();
    for (name, value) in &config.environment.0 {
        address = address.replace(&format!("${{{name}}}"), value);
    }
    let front = reqwest::Url::parse(&address).ok().and_then(|url| url.join("/").ok());
    let (Some(front), Ok(client)) = (front, http::client(LIMIT)) else {
        let what = "its address can't be read";
        return Finding::new("job", State::Failed, what, "look at [job] url");
    };
    match client.head(front.clone()).timeout(LIMIT).send().await {
        Ok(_) => {
            let host = front.host_str().unwrap_or_default();
            Finding::good("job", format!("{host} answers; the job itself was not called"))
        }
        Err(error) => {
            let what = format!("it does not answer: {}", http::describe(error));
            let instead = "start the service, or correct [job] url";
            Finding::new("job", State::Unavailable, what, instead)
        }
    }
}
