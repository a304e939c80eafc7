//! A store, a clock and scripted channels, for the stories about delivery.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lookout::alert::channel::{Arrival, Channel, ConfiguredChannel, Envelope, Scope, SendError};
use lookout::alert::delivery_health::DeliveryHealth;
use lookout::alert::dispatcher::{Dispatcher, Handle, Stepped};
use lookout::alert::health::ChannelState;
use lookout::alert::message::{Annotation, Message};
use lookout::alert::outbox::Outbox;
use lookout::clock::{Clock, SimClock};
use lookout::redact::Redactor;
use lookout::store::GuardDb;
use lookout::watch::incidents::{
    FaultKey, FaultWrite, IncidentWrite, Incidents, Outcome, Recorded,
};
use lookout::watch::{Facts, IncidentKind, News, Severity};

use crate::alert::news::at;

/// What a scripted channel does with an attempt.
pub(crate) enum Act {
    Accept,
    Fail(SendError),
    /// Takes the message, and then never answers.
    AcceptAndHang,
}

/// Why this message to this recipient is refused, if it is.
type Refuses = Box<dyn Fn(&Message, &str) -> Option<SendError> + Send>;

/// A channel that does what it is told, and remembers what it got.
pub(crate) struct Script {
    acts: Mutex<VecDeque<Act>>,
    /// Refused whatever else is said: what `refuses` says of a message and its recipient.
    refuses: Mutex<Option<Refuses>>,
    otherwise: Mutex<Option<SendError>>,
    to: Vec<String>,
    pub(crate) attempts: Mutex<Vec<(Message, Envelope)>>,
    accepted: Mutex<Vec<(Message, Envelope)>>,
}

impl Script {
    /// Accepts everything that the script says nothing of.
    pub(crate) fn accepting(acts: Vec<Act>) -> Arc<Self> {
        Self::to(&[""], acts)
    }

    pub(crate) fn to(recipients: &[&str], acts: Vec<Act>) -> Arc<Self> {
        Arc::new(Self {
            acts: Mutex::new(acts.into()),
            refuses: Mutex::new(None),
            otherwise: Mutex::new(None),
            to: recipients.iter().map(|it| (*it).to_owned()).collect(),
            attempts: Mutex::default(),
            accepted: Mutex::default(),
        })
    }

    /// Fails like this until told otherwise.
    pub(crate) fn failing(error: SendError) -> Arc<Self> {
        let script = Self::accepting(vec![]);
        script.will_fail(error);
        script
    }

    /// Refuses some and takes the rest.
    pub(crate) fn will_refuse(
        &self,
        which: impl Fn(&Message, &str) -> Option<SendError> + Send + 'static,
    ) {
        *self.refuses.lock().unwrap() = Some(Box::new(which));
    }

    pub(crate) fn will_fail(&self, error: SendError) {
        *self.otherwise.lock().unwrap() = Some(error);
    }

    pub(crate) fn will_accept(&self) {
        *self.otherwise.lock().unwrap() = None;
    }

    pub(crate) fn n_attempts(&self) -> usize {
        self.attempts.lock().unwrap().len()
    }

    /// Headlines of what was accepted.
    pub(crate) fn headlines(&self) -> Vec<String> {
        self.accepted.lock().unwrap().iter().map(|(it, _)| it.headline()).collect()
    }

    /// The n-th that was accepted.
    pub(crate) fn accepted(&self, n: usize) -> (Message, Envelope) {
        self.accepted.lock().unwrap()[n].clone()
    }

    pub(crate) fn n_accepted(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }
}

#[async_trait]
impl Channel for Script {
    fn label(&self) -> &'static str {
        "script"
    }

    fn recipients(&self) -> Vec<String> {
        self.to.clone()
    }

    async fn send(&self, message: &Message, envelope: &Envelope) -> Result<(), SendError> {
        self.attempts.lock().unwrap().push((message.clone(), envelope.clone()));
        let refused =
            self.refuses.lock().unwrap().as_ref().and_then(|it| it(message, &envelope.recipient));
        if let Some(error) = refused {
            return Err(error);
        }
        let act = self.acts.lock().unwrap().pop_front();
        let act = act.unwrap_or_else(|| {
            self.otherwise.lock().unwrap().clone().map_or(Act::Accept, Act::Fail)
        });
        match act {
            Act::Fail(error) => return Err(error),
            Act::Accept => self.accepted.lock().unwrap().push((message.clone(), envelope.clone())),
            Act::AcceptAndHang => {
                self.accepted.lock().unwrap().push((message.clone(), envelope.clone()));
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    }
}

pub(crate) fn refused_connection() -> SendError {
    SendError::Transient { reason: "connection refused".into(), arrival: Arrival::No }
}

pub(crate) fn broken() -> SendError {
    SendError::Broken { reason: "Slack refused: 404 no_service".into() }
}

pub(crate) fn refused(scope: Scope) -> SendError {
    SendError::Refused { reason: "(550) no".into(), scope }
}

pub(crate) fn channel(name: &str, script: &Arc<Script>) -> ConfiguredChannel {
    ConfiguredChannel {
        name: name.into(),
        severity: Severity::Info,
        fallback: None,
        channel: Arc::clone(script) as Arc<dyn Channel>,
    }
}

/// One store, one clock, and the dispatcher that works on them.
pub(crate) struct World {
    pub(crate) db: GuardDb,
    pub(crate) clock: Arc<SimClock>,
    channels: Vec<ConfiguredChannel>,
    dispatcher: Dispatcher,
    delivery_health: Option<DeliveryHealth>,
}

impl World {
    pub(crate) fn new(channels: Vec<ConfiguredChannel>) -> Self {
        let db = GuardDb::in_memory().unwrap();
        let clock = Arc::new(SimClock::new(at("2026-11-22T05:12:00Z")));
        let dispatcher = dispatcher(&db, &clock, &channels);
        Self { db, clock, channels, dispatcher, delivery_health: None }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// As after `kill -9` and a new start.
    pub(crate) fn restart(&mut self) {
        self.dispatcher = dispatcher(&self.db, &self.clock, &self.channels);
    }

    pub(crate) fn restart_with(&mut self, channels: Vec<ConfiguredChannel>) {
        self.channels = channels;
        self.restart();
    }

    /// From now on, until a restart, there are incidents for channels that do not get through.
    pub(crate) fn report_channels(&mut self) {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let incidents = Arc::new(self.db.clone());
        self.delivery_health =
            Some(DeliveryHealth::new(self.handle(), incidents, clock, "prod".into()));
    }

    pub(crate) fn handle(&self) -> Handle {
        self.dispatcher.handle()
    }

    pub(crate) fn state(&self, n: usize) -> ChannelState {
        self.handle().channel_states()[n].state.clone()
    }

    /// The dispatcher itself, to run it; a fresh one takes its place.
    pub(crate) fn take_dispatcher(&mut self) -> Dispatcher {
        let fresh = dispatcher(&self.db, &self.clock, &self.channels);
        std::mem::replace(&mut self.dispatcher, fresh)
    }

    pub(crate) async fn write(&self, write: IncidentWrite) -> Vec<News> {
        let outcome = Outcome { incidents: vec![write], ..Outcome::default() };
        match self.db.record(outcome, self.now()).await.unwrap() {
            Recorded::Written(news) => news,
            Recorded::AlreadyJudged => panic!("no slot is judged here"),
        }
    }

    pub(crate) async fn open(&self, severity: Severity) -> News {
        self.open_for("image-review", severity).await
    }

    pub(crate) async fn open_for(&self, schedule: &str, severity: Severity) -> News {
        let facts = Facts { due_at: Some(at("2026-11-22T05:00:00Z")), ..Facts::default() };
        let fault =
            FaultWrite { key: key(schedule), severity, occasion: None, facts, notify: vec![] };
        self.write(IncidentWrite::Fault(Box::new(fault))).await.remove(0)
    }

    pub(crate) async fn resolve(&self) {
        let key = key("image-review").text();
        let news = self.write(IncidentWrite::Over { key, facts: Box::default() }).await;
        assert_eq!(news.len(), 1);
    }

    /// Steps until nothing is due; a second between messages passes.
    pub(crate) async fn settle(&mut self) {
        for _ in 0..500 {
            if let Some(delivery_health) = &mut self.delivery_health {
                delivery_health.step().await.unwrap();
            }
            match self.dispatcher.step().await {
                Stepped::Busy => {}
                Stepped::Idle(wait) if wait < Duration::from_secs(1) => {
                    tokio::time::advance(wait).await;
                }
                Stepped::Idle(_) => {
                    // Twice idle with a second between: nothing was only paced.
                    tokio::time::advance(Duration::from_secs(1)).await;
                    if self.dispatcher.step().await != Stepped::Busy {
                        return;
                    }
                }
            }
        }
        panic!("it does not come to rest");
    }

    /// Lets time pass in pieces of ten seconds.
    pub(crate) async fn pass(&mut self, length: Duration) {
        let end = tokio::time::Instant::now() + length;
        while tokio::time::Instant::now() < end {
            tokio::time::advance(Duration::from_secs(10)).await;
            self.settle().await;
        }
    }

    /// One step, cut off as by `kill -9` while it waits for an answer.
    pub(crate) async fn step_and_die(&mut self) {
        let step = async { while self.dispatcher.step().await == Stepped::Busy {} };
        assert!(tokio::time::timeout(Duration::from_secs(5), step).await.is_err(), "nothing hung");
        self.restart();
    }

    /// How many deliveries wait and how many are dead.
    pub(crate) async fn backlog(&self) -> (u64, u64) {
        let backlog = self.db.backlog().await.unwrap();
        (backlog.waiting, backlog.dead)
    }

    /// Makes the store unwritable, or writable again.
    pub(crate) async fn write_protect(&self, on: &'static str) {
        self.db.read(move |it| it.pragma_update(None, "query_only", on)).await.unwrap();
    }
}

fn dispatcher(db: &GuardDb, clock: &Arc<SimClock>, channels: &[ConfiguredChannel]) -> Dispatcher {
    let redactor = Arc::new(Redactor::default());
    Dispatcher::new(
        Arc::new(db.clone()),
        channels.to_vec(),
        Arc::clone(clock) as Arc<dyn Clock>,
        redactor,
    )
}

fn key(schedule: &str) -> FaultKey {
    FaultKey::new("prod", Some(schedule), IncidentKind::RunMissed)
}

pub(crate) fn is_marked_as_repeat(message: &Message) -> bool {
    message.annotations.contains(&Annotation::PossibleRepeat)
}

/// Marks in words, for looking into.
pub(crate) fn notes(message: &Message) -> String {
    message.annotations.iter().map(Annotation::in_words).collect::<Vec<_>>().join(" ")
}
