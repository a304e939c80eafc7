//! Warnings: what is allowed and yet probably not meant.
//!
//! Few and loud: each says what will happen and what to write. Invariant: nothing that could be
//! refused is only warned about.

use super::Config;
use crate::alert::channel::ChannelSettings;
use crate::schedule::{Cadence, Job, Schedule, slot};
use crate::watch::Severity;

impl Config {
    /// What is probably not meant, most urgent first.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.channels.is_empty() {
            warnings.push(
                "NOBODY WILL BE TOLD when something goes wrong: no channel is configured. Put \
                 SLACK_WEBHOOK_URL, ALERT_WEBHOOK_URL, or SMTP_URL and ALERT_EMAIL_TO into .env"
                    .to_owned(),
            );
        }
        if self.schedules.is_empty() {
            warnings.push(
                "NOTHING WILL BE RUN: every schedule is switched off. Write enabled = true in one \
                 of the files in schedules/"
                    .to_owned(),
            );
        }
        for schedule in &self.schedules {
            warnings.extend(self.lonely_route(schedule));
            warnings.extend(expression_remarks(schedule));
        }
        warnings.extend(self.zones.outdated_system().map(|(folder, version)| {
            format!(
                "the time zone data of this machine are older ({}: {version}) than those in \
                 Lookout, which count: other programs may show other times. Update its package \
                 tzdata",
                folder.display()
            )
        }));
        warnings.extend(self.no_reviewer());
        if self.environment.0.get("SMTP_URL").is_some_and(|url| !url.trim().is_empty())
            && !self.channels.iter().any(is_email)
        {
            warnings.push(
                "SMTP_URL is set, but no mail is sent: put ALERT_EMAIL_TO=… into .env".to_owned(),
            );
        }
        warnings
    }

    /// A channel that breaks can't tell that it is broken; a critical message needs a second way.
    fn lonely_route(&self, schedule: &Schedule) -> Option<String> {
        let mut told: Vec<&ChannelSettings> = self
            .channels
            .iter()
            .filter(|channel| schedule.notify.is_empty() || schedule.notify.contains(&channel.name))
            .filter(|channel| channel.severity <= Severity::Critical)
            .collect();
        let fallbacks: Vec<&ChannelSettings> = told
            .iter()
            .filter_map(|channel| channel.fallback.as_ref())
            .filter_map(|name| self.channels.iter().find(|channel| channel.name == *name))
            .collect();
        told.extend(fallbacks);
        told.dedup_by(|a, b| a.name == b.name);
        match told.as_slice() {
            [only] => Some(format!(
                "critical messages about {} have one way only ({}): if that breaks, nobody is \
                 told. Add a second channel, or a fallback",
                schedule.name, only.name
            )),
            _ => None,
        }
    }

    fn no_reviewer(&self) -> Option<String> {
        let is_review = |schedule: &Schedule| matches!(schedule.job, Job::Review { .. });
        let is_needed = self.schedules.iter().any(is_review);
        (is_needed && self.review.reviewer.projects.is_empty()).then(|| {
            "no review can be made: there is no key for Gemini. Put GEMINI_API_KEY=… into .env, or \
             see everything work without one: lookout demo"
                .to_owned()
        })
    }
}

/// Readings of a cron expression that its writer may not have meant.
fn expression_remarks(schedule: &Schedule) -> Vec<String> {
    let Cadence::Cron(cron) = &schedule.cadence else { return Vec::new() };
    let Ok(expression) = slot::parse(cron) else { return Vec::new() };
    let remarks = expression.remarks().into_iter();
    remarks.map(|remark| format!("{}: cron \"{cron}\": {remark}", schedule.name)).collect()
}

fn is_email(channel: &ChannelSettings) -> bool {
    matches!(channel.kind, crate::alert::channel::ChannelKind::Email { .. })
}
