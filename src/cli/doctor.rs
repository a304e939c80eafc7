//! `lookout doctor`: does everything answer? Each part is asked for real, and nothing is changed.
//!
//! `machine.rs` looks at this machine, `gemini.rs`, `rows.rs` with `key.rs` and `pictures.rs`, and
//! `alerts.rs` ask over the network,
//! `report.rs` prints. Invariant: nothing is written, no message is sent, no picture is reviewed;
//! what was not asked is named and never counts as healthy; no secret is printed.

mod alerts;
mod gemini;
mod key;
mod machine;
mod pictures;
mod report;
mod rows;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::report::{Finding, State};
use super::check::Form;
use super::load_config::{self, LoadError};
use super::{EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_TRY_LATER, output};
use crate::app::expected::Expected;
use crate::clock::{Clock, SystemClock};
use crate::config::problem::Problem;
use crate::config::{Config, Usable};

/// A part that does not answer within this is told as one that does not answer: somebody is
/// sitting in front of it.
const LIMIT: Duration = Duration::from_secs(30);

/// Whether the provider gets a real request, which costs a little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Only what is free.
    None,
    /// One small request a project.
    One,
}

/// Asks everything and prints; the exit code: 0, 75 if all that is wrong is that something is
/// unavailable just now, 1 if something must be repaired, 78 if the configuration is wrong.
pub async fn run(config: Option<PathBuf>, form: Form, calls: Calls) -> u8 {
    let usable = match (load_config::usable(config), form) {
        (Ok(usable), _) => usable,
        (Err(LoadError::Configuration(problems)), Form::Json) => {
            let object = format!("{}\n", super::check::problems_object(&problems));
            return output::print(&object, EXIT_CONFIG);
        }
        (Err(error), Form::Text | Form::Json) => return load_config::refused(&error),
    };
    let Usable { config, problems, .. } = usable;
    let mut findings: Vec<Finding> = problems.iter().map(broken).collect();
    findings.extend(examine(&config, calls).await);
    let printed = match form {
        Form::Text => report::text(&findings),
        Form::Json => format!("{}\n", report::object(&findings)),
    };
    let code = if problems.is_empty() { exit_code(&findings) } else { EXIT_CONFIG };
    output::print(&config.redactor().redact(&printed), code)
}

/// A file that is not used as it is.
fn broken(problem: &Problem) -> Finding {
    let key = if problem.key.is_empty() { String::new() } else { format!("{}: ", problem.key) };
    Finding {
        part: "settings",
        name: problem.place.to_string(),
        state: State::Failed,
        what: format!("{key}{}", problem.what),
        instead: problem.instead.clone(),
    }
}

/// Everything that was found, in the order in which a person would repair it.
async fn examine(config: &Config, calls: Calls) -> Vec<Finding> {
    let (gemini, rows, alerts, jobs) = tokio::join!(
        gemini::examine(config, calls),
        rows::examine(config),
        alerts::examine(config),
        alerts::examine_jobs(config),
    );
    let mut findings = machine::examine(config);
    findings.push(machine::clock(SystemClock.now(), gemini.clock_of_the_service));
    findings.push(Finding::good("time zones", config.zones.to_string()));
    findings.extend(rows.findings);
    findings.extend(gemini.findings);
    findings.extend(cost(rows.n_waiting, config));
    findings.extend(alerts);
    findings.extend(jobs);
    findings.extend(config.warnings().into_iter().map(|warning| Finding {
        part: "settings",
        name: String::new(),
        state: State::Warning,
        what: warning,
        instead: String::new(),
    }));
    findings
}

/// What the waiting rows will cost, as far as it can be known.
fn cost(n_waiting: Option<u64>, config: &Config) -> Option<Finding> {
    let n_rows = n_waiting.filter(|n| *n > 0)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Without a prompt there is no estimate; the reviewer's finding says what is wrong with it.
    let expected = Expected::of(&config.review, &clock).ok()?;
    let images = if n_rows == 1 { "image that waits" } else { "images that wait" };
    let what = format!("the {n_rows} {images}: {}", expected.said(n_rows));
    Some(match expected.usd_per_picture {
        Some(_) => Finding::good("budget", what),
        None => Finding::new("budget", State::NotChecked, what, ""),
    })
}

fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.state).max() {
        Some(State::Failed) => EXIT_FAILED,
        Some(State::Unavailable) => EXIT_TRY_LATER,
        Some(State::Good | State::NotChecked | State::Warning) | None => EXIT_OK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_repaired_counts_more_than_what_comes_back_by_itself() {
        let found = |states: &[State]| {
            let findings: Vec<Finding> = states
                .iter()
                .map(|state| Finding {
                    part: "x",
                    name: String::new(),
                    state: *state,
                    what: String::new(),
                    instead: String::new(),
                })
                .collect();
            exit_code(&findings)
        };
        assert_eq!(found(&[State::Good, State::NotChecked, State::Warning]), EXIT_OK);
        assert_eq!(found(&[State::Good, State::Unavailable]), EXIT_TRY_LATER);
        assert_eq!(found(&[State::Unavailable, State::Failed, State::Good]), EXIT_FAILED);
    }
}
