//! Well-known hosts of incoming hooks, and the form each takes. Pure.
//!
//! Every service has a form of its own and answers another with 400 at best; told by `check` before
//! the first message. Sources: the services' documentation of their incoming webhooks.
//! Invariant: what is said here holds no part of the address but the service's name.

use url::Url;

use crate::secret::Secret;

/// A service that takes messages by a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Slack,
    Discord,
    /// Discord's own adapter for Slack's form: the path ends with `/slack`.
    DiscordForSlack,
    Teams,
    GoogleChat,
    Ntfy,
    PagerDuty,
    Telegram,
}

fn service(url: &Secret) -> Option<Service> {
    let url = Url::parse(url.expose().trim()).ok()?;
    let host = url.host_str()?.to_ascii_lowercase();
    let is = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
    if is("hooks.slack.com") || is("hooks.slack-gov.com") {
        Some(Service::Slack)
    } else if is("discord.com") || is("discordapp.com") {
        let is_adapter = url.path().trim_end_matches('/').ends_with("/slack");
        Some(if is_adapter { Service::DiscordForSlack } else { Service::Discord })
    } else if is("webhook.office.com") || is("logic.azure.com") || is("powerplatform.com") {
        Some(Service::Teams)
    } else if is("chat.googleapis.com") {
        Some(Service::GoogleChat)
    } else if is("ntfy.sh") {
        Some(Service::Ntfy)
    } else if is("events.pagerduty.com") || is("events.eu.pagerduty.com") {
        Some(Service::PagerDuty)
    } else if is("api.telegram.org") {
        Some(Service::Telegram)
    } else {
        None
    }
}

/// What is wrong with this address for `kind = "slack"`.
#[must_use]
pub fn slack(url: &Secret) -> Option<String> {
    match service(url)? {
        Service::Slack | Service::DiscordForSlack => None,
        Service::Discord => Some(
            "Discord takes Slack's form at its webhook address with /slack at the end".to_owned(),
        ),
        other @ (Service::Teams
        | Service::GoogleChat
        | Service::Ntfy
        | Service::PagerDuty
        | Service::Telegram) => Some(other.needs_a_form_of_its_own()),
    }
}

/// What is wrong with this address for `kind = "webhook"`, which posts our own JSON.
#[must_use]
pub fn webhook(url: &Secret) -> Option<String> {
    match service(url)? {
        Service::Slack => Some(
            "Slack takes its own form only: use kind = \"slack\", or SLACK_WEBHOOK_URL in place of \
             ALERT_WEBHOOK_URL"
                .to_owned(),
        ),
        Service::Discord | Service::DiscordForSlack => Some(
            "Discord takes its own form, or Slack's at its webhook address with /slack at the end: \
             use kind = \"slack\", or SLACK_WEBHOOK_URL in place of ALERT_WEBHOOK_URL, with that"
                .to_owned(),
        ),
        other @ (Service::Teams
        | Service::GoogleChat
        | Service::Ntfy
        | Service::PagerDuty
        | Service::Telegram) => Some(other.needs_a_form_of_its_own()),
    }
}

impl Service {
    fn needs_a_form_of_its_own(self) -> String {
        let (name, form) = match self {
            Self::Slack => ("Slack", "blocks"),
            Self::Discord | Self::DiscordForSlack => ("Discord", "{\"content\": …}"),
            Self::Teams => ("Microsoft Teams", "an Adaptive Card"),
            Self::GoogleChat => ("Google Chat", "{\"text\": …} and nothing else"),
            Self::Ntfy => ("ntfy", "plain text, and would show our JSON as it is"),
            Self::PagerDuty => ("PagerDuty", "events with a routing_key"),
            Self::Telegram => ("Telegram", "{\"chat_id\": …, \"text\": …}"),
        };
        format!(
            "{name} takes {form}, which Lookout does not send. Let a small service in between put \
             the message into that form, or use e-mail. Find out with: lookout alert test"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hosts_are_named_with_the_form_they_take() {
        for (url, for_slack, for_webhook) in [
            ("https://hooks.slack.com/services/T/B/x", None, Some("kind = \"slack\"")),
            ("https://discord.com/api/webhooks/1/x", Some("/slack"), Some("/slack")),
            ("https://discordapp.com/api/webhooks/1/x/slack", None, Some("SLACK_WEBHOOK_URL")),
            ("https://acme.webhook.office.com/webhookb2/x", Some("Teams"), Some("Adaptive")),
            ("https://prod-1.westeurope.logic.azure.com/x", Some("Teams"), Some("Teams")),
            ("https://chat.googleapis.com/v1/spaces/x", Some("Google"), Some("Google")),
            ("https://ntfy.sh/topic", Some("ntfy"), Some("plain text")),
            ("https://events.pagerduty.com/v2/enqueue", Some("PagerDuty"), Some("routing_key")),
            ("https://api.telegram.org/bot1:x/sendMessage", Some("chat_id"), Some("chat_id")),
            ("https://example.org/discord.com", None, None),
            ("https://notdiscord.com/x", None, None),
            ("http://127.0.0.1:1/x", None, None),
        ] {
            let url = Secret::new(url);
            for (said, wanted) in [(slack(&url), for_slack), (webhook(&url), for_webhook)] {
                assert_eq!(said.is_some(), wanted.is_some(), "{said:?}");
                assert!(said.unwrap_or_default().contains(wanted.unwrap_or_default()));
            }
        }
    }
}
