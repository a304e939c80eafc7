//! `lookout alert`: test channels, list and resend undelivered messages.
//!
//! A test goes straight to the channel, past everything that is remembered: it asks the channel,
//! and a failure is told at once instead of being tried again.

use std::io::{self, Write};
use std::path::PathBuf;

use chrono::SecondsFormat;

use super::output::table::{Cell, Table};
use super::output::{self, Format, JsonFlag, Output, Tone};
use super::{EXIT_FAILED, EXIT_OK, load_config, names};
use crate::alert::channel::{self, ChannelSettings, Envelope};
use crate::alert::message;
use crate::alert::outbox::{DeadDelivery, Outbox, Replayed};
use crate::app::open_state::{Access, OpenState};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::redact::Redactor;

/// What to do with alerts.
#[derive(Debug, clap::Subcommand)]
pub enum AlertCommand {
    /// Send a test message to one channel, or to every channel
    Test {
        /// Channel; `lookout check` lists them
        #[arg(value_name = "CHANNEL")]
        channel: Option<String>,
    },
    /// List undelivered messages, with the reason
    Dead(JsonFlag),
    /// Resend an undelivered message
    Replay {
        /// Message id, as in `lookout alert dead`
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// The command.
#[must_use]
pub fn run(file: Option<PathBuf>, command: &AlertCommand) -> u8 {
    let config = match load_config::usable_aloud(file) {
        Ok(config) => config,
        Err(error) => return load_config::refused(&error),
    };
    match super::on_a_runtime(obey(&config, command)) {
        Ok(code) => code,
        Err(error) => output::fail(&format!("lookout: {error:#}")),
    }
}

async fn obey(config: &Config, command: &AlertCommand) -> anyhow::Result<u8> {
    let (clock, mut out) = (SystemClock, Output::stdout());
    let code = match command {
        AlertCommand::Test { channel } => {
            let instance = &config.service.instance;
            let redactor = config.redactor();
            let only = channel.as_deref();
            test(&config.channels, only, instance, &clock, &redactor, &mut out).await?
        }
        AlertCommand::Dead(json) => {
            let outbox = OpenState::open(config, Access::Look)?.outbox;
            dead(outbox.as_ref(), Format::choose(*json), &mut out).await?
        }
        AlertCommand::Replay { id } => {
            let outbox = OpenState::open(config, Access::Look)?.outbox;
            replay(outbox.as_ref(), id, &clock, &mut out).await?
        }
    };
    Ok(out.end(code))
}

/// How one test went.
struct Tried {
    channel: String,
    recipient: String,
    label: &'static str,
    outcome: Result<(), String>,
}

/// `lookout alert test`; exit code 1 if any channel did not take it.
///
/// # Errors
/// When standard output is closed.
pub async fn test(
    channels: &[ChannelSettings],
    only: Option<&str>,
    instance: &str,
    clock: &dyn Clock,
    redactor: &Redactor,
    out: &mut impl Write,
) -> io::Result<u8> {
    let wanted: Vec<&ChannelSettings> =
        channels.iter().filter(|it| only.is_none_or(|name| name == it.name)).collect();
    if wanted.is_empty() {
        return Ok(match only {
            Some(name) if !channels.is_empty() => {
                names::unknown("channel", name, channels.iter().map(|it| it.name.as_str()))
            }
            Some(_) | None => output::refuse(
                "No channel is set up, so nobody is alerted. Set SLACK_WEBHOOK_URL, \
                 ALERT_WEBHOOK_URL, or SMTP_URL and ALERT_EMAIL_TO in .env, or add a file to alerts/.",
            ),
        });
    }
    let mut code = EXIT_OK;
    for settings in wanted {
        for tried in try_channel(settings, instance, clock, redactor).await {
            let to = if tried.recipient.is_empty() {
                String::new()
            } else {
                format!(" to {}", tried.recipient)
            };
            match &tried.outcome {
                Ok(()) => writeln!(out, "{} ({}){to}: accepted", tried.channel, tried.label)?,
                Err(reason) => {
                    code = EXIT_FAILED;
                    writeln!(
                        out,
                        "{} ({}){to}: NOT accepted: {reason}",
                        tried.channel, tried.label
                    )?;
                }
            }
        }
    }
    Ok(code)
}

async fn try_channel(
    settings: &ChannelSettings,
    instance: &str,
    clock: &dyn Clock,
    redactor: &Redactor,
) -> Vec<Tried> {
    let name = settings.name.clone();
    let channel = match channel::build(settings) {
        Ok(channel) => channel,
        Err(error) => {
            let outcome = Err(error.problem);
            return vec![Tried {
                channel: name,
                recipient: String::new(),
                label: "settings",
                outcome,
            }];
        }
    };
    let message = message::test(instance, &name);
    let mut tried = Vec::new();
    for recipient in channel.recipients() {
        // Unlike an incident's, a test's id may be new each time: it is never repeated.
        let id = format!("msg_test_{}", uuid::Uuid::now_v7().simple());
        let envelope = Envelope { id, recipient: recipient.clone(), at: clock.now() };
        let outcome = channel.send(&message, &envelope).await;
        tried.push(Tried {
            channel: name.clone(),
            recipient,
            label: channel.label(),
            outcome: outcome.map_err(|error| redactor.redact(&error.to_string()).into_owned()),
        });
    }
    tried
}

/// `lookout alert dead`.
///
/// # Errors
/// When the store can't be read or standard output is closed.
pub async fn dead(outbox: &dyn Outbox, format: Format, out: &mut impl Write) -> anyhow::Result<u8> {
    let dead = outbox.dead().await?;
    match format {
        Format::Json => output::print_json(out, &dead)?,
        Format::Text(_) if dead.is_empty() => writeln!(out, "No undelivered messages.")?,
        Format::Text(style) => {
            table(&dead).print(out, style)?;
            writeln!(out, "\nResend one: lookout alert replay ID")?;
        }
    }
    Ok(EXIT_OK)
}

fn table(dead: &[DeadDelivery]) -> Table {
    let mut table =
        Table::new(["GIVEN UP (UTC)", "CHANNEL", "TO", "INCIDENT", "TRIES", "WHY", "ID"]);
    for it in dead {
        table.row([
            it.given_up_at.to_rfc3339_opts(SecondsFormat::Secs, true).into(),
            it.channel.clone().into(),
            it.recipient.clone().into(),
            format!("{} {}", it.incident, it.kind).into(),
            it.attempts.to_string().into(),
            Cell::toned(it.reason.clone(), Tone::Warning),
            it.id.clone().into(),
        ]);
    }
    table
}

/// `lookout alert replay`; the daemon sends it within seconds.
///
/// # Errors
/// When the store can't be written or standard output is closed.
pub async fn replay(
    outbox: &dyn Outbox,
    id: &str,
    clock: &dyn Clock,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    match outbox.replay(id, clock.now()).await? {
        Replayed::Queued => {
            writeln!(
                out,
                "Queued. The daemon sends it within seconds, marked as a possible repeat."
            )?;
            Ok(EXIT_OK)
        }
        Replayed::NotDead => Ok(output::fail(
            "This message is not undelivered: it was sent, or is still being tried.",
        )),
        Replayed::Unknown => Ok(output::fail(
            "There is no message with this id. `lookout alert dead` lists the ids.",
        )),
    }
}
