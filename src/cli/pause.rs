//! `lookout pause` and `lookout resume`: slots of a schedule are skipped, visibly and with a reason.

use std::path::PathBuf;

use super::output::{self, JsonFlag};
use super::time_arg::When;
use super::{names, open_state, request};
use crate::app::open_state::OpenState;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::run::ledger::Request;
use crate::schedule::ScheduleName;
use crate::storage::StorageError;

/// Arguments of `pause`.
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    /// Schedule
    pub schedule: String,
    /// Reason; shown with each run that is skipped
    #[arg(long, default_value = "paused by hand", value_name = "TEXT")]
    pub reason: String,
    /// End of the pause (2h, 2026-11-22, or an RFC 3339 time) [default: until `lookout resume`]
    #[arg(long, alias = "for", value_name = "WHEN", value_parser = When::parse)]
    pub until: Option<When>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flag documents itself")]
    pub json: JsonFlag,
}

/// Arguments of `resume`.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// Schedule
    pub schedule: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flag documents itself")]
    pub json: JsonFlag,
}

/// `pause`.
#[must_use]
pub fn pause(file: Option<PathBuf>, args: &PauseArgs) -> u8 {
    open_state::request(file, async |config, state| {
        if let Some(code) = unknown(&config, &state, &args.schedule).await? {
            return Ok(code);
        }
        let now = SystemClock.now();
        let until = args.until.map(|when| when.after(now));
        if until.is_some_and(|until| until <= now) {
            return Ok(output::refuse("The end of the pause is in the past."));
        }
        let request = Request::Pause {
            schedule: ScheduleName::new(args.schedule.clone()),
            reason: args.reason.clone(),
            until,
        };
        let until = until.map_or_else(
            || format!("`lookout resume {}`", args.schedule),
            |at| output::time::moment(at, None, now),
        );
        let done =
            format!("{} is paused until {until}. A run in progress continues.", args.schedule);
        request::send(&*state.ledger, &request, &done, args.json).await
    })
}

/// `resume`.
#[must_use]
pub fn resume(file: Option<PathBuf>, args: &ResumeArgs) -> u8 {
    open_state::request(file, async |config, state| {
        if let Some(code) = unknown(&config, &state, &args.schedule).await? {
            return Ok(code);
        }
        let request = Request::Resume { schedule: ScheduleName::new(args.schedule.clone()) };
        let done = format!("{} is resumed.", args.schedule);
        request::send(&*state.ledger, &request, &done, args.json).await
    })
}

/// The exit code for a schedule that is not there.
async fn unknown(
    config: &Config,
    state: &OpenState,
    name: &str,
) -> Result<Option<u8>, StorageError> {
    let known = names::schedules(config, state).await?;
    let is_known = known.contains(name);
    Ok((!is_known).then(|| names::unknown("schedule", name, known.iter().map(String::as_str))))
}
