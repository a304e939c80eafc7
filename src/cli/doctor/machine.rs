//! This machine: can the state directory be written, and is the clock right?
//!
//! Invariant: asked by permission and free space, not by writing a file.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use rustix::fs::{Access, access, statvfs};

use super::report::{Finding, State};
use crate::config::Config;

/// Databases and logs of a year's hourly runs; below it somebody should look.
const LITTLE_SPACE: u64 = 1 << 30;
/// A run's evidence and log need up to a few MB; with less than this, runs soon can't be recorded.
const NO_SPACE: u64 = 50 << 20;
/// More than this and slots, leases and signatures of requests go wrong.
const CLOCK_OFF: TimeDelta = TimeDelta::seconds(60);

/// The state directory.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let folder = &config.service.state_dir;
    let Some(there) = folder.ancestors().find(|folder| folder.exists()) else {
        return vec![Finding::new(
            "state",
            State::Failed,
            format!("{} can't be found", folder.display()),
            "set [service] state_dir to a folder that can be made",
        )];
    };
    let shown = if there == folder { "" } else { " (will be made by the first start)" };
    if let Err(error) = access(there, Access::WRITE_OK | Access::EXEC_OK) {
        return vec![Finding::new(
            "state",
            State::Failed,
            format!("{} can't be written: {error}", there.display()),
            "give it to the user who runs lookout (chown), or set [service] state_dir",
        )];
    }
    vec![space(there, &format!("{}{shown}", folder.display()))]
}

fn space(folder: &Path, shown: &str) -> Finding {
    let free = match statvfs(folder) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => {
            let what = format!("{shown}: free space can't be read: {error}");
            return Finding::new("state", State::Warning, what, "");
        }
    };
    let what = format!("{shown} can be written, {} MB free", free >> 20);
    let instead = "make room: what can't be recorded is not run";
    if free < NO_SPACE {
        Finding::new("state", State::Failed, what, instead)
    } else if free < LITTLE_SPACE {
        Finding::new("state", State::Warning, what, instead)
    } else {
        Finding::good("state", what)
    }
}

/// Our clock beside that of a service that answered.
pub(super) fn clock(ours: DateTime<Utc>, theirs: Option<DateTime<Utc>>) -> Finding {
    let Some(theirs) = theirs else {
        return Finding::new(
            "clock",
            State::NotChecked,
            format!("it says {}; no other clock could be asked", ours.format("%F %T UTC")),
            "",
        );
    };
    let off = (ours - theirs).abs();
    if off > CLOCK_OFF {
        return Finding::new(
            "clock",
            State::Failed,
            format!(
                "it says {}, Gemini's says {}",
                ours.format("%F %T UTC"),
                theirs.format("%F %T UTC")
            ),
            "switch on time synchronisation: timedatectl set-ntp true",
        );
    }
    Finding::good("clock", format!("within {} s of Gemini's", off.num_seconds() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_a_minute_off_must_be_repaired() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        assert_eq!(clock(at(0), Some(at(60))).state, State::Good);
        assert_eq!(clock(at(0), Some(at(61))).state, State::Failed);
        assert_eq!(clock(at(61), Some(at(0))).state, State::Failed);
        assert_eq!(clock(at(0), None).state, State::NotChecked);
    }
}
