//! Peculiarities of one delivery, told at the end of its message.
//!
//! Whoever gets the same text twice, late, or in place of another must see why.

use chrono::TimeDelta;

use super::words;

/// A peculiarity of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// An earlier attempt may have arrived.
    PossibleRepeat,
    /// It is delivered long after it was decided.
    Late {
        /// By so much.
        by: TimeDelta,
        /// The last error, if there was one.
        because: Option<String>,
    },
    /// Sent here because another channel could not deliver it.
    InsteadOf {
        /// `team-slack refused it: 404 no_service`.
        because: String,
    },
    /// Others were told meanwhile.
    OthersTold {
        /// Names of channels.
        channels: Vec<String>,
    },
    /// It could not be written down.
    NotRecorded,
    /// More messages wait, so that nobody is flooded.
    HeldBack {
        /// How many.
        n: usize,
    },
}

impl Annotation {
    /// As a sentence.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::PossibleRepeat => {
                "Possible repeat: an earlier attempt to send this may have arrived.".to_owned()
            }
            Self::Late { by, because: Some(because) } => {
                format!("Told late by {}: {}", words::duration(*by), ended(because))
            }
            Self::Late { by, because: None } => format!("Told late by {}.", words::duration(*by)),
            Self::InsteadOf { because } => format!("You get this because {}", ended(because)),
            Self::OthersTold { channels } => format!("Told meanwhile: {}.", channels.join(", ")),
            Self::NotRecorded => "Not recorded: Lookout can't write to its state directory. This \
                                  message may come again."
                .to_owned(),
            Self::HeldBack { n } => format!(
                "{} held back so that you are not flooded. All of it: lookout incidents",
                words::counted(*n as u64, "more message is", "more messages are")
            ),
        }
    }
}

/// With a full stop, once.
fn ended(text: &str) -> String {
    let text = words::one_line(text);
    if text.ends_with(['.', '…', '!', '?']) { text } else { format!("{text}.") }
}
