//! A delivery as a message: with its opening if nobody has heard of it, and its marks.

use super::{LATE, Worker};
use crate::alert::channel::Arrival;
use crate::alert::message::{self, Heard, Mark, Message};
use crate::alert::outbox::{self, Delivery};
use crate::watch::{Change, News};

impl Worker {
    /// The opening, for a message that has to tell it, too.
    pub(super) async fn opening(&mut self, head: &Delivery) -> Option<News> {
        if head.heard == outbox::Heard::Before || head.news.change == Change::Opened {
            return None;
        }
        match self.around.outbox.opening_of(head.news.incident.id).await {
            Ok(opening) => opening.map(|it| message::redacted(&it, &self.around.redactor)),
            Err(error) => {
                // The message is worth more than its first half.
                self.trouble.seen(&self.channel.name, &error);
                None
            }
        }
    }

    pub(super) fn compose(
        &self,
        news: &News,
        heard: outbox::Heard,
        opening: Option<&News>,
        marks: Vec<Mark>,
    ) -> Message {
        let news = message::redacted(news, &self.around.redactor);
        let heard = match heard {
            outbox::Heard::Before => Heard::Before,
            outbox::Heard::Nothing => Heard::Nothing(opening.unwrap_or(&news)),
        };
        message::compose(&news, heard, marks)
    }

    pub(super) fn marks(&self, head: &Delivery, held_back: usize) -> Vec<Mark> {
        let mut marks = Vec::new();
        if head.arrival == Arrival::Perhaps {
            marks.push(Mark::PossibleRepeat);
        }
        marks.extend(head.because.clone().map(|because| Mark::InsteadOf { because }));
        let by = self.around.clock.now() - head.created_at;
        if by >= LATE {
            marks.push(Mark::Late { by, because: head.last_error.clone() });
            if !head.told_instead.is_empty() {
                marks.push(Mark::OthersTold { channels: head.told_instead.clone() });
            }
        }
        if held_back > 0 {
            marks.push(Mark::HeldBack { n: held_back });
        }
        marks
    }
}
