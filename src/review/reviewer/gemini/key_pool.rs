//! Keys by project: which one is used next, which cool down, which are dropped.
//!
//! Keys of one project share one quota, so a second key helps against a dead first one and never
//! against a limit. Several projects are used in their order, the next only while the first cools down.
//! Invariant: a key that was rejected is not used again in this run, and a project never before
//! its cooldown is over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Days, TimeDelta, TimeZone as _, Utc};
use tokio::time::Instant;

use crate::review::reviewer::gemini::backoff::Backoff;
use crate::review::reviewer::gemini::classifier::{Class, Kind, LONGEST_PAUSE, OnKey, Quota};
use crate::review::reviewer::gemini::rate_limit::{RateLimit, RequestNumber};
use crate::review::reviewer::gemini::refusal::Concerned;
use crate::review::reviewer::gemini::refusal::california;
use crate::review::reviewer::{DropCause, Dropped};
use crate::review::settings::Project;
use crate::secret::Secret;

/// This many 429s in a row that say nothing are a daily limit that is not called so …
const VAGUE_TO_CLOSE: u32 = 5;
/// … and are looked at again after an hour.
const CLOSED_FOR: TimeDelta = TimeDelta::hours(1);
/// Everybody else waits for the same second, too.
const JITTER: f64 = 0.2;

/// All projects.
#[derive(Debug)]
pub struct KeyPool {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    projects: Vec<State>,
    /// The whole account cools down; which projects share it is not known.
    all_cool_until: Option<Instant>,
    dropped: Vec<DroppedKey>,
    backoff: Backoff,
}

#[derive(Debug)]
struct State {
    name: String,
    keys: Vec<Key>,
    rate_limit: RateLimit,
    cooldown: Option<Cooldown>,
    closed: Option<Closed>,
    vague_in_a_row: u32,
}

#[derive(Debug)]
struct Key {
    secret: Secret,
    state: KeyState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyState {
    Live,
    Dropped,
}

#[derive(Debug)]
struct Cooldown {
    since: Instant,
    until: Instant,
}

#[derive(Debug)]
struct Closed {
    until: DateTime<Utc>,
    message: String,
}

#[derive(Clone, Debug)]
struct DroppedKey {
    kind: Kind,
    project: String,
    /// `None`: all keys of the project.
    key: Option<String>,
    message: String,
}

/// Which key is used next.
#[derive(Debug)]
pub enum Selection {
    /// Send now, with this key.
    Go(KeyLease),
    /// Nobody may before then.
    Wait(Instant),
    /// Every project that is left has used up its quota.
    Closed {
        /// When the first comes back.
        until: DateTime<Utc>,
        /// For people.
        message: String,
    },
    /// No key is left.
    NoneLeft {
        /// Why the last one went.
        kind: Kind,
        /// Which that was.
        concerned: Concerned,
        /// For people: why each went.
        message: String,
    },
}

/// One request's key.
#[derive(Clone, Debug)]
pub struct KeyLease {
    /// The key itself.
    pub key: Secret,
    project: usize,
    index: usize,
    number: RequestNumber,
    sent: Instant,
}

impl KeyPool {
    /// All keys alive.
    #[must_use]
    pub fn new(projects: &[Project], backoff: Backoff) -> Self {
        let projects = projects
            .iter()
            .map(|project| State {
                name: project.name.clone(),
                keys: project
                    .keys
                    .iter()
                    .map(|secret| Key { secret: secret.clone(), state: KeyState::Live })
                    .collect(),
                rate_limit: RateLimit::default(),
                cooldown: None,
                closed: None,
                vague_in_a_row: 0,
            })
            .collect();
        let inner = Inner { projects, all_cool_until: None, dropped: Vec::new(), backoff };
        Self { inner: Mutex::new(inner) }
    }

    /// The key to use now.
    pub fn select(&self, now: Instant, wall: DateTime<Utc>) -> Selection {
        self.inner().select(now, wall)
    }

    /// When the first project's cooldown is over; `None`: one does not cool down, or none is left.
    #[must_use]
    pub fn cooldown_until(&self, now: Instant, wall: DateTime<Utc>) -> Option<Instant> {
        self.inner().cooldown_until(now, wall)
    }

    /// The keys that were dropped, in that order. The words are the service's own.
    #[must_use]
    pub fn dropped(&self) -> Vec<Dropped> {
        let dropped = |out: &DroppedKey| Dropped {
            project: out.project.clone(),
            key: out.key.clone(),
            cause: cause(out.kind),
            reason: out.message.clone(),
        };
        self.inner().dropped.iter().map(dropped).collect()
    }

    /// Whether every key has gone.
    #[must_use]
    pub fn all_dropped(&self) -> bool {
        let inner = self.inner();
        let mut keys = inner.projects.iter().flat_map(|project| &project.keys);
        !inner.dropped.is_empty() && keys.all(|key| key.state == KeyState::Dropped)
    }

    /// The request was taken by the service, whatever it made of it.
    pub fn taken(&self, lease: &KeyLease, tokens: Option<u64>) {
        if let Some(state) = self.inner().projects.get_mut(lease.project) {
            state.vague_in_a_row = 0;
            state.rate_limit.taken(lease.number, tokens);
        }
    }

    /// The request was not sent after all.
    pub fn unused(&self, lease: &KeyLease) {
        if let Some(state) = self.inner().projects.get_mut(lease.project) {
            state.rate_limit.refused(lease.number);
        }
    }

    /// The request was refused for its key or its quota.
    pub fn refused(&self, lease: &KeyLease, class: &Class, now: Instant, wall: DateTime<Utc>) {
        self.inner().refused(lease, class, now, wall);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics between two changes that belong together.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn select(&mut self, now: Instant, wall: DateTime<Utc>) -> Selection {
        let mut wait: Option<Instant> = None;
        let mut closed: Option<(DateTime<Utc>, String)> = None;
        for (project, state) in self.projects.iter_mut().enumerate() {
            let Some(index) = state.keys.iter().position(|key| key.state == KeyState::Live) else {
                continue;
            };
            if let Some(Closed { until, message }) = &state.closed {
                if *until > wall {
                    let is_first = closed.as_ref().is_none_or(|(first, _)| until < first);
                    if is_first {
                        closed = Some((*until, format!("project {}: {message}", state.name)));
                    }
                    continue;
                }
                state.closed = None;
            }
            let rested =
                state.cooldown.as_ref().map(|cooldown| cooldown.until).max(self.all_cool_until);
            let at = state.rate_limit.next_at(now).max(rested.unwrap_or(now));
            if at <= now {
                let key = state.keys[index].secret.clone();
                let number = state.rate_limit.send(now);
                return Selection::Go(KeyLease { key, project, index, number, sent: now });
            }
            wait = Some(wait.map_or(at, |wait| wait.min(at)));
        }
        match (wait, closed) {
            (Some(at), _) => Selection::Wait(at),
            (None, Some((until, message))) => Selection::Closed { until, message },
            (None, None) => self.none_left(),
        }
    }

    fn none_left(&self) -> Selection {
        let message: Vec<&str> = self.dropped.iter().map(|out| out.message.as_str()).collect();
        match self.dropped.last() {
            Some(out) => Selection::NoneLeft {
                kind: out.kind,
                concerned: Concerned { project: out.project.clone(), key: out.key.clone() },
                message: message.join("; "),
            },
            None => Selection::NoneLeft {
                kind: Kind::KeyRejected,
                concerned: Concerned::default(),
                message: "no API key is configured: set GEMINI_API_KEY".into(),
            },
        }
    }

    fn refused(&mut self, lease: &KeyLease, class: &Class, now: Instant, wall: DateTime<Utc>) {
        let Some(state) = self.projects.get_mut(lease.project) else { return };
        state.rate_limit.refused(lease.number);
        for limit in &class.limits {
            state.rate_limit.learn(limit);
        }
        match class.kind.on_key() {
            OnKey::Keep => {}
            OnKey::Drop => {
                let Some(key) = state.keys.get_mut(lease.index) else { return };
                if key.state == KeyState::Live {
                    key.state = KeyState::Dropped;
                    let message = format!(
                        "key {} of project {}: {}",
                        key.secret.hint(),
                        state.name,
                        class.message
                    );
                    let (project, key) = (state.name.clone(), Some(key.secret.hint()));
                    self.dropped.push(DroppedKey { kind: class.kind, project, key, message });
                }
            }
            OnKey::DropProject => {
                let was_live = state.keys.iter().any(|key| key.state == KeyState::Live);
                state.keys.iter_mut().for_each(|key| key.state = KeyState::Dropped);
                if was_live {
                    let message = format!("project {}: {}", state.name, class.message);
                    let project = state.name.clone();
                    self.dropped.push(DroppedKey { kind: class.kind, project, key: None, message });
                }
            }
            OnKey::Rest => state.cool_down(lease, class, now, wall, self.backoff.vague),
            OnKey::RestAll => {
                let Kind::Quota(Quota::Account(pause)) = class.kind else { return };
                if pause > LONGEST_PAUSE {
                    self.close_all(wall + delta(pause), &class.message);
                } else {
                    let until = now + with_jitter(pause);
                    self.all_cool_until = self.all_cool_until.max(Some(until));
                }
            }
        }
    }

    /// Whoever was closed for longer stays so.
    fn close_all(&mut self, until: DateTime<Utc>, message: &str) {
        for state in &mut self.projects {
            if state.closed.as_ref().is_none_or(|closed| closed.until < until) {
                state.closed = Some(Closed { until, message: message.to_owned() });
            }
        }
    }

    fn cooldown_until(&self, now: Instant, wall: DateTime<Utc>) -> Option<Instant> {
        let usable = self.projects.iter().filter(|state| {
            let is_open = state.closed.as_ref().is_none_or(|closed| closed.until <= wall);
            is_open && state.keys.iter().any(|key| key.state == KeyState::Live)
        });
        let ends = usable.map(|state| {
            state.cooldown.as_ref().map(|cooldown| cooldown.until).max(self.all_cool_until)
        });
        ends.min().flatten().filter(|until| *until > now)
    }
}

impl State {
    fn cool_down(
        &mut self,
        lease: &KeyLease,
        class: &Class,
        now: Instant,
        wall: DateTime<Utc>,
        vague: Duration,
    ) {
        let Kind::Quota(quota) = class.kind else { return };
        let close = |until| Some(Closed { until, message: class.message.clone() });
        match quota {
            Quota::Day => self.closed = close(next_quota_day(wall)),
            Quota::Long(delay) => {
                self.closed = close(wall + delta(delay));
            }
            Quota::Minute(delay) | Quota::Account(delay) => self.cool_for(delay, now),
            Quota::Vague => {
                // Many parallel calls get the same news at once: it counts once.
                let is_old = self.cooldown.as_ref().is_some_and(|rest| lease.sent <= rest.since);
                if is_old {
                    return;
                }
                self.vague_in_a_row += 1;
                if self.vague_in_a_row >= VAGUE_TO_CLOSE {
                    self.vague_in_a_row = 0;
                    self.closed = close(wall + CLOSED_FOR);
                } else {
                    self.cool_for(vague * (1 << (self.vague_in_a_row - 1)), now);
                }
            }
        }
    }

    fn cool_for(&mut self, delay: Duration, now: Instant) {
        // Parallel calls are told nearly the same; the jitter is drawn once, not by the unluckiest.
        let is_covered =
            self.cooldown.as_ref().is_some_and(|cooldown| cooldown.until >= now + delay);
        if !is_covered {
            self.cooldown = Some(Cooldown { since: now, until: now + with_jitter(delay) });
        }
    }
}

fn cause(kind: Kind) -> DropCause {
    match kind {
        Kind::OutOfCredit | Kind::SpendCap | Kind::NoQuota | Kind::Quota(_) => {
            DropCause::OutOfCredit
        }
        Kind::Location | Kind::ModelRetired | Kind::NoSuchModel | Kind::InvalidRequest(_) => {
            DropCause::NotAllowed
        }
        Kind::KeyRejected | Kind::ProjectRejected | Kind::Picture(_) | Kind::Overloaded(_) => {
            DropCause::Rejected
        }
    }
}

fn delta(delay: Duration) -> TimeDelta {
    TimeDelta::from_std(delay).unwrap_or(CLOSED_FOR)
}

fn with_jitter(delay: Duration) -> Duration {
    delay.mul_f64(1.0 + JITTER * fastrand::f64())
}

/// Daily quotas come back at midnight in California (Google's rate-limits page).
fn next_quota_day(now: DateTime<Utc>) -> DateTime<Utc> {
    let california = california();
    let today = now.with_timezone(&california).date_naive();
    today
        .checked_add_days(Days::new(1))
        .and_then(|day| day.and_hms_opt(0, 0, 0))
        // Clocks change at two in the morning there, so midnight is there once on every day.
        .and_then(|midnight| california.from_local_datetime(&midnight).earliest())
        .map_or(now + TimeDelta::days(1), |midnight| midnight.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::reviewer::gemini::classifier::classify;

    fn two_projects() -> KeyPool {
        KeyPool::new(
            &[
                Project {
                    name: "main".into(),
                    keys: vec![Secret::new("fake-key-main-1"), Secret::new("fake-key-main-2")],
                },
                Project { name: "spare".into(), keys: vec![Secret::new("fake-key-spare")] },
            ],
            Backoff::default(),
        )
    }

    fn wall() -> DateTime<Utc> {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn go(projects: &KeyPool) -> KeyLease {
        let selection = projects.select(Instant::now(), wall());
        let Selection::Go(lease) = selection else { panic!("{selection:?}") };
        lease
    }

    fn refuse(projects: &KeyPool, lease: &KeyLease, status: u16, body: &str) {
        let class = classify(status, None, body.as_bytes());
        projects.refused(lease, &class, Instant::now(), wall());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_key_makes_way_for_the_next_and_the_last_says_why_all_went() {
        let projects = two_projects();
        for expected in ["fake-key-main-1", "fake-key-main-2", "fake-key-spare"] {
            let lease = go(&projects);
            assert_eq!(lease.key.expose(), expected);
            refuse(&projects, &lease, 401, "");
            refuse(&projects, &lease, 401, "");
        }
        let Selection::NoneLeft { kind: Kind::KeyRejected, message, .. } =
            projects.select(Instant::now(), wall())
        else {
            panic!("a key is left");
        };
        assert_eq!(message.matches("does not accept the API key").count(), 3, "{message}");
        assert!(!message.contains("fake-key"), "{message}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_key_of_the_same_project_does_not_help_against_a_limit() {
        let projects = two_projects();
        let lease = go(&projects);
        refuse(&projects, &lease, 429, r#"{"error":{"message":"Please retry in 20s."}}"#);
        let spare = go(&projects);
        assert_eq!(spare.key.expose(), "fake-key-spare");
        refuse(&projects, &spare, 429, r#"{"error":{"message":"Please retry in 40s."}}"#);
        let Selection::Wait(until) = projects.select(Instant::now(), wall()) else {
            panic!("no wait")
        };
        let wait = until - Instant::now();
        assert!((20.0..=24.0).contains(&wait.as_secs_f64()), "{wait:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_spending_limit_rests_every_project() {
        let projects = two_projects();
        let lease = go(&projects);
        let body = r#"{"error":{"message":"You exceeded your spend-based rate limit."}}"#;
        refuse(&projects, &lease, 429, body);
        let Selection::Wait(until) = projects.select(Instant::now(), wall()) else {
            panic!("no wait")
        };
        assert!(until - Instant::now() >= Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn five_refusals_in_a_row_that_say_nothing_close_the_project_for_an_hour() {
        let projects = KeyPool::new(&one_project(), Backoff::default());
        for pause in [5, 10, 20, 40] {
            let lease = go(&projects);
            let parallel = go(&projects);
            refuse(&projects, &lease, 429, "");
            refuse(&projects, &parallel, 429, "");
            let Selection::Wait(until) = projects.select(Instant::now(), wall()) else {
                panic!("no wait")
            };
            let wait = (until - Instant::now()).as_secs_f64();
            assert!((f64::from(pause)..=f64::from(pause) * 1.2).contains(&wait), "{wait}");
            tokio::time::advance(until - Instant::now()).await;
        }
        let lease = go(&projects);
        refuse(&projects, &lease, 429, "");
        let Selection::Closed { until, .. } = projects.select(Instant::now(), wall()) else {
            panic!("still open");
        };
        assert_eq!(until, wall() + TimeDelta::hours(1));
    }

    fn one_project() -> Vec<Project> {
        vec![Project { name: "main".into(), keys: vec![Secret::new("fake-key-main-1")] }]
    }

    #[test]
    fn a_daily_quota_comes_back_at_midnight_in_california() {
        let cases = [
            ("2026-11-22T12:00:00Z", "2026-11-23T08:00:00Z"),
            ("2026-11-22T07:59:59Z", "2026-11-22T08:00:00Z"),
            ("2026-07-01T12:00:00Z", "2026-07-02T07:00:00Z"),
            // Both nights of a clock change: the day has 23 or 25 hours.
            ("2026-03-08T09:00:00Z", "2026-03-09T07:00:00Z"),
            ("2026-11-01T08:00:00Z", "2026-11-02T08:00:00Z"),
        ];
        for (now, expected) in cases {
            let expected: DateTime<Utc> = expected.parse().unwrap();
            assert_eq!(next_quota_day(now.parse().unwrap()), expected, "{now}");
        }
    }
}
