//! Whether every slot has its verdict, and every bad one reached somebody: the proof behind
//! `lookout audit`.
//!
//! Pure. It trusts no counter: slots are computed anew from the schedules as they were in effect, each
//! for its time (one that was switched off or not there yet owes nothing), verdicts are read, and for
//! each bad one an incident that was open when the verdict was written is looked up, with what became
//! of its messages.
//! Invariant: [`Report::ok`] exactly when nothing is missing, a message that reached nobody included.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::delivery_log::{DeliveryState, KEPT_FOR, NotifiedEvent};
use super::history::{SlotRow, Span};
use super::{Incident, IncidentKind, Verdict};
use crate::schedule::slot::due_between;

/// Slots computed at once: three hours of a schedule of every second.
const SLOTS_AT_A_TIME: usize = 10_000;

/// A verdict comes at most so long after box, grace and kill are over: the watchdog looks every
/// second, and a restarted daemon needs a moment.
const VERDICT_MARGIN: TimeDelta = TimeDelta::seconds(60);

/// An absence is told by the first step after it, which may be a while after its slots were due.
const DIGEST_MARGIN: TimeDelta = TimeDelta::minutes(5);

/// Times are stored in milliseconds, and one step may take a moment between two of them.
const SAME_STEP: TimeDelta = TimeDelta::seconds(2);

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
    /// No channel takes it.
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

impl Outcome {
    /// Whether somebody got the message, for all that is known.
    fn is_accounted_for(self) -> bool {
        match self {
            Self::Delivered | Self::Forgotten => true,
            Self::Suppressed | Self::DeadLettered | Self::Waiting | Self::Missing => false,
        }
    }
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

/// What was recorded of the time that is looked at.
#[derive(Debug)]
pub struct Records<'a> {
    /// Slots due in it.
    pub slots: &'a [SlotRow],
    /// All incidents, newest first.
    pub incidents: &'a [Incident],
    /// When which schedule was in effect in it.
    pub spans: &'a [Span],
    /// What became of the news of [`incidents_needed`].
    pub events: &'a BTreeMap<i64, Vec<NotifiedEvent>>,
}

/// Incidents whose news decide about these slots.
#[must_use]
pub fn incidents_needed(slots: &[SlotRow], incidents: &[Incident]) -> BTreeSet<i64> {
    let bad = slots.iter().filter(|slot| slot.verdict.is_some_and(Verdict::is_bad));
    bad.filter_map(|slot| incident_of(slot, incidents)).map(|incident| incident.id).collect()
}

/// Looks at slots due in `[from, to)`, as it is known at `now`.
#[must_use]
pub fn report(
    records: &Records<'_>,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Report {
    // A slot has its row before it is due; what is due in the same moment may be on its way.
    let Expected { n_slots: n_expected, lost: mut problems } =
        expected(records.spans, records.slots, from, to.min(now));
    let mut verdicts = BTreeMap::new();
    let mut bad = Vec::new();
    let mut n_open = 0;
    for slot in records.slots {
        let Some(verdict) = slot.verdict else {
            n_open += 1;
            problems.extend(overdue(slot, now));
            continue;
        };
        *verdicts.entry(verdict.as_str()).or_insert(0) += 1;
        if !verdict.is_bad() {
            continue;
        }
        let incident = incident_of(slot, records.incidents);
        let events = incident.and_then(|incident| records.events.get(&incident.id));
        let bad_slot = bad_slot(slot, verdict, incident, events, now);
        if !bad_slot.outcome.is_accounted_for() {
            problems.push(missing(slot, format!("{verdict}: {}", bad_slot.detail)));
        }
        bad.push(bad_slot);
    }
    problems.sort_by(|a, b| (a.due_at, &a.schedule).cmp(&(b.due_at, &b.schedule)));
    let (ok, n_slots) = (problems.is_empty(), records.slots.len());
    Report { from, to, ok, n_expected, n_slots, n_open, verdicts, bad, problems }
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
        .min_by_key(|incident| {
            (Some(incident.kind) != slot.verdict.and_then(Verdict::symptom), -incident.id)
        })
}

fn bad_slot(
    slot: &SlotRow,
    verdict: Verdict,
    incident: Option<&Incident>,
    events: Option<&Vec<NotifiedEvent>>,
    now: DateTime<Utc>,
) -> BadSlot {
    let (outcome, detail) = match (incident, events) {
        (Some(_), Some(events)) => outcome(events, now),
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
fn outcome(events: &[NotifiedEvent], now: DateTime<Utc>) -> (Outcome, String) {
    let mut best = (Outcome::Missing, "its incident has no news".to_owned());
    let mut consider = |outcome: Outcome, detail: String| {
        if outcome < best.0 {
            best = (outcome, detail);
        }
    };
    for event in events {
        match (event.distributed_at, event.recipients.is_empty()) {
            (None, _) => consider(Outcome::Waiting, "not yet handed to the channels".to_owned()),
            (Some(at), true) if now - at > KEPT_FOR => consider(
                Outcome::Forgotten,
                format!("deliveries are kept for {} days", KEPT_FOR.num_days()),
            ),
            (Some(_), true) => consider(
                Outcome::Suppressed,
                "told to nobody: no channel takes it (by severity or `notify`)".to_owned(),
            ),
            (Some(_), false) => {}
        }
        for to in &event.recipients {
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

fn utc(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
