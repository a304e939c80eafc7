//! What a person sees of a rerun: before, and after.
//!
//! Invariant: it says whether anything was changed, and when the rows will be reviewed.

use std::io::{self, Write};
use std::sync::Arc;

use serde_json::{Value, json};

use super::doing::{Changed, Named, Pages};
use super::{Args, Ended};
use crate::app::expected::Expected;
use crate::cli::screen::{self, Format, Style, Table};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::review::record::Records;
use crate::review::record::selection::{Found, Selection, SendBack, Taken};
use crate::review::record::statuses::Statuses;

/// Rows that are shown.
const SHOWN: usize = 10;
/// Characters of the details that are shown.
const SHOWN_DETAILS: usize = 70;

/// What would be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// How the rows are found; `None`: they were named.
    pub(super) selection: Option<Selection>,
    /// What becomes of them.
    pub(super) to: SendBack,
    /// So many.
    pub(super) n_rows: u64,
    /// So many more are in the hands of a review on this machine.
    n_in_hand: u64,
    first: Vec<Found>,
}

impl Plan {
    /// Counts the rows and reads the first.
    pub(super) async fn of(
        selection: &Selection,
        to: SendBack,
        config: &Config,
        limit: Option<u64>,
        records: &Arc<dyn Records>,
    ) -> Result<Self, Ended> {
        let mut pages = Pages::new(records, config, selection);
        let mut first: Vec<Found> = Vec::new();
        let mut n_rows = 0;
        // Which of the stuck rows are a review's, only the rows themselves can say.
        while let Some(page) = pages.next().await? {
            n_rows += page.len() as u64;
            first.extend(page.into_iter().take(SHOWN - first.len()));
            if !matches!(selection.taken, Taken::LongBefore(_)) {
                n_rows = records.count_of(selection).await?;
                break;
            }
        }
        let n_rows = n_rows.min(limit.unwrap_or(u64::MAX));
        first.truncate(usize::try_from(n_rows).unwrap_or(usize::MAX));
        let n_in_hand = pages.n_in_hand;
        Ok(Self { selection: Some(selection.clone()), to, n_rows, n_in_hand, first })
    }

    /// Of rows that were named; those that wait already count if they are reviewed now.
    pub(super) fn of_named(named: &Named, args: &Args) -> Self {
        let mut rows = named.rows.clone();
        if args.steps.now {
            rows.extend(named.waiting.iter().cloned());
        }
        let n_rows = rows.len() as u64;
        rows.truncate(SHOWN);
        Self { selection: None, to: SendBack::Rerun, n_rows, n_in_hand: 0, first: rows }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.n_rows == 0
    }

    /// The rows are as they would become.
    pub(super) fn is_so(&self) -> bool {
        let status = self.to.review_status();
        self.selection
            .as_ref()
            .is_some_and(|selection| selection.statuses.iter().all(|one| one == status))
    }
}

/// What would be done.
pub(super) fn plan(plan: &Plan, config: &Config, args: &Args, format: Format) -> io::Result<()> {
    let words = &config.review.records.statuses;
    let out = &mut io::stdout().lock();
    let style = match format {
        Format::Json => {
            let rows: Vec<Value> = plan.first.iter().map(|row| row_object(row, words)).collect();
            let object = json!({
                "done": false,
                "found": plan.n_rows,
                "in_hand": plan.n_in_hand,
                "review_status": words.in_table(plan.to.review_status()),
                "first": rows,
            });
            return screen::print_json(out, &object);
        }
        Format::Text(style) => style,
    };
    if plan.is_nothing() {
        writeln!(out, "No such row. Nothing was changed.")?;
    } else if plan.is_so() && !args.steps.now {
        writeln!(
            out,
            "Already {}: {}.",
            words.in_table(plan.to.review_status()),
            rows(plan.n_rows)
        )?;
        print_rows(plan, words, style, out)?;
        writeln!(out)?;
        say_when(&plan.to, config, args, out)?;
    } else {
        if !plan.is_so() {
            writeln!(out, "{} would {}.", rows(plan.n_rows), becoming(&plan.to, words))?;
        }
        if args.steps.now {
            let n = rows(plan.n_rows);
            writeln!(out, "{n} would be reviewed at once: {}.", cost(plan.n_rows, config))?;
        }
        print_rows(plan, words, style, out)?;
        writeln!(out, "\nNothing was changed. The same with --yes does it.")?;
        say_when(&plan.to, config, args, out)?;
    }
    if plan.n_in_hand > 0 {
        writeln!(
            out,
            "{} more belong to a review on this machine, which brings them back itself.",
            rows(plan.n_in_hand)
        )?;
    }
    Ok(())
}

/// What was done.
pub(super) fn changed(
    changed: &Changed,
    to: &SendBack,
    config: &Config,
    args: &Args,
    format: Format,
) -> io::Result<()> {
    let out = &mut io::stdout().lock();
    let Changed { n_changed, n_left_alone, ready } = changed;
    let status = config.review.records.statuses.in_table(to.review_status());
    if format == Format::Json {
        let object = json!({
            "done": true,
            "changed": n_changed,
            "left_alone": n_left_alone,
            "review_status": status,
            "ids": ready.iter().map(|id| id.0.as_str()).collect::<Vec<_>>(),
        });
        return screen::print_json(out, &object);
    }
    if *n_changed > 0 || ready.is_empty() {
        writeln!(out, "{} changed: {status} now.", rows(*n_changed))?;
    }
    if *n_left_alone > 0 {
        writeln!(out, "{} left alone: somebody else changed them meanwhile.", rows(*n_left_alone))?;
    }
    say_when(to, config, args, out)?;
    out.flush()
}

/// Why some of the named rows stay as they are.
pub(super) fn refusals(named: &Named, words: &Statuses, args: &Args) -> io::Result<()> {
    let err = &mut io::stderr().lock();
    for (id, why) in &named.refused {
        writeln!(err, "{}: {why}", id.0)?;
    }
    for row in named.waiting.iter().filter(|_| !args.steps.now) {
        let status = words.in_table(&row.record.status);
        writeln!(err, "{}: it is {status} already", row.record.id.0)?;
    }
    Ok(())
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
            row.updated_at.map_or_else(|| "-".to_owned(), screen::utc).into(),
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
            format!("become {}, with category good", words.in_table(to.review_status()))
        }
        SendBack::Waiting(status) => format!("go back to {status}"),
    }
}

/// When the rows will be reviewed, unless that is now.
fn say_when(to: &SendBack, config: &Config, args: &Args, out: &mut impl Write) -> io::Result<()> {
    let status = config.review.records.statuses.in_table(to.review_status());
    if args.steps.now {
        return Ok(());
    }
    if config.review.records.pick_up.iter().any(|waiting| waiting == status) {
        return writeln!(
            out,
            "The next run reviews rows that are {status}; --now does it at once."
        );
    }
    let now = match to {
        SendBack::Rerun if args.steps.yes => {
            format!("lookout rerun --status {status} --now --yes")
        }
        SendBack::Rerun | SendBack::Waiting(_) => "--now".to_owned(),
    };
    writeln!(
        out,
        "Runs do not pick up {status}: add it to [records] pick_up, or have the rows reviewed at \
         once: {now}"
    )
}

fn cost(n_rows: u64, config: &Config) -> String {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    match Expected::of(&config.review, &clock) {
        Ok(expected) => expected.said(n_rows),
        Err(error) => format!("{error}"),
    }
}

fn rows(n: u64) -> String {
    if n == 1 { "1 row".to_owned() } else { format!("{n} rows") }
}
