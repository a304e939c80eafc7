//! The review with the real client, which speaks over loopback to the stand-in, in simulated time;
//! and what the guard makes of what such a review prints.
//!
//! Everything runs on one thread, so that time goes on only when neither side has anything to do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lookout::clock::SimClock;
use lookout::drill::fake_gemini::{Behaviour, FakeGemini, FakeGeminiSettings, Looking};
use lookout::protocol::Line;
use lookout::review::pipeline::{Preparer, StopRequest};
use lookout::review::prompt::Prompt;
use lookout::review::report::{Exit, Report};
use lookout::review::reviewer::gemini::client::Gemini;
use lookout::review::reviewer::{Prepared, Reviewer};
use lookout::review::settings::{Project, ReviewerSettings};
use lookout::rundir::Event;
use lookout::schedule::{Job, Schedule};
use lookout::secret::Secret;
use lookout::watch::{Change, IncidentKind};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::world::{Heard, World};
use crate::gemini_client;
use crate::guard::scripts::{Script, ended, exited, good, signal};
use crate::guard::{self, hourly};

/// A picture of one colour, with its name after its end: each is another file.
pub(super) fn picture(name: &str) -> Bytes {
    let mut jpeg = std::io::Cursor::new(Vec::new());
    let pixels = image::RgbImage::from_pixel(16, 16, image::Rgb([90, 120, 60]));
    pixels.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    let mut bytes = jpeg.into_inner();
    bytes.extend_from_slice(name.as_bytes());
    bytes.into()
}

/// Lower-case hex, as rules of the stand-in name a picture.
pub(super) fn sha256_of(name: &str) -> String {
    Sha256::digest(picture(name)).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends pictures as they are.
struct AsTheyAre;

#[async_trait]
impl Preparer for AsTheyAre {
    async fn prepare(&self, name: Bytes) -> Result<Prepared, String> {
        let name = String::from_utf8(name.to_vec()).unwrap();
        let (bytes, sha256) = (picture(&name), sha256_of(&name));
        Ok(Prepared { mime_type: "image/jpeg", bytes, width: 16, height: 16, sha256 })
    }
}

/// The limits that the program is shipped with.
pub(super) fn shipped(stand_in: &FakeGemini, max_in_flight: u32) -> ReviewerSettings {
    ReviewerSettings {
        max_in_flight,
        connect_timeout: Duration::from_secs(10),
        attempt_timeout: Duration::from_secs(90),
        try_timeout: Duration::from_secs(300),
        projects: vec![Project { name: "main".into(), keys: vec![Secret::new("fake-key-main")] }],
        ..gemini_client::settings(&stand_in.base_url)
    }
}

pub(super) async fn stand_in(behaviour: Behaviour) -> FakeGemini {
    let behaviour = Behaviour { looking: Looking::Bytes, ..behaviour };
    FakeGemini::start(FakeGeminiSettings { port: 0, behaviour }).await.unwrap()
}

/// What came of a run.
pub(super) struct Spoken {
    pub(super) report: Report,
    pub(super) heard: Vec<Heard>,
    pub(super) gemini: Arc<Gemini>,
    /// Second of the run → calls that the client had made by its end.
    pub(super) calls: Vec<u64>,
}

impl Spoken {
    /// The seconds in which calls were made.
    pub(super) fn calls_between(&self, from: usize, to: usize) -> Vec<usize> {
        let to = to.min(self.calls.len());
        (from.max(1)..to).filter(|second| self.calls[*second] > self.calls[second - 1]).collect()
    }

    pub(super) fn has_line(&self, start: &str) -> bool {
        self.heard.iter().any(|(_, line)| line.to_string().starts_with(start))
    }
}

/// One run of the world's rows against the stand-in.
pub(super) async fn run(world: &mut World, settings: &ReviewerSettings) -> Spoken {
    let clock = Arc::new(SimClock::new(world.now()));
    let gemini = Arc::new(Gemini::new(settings, Prompt::built_in(), clock).unwrap());
    let (_wish, wishes) = watch::channel(StopRequest::None);
    let watched = Arc::clone(&gemini);
    let (calls, seen) = watch::channel(Vec::new());
    let watching = tokio::spawn(async move {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            second.tick().await;
            calls.send_modify(|calls| calls.push(watched.health().calls));
        }
    });
    let reviewer = Arc::clone(&gemini) as Arc<dyn Reviewer>;
    let (report, heard) = world.review_by(reviewer, Arc::new(AsTheyAre), wishes).await;
    watching.abort();
    let calls = seen.borrow().clone();
    Spoken { report, heard, gemini, calls }
}

/// What the guard tells people of a run that says these lines, and of the good one after it.
pub(super) async fn told_of(spoken: &Spoken) -> Vec<(IncidentKind, Change)> {
    let news = news_of(spoken).await;
    news.into_iter().map(|(_, kind, change)| (kind, change)).collect()
}

/// The same, each with the seconds since the run's slot.
pub(super) async fn news_of(spoken: &Spoken) -> Vec<(i64, IncidentKind, Change)> {
    let mut events: Vec<(Duration, Event)> =
        spoken.heard.iter().map(|(at, line)| (*at, event(line.clone()))).collect();
    let end = spoken.report.elapsed + Duration::from_secs(1);
    if spoken.report.signal_line(None).is_some() {
        events.push((end, signal()));
    }
    let code = match spoken.report.exit() {
        Exit::Done => 0,
        Exit::Failed => 1,
        Exit::TryLater => 75,
        Exit::Configuration => 78,
    };
    events.extend([(end, exited(code)), (end, ended())]);
    let schedule = Schedule { job: Job::Review { batch: 100 }, ..hourly("review") };
    let mut script = Some(Script { events, ..Script::default() });
    let mut guard =
        guard::World::new(vec![schedule], move |_| script.take().unwrap_or_else(|| good(60)));
    // Half an hour before the first run, and two of them.
    guard.run_for(Duration::from_secs(2 * 3600 + 1800)).await;
    let news = guard.news.iter();
    news.map(|news| (news.at.timestamp() % 3600, news.incident.kind, news.change)).collect()
}

/// What the keeper writes down of a line.
fn event(line: Line) -> Event {
    match line {
        Line::Progress { done, total, unit } => Event::Progress { done, total, unit },
        Line::Problem(problem) => Event::Problem {
            kind: problem.kind,
            provider: problem.provider,
            status: problem.status,
            count: problem.count,
            calls: problem.calls,
            detail: problem.detail,
            title: problem.title,
            action: problem.action,
        },
        Line::Recovered { kind } => Event::Recovered { kind },
        Line::Totals(totals) => Event::Totals { counts: totals.counts, usd: totals.usd },
        Line::Note { text } => Event::Note { text },
    }
}
