//! Asking the daemon for something: a row is written, and the answer is waited for a little.
//!
//! Invariant: what was asked is never lost: without a daemon it is done as soon as one starts.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::screen::JsonFlag;
use super::{EXIT_FAILED, EXIT_OK, screen};
use crate::clock::{Clock, SystemClock};
use crate::run::ledger::{Answer, Ledger, Request};

/// How often the row is looked at: a person waits, and a read takes microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The daemon answers within a second; after so long it is not there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks, waits, says what came of it.
pub(super) async fn ask(
    ledger: &dyn Ledger,
    request: &Request,
    done: &str,
    json: JsonFlag,
) -> anyhow::Result<u8> {
    let id = ledger.ask(request, SystemClock.now()).await.context("can't write the request")?;
    let answer = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(answer) = ledger.answer_to(id).await? {
                return anyhow::Ok(answer);
            }
            tokio::time::sleep(LOOK_EVERY).await;
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
    let mut out = std::io::stdout();
    if json.json {
        screen::print_json(&mut out, &json!({ "state": state, "message": text }))?;
    } else {
        use std::io::Write;
        writeln!(out, "{text}")?;
    }
    Ok(code)
}
