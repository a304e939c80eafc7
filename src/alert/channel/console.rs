//! Standard error of the daemon: what is left when nothing else is configured.

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;

use super::{Arrival, Channel, Envelope, SendError};
use crate::alert::message::{self, Message};

/// Writes to standard error.
#[derive(Debug, Clone, Copy)]
pub struct Console;

#[async_trait]
impl Channel for Console {
    fn label(&self) -> &'static str {
        "console"
    }

    async fn send(&self, message: &Message, _envelope: &Envelope) -> Result<(), SendError> {
        let text = message::console(message);
        let mut stderr = tokio::io::stderr();
        let written = async {
            stderr.write_all(text.as_bytes()).await?;
            stderr.flush().await
        };
        // A reader that has stopped reading (a paused terminal) must not stop the queue.
        match tokio::time::timeout(super::TIME_LIMIT, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SendError::Transient {
                reason: format!("standard error can't be written: {error}"),
                arrival: Arrival::No,
            }),
            Err(_) => Err(SendError::Transient {
                reason: "standard error takes no more output".to_owned(),
                arrival: Arrival::Unknown,
            }),
        }
    }
}
