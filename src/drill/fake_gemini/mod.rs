//! The Gemini stand-in: a server on loopback that speaks the service's protocol.
//!
//! It checks requests as strictly as the service does (`fields.rs`, `check.rs`, `request.rs`),
//! behaves as a script says (`behaviour.rs`), and answers from what can be measured about a picture
//! (`look.rs`, `answer.rs`). `routes.rs` puts that on the wire, `door.rs` opens and closes the port.
//! Invariant: it binds to loopback only, and is used only when asked for by name.

mod answer;
mod behaviour;
mod check;
mod envelope;
mod fields;
mod image_stats;
mod listener;
mod models;
mod request;
mod routes;
mod stats;

use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use answer::MODEL_VERSION;
pub use behaviour::{
    Behaviour, Colour, Looking, Outcome, Quota, Raw, Refuse, Rule, ScriptError, read_script,
};
pub use stats::{Minute, Stats};

/// How to start a stand-in.
#[derive(Clone, Debug, Default)]
pub struct FakeGeminiSettings {
    /// 0: any free one.
    pub port: u16,
    /// From the first call on.
    pub behaviour: Behaviour,
}

/// A running stand-in; it stops when this is dropped.
#[derive(Debug)]
pub struct FakeGemini {
    /// `http://127.0.0.1:PORT`, to be given as the reviewer's `base_url`.
    pub base_url: String,
    shared: Arc<routes::Shared>,
    obeyed: watch::Receiver<u64>,
    server: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl FakeGemini {
    /// Binds the port and starts serving.
    ///
    /// # Errors
    /// When the port can't be had.
    #[expect(clippy::unused_async, reason = "must be called inside a runtime, and says so")]
    pub async fn start(settings: FakeGeminiSettings) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (shared, plan) = routes::Shared::new(settings.behaviour, stop.clone());
        let (obeyed_in, obeyed) = watch::channel(0);
        let listener =
            listener::SwitchableListener::open(settings.port, plan, obeyed_in, stop.clone())?;
        let base_url = format!("http://{}", listener.address());
        let serve = axum::serve(listener, routes::router(Arc::clone(&shared)))
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        let server = tokio::spawn(async move {
            // axum's serve ends only when told to; its error type is never made.
            let _ = serve.await;
        });
        Ok(Self { base_url, shared, obeyed, server: Some(server), stop })
    }

    /// Sets a new behaviour and starts its times and counts anew; returns when it is in force.
    pub async fn set_behaviour(&self, behaviour: Behaviour) {
        let number = self.shared.set_behaviour(behaviour);
        // An error means that the stand-in is stopped; there is nothing to wait for then.
        let _ = self.obeyed.clone().wait_for(|obeyed| *obeyed >= number).await;
    }

    /// The behaviour as it was set.
    #[must_use]
    pub fn behaviour(&self) -> Behaviour {
        self.shared.behaviour()
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Sets all counts to nothing.
    pub fn reset_stats(&self) {
        self.shared.reset_stats();
    }

    /// Stops serving and cuts what is open.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(server) = self.server.take() {
            // A panic of the server has been printed already; there is nothing left to stop.
            let _ = server.await;
        }
    }
}

impl Drop for FakeGemini {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
