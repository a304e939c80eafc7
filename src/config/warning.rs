//! Warnings: what is allowed and yet probably not meant.
//!
//! Few and loud: each says what will happen and what to write. Invariant: nothing that could be
//! refused is only warned about.

use std::collections::BTreeSet;

use super::Config;
use crate::alert::channel::{ChannelKind, ChannelSettings, email, hook};
use crate::placeholder;
use crate::review::settings::ImageSettings;
use crate::schedule::{Cadence, Find, Job, Schedule, slot};
use crate::watch::Severity;

impl Config {
    /// What is probably not meant, most urgent first.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.channels.is_empty() {
            warnings.push(
                "NOBODY IS NOTIFIED when something goes wrong: no channel is configured. Put \
                 SLACK_WEBHOOK_URL, ALERT_WEBHOOK_URL, or SMTP_URL and ALERT_EMAIL_TO into .env"
                    .to_owned(),
            );
        }
        if self.schedules.is_empty() {
            warnings.push(
                "NOTHING WILL RUN: every schedule is disabled. Write enabled = true in one \
                 of the files in schedules/"
                    .to_owned(),
            );
        }
        for schedule in &self.schedules {
            warnings.extend(self.single_channel(schedule));
            warnings.extend(expression_remarks(schedule));
        }
        warnings.extend(self.channels.iter().flat_map(channel_warnings));
        warnings.extend(self.zones.outdated_system().map(|(folder, version)| {
            format!(
                "the time zone data of this machine are older ({}: {version}) than those in \
                 Lookout, which count: other programs may show other times. Update its package \
                 tzdata",
                folder.display()
            )
        }));
        warnings.extend(self.unknown_columns());
        for schedule in &self.schedules {
            warnings.extend(self.not_filled_in(schedule));
        }
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
    fn single_channel(&self, schedule: &Schedule) -> Option<String> {
        let mut notified: Vec<&ChannelSettings> = self
            .channels
            .iter()
            .filter(|channel| schedule.notify.is_empty() || schedule.notify.contains(&channel.name))
            .filter(|channel| channel.severity <= Severity::Critical)
            .collect();
        let fallbacks: Vec<&ChannelSettings> = notified
            .iter()
            .filter_map(|channel| channel.fallback.as_ref())
            .filter_map(|name| self.channels.iter().find(|channel| channel.name == *name))
            .collect();
        notified.extend(fallbacks);
        notified.dedup_by(|a, b| a.name == b.name);
        match notified.as_slice() {
            [only] => Some(format!(
                "critical messages about {} go to one channel only ({}): if that breaks, nobody \
                 is notified. Add a second channel, or a fallback",
                schedule.name, only.name
            )),
            _ => None,
        }
    }

    /// Any column may stand in an address, so that a slip can't be told from a column of the user's own.
    fn unknown_columns(&self) -> Option<String> {
        let template = match &self.review.images {
            ImageSettings::Http { url, .. } => url,
            ImageSettings::S3 { key, .. } => key,
            ImageSettings::Folder { .. } => return None,
        };
        let columns = &self.review.records.columns;
        let known = [&columns.id, &columns.job_id, &columns.image_index];
        let unknown: Vec<&str> = template
            .split('{')
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('}')?.0))
            .filter(|name| !["id", "job_id", "image_index"].contains(name))
            .filter(|name| known.iter().all(|column| column != name))
            .collect();
        let names: Vec<String> = unknown.iter().map(|name| format!("{{{name}}}")).collect();
        let table = &self.review.records.table;
        (!unknown.is_empty()).then(|| {
            format!(
                "the address of the images uses {}, so {table} must have columns with these names. \
                 Lookout itself knows {{id}}, {{job_id}} and {{image_index}}",
                names.join(" and ")
            )
        })
    }

    /// A `${NAME}` that looks as if it were filled in, where texts mean themselves. In `argv` only
    /// names of `.env` are suspicious: a shell knows those of the environment.
    fn not_filled_in(&self, schedule: &Schedule) -> Vec<String> {
        let name = &schedule.name;
        let mut warnings = Vec::new();
        if let Job::Command(job) = &schedule.job {
            let names: BTreeSet<&str> =
                job.argv.iter().flat_map(|it| placeholder::names(it)).collect();
            let is_lost =
                |it: &&str| self.only_in_dotenv.contains(*it) && !job.env.contains_key(*it);
            warnings.extend(names.into_iter().filter(is_lost).map(|it| {
                format!(
                    "{name}: ${{{it}}} in argv is not filled in any more, and .env is not passed to \
                     the job: write [job.env] {it} = \"${{{it}}}\", and let the program read it"
                )
            }));
        }
        let texts = schedule.patterns.iter().map(|pattern| match &pattern.find {
            Find::Text(text) | Find::Regex(text) => text,
        });
        for text in std::iter::once(&schedule.signal).chain(texts) {
            if let Some(it) = placeholder::names(text).next() {
                warnings.push(format!(
                    "{name}: \"{text}\" is looked for as it is written: ${{{it}}} is not filled in"
                ));
            }
        }
        warnings
    }

    fn no_reviewer(&self) -> Option<String> {
        let is_review = |schedule: &Schedule| matches!(schedule.job, Job::Review { .. });
        let is_needed = self.schedules.iter().any(is_review);
        (is_needed && self.review.reviewer.projects.is_empty()).then(|| {
            "no image can be reviewed: there is no key for Gemini. Put GEMINI_API_KEY=… into .env, or \
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

/// What a channel's receiver will probably not take.
fn channel_warnings(channel: &ChannelSettings) -> Vec<String> {
    let name = &channel.name;
    match &channel.kind {
        ChannelKind::Console => Vec::new(),
        ChannelKind::Slack { webhook_url } => hook::slack(webhook_url)
            .map(|what| format!("channel {name}: {what}"))
            .into_iter()
            .collect(),
        ChannelKind::Webhook { url, .. } => {
            hook::webhook(url).map(|what| format!("channel {name}: {what}")).into_iter().collect()
        }
        ChannelKind::Email { to, .. } => to
            .iter()
            .filter(|it| email::needs_smtputf8(it))
            .map(|it| {
                format!(
                    "channel {name}: {it} has letters before the @ that most mail servers refuse \
                     (they lack SMTPUTF8). Use an address in plain letters; `lookout doctor` asks \
                     the server"
                )
            })
            .collect(),
    }
}

fn is_email(channel: &ChannelSettings) -> bool {
    matches!(channel.kind, ChannelKind::Email { .. })
}
