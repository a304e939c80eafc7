//! `lookout demo`: the whole program on this machine in three minutes, told as it goes.
//!
//! A folder of its own (`scratch.rs`), the stand-in for the vision service, a receiver for the
//! messages (`receiver.rs`), the same App as `lookout serve`, and a narrator (`story.rs`).
//! Invariant: nothing in it is acted: runs are processes, messages are delivered over HTTP, and
//! what the narrator says it has read from `guard.db`, the records or the receiver.

mod receiver;
mod results;
mod scratch;
mod story;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use self::receiver::Receiver;
use self::scratch::{Addresses, Scratch};
use self::story::{Ending, Story};
use crate::app::{App, run_now};
use crate::cli::EXIT_OK;
use crate::config::{self, Location};
use crate::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings};
use crate::timezone::TimeZones;

/// What each picture takes at the stand-in; about a third of what Gemini takes, so that a
/// visitor sees pictures pass one after the other.
pub(super) const LATENCY: Duration = Duration::from_millis(400);

/// What the visitor asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArguments {
    /// Exit after the story, about three minutes
    #[arg(long)]
    pub once: bool,
    /// Use the images of this folder; they are copied
    #[arg(long, value_name = "DIR")]
    pub images: Option<std::path::PathBuf>,
}

/// Runs the demo until its end or Ctrl-C.
///
/// # Errors
/// When something that the story tells of did not happen, or a port can't be had.
pub(super) async fn run(arguments: DemoArguments) -> anyhow::Result<u8> {
    match perform(&arguments).await {
        // Nobody watches any more, so the demo is over.
        Err(error) if is_broken_pipe(&error) => Ok(EXIT_OK),
        played => played.map(|()| EXIT_OK),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn perform(arguments: &DemoArguments) -> anyhow::Result<()> {
    let scratch = Scratch::new(arguments.images.as_deref())?;
    let behaviour = Behaviour::slow(LATENCY);
    let gemini = FakeGemini::start(FakeGeminiSettings { port: 0, behaviour })
        .await
        .context("can't open a port on this machine for the stand-in")?;
    let receiver = Receiver::start().await.context("can't open a port for the receiver")?;
    let page = free_address().await?;
    let file = scratch.write_configuration(&Addresses {
        gemini: &gemini.base_url,
        alerts: &receiver.url,
        page: &page,
    })?;
    let config = load(&file, &scratch.root)?;
    let app = App::build(config)?;
    let stop = CancellationToken::new();
    let state = app.open_state();
    let running = tokio::spawn(app.run(stop.clone()));
    let runs = state.clone();
    let mut story =
        Story { scratch: &scratch, gemini: &gemini, receiver, state, page: &page, n_messages: 0 };
    let ending = if arguments.once { Ending::Once } else { Ending::GoesOn };
    let played = tokio::select! {
        played = story.play(ending) => played,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    stop.cancel();
    running.await.context("the daemon of the demo broke")??;
    // A keeper outlives its daemon; nobody would look at what it does here.
    run_now::stop_all(&runs).await?;
    gemini.shutdown().await;
    played.and_then(|()| {
        let text = format!("\nEverything the demo wrote is in {}.", scratch.root.display());
        Ok(story::say(&text)?)
    })
}

/// The configuration as any user's; the visitor's own environment is left out, so that a real
/// key that happens to be set is never used.
fn load(file: &Path, root: &Path) -> anyhow::Result<config::Config> {
    let zones = TimeZones::built_in();
    let location = Location { config: Some(file.to_owned()), cwd: root.to_owned(), zones };
    config::load(&location, &BTreeMap::new())
        .map_err(|problems| anyhow::anyhow!("the demo's own configuration is refused:\n{problems}"))
}

/// An address on loopback that is free now.
async fn free_address() -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    Ok(listener.local_addr()?.to_string())
}
