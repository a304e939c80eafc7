//! News as the watchdog writes them, for the stories about messages.

#![expect(clippy::too_many_lines, reason = "one table of facts by kind")]

use chrono::{DateTime, TimeDelta, Utc};
use lookout::watch::{
    Change, Facts, Incident, IncidentKind, IncidentState, News, Severity, Verdict,
};

/// A time.
pub(crate) fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
}

const RUN: &str = "0199a0c4-5e00-7c3a-9a51-1f2e3d4c5b6a";

/// The opening of incident 142 of this kind, on the 05:00 run.
pub(crate) fn opened(kind: IncidentKind) -> News {
    let opened_at = at("2026-11-22T05:12:00Z");
    News {
        id: 1,
        incident: Incident {
            id: 142,
            key: format!("prod/image-review/{kind}"),
            instance: "prod".into(),
            schedule: Some("image-review".into()),
            kind,
            severity: severity(kind),
            state: IncidentState::Open,
            opened_at,
            resolved_at: None,
            runs_affected: 1,
        },
        change: Change::Opened,
        number: 1,
        at: opened_at,
        notify: vec![],
        facts: Facts {
            due_at: Some(at("2026-11-22T05:00:00Z")),
            timezone: Some("UTC".into()),
            run: Some(RUN.into()),
            next_due_at: Some(at("2026-11-22T06:00:00Z")),
            reviews_images: true,
            ..facts(kind)
        },
    }
}

/// The end of the same incident, 1 h 12 min later.
pub(crate) fn resolved(opening: &News) -> News {
    let mut news = opening.clone();
    news.id = 2;
    news.change = Change::Resolved;
    news.number = 2;
    news.at = opening.at + TimeDelta::minutes(72);
    news.incident.state = IncidentState::Resolved;
    news.incident.resolved_at = Some(news.at);
    news.incident.runs_affected = 2;
    news.facts = Facts {
        due_at: Some(at("2026-11-22T06:00:00Z")),
        timezone: opening.facts.timezone.clone(),
        run: Some(RUN.into()),
        provider: opening.facts.provider.clone(),
        started_at: Some(at("2026-11-22T06:00:00Z")),
        ended_at: Some(news.at),
        counts: [("succeeded", 1050), ("errored", 0), ("remaining", 0)].map(own).into(),
        usd: Some(0.63),
        ..Facts::default()
    };
    news
}

/// Still there, four hours later.
pub(crate) fn reminder(opening: &News) -> News {
    let mut news = opening.clone();
    news.id = 3;
    news.change = Change::Reminder;
    news.number = 2;
    news.at = opening.at + TimeDelta::hours(4);
    news.incident.runs_affected = 5;
    news
}

fn severity(kind: IncidentKind) -> Severity {
    match kind {
        IncidentKind::RunStalled
        | IncidentKind::RunTimedOut
        | IncidentKind::ProviderUnavailable
        | IncidentKind::ImageErrors
        | IncidentKind::LookoutImpaired
        | IncidentKind::ConfigurationBroken
        | IncidentKind::BacklogGrowing => Severity::Warning,
        IncidentKind::WasBlind => Severity::Info,
        IncidentKind::RunMissed
        | IncidentKind::SignalMissing
        | IncidentKind::RunFailed
        | IncidentKind::ImagesUnavailable
        | IncidentKind::RecordsUnavailable
        | IncidentKind::CredentialsRejected
        | IncidentKind::QuotaExhausted
        | IncidentKind::ChannelBroken
        | IncidentKind::OutboxDegraded => Severity::Critical,
    }
}

fn own((name, n): (&str, u64)) -> (String, u64) {
    (name.to_owned(), n)
}

fn facts(kind: IncidentKind) -> Facts {
    let text = |text: &str| Some(text.to_owned());
    let started = Facts {
        started_at: Some(at("2026-11-22T05:00:00Z")),
        time_box_seconds: Some(45 * 60),
        ..Facts::default()
    };
    let ended = Facts { ended_at: Some(at("2026-11-22T05:11:58Z")), ..started.clone() };
    match kind {
        IncidentKind::RunMissed => Facts { run: None, ..Facts::default() },
        IncidentKind::RunStalled => Facts {
            done: Some(412),
            total: Some(900),
            last_activity_at: Some(at("2026-11-22T05:01:40Z")),
            log_tail: vec!["image 412 of 900".into(), "waiting for an answer".into()],
            ..started
        },
        IncidentKind::RunTimedOut => {
            Facts { done: Some(700), total: Some(900), verdict: Some(Verdict::TimedOut), ..ended }
        }
        IncidentKind::SignalMissing => Facts {
            signal: text("Bulk processing completed."),
            ending: text("exit code 0"),
            verdict: Some(Verdict::NoSignal),
            ..ended
        },
        IncidentKind::RunFailed => {
            Facts { ending: text("killed by signal 9"), verdict: Some(Verdict::Failed), ..ended }
        }
        IncidentKind::ProviderUnavailable => Facts {
            provider: text("gemini"),
            status: Some(503),
            faults: Some(214),
            calls: Some(230),
            since: Some(at("2026-11-22T05:04:11Z")),
            counts: [("returned", 640)].map(own).into(),
            detail: text("503 UNAVAILABLE: The model is overloaded. Please try again later."),
            ..started
        },
        IncidentKind::ImagesUnavailable => Facts {
            provider: text("images"),
            status: Some(403),
            faults: Some(40),
            calls: Some(40),
            detail: text("403 AccessDenied"),
            ..started
        },
        IncidentKind::RecordsUnavailable => Facts {
            provider: text("supabase"),
            since: Some(at("2026-11-22T05:04:11Z")),
            detail: text("could not be reached: connection refused"),
            ..started
        },
        IncidentKind::CredentialsRejected => Facts {
            provider: text("gemini"),
            status: Some(400),
            detail: text("API key not valid. Please pass a valid API key. [API_KEY_INVALID]"),
            ..ended
        },
        IncidentKind::QuotaExhausted => {
            Facts { provider: text("gemini"), status: Some(429), usd: Some(5.0), ..ended }
        }
        IncidentKind::ImageErrors => Facts {
            counts: [("succeeded", 310), ("errored", 90), ("blocked", 3), ("remaining", 1240)]
                .map(own)
                .into(),
            detail: text("the picture is cut off after 41,200 bytes (63 times)"),
            ..ended
        },
        IncidentKind::ChannelBroken => Facts {
            provider: text("team-slack"),
            detail: text("Slack refused: 404 no_service"),
            ..Facts::default()
        },
        IncidentKind::OutboxDegraded => Facts {
            detail: text("the state directory can't be written: database or disk is full"),
            ..Facts::default()
        },
        IncidentKind::WasBlind => Facts {
            since: Some(at("2026-11-22T02:10:00Z")),
            recovered_at: Some(at("2026-11-22T05:12:00Z")),
            n_slots: Some(3),
            ..Facts::default()
        },
        IncidentKind::LookoutImpaired => Facts {
            provider: text("the scheduler tick"),
            detail: text("the scheduler tick has not moved for 6 s"),
            ..Facts::default()
        },
        IncidentKind::ConfigurationBroken => Facts {
            provider: text("schedules/nightly.toml"),
            detail: text("schedules/nightly.toml:3: time_box: \"45x\" is no time"),
            ..Facts::default()
        },
        IncidentKind::BacklogGrowing => Facts {
            counts: [("succeeded", 900), ("remaining", 3100)].map(own).into(),
            detail: text("left after the last 6 runs: 1240, 1500, 1910, 2300, 2710, 3100"),
            ..ended
        },
    }
}
