//! Looks again at the pictures of reviewed rows.
//!
//! Each is looked at once: a comparison needs no second try. Whether the provider is away is the
//! reviewer's to find out; here is decided whether going on makes sense.
//! Invariant: nothing is written anywhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Compared, Comparison, Said};
use crate::review::category::category;
use crate::review::pipeline::Preparer;
use crate::review::record::selection::Found;
use crate::review::reviewer::{CallRecord, Fault, Outcome, ReviewRequest, Reviewer};
use crate::review::source::Source;
use crate::review::tries::Spent;

/// So many pictures in a row that the provider had no answer for: it is away.
const AWAY: u32 = 3;

/// Who looks.
#[derive(Clone)]
pub struct Lookers {
    /// Files.
    pub source: Arc<dyn Source>,
    /// From file to picture.
    pub preparer: Arc<dyn Preparer>,
    /// From picture to answer.
    pub reviewer: Arc<dyn Reviewer>,
}

/// What it may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// One picture, all attempts.
    pub try_timeout: Duration,
    /// Money, in USD; `None`: no cap.
    pub usd: Option<f64>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Looked {
    /// As far as it came.
    pub comparison: Comparison,
    /// What it cost.
    pub spent: Spent,
    /// Why not all rows were looked at.
    pub stopped: Option<Fault>,
}

/// One picture's end.
struct Seen {
    row: Found,
    result: Result<Said, Missing>,
    call: Option<CallRecord>,
}

/// Why there is nothing to compare with.
enum Missing {
    /// No picture to send.
    Picture(String),
    /// No answer.
    Answer(Fault),
}

/// Looks at all of them, as many at once as the provider takes; tells how many are done.
pub async fn look_again(
    lookers: &Lookers,
    rows: Vec<Found>,
    bounds: Bounds,
    progress: impl Fn(u64),
) -> Looked {
    let mut looked = Looked {
        comparison: Comparison::default(),
        spent: Spent { usd: Some(0.0), ..Spent::default() },
        stopped: None,
    };
    let mut waiting = rows.into_iter();
    let mut tasks: JoinSet<Seen> = JoinSet::new();
    let mut n_away = 0;
    // Calls without an answer may have been billed: to the cap they count as if they had.
    let mut booked = 0.0;
    loop {
        let concurrency = lookers.reviewer.concurrency().max(1) as usize;
        while looked.stopped.is_none() && tasks.len() < concurrency {
            if !is_affordable(booked, tasks.len(), bounds.usd, lookers) {
                break;
            }
            let Some(row) = waiting.next() else { break };
            tasks.spawn(look(lookers.clone(), row, bounds.try_timeout));
        }
        let Some(ended) = tasks.join_next().await else { break };
        // A panic has been printed already; the row is not compared.
        let Ok(seen) = ended else { continue };
        if let Some(call) = &seen.call {
            let per_try = lookers.reviewer.usd_per_try();
            booked += call.usd_at_most.or(call.usd).or(per_try).unwrap_or(0.0);
        }
        take(&mut looked, seen, &mut n_away);
        progress(looked.comparison.rows.len() as u64);
    }
    if looked.stopped.is_none() && waiting.next().is_some() {
        let reason = "the cap of [budget] is reached".to_owned();
        looked.stopped = Some(Fault::Budget { reason });
    }
    looked
}

/// What is in hand may cost its most, and so may the next.
fn is_affordable(booked: f64, in_hand: usize, cap: Option<f64>, lookers: &Lookers) -> bool {
    match (cap, lookers.reviewer.usd_per_try()) {
        (Some(cap), Some(most)) => booked + most * (in_hand + 1) as f64 <= cap,
        // With a cap, a price is known; `app` refuses a budget without one.
        (Some(_), None) => false,
        (None, _) => true,
    }
}

fn take(looked: &mut Looked, seen: Seen, n_away: &mut u32) {
    let Seen { row, result, call } = seen;
    if let Some(call) = call {
        let spent = &mut looked.spent;
        spent.tries += 1;
        spent.tokens_in += call.tokens_in;
        spent.tokens_out += call.tokens_out;
        spent.possibly_billed += u64::from(call.possibly_billed);
        spent.usd = spent.usd.zip(call.usd).map(|(so_far, more)| so_far + more);
    }
    let new = match result {
        Ok(said) => {
            *n_away = 0;
            Ok(said)
        }
        Err(Missing::Picture(reason)) => Err(reason),
        Err(Missing::Answer(fault)) => match words(&fault) {
            Words::OfThisPicture(reason) => {
                *n_away = 0;
                Err(reason)
            }
            Words::Away(reason) => {
                *n_away += 1;
                if *n_away >= AWAY {
                    looked.stopped.get_or_insert(fault);
                }
                Err(reason)
            }
            Words::OfAll => {
                // This row says nothing, and neither would any other.
                looked.stopped.get_or_insert(fault);
                return;
            }
        },
    };
    let old = Said {
        categories: row.auto_review_status.unwrap_or_default(),
        details: row.auto_review_details.unwrap_or_default(),
    };
    looked.comparison.rows.push(Compared { id: row.record.id, old, new });
}

enum Words {
    OfThisPicture(String),
    Away(String),
    OfAll,
}

fn words(fault: &Fault) -> Words {
    match fault {
        Fault::Unreadable { reason, .. } | Fault::Picture { reason } => {
            Words::OfThisPicture(reason.clone())
        }
        Fault::Blocked { reason, .. } => {
            Words::OfThisPicture(format!("blocked by Gemini: {reason}"))
        }
        Fault::Unavailable { reason, .. } => Words::Away(reason.clone()),
        Fault::OutOfTime => Words::Away("no answer came in time".to_owned()),
        Fault::Quota { .. } | Fault::Refused(_) | Fault::Budget { .. } => Words::OfAll,
    }
}

async fn look(lookers: Lookers, row: Found, try_timeout: Duration) -> Seen {
    let picture = match lookers.source.fetch(&row.record).await {
        Ok(bytes) => lookers.preparer.prepare(bytes).await,
        Err(error) => Err(error.to_string()),
    };
    let picture = match picture {
        Ok(picture) => picture,
        Err(reason) => {
            return Seen { row, result: Err(Missing::Picture(reason)), call: None };
        }
    };
    let deadline = Instant::now() + try_timeout;
    let image = &row.record.id.0;
    let ask = ReviewRequest { image, picture: &picture, correction: None, deadline };
    let Outcome { result, call } = lookers.reviewer.review(ask).await;
    let result = match result {
        Ok(answer) => Ok(Said { categories: category(&answer), details: answer.details }),
        Err(fault) => Err(Missing::Answer(fault)),
    };
    Seen { row, result, call: Some(call) }
}
