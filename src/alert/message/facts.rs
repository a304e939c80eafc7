//! What a message needs from its news, in words: names, times, counts.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::words::{self, Times};
use super::{Evidence, Step};
use crate::watch::{Facts, Incident, IncidentKind, News};

/// Names of totals in the order people care about, and what they are called.
const COUNTS: [(&str, &str); 5] = [
    ("succeeded", "reviewed"),
    ("errored", "in error"),
    ("blocked", "blocked by the provider"),
    ("returned", "given back"),
    ("remaining", "left"),
];

/// One piece of news, ready to be told.
pub(super) struct View<'a> {
    pub(super) news: &'a News,
    pub(super) incident: &'a Incident,
    pub(super) facts: &'a Facts,
    pub(super) times: Times,
    /// When it is read, as far as it is known: at the decision, or so much later.
    pub(super) read_at: DateTime<Utc>,
}

impl<'a> View<'a> {
    pub(super) fn new(news: &'a News) -> Self {
        let times = Times::new(news.facts.timezone.as_deref(), news.at);
        Self { news, incident: &news.incident, facts: &news.facts, times, read_at: news.at }
    }

    /// The same, told later than it was decided.
    pub(super) fn late(self, by: TimeDelta) -> Self {
        Self { read_at: self.news.at + by, ..self }
    }

    /// Since when: what was seen may have begun before it was an incident.
    pub(super) fn began_at(&self) -> DateTime<Utc> {
        let opened_at = self.incident.opened_at;
        self.facts.since.map_or(opened_at, |since| since.min(opened_at))
    }

    /// `image-review`, or `the job` where no schedule is concerned.
    pub(super) fn schedule(&self) -> &str {
        self.incident.schedule.as_deref().unwrap_or("the job")
    }

    /// `the 05:00 run of image-review`.
    pub(super) fn run(&self) -> String {
        let of = self.incident.schedule.as_ref().map_or_else(String::new, |it| format!(" of {it}"));
        match self.facts.due_at.map(|due| self.times.of_run(due)) {
            Some((clock, None)) => format!("the {clock} run{of}"),
            Some((clock, Some(day))) => format!("the {clock} run{of} on {day}"),
            None => format!("a run{of}"),
        }
    }

    /// `Gemini`, or `default` if nobody is named.
    pub(super) fn provider(&self, default: &str) -> String {
        let Some(name) = self.facts.provider.as_deref() else {
            return default.to_owned();
        };
        match name.to_ascii_lowercase().as_str() {
            "gemini" => "Gemini".to_owned(),
            "supabase" => "Supabase".to_owned(),
            "s3" => "S3".to_owned(),
            "images" | "image" | "http" => "the image storage".to_owned(),
            "records" | "sqlite" => "the record store".to_owned(),
            _ => name.to_owned(),
        }
    }

    /// `412 of 900 images done`.
    pub(super) fn done(&self) -> Option<String> {
        let unit = match self.facts.unit.as_deref() {
            Some(unit) => format!(" {unit}"),
            None if self.facts.reviews_images => " images".to_owned(),
            None => String::new(),
        };
        match (self.facts.done, self.facts.total) {
            (Some(done), Some(total)) => {
                Some(format!("{} of {}{unit}", words::number(done), words::number(total)))
            }
            (Some(done), None) => Some(format!("{}{unit}", words::number(done))),
            (None, _) => None,
        }
    }

    /// Whether our own budget is what is used up: nobody refused a call.
    pub(super) fn is_budget(&self) -> bool {
        self.facts.provider.as_deref() == Some("budget")
    }

    /// `214 of 230 calls`.
    pub(super) fn failed_calls(&self) -> Option<String> {
        let faults = self.facts.faults.filter(|_| !self.is_budget())?;
        Some(match self.facts.calls {
            Some(calls) => {
                format!("{} of {}", words::number(faults), words::counted(calls, "call", "calls"))
            }
            None => words::counted(faults, "call", "calls"),
        })
    }

    /// How long it has been, or was, open.
    pub(super) fn age(&self) -> TimeDelta {
        self.incident.resolved_at.unwrap_or(self.news.at) - self.began_at()
    }

    /// The table of numbers and times.
    pub(super) fn table(&self) -> Vec<(&'static str, String)> {
        let facts = self.facts;
        let mut rows = Vec::new();
        let mut row = |label, value: Option<String>| {
            if let Some(value) = value {
                rows.push((label, value));
            }
        };
        // A run that started when it was due needs one line for it, not two.
        let due = facts.due_at.filter(|due| facts.started_at != Some(*due));
        row("Due", due.map(|at| self.times.at(at)));
        row("Started", facts.started_at.map(|at| self.times.at(at)));
        row("Ended", facts.ended_at.map(|at| self.times.at(at)));
        row("Last movement", facts.last_activity_at.map(|at| self.times.at(at)));
        row("Done", self.done());
        row("Failed", self.failed_calls());
        row("Result", in_words(&facts.counts));
        row("Cost", facts.usd.map(|usd| format!("${usd:.2}")));
        for also in &facts.also {
            row("Also", Some(also.clone()));
        }
        rows
    }

    /// Quotes of the last error and the last output.
    pub(super) fn evidence(&self) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        // A refusal for good is the headline itself, and an error is quoted once.
        let quoted = self.facts.detail.as_ref().filter(|_| self.facts.action.is_none());
        if let Some(detail) = quoted {
            // gRPC calls a failed connection 503; nobody answered, so we must not say a 503 came.
            let text = if self.facts.status.is_none() {
                detail.replace("503 failed to connect", "failed to connect")
            } else {
                detail.clone()
            };
            let label = match self.incident.kind {
                IncidentKind::LookoutImpaired => "What stands still",
                IncidentKind::ConfigurationBroken => "What is wrong",
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
                | IncidentKind::ImageErrors
                | IncidentKind::ChannelBroken
                | IncidentKind::OutboxDegraded
                | IncidentKind::WasBlind => "Last error",
                IncidentKind::BacklogGrowing => "How it grew",
            };
            evidence.push(Evidence { label, text });
        }
        if !self.facts.log_tail.is_empty() {
            let text = self.facts.log_tail.join("\n");
            evidence.push(Evidence { label: "Last lines of its output", text });
        }
        evidence
    }

    /// What is known of the next try.
    pub(super) fn next(&self) -> Option<String> {
        let next = self.facts.next_due_at.filter(|at| *at > self.read_at)?;
        Some(format!("The next run starts at {}.", self.times.at(next)))
    }

    /// The step that shows everything about the run, or what runs there were.
    pub(super) fn look_at_the_run(&self) -> Step {
        match &self.facts.run {
            Some(run) => {
                step("See what the run printed:", &format!("lookout runs show {run} --log"))
            }
            None => step("See the last runs:", "lookout history"),
        }
    }
}

/// `90 reviewed, 2 in error, 1,240 left`; names we do not know come last, as they are.
fn in_words(counts: &BTreeMap<String, u64>) -> Option<String> {
    let mut parts = Vec::new();
    for (name, words) in COUNTS {
        match counts.get(name) {
            // Nothing reviewed is news, nothing blocked is not.
            Some(0) if name != "succeeded" && name != "remaining" => {}
            Some(n) => parts.push(format!("{} {words}", words::number(*n))),
            None => {}
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// A step with a command.
pub(super) fn step(text: &str, command: &str) -> Step {
    Step { text: text.to_owned(), command: Some(command.to_owned()) }
}

/// A step without one.
pub(super) fn advice(text: &str) -> Step {
    Step { text: text.to_owned(), command: None }
}
