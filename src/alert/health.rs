//! How a channel is, by how its attempts end. Pure: one [`Health`] a channel, told of every attempt.
//!
//! An error is about the channel, a recipient or a message, and only that waits:
//!
//! | error | the channel | the delivery |
//! |---|---|---|
//! | transient | goes on | again after its own step |
//! | throttled | waits as long as it is asked to | again then |
//! | doubtful | waits; broken at the third in a row | again then |
//! | broken | broken: one probe every half hour | kept |
//! | refused recipient | goes on; broken when all are refused | given up after three attempts |
//! | refused message | goes on; broken when two incidents are refused three times and nothing is accepted | again after its own step |
//!
//! Invariant: only an acceptance ends [`ChannelState::Broken`]; any other error changes its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::Instant;

use super::channel::{Scope, SendError};
use super::retry;
use crate::watch::{IncidentKind, News, Severity};

/// A refusal may be a hiccup of a proxy or a deployment twice, not three times.
const MAX_DOUBTS: u32 = 3;

/// So many incidents in a row refused are no peculiarity of one message.
const MIN_REFUSED_INCIDENTS: usize = 2;

/// How a channel is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ChannelState {
    /// Nothing was sent since the start.
    Untried,
    /// The last message was accepted.
    Working,
    /// The last attempt failed; it is tried again soon.
    Failing {
        /// Since the first failure after the last success.
        since: DateTime<Utc>,
        /// In plain words, without secrets.
        reason: String,
    },
    /// It refuses everything until somebody repairs it.
    Broken {
        /// Since the first failure after the last success.
        since: DateTime<Utc>,
        /// In plain words, without secrets.
        reason: String,
    },
}

impl ChannelState {
    /// Since when it fails, if it does.
    #[must_use]
    pub fn failing_since(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Untried | Self::Working => None,
            Self::Failing { since, .. } | Self::Broken { since, .. } => Some(*since),
        }
    }
}

/// What a channel refuses while it goes on with the rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedSubject {
    /// Messages of these incidents.
    Messages,
    /// This recipient.
    Recipient(String),
}

/// A refusal that people must know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// How bad what was refused is.
    pub severity: Severity,
    /// Since when.
    pub since: DateTime<Utc>,
    /// In plain words, without secrets.
    pub reason: String,
}

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The news that is told.
    pub news: &'a News,
    /// To whom.
    pub recipient: &'a str,
    /// Attempts made for it, this one included.
    pub n_attempts: u32,
}

impl Attempt<'_> {
    fn place(&self) -> Place {
        (self.news.incident.id, self.recipient.to_owned())
    }

    fn severity(&self) -> Severity {
        self.news.incident.severity
    }
}

/// Incident and recipient.
type Place = (i64, String);

/// When an attempt failed, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct FailedAt {
    /// For people.
    pub at: DateTime<Utc>,
    /// For waiting.
    pub instant: Instant,
}

/// What becomes of the delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt after so long; zero: as soon as the channel sends again.
    Again(Duration),
    /// It will never be taken.
    GiveUp,
}

#[derive(Clone, Debug)]
struct RefusedMessage {
    kind: IncidentKind,
    n_attempts: u32,
    refusal: Refusal,
}

#[derive(Clone, Debug)]
struct RefusedRecipient {
    /// Whether a message to them was given up for it.
    is_given_up: bool,
    refusal: Refusal,
}

/// One channel's health.
#[derive(Debug)]
pub struct Health {
    recipients: Vec<String>,
    state: ChannelState,
    /// Nothing is sent before this.
    hold_until: Option<Instant>,
    /// Since when no attempt has succeeded.
    failing_since: Option<Instant>,
    n_throttled: u32,
    n_doubts: u32,
    /// Messages refused since the last acceptance: how often, of which incidents.
    n_refused: u32,
    refused_incidents: BTreeSet<i64>,
    messages: BTreeMap<Place, RefusedMessage>,
    refused_recipients: BTreeMap<String, RefusedRecipient>,
    accepted_recipients: BTreeSet<String>,
}

impl Health {
    /// Of a channel that has not been tried.
    #[must_use]
    pub fn new(recipients: Vec<String>) -> Self {
        Self {
            recipients,
            state: ChannelState::Untried,
            hold_until: None,
            failing_since: None,
            n_throttled: 0,
            n_doubts: 0,
            n_refused: 0,
            refused_incidents: BTreeSet::new(),
            messages: BTreeMap::new(),
            refused_recipients: BTreeMap::new(),
            accepted_recipients: BTreeSet::new(),
        }
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> &ChannelState {
        &self.state
    }

    /// Whether it refuses everything.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self.state, ChannelState::Broken { .. })
    }

    /// Until when nothing is sent.
    #[must_use]
    pub fn hold_until(&self) -> Option<Instant> {
        self.hold_until
    }

    /// How long no attempt has succeeded, while some failed.
    #[must_use]
    pub fn failing_for(&self, now: Instant) -> Duration {
        self.failing_since.map_or(Duration::ZERO, |it| now.saturating_duration_since(it))
    }

    /// Recipients that took a message since the start.
    #[must_use]
    pub fn accepted_recipients(&self) -> &BTreeSet<String> {
        &self.accepted_recipients
    }

    /// Why this delivery is refused while others go on; `None`: it is not, or not for sure.
    #[must_use]
    pub fn refusal_of(&self, incident: i64, recipient: &str) -> Option<&Refusal> {
        let message = self.messages.get(&(incident, recipient.to_owned()));
        message.filter(|it| it.n_attempts >= MAX_DOUBTS).map(|it| &it.refusal)
    }

    /// What people must know of: refusals that are no hiccup.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<RefusedSubject, Refusal> {
        let mut found = BTreeMap::new();
        let sure = self.messages.iter().filter(|(_, it)| {
            // The news of a refusal may be refused, too; that says nothing new.
            it.n_attempts >= MAX_DOUBTS && it.kind != IncidentKind::ChannelBroken
        });
        for ((incident, _), message) in sure {
            let RefusedMessage { kind, refusal, .. } = message;
            let reason = format!("incident {incident} ({kind}): {}", refusal.reason);
            let entry = found.entry(RefusedSubject::Messages);
            entry
                .and_modify(|known: &mut Refusal| {
                    known.severity = known.severity.max(refusal.severity);
                    known.since = known.since.min(refusal.since);
                    known.reason = format!("{}; {reason}", known.reason);
                })
                .or_insert(Refusal { reason, ..refusal.clone() });
        }
        for (name, recipient) in &self.refused_recipients {
            if recipient.is_given_up {
                let subject = RefusedSubject::Recipient(name.clone());
                found.insert(subject, recipient.refusal.clone());
            }
        }
        found
    }

    /// Forgets refused messages that no longer wait.
    pub fn keep_only(&mut self, waits: impl Fn(i64, &str) -> bool) {
        self.messages.retain(|(incident, recipient), _| waits(*incident, recipient));
    }

    /// A message was accepted. Returns whether it was failing before.
    pub fn accepted(&mut self, attempt: &Attempt<'_>) -> bool {
        let was_failing = self.failing_since.take().is_some() || self.is_broken();
        self.state = ChannelState::Working;
        self.hold_until = None;
        self.n_throttled = 0;
        self.n_doubts = 0;
        self.n_refused = 0;
        self.refused_incidents.clear();
        self.messages.remove(&attempt.place());
        self.refused_recipients.remove(attempt.recipient);
        self.accepted_recipients.insert(attempt.recipient.to_owned());
        was_failing
    }

    /// An attempt failed; `reason` is the error's, redacted, `jitter` a random number in `0.0..1.0`.
    pub fn failed(
        &mut self,
        error: &SendError,
        reason: &str,
        attempt: &Attempt<'_>,
        moment: FailedAt,
        jitter: f64,
    ) -> Next {
        let own_step = retry::step(attempt.n_attempts, jitter);
        let now = moment.instant;
        match error {
            SendError::Refused { scope, .. } => {
                return self.refused(*scope, reason, attempt, moment, own_step);
            }
            SendError::Transient { .. } if !self.is_broken() => {
                self.failing(reason, moment);
                return Next::Again(own_step);
            }
            SendError::Throttled { retry_after, .. } if !self.is_broken() => {
                self.n_throttled += 1;
                let step = match retry_after {
                    // They have said how long; not even a moment would be a busy loop.
                    Some(asked) => (*asked).max(retry::step(1, jitter)),
                    None => retry::step(self.n_throttled, jitter),
                };
                self.failing(reason, moment);
                self.hold_until = Some(now + step);
                return Next::Again(step);
            }
            SendError::Doubtful { .. } if !self.is_broken() && self.n_doubts + 1 < MAX_DOUBTS => {
                self.n_doubts += 1;
                let step = retry::step(self.n_doubts, jitter);
                self.failing(reason, moment);
                self.hold_until = Some(now + step);
                return Next::Again(step);
            }
            SendError::Transient { .. }
            | SendError::Throttled { .. }
            | SendError::Doubtful { .. }
            | SendError::Broken { .. } => {}
        }
        self.broken(reason, moment);
        self.hold_until = Some(now + retry::LAST_STEP);
        // The channel waits, not the row: whatever matters most then is the probe.
        Next::Again(Duration::ZERO)
    }

    fn refused(
        &mut self,
        scope: Scope,
        reason: &str,
        attempt: &Attempt<'_>,
        moment: FailedAt,
        own_step: Duration,
    ) -> Next {
        let severity = attempt.severity();
        let refusal = Refusal { severity, since: moment.at, reason: reason.to_owned() };
        if self.is_broken() {
            // It takes logins and senders: the others are tried at once, not in half an hour.
            self.broken(reason, moment);
            self.hold_until = None;
        }
        match scope {
            Scope::Message => {
                let kind = attempt.news.incident.kind;
                let known = self.messages.entry(attempt.place());
                let known = known.or_insert(RefusedMessage { kind, n_attempts: 0, refusal });
                known.n_attempts = known.n_attempts.max(attempt.n_attempts);
                reason.clone_into(&mut known.refusal.reason);
                self.n_refused += 1;
                self.refused_incidents.insert(attempt.news.incident.id);
                if self.refused_incidents.len() >= MIN_REFUSED_INCIDENTS
                    && self.n_refused >= MAX_DOUBTS
                {
                    self.broken(reason, moment);
                }
                Next::Again(own_step)
            }
            Scope::Recipient => {
                let known = self.refused_recipients.entry(attempt.recipient.to_owned());
                let known = known.or_insert(RefusedRecipient { is_given_up: false, refusal });
                known.refusal.severity = known.refusal.severity.max(severity);
                reason.clone_into(&mut known.refusal.reason);
                if self.recipients.iter().all(|it| self.refused_recipients.contains_key(it)) {
                    self.broken(reason, moment);
                    self.hold_until = Some(moment.instant + retry::LAST_STEP);
                    return Next::Again(Duration::ZERO);
                }
                if attempt.n_attempts < MAX_DOUBTS || self.is_broken() {
                    return Next::Again(own_step);
                }
                if let Some(known) = self.refused_recipients.get_mut(attempt.recipient) {
                    known.is_given_up = true;
                }
                Next::GiveUp
            }
        }
    }

    fn failing(&mut self, reason: &str, moment: FailedAt) {
        let since = self.since(moment);
        self.state = ChannelState::Failing { since, reason: reason.to_owned() };
    }

    fn broken(&mut self, reason: &str, moment: FailedAt) {
        let since = self.since(moment);
        self.state = ChannelState::Broken { since, reason: reason.to_owned() };
    }

    fn since(&mut self, moment: FailedAt) -> DateTime<Utc> {
        self.failing_since.get_or_insert(moment.instant);
        self.state.failing_since().unwrap_or(moment.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::channel::Arrival;
    use crate::alert::queue::tests::news;
    use crate::watch::Change;

    fn error(class: &str) -> SendError {
        let reason = class.to_owned();
        match class {
            "transient" => SendError::Transient { reason, arrival: Arrival::No },
            "throttled" => SendError::Throttled { reason, retry_after: None, arrival: Arrival::No },
            "doubtful" => SendError::Doubtful { reason },
            "recipient" => SendError::Refused { reason, scope: Scope::Recipient },
            "message" => SendError::Refused { reason, scope: Scope::Message },
            _ => SendError::Broken { reason },
        }
    }

    fn moment() -> FailedAt {
        FailedAt {
            at: DateTime::from_timestamp(1_772_600_400, 0).unwrap(),
            instant: Instant::now(),
        }
    }

    fn fail(health: &mut Health, class: &str, incident: i64, to: &str, n_attempts: u32) -> Next {
        let news = news(incident, 1, Change::Opened);
        let attempt = Attempt { news: &news, recipient: to, n_attempts };
        health.failed(&error(class), class, &attempt, moment(), 0.5)
    }

    fn accept(health: &mut Health, incident: i64, to: &str) {
        let news = news(incident, 1, Change::Opened);
        health.accepted(&Attempt { news: &news, recipient: to, n_attempts: 1 });
    }

    fn one() -> Health {
        Health::new(vec![String::new()])
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_acceptance_ends_a_broken_state_and_every_error_changes_its_reason() {
        for class in ["transient", "throttled", "doubtful", "recipient", "message", "broken"] {
            let mut health = one();
            fail(&mut health, "broken", 1, "", 1);
            fail(&mut health, class, 2, "", 1);
            let ChannelState::Broken { reason, .. } = health.state() else {
                panic!("{class} ended it: {:?}", health.state())
            };
            assert_eq!(reason, class);
            accept(&mut health, 2, "");
            assert_eq!(*health.state(), ChannelState::Working, "{class}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_what_the_error_is_about() {
        let seconds = Duration::from_secs;
        for (class, next, hold) in [
            ("transient", Next::Again(seconds(15)), None),
            ("throttled", Next::Again(seconds(5)), Some(seconds(5))),
            ("doubtful", Next::Again(seconds(5)), Some(seconds(5))),
            ("broken", Next::Again(Duration::ZERO), Some(retry::LAST_STEP)),
            ("message", Next::Again(seconds(15)), None),
            ("recipient", Next::Again(seconds(15)), None),
        ] {
            let mut health = Health::new(vec!["a".into(), "b".into()]);
            let start = Instant::now();
            assert_eq!(fail(&mut health, class, 1, "a", 2), next, "{class}");
            assert_eq!(health.hold_until().map(|it| it - start), hold, "{class}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubtful_channel_is_broken_at_the_third_refusal_whosever_message_it_was() {
        let mut health = one();
        for incident in 1..3 {
            fail(&mut health, "doubtful", incident, "", 1);
            assert!(!health.is_broken());
        }
        fail(&mut health, "doubtful", 3, "", 1);
        assert!(health.is_broken());
    }

    #[tokio::test(start_paused = true)]
    async fn one_refused_message_never_breaks_a_channel_and_two_with_nothing_accepted_do() {
        let mut health = one();
        for n_attempts in 1..20 {
            let next = fail(&mut health, "message", 1, "", n_attempts);
            assert_eq!(next, Next::Again(retry::step(n_attempts, 0.5)));
            assert!(!health.is_broken() && health.hold_until().is_none());
        }
        let refusals = health.refusals();
        assert!(refusals[&RefusedSubject::Messages].reason.contains("incident 1"), "{refusals:?}");
        accept(&mut health, 2, "");
        fail(&mut health, "message", 1, "", 20);
        assert!(!health.is_broken(), "something was accepted since");
        fail(&mut health, "message", 3, "", 1);
        fail(&mut health, "message", 3, "", 2);
        assert!(health.is_broken());
        assert_eq!(health.hold_until(), None, "who refuses messages is there for the next one");
        health.keep_only(|_, _| false);
        assert!(health.refusals().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_recipient_is_given_up_after_three_refusals_and_all_of_them_are_the_channel() {
        let mut health = Health::new(vec!["a".into(), "b".into()]);
        for n_attempts in 1..3 {
            assert!(matches!(fail(&mut health, "recipient", 1, "a", n_attempts), Next::Again(_)));
        }
        assert!(health.refusals().is_empty());
        assert_eq!(fail(&mut health, "recipient", 1, "a", 3), Next::GiveUp);
        let subject = RefusedSubject::Recipient("a".into());
        assert!(health.refusals().contains_key(&subject));
        assert!(!health.is_broken());
        assert_eq!(fail(&mut health, "recipient", 1, "b", 3), Next::Again(Duration::ZERO));
        assert!(health.is_broken(), "nobody is left");
        accept(&mut health, 1, "a");
        assert!(!health.refusals().contains_key(&subject));
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_how_long_to_wait_is_waited_for_so_long() {
        let news = news(1, 1, Change::Opened);
        let attempt = Attempt { news: &news, recipient: "", n_attempts: 8 };
        for (asked, waits) in [(1, 5), (60, 60)] {
            let error = SendError::Throttled {
                reason: "slow".into(),
                retry_after: Some(Duration::from_secs(asked)),
                arrival: Arrival::No,
            };
            let next = one().failed(&error, "slow", &attempt, moment(), 0.5);
            assert_eq!(next, Next::Again(Duration::from_secs(waits)));
        }
    }
}
