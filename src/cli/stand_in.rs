//! `lookout stand-in gemini`: the vision service that is not there, on loopback.
//!
//! It starts the stand-in, says where it listens, and waits for Ctrl-C or SIGTERM.
//! Invariant: it says on every start that no model looks at the pictures.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::EXIT_OK;
use crate::cli::output::Output;
use crate::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings, read_script};

/// Which service is stood in for.
#[derive(Debug, Subcommand)]
pub enum StandInCommand {
    /// Answer like the Gemini API, without an account
    Gemini {
        /// Port on 127.0.0.1; 0 for any free one
        #[arg(long, default_value_t = 8730)]
        port: u16,
        /// Behaviour (TOML, or JSON if the name ends in .json) [default: answer every valid request]
        #[arg(long, value_name = "FILE")]
        script: Option<PathBuf>,
    },
}

/// Runs until it is stopped.
///
/// # Errors
/// When the script can't be used or the port can't be had.
pub async fn run(command: StandInCommand) -> anyhow::Result<u8> {
    let StandInCommand::Gemini { port, script } = command;
    let behaviour = match script {
        Some(file) => read_script(&file)?,
        None => Behaviour::default(),
    };
    let stand_in =
        FakeGemini::start(FakeGeminiSettings { port, behaviour }).await.with_context(|| {
            format!(
                "port {port} on 127.0.0.1 can't be had; choose another with --port, or 0 for any"
            )
        })?;
    // A reader that wants no more than the address may go after the first line.
    let mut out = Output::stdout();
    writeln!(out, "listening on {}", stand_in.base_url)?;
    writeln!(out, "This is a stand-in: it measures images, no model looks at them.")?;
    writeln!(
        out,
        "Set [reviewer] base_url to the address above; counts are at {}/_control",
        stand_in.base_url
    )?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("Ctrl-C can't be watched")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let stats = stand_in.stats();
    writeln!(out, "stopped after {} calls, {} of them answered", stats.calls, stats.answered)?;
    stand_in.shutdown().await;
    Ok(out.end(EXIT_OK))
}
