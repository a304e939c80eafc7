//! Sends a request to the daemon: writes a row and waits up to five seconds for the answer.
//!
//! Invariant: a request is never lost: without a daemon it is carried out as soon as one starts.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::output::JsonFlag;
use super::{EXIT_FAILED, EXIT_OK, output};
use crate::clock::{Clock, SystemClock};
use crate::run::ledger::{Answer, Ledger, Request};

/// A person waits, and a read takes microseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A running daemon answers within a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Prints the outcome; the exit code.
pub(super) async fn send(
    ledger: &dyn Ledger,
    request: &Request,
    done: &str,
    json: JsonFlag,
) -> anyhow::Result<u8> {
    let id = ledger.ask(request, SystemClock.now()).await.context("can't write the request")?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, async {
        loop {
            if let Some(answer) = ledger.answer_to(id).await? {
                return anyhow::Ok(answer);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    });
    let (code, state, text) = match answer.await {
        Ok(answer) => match answer? {
            Answer::Done | Answer::Planned { .. } => (EXIT_OK, "done", done.to_owned()),
            Answer::Refused { reason } => (EXIT_FAILED, "refused", reason),
        },
        Err(_) => (
            EXIT_OK,
            "waiting",
            "Noted, but no daemon answers: it is done as soon as `lookout serve` runs.".to_owned(),
        ),
    };
    let mut out = output::Output::stdout();
    if json.json {
        output::print_json(&mut out, &json!({ "state": state, "message": text }))?;
    } else {
        use std::io::Write;
        writeln!(out, "{text}")?;
    }
    Ok(out.end(code))
}
