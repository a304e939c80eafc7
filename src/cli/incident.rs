//! `lookout incident ack ID`: somebody has taken it, no more reminders.

use std::path::PathBuf;

use super::output::JsonFlag;
use super::{open_state, request};
use crate::run::ledger::Request;

/// What to do with an incident.
#[derive(Debug, clap::Subcommand)]
pub enum IncidentCommand {
    /// Acknowledge it: no more reminders; you are still told when it is resolved
    Ack {
        /// Incident number, as in the message or in `lookout incidents`
        id: i64,
        #[command(flatten)]
        #[expect(missing_docs, reason = "the flag documents itself")]
        json: JsonFlag,
    },
}

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, command: &IncidentCommand) -> u8 {
    let IncidentCommand::Ack { id, json } = command;
    open_state::request(file, async |_, state| {
        let request = Request::Ack { incident: *id };
        let done = format!("Incident {id} is acknowledged; no more reminders.");
        request::send(&*state.ledger, &request, &done, *json).await
    })
}
