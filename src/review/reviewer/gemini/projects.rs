//! Keys by project: whose turn it is, who rests, who is out.
//!
//! Keys of one project share one quota, so a second key helps against a dead first one and never
//! against a limit. Several projects are used in their order, the next only while the first rests.
//! Invariant: a key that was rejected is not used again in this run, and a project never before
//! its rest is over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Days, TimeDelta, TimeZone as _, Utc};
use tokio::time::Instant;

use crate::review::reviewer::gemini::classifier::{Class, Kind, LONGEST_PAUSE, OnKey, Quota};
use crate::review::reviewer::gemini::pace::{Number, Pace};
use crate::review::reviewer::gemini::patience::Patience;
use crate::review::reviewer::gemini::refusal::Concerned;
use crate::review::reviewer::gemini::refusal::california;
use crate::review::reviewer::{DropCause, Dropped};
use crate::review::settings::Project;
use crate::secret::Secret;

/// So many 429s in a row that say nothing are a daily limit that is not called so …
const VAGUE_TO_CLOSE: u32 = 5;
/// … and are looked at again after an hour.
const CLOSED_FOR: TimeDelta = TimeDelta::hours(1);
/// Everybody else waits for the same second, too.
const JITTER: f64 = 0.2;

/// All projects.
#[derive(Debug)]
pub struct Projects {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    projects: Vec<State>,
    /// The account rests; which projects share it is not known.
    all_rest_until: Option<Instant>,
    out: Vec<Out>,
    patience: Patience,
}

#[derive(Debug)]
struct State {
    name: String,
    keys: Vec<Key>,
    pace: Pace,
    rest: Option<Rest>,
    closed: Option<Closed>,
    vague_in_a_row: u32,
}

#[derive(Debug)]
struct Key {
    secret: Secret,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Live,
    Out,
}

#[derive(Debug)]
struct Rest {
    since: Instant,
    until: Instant,
}

#[derive(Debug)]
struct Closed {
    until: DateTime<Utc>,
    says: String,
}

#[derive(Clone, Debug)]
struct Out {
    kind: Kind,
    project: String,
    /// `None`: all keys of the project.
    key: Option<String>,
    says: String,
}

/// Whose turn it is.
#[derive(Debug)]
pub enum Turn {
    /// Send now, with this key.
    Go(Ticket),
    /// Nobody may before then.
    Wait(Instant),
    /// Every project that is left has used up its quota.
    Closed {
        /// When the first comes back.
        until: DateTime<Utc>,
        /// For people.
        says: String,
    },
    /// No key is left.
    NoneLeft {
        /// Why the last one went.
        kind: Kind,
        /// Which that was.
        concerned: Concerned,
        /// For people: why each went.
        says: String,
    },
}

/// One request's key.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The key itself.
    pub key: Secret,
    project: usize,
    index: usize,
    number: Number,
    sent: Instant,
}

impl Projects {
    /// All keys alive.
    #[must_use]
    pub fn new(projects: &[Project], patience: Patience) -> Self {
        let projects = projects
            .iter()
            .map(|project| State {
                name: project.name.clone(),
                keys: project
                    .keys
                    .iter()
                    .map(|secret| Key { secret: secret.clone(), fate: Fate::Live })
                    .collect(),
                pace: Pace::default(),
                rest: None,
                closed: None,
                vague_in_a_row: 0,
            })
            .collect();
        let inner = Inner { projects, all_rest_until: None, out: Vec::new(), patience };
        Self { inner: Mutex::new(inner) }
    }

    /// Whose turn it is now.
    pub fn turn(&self, now: Instant, wall: DateTime<Utc>) -> Turn {
        self.inner().turn(now, wall)
    }

    /// When the first project's rest is over; `None`: one does not rest, or none is left.
    #[must_use]
    pub fn rests_until(&self, now: Instant, wall: DateTime<Utc>) -> Option<Instant> {
        self.inner().rests_until(now, wall)
    }

    /// Who is out, in the order in which they went. The words are the service's own.
    #[must_use]
    pub fn dropped(&self) -> Vec<Dropped> {
        let dropped = |out: &Out| Dropped {
            project: out.project.clone(),
            key: out.key.clone(),
            cause: cause(out.kind),
            reason: out.says.clone(),
        };
        self.inner().out.iter().map(dropped).collect()
    }

    /// Whether every key has gone.
    #[must_use]
    pub fn all_dropped(&self) -> bool {
        let inner = self.inner();
        let mut keys = inner.projects.iter().flat_map(|project| &project.keys);
        !inner.out.is_empty() && keys.all(|key| key.fate == Fate::Out)
    }

    /// The request was taken by the service, whatever it made of it.
    pub fn taken(&self, ticket: &Ticket, tokens: Option<u64>) {
        if let Some(state) = self.inner().projects.get_mut(ticket.project) {
            state.vague_in_a_row = 0;
            state.pace.taken(ticket.number, tokens);
        }
    }

    /// The request was not sent after all.
    pub fn unused(&self, ticket: &Ticket) {
        if let Some(state) = self.inner().projects.get_mut(ticket.project) {
            state.pace.refused(ticket.number);
        }
    }

    /// The request was refused for its key or its quota.
    pub fn refused(&self, ticket: &Ticket, class: &Class, now: Instant, wall: DateTime<Utc>) {
        self.inner().refused(ticket, class, now, wall);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics between two changes that belong together.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn turn(&mut self, now: Instant, wall: DateTime<Utc>) -> Turn {
        let mut wait: Option<Instant> = None;
        let mut closed: Option<(DateTime<Utc>, String)> = None;
        for (project, state) in self.projects.iter_mut().enumerate() {
            let Some(index) = state.keys.iter().position(|key| key.fate == Fate::Live) else {
                continue;
            };
            if let Some(Closed { until, says }) = &state.closed {
                if *until > wall {
                    let is_first = closed.as_ref().is_none_or(|(first, _)| until < first);
                    if is_first {
                        closed = Some((*until, format!("project {}: {says}", state.name)));
                    }
                    continue;
                }
                state.closed = None;
            }
            let rested = state.rest.as_ref().map(|rest| rest.until).max(self.all_rest_until);
            let at = state.pace.next_at(now).max(rested.unwrap_or(now));
            if at <= now {
                let key = state.keys[index].secret.clone();
                let number = state.pace.send(now);
                return Turn::Go(Ticket { key, project, index, number, sent: now });
            }
            wait = Some(wait.map_or(at, |wait| wait.min(at)));
        }
        match (wait, closed) {
            (Some(at), _) => Turn::Wait(at),
            (None, Some((until, says))) => Turn::Closed { until, says },
            (None, None) => self.none_left(),
        }
    }

    fn none_left(&self) -> Turn {
        let says: Vec<&str> = self.out.iter().map(|out| out.says.as_str()).collect();
        match self.out.last() {
            Some(out) => Turn::NoneLeft {
                kind: out.kind,
                concerned: Concerned { project: out.project.clone(), key: out.key.clone() },
                says: says.join("; "),
            },
            None => Turn::NoneLeft {
                kind: Kind::KeyRejected,
                concerned: Concerned::default(),
                says: "no API key is configured: set GEMINI_API_KEY".into(),
            },
        }
    }

    fn refused(&mut self, ticket: &Ticket, class: &Class, now: Instant, wall: DateTime<Utc>) {
        let Some(state) = self.projects.get_mut(ticket.project) else { return };
        state.pace.refused(ticket.number);
        for limit in &class.limits {
            state.pace.learn(limit);
        }
        match class.kind.on_key() {
            OnKey::Keep => {}
            OnKey::Drop => {
                let Some(key) = state.keys.get_mut(ticket.index) else { return };
                if key.fate == Fate::Live {
                    key.fate = Fate::Out;
                    let says = format!(
                        "key {} of project {}: {}",
                        key.secret.hint(),
                        state.name,
                        class.says
                    );
                    let (project, key) = (state.name.clone(), Some(key.secret.hint()));
                    self.out.push(Out { kind: class.kind, project, key, says });
                }
            }
            OnKey::DropProject => {
                let was_live = state.keys.iter().any(|key| key.fate == Fate::Live);
                state.keys.iter_mut().for_each(|key| key.fate = Fate::Out);
                if was_live {
                    let says = format!("project {}: {}", state.name, class.says);
                    let project = state.name.clone();
                    self.out.push(Out { kind: class.kind, project, key: None, says });
                }
            }
            OnKey::Rest => state.rest(ticket, class, now, wall, self.patience.vague),
            OnKey::RestAll => {
                let Kind::Quota(Quota::Account(pause)) = class.kind else { return };
                if pause > LONGEST_PAUSE {
                    self.close_all(wall + delta(pause), &class.says);
                } else {
                    let until = now + with_jitter(pause);
                    self.all_rest_until = self.all_rest_until.max(Some(until));
                }
            }
        }
    }

    /// Whoever was closed for longer stays so.
    fn close_all(&mut self, until: DateTime<Utc>, says: &str) {
        for state in &mut self.projects {
            if state.closed.as_ref().is_none_or(|closed| closed.until < until) {
                state.closed = Some(Closed { until, says: says.to_owned() });
            }
        }
    }

    fn rests_until(&self, now: Instant, wall: DateTime<Utc>) -> Option<Instant> {
        let usable = self.projects.iter().filter(|state| {
            let is_open = state.closed.as_ref().is_none_or(|closed| closed.until <= wall);
            is_open && state.keys.iter().any(|key| key.fate == Fate::Live)
        });
        let ends =
            usable.map(|state| state.rest.as_ref().map(|rest| rest.until).max(self.all_rest_until));
        ends.min().flatten().filter(|until| *until > now)
    }
}

impl State {
    fn rest(
        &mut self,
        ticket: &Ticket,
        class: &Class,
        now: Instant,
        wall: DateTime<Utc>,
        vague: Duration,
    ) {
        let Kind::Quota(quota) = class.kind else { return };
        let close = |until| Some(Closed { until, says: class.says.clone() });
        match quota {
            Quota::Day => self.closed = close(next_quota_day(wall)),
            Quota::Long(delay) => {
                self.closed = close(wall + delta(delay));
            }
            Quota::Minute(delay) | Quota::Account(delay) => self.rest_for(delay, now),
            Quota::Vague => {
                // Many parallel calls get the same news at once: it counts once.
                let is_old = self.rest.as_ref().is_some_and(|rest| ticket.sent <= rest.since);
                if is_old {
                    return;
                }
                self.vague_in_a_row += 1;
                if self.vague_in_a_row >= VAGUE_TO_CLOSE {
                    self.vague_in_a_row = 0;
                    self.closed = close(wall + CLOSED_FOR);
                } else {
                    self.rest_for(vague * (1 << (self.vague_in_a_row - 1)), now);
                }
            }
        }
    }

    fn rest_for(&mut self, delay: Duration, now: Instant) {
        // Parallel calls are told nearly the same; the jitter is drawn once, not by the unluckiest.
        let is_covered = self.rest.as_ref().is_some_and(|rest| rest.until >= now + delay);
        if !is_covered {
            self.rest = Some(Rest { since: now, until: now + with_jitter(delay) });
        }
    }
}

fn cause(kind: Kind) -> DropCause {
    match kind {
        Kind::OutOfCredit | Kind::SpendCap | Kind::NoQuota | Kind::Quota(_) => {
            DropCause::OutOfCredit
        }
        Kind::Location | Kind::ModelRetired | Kind::NoSuchModel | Kind::Misunderstood(_) => {
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

    fn two_projects() -> Projects {
        Projects::new(
            &[
                Project {
                    name: "main".into(),
                    keys: vec![Secret::new("fake-key-main-1"), Secret::new("fake-key-main-2")],
                },
                Project { name: "spare".into(), keys: vec![Secret::new("fake-key-spare")] },
            ],
            Patience::default(),
        )
    }

    fn wall() -> DateTime<Utc> {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn go(projects: &Projects) -> Ticket {
        let turn = projects.turn(Instant::now(), wall());
        let Turn::Go(ticket) = turn else { panic!("{turn:?}") };
        ticket
    }

    fn refuse(projects: &Projects, ticket: &Ticket, status: u16, body: &str) {
        let class = classify(status, None, body.as_bytes());
        projects.refused(ticket, &class, Instant::now(), wall());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_key_makes_way_for_the_next_and_the_last_says_why_all_went() {
        let projects = two_projects();
        for expected in ["fake-key-main-1", "fake-key-main-2", "fake-key-spare"] {
            let ticket = go(&projects);
            assert_eq!(ticket.key.expose(), expected);
            refuse(&projects, &ticket, 401, "");
            refuse(&projects, &ticket, 401, "");
        }
        let Turn::NoneLeft { kind: Kind::KeyRejected, says, .. } =
            projects.turn(Instant::now(), wall())
        else {
            panic!("a key is left");
        };
        assert_eq!(says.matches("does not accept the API key").count(), 3, "{says}");
        assert!(!says.contains("fake-key"), "{says}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_key_of_the_same_project_does_not_help_against_a_limit() {
        let projects = two_projects();
        let ticket = go(&projects);
        refuse(&projects, &ticket, 429, r#"{"error":{"message":"Please retry in 20s."}}"#);
        let spare = go(&projects);
        assert_eq!(spare.key.expose(), "fake-key-spare");
        refuse(&projects, &spare, 429, r#"{"error":{"message":"Please retry in 40s."}}"#);
        let Turn::Wait(until) = projects.turn(Instant::now(), wall()) else { panic!("no wait") };
        let wait = until - Instant::now();
        assert!((20.0..=24.0).contains(&wait.as_secs_f64()), "{wait:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_spending_limit_rests_every_project() {
        let projects = two_projects();
        let ticket = go(&projects);
        let body = r#"{"error":{"message":"You exceeded your spend-based rate limit."}}"#;
        refuse(&projects, &ticket, 429, body);
        let Turn::Wait(until) = projects.turn(Instant::now(), wall()) else { panic!("no wait") };
        assert!(until - Instant::now() >= Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn five_refusals_in_a_row_that_say_nothing_close_the_project_for_an_hour() {
        let projects = Projects::new(&one_project(), Patience::default());
        for pause in [5, 10, 20, 40] {
            let ticket = go(&projects);
            let parallel = go(&projects);
            refuse(&projects, &ticket, 429, "");
            refuse(&projects, &parallel, 429, "");
            let Turn::Wait(until) = projects.turn(Instant::now(), wall()) else {
                panic!("no wait")
            };
            let wait = (until - Instant::now()).as_secs_f64();
            assert!((f64::from(pause)..=f64::from(pause) * 1.2).contains(&wait), "{wait}");
            tokio::time::advance(until - Instant::now()).await;
        }
        let ticket = go(&projects);
        refuse(&projects, &ticket, 429, "");
        let Turn::Closed { until, .. } = projects.turn(Instant::now(), wall()) else {
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
