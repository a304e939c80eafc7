//! How a run ends: backlog done, box full, outage, stop; and its last report.
//!
//! [`Shutdown`] owns the phase and the deadlines; below it stands what the pipeline does in each.
//! Invariant: phases only go forward, and the first reason to end is the one that is reported.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::claims::COUNT_TIMEOUT;
use super::item::{Conclusion, Stage};
use super::outage::Outage;
use super::{IDLE_POLL_INTERVAL, POLL_INTERVAL, Pipeline, Plan, StopRequest};
use crate::protocol::{Line, Problem};
use crate::review::record::RecordId;
use crate::review::record::selection::{STUCK_AFTER, Selection};
use crate::review::report::{End, Report, refusal_line};
use crate::review::settle::Stop;
use crate::review::tries::{Spent, TryOutcome};

use super::queue::Limits;

/// Kept free at the end of the grace for releasing rows and for the closing lines.
const RELEASE_RESERVE: Duration = Duration::from_secs(10);

/// How long rows are tried to be released when no grace sets an end: as long as a database may take
/// to answer, short enough for a person who waits at a terminal.
const MAX_RELEASE: Duration = Duration::from_secs(30);

/// A box that ends while nothing has worked for this long did not end well.
const OUTAGE_AT_THE_END: Duration = Duration::from_secs(60);

/// Without an end of the grace a call is bounded by the reviewer's own limits alone.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// Costs of a run that can't be read are unknown, never 0.
const UNKNOWN: Spent =
    Spent { tries: 0, tokens_in: 0, tokens_out: 0, usd: None, possibly_billed: 0, not_told: 0 };

/// How far the run is in ending.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Rows that dead processes left are released; nothing is claimed yet.
    RecoveringOrphans,
    Working,
    /// Nothing new begins; at `until` what is in hand is released.
    WindingDown {
        end: End,
        until: Instant,
    },
    /// Everything goes back; writes are tried until `until`.
    Releasing {
        end: End,
        until: Instant,
    },
}

/// What the moment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    /// Whether there is anything left to do.
    LookForTheEnd,
    WindDown(End),
    Release(End),
}

/// The phase and the deadlines.
#[derive(Debug)]
pub(super) struct Shutdown {
    phase: Phase,
    box_end: Option<Instant>,
    grace_end: Option<Instant>,
    grace: Duration,
}

impl Shutdown {
    pub(super) fn new(plan: &Plan) -> Self {
        let Plan { box_end, grace_end, grace, .. } = *plan;
        Self { phase: Phase::RecoveringOrphans, box_end, grace_end, grace }
    }

    pub(super) fn orphans_are_recovered(&mut self) {
        if self.phase == Phase::RecoveringOrphans {
            self.phase = Phase::Working;
        }
    }

    /// New work may begin.
    pub(super) fn may_begin(&self) -> bool {
        self.phase == Phase::Working
    }

    /// What is prepared may be sent.
    pub(super) fn may_review(&self) -> bool {
        match self.phase {
            Phase::Working | Phase::WindingDown { .. } => true,
            Phase::RecoveringOrphans | Phase::Releasing { .. } => false,
        }
    }

    pub(super) fn is_releasing(&self) -> bool {
        matches!(self.phase, Phase::Releasing { .. })
    }

    fn is_recovering(&self) -> bool {
        self.phase == Phase::RecoveringOrphans
    }

    /// Why the run ends, once it does.
    pub(super) fn end(&self) -> Option<&End> {
        match &self.phase {
            Phase::RecoveringOrphans | Phase::Working => None,
            Phase::WindingDown { end, .. } | Phase::Releasing { end, .. } => Some(end),
        }
    }

    /// A row that waits this long still has its turn in this run.
    pub(super) fn has_time_for(&self, wait: Duration, now: Instant) -> bool {
        self.may_begin() && self.box_end.is_none_or(|box_end| now + wait < box_end)
    }

    /// What the moment asks for. `gave_up`: the end for an outage that has lasted too long;
    /// `box_end`: how a box that ends now has ended.
    pub(super) fn wanted(
        &self,
        request: StopRequest,
        gave_up: Option<End>,
        box_end: impl FnOnce() -> End,
        n_items: usize,
        now: Instant,
    ) -> Wanted {
        match &self.phase {
            Phase::RecoveringOrphans | Phase::Working => {
                let box_is_full = self.box_end.is_some_and(|end| now >= end);
                match (gave_up, request) {
                    (Some(end), _) => Wanted::Release(end),
                    (None, StopRequest::Release) => Wanted::Release(box_end()),
                    (None, StopRequest::WindDown) => Wanted::WindDown(box_end()),
                    (None, StopRequest::None) if box_is_full => Wanted::WindDown(box_end()),
                    (None, StopRequest::None) if self.may_begin() => Wanted::LookForTheEnd,
                    (None, StopRequest::None) => Wanted::Nothing,
                }
            }
            Phase::WindingDown { end, until } => {
                if request == StopRequest::Release || now >= *until || n_items == 0 {
                    Wanted::Release(end.clone())
                } else {
                    Wanted::Nothing
                }
            }
            Phase::Releasing { .. } => Wanted::Nothing,
        }
    }

    /// When calls must have ended, so that there is time to release rows.
    pub(super) fn calls_end(&self, now: Instant) -> Instant {
        self.calls_end_by_plan().unwrap_or(now + NO_DEADLINE)
    }

    fn calls_end_by_plan(&self) -> Option<Instant> {
        if let Phase::WindingDown { until, .. } = &self.phase {
            return Some(*until);
        }
        self.grace_end.map(|end| {
            let grace = self
                .box_end
                .map_or(RELEASE_RESERVE * 4, |box_end| end.saturating_duration_since(box_end));
            end - RELEASE_RESERVE.min(grace / 4)
        })
    }

    fn wind_down(&mut self, end: End, now: Instant) {
        let until = self.calls_end_by_plan().unwrap_or(now + self.grace);
        self.phase = Phase::WindingDown { end, until };
    }

    fn release(&mut self, end: End, now: Instant) {
        let latest = now + MAX_RELEASE;
        let until = self.grace_end.map_or(latest, |end| end.clamp(now, latest));
        self.phase = Phase::Releasing { end, until };
    }

    /// No longer waited for, written or not.
    fn time_is_over(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Releasing { until, .. } if now >= until)
    }

    /// When the phase ends by itself; `None`: not by time.
    fn until(&self) -> Option<Instant> {
        match &self.phase {
            Phase::WindingDown { until, .. } | Phase::Releasing { until, .. } => Some(*until),
            Phase::RecoveringOrphans | Phase::Working => None,
        }
    }

    fn into_end(self) -> End {
        match self.phase {
            Phase::WindingDown { end, .. } | Phase::Releasing { end, .. } => end,
            // The loop ends in the phase before.
            Phase::RecoveringOrphans | Phase::Working => End::Done,
        }
    }
}

impl Pipeline {
    /// Nothing is left to wait for.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let nothing_left =
            self.items.is_empty() && self.write_back.is_idle() && !self.claims.is_under_way();
        self.shutdown.is_releasing() && (nothing_left || self.shutdown.time_is_over(now))
    }

    /// No try of ours is open, as far as the budget is concerned.
    pub(super) fn has_no_open_try(&self) -> bool {
        self.queue.n_in_hand() == 0 && !self.write_back.is_releasing()
    }

    pub(super) fn limits(&self) -> Limits {
        Limits::new(self.ports.reviewer.concurrency())
    }

    /// When the loop must look again even if nothing ends.
    pub(super) fn next_wake(&self, now: Instant) -> Instant {
        let mut times: Vec<Instant> = self.write_back.next_due().into_iter().collect();
        if let Some(until) = self.shutdown.until() {
            times.push(until);
        } else {
            times.extend(self.plan.box_end);
            times.extend(self.queue.next_delayed());
            times.extend(self.claims.next_at(now));
            times.extend(self.bucket.next_probe());
            let outages = self.outages().map(|(outage, _)| outage);
            times.extend(outages.iter().filter_map(|it| it.lasts_until(self.plan.give_up_after)));
        }
        if self.queue.n_in_hand() > 0 {
            times.push(now + POLL_INTERVAL);
        }
        times.into_iter().min().unwrap_or(now + IDLE_POLL_INTERVAL).max(now)
    }

    /// The three that the run depends on, and what people call them.
    fn outages(&self) -> [(&Outage, &'static str); 3] {
        [
            (self.provider.outage(), "Gemini"),
            (self.bucket.outage(), "the image storage"),
            (self.write_back.records(), "the record store"),
        ]
    }

    /// An outage that has lasted too long.
    pub(super) fn gave_up(&self, limit: Duration, now: Instant) -> Option<End> {
        let (outage, name) = self
            .outages()
            .into_iter()
            .find(|(outage, _)| outage.lasts(now) >= limit && outage.lasts(now) > Duration::ZERO)?;
        let seconds = outage.lasts(now).as_secs();
        let detail = outage.detail();
        let reason = format!("{name} has brought nothing but faults for {seconds} s: {detail}");
        Some(End::GaveUp { kind: outage.kind(), reason })
    }

    /// A box that was full of nothing but faults is no normal end.
    pub(super) fn end_of_box(&self, now: Instant) -> End {
        let has_settled = self.write_back.counts().settled() > 0;
        let limit = if has_settled { OUTAGE_AT_THE_END } else { Duration::ZERO };
        self.gave_up(limit, now).unwrap_or(End::BoxFull)
    }

    /// Nothing new begins; what is in hand may end.
    pub(super) fn wind_down(&mut self, end: End, now: Instant) {
        self.shutdown.wind_down(end, now);
        self.claims.stop();
        self.release_unbegun();
    }

    /// Everything goes back.
    pub(super) fn stop(&mut self, end: End, now: Instant) {
        if self.shutdown.is_releasing() {
            return;
        }
        self.shutdown.release(end, now);
        self.claims.stop();
        self.release_unbegun();
        for id in self.queue.take_ready() {
            self.return_try(&id);
        }
        for item in self.items.values() {
            match item.stage() {
                Stage::Fetching | Stage::Reviewing => item.abort(),
                Stage::Queued | Stage::Beginning | Stage::Ready | Stage::Held | Stage::Closing => {}
            }
        }
    }

    /// Something that concerns every image: told once, in whatever phase it is met.
    pub(super) fn stop_for(&mut self, stop: Stop, now: Instant) {
        let (cause, line, end) = match stop {
            Stop::Refused(refusal) => {
                self.provider.refused_for_good();
                (refusal.title.clone(), refusal_line(&refusal), End::of_refusal(&refusal))
            }
            Stop::Quota { reason, .. } => {
                ("quota".to_owned(), used_up("gemini", &reason), End::Exhausted(reason))
            }
            Stop::Budget(reason) => {
                ("budget".to_owned(), used_up("budget", &reason), End::Exhausted(reason))
            }
        };
        self.progress.line_of_cause(cause, line);
        if self.shutdown.may_begin() {
            self.wind_down(end, now);
        }
    }

    /// Releases what waits, what is delayed and what is held.
    pub(super) fn release_unbegun(&mut self) {
        let mut ids = self.queue.take_unbegun();
        ids.extend(self.bucket.take_held());
        for id in ids {
            self.close(&id, Conclusion::without_a_try());
        }
    }

    /// Releases a row whose try was cut short.
    pub(super) fn return_try(&mut self, id: &RecordId) {
        let Some(item) = self.items.get(id) else { return };
        let end = item.end_of_try(TryOutcome::Returned, None, None, &self.ports);
        self.close(id, Conclusion::release(end));
    }

    pub(super) fn update_health(&mut self, now: Instant) {
        let reviewing = self.items.values().filter(|item| item.stage() == Stage::Reviewing);
        let own_faults = reviewing.map(super::item::Item::own_faults);
        self.provider.update(self.ports.reviewer.health(), own_faults, now);
    }

    /// Tells of outages, dropped keys and progress.
    pub(super) fn report_progress(&mut self, now: Instant) {
        let lines = [
            self.provider.outage_mut().line(now),
            self.bucket.outage_mut().line(now),
            self.write_back.records_mut().line(now),
        ];
        lines.into_iter().flatten().for_each(|line| self.progress.line(line));
        self.report_dropped();
        if !self.shutdown.is_recovering() {
            self.progress.report(self.write_back.counts(), self.plan.limit, now);
        }
    }

    fn report_dropped(&mut self) {
        let health = self.ports.reviewer.health();
        for line in self.provider.dropped_lines(&health) {
            self.progress.line(line);
        }
    }

    /// Says the last words and counts what is left.
    pub(super) async fn conclude(mut self) -> Report {
        let now = Instant::now();
        self.tasks.abort_all();
        self.progress.report_last(self.write_back.counts(), self.plan.limit, now);
        self.report_dropped();
        let outages =
            [self.provider.outage_mut(), self.bucket.outage_mut(), self.write_back.records_mut()];
        let mut lines: Vec<Line> = outages.into_iter().flat_map(|it| it.last_lines(now)).collect();
        lines.extend(self.write_back.one_reason());
        lines.into_iter().for_each(|line| self.progress.line(line));
        let tally = self.write_back.conclude(self.items.len());
        let count = self.ports.records.count(&self.plan.pick_up);
        let remaining = timeout(COUNT_TIMEOUT, count).await.ok().and_then(Result::ok);
        let stuck = Selection::stuck(self.ports.clock.now() - STUCK_AFTER);
        let stuck = timeout(COUNT_TIMEOUT, self.ports.records.count_of(&stuck));
        let stuck = stuck.await.ok().and_then(Result::ok);
        let parked = match self.plan.parked.clone() {
            None => None,
            Some(status) => {
                let parked = [status];
                let parked = timeout(COUNT_TIMEOUT, self.ports.records.count(&parked));
                parked.await.ok().and_then(Result::ok)
            }
        };
        let spent = self.ports.tries.spent().await.unwrap_or(UNKNOWN);
        let report = Report {
            run: self.plan.run,
            counts: tally.counts,
            remaining,
            stuck,
            parked,
            spent,
            reasons: tally.reasons,
            elapsed: self.progress.elapsed(),
            end: self.shutdown.into_end(),
            unwritten: tally.unwritten,
        };
        self.progress.line(report.totals());
        report
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

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn shutdown(box_end: Instant) -> Shutdown {
        let mut shutdown = Shutdown {
            phase: Phase::RecoveringOrphans,
            box_end: Some(box_end),
            grace_end: Some(box_end + 5 * MINUTE),
            grace: MINUTE,
        };
        shutdown.orphans_are_recovered();
        shutdown
    }

    fn wanted(shutdown: &Shutdown, request: StopRequest, n_items: usize, now: Instant) -> Wanted {
        shutdown.wanted(request, None, || End::BoxFull, n_items, now)
    }

    #[tokio::test(start_paused = true)]
    async fn a_box_that_is_full_winds_down_and_then_releases() {
        let now = Instant::now();
        let box_end = now + 45 * MINUTE;
        let mut shutdown = shutdown(box_end);
        assert_eq!(wanted(&shutdown, StopRequest::None, 9, now), Wanted::LookForTheEnd);
        let full = wanted(&shutdown, StopRequest::None, 9, box_end);
        assert_eq!(full, Wanted::WindDown(End::BoxFull));
        shutdown.wind_down(End::BoxFull, box_end);
        assert!(!shutdown.may_begin() && shutdown.may_review());
        assert_eq!(wanted(&shutdown, StopRequest::None, 9, box_end), Wanted::Nothing);
        let until = shutdown.until().unwrap();
        assert_eq!(until, box_end + 5 * MINUTE - RELEASE_RESERVE, "time to release is kept free");
        let released = Wanted::Release(End::BoxFull);
        assert_eq!(wanted(&shutdown, StopRequest::None, 9, until), released);
        assert_eq!(wanted(&shutdown, StopRequest::None, 0, box_end), released, "all is done");
        assert_eq!(wanted(&shutdown, StopRequest::Release, 9, box_end), released);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_comes_before_every_other_reason_and_phases_only_go_forward() {
        let now = Instant::now();
        let mut shutdown = shutdown(now);
        let gave_up = End::GaveUp { kind: "provider_unavailable", reason: "503".into() };
        let both =
            shutdown.wanted(StopRequest::WindDown, Some(gave_up.clone()), || End::BoxFull, 9, now);
        assert_eq!(both, Wanted::Release(gave_up.clone()));
        shutdown.release(gave_up.clone(), now);
        shutdown.orphans_are_recovered();
        assert!(shutdown.is_releasing() && !shutdown.may_review());
        assert_eq!(wanted(&shutdown, StopRequest::WindDown, 9, now), Wanted::Nothing);
        assert_eq!(shutdown.end(), Some(&gave_up));
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_waits_only_if_its_turn_comes_within_the_box() {
        let now = Instant::now();
        let shutdown = shutdown(now + MINUTE);
        assert!(shutdown.has_time_for(Duration::from_secs(30), now));
        assert!(!shutdown.has_time_for(MINUTE, now));
    }
}
