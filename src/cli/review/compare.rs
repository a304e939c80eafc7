//! `lookout review --compare N`: what Lookout would say of rows that have been reviewed before.
//!
//! Invariant: no row is written, and `review.db` is not opened.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;

use serde_json::{Value, json};

use super::listener::new_bar;
use super::one::words;
use super::{EXIT_FAILED, EXIT_OK, Form, complain};
use crate::app::review::{ReviewAdapters, SetupError, adapters, rows};
use crate::cli::output::table::Table;
use crate::cli::output::{self, Format, JsonFlag, Style, Tone};
use crate::clock::Clock;
use crate::redact::Redactor;
use crate::review::category::Code;
use crate::review::comparison::looking::{Bounds, Looked, Lookers, look_again};
use crate::review::comparison::sampling::{Chosen, choose};
use crate::review::comparison::{Agreement, Said};
use crate::review::record::RecordId;
use crate::review::settings::ReviewSettings;

/// Characters of a sentence that are shown; `--json` has all of it.
const SHOWN_DETAILS: usize = 90;

pub(super) async fn run(
    settings: &ReviewSettings,
    n: u32,
    form: Form,
    redactor: &Redactor,
    clock: &Arc<dyn Clock>,
) -> Result<u8, SetupError> {
    let ReviewAdapters { source, preparer, reviewer, estimate: _ } = adapters(settings, clock)?;
    let records = rows(settings).await?.records;
    let chosen = choose(&*records, n as usize, clock.now()).await?;
    if chosen.rows.is_empty() {
        let text = "there is no row that has been reviewed before, so there is nothing to compare";
        return Ok(complain(text, EXIT_FAILED));
    }
    let n_rows = chosen.rows.len() as u64;
    let budget = &settings.budget;
    // What other runs have spent today stands in `review.db`, which stays closed.
    let usd = [budget.usd_per_run, budget.usd_per_day].into_iter().flatten().reduce(f64::min);
    let bounds = Bounds { try_timeout: settings.reviewer.try_timeout, usd };
    let bar = io::stdout().is_terminal().then(new_bar);
    if let Some(bar) = &bar {
        bar.set_length(n_rows);
    }
    let lookers = Lookers { source, preparer, reviewer };
    let Chosen { rows, n_unreadable } = chosen;
    let looked = look_again(&lookers, rows, bounds, |done| {
        if let Some(bar) = &bar {
            bar.set_position(done);
        }
    })
    .await;
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let mut text = Vec::new();
    let format = Format::choose(JsonFlag { json: form == Form::Json });
    let shown = show(&looked, n_unreadable, format, &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    // Into memory nothing fails to be written.
    let _ = shown;
    let code = match looked.stopped {
        Some(fault) => {
            let (reason, code) = words(fault);
            let done = looked.comparison.rows.len();
            complain(
                &redactor.redact(&format!("stopped after {done} of {n_rows} rows: {reason}")),
                code,
            )
        }
        None if looked.comparison.pairs().next().is_none() => {
            complain("no row could be compared", EXIT_FAILED)
        }
        None => EXIT_OK,
    };
    Ok(output::print(&redactor.redact(&text), code))
}

fn show(
    looked: &Looked,
    n_unreadable: u64,
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    match format {
        Format::Json => output::print_json(out, &object(looked, n_unreadable)),
        Format::Text(style) => text(looked, n_unreadable, style, out),
    }
}

fn object(looked: &Looked, n_unreadable: u64) -> Value {
    let comparison = &looked.comparison;
    let n_compared = comparison.pairs().count();
    let codes: Vec<Value> = Code::ALL
        .iter()
        .map(|code| {
            let about = comparison.about(*code);
            let Agreement { both, neither, only_old, only_new } = about;
            json!({
                "code": code.as_str(),
                "both": both,
                "neither": neither,
                "only_old": only_old,
                "only_new": only_new,
                "agreement": about.share(),
            })
        })
        .collect();
    let said = |said: &Said| json!({ "categories": said.categories, "details": said.details });
    let differing: Vec<Value> = comparison
        .differing()
        .map(|(id, old, new)| json!({ "id": id.0, "old": said(old), "new": said(new) }))
        .collect();
    let unanswered: Vec<Value> = comparison
        .unanswered()
        .map(|(id, reason)| json!({ "id": id.0, "reason": reason }))
        .collect();
    json!({
        "compared": n_compared,
        "same": n_compared - differing.len(),
        "codes": codes,
        "differing": differing,
        "not_compared": unanswered,
        "left_out_unreadable": n_unreadable,
        "tokens_in": looked.spent.tokens_in,
        "tokens_out": looked.spent.tokens_out,
        "usd": looked.spent.usd,
    })
}

fn text(looked: &Looked, n_unreadable: u64, style: Style, out: &mut impl Write) -> io::Result<()> {
    let comparison = &looked.comparison;
    let n_compared = comparison.pairs().count();
    let differing: Vec<_> = comparison.differing().collect();
    let n_same = n_compared - differing.len();
    let share = percent((n_compared > 0).then(|| n_same as f64 / n_compared as f64));
    writeln!(out, "{n_same} of {n_compared} rows have the same codes before and now ({share}).\n")?;
    let headings = ["CODE", "AGREE", "BOTH", "NEITHER", "ONLY BEFORE", "ONLY NOW"];
    let mut codes = Table::new(headings);
    for code in Code::ALL {
        let about = comparison.about(code);
        let number = |n: u64| n.to_string().into();
        codes.row([
            code.as_str().into(),
            percent(about.share()).into(),
            number(about.both),
            number(about.neither),
            number(about.only_old),
            number(about.only_new),
        ]);
    }
    codes.print(out, style)?;
    if comparison.about(Code::T1).asked() < n_compared as u64 {
        writeln!(
            out,
            "H1 alone does not say whether there is correct text: T1 counts the others."
        )?;
    }
    if !differing.is_empty() {
        writeln!(out, "\n{}", Tone::Bold.paint("Rows that differ", style))?;
        rows_of(&differing).print(out, style)?;
    }
    let unanswered: Vec<_> = comparison.unanswered().collect();
    if !unanswered.is_empty() {
        writeln!(out, "\n{}", Tone::Bold.paint("Not compared", style))?;
        let mut table = Table::new(["ID", "WHY"]);
        for (id, reason) in unanswered {
            table.row([id.0.as_str().into(), shortened(reason).into()]);
        }
        table.print(out, style)?;
    }
    writeln!(out)?;
    if n_unreadable > 0 {
        writeln!(
            out,
            "Left out: {n_unreadable}, good only because the answer could not be read. See: \
             lookout rerun --unreadable"
        )?;
    }
    let cost = match (looked.spent.usd, looked.spent.possibly_billed) {
        (Some(usd), 0) => format!("{usd:.4} USD"),
        // Calls without an answer may have been billed all the same.
        (Some(usd), _) => format!("at least {usd:.4} USD"),
        (None, _) => "an unknown price".to_owned(),
    };
    writeln!(out, "Nothing was written. This cost {cost} for {} images.", looked.spent.tries)
}

/// Two lines a row: before and now.
fn rows_of(differing: &[(&RecordId, &Said, &Said)]) -> Table {
    let mut table = Table::new(["ID", "WHEN", "CODES", "WHY"]);
    for (id, old, new) in differing {
        for (id, when, said) in [(id.0.as_str(), "before", old), ("", "now", new)] {
            let codes = if said.categories.is_empty() { "-" } else { said.categories.as_str() };
            table.row([id.into(), when.into(), codes.into(), shortened(&said.details).into()]);
        }
    }
    table
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= SHOWN_DETAILS {
        return text.to_owned();
    }
    let cut: String = text.chars().take(SHOWN_DETAILS - 1).collect();
    format!("{cut}…")
}
