//! The reviews behind the legacy HTTP interface: `lookout review` as a process, and what it said.
//!
//! They are no runs of a schedule: nobody is told by their callers, who take any answer for a normal
//! one. So what stopped a batch is handed to `incidents.rs`.
//! Invariant: a process is never killed from here; it reads the configuration and the `.env` anew, as
//! every run does.

mod incidents;

use std::process::Stdio;

use async_trait::async_trait;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

pub(super) use self::incidents::BatchIncidents;
use crate::protocol::{Line, Problem};
use crate::run::keeper::order::Settings;
use crate::web::legacy_api::{Ended, Reviews};

/// A complaint is a line or two; the rest of standard error is for the log.
const MAX_COMPLAINT: u64 = 64 * 1024;

/// Starts processes of this program.
#[derive(Debug)]
pub(super) struct ReviewProcesses {
    settings: Settings,
    incidents: BatchIncidents,
}

/// What a process said.
#[derive(Debug, Default)]
struct Said {
    last: String,
    /// The last problem that is not over.
    problem: Option<Problem>,
}

impl ReviewProcesses {
    pub(super) fn new(settings: Settings, incidents: BatchIncidents) -> Self {
        Self { settings, incidents }
    }

    async fn run(&self, arguments: &[String]) -> (Ended, Option<Problem>) {
        match self.spawn(arguments).await {
            Ok(ended) => ended,
            Err(error) => (Ended::Badly(format!("the review could not be started: {error}")), None),
        }
    }

    /// How it ended, and the problem that it ended with.
    async fn spawn(&self, arguments: &[String]) -> std::io::Result<(Ended, Option<Problem>)> {
        let Settings { program, config, root } = &self.settings;
        let mut command = Command::new(program);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        command.arg("review").args(arguments).current_dir(root);
        // Its own group: what ends the daemon does not reach it.
        command.process_group(0).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (said, complaint) =
            tokio::join!(listen(child.stdout.take()), complaint(child.stderr.take()));
        let status = child.wait().await?;
        let ended =
            if status.success() { ended_well(&said) } else { ended_badly(&said, &complaint) };
        Ok((ended, said.problem))
    }
}

#[async_trait]
impl Reviews for ReviewProcesses {
    async fn batch(&self) -> Ended {
        let (ended, problem) = self.run(&["--one-batch".to_owned(), "--json".to_owned()]).await;
        self.incidents.record(&ended, problem.as_ref()).await;
        ended
    }

    async fn image(&self, job_id: &str, image_index: u64) -> Ended {
        // With `=`, so that a job id that begins with a dash is no option.
        let job = format!("--job-id={job_id}");
        let index = format!("--image-index={image_index}");
        self.run(&[job, index, "--json".to_owned()]).await.0
    }
}

async fn listen(stdout: Option<impl AsyncRead + Unpin>) -> Said {
    let mut said = Said::default();
    let Some(stdout) = stdout else { return said };
    let mut lines = BufReader::new(stdout).lines();
    // A line that can't be read ends it: then the last one is no JSON, which is told.
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(parsed) = Line::parse(&line) {
            match parsed {
                Line::Problem(problem) => said.problem = Some(problem),
                Line::Recovered { kind } => {
                    said.problem = said.problem.filter(|problem| problem.kind != kind);
                }
                Line::Progress { .. } | Line::Totals(_) | Line::Note { .. } => {}
            }
        } else if !line.trim().is_empty() {
            said.last = line;
        }
    }
    said
}

async fn complaint(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let mut text = Vec::new();
    if let Some(mut stderr) = stderr {
        let mut first = (&mut stderr).take(MAX_COMPLAINT);
        // What can't be read is missing in a message; the exit code still says how it ended.
        let _ = first.read_to_end(&mut text).await;
        // The rest is read and dropped, or the process would wait for a reader.
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    last.trim_start_matches("lookout review: ").to_owned()
}

fn ended_well(said: &Said) -> Ended {
    match serde_json::from_str(&said.last) {
        Ok(answer) => Ended::Well(answer),
        Err(_) => Ended::Badly("the review ended without an answer".to_owned()),
    }
}

fn ended_badly(said: &Said, complaint: &str) -> Ended {
    let answer: Option<Value> = serde_json::from_str(&said.last).ok();
    let detail = answer.as_ref().and_then(|answer| answer["detail"].as_str());
    let message = answer.as_ref().and_then(|answer| answer["message"].as_str());
    let reason = detail.or(message).unwrap_or(complaint);
    let reason = if reason.is_empty() { "the review failed without a word" } else { reason };
    let Some(problem) = &said.problem else { return Ended::Badly(reason.to_owned()) };
    let detail = if problem.detail.is_empty() { reason } else { &problem.detail }.to_owned();
    let answer_of = |answer: &Option<Value>| answer.clone().unwrap_or_default();
    match (problem.kind.as_str(), problem.provider.as_deref()) {
        ("quota_exhausted", Some("budget")) => {
            Ended::Budget { answer: answer_of(&answer), reason: detail }
        }
        ("provider_unavailable" | "credentials_rejected" | "quota_exhausted", _) => {
            Ended::Provider { answer: answer_of(&answer), reason: detail }
        }
        _ => Ended::Badly(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(last: &str, problem: Option<(&str, &str)>) -> Said {
        let problem = problem.map(|(kind, detail)| Problem {
            kind: kind.to_owned(),
            detail: detail.to_owned(),
            ..Problem::default()
        });
        Said { last: last.to_owned(), problem }
    }

    #[test]
    fn what_a_process_said_becomes_what_its_caller_is_told() {
        let good = said(r#"{"message":"Bulk processing completed."}"#, None);
        assert!(matches!(ended_well(&good), Ended::Well(_)));
        let wrong_key = said(
            r#"{"message":"no key is accepted","results":[]}"#,
            Some(("credentials_rejected", "400 API key not valid")),
        );
        let told = ended_badly(&wrong_key, "no key is accepted");
        assert!(
            matches!(told, Ended::Provider { reason, .. } if reason == "400 API key not valid")
        );
        let mut spent = said(r#"{"results":[]}"#, Some(("quota_exhausted", "the budget is spent")));
        spent.problem.as_mut().unwrap().provider = Some("budget".into());
        let told = ended_badly(&spent, "");
        assert!(matches!(told, Ended::Budget { reason, .. } if reason == "the budget is spent"));
        let no_table = said("", Some(("records_unavailable", "down")));
        assert_eq!(ended_badly(&no_table, "no table"), Ended::Badly("no table".into()));
        let missing = said(r#"{"detail":"the picture is not there"}"#, None);
        assert_eq!(ended_badly(&missing, ""), Ended::Badly("the picture is not there".into()));
        assert!(matches!(ended_well(&said("", None)), Ended::Badly(_)));
        assert!(matches!(ended_badly(&said("", None), ""), Ended::Badly(text) if !text.is_empty()));
    }
}
