//! Names that a person types: a schedule, a channel, a run.
//!
//! Invariant: a name that is not there is wrong usage (exit code 2) in every command, and the answer
//! says what was probably meant, or what there is.

use std::collections::BTreeSet;

use super::output;
use crate::app::open_state::OpenState;
use crate::config::Config;
use crate::config::problem::nearest;
use crate::storage::StorageError;

/// Says that there is no such thing; the exit code.
#[must_use]
pub(super) fn unknown<'a>(kind: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> u8 {
    let known: Vec<&str> = known.into_iter().collect();
    let hint = match (nearest(name, known.iter().copied()), known.as_slice()) {
        (Some(meant), _) => format!("Did you mean `{meant}`?"),
        (None, []) => format!("There is no {kind} at all."),
        (None, known) => format!("Known: {}.", known.join(", ")),
    };
    output::refuse(&format!("There is no {kind} `{name}`. {hint}"))
}

/// Says that there is no such run; the exit code.
#[must_use]
pub(super) fn unknown_run(run: &str, config: &Config) -> u8 {
    let names = config.schedules.iter().map(|schedule| schedule.name.as_str());
    let hint = nearest(run, names).map(|meant| format!(" Did you mean `{meant}`?"));
    output::refuse(&format!(
        "No run, or more than one, has an id that begins with `{run}`.{} `lookout history` lists the \
         runs.",
        hint.unwrap_or_default()
    ))
}

/// The schedules that are switched on, and those that the daemon knows: one whose file is broken
/// goes on as it was.
///
/// # Errors
/// When the plans can't be read.
pub(super) async fn schedules(
    config: &Config,
    state: &OpenState,
) -> Result<BTreeSet<String>, StorageError> {
    let plans = state.ledger.plans().await?;
    let planned = plans.iter().map(|plan| plan.schedule.name.to_string());
    Ok(config.schedules.iter().map(|schedule| schedule.name.to_string()).chain(planned).collect())
}
