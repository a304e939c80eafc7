//! What the redactor must know: every secret of the configuration, and parts of them that show up
//! alone.
//!
//! Invariant: a field that is a [`Secret`] is in the list; the exhaustive patterns below break when
//! a kind is added.

use url::Url;

use super::Config;
use crate::alert::channel::ChannelKind;
use crate::placeholder;
use crate::redact::Redactor;
use crate::review::settings::{ImageSettings, RecordKind};
use crate::schedule::Job;
use crate::secret::Secret;

impl Config {
    /// Hides every secret of the configuration and of the environment.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        let pairs = self.environment.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Redactor::new(self.secrets()).with(Redactor::from_environment(pairs))
    }

    fn secrets(&self) -> Vec<Secret> {
        let mut secrets: Vec<Secret> = self.service.token.iter().cloned().collect();
        for channel in &self.channels {
            match &channel.kind {
                ChannelKind::Console => {}
                ChannelKind::Slack { webhook_url } => secrets.push(webhook_url.clone()),
                ChannelKind::Webhook { url, signing_secret } => {
                    secrets.push(url.clone());
                    secrets.extend(signing_secret.clone());
                }
                ChannelKind::Email { smtp_url, from: _, to: _ } => {
                    secrets.extend(password(smtp_url));
                    secrets.push(smtp_url.clone());
                }
            }
        }
        match &self.review.records.kind {
            RecordKind::Sqlite { path: _ } => {}
            RecordKind::Supabase { url: _, key } => secrets.push(key.clone()),
        }
        if let ImageSettings::S3 { credentials: Some(keys), .. } = &self.review.images {
            secrets.extend([keys.access_key_id.clone(), keys.secret_access_key.clone()]);
            secrets.extend(keys.session_token.clone());
        }
        for project in &self.review.reviewer.projects {
            secrets.extend(project.keys.iter().cloned());
        }
        secrets.extend(self.filled_into_requests());
        secrets
    }

    /// What is filled into a header or a body is a credential, whatever its name.
    fn filled_into_requests(&self) -> Vec<Secret> {
        let mut values = Vec::new();
        for schedule in &self.schedules {
            let Job::Http(job) = &schedule.job else { continue };
            let names = job.headers.values().chain(&job.body).flat_map(|it| placeholder::names(it));
            let filled = names.filter_map(|name| self.environment.0.get(name));
            values.extend(filled.map(|value| Secret::new(value.trim())));
        }
        values
    }
}

/// The password of an address, as written and as meant.
fn password(url: &Secret) -> Vec<Secret> {
    let Ok(url) = Url::parse(url.expose()) else { return Vec::new() };
    let Some(password) = url.password() else { return Vec::new() };
    vec![Secret::new(password), Secret::new(percent_decoded(password))]
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits = (byte == b'%').then(|| (rest.clone().next(), rest.clone().nth(1)));
        let hex = digits.and_then(|(high, low)| {
            let text = String::from_utf8(vec![high?, low?]).ok()?;
            u8::from_str_radix(&text, 16).ok()
        });
        if hex.is_some() {
            rest.nth(1);
        }
        bytes.push(hex.unwrap_or(byte));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_as_written_and_as_meant() {
        let found = password(&Secret::new("smtps://user:p%40ss-word-1%2@mail.example:465"));
        assert_eq!(found[1].expose(), "p@ss-word-1%2");
    }
}
