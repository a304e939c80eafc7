//! What a message is besides its kind: who has heard of it before, other time zones, what each channel
//! makes of it, and what hostile texts and secrets in it can't do.

#![expect(clippy::too_many_lines, reason = "a snapshot stands in its test")]

use lookout::alert::message::{self, AlreadyNotified, Annotation, Message, compose};
use lookout::redact::Redactor;
use lookout::watch::{Change, Facts, INCIDENT_KINDS, IncidentKind, News, Severity};

use serde_json::Value;

use crate::alert::messages::told;
use crate::alert::news::{at, opened, reminder, resolved};

fn unreachable() -> News {
    let mut news = opened(IncidentKind::ProviderUnavailable);
    news.facts.status = None;
    news.facts.detail = Some(
        "Timeout of 600.0s exceeded, last exception: 503 failed to connect to all addresses".into(),
    );
    news
}

#[test]
fn what_could_not_be_reached_is_never_called_a_503() {
    let news = unreachable();
    let message = compose(&news, AlreadyNotified::No(&news), vec![]);
    insta::assert_snapshot!(message::plain(&message), @"
    WARNING prod: Gemini could not be reached (incident 142)

    214 of 230 calls failed since 05:04:11 UTC. No connection, or no answer:
    Gemini or the network in between is down. 640 images were given back without
    having lost a try, and will be taken again.

    Do now
      1. Nothing, if it passes. To look for yourself:
           lookout doctor

    Started: 05:00 UTC
    Failed: 214 of 230 calls
    Result: 640 given back

    Last error
      | Timeout of 600.0s exceeded, last exception: failed to connect to all
      | addresses

    Lookout tells you when it works again. The next run starts at 06:00 UTC.

    --
    Incident 142 · prod/image-review/provider_unavailable · message 1
    No more reminders: lookout incident ack 142
    ");
    for text in [
        message::plain(&message),
        message::html(&message),
        message::slack(&message).to_string(),
        message::json(&message, "msg_1", news.at).to_string(),
    ] {
        assert!(!text.contains("503"), "{text}");
    }
}

#[test]
fn a_reminder_says_how_long_and_how_many() {
    let news = reminder(&opened(IncidentKind::SignalMissing));
    let message = compose(&news, AlreadyNotified::Yes, vec![]);
    insta::assert_snapshot!(message.headline(), @"CRITICAL, still open after 4 h, prod: the 05:00 run of image-review ended without saying that it was done (incident 142)");
    assert!(message.lead.join(" ").contains("5 runs are affected since 05:12 UTC."));
}

#[test]
fn what_got_worse_says_so_unless_nobody_heard_of_it_before() {
    let mut news = opened(IncidentKind::RunTimedOut);
    news.change = Change::Raised;
    news.incident.severity = Severity::Critical;
    let raised = compose(&news, AlreadyNotified::Yes, vec![]).headline();
    insta::assert_snapshot!(raised, @"CRITICAL, worse than before, prod: the 05:00 run of image-review did not end in time and was stopped (incident 142)");
    let first = compose(&news, AlreadyNotified::No(&news), vec![]).headline();
    insta::assert_snapshot!(first, @"CRITICAL prod: the 05:00 run of image-review did not end in time and was stopped (incident 142)");
}

#[test]
fn beginning_and_end_are_told_at_once_to_whom_has_not_heard_of_the_beginning() {
    let opening = opened(IncidentKind::ProviderUnavailable);
    let end = resolved(&opening);
    let late = Annotation::Late {
        by: chrono::TimeDelta::minutes(110),
        because: Some("the mail server could not be reached: connection refused".into()),
    };
    let message =
        compose(&end, AlreadyNotified::No(&opening), vec![late, Annotation::PossibleRepeat]);
    insta::assert_snapshot!(message::plain(&message), @"
    RESOLVED prod: Gemini answers 503 again and again; that is over (incident 142)

    It began at 05:12 UTC and was over at 06:24 UTC, after 1 h 12 min. 2 runs were
    affected.

    Started: 05:00 UTC
    Failed: 214 of 230 calls
    Result: 640 given back

    Last error
      | 503 UNAVAILABLE: The model is overloaded. Please try again later.

    * Told late by 1 h 50 min: the mail server could not be reached: connection
      refused.
    * Possible repeat: an earlier attempt to send this may have arrived.

    --
    Incident 142 · prod/image-review/provider_unavailable · message 2
    ");
}

#[test]
fn other_zones_are_told_in_their_time_and_in_utc() {
    let mut news = opened(IncidentKind::RunMissed);
    news.facts.timezone = Some("Europe/Berlin".into());
    let message = compose(&news, AlreadyNotified::No(&news), vec![]);
    insta::assert_snapshot!(message::plain(&message), @"
    CRITICAL prod: the 06:00 run of image-review did not start (incident 142)

    It was due at 06:00 CET (05:00 UTC) and had not started by 06:12 CET (05:12
    UTC). Its images wait; nothing is lost.

    Do now
      1. See what is running and what is in the way:
           lookout status
      2. Start it by hand:
           lookout run image-review

    Due: 06:00 CET (05:00 UTC)

    The next run starts at 07:00 CET (06:00 UTC).

    --
    Incident 142 · prod/image-review/run_missed · message 1
    No more reminders: lookout incident ack 142
    ");
}

#[test]
fn the_subject_is_the_same_for_all_messages_of_an_incident() {
    for kind in INCIDENT_KINDS {
        let opening = opened(kind);
        let first = compose(&opening, AlreadyNotified::No(&opening), vec![]);
        for later in [reminder(&opening), resolved(&opening)] {
            assert_eq!(compose(&later, AlreadyNotified::Yes, vec![]).subject, first.subject);
        }
    }
}

#[test]
fn no_message_uses_words_of_the_inside_or_is_wider_than_a_mail() {
    for kind in INCIDENT_KINDS {
        let text = told(kind);
        for word in ["slot", "verdict", "outbox", "dispatcher", "keeper"] {
            // The incident's key may say `outbox_degraded`.
            let prose: Vec<&str> = text.lines().filter(|it| !it.contains(" · prod/")).collect();
            assert!(!prose.join(" ").contains(word), "{word} in:\n{text}");
        }
        for line in text.lines().skip(1) {
            assert!(line.chars().count() <= 78, "{line}");
        }
    }
}

#[test]
fn every_mark_says_what_is_peculiar() {
    let annotations = [
        Annotation::PossibleRepeat,
        Annotation::Late { by: chrono::TimeDelta::hours(2), because: None },
        Annotation::InsteadOf {
            because: "team-slack could not deliver it: Slack refused: 404".into(),
        },
        Annotation::OthersTold { channels: vec!["oncall".into(), "ops".into()] },
        Annotation::NotRecorded,
        Annotation::HeldBack { n: 3 },
    ];
    let words: Vec<String> = annotations.iter().map(Annotation::in_words).collect();
    insta::assert_snapshot!(words.join("\n"), @"
    Possible repeat: an earlier attempt to send this may have arrived.
    Told late by 2 h.
    You get this because team-slack could not deliver it: Slack refused: 404.
    Told meanwhile: oncall, ops.
    Not recorded: Lookout can't write to its state directory. This message may come again.
    3 more messages are held back so that you are not flooded. All of it: lookout incidents
    ");
}

#[test]
fn slack_gets_a_header_a_coloured_body_and_literal_quotes() {
    let opening = opened(IncidentKind::ProviderUnavailable);
    let message =
        compose(&opening, AlreadyNotified::No(&opening), vec![Annotation::PossibleRepeat]);
    let json = serde_json::to_string_pretty(&message::slack(&message)).unwrap();
    insta::assert_snapshot!(json, @r##"
    {
      "attachments": [
        {
          "blocks": [
            {
              "text": {
                "text": "214 of 230 calls failed since 05:04:11 UTC. The fault is on its side, not with your key or your images. 640 images were given back without having lost a try, and will be taken again.",
                "type": "mrkdwn",
                "verbatim": true
              },
              "type": "section"
            },
            {
              "text": {
                "text": "*Do now*\n1. Nothing, if it passes. To look for yourself: `lookout doctor`",
                "type": "mrkdwn",
                "verbatim": true
              },
              "type": "section"
            },
            {
              "fields": [
                {
                  "text": "*Started*\n05:00 UTC",
                  "type": "mrkdwn",
                  "verbatim": true
                },
                {
                  "text": "*Failed*\n214 of 230 calls",
                  "type": "mrkdwn",
                  "verbatim": true
                },
                {
                  "text": "*Result*\n640 given back",
                  "type": "mrkdwn",
                  "verbatim": true
                }
              ],
              "type": "section"
            },
            {
              "text": {
                "text": "*Last error*",
                "type": "mrkdwn",
                "verbatim": true
              },
              "type": "section"
            },
            {
              "elements": [
                {
                  "elements": [
                    {
                      "text": "503 UNAVAILABLE: The model is overloaded. Please try again later.",
                      "type": "text"
                    }
                  ],
                  "type": "rich_text_preformatted"
                }
              ],
              "type": "rich_text"
            },
            {
              "elements": [
                {
                  "text": "Possible repeat: an earlier attempt to send this may have arrived.",
                  "type": "mrkdwn",
                  "verbatim": true
                }
              ],
              "type": "context"
            },
            {
              "elements": [
                {
                  "text": "Lookout tells you when it works again. The next run starts at 06:00 UTC.",
                  "type": "mrkdwn",
                  "verbatim": true
                }
              ],
              "type": "context"
            },
            {
              "elements": [
                {
                  "text": "prod · Incident 142 · prod/image-review/provider_unavailable · message 1 · no more reminders: lookout incident ack 142",
                  "type": "mrkdwn",
                  "verbatim": true
                }
              ],
              "type": "context"
            }
          ],
          "color": "#b45309",
          "fallback": "WARNING prod: Gemini answers 503 again and again (incident 142)"
        }
      ],
      "blocks": [
        {
          "text": {
            "emoji": false,
            "text": "WARNING · Gemini answers 503 again and again",
            "type": "plain_text"
          },
          "type": "header"
        }
      ],
      "text": "WARNING prod: Gemini answers 503 again and again (incident 142)",
      "unfurl_links": false
    }
    "##);
}

#[test]
fn software_gets_fields() {
    let opening = opened(IncidentKind::SignalMissing);
    let message =
        compose(&opening, AlreadyNotified::No(&opening), vec![Annotation::PossibleRepeat]);
    let json = message::json(&message, "msg_prod_142_1", at("2026-11-22T05:12:01Z"));
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap(), @r#"
    {
      "data": {
        "evidence": [],
        "facts": [
          {
            "label": "Started",
            "value": "05:00 UTC"
          },
          {
            "label": "Ended",
            "value": "05:11:58 UTC"
          }
        ],
        "incident_id": 142,
        "instance": "prod",
        "instead_of": null,
        "key": "prod/image-review/signal_missing",
        "kind": "signal_missing",
        "late_seconds": 0,
        "next": "The next run starts at 06:00 UTC.",
        "notes": [
          "Possible repeat: an earlier attempt to send this may have arrived."
        ],
        "number": 1,
        "opened_at": "2026-11-22T05:12:00Z",
        "possible_repeat": true,
        "resolved_at": null,
        "run": "0199a0c4-5e00-7c3a-9a51-1f2e3d4c5b6a",
        "schedule": "image-review",
        "severity": "critical",
        "state": "open",
        "steps": [
          {
            "command": "lookout runs show 0199a0c4-5e00-7c3a-9a51-1f2e3d4c5b6a --log",
            "text": "See what the run printed:"
          },
          {
            "command": "lookout run image-review",
            "text": "Run it again, if the next run is too far away:"
          }
        ],
        "text": "It ended at 05:11:58 UTC (exit code 0) without saying “Bulk processing completed.”. Its results may be incomplete.",
        "title": "CRITICAL prod: the 05:00 run of image-review ended without saying that it was done (incident 142)"
      },
      "id": "msg_prod_142_1",
      "timestamp": "2026-11-22T05:12:00Z",
      "type": "lookout.incident.opened"
    }
    "#);
}

/// Everything that an error text can try: mentions, links, marks, code fences, HTML, headers.
const HOSTILE: &str =
    "<!channel> <http://evil|bank> *b* ``` & <img src=x onerror=alert(1)>\r\nBcc: a@b";

fn hostile(detail: &str) -> Message {
    let mut news = opened(IncidentKind::RunFailed);
    news.facts.detail = Some(detail.into());
    news.facts.ending = Some(detail.into());
    news.facts.also = vec![detail.into(); 30];
    news.facts.log_tail = vec![detail.into(); 500];
    let news = message::redacted(&news, &Redactor::default());
    compose(&news, AlreadyNotified::No(&news), vec![])
}

/// All strings of a JSON value.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(fields) => fields.values().flat_map(strings).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => vec![],
    }
}

#[test]
fn a_hostile_text_pings_nobody_and_runs_nothing() {
    let message = hostile(HOSTILE);
    let html = message::html(&message);
    assert!(!html.contains("<img"), "{html}");
    assert!(html.contains("&lt;img src=x"), "{html}");
    let slack = message::slack(&message);
    for mrkdwn in mrkdwn_of(&slack) {
        assert!(!mrkdwn.contains("<!"), "{mrkdwn}");
        assert!(!mrkdwn.contains("<http"), "{mrkdwn}");
    }
    assert!(!slack["text"].as_str().unwrap().contains("<!channel>"));
    assert!(!message.subject.contains('\n') && !message.headline().contains('\n'));
}

fn mrkdwn_of(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().flat_map(mrkdwn_of).collect(),
        Value::Object(fields) => {
            if fields.get("type").and_then(|it| it.as_str()) == Some("mrkdwn") {
                return strings(&fields["text"]);
            }
            fields.values().flat_map(mrkdwn_of).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![],
    }
}

#[test]
fn long_and_odd_texts_keep_every_limit() {
    let odd = format!("{}\u{0}{}{}", "&".repeat(3000), "😀".repeat(3000), "x".repeat(1_000_000));
    for text in [odd.as_str(), HOSTILE, &"<".repeat(5000), &"a b ".repeat(9000)] {
        let message = hostile(text);
        let slack = message::slack(&message);
        let blocks = slack["attachments"][0]["blocks"].as_array().unwrap();
        let header = slack["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(header.chars().count() <= 150 && !header.is_empty());
        assert!(blocks.len() <= 40);
        for text in mrkdwn_of(&slack) {
            assert!(text.chars().count() <= 2800 && !text.is_empty(), "{text}");
            assert!(!text.ends_with("&am") && !text.ends_with("&a…") && !text.contains('\0'));
        }
        let n_chars: usize = mrkdwn_of(&slack).iter().map(|it| it.chars().count()).sum();
        let quoted: usize = message.evidence.iter().map(|it| it.text.chars().count()).sum();
        assert!(n_chars + quoted.min(3000) + header.len() <= 8000, "{n_chars} + {quoted}");
        assert!(message::plain(&message).len() + message::html(&message).len() < 100_000);
        let json = message::json(&message, "msg_1", at("2026-11-22T05:12:00Z")).to_string();
        assert!(json.len() < 20_000, "{}", json.len());
    }
}

#[test]
fn secrets_that_slipped_into_facts_do_not_leave() {
    let mut news = opened(IncidentKind::RunFailed);
    let key = format!("AIza{}", "q".repeat(35));
    let slip = format!("POST https://hooks.slack.com/services/T0/B0/xyz?key={key} hunter-two-22");
    news.facts = Facts {
        detail: Some(slip.clone()),
        ending: Some(slip.clone()),
        also: vec![slip.clone()],
        log_tail: vec![slip],
        ..news.facts
    };
    let redactor = Redactor::new([lookout::secret::Secret::new("hunter-two-22")]);
    let news = message::redacted(&news, &redactor);
    let message = compose(&news, AlreadyNotified::No(&news), vec![]);
    for text in [
        format!("{message:?}"),
        message::plain(&message),
        message::html(&message),
        message::slack(&message).to_string(),
    ] {
        for secret in [key.as_str(), "T0/B0/xyz", "hunter-two-22"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
