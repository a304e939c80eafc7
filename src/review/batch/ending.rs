//! How the run ends: done, box full, outage, stop; and what the keeper hears on the way.
//!
//! Invariant: phases only go forward, and the first reason to end is the one that is reported.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::outage::Seen;
use super::starting::COUNT_AT_MOST;
use super::work::What;
use super::{Batch, Claiming, Phase, Probe, Stage, UNKNOWN, Wish, Word};
use crate::protocol::{Line, Problem};
use crate::review::record::RecordId;
use crate::review::record::selection::{STUCK_AFTER, Selection};
use crate::review::report::{End, News, Report, one_reason, refusal_line};
use crate::review::reviewer::{DropCause, Meanwhile};
use crate::review::settle::{Others, Stop};
use crate::review::tries::TryOutcome;

/// Kept free at the end of the grace for giving rows back and for the closing lines.
const GIVING_BACK: Duration = Duration::from_secs(10);

/// How long rows are tried to be given back when no grace sets an end: as long as a database may
/// take to answer, short enough for somebody who waits at a terminal.
const GIVING_BACK_AT_MOST: Duration = Duration::from_secs(30);

/// A box that ends while nothing has worked for so long did not end well.
const OUTAGE_AT_THE_END: Duration = Duration::from_secs(60);

/// Progress is told at most so often.
const BETWEEN_PROGRESS: Duration = Duration::from_secs(1);

impl Batch {
    /// Looks at time, wishes and health, and moves on if it is time.
    pub(super) fn look(&mut self, wish: Wish, now: Instant) {
        self.desk.wake(now);
        self.look_at_health(now);
        self.tell(now);
        if self.has_no_open_try() {
            // However the last one ended: the next asks again, and hears whether that was all.
            self.over_budget = None;
        }
        match self.phase {
            Phase::PuttingRight => {
                if self.rewrites.is_empty() && self.n_undoing == 0 {
                    self.phase = Phase::Working;
                }
                self.look_while_working(wish, now);
            }
            Phase::Working => self.look_while_working(wish, now),
            Phase::WindingDown { until, ref end } => {
                if wish == Wish::GiveBack || now >= until || self.items.is_empty() {
                    self.stop_now(end.clone(), now);
                }
            }
            Phase::GivingBack { .. } => {}
        }
    }

    fn look_while_working(&mut self, wish: Wish, now: Instant) {
        let box_is_full = self.plan.box_end.is_some_and(|end| now >= end);
        if let Some(end) = self.gave_up(self.plan.give_up_after, now) {
            self.stop_now(end, now);
        } else if wish == Wish::GiveBack {
            self.stop_now(self.end_of_box(now), now);
        } else if wish == Wish::WindDown || box_is_full {
            self.wind_down(self.end_of_box(now), now);
        } else if self.claiming == Claiming::Over && self.phase == Phase::Working {
            self.look_for_the_end(now);
        }
    }

    /// There are no more rows to take.
    fn look_for_the_end(&mut self, now: Instant) {
        if self.items.is_empty() {
            self.stop_now(End::Done, now);
            return;
        }
        let all_held = self.items.len() == self.refusals.n_held() && self.desk.is_idle();
        if all_held && self.probe == Probe::Off {
            match self.refusals.at_the_end() {
                Some(judged) => self.judge(judged, now),
                None => self.bucket_is_down(now),
            }
        }
    }

    /// An outage that has lasted too long.
    fn gave_up(&self, limit: Duration, now: Instant) -> Option<End> {
        let parties = [
            ("provider_unavailable", &self.provider, "the vision service"),
            ("images_unavailable", &self.images, "the place of the pictures"),
            ("records_unavailable", &self.records, "the place of the records"),
        ];
        let (kind, outage, words) = parties.into_iter().find(|(_, outage, _)| {
            outage.lasts(now) >= limit && outage.lasts(now) > Duration::ZERO
        })?;
        let seconds = outage.lasts(now).as_secs();
        let reason =
            format!("{words} has brought nothing but faults for {seconds} s: {}", outage.detail());
        Some(End::GaveUp { kind, reason })
    }

    /// A box that was full of nothing but faults is no normal end.
    fn end_of_box(&self, now: Instant) -> End {
        let limit = if self.counts.settled() == 0 { Duration::ZERO } else { OUTAGE_AT_THE_END };
        self.gave_up(limit, now).unwrap_or(End::BoxFull)
    }

    /// When calls must have ended, so that there is time to give rows back.
    pub(super) fn calls_end(&self) -> Option<Instant> {
        if let Phase::WindingDown { until, .. } = &self.phase {
            return Some(*until);
        }
        self.plan.grace_end.map(|end| {
            let grace = self
                .plan
                .box_end
                .map_or(GIVING_BACK * 4, |box_end| end.saturating_duration_since(box_end));
            end - GIVING_BACK.min(grace / 4)
        })
    }

    /// Nothing new begins; what is in hand may end.
    fn wind_down(&mut self, end: End, now: Instant) {
        let until = self.calls_end().unwrap_or(now + self.plan.grace);
        self.phase = Phase::WindingDown { end, until };
        self.stop_claiming();
        self.give_back_unbegun();
    }

    /// Everything goes back.
    pub(super) fn stop_now(&mut self, end: End, now: Instant) {
        if matches!(self.phase, Phase::GivingBack { .. }) {
            return;
        }
        let at_most = now + GIVING_BACK_AT_MOST;
        let until = self.plan.grace_end.map_or(at_most, |end| end.clamp(now, at_most));
        self.phase = Phase::GivingBack { end, until };
        self.stop_claiming();
        self.give_back_unbegun();
        for id in self.desk.take_ready() {
            let end = self.end_of_try(&id, TryOutcome::Returned, None, None);
            self.close(&id, Some(end), What::GiveBack);
        }
        let in_work: Vec<RecordId> = self
            .items
            .iter()
            .filter(|(_, item)| matches!(item.stage, Stage::Fetching | Stage::Reviewing))
            .map(|(id, _)| id.clone())
            .collect();
        in_work.iter().for_each(|id| self.abort(id));
    }

    /// Something that concerns every picture: told once, in whatever phase it is met.
    pub(super) fn stop_for(&mut self, stop: Stop, now: Instant) {
        let (line, title, end) = match stop {
            Stop::Refused(refusal) => {
                self.provider.refused_for_good();
                let line = refusal_line(&refusal);
                (line, refusal.title.clone(), End::of_refusal(&refusal))
            }
            Stop::Quota { reason, .. } => {
                (used_up("gemini", &reason), "quota".to_owned(), End::Exhausted(reason))
            }
            Stop::Budget(reason) => {
                (used_up("budget", &reason), "budget".to_owned(), End::Exhausted(reason))
            }
        };
        if !self.told_refusals.contains(&title) {
            self.told_refusals.push(title);
            self.say(&News::Line(line));
        }
        if matches!(self.phase, Phase::Working) {
            self.wind_down(end, now);
        }
    }

    fn stop_claiming(&mut self) {
        if self.claiming != Claiming::UnderWay {
            self.claiming = Claiming::Over;
        }
    }

    /// Gives back what waits, what is delayed and what is held.
    pub(super) fn give_back_unbegun(&mut self) {
        self.probe = Probe::Off;
        let mut ids = self.desk.take_unbegun();
        ids.extend(self.refusals.take().into_iter().map(|refusal| refusal.id));
        for id in ids {
            self.close(&id, None, What::GiveBack);
        }
    }

    pub(super) fn abort(&self, id: &RecordId) {
        let work = self.items.get(id).and_then(|item| item.work.as_ref());
        if let Some(task) = work.and_then(|work| work.task.as_ref()) {
            task.abort();
        }
    }

    /// How the provider has treated the others while a picture met nothing but faults.
    pub(super) fn others(
        &self,
        id: &RecordId,
        status: Option<u16>,
        meanwhile: Meanwhile,
    ) -> Others {
        let Some(item) = self.items.get(id) else { return Others::Unknown };
        if meanwhile.answered > meanwhile.faults {
            return Others::Answered;
        }
        // 500 and 504 are what a picture that the service stumbles over draws, a page with 200 what a
        // filter in between makes of one; 429, 503 and silence are what an outage looks like. Only
        // with the former may it be its own alone in hand.
        if !matches!(status, Some(200 | 500 | 504)) || meanwhile.faults > 0 {
            return Others::Unknown;
        }
        match self.last_words.iter().rev().find(|(other, _)| other != id) {
            Some((_, Word::Answer)) => Others::Answered,
            None if item.history.own_faults > 0 => Others::Answered,
            Some((_, Word::Fault)) | None => Others::Unknown,
        }
    }

    /// The provider has spoken about a picture.
    pub(super) fn word(&mut self, id: &RecordId, word: Word) {
        self.last_words.retain(|(other, _)| other != id);
        self.last_words.push((id.clone(), word));
        // Two are enough: the latest, and the latest of another picture.
        let n_old = self.last_words.len().saturating_sub(2);
        self.last_words.drain(..n_old);
    }

    pub(super) fn look_at_health(&mut self, now: Instant) {
        let mut reviewing =
            self.items.values().filter(|item| item.stage == Stage::Reviewing).peekable();
        // What only such pictures meet is not the provider's until their try is judged.
        let only_own =
            reviewing.peek().is_some() && reviewing.all(|item| item.history.own_faults > 0);
        if only_own {
            return;
        }
        let health = self.ports.reviewer.health();
        let seen = Seen {
            calls: health.calls.saturating_sub(self.own_attempts),
            faults: health.faults.saturating_sub(self.own_attempts),
            status: health.last_status,
            detail: health.last_detail.unwrap_or_default(),
        };
        self.provider.see(seen, now);
    }

    /// Tells of outages and progress.
    fn tell(&mut self, now: Instant) {
        let lines = [&mut self.provider, &mut self.images, &mut self.records]
            .map(|outage| outage.line(now));
        for line in lines.into_iter().flatten() {
            self.say(&News::Line(line));
        }
        self.tell_dropped();
        let done = self.counts.settled();
        let due = self.told.is_none_or(|(at, told)| done != told && now >= at + BETWEEN_PROGRESS);
        if due && !matches!(self.phase, Phase::PuttingRight) {
            self.tell_progress(done, now);
        }
    }

    /// Keys that were dropped: others may do the work meanwhile, but somebody must see to these.
    fn tell_dropped(&mut self) {
        let health = self.ports.reviewer.health();
        if health.all_dropped {
            // What the run stops for is told as a whole.
            return;
        }
        let dropped = health.dropped;
        for one in dropped.iter().skip(self.n_dropped_told) {
            self.n_dropped_told += 1;
            let kind = match one.cause {
                DropCause::Rejected => "credentials_rejected",
                DropCause::OutOfCredit => "quota_exhausted",
                // Of the configuration, not of the key: there is no incident of that.
                DropCause::NotAllowed => {
                    self.note(one.reason.clone());
                    continue;
                }
            };
            self.say(&News::Line(Line::Problem(Problem {
                kind: kind.to_owned(),
                provider: Some("gemini".to_owned()),
                status: None,
                count: self.n_dropped_told as u64,
                calls: None,
                detail: one.reason.clone(),
                ..Problem::default()
            })));
        }
    }

    fn tell_progress(&mut self, done: u64, now: Instant) {
        self.told = Some((now, done));
        let limit = self.plan.limit.unwrap_or(u64::MAX);
        // Rows may have come since they were counted.
        let total = self.backlog.unwrap_or(0).max(self.counts.claimed).min(limit).max(done);
        self.say(&News::Progress { done, total });
    }

    /// Says the last words and counts what is left.
    pub(super) async fn conclude(mut self) -> Report {
        let now = Instant::now();
        self.tasks.abort_all();
        self.unwritten += self.items.len() as u64 + self.rewrites.len() as u64;
        self.unwritten += self.n_undoing as u64;
        if self.told.is_none_or(|(_, told)| told != self.counts.settled()) {
            self.tell_progress(self.counts.settled(), now);
        }
        self.tell_dropped();
        let lasts = [&self.provider, &self.images, &self.records].map(|outage| outage.lasts(now));
        let ends = [&mut self.provider, &mut self.images, &mut self.records];
        let mut lines = Vec::new();
        for (outage, lasts) in ends.into_iter().zip(lasts) {
            lines.extend(outage.last_line());
            lines.extend(if lasts == Duration::ZERO { outage.recovered() } else { None });
        }
        lines.extend(one_reason(&self.counts, &self.failures));
        lines.into_iter().for_each(|line| self.say(&News::Line(line)));
        let count = self.ports.records.count(&self.plan.pick_up);
        let remaining = timeout(COUNT_AT_MOST, count).await.ok().and_then(Result::ok);
        let stuck = Selection::stuck(self.ports.clock.now() - STUCK_AFTER);
        let stuck = timeout(COUNT_AT_MOST, self.ports.records.count_of(&stuck));
        let stuck = stuck.await.ok().and_then(Result::ok);
        let parked = match self.plan.parked.clone() {
            None => None,
            Some(status) => {
                let parked = [status];
                let parked = timeout(COUNT_AT_MOST, self.ports.records.count(&parked));
                parked.await.ok().and_then(Result::ok)
            }
        };
        let spent = self.ports.tries.spent().await.unwrap_or(UNKNOWN);
        let report = Report {
            run: self.plan.run.clone(),
            counts: self.counts,
            remaining,
            stuck,
            parked,
            spent,
            reasons: std::mem::take(&mut self.reasons),
            elapsed: self.started.elapsed(),
            end: match self.phase.clone() {
                Phase::WindingDown { end, .. } | Phase::GivingBack { end, .. } => end,
                // The loop ends in the phase before.
                Phase::PuttingRight | Phase::Working => End::Done,
            },
            unwritten: self.unwritten,
        };
        self.say(&News::Line(report.totals()));
        report
    }
}

/// What a stop says to people.
pub(super) fn words(stop: &Stop) -> &str {
    match stop {
        Stop::Refused(refusal) => &refusal.reason,
        Stop::Quota { reason, .. } | Stop::Budget(reason) => reason,
    }
}

fn used_up(provider: &str, reason: &str) -> Line {
    Line::Problem(Problem {
        kind: "quota_exhausted".to_owned(),
        provider: Some(provider.to_owned()),
        count: 1,
        detail: reason.to_owned(),
        ..Problem::default()
    })
}
