//! What is said when it is over.
//!
//! Never a lone "resolved": whoever has not heard of the beginning is told both at once.

use super::facts::View;
use super::{Message, Tone, opened, words};
use crate::watch::IncidentKind;

/// The end of something that was told.
pub(super) fn resolved(view: &View<'_>) -> Message {
    let mut message = message(view, works_again(view));
    message.facts = view.table();
    message
}

/// Beginning and end at once, for a channel that has not heard of the beginning.
pub(super) fn over_already(view: &View<'_>, opening: &View<'_>) -> Message {
    let what = opened::what_happened(opening);
    let mut message = message(view, format!("{what}; that is over"));
    message.facts = opening.table();
    message.evidence = opening.evidence();
    message
}

fn message(view: &View<'_>, what: String) -> Message {
    let incident = view.incident;
    let end = incident.resolved_at.unwrap_or(view.news.at);
    let mut lead = vec![format!(
        "It began at {} and was over at {}, after {}.",
        view.times.at(view.began_at()),
        view.times.at(end),
        words::duration(view.age())
    )];
    if incident.runs_affected > 0 {
        let runs = u64::from(incident.runs_affected);
        lead.push(format!("{} affected.", words::counted(runs, "run was", "runs were")));
    }
    Message {
        tone: Tone::Resolved,
        state: Tone::Resolved.word().to_owned(),
        instance: incident.instance.clone(),
        what,
        subject: opened::subject(view, &opened::subject_of(view)),
        lead,
        facts: Vec::new(),
        evidence: Vec::new(),
        steps: Vec::new(),
        by_itself: view.next(),
        annotations: Vec::new(),
        about: None,
    }
}

fn works_again(view: &View<'_>) -> String {
    let schedule = view.schedule();
    if let (IncidentKind::ChannelBroken, Some(withdrawn)) =
        (view.incident.kind, &view.facts.withdrawn)
    {
        let gone = view.facts.refused.as_deref().or(view.facts.provider.as_deref());
        return format!("{} {withdrawn}; its open incident is closed", gone.unwrap_or("a channel"));
    }
    if let Some(withdrawn) = &view.facts.withdrawn {
        return format!("{schedule} {withdrawn}; its open incident is closed");
    }
    match view.incident.kind {
        IncidentKind::RunMissed => format!("{schedule} starts again"),
        IncidentKind::RunStalled => format!("{schedule} moves again"),
        IncidentKind::RunTimedOut => format!("{schedule} ends in time again"),
        IncidentKind::SignalMissing => format!("{schedule} says again that it is done"),
        IncidentKind::RunFailed => format!("{schedule} works again"),
        IncidentKind::ProviderUnavailable => {
            format!("{} is available again", view.provider(opened::vision(view)))
        }
        IncidentKind::ImagesUnavailable => {
            format!("{} is available again", view.provider("the image storage"))
        }
        IncidentKind::RecordsUnavailable => {
            format!("{} is available again", view.provider("the record store"))
        }
        IncidentKind::CredentialsRejected => {
            format!("{} accepts our key again", view.provider("the service"))
        }
        IncidentKind::QuotaExhausted => {
            if view.is_budget() {
                "there is budget again".to_owned()
            } else {
                format!("there is quota for {} again", view.provider("a service it needs"))
            }
        }
        IncidentKind::ImageErrors => format!("the images of {schedule} go through again"),
        IncidentKind::ChannelBroken => {
            let channel = view.facts.provider.as_deref().unwrap_or("all channels");
            match &view.facts.refused {
                Some(refused) => format!("{channel} no longer refuses {refused}"),
                None => format!("messages by {channel} get through again"),
            }
        }
        IncidentKind::OutboxDegraded => {
            "messages are written down and sent in time again".to_owned()
        }
        IncidentKind::WasBlind => "Lookout watches again".to_owned(),
        IncidentKind::LookoutImpaired => "every part of Lookout moves again".to_owned(),
        IncidentKind::ConfigurationBroken => "the configuration is right again".to_owned(),
        IncidentKind::BacklogGrowing => format!("the backlog of {schedule} no longer grows"),
    }
}
