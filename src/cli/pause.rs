//! `lookout pause` and `lookout resume`: slots of a schedule are skipped, visibly and with a reason.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::output::{self, JsonFlag};
use super::time_arg::When;
use super::{open_state, request};
use crate::app::open_state::OpenState;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::run::ledger::Request;
use crate::schedule::ScheduleName;
use crate::storage::StorageError;

/// Arguments of `pause`.
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    /// Which schedule
    pub schedule: String,
    /// Why; shown with each run that is skipped
    #[arg(long, default_value = "paused by hand", value_name = "TEXT")]
    pub reason: String,
    /// Until when (`2h`, a day, or an RFC 3339 time); default: until `lookout resume`
    #[arg(long, alias = "for", value_name = "WHEN", value_parser = When::parse)]
    pub until: Option<When>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flag documents itself")]
    pub json: JsonFlag,
}

/// Arguments of `resume`.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// Which schedule
    pub schedule: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flag documents itself")]
    pub json: JsonFlag,
}

/// `pause`.
#[must_use]
pub fn pause(file: Option<PathBuf>, args: &PauseArgs) -> u8 {
    open_state::with(file, async |config, state| {
        if let Some(code) = unknown(&config, &state, &args.schedule).await? {
            return Ok(code);
        }
        let now = SystemClock.now();
        let until = args.until.map(|when| when.after(now));
        if until.is_some_and(|until| until <= now) {
            return Ok(output::refuse("The end of the pause has passed already."));
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
            format!("{} is paused until {until}. A run that goes on is left alone.", args.schedule);
        request::send(&*state.ledger, &request, &done, args.json).await
    })
}

/// `resume`.
#[must_use]
pub fn resume(file: Option<PathBuf>, args: &ResumeArgs) -> u8 {
    open_state::with(file, async |config, state| {
        if let Some(code) = unknown(&config, &state, &args.schedule).await? {
            return Ok(code);
        }
        let request = Request::Resume { schedule: ScheduleName::new(args.schedule.clone()) };
        let done = format!("{} runs again.", args.schedule);
        request::send(&*state.ledger, &request, &done, args.json).await
    })
}

/// The exit code for a schedule that is not there. One whose file is broken goes on as it was, and
/// can be paused as well.
async fn unknown(
    config: &Config,
    state: &OpenState,
    name: &str,
) -> Result<Option<u8>, StorageError> {
    let plans = state.ledger.plans().await?;
    let planned = plans.iter().map(|plan| plan.schedule.name.as_str());
    let names: BTreeSet<&str> =
        config.schedules.iter().map(|schedule| schedule.name.as_str()).chain(planned).collect();
    Ok((!names.contains(name)).then(|| {
        let known = Vec::from_iter(names).join(", ");
        let known = if known.is_empty() { "none".to_owned() } else { known };
        output::refuse(&format!("There is no schedule `{name}`. Switched on: {known}."))
    }))
}
