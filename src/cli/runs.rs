//! `lookout runs show ID`: one run, with everything that its keeper saw.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::history::took;
use super::output::time::{Span, moment};
use super::output::{self, Format, JsonFlag, Output, Style, Tone};
use super::{EXIT_OK, names, open_state};
use crate::clock::{Clock, SystemClock};
use crate::rundir::directory::{LogText, RunDirectory};
use crate::rundir::journal::EvidenceReader;
use crate::rundir::{CallOutcome, Entry, Event, StopReason, Stream};
use crate::text;
use crate::watch::history::SlotRow;
use crate::watch::words;

/// What to do with runs.
#[derive(Debug, clap::Subcommand)]
pub enum RunsCommand {
    /// Show verdict, reason, findings and timeline of a run
    Show {
        /// Run id; its beginning is enough
        id: String,
        /// Show its output, too, as far as it was kept
        #[arg(long)]
        log: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "the flag documents itself")]
        json: JsonFlag,
    },
}

/// Everything about one run.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// The slot with its verdict.
    #[serde(flatten)]
    pub slot: SlotRow,
    /// What the keeper saw.
    pub evidence: Vec<Entry>,
    /// Its output, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<KeptOutput>,
}

/// The kept output.
#[derive(Debug, Serialize)]
pub struct KeptOutput {
    /// The beginning.
    pub head: String,
    /// Bytes that were not kept between the two.
    pub dropped_bytes: u64,
    /// The end.
    pub tail: String,
}

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, command: &RunsCommand) -> u8 {
    let RunsCommand::Show { id, log, json } = command;
    open_state::show(file, async |config, state| {
        let Some(slot) = state.history.slot_of_run(id).await? else {
            return Ok(names::unknown_run(id, &config));
        };
        let run = slot.run.clone().unwrap_or_default();
        let directory = RunDirectory::of(&state.state_dir, &run);
        // A run whose files were pruned still has its row.
        let (evidence, _) = EvidenceReader::new(&directory).read_from(0).unwrap_or_default();
        let log = log.then(|| output(directory.read_log().unwrap_or_default(), &evidence));
        let shown = Shown { slot, evidence, log };
        let mut out = Output::stdout();
        print(&shown, SystemClock.now(), Format::choose(*json), &mut out)?;
        Ok(out.end(EXIT_OK))
    })
}

fn output(log: LogText, evidence: &[Entry]) -> KeptOutput {
    let dropped = evidence.iter().rev().find_map(|entry| {
        if let Event::Ended { log_dropped_bytes, .. } = entry.event {
            Some(log_dropped_bytes)
        } else {
            None
        }
    });
    KeptOutput { head: log.head, dropped_bytes: dropped.unwrap_or(0), tail: log.tail }
}

/// Prints it.
///
/// # Errors
/// When standard output is closed.
pub fn print(
    shown: &Shown,
    now: DateTime<Utc>,
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    let style = match format {
        Format::Json => return output::print_json(out, shown),
        Format::Text(style) => style,
    };
    let slot = &shown.slot;
    let zone = Some(&slot.configuration.timezone);
    let run = slot.run.as_deref().unwrap_or("-");
    let title = format!("Run {run} of {}", slot.schedule);
    writeln!(out, "{}", Tone::Bold.paint(&title, style))?;
    let mut fact = |name: &str, value: &str| match value {
        "" => Ok(()),
        value => writeln!(out, "  {name:<9} {}", text::printable(value)),
    };
    fact("due", &moment(slot.due_at, zone, now))?;
    let shown_at = |at: Option<DateTime<Utc>>| at.map(|at| moment(at, zone, now));
    fact("started", &shown_at(slot.started_at).unwrap_or_default())?;
    let took = took(slot).map(|took| format!(", took {}", Span(took))).unwrap_or_default();
    fact("ended", &shown_at(slot.ended_at).map(|at| format!("{at}{took}")).unwrap_or_default())?;
    fact("ending", slot.summary.ending.as_deref().unwrap_or_default())?;
    let verdict = slot.verdict.map(|verdict| (verdict, words::verdict(verdict)));
    let verdict = verdict.map(|(verdict, words)| {
        let name = verdict.as_str();
        let text = if name == words { name.to_owned() } else { format!("{name}: {words}") };
        Tone::of(verdict).paint(&text, style)
    });
    writeln!(out, "  {:<9} {}", "verdict", verdict.as_deref().unwrap_or("none yet"))?;
    let mut fact = |name: &str, value: &str| match value {
        "" => Ok(()),
        value => writeln!(out, "  {name:<9} {}", text::printable(value)),
    };
    fact("why", slot.reason.as_deref().unwrap_or_default())?;
    for finding in &slot.findings {
        fact("finding", finding)?;
    }
    let counts: Vec<String> =
        slot.summary.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    fact("counts", &counts.join(", "))?;
    fact("cost", &slot.summary.usd.map(output::usd).unwrap_or_default())?;
    print_timeline(&shown.evidence, style, out)?;
    match &shown.log {
        Some(log) => print_log(log, style, out),
        None => Ok(()),
    }
}

fn print_timeline(evidence: &[Entry], style: Style, out: &mut impl Write) -> io::Result<()> {
    let Some(first) = evidence.first() else {
        return writeln!(out, "\nIts timeline is no longer kept.");
    };
    writeln!(out, "\n{}", Tone::Bold.paint("Timeline (UTC)", style))?;
    let mut n_hidden = 0_usize;
    for (index, entry) in evidence.iter().enumerate() {
        // Signs of activity come every second; the last one before something else says enough.
        let is_beat =
            |event: &Event| matches!(event, Event::Activity { .. } | Event::Progress { .. });
        if is_beat(&entry.event) && evidence.get(index + 1).is_some_and(|next| is_beat(&next.event))
        {
            n_hidden += 1;
            continue;
        }
        // Both on the boot clock of one boot: this is how long it took, whatever the wall clock did.
        let after = Duration::from_millis(entry.boot_ms.saturating_sub(first.boot_ms));
        writeln!(
            out,
            "  {}  {:>11}  {}",
            entry.at.format("%H:%M:%S"),
            format!("+{}", Span(after)),
            text::printable(&describe(&entry.event))
        )?;
    }
    if n_hidden > 0 {
        writeln!(out, "  ({n_hidden} more signs of activity; see --json)")?;
    }
    Ok(())
}

fn print_log(log: &KeptOutput, style: Style, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{}", Tone::Bold.paint("Output", style))?;
    if log.head.is_empty() && log.tail.is_empty() {
        return writeln!(out, "  (none)");
    }
    write!(out, "{}", text::printable(&log.head))?;
    if log.dropped_bytes > 0 {
        writeln!(out, "\n[… {} bytes were not kept …]", log.dropped_bytes)?;
    }
    writeln!(out, "{}", text::printable(log.tail.trim_end()))
}

fn name_of(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "standard output",
        Stream::Stderr => "standard error",
        Stream::Body => "the response",
    }
}

fn brought(outcome: CallOutcome) -> &'static str {
    match outcome {
        CallOutcome::Signal => "the completion message",
        CallOutcome::Idle => "nothing to do",
        CallOutcome::Other => "neither completion message nor idle",
        CallOutcome::Failed => "failed",
        CallOutcome::TimedOut => "took too long",
    }
}

/// One event in plain words.
fn describe(event: &Event) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = match event {
        Event::KeeperStarted { keeper } => write!(text, "keeper started (pid {})", keeper.pid),
        Event::JobStarted { job, box_ends_at, .. } => {
            let pid = job.as_ref().map(|job| format!(" (pid {})", job.pid)).unwrap_or_default();
            write!(text, "job started{pid}, box ends {}", box_ends_at.format("%H:%M:%S"))
        }
        Event::CouldNotStart { error } => write!(text, "could not be started: {error}"),
        Event::Activity { bytes } => write!(text, "{bytes} bytes of output so far"),
        Event::Progress { done, total, unit } => match total {
            Some(total) => write!(text, "{done} of {total} {unit}"),
            None => write!(text, "{done} {unit}"),
        },
        Event::Problem { kind, provider, status, count, detail, .. } => {
            let status = status.map(|status| format!(", HTTP {status}")).unwrap_or_default();
            let provider = provider.as_deref().map(|who| format!(" ({who})")).unwrap_or_default();
            write!(text, "problem {kind}{provider}{status}, {count} so far: {detail}")
        }
        Event::Recovered { kind } => write!(text, "recovered: {kind}"),
        Event::Totals { counts, usd } => {
            let mut parts: Vec<String> = counts.iter().map(|(n, c)| format!("{n} {c}")).collect();
            parts.extend(usd.map(output::usd));
            write!(text, "totals: {}", parts.join(", "))
        }
        Event::Note { text: note } => write!(text, "note: {note}"),
        Event::Signal { stream, offset } => {
            write!(text, "completion message seen in {}, at byte {offset}", name_of(*stream))
        }
        Event::Call { status, millis, outcome, detail } => {
            let status = status.map_or_else(|| "no response".to_owned(), |s| format!("HTTP {s}"));
            let outcome = brought(*outcome);
            let took = Span(Duration::from_millis(*millis));
            write!(text, "call: {status} after {took}, {outcome} {detail}")
        }
        Event::BoxEnded => write!(text, "time box ended: asked to finish"),
        Event::Stopping { reason } => {
            let reason = match reason {
                StopReason::TimedOut => "time box and grace have ended",
                StopReason::Stalled => "no progress",
                StopReason::Asked => "requested",
            };
            write!(text, "stopping all its processes: {reason}")
        }
        Event::Killed { n_processes } => {
            write!(text, "killed {n_processes} process(es) that ignored SIGTERM")
        }
        Event::Exited { code, signal } => match (code, signal) {
            (Some(code), _) => write!(text, "exited with code {code}"),
            (None, Some(signal)) => write!(text, "killed by signal {signal}"),
            (None, None) => write!(text, "ended"),
        },
        Event::PipeHeld => write!(text, "a process kept its output open; not waited for"),
        Event::Slept { seconds } => {
            write!(
                text,
                "the machine was asleep for {} in all",
                Span(Duration::from_secs(*seconds))
            )
        }
        Event::Swept { n_processes } => {
            write!(text, "ended {n_processes} process(es) that outlived it")
        }
        Event::Ended { bytes, .. } => write!(text, "keeper finished; {bytes} bytes of output"),
    };
    text
}
