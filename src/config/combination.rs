//! What each setting allows for itself but not together: boxes and gaps, channels and fallbacks.
//!
//! Refused with the arithmetic, never warned about: a warning is read after the first bad night. What
//! only the night of a clock change brings about is a warning (`warning.rs`), since it would be refused
//! today and taken tomorrow.
//! Invariant: of the schedules and channels that pass, every name leads somewhere.

use std::time::Duration;

use super::section::Section;
use crate::alert::channel::ChannelSettings;
use crate::duration;
use crate::schedule::{Cadence, Job, Overlap, Schedule, slot};

/// Whether box and graces of a schedule fit between its slots.
pub(super) fn check_times(section: &Section<'_>, schedule: &Schedule) {
    let busy = schedule.time_box + schedule.signal_grace;
    if schedule.stall_after > busy {
        section.problem(
            "stall_after",
            format!(
                "a stall is noticed after {}, but the run is stopped after time_box {} + \
                 signal_grace {} = {}",
                duration::written(schedule.stall_after),
                duration::written(schedule.time_box),
                duration::written(schedule.signal_grace),
                duration::written(busy)
            ),
            "make stall_after shorter",
        );
    }
    if let Job::Http(job) = &schedule.job
        && job.call_timeout > busy
        && section.section("job").has("call_timeout")
    {
        section.section("job").problem(
            "call_timeout",
            format!(
                "one call may take {}, but the run is stopped after time_box {} + signal_grace {} \
                 = {}",
                duration::written(job.call_timeout),
                duration::written(schedule.time_box),
                duration::written(schedule.signal_grace),
                duration::written(busy)
            ),
            "make call_timeout shorter",
        );
    }
    check_gap(section, schedule, busy);
}

fn check_gap(section: &Section<'_>, schedule: &Schedule, busy: Duration) {
    let Cadence::Cron(cron) = &schedule.cadence else { return };
    match schedule.overlap {
        Overlap::Skip => {}
        Overlap::Queue | Overlap::Replace => return,
    }
    let gap = slot::shortest_gap(schedule);
    let latest = busy + schedule.jitter;
    if latest < gap {
        return;
    }
    let jitter = if schedule.jitter.is_zero() {
        String::new()
    } else {
        format!(" + jitter {}", duration::written(schedule.jitter))
    };
    let key = if section.has("time_box") { "time_box" } else { "cron" };
    section.problem(
        key,
        format!(
            "time_box {} + signal_grace {}{jitter} = {}, but \"{cron}\" in {} is due again after \
             {}: a run could still be going on, and the next one would be skipped",
            duration::written(schedule.time_box),
            duration::written(schedule.signal_grace),
            duration::written(latest),
            schedule.timezone.name(),
            duration::written(gap)
        ),
        format!(
            "make time_box + signal_grace shorter than {}, or write overlap = \"queue\" or \
             \"replace\"",
            duration::written(gap)
        ),
    );
}

/// Names of channels: those that are on, and those whose file is off or broken.
pub(super) struct ChannelNames {
    pub(super) on: Vec<String>,
    pub(super) off: Vec<String>,
    pub(super) broken: Vec<String>,
}

impl ChannelNames {
    /// Notes a problem if the name leads nowhere.
    pub(super) fn check(&self, section: &Section<'_>, key: &str, name: &str) {
        let has = |names: &[String]| names.iter().any(|known| known == name);
        if has(&self.on) || has(&self.broken) {
            return;
        }
        if has(&self.off) {
            let what = format!("the channel \"{name}\" is switched off");
            let instead =
                format!("write enabled = true in alerts/{name}.toml, or take it out here");
            section.problem(key, what, instead);
            return;
        }
        let instead = if self.on.is_empty() {
            format!("there is no channel yet: make alerts/{name}.toml")
        } else {
            format!("the channels are: {}", self.on.join(", "))
        };
        section.problem(key, format!("there is no channel called \"{name}\""), instead);
    }
}

/// The circle that begins and ends with this channel, if its fallbacks make one.
pub(super) fn circle(channels: &[ChannelSettings], start: &str) -> Option<String> {
    let mut path = vec![start];
    let mut at = start;
    loop {
        let next = channels.iter().find(|channel| channel.name == at)?.fallback.as_deref()?;
        let is_known = path.contains(&next);
        path.push(next);
        if next == start {
            return Some(path.join(" → "));
        }
        if is_known {
            return None;
        }
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::channel::ChannelKind;
    use crate::watch::Severity;

    #[test]
    fn circles_of_fallbacks_are_found_from_each_of_their_members_only() {
        let channel = |name: &str, fallback: Option<&str>| ChannelSettings {
            name: name.to_owned(),
            severity: Severity::Warning,
            fallback: fallback.map(str::to_owned),
            kind: ChannelKind::Console,
        };
        let channels = [
            channel("a", Some("b")),
            channel("b", Some("c")),
            channel("c", Some("b")),
            channel("d", Some("d")),
            channel("e", None),
        ];
        assert_eq!(circle(&channels, "a"), None);
        assert_eq!(circle(&channels, "b").as_deref(), Some("b → c → b"));
        assert_eq!(circle(&channels, "d").as_deref(), Some("d → d"));
        assert_eq!(circle(&channels, "e"), None);
    }
}
