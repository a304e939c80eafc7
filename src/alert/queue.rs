//! What a channel says next: pure choice among its pending deliveries.
//!
//! Pending messages of one incident become one: the newest speaks for all. What cannot wait comes
//! first, then the oldest.
//! Invariant: while an older message of an incident waits, a newer one is never sent without
//! taking it along, so nobody reads them in the wrong order.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::channel::Arrival;
use super::outbox::Delivery;
use super::pace::Urgency;
use crate::watch::{Change, Severity};

/// A message that could go out now.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The newest of its incident and recipient, with the arrival and age of all.
    pub head: Delivery,
    /// Older ones that it speaks for.
    pub merged: Vec<String>,
    /// Whether it may wait.
    pub urgency: Urgency,
}

/// Everything that is due, most urgent first. What failed before the channel `recovered_at` waits no
/// longer: its step was meant for a channel that was down.
#[must_use]
pub fn due(
    waiting: &[Delivery],
    now: DateTime<Utc>,
    recovered_at: Option<DateTime<Utc>>,
) -> Vec<Candidate> {
    let failed_before =
        |it: &Delivery| recovered_at.is_some_and(|at| it.attempts > 0 && it.due_at - it.wait <= at);
    let mut candidates: Vec<Candidate> = groups(waiting)
        .into_values()
        .filter_map(candidate)
        .filter(|it| wait_of(&it.head, now).is_none() || failed_before(&it.head))
        .collect();
    candidates.sort_by_key(|it| (it.urgency == Urgency::CanWait, it.head.created_at));
    candidates
}

/// When the next one is due, if none is; `None` if nothing waits.
#[must_use]
pub fn next_due_in(waiting: &[Delivery], now: DateTime<Utc>) -> Option<std::time::Duration> {
    groups(waiting)
        .into_values()
        .filter_map(candidate)
        .map(|it| wait_of(&it.head, now).unwrap_or_default())
        .min()
}

fn groups(waiting: &[Delivery]) -> BTreeMap<(i64, &str), Vec<&Delivery>> {
    let mut groups: BTreeMap<(i64, &str), Vec<&Delivery>> = BTreeMap::new();
    for delivery in waiting {
        let key = (delivery.news.incident.id, delivery.recipient.as_str());
        groups.entry(key).or_default().push(delivery);
    }
    groups
}

fn candidate(mut group: Vec<&Delivery>) -> Option<Candidate> {
    group.sort_by_key(|it| it.news.number);
    let mut head = (*group.pop()?).clone();
    for older in &group {
        head.created_at = head.created_at.min(older.created_at);
        if older.arrival == Arrival::Unknown {
            head.arrival = Arrival::Unknown;
        }
        if head.fallback_reason.is_none() {
            head.fallback_reason.clone_from(&older.fallback_reason);
        }
        if head.last_error.is_none() {
            head.last_error.clone_from(&older.last_error);
        }
        for other in &older.others_notified {
            if !head.others_notified.contains(other) {
                head.others_notified.push(other.clone());
            }
        }
    }
    let urgent =
        head.news.incident.severity == Severity::Critical || head.news.change == Change::Resolved;
    Some(Candidate {
        merged: group.into_iter().map(|it| it.id.clone()).collect(),
        urgency: if urgent { Urgency::Now } else { Urgency::CanWait },
        head,
    })
}

/// `None` if it is due. A wait that is longer than it was meant to be means that the wall clock
/// was set back: then it is due, too.
fn wait_of(delivery: &Delivery, now: DateTime<Utc>) -> Option<std::time::Duration> {
    let wait = delivery.due_at - now;
    if wait > delivery.wait {
        return None;
    }
    wait.to_std().ok().filter(|it| !it.is_zero())
}

#[cfg(test)]
pub(super) mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::alert::outbox::{AlreadyNotified, Fallback};
    use crate::watch::{Facts, Incident, IncidentKind, IncidentState, News};

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_772_600_400, 0).unwrap()
    }

    /// News `number` of an incident; each a minute after the last.
    pub(in crate::alert) fn news(incident: i64, number: u32, change: Change) -> News {
        let at = start() + TimeDelta::minutes(number.into());
        News {
            id: incident * 100 + i64::from(number),
            incident: Incident {
                id: incident,
                key: format!("prod/image-review/{incident}"),
                instance: "prod".into(),
                schedule: Some("image-review".into()),
                kind: IncidentKind::SignalMissing,
                severity: Severity::Critical,
                state: IncidentState::Open,
                opened_at: start(),
                resolved_at: (change == Change::Resolved).then_some(at),
                runs_affected: 1,
            },
            change,
            number,
            at,
            notify: vec![],
            facts: Facts::default(),
        }
    }

    fn delivery(news: News) -> Delivery {
        Delivery {
            id: format!("d{}", news.id),
            recipient: String::new(),
            attempts: 0,
            arrival: Arrival::No,
            created_at: news.at,
            expires_at: news.at + TimeDelta::hours(24),
            due_at: news.at,
            wait: TimeDelta::zero(),
            fallback_reason: None,
            last_error: None,
            fallback: Fallback::Open,
            already_notified: AlreadyNotified::No,
            others_notified: vec![],
            news,
        }
    }

    #[test]
    fn the_newest_speaks_for_all_of_its_incident() {
        let mut opener = delivery(news(1, 1, Change::Opened));
        opener.due_at = start() + TimeDelta::hours(1);
        opener.wait = TimeDelta::hours(1);
        opener.arrival = Arrival::Unknown;
        opener.last_error = Some("refused".into());
        let end = delivery(news(1, 2, Change::Resolved));
        let now = start() + TimeDelta::minutes(5);
        let due = due(&[opener.clone(), end], now, None);
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].head.id, "d102");
        assert_eq!(due[0].merged, ["d101"]);
        assert_eq!(due[0].head.arrival, Arrival::Unknown);
        assert_eq!(due[0].head.created_at, opener.created_at);
        assert_eq!(due[0].head.last_error.as_deref(), Some("refused"));
    }

    #[test]
    fn what_cannot_wait_comes_first_then_the_oldest() {
        let mut warning = news(1, 1, Change::Opened);
        warning.incident.severity = Severity::Warning;
        let waiting = [
            delivery(warning),
            delivery(news(3, 2, Change::Opened)),
            delivery(news(2, 1, Change::Opened)),
        ];
        let due = due(&waiting, start() + TimeDelta::minutes(5), None);
        let ids: Vec<i64> = due.iter().map(|it| it.head.news.incident.id).collect();
        assert_eq!(ids, [2, 3, 1]);
        assert_eq!(due[2].urgency, Urgency::CanWait);
    }

    #[test]
    fn recipients_have_messages_of_their_own() {
        let mut other = delivery(news(1, 1, Change::Opened));
        other.recipient = "b@example.org".into();
        other.id = "other".into();
        let waiting = [delivery(news(1, 1, Change::Opened)), other];
        assert_eq!(due(&waiting, start() + TimeDelta::hours(1), None).len(), 2);
    }

    #[test]
    fn what_failed_before_the_channel_came_back_is_due_at_once_and_what_failed_since_is_not() {
        let mut retry = delivery(news(1, 1, Change::Opened));
        retry.attempts = 8;
        retry.due_at = start() + TimeDelta::minutes(60);
        retry.wait = TimeDelta::minutes(30);
        let now = start() + TimeDelta::minutes(40);
        let at = |minutes| Some(start() + TimeDelta::minutes(minutes));
        assert_eq!(due(&[retry.clone()], now, at(35)).len(), 1);
        assert!(due(&[retry.clone()], now, at(25)).is_empty());
        assert!(due(&[retry], now, None).is_empty());
    }

    #[test]
    fn a_clock_that_was_set_back_stretches_no_wait() {
        let mut retry = delivery(news(1, 1, Change::Opened));
        retry.due_at = start() + TimeDelta::minutes(2);
        retry.wait = TimeDelta::minutes(2);
        assert!(due(&[retry.clone()], start() + TimeDelta::minutes(1), None).is_empty());
        let in_a_minute = next_due_in(&[retry.clone()], start() + TimeDelta::minutes(1));
        assert_eq!(in_a_minute, Some(std::time::Duration::from_secs(60)));
        assert_eq!(due(&[retry], start() - TimeDelta::hours(3), None).len(), 1);
        assert_eq!(next_due_in(&[], start()), None);
    }
}
