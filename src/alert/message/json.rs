//! A message as JSON for the user's own software.
//!
//! Field names are those of `--json` everywhere else; times are RFC 3339 UTC.
//! Invariant: under 20 kB (Standard Webhooks asks for that), and valid whatever the texts hold.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::{Annotation, Message, plain};
use crate::watch::Change;

/// The body of a webhook. `id` is the delivery's, `at` the time of this attempt.
#[must_use]
pub fn json(message: &Message, id: &str, at: DateTime<Utc>) -> Value {
    let annotations = Annotations::of(message);
    let Some(about) = &message.about else {
        return json!({
            "type": "lookout.test",
            "id": id,
            "timestamp": time(at),
            "data": {
                "instance": message.instance,
                "title": message.headline(),
                "text": plain(message),
            },
        });
    };
    let evidence: Vec<Value> =
        message.evidence.iter().map(|it| json!({"label": it.label, "text": it.text})).collect();
    let steps: Vec<Value> = message
        .steps
        .iter()
        .map(|step| json!({"text": step.text, "command": step.command}))
        .collect();
    let facts: Vec<Value> = message
        .facts
        .iter()
        .map(|(label, value)| json!({"label": label, "value": value}))
        .collect();
    json!({
        "type": format!("lookout.incident.{}", change(about.change)),
        "id": id,
        "timestamp": time(about.at),
        "data": {
            "incident_id": about.incident,
            "number": about.number,
            "key": about.key,
            "instance": message.instance,
            "schedule": about.schedule,
            "run": about.run,
            "kind": about.kind,
            "severity": about.severity,
            "state": if about.resolved_at.is_some() { "resolved" } else { "open" },
            "opened_at": time(about.opened_at),
            "resolved_at": about.resolved_at.map(time),
            "title": message.headline(),
            "text": message.lead.join(" "),
            "facts": facts,
            "evidence": evidence,
            "steps": steps,
            "next": message.by_itself,
            "possible_repeat": annotations.repeat == Repeat::Possible,
            "late_seconds": annotations.late_seconds,
            "instead_of": annotations.instead_of,
            "notes": message.annotations.iter().map(Annotation::in_words).collect::<Vec<_>>(),
        },
    })
}

#[derive(PartialEq, Eq)]
enum Repeat {
    No,
    Possible,
}

/// Marks as fields.
struct Annotations {
    repeat: Repeat,
    late_seconds: i64,
    instead_of: Option<String>,
}

impl Annotations {
    fn of(message: &Message) -> Self {
        let mut annotations = Self { repeat: Repeat::No, late_seconds: 0, instead_of: None };
        for annotation in &message.annotations {
            match annotation {
                Annotation::PossibleRepeat | Annotation::NotRecorded => {
                    annotations.repeat = Repeat::Possible
                }
                Annotation::Late { by, because: _ } => {
                    annotations.late_seconds = by.num_seconds().max(0)
                }
                Annotation::InsteadOf { because } => annotations.instead_of = Some(because.clone()),
                Annotation::OthersTold { channels: _ } | Annotation::HeldBack { n: _ } => {}
            }
        }
        annotations
    }
}

fn change(change: Change) -> &'static str {
    match change {
        Change::Opened => "opened",
        Change::Raised => "raised",
        Change::Reminder => "reminder",
        Change::Resolved => "resolved",
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
