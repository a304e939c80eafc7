//! `lookout history --images ID`: one image's story, try by try, as `review.db` tells it.
//!
//! Invariant: what it cost is said to be unknown where it is, never 0.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::short;
use crate::cli::output::time::{Span, moment};
use crate::cli::output::{self, Format, JsonFlag, Output, Style, Tone};
use crate::cli::{EXIT_FAILED, EXIT_OK, load_config};
use crate::clock::{Clock, SystemClock};
use crate::review::record::RecordId;
use crate::review::tries::sqlite::queries::{ReviewDb, TryRow};
use crate::text;

/// The command.
pub(super) fn run(file: Option<PathBuf>, id: &str, json: JsonFlag) -> u8 {
    let config = match load_config::for_review(file) {
        Ok(config) => config,
        Err(error) => return load_config::refused(&error),
    };
    let id = RecordId(id.to_owned());
    let story = ReviewDb::open(&config.review.state_dir)
        .and_then(|notes| notes.map_or(Ok(Vec::new()), |notes| notes.story(&id)));
    let story = match story {
        Ok(story) => story,
        Err(error) => return output::fail(&format!("lookout history: {error}")),
    };
    let mut out = Output::stdout();
    // An `Output` remembers what can't be written.
    let _ = print(&story, &id, SystemClock.now(), Format::choose(json), &mut out);
    out.end(if story.is_empty() { EXIT_FAILED } else { EXIT_OK })
}

fn print(
    story: &[TryRow],
    id: &RecordId,
    now: DateTime<Utc>,
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    let style = match format {
        Format::Json => return output::print_json(out, &story),
        Format::Text(style) => style,
    };
    if story.is_empty() {
        return writeln!(
            out,
            "No review here has had the image {} in hand. The id is the one in the table.",
            id.0
        );
    }
    let n = story.len();
    writeln!(out, "Image {}: {n} {}.", id.0, if n == 1 { "try" } else { "tries" })?;
    let scopes = story.iter().any(|one| one.scope != story[0].scope);
    for (number, one) in story.iter().enumerate() {
        writeln!(out)?;
        print_try(number + 1, one, now, style, out)?;
        if scopes {
            line(out, "records", &one.scope)?;
        }
    }
    Ok(())
}

fn print_try(
    number: usize,
    one: &TryRow,
    now: DateTime<Utc>,
    style: Style,
    out: &mut impl Write,
) -> io::Result<()> {
    let when = moment(one.begun_at, None, now);
    writeln!(out, "{number}. {when}, run {}", short(&one.run))?;
    let (tone, words) = outcome(one);
    line(out, "outcome", &tone.paint(&words, style))?;
    if let (Some(category), Some(details)) = (&one.category, &one.details) {
        line(out, "written", &on_one_line(&format!("{category}: {details}")))?;
    }
    if let Some(reason) = &one.reason {
        line(out, "reason", &on_one_line(reason))?;
    }
    if let Some(sha256) = &one.sha256 {
        line(out, "file", &format!("SHA-256 {sha256}"))?;
    }
    let Some(model) = &one.model else {
        return line(out, "model", "none was asked, nothing spent");
    };
    let answered = match &one.model_version {
        Some(version) => format!("{version} answered"),
        None => "it did not say which one answered".to_owned(),
    };
    line(out, "model", &on_one_line(&format!("{model} asked, {answered}")))?;
    if let Some(hash) = &one.prompt_hash {
        line(out, "prompt", &format!("hash {hash}"))?;
    }
    let usd = one.usd.map_or_else(|| "unknown".to_owned(), |usd| format!("{usd:.6} USD"));
    let tokens = format!("{} tokens in, {} out", one.tokens_in, one.tokens_out);
    line(out, "cost", &format!("{usd} ({tokens})"))?;
    line(out, "time", &time(one))
}

/// Words for people, and whether it is good.
fn outcome(one: &TryRow) -> (Tone, String) {
    let (tone, words) = match one.outcome.as_deref() {
        Some("answered") => (Tone::Good, "answered"),
        Some("blocked") => (Tone::Warning, "blocked by the provider: for a person to look at"),
        Some("failed") => (Tone::Bad, "failed: one of its three tries is used up"),
        Some("fault") => (Tone::Warning, "the provider's or the bucket's fault: no try is used up"),
        Some("own_fault") => (Tone::Warning, "a fault that met this image while others succeeded"),
        Some("returned") => (Tone::Dim, "given back before it ended: no try is used up"),
        Some("died") => (Tone::Warning, "the review's process ended: no try is used up"),
        Some(other) => return (Tone::Plain, on_one_line(other)),
        None => (Tone::Dim, "under way, or its process died and no review has started since"),
    };
    (tone, words.to_owned())
}

fn time(one: &TryRow) -> String {
    let span = |ms: u64| Span(Duration::from_millis(ms)).to_string();
    let took = one.took_ms.map_or_else(|| "unknown".to_owned(), span);
    let provider = one.provider_ms.map(|ms| format!(", {} of it at the provider", span(ms)));
    let billed = match one.possibly_billed {
        0 => String::new(),
        n => format!(", {n} without a response, possibly billed"),
    };
    let requests = if one.attempts == 1 { "request" } else { "requests" };
    format!("{took}{} ({} {requests}{billed})", provider.unwrap_or_default(), one.attempts)
}

fn line(out: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "   {name:<8} {text}")
}

/// A stored text must not break the terminal.
fn on_one_line(stored: &str) -> String {
    text::printable(stored).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_350_000 + seconds, 0).unwrap()
    }

    fn answered() -> TryRow {
        TryRow {
            run: "01a2038b-f585-71c7-9a28-ae0cd61a96cc".into(),
            begun_at: at(60),
            ended_at: Some(at(62)),
            outcome: Some("answered".into()),
            reason: None,
            sha256: Some("ab".repeat(32)),
            category: Some("H1".into()),
            details: Some("Somebody\nwaves.".into()),
            prompt_hash: Some("0123abcd".into()),
            model: Some("gemini-x".into()),
            model_version: Some("gemini-x-001".into()),
            attempts: 2,
            possibly_billed: 1,
            tokens_in: 1698,
            tokens_out: 104,
            usd: Some(0.000_769_4),
            provider_ms: Some(1_400),
            took_ms: Some(2_100),
            cleared: true,
            scope: "sqlite:x".into(),
        }
    }

    #[test]
    fn a_story_says_what_was_asked_what_came_and_what_it_cost() {
        let missing = TryRow {
            begun_at: at(0),
            outcome: Some("failed".into()),
            reason: Some("the picture is not there (404)".into()),
            sha256: None,
            category: None,
            details: None,
            prompt_hash: None,
            model: None,
            model_version: None,
            attempts: 0,
            usd: None,
            ..answered()
        };
        let unpriced = TryRow { usd: None, model_version: None, ..answered() };
        let mut out = Vec::new();
        let format = Format::Text(Style::Plain);
        let id = RecordId("7".into());
        print(&[missing, answered(), unpriced], &id, at(120), format, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        Image 7: 3 tries.

        1. 2026-11-22 12:20:00 UTC (2 min ago), run 01a2038b-f585
           outcome  failed: one of its three tries is used up
           reason   the picture is not there (404)
           model    none was asked, nothing spent

        2. 2026-11-22 12:21:00 UTC (1 min ago), run 01a2038b-f585
           outcome  answered
           written  H1: Somebody waves.
           file     SHA-256 abababababababababababababababababababababababababababababababab
           model    gemini-x asked, gemini-x-001 answered
           prompt   hash 0123abcd
           cost     0.000769 USD (1698 tokens in, 104 out)
           time     2 s, 1 s of it at the provider (2 requests, 1 without a response, possibly billed)

        3. 2026-11-22 12:21:00 UTC (1 min ago), run 01a2038b-f585
           outcome  answered
           written  H1: Somebody waves.
           file     SHA-256 abababababababababababababababababababababababababababababababab
           model    gemini-x asked, it did not say which one answered
           prompt   hash 0123abcd
           cost     unknown (1698 tokens in, 104 out)
           time     2 s, 1 s of it at the provider (2 requests, 1 without a response, possibly billed)
        ");
    }
}
