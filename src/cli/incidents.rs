//! `lookout incidents`: what is open, or what ever was.

use std::io::Write;
use std::path::PathBuf;

use super::output::{self, Format, JsonFlag, Output};
use super::{EXIT_OK, open_state, status};
use crate::clock::{Clock, SystemClock};
use crate::watch::history::IncidentFilter;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Include resolved incidents
    #[arg(long)]
    pub all: bool,
    /// Upper bound
    #[arg(short = 'n', long = "number", default_value_t = 50, value_name = "N")]
    pub number: u32,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flag documents itself")]
    pub json: JsonFlag,
}

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, args: &Args) -> u8 {
    open_state::show(file, async |_, state| {
        let filter = if args.all { IncidentFilter::All } else { IncidentFilter::Open };
        let incidents = state.history.incidents(filter, args.number).await?;
        let mut out = Output::stdout();
        match Format::choose(args.json) {
            Format::Json => output::print_json(&mut out, &incidents)?,
            Format::Text(_) if args.all && incidents.is_empty() => {
                writeln!(out, "No incidents.")?;
            }
            Format::Text(style) => {
                status::print_incidents(&incidents, SystemClock.now(), style, &mut out)?;
            }
        }
        Ok(out.end(EXIT_OK))
    })
}
