//! News as a message for people: one clear message per change of an incident. Pure.
//!
//! [`compose`] says what happened, since when, with which numbers, what to do now and what Lookout
//! does by itself; the files below put that into the form of each channel. It knows everything
//! from the news alone, so a message can be written hours later without asking anybody.
//! Invariant: texts from outside (errors, output) are only ever in [`Evidence`], or cleaned to one
//! line; every renderer shows them literally.

use chrono::{DateTime, TimeDelta, Utc};

use crate::redact::Redactor;
use crate::watch::{Change, IncidentKind, News, Severity};

mod annotations;
mod facts;
mod html;
mod json;
mod opened;
mod resolved;
mod slack;
mod text;
mod words;

pub use annotations::Annotation;
pub use html::html;
pub use json::json;
pub use slack::{slack, slack_as_text};
pub use text::{console, plain};

/// Longest line of quoted output.
const LINE: usize = 300;
/// Longest quoted error.
const ERROR: usize = 1500;
/// Texts longer than this are not even searched for secrets: the rest is not shown.
const ROUGH_CUT: usize = 16_000;
/// Lines of output quoted.
const LOG_LINES: usize = 12;

/// How it looks and how loudly it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Somebody should look now.
    Critical,
    /// Somebody should look within the day.
    Warning,
    /// Worth knowing.
    Info,
    /// It is over.
    Resolved,
    /// Somebody asked whether this channel works.
    Test,
}

impl Tone {
    fn of(severity: Severity) -> Self {
        match severity {
            Severity::Critical => Self::Critical,
            Severity::Warning => Self::Warning,
            Severity::Info => Self::Info,
        }
    }

    /// `CRITICAL`, …
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Critical => "CRITICAL",
            Self::Warning => "WARNING",
            Self::Info => "INFO",
            Self::Resolved => "RESOLVED",
            Self::Test => "TEST",
        }
    }

    /// One colour for all channels, dark enough for white text on it (WCAG AA).
    #[must_use]
    pub fn colour(self) -> &'static str {
        match self {
            Self::Critical => "#c4281c",
            Self::Warning => "#b45309",
            Self::Info => "#3d5a80",
            Self::Resolved => "#1b7f4b",
            Self::Test => "#5b4b8a",
        }
    }
}

/// Which change of which incident a message tells, for headers, threads and other software.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// The incident's number.
    pub incident: i64,
    /// `<instance>/<schedule>/<kind>`.
    pub key: String,
    /// What it is about.
    pub kind: IncidentKind,
    /// What is new.
    pub change: Change,
    /// 1 for the opening.
    pub number: u32,
    /// Its severity at that moment.
    pub severity: Severity,
    /// Which schedule.
    pub schedule: Option<String>,
    /// Which run.
    pub run: Option<String>,
    /// Since when.
    pub opened_at: DateTime<Utc>,
    /// Until when.
    pub resolved_at: Option<DateTime<Utc>>,
    /// When this was decided.
    pub at: DateTime<Utc>,
}

/// A text from outside, shown literally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// `Last error`.
    pub label: &'static str,
    /// Cleaned and cut, may have several lines.
    pub text: String,
}

/// Something to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// In plain words.
    pub text: String,
    /// To copy, if there is one.
    pub command: Option<String>,
}

/// What people read, before it is put into the form of a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Colour and first word.
    pub tone: Tone,
    /// `CRITICAL`, `WARNING, still open after 4 h`, `RESOLVED`.
    pub state: String,
    /// `[service] instance`.
    pub instance: String,
    /// `the 05:00 run of image-review did not start`.
    pub what: String,
    /// The same for every message of an incident, so that mail programs keep them together.
    pub subject: String,
    /// One to three sentences: effect, since when, likely cause.
    pub lead: Vec<String>,
    /// Numbers and times, with their names.
    pub facts: Vec<(&'static str, String)>,
    /// Quoted from outside.
    pub evidence: Vec<Evidence>,
    /// At most three.
    pub steps: Vec<Step>,
    /// What Lookout does by itself.
    pub by_itself: Option<String>,
    /// Peculiarities of this delivery: a possible repeat, told late, in another's place.
    pub annotations: Vec<Annotation>,
    /// Which change of which incident; `None` for a test.
    pub about: Option<About>,
}

impl Message {
    /// `CRITICAL prod: the 05:00 run of image-review did not start (incident 142)`.
    #[must_use]
    pub fn headline(&self) -> String {
        let about = self.about.as_ref().filter(|it| it.incident != 0);
        let incident = about.map_or_else(String::new, |it| format!(" (incident {})", it.incident));
        format!("{} {}: {}{incident}", self.state, self.instance, self.what)
    }

    /// How to be left in peace: the command, while there is something to be reminded of.
    #[must_use]
    pub fn ack_command(&self) -> Option<String> {
        let about = self.about.as_ref();
        let about = about.filter(|it| it.resolved_at.is_none() && it.incident != 0)?;
        Some(format!("lookout incident ack {}", about.incident))
    }

    /// Where this comes from.
    #[must_use]
    pub fn footer(&self) -> Vec<String> {
        let Some(about) = &self.about else {
            return vec![format!("Lookout on {}", self.instance)];
        };
        if about.incident == 0 {
            return vec![about.key.clone()];
        }
        vec![format!("Incident {} · {} · message {}", about.incident, about.key, about.number)]
    }
}

/// Whether this recipient got an earlier message of the incident.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AlreadyNotified<'a> {
    /// An earlier message of it arrived.
    Yes,
    /// Nothing yet; the opening is this (it may be the news itself).
    No(&'a News),
}

/// Writes the message. `news` must have been through [`redacted`].
#[must_use]
pub fn compose(
    news: &News,
    already_notified: AlreadyNotified<'_>,
    annotations: Vec<Annotation>,
) -> Message {
    let late = annotations.iter().find_map(|it| match it {
        Annotation::Late { by, .. } => Some(*by),
        Annotation::PossibleRepeat
        | Annotation::InsteadOf { .. }
        | Annotation::OthersTold { .. }
        | Annotation::NotRecorded
        | Annotation::HeldBack { .. } => None,
    });
    let view = facts::View::new(news).late(late.unwrap_or_default());
    let incident = &news.incident;
    let mut message = match (news.change, already_notified) {
        (Change::Resolved, AlreadyNotified::Yes) => resolved::resolved(&view),
        (Change::Resolved, AlreadyNotified::No(opening)) => {
            resolved::over_already(&view, &facts::View::new(opening))
        }
        (Change::Opened | Change::Raised | Change::Reminder, AlreadyNotified::Yes) => {
            opened::still(&view)
        }
        (Change::Opened | Change::Raised | Change::Reminder, AlreadyNotified::No(_)) => {
            opened::opened(&view)
        }
    };
    message.annotations = annotations;
    message.about = Some(About {
        incident: incident.id,
        key: incident.key.clone(),
        kind: incident.kind,
        change: news.change,
        number: news.number,
        severity: incident.severity,
        schedule: incident.schedule.clone(),
        run: news.facts.run.clone(),
        opened_at: incident.opened_at,
        resolved_at: incident.resolved_at,
        at: news.at,
    });
    message
}

/// The message of `lookout alert test`.
#[must_use]
pub fn test(instance: &str, channel: &str) -> Message {
    Message {
        tone: Tone::Test,
        state: Tone::Test.word().to_owned(),
        instance: instance.to_owned(),
        what: format!("messages by {channel} arrive"),
        subject: format!("Lookout {instance}: test of {channel}"),
        lead: vec![
            "Somebody ran this command to see whether this channel works. It does: you are \
             reading it."
                .to_owned(),
        ],
        facts: Vec::new(),
        evidence: Vec::new(),
        steps: vec![Step {
            text: "Nothing to do. This is how it was sent:".to_owned(),
            command: Some(format!("lookout alert test {channel}")),
        }],
        by_itself: None,
        annotations: Vec::new(),
        about: None,
    }
}

/// The news with every text from outside redacted once more, cleaned and cut: facts are redacted
/// where they are made, but what leaves the machine goes through the redactor in any case.
#[must_use]
pub fn redacted(news: &News, redactor: &Redactor) -> News {
    let mut news = news.clone();
    // Far more than is shown, so that a secret at this cut is gone after the next one.
    let redact = |text: &str| redactor.redact(&words::cut(text, ROUGH_CUT)).into_owned();
    let line = |text: &str, most: usize| words::cut(&words::one_line(&redact(text)), most);
    let facts = &mut news.facts;
    for text in [
        &mut facts.signal,
        &mut facts.ending,
        &mut facts.unit,
        &mut facts.provider,
        &mut facts.refused,
    ] {
        *text = text.take().map(|text| line(&text, 200)).filter(|text| !text.is_empty());
    }
    facts.detail = facts
        .detail
        .take()
        .map(|text| words::cut(words::clean(&redact(&text)).trim(), ERROR))
        .filter(|text| !text.is_empty());
    facts.also = facts.also.iter().take(5).map(|text| line(text, LINE)).collect();
    // The end of the output tells most.
    let first = facts.log_tail.len().saturating_sub(LOG_LINES);
    facts.log_tail = facts.log_tail[first..]
        .iter()
        .map(|text| words::cut(words::clean(&redact(text)).trim_end(), LINE))
        .collect();
    news
}

/// `12 min`, for logs and tables of others.
#[must_use]
pub fn in_words(length: TimeDelta) -> String {
    words::duration(length)
}
