//! What is said when Lookout itself is the trouble: its channels, its disk, its own downtime, its loops,
//! its files.
//!
//! Invariant: each text says what still works.

use super::{Text, sentences};
use crate::alert::message::facts::{View, advice, step};
use crate::alert::message::words;
use crate::watch::DowntimeCause;

pub(super) fn channel_broken(view: &View<'_>) -> Text {
    let channel = view.facts.provider.as_deref().unwrap_or("a channel");
    if let Some(refused) = &view.facts.refused {
        return refused_by(channel, refused);
    }
    // A command takes one channel; several names (`a, b`) are tested all together.
    let one = view.facts.provider.as_deref().filter(|it| !it.contains(','));
    let test =
        one.map_or_else(|| "lookout alert test".into(), |it| format!("lookout alert test {it}"));
    Text {
        what: format!("messages by {channel} do not get through"),
        subject: format!("messages by {channel} do not get through"),
        lead: vec![format!(
            "Nobody who relies on {channel} alone hears of problems until this is put right."
        )],
        steps: vec![
            advice("Correct its address or password in .env or alerts/."),
            step("See whether it works:", &test),
            step("See what was not delivered:", "lookout alert dead"),
        ],
        by_itself: Some("Lookout tries it again every 30 minutes.".to_owned()),
    }
}

/// The channel works, but not for this.
fn refused_by(channel: &str, refused: &str) -> Text {
    Text {
        what: format!("{channel} refuses {refused}"),
        subject: format!("{channel} refuses {refused}"),
        lead: vec![format!(
            "{channel} takes other messages. Nobody gets these by it until this is put right."
        )],
        steps: vec![
            step("See whether it takes a test message:", &format!("lookout alert test {channel}")),
            step("See what was not delivered:", "lookout alert dead"),
        ],
        by_itself: None,
    }
}

pub(super) fn outbox_degraded(view: &View<'_>) -> Text {
    Text {
        what: "messages are late, or can't be written down".to_owned(),
        subject: "messages are late or can't be written down".to_owned(),
        lead: vec![
            "A full disk, a state directory that can't be written, or a server that does not take \
             our messages is the usual cause."
                .to_owned(),
        ],
        steps: vec![
            step("See what is wrong:", "lookout status"),
            step("See whether the channels take messages:", "lookout alert test"),
            step("See whether there is room:", "df -h"),
        ],
        by_itself: view.next(),
    }
}

pub(super) fn was_blind(view: &View<'_>) -> Text {
    let from = view.facts.since.unwrap_or(view.incident.opened_at);
    let until = view.facts.recovered_at.unwrap_or(view.news.at);
    let mut lead = vec![format!(
        "From {} to {} ({}) it saw nothing.",
        view.times.at(from),
        view.times.at(until),
        words::duration(until - from)
    )];
    if let Some(n) = view.facts.n_slots.filter(|n| *n > 0) {
        let runs = words::counted(n.into(), "run was due", "runs were due");
        lead.push(format!("{runs} in that time and not watched."));
    }
    let (what, find_out) = match view.facts.downtime_cause.unwrap_or(DowntimeCause::Down) {
        DowntimeCause::Down => (
            "Lookout itself was not running",
            "Find out why: a restart, a full disk, a suspended machine?",
        ),
        DowntimeCause::Suspended => (
            "the machine was asleep",
            "Keep it awake when runs are due, or let Lookout run on one that does not sleep.",
        ),
        DowntimeCause::ClockSet => (
            "the clock of the machine was set forward",
            "See that its time service (NTP) runs and nobody sets the clock by hand.",
        ),
        DowntimeCause::HeldUp => (
            "Lookout stood still",
            "Find out why: a machine with too little memory or processor time, a stopped process?",
        ),
    };
    Text {
        what: what.to_owned(),
        subject: what.to_owned(),
        lead,
        steps: vec![step("See what it missed:", "lookout history"), advice(find_out)],
        by_itself: Some(sentences(view, "Lookout watches again.")),
    }
}

/// A loop of the daemon does not move.
pub(super) fn impaired(view: &View<'_>) -> Text {
    let parts = view.facts.provider.as_deref().unwrap_or("a part of Lookout");
    Text {
        what: format!("a part of Lookout stands still: {parts}"),
        subject: "a part of Lookout stands still".to_owned(),
        lead: vec![
            "Runs that go on are kept and judged all the same. New ones may start late, or not at \
             all."
                .to_owned(),
        ],
        steps: vec![
            step("See what moves and what does not:", "lookout status"),
            advice("If it does not pass: restart Lookout. Runs that go on are not touched."),
        ],
        by_itself: None,
    }
}

/// A file can't be used; the version before it still holds.
pub(super) fn configuration(view: &View<'_>) -> Text {
    let file = view.facts.provider.as_deref().unwrap_or("a file of the configuration");
    Text {
        what: format!("{file} can't be used as it is now"),
        subject: format!("{file} can't be used"),
        lead: vec![
            "What was read from it before still holds; a file that is new has no effect. All other \
             files are in use as they are."
                .to_owned(),
        ],
        steps: vec![
            step("See what is wrong, with the line:", "lookout check"),
            advice("Correct the file. Lookout reads it again by itself."),
        ],
        by_itself: None,
    }
}
