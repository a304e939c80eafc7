//! `lookout run stop ID`: a run is stopped as at the end of its grace: SIGTERM, then SIGKILL.

use std::path::PathBuf;

use super::output::{self, JsonFlag};
use super::{names, open_state, request};
use crate::run::RunId;
use crate::run::ledger::Request;
use crate::watch::history::{SlotFilter, SlotState};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run id (its beginning is enough), or a schedule, for its run in progress
    pub run: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flag documents itself")]
    pub json: JsonFlag,
}

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, args: &Args) -> u8 {
    open_state::request(file, async |config, state| {
        let by_schedule = SlotFilter { schedule: Some(args.run.clone()), ..SlotFilter::default() };
        let running = |slot: &crate::watch::history::SlotRow| slot.state == SlotState::Running;
        let found = match state.history.slot_of_run(&args.run).await? {
            Some(slot) => Some(slot),
            None => state.history.slots(by_schedule).await?.into_iter().find(running),
        };
        let Some((slot, run)) = found.and_then(|slot| slot.run.clone().map(|run| (slot, run)))
        else {
            let is_schedule = config.schedules.iter().any(|it| it.name.as_str() == args.run);
            return Ok(if is_schedule {
                output::refuse(&format!("No run of {} is in progress.", args.run))
            } else {
                names::unknown_run(&args.run, &config)
            });
        };
        if !running(&slot) {
            return Ok(output::refuse(&format!("Run {run} has already ended.")));
        }
        let request = Request::Stop { run: RunId::from_stored(run.clone()) };
        let done = format!("Stopping run {run} of {}.", slot.schedule);
        request::send(&*state.ledger, &request, &done, args.json).await
    })
}
