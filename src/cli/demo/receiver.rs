//! The webhook receiver of the demo: stands for the team's own software on loopback.
//!
//! Invariant: what it has taken in it hands on in the order of arrival, none left out.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::Value;
use tokio::sync::mpsc;

/// A running receiver.
#[derive(Debug)]
pub(super) struct Receiver {
    /// Where alerts are posted to.
    pub(super) url: String,
    messages: mpsc::UnboundedReceiver<Value>,
}

impl Receiver {
    /// Listens on a free port of loopback.
    pub(super) async fn start() -> std::io::Result<Self> {
        let (sender, messages) = mpsc::unbounded_channel();
        let router = Router::new().route("/alerts", post(take)).with_state(sender);
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let url = format!("http://{}/alerts", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, messages })
    }

    /// The next message; waits for it.
    pub(super) async fn next(&mut self) -> Option<Value> {
        self.messages.recv().await
    }
}

async fn take(State(sender): State<mpsc::UnboundedSender<Value>>, body: String) -> StatusCode {
    match serde_json::from_str(&body).map(|message| sender.send(message)) {
        Ok(Ok(())) => StatusCode::NO_CONTENT,
        // The story is over; nobody listens any more.
        Ok(Err(_)) => StatusCode::SERVICE_UNAVAILABLE,
        Err(_) => StatusCode::BAD_REQUEST,
    }
}
