//! What is said when something broke: a text for each kind of incident.
//!
//! The texts say what it means for the images, since when, and what to do; words of the inside
//! (slots, verdicts, queues) do not occur.

mod self_incidents;

use super::facts::{View, advice, step};
use super::words;
use super::{Message, Step, Tone};
use crate::watch::{Change, IncidentKind, Verdict};

/// The parts of a text that differ by kind.
struct Text {
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
    let text = text_of(view);
    let mut lead = text.lead;
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
        what: text.what,
        subject: subject(view, &text.subject),
        lead,
        facts: view.table(),
        evidence: view.evidence(),
        steps: text.steps,
        by_itself: text.by_itself.or_else(|| view.next()),
        annotations: Vec::new(),
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
    text_of(view).subject
}

/// What happened, for the message that tells beginning and end at once.
pub(super) fn what_happened(view: &View<'_>) -> String {
    text_of(view).what
}

fn text_of(view: &View<'_>) -> Text {
    if let (Some(title), Some(action)) = (&view.facts.title, &view.facts.action) {
        return until_a_person_acts(view, title, action);
    }
    match view.incident.kind {
        IncidentKind::RunMissed => missed(view),
        IncidentKind::RunStalled => stalled(view),
        IncidentKind::RunTimedOut => timed_out(view),
        IncidentKind::SignalMissing => signal_missing(view),
        IncidentKind::RunFailed => failed(view),
        IncidentKind::ProviderUnavailable => unavailable(view, vision(view)),
        IncidentKind::ImagesUnavailable => unavailable(view, "the image storage"),
        IncidentKind::RecordsUnavailable => unavailable(view, "the record store"),
        IncidentKind::CredentialsRejected => credentials(view),
        IncidentKind::QuotaExhausted => quota(view),
        IncidentKind::ImageErrors => image_errors(view),
        IncidentKind::ChannelBroken => self_incidents::channel_broken(view),
        IncidentKind::OutboxDegraded => self_incidents::outbox_degraded(view),
        IncidentKind::WasBlind => self_incidents::was_blind(view),
        IncidentKind::LookoutImpaired => self_incidents::impaired(view),
        IncidentKind::ConfigurationBroken => self_incidents::configuration(view),
        IncidentKind::BacklogGrowing => backlog(view),
    }
}

/// A refusal that does not pass by itself: the service's own reason, and what to do about it.
fn until_a_person_acts(view: &View<'_>, title: &str, action: &str) -> Text {
    let mut lead = Vec::new();
    let what = match &view.facts.detail {
        Some(detail) if !detail.is_empty() => detail.clone(),
        Some(_) | None => title.to_owned(),
    };
    lead.push("It will not recover by itself. No try was used; the images wait.".to_owned());
    if let Some(waiting) = view.facts.counts.get("remaining").filter(|n| **n > 0) {
        lead.push(format!("{} waiting.", words::counted(*waiting, "image is", "images are")));
    }
    Text {
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

fn missed(view: &View<'_>) -> Text {
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
    if view.facts.reviews_images {
        lead.push("Its images wait; nothing is lost.".to_owned());
    }
    Text {
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

fn stalled(view: &View<'_>) -> Text {
    let schedule = view.schedule();
    let stopped = matches!(view.facts.verdict, Some(Verdict::Stalled | Verdict::TimedOut));
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
    Text {
        what: format!("{} {verb}", view.run()),
        subject: format!("{schedule} stands still"),
        lead,
        steps,
        by_itself,
    }
}

fn timed_out(view: &View<'_>) -> Text {
    let mut lead = Vec::new();
    if let Some(length) = view.facts.time_box_seconds {
        let length = chrono::TimeDelta::seconds(i64::try_from(length).unwrap_or(0));
        lead.push(format!("It had {} and some minutes more to finish.", words::duration(length)));
    }
    let remedy = if view.facts.reviews_images {
        lead.push("What it had finished is kept; the rest waits for the next run.".to_owned());
        "If it is simply too much for one run, give it a longer time_box or smaller batches."
    } else {
        "If it simply takes longer, give it a longer time_box."
    };
    Text {
        what: format!("{} did not end in time and was stopped", view.run()),
        subject: format!("{} did not end in time", view.schedule()),
        lead,
        steps: vec![
            view.look_at_the_run(),
            step("See whether a service is slow:", "lookout doctor"),
            advice(remedy),
        ],
        by_itself: None,
    }
}

fn signal_missing(view: &View<'_>) -> Text {
    let mut lead = Vec::new();
    let ended =
        view.facts.ended_at.map_or_else(String::new, |at| format!(" at {}", view.times.at(at)));
    let how = view.facts.ending.as_ref().map_or_else(String::new, |how| format!(" ({how})"));
    lead.push(match &view.facts.signal {
        Some(signal) => format!("It ended{ended}{how} without saying “{signal}”."),
        None => format!("It ended{ended}{how} without its closing message."),
    });
    lead.push("Its results may be incomplete.".to_owned());
    Text {
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

fn failed(view: &View<'_>) -> Text {
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
    Text {
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

/// What a review calls where nobody is named; of another job we don't know what it calls.
pub(super) fn vision(view: &View<'_>) -> &'static str {
    if view.facts.reviews_images { "Gemini" } else { "a service it needs" }
}

fn unavailable(view: &View<'_>, default: &str) -> Text {
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
            let not =
                if view.facts.reviews_images { ", not with your key or your images" } else { "" };
            lead.push(format!("The fault is on its side{not}."));
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
    Text {
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

fn credentials(view: &View<'_>) -> Text {
    let who = view.provider("a service");
    let status = view.facts.status.map_or_else(String::new, |status| format!(" ({status})"));
    let make = if who == "Gemini" {
        advice(
            "Make or enable a key in Google AI Studio, and put it into .env. No restart is needed.",
        )
    } else {
        advice("Put a valid key into .env. No restart is needed.")
    };
    Text {
        what: format!("{who} refuses our key{status}"),
        subject: format!("{who} refuses our key"),
        lead: vec![until_it_is_put_right(view)],
        steps: vec![make, step("See whether it is accepted:", "lookout doctor")],
        by_itself: None,
    }
}

/// What a refused key means for the work: with another key, the work may be done.
fn until_it_is_put_right(view: &View<'_>) -> String {
    let n_done = view.facts.counts.get("succeeded").copied().unwrap_or(0);
    if view.facts.verdict == Some(Verdict::Completed) || n_done > 0 {
        return "Another key does the work meanwhile. If that one fails, too, nothing does."
            .to_owned();
    }
    if view.facts.reviews_images {
        "Every run fails until this is put right. The images wait.".to_owned()
    } else {
        "What needs this key fails until it is put right.".to_owned()
    }
}

fn quota(view: &View<'_>) -> Text {
    let who = view.provider("a service it needs");
    let (what, remedy) = if view.is_budget() {
        ("the budget".to_owned(), "Raise [budget] in lookout.toml, or wait until it is renewed.")
    } else {
        (
            format!("the quota or the credit for {who}"),
            "Raise the quota or the credit with the provider.",
        )
    };
    let lead = if view.facts.reviews_images {
        vec!["No more images are reviewed until there is room again. They wait.".to_owned()]
    } else {
        Vec::new()
    };
    let subject =
        if view.is_budget() { what.clone() } else { format!("quota or credit for {who}") };
    Text {
        subject: format!("{subject} is used up"),
        what: format!("{what} is used up"),
        lead,
        steps: vec![advice(remedy), step("See what is left:", "lookout doctor")],
        by_itself: None,
    }
}

fn image_errors(view: &View<'_>) -> Text {
    let counted = |name: &str| view.facts.counts.get(name).copied();
    let (errored, blocked) = (counted("errored"), counted("blocked").unwrap_or(0));
    let errored = errored.map(|n| n + blocked).or(view.facts.faults);
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
            let blocked = match (blocked, errored) {
                (0, _) => String::new(),
                (n, Some(all)) if n == all => " The provider blocked them.".to_owned(),
                (n, _) => format!(" The provider blocked {} of them.", words::number(n)),
            };
            format!("Each is marked as an error and not tried again.{blocked}")
        }
    };
    let mut steps = vec![view.look_at_the_run()];
    if view.facts.reviews_images {
        steps.push(step(
            "Once the cause is gone, review them again (without --yes it only lists them):",
            "lookout rerun --status auto_review_error --yes",
        ));
    }
    Text {
        what,
        subject: format!("many images of {} end in error", view.schedule()),
        lead: vec![lead],
        steps,
        by_itself: None,
    }
}

fn backlog(view: &View<'_>) -> Text {
    let schedule = view.schedule();
    let left = view.facts.counts.get("remaining").copied();
    let left = left.map_or_else(String::new, |n| format!(": {} left", words::number(n)));
    Text {
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
