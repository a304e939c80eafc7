//! What people ask the conductor for: a run now, a stop, a pause, its end.
//!
//! Requests are rows that the command line or a page inserted; an incident's acknowledgement is the
//! watchdog's. Invariant: a request is answered when what it asks for has been written down.

use chrono::{DateTime, Utc};

use super::Conductor;
use crate::run::RunId;
use crate::run::keeper::StopHow;
use crate::run::ledger::{Answer, Pause, Request};
use crate::run::planner::rows;
use crate::storage::StorageError;

impl Conductor {
    pub(super) async fn answer_requests(&mut self, now: DateTime<Utc>) -> Result<(), StorageError> {
        for (id, request) in self.ledger.requests().await? {
            let answer = match request {
                Request::Run { schedule } => {
                    match self.schedules.iter().find(|known| known.name == schedule) {
                        Some(known) => {
                            let slot = rows::asked(known, now);
                            self.ledger.plan_asked(id, slot).await?;
                            continue;
                        }
                        None => refused(format!("there is no schedule {schedule}")),
                    }
                }
                Request::Stop { run } => self.stop_run(&run).await?,
                Request::Pause { schedule, reason, until } => {
                    let pause = Pause { schedule, reason, until, paused_at: now };
                    self.ledger.pause(&pause).await?;
                    Answer::Done
                }
                Request::Resume { schedule } => {
                    if self.ledger.resume(&schedule).await? {
                        Answer::Done
                    } else {
                        refused(format!("{schedule} is not paused"))
                    }
                }
                // The watchdog's: incidents are not ours.
                Request::Ack { .. } => continue,
            };
            self.ledger.answer(id, &answer).await?;
        }
        Ok(())
    }

    async fn stop_run(&self, run: &RunId) -> Result<Answer, StorageError> {
        let is_open = self.ledger.open_runs().await?.iter().any(|open| open.run.id == *run);
        if !is_open {
            return Ok(refused(format!("{run} is not running")));
        }
        Ok(match self.keepers.stop(run, StopHow::Ask).await {
            Ok(()) => Answer::Done,
            Err(error) => refused(error.to_string()),
        })
    }
}

fn refused(reason: String) -> Answer {
    Answer::Refused { reason }
}
