//! What a run of the review has come to: counts, summary, signal, results in the old form.
//!
//! Pure. Printing is the command's business.
//! Invariant: there is a signal line only if every claimed row is accounted for and written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::protocol::{Line, Problem, Totals};
use crate::review::record::selection::RERUN;
use crate::review::reviewer::{Refusal, RefusalCause};
use crate::review::settle::FailureCause;
use crate::review::tries::Spent;

/// The completion text that the user's system has always waited for.
pub const SIGNAL: &str = "Bulk processing completed.";

/// Follows a run while it goes on.
pub trait Observer: Send + Sync {
    /// Something happened. Must not block.
    fn on_event(&self, event: &ReviewEvent);
}

/// What happens while a run goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum ReviewEvent {
    /// A line for the keeper.
    Line(Line),
    /// How far it is; at most once a second.
    Progress {
        /// Settled.
        done: u64,
        /// Of so many, as far as is known.
        total: u64,
    },
    /// A row has ended.
    Result(RowResult),
}

/// How a row ended, in the old service's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowResult {
    /// Its id.
    pub image_id: String,
    /// Category string and details, or the error.
    pub result: Result<(String, String), String>,
}

impl RowResult {
    /// As the old service answered it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.result {
            Ok((categories, details)) => json!({
                "image_id": self.image_id,
                "status": "success",
                "categories": categories,
                "details": details,
            }),
            Err(error) => {
                json!({ "image_id": self.image_id, "status": "error", "error": error })
            }
        }
    }
}

/// Where the claimed rows went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken.
    pub claimed: u64,
    /// Reviewed.
    pub succeeded: u64,
    /// Three tries failed.
    pub errored: u64,
    /// Blocked by the provider.
    pub blocked: u64,
    /// Back where they came from (or in somebody else's hands, see `lost`).
    pub returned: u64,
    /// Of the returned: somebody else had changed the row, so it was left alone.
    pub lost: u64,
    /// Batches with at least one row.
    pub batches: u64,
}

impl Counts {
    /// Rows with a result.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.succeeded + self.errored + self.blocked
    }

    /// Every claimed row is accounted for.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.claimed == self.settled() + self.returned
    }
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// There was nothing more to do, or as many as wanted are done.
    Done,
    /// The box was full, or somebody asked it to end.
    BoxFull,
    /// Nothing but outage for too long.
    GaveUp {
        /// Incident kind.
        kind: &'static str,
        /// For people.
        reason: String,
    },
    /// No quota, or the budget is reached: later there will be some again.
    Exhausted(String),
    /// No key is accepted.
    Credentials(String),
    /// Something is set up wrongly; a person must act.
    Misconfigured(String),
    /// Rows or our own notes can't be written; a person must act.
    Broken(String),
}

impl End {
    /// The end of a run whose provider will not serve us until a person acts.
    #[must_use]
    pub fn of_refusal(refusal: &Refusal) -> Self {
        let reason = format!("{}; {}", refusal.reason, refusal.action);
        match refusal.cause {
            RefusalCause::Key => Self::Credentials(reason),
            RefusalCause::Credit | RefusalCause::SpendCap => Self::Exhausted(reason),
            RefusalCause::NoQuota | RefusalCause::Model | RefusalCause::Request => {
                Self::Misconfigured(reason)
            }
        }
    }

    /// How the process should end, if everything is written and accounted for.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Done | Self::BoxFull => Exit::Done,
            Self::GaveUp { .. } | Self::Exhausted(_) => Exit::TryLater,
            Self::Misconfigured(_) => Exit::Configuration,
            Self::Credentials(_) | Self::Broken(_) => Exit::Failed,
        }
    }
}

/// The line that tells of a refusal that does not pass by itself.
#[must_use]
pub fn refusal_line(refusal: &Refusal) -> Line {
    let kind = match refusal.cause {
        RefusalCause::Key => "credentials_rejected",
        RefusalCause::Credit | RefusalCause::SpendCap | RefusalCause::NoQuota => "quota_exhausted",
        // It is there, and refuses us for everything.
        RefusalCause::Model | RefusalCause::Request => "provider_unavailable",
    };
    Line::Problem(Problem {
        kind: kind.to_owned(),
        provider: Some("gemini".to_owned()),
        status: None,
        count: 1,
        // Without calls it counts at once, as something that is certain.
        calls: None,
        detail: refusal.reason.clone(),
        title: Some(refusal.title.clone()),
        action: Some(refusal.action.clone()),
    })
}

/// The images of a run that failed for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// How many.
    pub n: u64,
    /// The last one's error.
    pub last: String,
}

/// Images that are missing, damaged or too large are told of from three on: one or two are ordinary
/// life. What the model or the provider does to every image of a run never is.
const TELL_OWN_FROM: u64 = 3;

/// The line that tells of a run in which no image was reviewed, all for one reason.
#[must_use]
pub fn one_reason(counts: &Counts, failures: &BTreeMap<FailureCause, Failures>) -> Option<Line> {
    let mut all = failures.iter();
    let (Some((cause, Failures { n, last })), None) = (all.next(), all.next()) else {
        return None;
    };
    let least = if cause.is_the_providers() { 1 } else { TELL_OWN_FROM };
    (counts.succeeded == 0 && *n >= least).then(|| {
        let provider = if cause.is_the_providers() { "gemini" } else { "images" };
        Line::Problem(Problem {
            kind: "image_errors".to_owned(),
            provider: Some(provider.to_owned()),
            count: *n,
            calls: Some(*n),
            detail: format!("every image of this run failed for one reason: {last}"),
            ..Problem::default()
        })
    })
}

/// How the process should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0.
    Done,
    /// 1.
    Failed,
    /// 75.
    TryLater,
    /// 78.
    Configuration,
}

/// What a run has come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Run id.
    pub run: String,
    /// Where the rows went.
    pub counts: Counts,
    /// Rows that still wait; `None` if they can't be counted.
    pub remaining: Option<u64>,
    /// Rows that somebody took more than a day ago and never brought back; `None` if they can't be
    /// counted.
    pub stuck: Option<u64>,
    /// Rows marked for a rerun that no run picks up, and that count as good meanwhile; `None` if
    /// they are picked up, or can't be counted.
    pub parked: Option<u64>,
    /// What it cost.
    pub spent: Spent,
    /// How often each reason came: of errors, blocks and give-backs.
    pub reasons: BTreeMap<String, u64>,
    /// How long it took.
    pub elapsed: Duration,
    /// Why it ended.
    pub end: End,
    /// Writes that did not succeed until the end; their rows are taken back at the next start.
    pub unwritten: u64,
}

impl Report {
    /// Whether the run did what it is there for.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let ended_well = match &self.end {
            End::Done | End::BoxFull => true,
            End::GaveUp { .. }
            | End::Exhausted(_)
            | End::Credentials(_)
            | End::Misconfigured(_)
            | End::Broken(_) => false,
        };
        ended_well && self.counts.adds_up() && self.unwritten == 0
    }

    /// How the process should end.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.end.exit() {
            Exit::Done if !self.is_whole() => Exit::Failed,
            exit @ (Exit::Done | Exit::Failed | Exit::TryLater | Exit::Configuration) => exit,
        }
    }

    /// What a person should know who sees that the run did not end well.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        match &self.end {
            End::GaveUp { reason, .. }
            | End::Exhausted(reason)
            | End::Credentials(reason)
            | End::Misconfigured(reason)
            | End::Broken(reason) => Some(reason.clone()),
            End::Done | End::BoxFull if self.unwritten > 0 => Some(format!(
                "{} rows could not be written; they are taken back at the next start",
                self.unwritten
            )),
            End::Done | End::BoxFull if !self.counts.adds_up() => Some(format!(
                "the counts do not add up: {} claimed, {} settled, {} returned",
                self.counts.claimed,
                self.counts.settled(),
                self.counts.returned
            )),
            End::Done | End::BoxFull => None,
        }
    }

    /// The signal, if it would be true; with the results of all rows if they are given.
    #[must_use]
    pub fn signal_line(&self, results: Option<&[RowResult]>) -> Option<String> {
        if !self.is_whole() {
            return None;
        }
        let mut line = json!({ "message": SIGNAL, "run": self.run, "summary": self.summary() });
        if let Some(results) = results {
            line["results"] = results.iter().map(RowResult::to_json).collect();
        }
        Some(line.to_string())
    }

    fn summary(&self) -> Value {
        let Counts { claimed, succeeded, errored, blocked, returned, batches, .. } = self.counts;
        let mut summary = json!({
            "claimed": claimed,
            "succeeded": succeeded,
            "errored": errored,
            "blocked": blocked,
            "returned": returned,
            "remaining": self.remaining,
            "stuck": self.stuck,
            "parked": self.parked,
            "batches": batches,
            "tokens_in": self.spent.tokens_in,
            "tokens_out": self.spent.tokens_out,
            "usd": known_usd(&self.spent),
            "seconds": self.elapsed.as_secs_f64(),
        });
        if self.spent.possibly_billed > 0 {
            summary["possibly_billed"] = json!(self.spent.possibly_billed);
        }
        summary
    }

    /// The totals line.
    #[must_use]
    pub fn totals(&self) -> Line {
        let mut line = totals(&self.counts, self.remaining, &self.spent);
        if let (Line::Totals(totals), Some(parked)) = (&mut line, self.parked) {
            totals.counts.insert("parked".to_owned(), parked);
        }
        line
    }

    /// The closing summary as the old driver printed it.
    #[must_use]
    pub fn closing(&self) -> String {
        let counts = &self.counts;
        let total = counts.settled();
        let seconds = self.elapsed.as_secs_f64();
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "Total images processed: {total}");
        let share = |n: u64| if total == 0 { 0.0 } else { n as f64 * 100.0 / total as f64 };
        let failed = counts.errored + counts.blocked;
        let _ =
            writeln!(text, "Successful: {} ({:.1}%)", counts.succeeded, share(counts.succeeded));
        let _ = writeln!(text, "Failed: {failed} ({:.1}%)", share(failed));
        if counts.blocked > 0 {
            let _ = writeln!(text, "  of them blocked by the provider: {}", counts.blocked);
        }
        if counts.returned > 0 {
            let _ = writeln!(text, "Given back for a later run: {}", counts.returned);
        }
        if let Some(remaining) = self.remaining {
            let _ = writeln!(text, "Still waiting: {remaining}");
        }
        if let Some(stuck) = self.stuck.filter(|stuck| *stuck > 0) {
            let _ = writeln!(
                text,
                "Stuck for more than a day in somebody's hands: {stuck} (lookout rerun --stuck)"
            );
        }
        if let Some(parked) = self.parked.filter(|parked| *parked > 0) {
            let _ = writeln!(
                text,
                "Marked for a rerun, and good until then: {parked} (lookout rerun --status {RERUN})"
            );
        }
        let _ = writeln!(text, "Elapsed time: {}", clock_face(self.elapsed));
        if total > 0 {
            let _ = writeln!(text, "Average: {:.2} s per image", seconds / total as f64);
        }
        let _ = writeln!(text, "Batches: {}", counts.batches);
        let _ = writeln!(text, "Cost: {}", cost(&self.spent));
        for (reason, n) in &self.reasons {
            let _ = writeln!(text, "  {n} × {reason}");
        }
        text
    }
}

/// The totals line.
#[must_use]
pub fn totals(counts: &Counts, remaining: Option<u64>, spent: &Spent) -> Line {
    let mut fields: BTreeMap<String, u64> = [
        ("claimed", counts.claimed),
        ("succeeded", counts.succeeded),
        ("errored", counts.errored),
        ("blocked", counts.blocked),
        ("returned", counts.returned),
        ("tokens_in", spent.tokens_in),
        ("tokens_out", spent.tokens_out),
    ]
    .map(|(name, count)| (name.to_owned(), count))
    .into();
    fields.extend(remaining.map(|remaining| ("remaining".to_owned(), remaining)));
    let lost = Some(spent.possibly_billed).filter(|n| *n > 0);
    fields.extend(lost.map(|n| ("possibly_billed".to_owned(), n)));
    Line::Totals(Totals { counts: fields, usd: known_usd(spent) })
}

/// What is known to have been spent: with calls that may have been billed in vain it is the least,
/// and if there is nothing else it is unknown, never 0.
fn known_usd(spent: &Spent) -> Option<f64> {
    spent.usd.filter(|usd| *usd > 0.0 || spent.possibly_billed == 0)
}

fn cost(spent: &Spent) -> String {
    let mut details = format!("{} tokens in, {} out", spent.tokens_in, spent.tokens_out);
    match spent.possibly_billed {
        0 => {}
        1 => details.push_str("; 1 call without an answer may have been billed, too"),
        n => {
            let _ = write!(details, "; {n} calls without an answer may have been billed, too");
        }
    }
    match (known_usd(spent), spent.possibly_billed) {
        (Some(usd), 0) => format!("{usd:.4} USD ({details})"),
        (Some(usd), _) => format!("at least {usd:.4} USD ({details})"),
        (None, _) => format!("unknown{} ({details})", why_unknown(spent)),
    }
}

fn why_unknown(spent: &Spent) -> String {
    match spent {
        // Only calls without an answer.
        Spent { usd: Some(_), .. } => String::new(),
        Spent { tries: 0, .. } => ", the notes of what was spent can't be read".to_owned(),
        Spent { not_told: 0, .. } => ", the model has no known price".to_owned(),
        Spent { not_told: 1, .. } => ", 1 try's answer did not say what it took".to_owned(),
        Spent { not_told: n, .. } => {
            format!(", the answers of {n} tries did not say what they took")
        }
    }
}

fn clock_face(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            run: "run-1".into(),
            counts: Counts {
                claimed: 10,
                succeeded: 6,
                errored: 1,
                blocked: 1,
                returned: 2,
                lost: 0,
                batches: 1,
            },
            remaining: Some(12),
            stuck: Some(3),
            parked: None,
            spent: Spent {
                tries: 9,
                tokens_in: 900,
                tokens_out: 90,
                usd: Some(0.0123),
                ..Spent::default()
            },
            reasons: [("it is no image".to_owned(), 1)].into(),
            elapsed: Duration::from_secs(84),
            end: End::Done,
            unwritten: 0,
        }
    }

    #[test]
    fn the_signal_is_the_old_text_with_run_and_counts() {
        let line = report().signal_line(None).unwrap();
        assert!(line.starts_with(r#"{"message":"Bulk processing completed.""#), "{line}");
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["run"], "run-1");
        assert_eq!(line["summary"]["claimed"], 10);
        assert_eq!(line["summary"]["remaining"], 12);
        assert!(line.get("results").is_none());
    }

    #[test]
    fn the_signal_does_not_lie() {
        let unwritten = Report { unwritten: 1, ..report() };
        let mut lost_one = report();
        lost_one.counts.returned = 1;
        let ends = [
            End::GaveUp { kind: "provider_unavailable", reason: "down".into() },
            End::Exhausted("no quota".into()),
            End::Credentials("wrong key".into()),
            End::Misconfigured("no such model".into()),
            End::Broken("disk full".into()),
        ];
        let ended_badly = ends.map(|end| Report { end, ..report() });
        for report in [unwritten, lost_one].into_iter().chain(ended_badly) {
            assert_eq!(report.signal_line(None), None, "{report:?}");
            assert_ne!(report.exit(), Exit::Done, "{report:?}");
            assert!(report.complaint().is_some(), "{report:?}");
        }
        assert_eq!(report().exit(), Exit::Done);
        assert_eq!(Report { end: End::BoxFull, ..report() }.exit(), Exit::Done);
    }

    #[test]
    fn results_come_in_the_old_services_form() {
        let results = [
            RowResult { image_id: "a".into(), result: Ok(("good".into(), "A stone.".into())) },
            RowResult { image_id: "b".into(), result: Err("no image".into()) },
        ];
        let line = report().signal_line(Some(&results)).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        let expected = json!([
            { "image_id": "a", "status": "success", "categories": "good", "details": "A stone." },
            { "image_id": "b", "status": "error", "error": "no image" },
        ]);
        assert_eq!(line["results"], expected);
    }

    #[test]
    fn the_closing_summary_reads_like_the_old_drivers() {
        insta::assert_snapshot!(report().closing(), @r"
        Total images processed: 8
        Successful: 6 (75.0%)
        Failed: 2 (25.0%)
          of them blocked by the provider: 1
        Given back for a later run: 2
        Still waiting: 12
        Stuck for more than a day in somebody's hands: 3 (lookout rerun --stuck)
        Elapsed time: 00:01:24
        Average: 10.50 s per image
        Batches: 1
        Cost: 0.0123 USD (900 tokens in, 90 out)
          1 × it is no image
        ");
    }

    #[test]
    fn a_cost_that_is_not_known_is_never_0_and_says_why() {
        let told = Spent { tries: 9, tokens_in: 900, tokens_out: 90, ..Spent::default() };
        for (usd, possibly_billed, not_told, expected) in [
            (Some(0.5), 0, 0, "0.5000 USD (900 tokens in, 90 out)"),
            (Some(0.5), 2, 0, "at least 0.5000 USD (900 tokens in, 90 out; 2 calls without"),
            (Some(0.0), 1, 0, "unknown (900 tokens in, 90 out; 1 call without an answer may"),
            (Some(0.0), 0, 0, "0.0000 USD"),
            (None, 0, 0, "unknown, the model has no known price"),
            (None, 0, 3, "unknown, the answers of 3 tries did not say what they took"),
        ] {
            let spent = Spent { usd, possibly_billed, not_told, ..told };
            let said = cost(&spent);
            assert!(said.starts_with(expected), "{said}");
            let line = totals(&Counts::default(), None, &spent).to_string();
            assert_eq!(line.contains("usd="), said.contains("USD"), "{line}");
            assert_eq!(line.contains("possibly_billed="), possibly_billed > 0, "{line}");
        }
        let unread = Spent { tries: 0, usd: None, ..told };
        assert!(cost(&unread).contains("can't be read"));
    }
}
