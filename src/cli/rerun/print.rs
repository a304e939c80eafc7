//! What a person sees of a rerun: before, and after.
//!
//! Invariant: it says whether anything was changed, and when the images will be reviewed.

use std::io::{self, Write};
use std::sync::Arc;

use serde_json::{Value, json};

use super::Purpose;
use super::apply::Changed;
use super::plan::{Named, Plan};
use crate::app::expected::Expected;
use crate::cli::EXIT_OK;
use crate::cli::output::table::Table;
use crate::cli::output::{self, Format, Output, Style};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::review::record::selection::{Found, SendBack};
use crate::review::record::statuses::Statuses;

/// Characters of the details that are shown.
const SHOWN_DETAILS: usize = 70;

/// What would be done; the exit code.
pub(super) fn plan(plan: &Plan, config: &Config, format: Format) -> u8 {
    let mut out = Output::stdout();
    // An `Output` remembers what can't be written.
    let _ = match format {
        Format::Json => output::print_json(&mut out, &plan_object(plan, config)),
        Format::Text(style) => plan_text(plan, config, style, &mut out),
    };
    out.end(EXIT_OK)
}

fn plan_object(plan: &Plan, config: &Config) -> Value {
    let words = &config.review.records.statuses;
    let status = plan.purpose.change().map(|to| words.in_table(to.review_status()));
    json!({
        "done": false,
        "found": plan.n_rows,
        "in_hand": plan.n_in_hand,
        "review_status": status,
        "usd": expected(config).and_then(|expected| expected.usd(plan.n_rows)),
        "first": plan.first.iter().map(|row| row_object(row, words)).collect::<Vec<_>>(),
    })
}

fn plan_text(plan: &Plan, config: &Config, style: Style, out: &mut impl Write) -> io::Result<()> {
    let words = &config.review.records.statuses;
    let n = images(plan.n_rows);
    if plan.is_nothing() {
        writeln!(out, "No such image. Nothing was changed.")?;
    } else if plan.is_done() {
        writeln!(out, "Nothing to change: {n}, marked already.")?;
        print_rows(plan, words, style, out)?;
        writeln!(out)?;
        print_consequence(&plan.purpose, config, out)?;
    } else {
        match &plan.purpose {
            Purpose::Review => {
                writeln!(out, "{n} would be reviewed again: {}.", cost(plan, config))?
            }
            Purpose::Change(to) => writeln!(out, "{n} would {}.", becoming(to, words))?,
            Purpose::ChangeAndReview(to) => writeln!(
                out,
                "{n} would {} and be reviewed at once: {}.",
                becoming(to, words),
                cost(plan, config)
            )?,
        }
        print_rows(plan, words, style, out)?;
        writeln!(out, "\nNothing was changed. Run the same command with --yes to do it.")?;
        print_consequence(&plan.purpose, config, out)?;
    }
    if plan.n_in_hand > 0 {
        writeln!(
            out,
            "{} more: a review on this machine is processing them.",
            images(plan.n_in_hand)
        )?;
    }
    Ok(())
}

/// What was changed; the exit code.
pub(super) fn changed(
    changed: &Changed,
    to: &SendBack,
    purpose: &Purpose,
    config: &Config,
    format: Format,
) -> u8 {
    let mut out = Output::stdout();
    let status = config.review.records.statuses.in_table(to.review_status());
    let _ = match format {
        Format::Json => output::print_json(
            &mut out,
            &json!({
                "done": true,
                "changed": changed.n_changed,
                "left_alone": changed.n_left_alone,
                "review_status": status,
                "ids": changed.ready.iter().map(|id| id.0.as_str()).collect::<Vec<_>>(),
            }),
        ),
        Format::Text(_) => changed_text(changed, status, purpose, config, &mut out),
    };
    out.end(EXIT_OK)
}

fn changed_text(
    changed: &Changed,
    status: &str,
    purpose: &Purpose,
    config: &Config,
    out: &mut impl Write,
) -> io::Result<()> {
    let Changed { n_changed, n_left_alone, ready } = changed;
    if *n_changed > 0 || ready.is_empty() {
        writeln!(out, "{} changed: now {status}.", images(*n_changed))?;
    }
    if *n_left_alone > 0 {
        writeln!(out, "{} left alone: changed by another process.", images(*n_left_alone))?;
    }
    print_consequence(purpose, config, out)
}

/// Why some of the named images stay as they are.
pub(super) fn refusals(named: &Named) {
    for (id, why) in &named.refused {
        output::complain(&format!("{}: {why}", id.0));
    }
}

/// The first rows, one a line.
fn print_rows(plan: &Plan, words: &Statuses, style: Style, out: &mut impl Write) -> io::Result<()> {
    if plan.n_rows > plan.first.len() as u64 {
        writeln!(out, "The first {}:", plan.first.len())?;
    }
    writeln!(out)?;
    let mut table = Table::new(["ID", "STATUS", "CATEGORY", "TAKEN (UTC)", "DETAILS"]);
    for row in &plan.first {
        let details = row.auto_review_details.as_deref().unwrap_or("-");
        table.row([
            row.record.id.0.as_str().into(),
            words.in_table(&row.record.status).into(),
            row.auto_review_status.as_deref().unwrap_or("-").into(),
            row.updated_at.map_or_else(|| "-".to_owned(), output::time::utc).into(),
            shortened(details).into(),
        ]);
    }
    table.print(out, style)
}

fn shortened(details: &str) -> String {
    if details.chars().count() <= SHOWN_DETAILS {
        return details.to_owned();
    }
    let cut: String = details.chars().take(SHOWN_DETAILS - 1).collect();
    format!("{cut}…")
}

fn row_object(row: &Found, words: &Statuses) -> Value {
    json!({
        "id": row.record.id.0,
        "review_status": words.in_table(&row.record.status),
        "auto_review_status": row.auto_review_status,
        "auto_review_details": row.auto_review_details,
        "updated_at": row.updated_at,
    })
}

fn becoming(to: &SendBack, words: &Statuses) -> String {
    match to {
        SendBack::Rerun => {
            format!("be marked {}, with category good", words.in_table(to.review_status()))
        }
        SendBack::Waiting(status) => format!("return to the queue ({status})"),
    }
}

/// What the reader must know of what follows.
fn print_consequence(purpose: &Purpose, config: &Config, out: &mut impl Write) -> io::Result<()> {
    let records = &config.review.records;
    let to = match purpose {
        Purpose::ChangeAndReview(_) => return Ok(()),
        Purpose::Review => {
            return writeln!(out, "Each image keeps its category until the new answer is there.");
        }
        Purpose::Change(to) => to,
    };
    let status = records.statuses.in_table(to.review_status());
    if records.picks_up(to.review_status()) {
        return writeln!(out, "The next run reviews images that are {status}.");
    }
    writeln!(
        out,
        "No run reviews images that are {status}; until then they count as good. To review them: \
         lookout rerun --status {status} --yes"
    )
}

fn expected(config: &Config) -> Option<Expected> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Expected::of(&config.review, &clock).ok()
}

fn cost(plan: &Plan, config: &Config) -> String {
    // Without a prompt there is no estimate; the review will say what is wrong with it.
    expected(config).map_or_else(|| "cost unknown".to_owned(), |it| it.said(plan.n_rows))
}

fn images(n: u64) -> String {
    if n == 1 { "1 image".to_owned() } else { format!("{n} images") }
}
