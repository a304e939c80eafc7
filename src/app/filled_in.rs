//! Which values of variables an earlier version may have stored with a job.
//!
//! Those of variables that a schedule's file names, and of those whose names say that they are
//! secret. Putting them back is [`crate::store`]'s business.
//! Invariant: a file that is broken or switched off counts as well: what it had was stored all the
//! same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::config::Config;
use crate::placeholder;
use crate::redact;
use crate::schedule::Job;
use crate::secret::Secret;
use crate::store::filled_in::FilledIn;

/// Reads the folder of schedules as text, since only their names of variables matter.
pub(super) fn earlier(config: &Config) -> FilledIn {
    let texts = fs::read_dir(config.root.join("schedules")).into_iter().flatten();
    let texts = texts.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let texts: Vec<String> = texts.collect();
    let named: BTreeSet<&str> = texts.iter().flat_map(|it| placeholder::names(it)).collect();
    let values = config
        .environment
        .0
        .iter()
        .filter(|(name, value)| named.contains(name.as_str()) || redact::is_secret(name, value))
        .map(|(name, value)| (name.clone(), Secret::new(value.trim())));
    let argv: BTreeMap<String, Vec<String>> = config
        .schedules
        .iter()
        .filter_map(|schedule| match &schedule.job {
            Job::Command(job) => Some((schedule.name.to_string(), job.argv.clone())),
            Job::Review { .. } | Job::Http(_) => None,
        })
        .collect();
    FilledIn::new(values, argv)
}
