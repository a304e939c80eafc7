//! A delivery as a message: with its opening if nobody has heard of it, and its marks.

use super::{LATE, Worker};
use crate::alert::channel::Arrival;
use crate::alert::message::{self, AlreadyNotified, Annotation, Message};
use crate::alert::outbox::{self, Delivery};
use crate::watch::{Change, News};

impl Worker {
    /// The opening, for a message that has to tell it, too.
    pub(super) async fn opening(&mut self, head: &Delivery) -> Option<News> {
        if head.already_notified == outbox::AlreadyNotified::Yes
            || head.news.change == Change::Opened
        {
            return None;
        }
        match self.context.outbox.opening_of(head.news.incident.id).await {
            Ok(opening) => opening.map(|it| message::redacted(&it, &self.context.redactor)),
            Err(error) => {
                // The message is worth more than its first half.
                self.store_failure.seen(&self.channel.name, &error);
                None
            }
        }
    }

    pub(super) fn compose(
        &self,
        news: &News,
        already_notified: outbox::AlreadyNotified,
        opening: Option<&News>,
        annotations: Vec<Annotation>,
    ) -> Message {
        let news = message::redacted(news, &self.context.redactor);
        let already_notified = match already_notified {
            outbox::AlreadyNotified::Yes => AlreadyNotified::Yes,
            outbox::AlreadyNotified::No => AlreadyNotified::No(opening.unwrap_or(&news)),
        };
        message::compose(&news, already_notified, annotations)
    }

    pub(super) fn annotations(&self, head: &Delivery, held_back: usize) -> Vec<Annotation> {
        let mut annotations = Vec::new();
        if head.arrival == Arrival::Unknown {
            annotations.push(Annotation::PossibleRepeat);
        }
        annotations
            .extend(head.fallback_reason.clone().map(|because| Annotation::InsteadOf { because }));
        let by = self.context.clock.now() - head.created_at;
        if by >= LATE {
            annotations.push(Annotation::Late { by, because: head.last_error.clone() });
            if !head.others_notified.is_empty() {
                annotations.push(Annotation::OthersTold { channels: head.others_notified.clone() });
            }
        }
        if held_back > 0 {
            annotations.push(Annotation::HeldBack { n: held_back });
        }
        annotations
    }
}
