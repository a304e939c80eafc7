//! One call: sent, its body read as it streams, its end put into words.
//!
//! When it is called again is the round's business.
//! Invariant: every byte of a body goes past the observer, however the call ends.

use std::time::Duration;

use reqwest::Response;

use super::Prepared;
use crate::http;
use crate::keep::output_observer::{OutputObserver, ScanResult, unwrapped};
use crate::keep::rules::FAILURE;
use crate::rundir::{CallOutcome, Stream};

/// A body that has said how the call went but does not end is not waited for any longer.
const QUIET_AFTER_ANSWER: Duration = Duration::from_secs(5);

/// As much of a body as a person needs to see what kind of answer it was.
const BODY_SHOWN: usize = 400;

/// How one call ended.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) status: Option<u16>,
    pub(super) outcome: CallOutcome,
    pub(super) detail: String,
    pub(super) scanned: ScanResult,
}

/// One call, at most `call_timeout` long.
pub(super) async fn call(prepared: &Prepared, observer: &OutputObserver) -> Called {
    let mut seen = Seen::default();
    let timeout = prepared.call_timeout;
    let ended = tokio::time::timeout(timeout, exchange(prepared, observer, &mut seen)).await;
    let scanned = std::mem::take(&mut seen.scanned);
    let shown = observer.say(&unwrapped(&String::from_utf8_lossy(&seen.beginning)));
    let (outcome, detail) = match ended {
        Err(_) => {
            let got = if seen.status.is_some() { "its answer did not end" } else { "no answer" };
            (CallOutcome::TimedOut, format!("{got} within {}", in_words(timeout)))
        }
        Ok(Err(broken)) => (CallOutcome::Failed, broken),
        Ok(Ok(())) => outcome_of(seen.status, &scanned, &shown),
    };
    let detail = match scanned.problems.first() {
        Some((_, detail)) if matches!(outcome, CallOutcome::Failed) => detail.clone(),
        Some(_) | None => observer.say(&detail),
    };
    Called { status: seen.status, outcome, detail, scanned }
}

/// What a complete answer says.
fn outcome_of(status: Option<u16>, scanned: &ScanResult, shown: &str) -> (CallOutcome, String) {
    let has_failed = scanned.problems.iter().any(|(kind, _)| kind == FAILURE);
    let outcome = match status {
        Some(status) if status >= 400 => {
            return (CallOutcome::Failed, format!("answered {status}: {shown}"));
        }
        Some(status) if status >= 300 => {
            let advice = "redirects are not followed, name the final address";
            return (CallOutcome::Failed, format!("answered {status}: {advice}"));
        }
        Some(_) | None if has_failed => CallOutcome::Failed,
        Some(_) | None if scanned.signal => CallOutcome::Signal,
        Some(_) | None if !scanned.problems.is_empty() => CallOutcome::Failed,
        Some(_) | None if scanned.idle => CallOutcome::Idle,
        Some(_) | None => CallOutcome::Other,
    };
    (outcome, shown.to_owned())
}

/// What has come of an answer, also when the rest never came.
#[derive(Debug, Default)]
struct Seen {
    status: Option<u16>,
    beginning: Vec<u8>,
    scanned: ScanResult,
}

/// Sends the request and reads the answer.
///
/// # Errors
/// When there is no whole answer; for people, without the address.
async fn exchange(
    prepared: &Prepared,
    observer: &OutputObserver,
    seen: &mut Seen,
) -> Result<(), String> {
    let response = prepared.request().send().await.map_err(|error| {
        let what = match http::failure(&error) {
            http::Failure::Unreachable => "could not be reached",
            http::Failure::TimedOut => "did not answer in time",
            http::Failure::Broken => "broke off",
        };
        format!("{what}: {}", http::describe(error))
    })?;
    seen.status = Some(response.status().as_u16());
    read_body(prepared, observer, response, seen).await
}

async fn read_body(
    prepared: &Prepared,
    observer: &OutputObserver,
    mut response: Response,
    seen: &mut Seen,
) -> Result<(), String> {
    // An error page may quote the completion message; there it means nothing.
    let is_error = response.status().as_u16() >= 300;
    let mut scanner = if is_error {
        observer.scanner_without_signal(Stream::Body)
    } else {
        observer.scanner(Stream::Body)
    };
    let mut n_bytes: u64 = 0;
    let ended = loop {
        let is_decided = seen.scanned.is_decisive() || scanner.is_waiting();
        tokio::select! {
            chunk = response.chunk() => match chunk {
                Ok(Some(bytes)) => {
                    n_bytes += bytes.len() as u64;
                    let room = BODY_SHOWN.saturating_sub(seen.beginning.len());
                    seen.beginning.extend_from_slice(&bytes[..room.min(bytes.len())]);
                    seen.scanned.add(observer.take(&mut scanner, Stream::Body, &bytes));
                    if n_bytes > prepared.max_body {
                        break Err(format!("answered with more than {} bytes", prepared.max_body));
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(format!("broke off: {}", http::describe(error))),
            },
            () = tokio::time::sleep(QUIET_AFTER_ANSWER), if is_decided => break Ok(()),
        }
    };
    seen.scanned.add(observer.finish_stream(scanner, Stream::Body));
    ended
}

/// "15 min", "1.5 s".
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds >= 60 && seconds.is_multiple_of(60) {
        format!("{} min", seconds / 60)
    } else if duration.subsec_millis() == 0 {
        format!("{seconds} s")
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep::rules::PROVIDER;

    #[test]
    fn an_answer_is_read_by_its_status_then_by_its_text() {
        let outcome = |status, signal, idle, kinds: &[&str]| {
            let problems = kinds.iter().map(|it| ((*it).to_owned(), String::new())).collect();
            let scanned = ScanResult { signal, idle, problems };
            outcome_of(Some(status), &scanned, "text").0
        };
        assert_eq!(outcome(200, true, false, &[]), CallOutcome::Signal);
        assert_eq!(outcome(200, true, false, &[PROVIDER]), CallOutcome::Signal);
        assert_eq!(outcome(200, true, false, &[FAILURE]), CallOutcome::Failed);
        assert_eq!(outcome(200, false, true, &[]), CallOutcome::Idle);
        assert_eq!(outcome(200, false, true, &[PROVIDER]), CallOutcome::Failed);
        assert_eq!(outcome(200, false, false, &[]), CallOutcome::Other);
        assert_eq!(outcome(500, true, false, &[]), CallOutcome::Failed);
        assert_eq!(outcome(302, true, false, &[]), CallOutcome::Failed);
    }

    #[test]
    fn lengths_are_said_as_people_say_them() {
        let words = [900_000, 1_500, 2_000, 61_000].map(|ms| in_words(Duration::from_millis(ms)));
        assert_eq!(words, ["15 min", "1.5 s", "2 s", "61 s"]);
    }
}
