//! `lookout audit`: proves that every slot has its verdict, and every bad one its message.
//!
//! It trusts no counter: slots are computed anew from the schedules as they were in effect, each for
//! its time (one that was switched off or not there yet owes nothing), verdicts are read, and for each bad one an incident that was open when the verdict was
//! written is looked up, with what became of its messages.
//! Invariant: exit code 0 exactly when nothing is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::output::table::{Cell, Table};
use super::output::time::utc;
use super::output::{self, Format, JsonFlag, Output, Tone};
use super::time_arg::When;
use super::{EXIT_FAILED, EXIT_OK, open_state};
use crate::alert::dispatcher::KEEP;
use crate::alert::told::{DeliveryState, Tellings, Told};
use crate::clock::{Clock, SystemClock};
use crate::schedule::slot::due_between;
use crate::storage::StorageError;
use crate::watch::history::{History, IncidentFilter, SlotFilter, SlotRow, Span};
use crate::watch::{Incident, IncidentKind, Verdict};

/// Incidents that are looked through; more in one audit is another kind of problem.
const MOST_INCIDENTS: u32 = 100_000;

/// Slots computed at once: three hours of a schedule of every second.
const SLOTS_AT_A_TIME: usize = 10_000;

/// A verdict comes at most so long after box, grace and kill are over: the watchdog looks every
/// second, and a restarted daemon needs a moment.
const VERDICT_MARGIN: TimeDelta = TimeDelta::seconds(60);

/// An absence is told by the first step after it, which may be a while after its slots were due.
const DIGEST_MARGIN: TimeDelta = TimeDelta::minutes(5);

/// Times are stored in milliseconds, and one step may take a moment between two of them.
const SAME_STEP: TimeDelta = TimeDelta::seconds(2);

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start of the period (7d, 2026-11-22, or an RFC 3339 time)
    #[arg(long, default_value = "7d", value_name = "WHEN", value_parser = When::parse)]
    pub from: When,
    /// End of the period [default: now]
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub to: Option<When>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flag documents itself")]
    pub json: JsonFlag,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Slots due at or after …
    pub from: DateTime<Utc>,
    /// … and before.
    pub to: DateTime<Utc>,
    /// Nothing is missing.
    pub ok: bool,
    /// Slots that the schedules had in that time, computed anew.
    pub n_expected: usize,
    /// Slots that have a row: those, and runs that somebody asked for.
    pub n_slots: usize,
    /// Of those, without a verdict, and still in time for one.
    pub n_open: usize,
    /// Of those, with each verdict.
    pub verdicts: BTreeMap<&'static str, usize>,
    /// Each bad slot with its message.
    pub bad: Vec<BadSlot>,
    /// What is missing.
    pub problems: Vec<Missing>,
}

/// A slot that went wrong, and how somebody was told.
#[derive(Debug, Serialize)]
pub struct BadSlot {
    /// Whose.
    pub schedule: String,
    /// When.
    pub due_at: DateTime<Utc>,
    /// How.
    pub verdict: Verdict,
    /// The incident that was open when the verdict was written.
    pub incident: Option<i64>,
    /// What became of its message.
    pub outcome: Outcome,
    /// The same with names.
    pub detail: String,
}

/// What became of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Somebody got it.
    Delivered,
    /// Nobody was to get it, for a stated reason.
    Suppressed,
    /// So long ago that what became of it is no longer kept.
    Forgotten,
    /// Given up, and kept for `lookout alert replay`.
    DeadLettered,
    /// On its way.
    Waiting,
    /// There is none.
    Missing,
}

/// Something that should be there.
#[derive(Debug, Serialize)]
pub struct Missing {
    /// Whose.
    pub schedule: String,
    /// When.
    pub due_at: DateTime<Utc>,
    /// What is missing.
    pub what: String,
}

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, args: &Args) -> u8 {
    open_state::show(file, async |_, state| {
        let now = SystemClock.now();
        let from = args.from.before(now);
        let to = args.to.map_or(now, |when| when.before(now));
        let report = audit(&*state.history, &*state.told, from, to, now).await?;
        let mut out = Output::stdout();
        print(&report, Format::choose(args.json), &mut out)?;
        Ok(out.end(if report.ok { EXIT_OK } else { EXIT_FAILED }))
    })
}

/// Looks at slots due in `[from, to)`.
///
/// # Errors
/// When the database can't be read.
pub async fn audit(
    history: &dyn History,
    tellings: &dyn Tellings,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Report, StorageError> {
    let filter = SlotFilter { from: Some(from), until: Some(to), ..SlotFilter::default() };
    let slots = history.slots(filter).await?;
    let incidents = history.incidents(IncidentFilter::All, MOST_INCIDENTS).await?;
    // A slot has its row before it is due; what is due in the same moment may be on its way.
    let until = to.min(now);
    let spans = history.spans(from, until).await?;
    let Expected { n_slots: n_expected, lost: mut problems } =
        expected(&spans, &slots, from, until);
    let mut verdicts = BTreeMap::new();
    let mut bad = Vec::new();
    let mut n_open = 0;
    let mut told_of: BTreeMap<i64, Vec<Told>> = BTreeMap::new();
    for slot in &slots {
        let Some(verdict) = slot.verdict else {
            n_open += 1;
            problems.extend(overdue(slot, now));
            continue;
        };
        *verdicts.entry(verdict.as_str()).or_insert(0) += 1;
        if !verdict.is_bad() {
            continue;
        }
        let incident = incident_of(slot, &incidents);
        if let Some(incident) = incident
            && !told_of.contains_key(&incident.id)
        {
            told_of.insert(incident.id, tellings.told(incident.id).await?);
        }
        let told = incident.and_then(|incident| told_of.get(&incident.id));
        let bad_slot = bad_slot(slot, verdict, incident, told, now);
        if matches!(bad_slot.outcome, Outcome::Missing | Outcome::Waiting) {
            let what = format!("{verdict}: {}", bad_slot.detail);
            problems.push(missing(slot, what));
        }
        bad.push(bad_slot);
    }
    problems.sort_by(|a, b| (a.due_at, &a.schedule).cmp(&(b.due_at, &b.schedule)));
    let ok = problems.is_empty();
    let n_slots = slots.len();
    Ok(Report { from, to, ok, n_expected, n_slots, n_open, verdicts, bad, problems })
}

fn missing(slot: &SlotRow, what: String) -> Missing {
    Missing { schedule: slot.schedule.clone(), due_at: slot.due_at, what }
}

/// Slots that should have a row: each schedule, as long as it was in effect, as it was then.
struct Expected {
    n_slots: usize,
    lost: Vec<Missing>,
}

fn expected(spans: &[Span], slots: &[SlotRow], from: DateTime<Utc>, to: DateTime<Utc>) -> Expected {
    let written: BTreeSet<(&str, DateTime<Utc>)> =
        slots.iter().map(|slot| (slot.schedule.as_str(), slot.due_at)).collect();
    // Slots are due on whole seconds; `from` is looked at and `to` is not.
    let (first, last) = (from - TimeDelta::milliseconds(1), to - TimeDelta::milliseconds(1));
    let mut expected = Expected { n_slots: 0, lost: Vec::new() };
    // What was planned by time zone data that are no longer here can't be computed anew.
    let computable = spans.iter().filter(|span| !span.schedule.timezone.has_other_rules_now());
    for span in computable {
        let mut after = span.since.max(first);
        loop {
            let due = due_between(&span.schedule, after, span.until.min(last), SLOTS_AT_A_TIME);
            let is_all = due.len() < SLOTS_AT_A_TIME;
            expected.n_slots += due.len();
            after = due.last().map_or(last, |slot| slot.due_at);
            let name = span.schedule.name.as_str();
            let lost = due.iter().filter(|slot| !written.contains(&(name, slot.due_at)));
            expected.lost.extend(lost.map(|slot| Missing {
                schedule: name.to_owned(),
                due_at: slot.due_at,
                what: "was never written down".to_owned(),
            }));
            if is_all {
                break;
            }
        }
    }
    expected
}

/// A slot that should have its verdict by now.
fn overdue(slot: &SlotRow, now: DateTime<Utc>) -> Option<Missing> {
    let settings = &slot.configuration;
    let longest = settings.time_box + settings.signal_grace + settings.kill_grace;
    let by = slot.start_by + TimeDelta::from_std(longest).ok()? + VERDICT_MARGIN;
    (by < now).then(|| missing(slot, format!("has no verdict, due by {} UTC", utc(by))))
}

/// The incident that was open when the verdict was written: of the slot's schedule, or of none.
fn incident_of<'a>(slot: &SlotRow, incidents: &'a [Incident]) -> Option<&'a Incident> {
    let judged_at = slot.judged_at?;
    incidents
        .iter()
        .filter(|incident| {
            incident.schedule.is_none() || incident.schedule.as_deref() == Some(&slot.schedule)
        })
        .filter(|incident| match incident.kind {
            // These are about Lookout itself or about what is left, not about a run's end.
            IncidentKind::ChannelBroken
            | IncidentKind::OutboxDegraded
            | IncidentKind::LookoutImpaired
            | IncidentKind::ConfigurationBroken
            | IncidentKind::BacklogGrowing => false,
            IncidentKind::WasBlind => {
                slot.verdict == Some(Verdict::Unobserved)
                    && (judged_at - SAME_STEP..=judged_at + DIGEST_MARGIN)
                        .contains(&incident.opened_at)
            }
            IncidentKind::RunMissed
            | IncidentKind::RunStalled
            | IncidentKind::RunTimedOut
            | IncidentKind::SignalMissing
            | IncidentKind::RunFailed
            | IncidentKind::ProviderUnavailable
            | IncidentKind::ImagesUnavailable
            | IncidentKind::RecordsUnavailable
            | IncidentKind::CredentialsRejected
            | IncidentKind::QuotaExhausted
            | IncidentKind::ImageErrors => {
                incident.opened_at <= judged_at + SAME_STEP
                    && incident.resolved_at.is_none_or(|over| over + SAME_STEP >= judged_at)
            }
        })
        // The one that says what this verdict says, else the cause that took it in.
        .min_by_key(|incident| (Some(incident.kind) != symptom(slot.verdict), -incident.id))
}

/// The incident that a verdict opens where no cause is known.
fn symptom(verdict: Option<Verdict>) -> Option<IncidentKind> {
    match verdict? {
        Verdict::Completed | Verdict::Skipped => None,
        Verdict::NoSignal => Some(IncidentKind::SignalMissing),
        Verdict::Failed | Verdict::Interrupted => Some(IncidentKind::RunFailed),
        Verdict::TimedOut => Some(IncidentKind::RunTimedOut),
        Verdict::Stalled => Some(IncidentKind::RunStalled),
        Verdict::Missed => Some(IncidentKind::RunMissed),
        Verdict::Unobserved => Some(IncidentKind::WasBlind),
    }
}

fn bad_slot(
    slot: &SlotRow,
    verdict: Verdict,
    incident: Option<&Incident>,
    told: Option<&Vec<Told>>,
    now: DateTime<Utc>,
) -> BadSlot {
    let (outcome, detail) = match (incident, told) {
        (Some(_), Some(told)) => outcome(told, now),
        _ => (Outcome::Missing, "no incident was open when it was judged".to_owned()),
    };
    BadSlot {
        schedule: slot.schedule.clone(),
        due_at: slot.due_at,
        verdict,
        incident: incident.map(|incident| incident.id),
        outcome,
        detail,
    }
}

/// What became of an incident's messages: the best of all channels counts.
fn outcome(told: &[Told], now: DateTime<Utc>) -> (Outcome, String) {
    let mut best = (Outcome::Missing, "its incident has no news".to_owned());
    let mut consider = |outcome: Outcome, detail: String| {
        if outcome < best.0 {
            best = (outcome, detail);
        }
    };
    for news in told {
        match (news.distributed_at, news.to.is_empty()) {
            (None, _) => consider(Outcome::Waiting, "not yet handed to the channels".to_owned()),
            (Some(at), true) if now - at > KEEP => consider(
                Outcome::Forgotten,
                format!("deliveries are kept for {} days", KEEP.num_days()),
            ),
            (Some(_), true) => consider(
                Outcome::Suppressed,
                "no channel is set up for it (by severity or `notify`)".to_owned(),
            ),
            (Some(_), false) => {}
        }
        for to in &news.to {
            let error = to.last_error.as_deref().unwrap_or("no reason was stored");
            let channel = &to.channel;
            match to.state {
                DeliveryState::Sent => {
                    let at = to.settled_at.map(|at| format!(" at {} UTC", utc(at)));
                    consider(Outcome::Delivered, format!("{channel}{}", at.unwrap_or_default()));
                }
                // The message that it was merged into is a delivery of its own.
                DeliveryState::Merged => {}
                DeliveryState::Dead => {
                    consider(Outcome::DeadLettered, format!("{channel} gave up: {error}"));
                }
                DeliveryState::Pending | DeliveryState::Sending => {
                    let tried = to.attempts;
                    consider(Outcome::Waiting, format!("{channel}, tried {tried} times: {error}"));
                }
            }
        }
    }
    best
}

/// What is left to say where nothing is missing: whether every message reached somebody.
fn conclusion(bad: &[BadSlot]) -> (String, Tone) {
    let count = |outcome: Outcome| bad.iter().filter(|slot| slot.outcome == outcome).count();
    let undelivered = match count(Outcome::DeadLettered) {
        0 => None,
        n => Some(format!("{n} undelivered (`lookout alert dead` lists them)")),
    };
    let suppressed = match count(Outcome::Suppressed) {
        0 => None,
        n => Some(format!("{n} that no channel is set up for")),
    };
    let lost: Vec<String> = undelivered.into_iter().chain(suppressed).collect();
    if lost.is_empty() {
        let words = "Complete: every run has its verdict, and every bad run its message.";
        return (words.to_owned(), Tone::Good);
    }
    let words = format!(
        "Every run has its verdict, but not every message reached a person: {}.",
        lost.join(", ")
    );
    (words, Tone::Warning)
}

/// Prints it.
///
/// # Errors
/// When standard output is closed.
pub fn print(report: &Report, format: Format, out: &mut impl Write) -> io::Result<()> {
    let style = match format {
        Format::Json => return output::print_json(out, report),
        Format::Text(style) => style,
    };
    let (from, to) = (utc(report.from), utc(report.to));
    writeln!(out, "Runs due from {from} to {to} UTC: {}", report.n_slots)?;
    for (verdict, count) in &report.verdicts {
        writeln!(out, "  {count:>6}  {verdict}")?;
    }
    if report.n_open > 0 {
        writeln!(out, "  {:>6}  without a verdict", report.n_open)?;
    }
    if !report.bad.is_empty() {
        writeln!(out)?;
        let mut table =
            Table::new(["DUE (UTC)", "SCHEDULE", "VERDICT", "INCIDENT", "MESSAGE", "HOW"]);
        for bad in &report.bad {
            let (message, tone) = match bad.outcome {
                Outcome::Delivered => ("delivered", Tone::Good),
                Outcome::Suppressed => ("suppressed", Tone::Warning),
                Outcome::Forgotten => ("no longer kept", Tone::Warning),
                Outcome::DeadLettered => ("undelivered", Tone::Warning),
                Outcome::Waiting => ("being sent", Tone::Warning),
                Outcome::Missing => ("missing", Tone::Bad),
            };
            table.row([
                utc(bad.due_at).into(),
                bad.schedule.as_str().into(),
                Cell::toned(bad.verdict.as_str(), Tone::of(bad.verdict)),
                bad.incident.map_or_else(|| "-".to_owned(), |id| format!("#{id}")).into(),
                Cell::toned(message, tone),
                bad.detail.as_str().into(),
            ]);
        }
        table.print(out, style)?;
    }
    writeln!(out)?;
    if report.ok {
        let (words, tone) = conclusion(&report.bad);
        return writeln!(out, "{}", tone.paint(&words, style));
    }
    let words = match report.problems.len() {
        1 => "1 problem:".to_owned(),
        n => format!("{n} problems:"),
    };
    writeln!(out, "{}", Tone::Bad.paint(&words, style))?;
    for problem in &report.problems {
        let due = utc(problem.due_at);
        writeln!(out, "  {due} UTC  {}  {}", problem.schedule, problem.what)?;
    }
    Ok(())
}
