//! The demo's narrator: five scenes, in plain words, each read off what really happened.
//!
//! Invariant: it waits for events (a verdict, a message), each with a limit after which it says
//! what is missing and ends with an error, so that `demo --once` can't hang.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::LATENCY;
use super::receiver::Receiver;
use super::results::reviewed;
use super::scratch::Scratch;
use crate::app::open_state::OpenState;
use crate::cli::output::table::folded;
use crate::clock::{Clock, SystemClock};
use crate::drill::fake_gemini::{Behaviour, FakeGemini, Outcome};
use crate::run::ledger::Request;
use crate::schedule::ScheduleName;
use crate::watch::Verdict;
use crate::watch::history::{SlotFilter, SlotRow};

/// Longest wait for one scene: the next minute, a box of 40 s, its graces, and some air.
const SCENE_LIMIT: Duration = Duration::from_secs(150);

/// Of a message: beside its margin it fits into 80 columns.
const COLUMNS: usize = 72;

/// What happens after the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The demo ends.
    Once,
    /// The schedule goes on until Ctrl-C.
    GoesOn,
}

/// The narrator and what it looks at.
pub(super) struct Story<'a> {
    pub(super) scratch: &'a Scratch,
    pub(super) gemini: &'a FakeGemini,
    pub(super) receiver: Receiver,
    pub(super) state: OpenState,
    pub(super) page: &'a str,
    pub(super) n_messages: u32,
}

/// One line of the closing table.
struct Scene {
    title: &'static str,
    outcome: String,
    messages: String,
}

impl Story<'_> {
    /// Tells the whole story.
    pub(super) async fn play(&mut self, ending: Ending) -> anyhow::Result<()> {
        self.introduce()?;
        let mut scenes = vec![self.good_run().await?];
        scenes.push(self.outage().await?);
        scenes.push(self.recovery().await?);
        scenes.push(self.silent_job().await?);
        self.close(&scenes).await?;
        if ending == Ending::GoesOn {
            say(&format!(
                "\nThe demo continues with new images every minute. Open http://{}, and press\n\
                 Ctrl-C to stop.",
                self.page
            ))?;
            for round in 3_u32.. {
                let seen = now();
                self.scratch.add_pictures(&format!("{round}"))?;
                let run = self.run_after("image-review", seen).await?;
                say(&format!("{}  Run {}: {}.", clock(), hour(run.due_at), outcome(&run)))?;
            }
        }
        Ok(())
    }

    fn introduce(&self) -> io::Result<()> {
        say(&format!(
            "Lookout demo\n\
             ------------\n\
             A team reviews images. Every minute (usually every hour) Lookout starts a run.\n\
             Each run reviews the waiting images in its own process and must end with the\n\
             completion message \"Bulk processing completed.\" If it does not, the team gets\n\
             one message, and another one when the problem is resolved.\n\n\
             Nothing leaves this machine. A fake Gemini answers: no model looks at the\n\
             images, so its answers are only as good as the colours and edges it measures.\n\n\
             Folder   {}\nPage     http://{}\n",
            self.scratch.root.display(),
            self.page
        ))
    }

    async fn good_run(&mut self) -> anyhow::Result<Scene> {
        self.scratch.add_pictures("1")?;
        self.scratch.add_broken_files()?;
        scene(1, "A good run")?;
        say(&format!(
            "{} images wait, and two files that are broken on purpose: one is cut in half,\n\
             the other is a web page named .jpg. The next run starts at the full minute.",
            self.scratch.n_pictures()
        ))?;
        let run = self.run_after("image-review", now()).await?;
        say(&format!("{}  Run {}: {}.", clock(), hour(run.due_at), outcome(&run)))?;
        self.show_results().await?;
        say("A broken file is tried three times, with pauses, before it is marked as an error;\n\
             that can take until the next run. Nobody gets a message: the run is fine.")?;
        expect(&run, Verdict::Completed)?;
        Ok(Scene { title: "A good run", outcome: outcome(&run), messages: "nobody".into() })
    }

    async fn outage(&mut self) -> anyhow::Result<Scene> {
        self.gemini.set_behaviour(Behaviour::always(Outcome::HighDemand)).await;
        self.scratch.add_pictures("2")?;
        scene(2, "Gemini answers 503")?;
        say(&format!(
            "The fake Gemini now answers every request with 503, \"This model is currently\n\
             experiencing high demand\". {} new images wait.",
            self.scratch.n_pictures()
        ))?;
        let run = self.run_after("image-review", now()).await?;
        say(&format!(
            "{}  Run {}: {}.\n\
             The images returned to the queue, and no try was used. (The two errors are the\n\
             broken files, at their third try.)",
            clock(),
            hour(run.due_at),
            outcome(&run)
        ))?;
        let message = self.message("opened", "provider_unavailable").await?;
        show(&message)?;
        Ok(Scene {
            title: "Gemini answers 503",
            outcome: outcome(&run),
            messages: "one message".into(),
        })
    }

    async fn recovery(&mut self) -> anyhow::Result<Scene> {
        self.gemini.set_behaviour(Behaviour::slow(LATENCY)).await;
        scene(3, "Gemini is back")?;
        say("The fake Gemini answers again. The returned images are still waiting.")?;
        let run = self.run_after("image-review", now()).await?;
        say(&format!("{}  Run {}: {}.", clock(), hour(run.due_at), outcome(&run)))?;
        let message = self.message("resolved", "provider_unavailable").await?;
        show(&message)?;
        expect(&run, Verdict::Completed)?;
        Ok(Scene {
            title: "Gemini is back",
            outcome: outcome(&run),
            messages: "one message: resolved".into(),
        })
    }

    async fn silent_job(&mut self) -> anyhow::Result<Scene> {
        scene(4, "A job without its completion message")?;
        say("Lookout guards other programs, too. nightly-export is a shell command that must\n\
             print \"export finished\". It ends with exit code 0, but never prints that.")?;
        let seen = now();
        let schedule = ScheduleName::new("nightly-export");
        self.state
            .ledger
            .ask(&Request::Run { schedule }, seen)
            .await
            .context("can't ask for a run")?;
        let run = self.run_after("nightly-export", seen - chrono::TimeDelta::seconds(2)).await?;
        say(&format!("{}  Run {}: {}.", clock(), hour(run.due_at), outcome(&run)))?;
        let message = self.message("opened", "signal_missing").await?;
        show(&message)?;
        expect(&run, Verdict::NoSignal)?;
        Ok(Scene {
            title: "No completion message",
            outcome: outcome(&run),
            messages: "one message".into(),
        })
    }

    /// The first run of this schedule that is due after `seen` and has been judged.
    async fn run_after(&self, schedule: &str, seen: DateTime<Utc>) -> anyhow::Result<SlotRow> {
        let filter = SlotFilter {
            schedule: Some(schedule.to_owned()),
            from: Some(seen),
            ..SlotFilter::default()
        };
        let judged = async {
            loop {
                let rows = self.state.history.slots(filter.clone()).await?;
                if let Some(row) = rows.into_iter().rev().find(|row| row.verdict.is_some()) {
                    return Ok(row);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(SCENE_LIMIT, judged).await.unwrap_or_else(|_| {
            bail!("no run of {schedule} was judged within {} s", SCENE_LIMIT.as_secs())
        })
    }

    /// The next message, which must be this one: one fault, one message.
    async fn message(&mut self, change: &str, kind: &str) -> anyhow::Result<Value> {
        let message = tokio::time::timeout(SCENE_LIMIT, self.receiver.next())
            .await
            .ok()
            .flatten()
            .with_context(|| format!("the message of {kind} {change} did not come"))?;
        let is_expected = message["type"] == format!("lookout.incident.{change}")
            && message["data"]["kind"] == kind;
        self.n_messages += 1;
        if is_expected {
            Ok(message)
        } else {
            bail!("another message came than expected: {message:#}")
        }
    }

    async fn show_results(&self) -> anyhow::Result<()> {
        for row in reviewed(&self.scratch.root).await? {
            say(&format!("    {:<18} {:<16} {}", row.name, row.status, cut(&row.details, 38)))?;
        }
        Ok(())
    }

    async fn close(&self, scenes: &[Scene]) -> anyhow::Result<()> {
        say("\nWhat you saw")?;
        say(&format!("    {:<21}  {:<22}  {}", "scene", "message", "run"))?;
        for scene in scenes {
            say(&format!("    {:<21}  {:<22}  {}", scene.title, scene.messages, scene.outcome))?;
        }
        let rows = reviewed(&self.scratch.root).await?;
        let n_errors = rows.iter().filter(|row| row.status == "error").count();
        let stats = self.gemini.stats();
        say(&format!(
            "\n{} images reviewed, {n_errors} marked as errors after three tries, {} requests to\n\
             the fake Gemini, {} messages.",
            rows.len() - n_errors,
            stats.calls,
            self.n_messages
        ))?;
        Ok(())
    }
}

/// One line to the visitor.
///
/// # Errors
/// When standard output can't be written: nobody watches, and the demo ends.
pub(super) fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

fn scene(number: u32, title: &str) -> io::Result<()> {
    say(&format!("\n{number}. {title}\n"))
}

/// The message as a person would read it, from the JSON that arrived.
fn show(message: &Value) -> io::Result<()> {
    let data = &message["data"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |name: &str| data[name].as_array().cloned().unwrap_or_default();
    let mut lines = vec![text(&data["title"]), String::new()];
    lines.extend(folded(&text(&data["text"]), COLUMNS));
    for fact in list("facts") {
        lines.push(format!("{}: {}", text(&fact["label"]), text(&fact["value"])));
    }
    for piece in list("evidence") {
        lines.push(format!("{}:", text(&piece["label"])));
        lines.extend(text(&piece["text"]).lines().map(|line| format!("    {line}")));
    }
    for (index, step) in list("steps").iter().enumerate() {
        let line = format!("{}. {}  {}", index + 1, text(&step["text"]), text(&step["command"]));
        lines.push(line.trim_end().to_owned());
    }
    lines.extend(folded(&text(&data["next"]), COLUMNS));
    say("\n    The team's webhook received:\n    |")?;
    for line in lines {
        say(format!("    | {line}").trim_end())?;
    }
    say("    |")
}

fn expect(run: &SlotRow, verdict: Verdict) -> anyhow::Result<()> {
    if run.verdict == Some(verdict) {
        return Ok(());
    }
    bail!(
        "this run should have been judged {verdict}, but was judged {}: {}",
        run.verdict.map_or("not at all", Verdict::as_str),
        run.reason.as_deref().unwrap_or("no reason given")
    )
}

/// What became of a run, in a few words.
fn outcome(run: &SlotRow) -> String {
    let counts = &run.summary.counts;
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    let verdict = run.verdict.map_or("not judged", |verdict| match verdict {
        Verdict::Completed => "completed",
        Verdict::NoSignal => "no completion message",
        Verdict::Failed => "failed",
        Verdict::TimedOut => "timed out",
        Verdict::Stalled => "stalled",
        Verdict::Interrupted => "interrupted",
        Verdict::Missed => "missed",
        Verdict::Skipped => "skipped",
        Verdict::Unobserved => "not observed",
    });
    if counts.is_empty() {
        return verdict.to_owned();
    }
    format!(
        "{verdict}; {} reviewed, {} errors, {} returned",
        count("succeeded"),
        count("errored"),
        count("returned")
    )
}

fn now() -> DateTime<Utc> {
    SystemClock.now()
}

fn clock() -> String {
    now().format("%H:%M:%S").to_string()
}

fn hour(at: DateTime<Utc>) -> String {
    at.format("%H:%M").to_string()
}

fn cut(text: &str, n_chars: usize) -> String {
    if text.chars().count() <= n_chars {
        return text.to_owned();
    }
    text.chars().take(n_chars - 1).chain(['…']).collect()
}
