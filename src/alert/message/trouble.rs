//! What is said when something broke: a text for each kind of incident.
//!
//! The texts say what it means for the images, since when, and what to do; words of the inside
//! (slots, verdicts, queues) do not occur.

mod own;

use super::facts::{View, advice, step};
use super::words;
use super::{Message, Step, Tone};
use crate::watch::{Change, IncidentKind, Verdict};

/// The parts of a text that differ by kind.
struct Told {
    what: String,
    subject: String,
    lead: Vec<String>,
    steps: Vec<Step>,
    by_itself: Option<String>,
}

/// The first that a channel hears of it.
pub(super) fn opened(view: &View<'_>) -> Message {
    let tone = Tone::of(view.incident.severity);
    message(view, tone, tone.word().to_owned())
}

/// It got worse, or is still there.
pub(super) fn still(view: &View<'_>) -> Message {
    let tone = Tone::of(view.incident.severity);
    let state = match view.news.change {
        Change::Raised => format!("{}, worse than before,", tone.word()),
        Change::Opened | Change::Reminder | Change::Resolved => {
            format!("{}, still open after {},", tone.word(), words::duration(view.age()))
        }
    };
    message(view, tone, state)
}

fn message(view: &View<'_>, tone: Tone, state: String) -> Message {
    let told = told(view);
    let mut lead = told.lead;
    if view.incident.runs_affected > 1 {
        lead.push(format!(
            "{} since {}.",
            words::counted(
                view.incident.runs_affected.into(),
                "run is affected",
                "runs are affected"
            ),
            view.times.at(view.incident.opened_at)
        ));
    }
    Message {
        tone,
        state,
        instance: view.incident.instance.clone(),
        what: told.what,
        subject: subject(view, &told.subject),
        lead,
        facts: view.table(),
        evidence: view.evidence(),
        steps: told.steps,
        by_itself: told.by_itself.or_else(|| view.next()),
        marks: Vec::new(),
        about: None,
    }
}

/// One subject an incident, whatever its news.
pub(super) fn subject(view: &View<'_>, what: &str) -> String {
    let incident = view.incident;
    // One that could not be written down has no number.
    let number =
        if incident.id == 0 { String::new() } else { format!(" (incident {})", incident.id) };
    format!("Lookout {}: {what}{number}", incident.instance)
}

/// The subject's middle for this kind; used by the resolving message, too.
pub(super) fn subject_of(view: &View<'_>) -> String {
    told(view).subject
}

/// What happened, for the message that tells beginning and end at once.
pub(super) fn what_happened(view: &View<'_>) -> String {
    told(view).what
}

fn told(view: &View<'_>) -> Told {
    if let (Some(title), Some(action)) = (&view.facts.title, &view.facts.action) {
        return until_a_person_acts(view, title, action);
    }
    match view.incident.kind {
        IncidentKind::RunMissed => missed(view),
        IncidentKind::RunStalled => stalled(view),
        IncidentKind::RunTimedOut => timed_out(view),
        IncidentKind::SignalMissing => signal_missing(view),
        IncidentKind::RunFailed => failed(view),
        IncidentKind::ProviderUnavailable => unavailable(view, "the vision service"),
        IncidentKind::ImagesUnavailable => unavailable(view, "the image storage"),
        IncidentKind::RecordsUnavailable => unavailable(view, "the record store"),
        IncidentKind::CredentialsRejected => credentials(view),
        IncidentKind::QuotaExhausted => quota(view),
        IncidentKind::ImageErrors => image_errors(view),
        IncidentKind::ChannelBroken => own::channel_broken(view),
        IncidentKind::OutboxDegraded => own::outbox_degraded(view),
        IncidentKind::WasBlind => own::was_blind(view),
        IncidentKind::LookoutImpaired => own::impaired(view),
        IncidentKind::ConfigurationBroken => own::configuration(view),
        IncidentKind::BacklogGrowing => backlog(view),
    }
}

/// A refusal that does not pass by itself: the service's own reason, and what to do about it.
fn until_a_person_acts(view: &View<'_>, title: &str, action: &str) -> Told {
    let mut lead = Vec::new();
    let what = match &view.facts.detail {
        Some(detail) if !detail.is_empty() => detail.clone(),
        Some(_) | None => title.to_owned(),
    };
    lead.push("It will not recover by itself. No try was used; the images wait.".to_owned());
    if let Some(waiting) = view.facts.counts.get("remaining").filter(|n| **n > 0) {
        lead.push(format!("{} waiting.", words::counted(*waiting, "image is", "images are")));
    }
    Told {
        what,
        subject: title.to_owned(),
        lead,
        steps: vec![
            advice(&words::sentence(action)),
            step("Then check it with one small request:", "lookout doctor --call"),
        ],
        by_itself: None,
    }
}

fn missed(view: &View<'_>) -> Told {
    let schedule = view.schedule();
    let due = view.facts.due_at.map(|at| view.times.at(at));
    let n = view.facts.n_slots.unwrap_or(1);
    let what = match (n, &due) {
        (0 | 1, _) => format!("{} did not start", view.run()),
        (n, Some(due)) => format!("{n} runs of {schedule} did not start, the last due at {due}"),
        (n, None) => format!("{n} runs of {schedule} did not start"),
    };
    let mut lead = Vec::new();
    if let Some(due) = due {
        lead.push(format!(
            "It was due at {due} and had not started by {}.",
            view.times.at(view.news.at)
        ));
    }
    lead.push("Its images wait; nothing is lost.".to_owned());
    Told {
        what,
        subject: format!("{schedule} did not start"),
        lead,
        steps: vec![
            step("See what is running and what is in the way:", "lookout status"),
            step("Start it by hand:", &format!("lookout run {schedule}")),
        ],
        by_itself: None,
    }
}

fn stalled(view: &View<'_>) -> Told {
    let schedule = view.schedule();
    let stopped = view.facts.verdict == Some(Verdict::Stalled);
    let mut lead = Vec::new();
    if let Some(last) = view.facts.last_activity_at {
        let silence = words::duration(view.news.at - last);
        lead.push(format!("Nothing has moved since {} ({silence}).", view.times.at(last)));
    }
    let mut steps = vec![view.look_at_the_run()];
    let mut by_itself = None;
    if stopped {
        lead.push("Lookout has stopped it.".to_owned());
    } else {
        if let Some(run) = &view.facts.run {
            steps.push(step("If it hangs, stop it:", &format!("lookout run stop {run}")));
        }
        by_itself =
            view.facts.started_at.zip(view.facts.time_box_seconds).map(|(start, length)| {
                let end = start + chrono::TimeDelta::seconds(i64::try_from(length).unwrap_or(0));
                format!(
                    "Lookout tells the run to finish at {} and stops it if it does not.",
                    view.times.at(end)
                )
            });
    }
    let verb = if stopped { "stood still and was stopped" } else { "stands still" };
    Told {
        what: format!("{} {verb}", view.run()),
        subject: format!("{schedule} stands still"),
        lead,
        steps,
        by_itself,
    }
}

fn timed_out(view: &View<'_>) -> Told {
    let mut lead = Vec::new();
    if let Some(length) = view.facts.time_box_seconds {
        let length = chrono::TimeDelta::seconds(i64::try_from(length).unwrap_or(0));
        lead.push(format!(
            "It had {} and some minutes more to finish, and was still working.",
            words::duration(length)
        ));
    }
    lead.push("What it had finished is kept; the rest waits for the next run.".to_owned());
    Told {
        what: format!("{} did not end in time and was stopped", view.run()),
        subject: format!("{} did not end in time", view.schedule()),
        lead,
        steps: vec![
            view.look_at_the_run(),
            step("See whether a service is slow:", "lookout doctor"),
            advice(
                "If it is simply too much for one run, give it a longer time_box or smaller batches.",
            ),
        ],
        by_itself: None,
    }
}

fn signal_missing(view: &View<'_>) -> Told {
    let mut lead = Vec::new();
    let ended =
        view.facts.ended_at.map_or_else(String::new, |at| format!(" at {}", view.times.at(at)));
    let how = view.facts.ending.as_ref().map_or_else(String::new, |how| format!(" ({how})"));
    lead.push(match &view.facts.signal {
        Some(signal) => format!("It ended{ended}{how} without saying “{signal}”."),
        None => format!("It ended{ended}{how} without its closing message."),
    });
    lead.push("Its results may be incomplete.".to_owned());
    Told {
        what: format!("{} ended without saying that it was done", view.run()),
        subject: format!("{} ended without saying that it was done", view.schedule()),
        lead,
        steps: vec![
            view.look_at_the_run(),
            step(
                "Run it again, if the next run is too far away:",
                &format!("lookout run {}", view.schedule()),
            ),
        ],
        by_itself: None,
    }
}

fn failed(view: &View<'_>) -> Told {
    let interrupted = view.facts.verdict == Some(Verdict::Interrupted);
    let mut lead = Vec::new();
    let ended =
        view.facts.ended_at.map_or_else(String::new, |at| format!(" at {}", view.times.at(at)));
    if interrupted {
        lead.push(format!("It was cut off{ended}: the machine or its process went away."));
    } else if let Some(how) = &view.facts.ending {
        lead.push(format!("It ended{ended}: {how}."));
        if how.contains("signal 9") || how.contains("137") {
            lead.push("Mostly that means that the machine ran out of memory.".to_owned());
        }
    }
    Told {
        what: format!("{} {}", view.run(), if interrupted { "was cut off" } else { "failed" }),
        subject: format!("{} failed", view.schedule()),
        lead,
        steps: vec![
            view.look_at_the_run(),
            step("See whether everything it needs answers:", "lookout doctor"),
        ],
        by_itself: None,
    }
}

fn unavailable(view: &View<'_>, default: &str) -> Told {
    let who = view.provider(default);
    let mut lead = Vec::new();
    let mut since =
        view.facts.since.map_or_else(String::new, |at| format!(" since {}", view.times.at(at)));
    if let Some(calls) = view.failed_calls() {
        lead.push(format!("{calls} failed{since}."));
        since.clear();
    }
    let what = match view.facts.status {
        None => {
            lead.push(format!(
                "No connection, or no answer{since}: {who} or the network in between is down."
            ));
            format!("{who} could not be reached")
        }
        Some(status @ (401 | 403)) => {
            lead.push("It is there but does not let us in: look at its access rules.".to_owned());
            format!("{who} refuses us ({status})")
        }
        Some(200) => {
            lead.push(
                "The replies have status 200 and hold no answer: the model says nothing, or a page \
                 of a proxy comes in its place."
                    .to_owned(),
            );
            format!("{who} sends no usable answer")
        }
        Some(status @ 500..) => {
            lead.push("The fault is on its side, not with your key or your images.".to_owned());
            format!("{who} answers {status} again and again")
        }
        Some(status) => format!("{who} answers {status} again and again"),
    };
    if let Some(returned) = view.facts.counts.get("returned").filter(|n| **n > 0) {
        lead.push(format!(
            "{} given back without having lost a try, and will be taken again.",
            words::counted(*returned, "image was", "images were")
        ));
    }
    Told {
        what,
        subject: format!("{who} is not available"),
        lead,
        steps: vec![match view.facts.status {
            Some(401 | 403) => step("Put key or access rules right, then look:", "lookout doctor"),
            _ => step("Nothing, if it passes. To look for yourself:", "lookout doctor"),
        }],
        by_itself: Some(sentences(view, "Lookout tells you when it works again.")),
    }
}

fn credentials(view: &View<'_>) -> Told {
    let who = view.provider("a service");
    let status = view.facts.status.map_or_else(String::new, |status| format!(" ({status})"));
    let make = if who == "Gemini" {
        advice(
            "Make or enable a key in Google AI Studio, and put it into .env. No restart is needed.",
        )
    } else {
        advice("Put a valid key into .env. No restart is needed.")
    };
    Told {
        what: format!("{who} refuses our key{status}"),
        subject: format!("{who} refuses our key"),
        lead: vec!["Every run fails until this is put right. The images wait.".to_owned()],
        steps: vec![make, step("See whether it is accepted:", "lookout doctor")],
        by_itself: None,
    }
}

fn quota(view: &View<'_>) -> Told {
    let who = view.provider("the vision service");
    Told {
        what: format!("the quota or the budget for {who} is used up"),
        subject: format!("quota or budget for {who} is used up"),
        lead: vec!["No more images are reviewed until there is room again. They wait.".to_owned()],
        steps: vec![
            advice("Raise the quota or the credit with the provider, or [budget] in lookout.toml."),
            step("See what is left:", "lookout doctor"),
        ],
        by_itself: None,
    }
}

fn image_errors(view: &View<'_>) -> Told {
    let errored = view.facts.counts.get("errored").copied().or(view.facts.faults);
    let what = match errored {
        Some(n) => {
            format!("{} of {} ended in error", words::counted(n, "image", "images"), view.run())
        }
        None => format!("many images of {} ended in error", view.run()),
    };
    let lead = match (&view.facts.detail, view.facts.counts.contains_key("errored")) {
        // Another program's images: what it did with them only its own words can say.
        (Some(detail), false) => format!("The last thing it said: {detail}."),
        (Some(_) | None, _) => {
            "Each was tried three times and is left alone now, marked as an error.".to_owned()
        }
    };
    Told {
        what,
        subject: format!("many images of {} end in error", view.schedule()),
        lead: vec![lead],
        steps: vec![
            view.look_at_the_run(),
            step(
                "Once the cause is gone, take them again:",
                "lookout rerun --status auto_review_error --yes",
            ),
        ],
        by_itself: None,
    }
}

fn backlog(view: &View<'_>) -> Told {
    let schedule = view.schedule();
    let left = view.facts.counts.get("remaining").copied();
    let left = left.map_or_else(String::new, |n| format!(": {} left", words::number(n)));
    Told {
        what: format!("the backlog of {schedule} grows with every run{left}"),
        subject: format!("the backlog of {schedule} grows"),
        lead: vec![
            "Every run works, but more comes in than one run gets done. Nothing is lost; it waits \
             longer and longer."
                .to_owned(),
        ],
        steps: vec![
            step("See what the runs get done:", "lookout history"),
            advice(
                "Let it run oftener or longer (cron, time_box), or raise [reviewer] max_in_flight.",
            ),
        ],
        by_itself: view.next(),
    }
}

/// The sentence, and when the next run starts.
fn sentences(view: &View<'_>, first: &str) -> String {
    view.next().map_or_else(|| first.to_owned(), |next| format!("{first} {next}"))
}
