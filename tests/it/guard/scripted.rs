//! A keeper that plays a script instead of holding a job, in step with the simulated clock.
//!
//! It behaves as the real one does: entries appear as time passes, it outlives the daemon, it can be
//! asked to stop, killed, and found again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use lookout::clock::{Clock, SimClock};
use lookout::process::ProcessIdentity;
use lookout::run::RunId;
use lookout::run::keeper::{KeeperError, Keepers, Presence, Reading, StopHow};
use lookout::run::ledger::RunLease;
use lookout::rundir::{Entry, Event, StopReason};
use lookout::schedule::Slot;

use super::scripts::Script;

/// One run as it is played.
#[derive(Debug)]
struct Play {
    slot: Slot,
    identity: ProcessIdentity,
    started_boot: Duration,
    started_at: DateTime<Utc>,
    /// Offsets from the start.
    entries: Vec<(Duration, Event)>,
    /// When the process is gone.
    gone_after: Duration,
    /// Its evidence can't be read.
    is_unreadable: bool,
    /// From being asked to stop to the end.
    stops_after: Duration,
}

type Casting = Box<dyn FnMut(&Slot) -> Script + Send>;

/// All keepers of a world.
pub(crate) struct ScriptedKeepers {
    clock: Arc<SimClock>,
    casting: Mutex<Casting>,
    plays: Mutex<HashMap<RunId, Play>>,
    /// Never given twice, as a pid with its start time is not.
    next_pid: AtomicI32,
}

impl std::fmt::Debug for ScriptedKeepers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScriptedKeepers")
    }
}

impl ScriptedKeepers {
    pub(crate) fn new(clock: Arc<SimClock>, casting: Casting) -> Self {
        Self {
            clock,
            casting: Mutex::new(casting),
            plays: Mutex::default(),
            next_pid: AtomicI32::new(100),
        }
    }

    /// Boot time at which the next entry appears or a process ends.
    pub(crate) fn next_change(&self) -> Option<Duration> {
        let now = self.clock.boot();
        let plays = self.plays.lock().unwrap();
        let is_on = |play: &&Play| play.started_boot.saturating_add(play.gone_after) > now;
        let changes = plays.values().filter(is_on).flat_map(|play| {
            let offsets = play.entries.iter().map(|(offset, _)| *offset);
            offsets
                .filter(|offset| *offset <= play.gone_after)
                .chain([play.gone_after])
                .map(|offset| play.started_boot.saturating_add(offset))
                .collect::<Vec<_>>()
        });
        changes.filter(|at| *at > now).min()
    }

    /// How many keepers were started for each slot, and whether two of a schedule ever overlapped.
    pub(crate) fn starts(&self) -> HashMap<Slot, u32> {
        let mut starts = HashMap::new();
        for play in self.plays.lock().unwrap().values() {
            *starts.entry(play.slot.clone()).or_default() += 1;
        }
        starts
    }

    /// Pairs of runs of one schedule that were alive at once.
    pub(crate) fn overlaps(&self) -> Vec<(Slot, Slot)> {
        let plays = self.plays.lock().unwrap();
        let mut spans: Vec<(Duration, Duration, &Slot)> = plays
            .values()
            .map(|play| {
                (play.started_boot, play.started_boot.saturating_add(play.gone_after), &play.slot)
            })
            .collect();
        spans.sort();
        let mut found = Vec::new();
        for (i, a) in spans.iter().enumerate() {
            for b in &spans[i + 1..] {
                if a.2.schedule == b.2.schedule && b.0 < a.1 {
                    found.push((a.2.clone(), b.2.clone()));
                }
            }
        }
        found
    }

    /// Forgets plays that are long over, so that a simulated year stays quick.
    pub(crate) fn forget_the_old(&self) -> usize {
        let now = self.clock.boot();
        let old = Duration::from_secs(86_400);
        let mut plays = self.plays.lock().unwrap();
        plays.retain(|_, play| {
            play.started_boot.saturating_add(play.gone_after).saturating_add(old) > now
        });
        plays.len()
    }
}

#[async_trait]
impl Keepers for ScriptedKeepers {
    async fn start(&self, lease: &RunLease) -> Result<ProcessIdentity, KeeperError> {
        let run = lease.run();
        let mut plays = self.plays.lock().unwrap();
        if let Some(play) = plays.get(&run.id) {
            return Ok(play.identity.clone());
        }
        let script = (self.casting.lock().unwrap().as_mut())(&run.slot);
        if let Some(error) = script.refuses {
            return Err(KeeperError::Spawn(error));
        }
        let pid = self.next_pid.fetch_add(1, Ordering::Relaxed);
        let identity = ProcessIdentity { pid, start_ticks: 1, boot_id: "simulated".into() };
        let keeper_started = Event::KeeperStarted { keeper: identity.clone() };
        let mut entries = vec![(Duration::ZERO, keeper_started)];
        entries.extend(script.entries(&run.schedule, self.clock.now()));
        let ends = entries.iter().find(|(_, event)| matches!(event, Event::Ended { .. }));
        // One that ends before it would have died is gone by then: a box that was shortened.
        let ends = ends.map(|(offset, _)| *offset);
        let gone_after = script.dies_after.into_iter().chain(ends).min().unwrap_or(Duration::MAX);
        let play = Play {
            slot: run.slot.clone(),
            identity: identity.clone(),
            started_boot: self.clock.boot(),
            started_at: self.clock.now(),
            entries,
            gone_after,
            is_unreadable: script.is_unreadable,
            stops_after: script.stops_after.unwrap_or(Duration::from_secs(1)),
        };
        plays.insert(run.id.clone(), play);
        Ok(identity)
    }

    async fn presence(&self, keeper: &ProcessIdentity) -> Presence {
        let now = self.clock.boot();
        let plays = self.plays.lock().unwrap();
        let play = plays.values().find(|play| play.identity == *keeper);
        match play {
            Some(play) if now < play.started_boot.saturating_add(play.gone_after) => {
                Presence::Alive
            }
            Some(_) | None => Presence::Gone,
        }
    }

    async fn read(&self, run: &RunId, offset: u64) -> Result<Reading, KeeperError> {
        let now = self.clock.boot();
        let plays = self.plays.lock().unwrap();
        let Some(play) = plays.get(run) else { return Ok(Reading::default()) };
        if play.is_unreadable {
            return Err(KeeperError::Directory("evidence.jsonl: permission denied".into()));
        }
        let offset = usize::try_from(offset).unwrap();
        let written = play.entries.iter().filter(|(at, _)| {
            *at <= play.gone_after && play.started_boot.saturating_add(*at) <= now
        });
        let entries: Vec<Entry> = written
            .skip(offset)
            .map(|(at, event)| Entry {
                at: play.started_at + TimeDelta::from_std(*at).unwrap(),
                boot_ms: u64::try_from((play.started_boot + *at).as_millis()).unwrap(),
                event: event.clone(),
            })
            .collect();
        let next_offset = u64::try_from(offset + entries.len()).unwrap();
        Ok(Reading { entries, next_offset })
    }

    async fn stop(&self, run: &RunId, how: StopHow) -> Result<(), KeeperError> {
        let now = self.clock.boot();
        let mut plays = self.plays.lock().unwrap();
        let Some(play) = plays.get_mut(run) else { return Ok(()) };
        let elapsed = now.saturating_sub(play.started_boot);
        if elapsed >= play.gone_after {
            return Ok(());
        }
        match how {
            StopHow::Kill => play.gone_after = elapsed,
            StopHow::Ask => {
                play.entries.retain(|(at, _)| *at <= elapsed);
                let end = elapsed + play.stops_after;
                play.entries.extend([
                    (elapsed, Event::Stopping { reason: StopReason::Asked }),
                    (end, Event::Exited { code: None, signal: Some(15) }),
                    (end, Event::Ended { bytes: 0, log_dropped_bytes: 0 }),
                ]);
                play.gone_after = end;
            }
        }
        Ok(())
    }

    async fn log_tail(&self, _run: &RunId, _n_lines: usize) -> Vec<String> {
        vec!["the last line".to_owned()]
    }
}
