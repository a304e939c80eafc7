//! Who is told: from one piece of news to the channels that carry it. Pure.
//!
//! Invariants: nobody hears that something is over without having been told, or waiting to be
//! told, that it began; and news that name channels which are all gone go to every channel,
//! because an alert that nobody gets is worse than one too many.

use super::channel::ConfiguredChannel;
use crate::watch::{Change, IncidentKind, News};

/// The channels for this news; `notified` are the names of those that have a delivery of the same
/// incident already, whatever became of it.
#[must_use]
pub fn channels_for<'a>(
    news: &News,
    channels: &'a [ConfiguredChannel],
    notified: &[String],
) -> Vec<&'a ConfiguredChannel> {
    if news.change == Change::Resolved {
        return channels.iter().filter(|it| notified.contains(&it.name)).collect();
    }
    let mut chosen: Vec<&ConfiguredChannel> =
        channels.iter().filter(|it| news.notify.contains(&it.name)).collect();
    if chosen.is_empty() {
        chosen = channels.iter().collect();
    }
    chosen.retain(|it| it.severity <= news.incident.severity);
    if news.incident.kind == IncidentKind::ChannelBroken && news.facts.refused.is_none() {
        let broken = news.facts.provider.as_deref();
        // The others tell it; with no other, it waits for the broken one and is told late.
        if chosen.iter().any(|it| Some(it.name.as_str()) != broken) {
            chosen.retain(|it| Some(it.name.as_str()) != broken);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::alert::channel::console::Console;
    use crate::alert::queue::tests::news;
    use crate::watch::Severity;

    fn channel(name: &str, severity: Severity) -> ConfiguredChannel {
        ConfiguredChannel {
            name: name.into(),
            severity,
            fallback: None,
            channel: Arc::new(Console),
        }
    }

    fn names(news: &News, notified: &[&str]) -> Vec<String> {
        let channels = [
            channel("slack", Severity::Warning),
            channel("mail", Severity::Critical),
            channel("all", Severity::Info),
        ];
        let notified: Vec<String> = notified.iter().map(|it| (*it).to_owned()).collect();
        channels_for(news, &channels, &notified).into_iter().map(|it| it.name.clone()).collect()
    }

    #[test]
    fn severity_decides_who_is_notified() {
        let mut news = news(1, 1, Change::Opened);
        news.incident.severity = Severity::Warning;
        assert_eq!(names(&news, &[]), ["slack", "all"]);
        news.incident.severity = Severity::Critical;
        assert_eq!(names(&news, &[]), ["slack", "mail", "all"]);
    }

    #[test]
    fn a_schedule_may_name_its_channels_but_not_nobody() {
        let mut news = news(1, 1, Change::Opened);
        news.notify = vec!["mail".into()];
        assert_eq!(names(&news, &[]), ["mail"]);
        news.notify = vec!["renamed".into()];
        assert_eq!(names(&news, &[]), ["slack", "mail", "all"]);
    }

    #[test]
    fn the_end_goes_to_those_who_got_the_beginning() {
        let news = news(1, 2, Change::Resolved);
        assert_eq!(names(&news, &["mail"]), ["mail"]);
        assert!(names(&news, &[]).is_empty());
    }

    #[test]
    fn a_broken_channel_is_reported_by_the_others() {
        let mut news = news(1, 1, Change::Opened);
        news.incident.kind = IncidentKind::ChannelBroken;
        news.facts.provider = Some("slack".into());
        assert_eq!(names(&news, &[]), ["mail", "all"]);
        news.notify = vec!["slack".into()];
        assert_eq!(names(&news, &[]), ["slack"]);
    }
}
