//! What is known right now, collected once for the page, for `/api/status` and for `lookout status`.
//!
//! Rows come from the ledger and the history, the pulse from the running daemon; the command line,
//! which runs beside the daemon, sees it through its last sign of life ([`FromSigns`]).
//! Invariant: collecting changes nothing, and what could not be found out is absent, not guessed.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::alert::channel::{ChannelKind, ChannelSettings};
use crate::clock::Clock;
use crate::run::ledger::{Ledger, Loop, Pause};
use crate::schedule::slot::{self, in_maintenance};
use crate::schedule::{Cadence, Schedule};
use crate::storage::StorageError;
use crate::watch::history::{History, IncidentFilter, SlotFilter, SlotRow, SlotState};
use crate::watch::{Incident, Severity};

/// Slots in the strip of one schedule: two days of an hourly one.
pub const STRIP: u32 = 48;

/// Runs in the table of all schedules.
const RECENT: u32 = 20;

/// Open incidents that are listed; more than that is one incident of another kind.
const INCIDENTS: u32 = 100;

/// The daemon writes a sign of life every ten seconds; without one for three times as long it
/// counts as gone.
const SIGN_OF_LIFE: TimeDelta = TimeDelta::seconds(30);

/// Where rows come from, and what never changes while the daemon runs.
#[derive(Clone, Debug)]
pub struct Sources {
    /// `[service] instance`.
    pub instance: String,
    /// Plans and pauses.
    pub ledger: Arc<dyn Ledger>,
    /// Slots and incidents.
    pub history: Arc<dyn History>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
}

/// A channel, as far as anybody may know.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelLine {
    /// Its name.
    pub channel: String,
    /// `slack`, `email`, …
    pub kind: &'static str,
    /// This and above.
    pub severity: Severity,
    /// Notified when this one refuses or stays silent.
    pub fallback: Option<String>,
}

impl ChannelLine {
    /// Of its settings.
    #[must_use]
    pub fn of(settings: &ChannelSettings) -> Self {
        Self {
            channel: settings.name.clone(),
            kind: match settings.kind {
                ChannelKind::Console => "console",
                ChannelKind::Slack { .. } => "slack",
                ChannelKind::Webhook { .. } => "webhook",
                ChannelKind::Email { .. } => "email",
            },
            severity: settings.severity,
            fallback: settings.fallback.clone(),
        }
    }
}

/// What the running daemon knows of itself.
pub trait Daemon: Send + Sync + Debug {
    /// The schedules as they are now.
    fn schedules(&self) -> Vec<Schedule>;

    /// The channels as they are now.
    fn channels(&self) -> Vec<ChannelLine>;

    /// How each of its loops is.
    fn pulse(&self) -> Vec<LoopPulse>;
}

/// How one loop of the daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoopPulse {
    /// `ticker`, `conductor`, `watchdog`, `dispatcher`, …
    pub name: String,
    /// When it last moved; `None`: not yet.
    pub last_at: Option<DateTime<Utc>>,
    /// Whether it moves as often as it must.
    pub state: PulseState,
    /// What it does, or why it can't; one line for people.
    pub doing: String,
}

/// Whether a loop moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PulseState {
    /// It moves.
    Alive,
    /// It moves, but can't do its work (the disk is full).
    Failing,
    /// It has not moved for too long.
    Dead,
}

impl LoopPulse {
    /// Alive, and able to do its work.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.state == PulseState::Alive
    }
}

/// The overall state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nothing is open and every loop moves.
    Well,
    /// There are open incidents.
    Trouble,
    /// Lookout itself is not well.
    Unwell,
}

/// What `/api/status` answers.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// `[service] instance`.
    pub instance: String,
    /// Lookout's own.
    pub version: &'static str,
    /// When this was collected.
    pub at: DateTime<Utc>,
    /// In one word.
    pub condition: Condition,
    /// What somebody should put right in the configuration.
    pub warnings: Vec<String>,
    /// Each schedule, by name.
    pub schedules: Vec<ScheduleStatus>,
    /// Incidents that are not resolved, newest first.
    pub incidents: Vec<Incident>,
    /// The last runs of all schedules, newest first.
    pub recent: Vec<SlotRow>,
    /// Where messages go.
    pub channels: Vec<ChannelLine>,
    /// The loops.
    pub loops: Vec<LoopPulse>,
}

/// One schedule.
#[derive(Clone, Debug, Serialize)]
pub struct ScheduleStatus {
    /// Its name.
    pub schedule: String,
    /// Its expression; `None`: continuous.
    pub cron: Option<String>,
    /// Where its hours are meant.
    pub timezone: String,
    /// The next slot that will run. `None`: continuous, paused without an end, or no further slot.
    pub next_due_at: Option<DateTime<Utc>>,
    /// Skipped for this reason, if paused.
    pub paused: Option<Pause>,
    /// Reason of the maintenance window that holds now.
    pub maintenance: Option<String>,
    /// The slot whose run goes on.
    pub running: Option<SlotRow>,
    /// The last slot that has its verdict.
    pub last: Option<SlotRow>,
    /// What the last run left over, if it said so.
    pub backlog: Option<u64>,
    /// Images marked for a rerun that no run picks up, as the last run that counted them found.
    pub parked: Option<u64>,
    /// How many incidents of it are open.
    pub n_open_incidents: usize,
    /// Its last slots, oldest first; not for programs: they ask for the history.
    #[serde(skip)]
    pub strip: Vec<SlotRow>,
    /// As checked.
    #[serde(skip)]
    pub settings: Schedule,
}

/// Reads everything.
///
/// # Errors
/// When the database can't be read.
pub async fn collect(sources: &Sources, daemon: &dyn Daemon) -> Result<Status, StorageError> {
    let now = sources.clock.now();
    let incidents = sources.history.incidents(IncidentFilter::Open, INCIDENTS).await?;
    let pauses = sources.ledger.pauses(now).await?;
    let recent = past(sources, None, RECENT, now).await?;
    let mut schedules = Vec::new();
    for schedule in daemon.schedules() {
        let strip = past(sources, Some(schedule.name.to_string()), STRIP, now).await?;
        schedules.push(schedule_status(schedule, strip, &incidents, &pauses, now));
    }
    let (loops, channels) = (daemon.pulse(), daemon.channels());
    let condition = if !loops.iter().all(LoopPulse::is_well) {
        Condition::Unwell
    } else if incidents.is_empty() {
        Condition::Well
    } else {
        Condition::Trouble
    };
    Ok(Status {
        instance: sources.instance.clone(),
        version: env!("CARGO_PKG_VERSION"),
        at: now,
        condition,
        warnings: warnings(&channels, &schedules),
        schedules,
        incidents,
        recent,
        channels,
        loops,
    })
}

fn warnings(channels: &[ChannelLine], schedules: &[ScheduleStatus]) -> Vec<String> {
    let mut warnings = Vec::new();
    if channels.is_empty() {
        warnings.push(
            "No channel is configured: nobody is notified when something goes wrong. Set one alert \
             variable (SLACK_WEBHOOK_URL, ALERT_WEBHOOK_URL, SMTP_URL) or add a file to alerts/."
                .to_owned(),
        );
    }
    if schedules.is_empty() {
        warnings.push("No schedule is enabled: nothing will run.".to_owned());
    }
    // Of one table, whichever schedule has counted it.
    if let Some(n) = schedules.iter().filter_map(|it| it.parked).max().filter(|n| *n > 0) {
        let are = if n == 1 { "1 image is" } else { &format!("{n} images are") };
        warnings.push(format!(
            "{are} marked for a rerun (rerun_for_clarity). Marked images count as good, and no run \
             picks them up. Review them: lookout rerun --status rerun_for_clarity --yes"
        ));
    }
    warnings
}

/// Slots that are due by now, newest first; those still to come have no story.
async fn past(
    sources: &Sources,
    schedule: Option<String>,
    limit: u32,
    now: DateTime<Utc>,
) -> Result<Vec<SlotRow>, StorageError> {
    let until = Some(now + TimeDelta::seconds(1));
    let filter = SlotFilter { schedule, until, limit: Some(limit), ..SlotFilter::default() };
    sources.history.slots(filter).await
}

fn schedule_status(
    settings: Schedule,
    mut strip: Vec<SlotRow>,
    incidents: &[Incident],
    pauses: &[Pause],
    now: DateTime<Utc>,
) -> ScheduleStatus {
    let name = settings.name.as_str();
    let last = strip.iter().find(|slot| slot.state == SlotState::Judged).cloned();
    // A skipped slot says nothing about what is left over.
    let reported = strip.iter().find(|slot| slot.summary.counts.contains_key("remaining"));
    let backlog = reported.and_then(|slot| slot.summary.counts.get("remaining").copied());
    let parked = strip.iter().find_map(|slot| slot.summary.counts.get("parked").copied());
    let running = strip.iter().find(|slot| slot.state == SlotState::Running).cloned();
    strip.reverse();
    let paused = pauses.iter().find(|pause| pause.schedule == settings.name).cloned();
    let (cron, next_due_at) = match &settings.cadence {
        Cadence::Cron(cron) => (Some(cron.clone()), next_due_at(&settings, paused.as_ref(), now)),
        Cadence::Continuous => (None, None),
    };
    ScheduleStatus {
        schedule: name.to_owned(),
        cron,
        timezone: settings.timezone.name().to_owned(),
        next_due_at,
        paused,
        maintenance: in_maintenance(&settings, now).map(str::to_owned),
        running,
        last,
        backlog,
        parked,
        n_open_incidents: incidents
            .iter()
            .filter(|incident| incident.schedule.as_deref() == Some(name))
            .count(),
        strip,
        settings,
    }
}

/// The next slot that will run: none that a pause skips.
fn next_due_at(
    schedule: &Schedule,
    pause: Option<&Pause>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let from = match pause {
        None => now,
        // The slot at the very end of a pause runs.
        Some(pause) => now.max(pause.until? - TimeDelta::milliseconds(1)),
    };
    slot::next_after(schedule, from).map(|slot| slot.due_at)
}

/// When the run's box ends, as far as it is known.
#[must_use]
pub fn box_ends_at(slot: &SlotRow) -> Option<DateTime<Utc>> {
    Some(slot.started_at? + TimeDelta::from_std(slot.configuration.time_box).ok()?)
}

/// How long a run took: as the keeper measured it, or from its times as stored.
#[must_use]
pub fn took(slot: &SlotRow) -> Option<Duration> {
    let measured = slot.summary.seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
    measured.or_else(|| (slot.ended_at? - slot.started_at?).to_std().ok())
}

/// The daemon as seen from beside it: by the last signs of life in the database.
#[derive(Debug)]
pub struct FromSigns {
    schedules: Vec<Schedule>,
    channels: Vec<ChannelLine>,
    pulse: Vec<LoopPulse>,
}

/// Whether a process holds the daemon's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// One does.
    Present,
    /// None does, however recent the last sign of life.
    Absent,
}

impl FromSigns {
    /// Reads the signs.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn read(
        sources: &Sources,
        schedules: Vec<Schedule>,
        channels: Vec<ChannelLine>,
        process: Process,
    ) -> Result<Self, StorageError> {
        let last_at = sources.ledger.last_seen(Loop::Conductor).await?;
        let now = sources.clock.now();
        let (state, doing) = match (process, last_at) {
            (Process::Absent, Some(_)) => {
                (PulseState::Dead, "not running: `lookout serve` starts it; last sign of life")
            }
            (Process::Absent, None) => {
                (PulseState::Dead, "never started: `lookout serve` starts it")
            }
            (Process::Present, None) => (PulseState::Alive, "starting"),
            (Process::Present, Some(at)) if now - at <= SIGN_OF_LIFE => {
                (PulseState::Alive, "running")
            }
            (Process::Present, Some(_)) => {
                (PulseState::Dead, "its process is there, but gives no sign of life")
            }
        };
        let name = "daemon".to_owned();
        let pulse = vec![LoopPulse { name, last_at, state, doing: doing.to_owned() }];
        Ok(Self { schedules, channels, pulse })
    }
}

impl Daemon for FromSigns {
    fn schedules(&self) -> Vec<Schedule> {
        self.schedules.clone()
    }

    fn channels(&self) -> Vec<ChannelLine> {
        self.channels.clone()
    }

    fn pulse(&self) -> Vec<LoopPulse> {
        self.pulse.clone()
    }
}
