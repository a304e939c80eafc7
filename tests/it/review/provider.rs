//! The review and a provider that has its limits and its bad days: what is sent, what becomes of
//! the rows, what people are told.

use std::sync::Arc;
use std::time::Duration;

use lookout::clock::SystemClock;
use lookout::drill::fake_gemini::{Behaviour, Outcome, Quota, Raw, Refuse, Rule};
use lookout::review::prompt::Prompt;
use lookout::review::report::Exit;
use lookout::review::reviewer::Reviewer as _;
use lookout::review::reviewer::gemini::client::Gemini;
use lookout::review::settings::{BudgetSettings, Price, Project};
use lookout::secret::Secret;
use lookout::watch::{Change, IncidentKind};
use serde_json::json;

use super::faults::refuses_after;
use super::wire::{news_of, run, sha256_of, shipped, stand_in, told_of};
use super::world::{World, names};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) const USED_UP: &str =
    "SELECT count(*) FROM tries WHERE outcome IN ('failed', 'own_fault')";

#[tokio::test(start_paused = true)]
async fn a_quota_of_300_a_minute_is_used_and_hardly_ever_exceeded() {
    let quota = Some(Quota { requests_per_minute: Some(300), ..Quota::default() });
    let latency = Duration::from_millis(1500);
    let stand_in = stand_in(Behaviour { quota, latency, ..Behaviour::default() }).await;
    let mut world = World::with(names(2000)).await;
    let spoken = run(&mut world, &shipped(&stand_in, 64)).await;
    assert_eq!(spoken.report.counts.succeeded, 2000, "{:?}", spoken.report);
    let stats = stand_in.stats();
    let whole = &stats.minutes[1..stats.minutes.len() - 1];
    assert!(whole.len() >= 5, "{:?}", stats.minutes);
    for minute in whole {
        assert!(minute.answered >= 290, "{:?}", stats.minutes);
    }
    let refused: u64 = stats.minutes[1..].iter().map(|minute| minute.over_quota).sum();
    let answered: u64 = stats.minutes[1..].iter().map(|minute| minute.answered).sum();
    assert!(refused * 100 <= answered, "{:?}", stats.minutes);
    assert_eq!(told_of(&spoken).await, [], "a limit is no incident");
}

#[tokio::test(start_paused = true)]
async fn a_dead_key_is_told_while_another_one_does_the_work_and_until_it_is_gone() {
    let leaked = Rule { key: Some("fake-key-main".into()), ..Rule::new(Outcome::KeyLeaked) };
    let stand_in = stand_in(Behaviour { rules: vec![leaked], ..Behaviour::default() }).await;
    let mut world = World::with(names(50)).await;
    let mut settings = shipped(&stand_in, 16);
    let keys = vec![Secret::new("fake-key-second")];
    settings.projects.push(Project { name: "second".into(), keys });
    let spoken = run(&mut world, &settings).await;
    assert_eq!(spoken.report.counts.succeeded, 50, "{:?}", spoken.report);
    assert!(spoken.report.signal_line(None).is_some());
    let told = "::lookout::problem kind=credentials_rejected provider=gemini count=1";
    assert!(spoken.has_line(told), "{:?}", spoken.heard);
    let news = news_of(&spoken).await;
    let kind = IncidentKind::CredentialsRejected;
    let told: Vec<_> = news.iter().map(|(_, kind, change)| (*kind, *change)).collect();
    // It is open for an hour, so it is reminded of: not the end of its own run resolves it, though
    // that went well, but the next one's.
    assert_eq!(told, [Change::Opened, Change::Reminder, Change::Resolved].map(|it| (kind, it)));
}

/// What an outage from second 10 to second 490 must look like.
async fn is_sat_out(behaviour: Behaviour, status: Option<u16>) {
    let latency = Duration::from_millis(500);
    let stand_in = stand_in(Behaviour { latency, ..behaviour }).await;
    let mut world = World::with(names(800)).await;
    let spoken = run(&mut world, &shipped(&stand_in, 16)).await;
    assert_eq!(spoken.report.counts.succeeded, 800, "{:?}", spoken.report);
    assert!(spoken.report.signal_line(None).is_some());
    assert_eq!(world.noted(USED_UP), 0);
    // What was under way meets it and tries again, until five in a row have failed.
    let probes = spoken.calls_between(25, 490);
    assert!((3..=6).contains(&probes.len()), "{probes:?}");
    for pair in probes.windows(2) {
        assert!(pair[1] - pair[0] >= 29, "{probes:?}");
        assert_eq!(spoken.calls[pair[1]] - spoken.calls[pair[1] - 1], 1, "one at a time");
    }
    assert_eq!(spoken.gemini.health().last_status, status);
    let news = news_of(&spoken).await;
    let kind = IncidentKind::ProviderUnavailable;
    let told: Vec<_> = news.iter().map(|(_, kind, change)| (*kind, *change)).collect();
    assert_eq!(told, [(kind, Change::Opened), (kind, Change::Resolved)]);
    // The second probe, a minute and a half into it, has failed; a call may be slow to fail.
    assert!((70..=120).contains(&news[0].0), "{news:?}");
}

#[tokio::test(start_paused = true)]
async fn an_overload_of_eight_minutes_costs_no_try_and_is_one_incident() {
    let away = Rule {
        after: Duration::from_secs(10),
        lasts: Some(8 * MINUTE),
        ..Rule::new(Outcome::HighDemand)
    };
    is_sat_out(Behaviour { rules: vec![away], ..Behaviour::default() }, Some(503)).await;
}

/// A page of somebody between us and the service, with status 200.
fn login_page() -> Outcome {
    let body = "<html><title>Please log in</title></html>".to_owned();
    Outcome::Raw(Raw { status: 200, body, content_type: Some("text/html".into()) })
}

#[tokio::test(start_paused = true)]
async fn eight_minutes_of_a_proxys_login_page_cost_no_try_and_are_one_incident() {
    let away =
        Rule { after: Duration::from_secs(10), lasts: Some(8 * MINUTE), ..Rule::new(login_page()) };
    is_sat_out(Behaviour { rules: vec![away], ..Behaviour::default() }, Some(200)).await;
}

#[tokio::test(start_paused = true)]
async fn a_login_page_for_everything_judges_no_picture_and_is_no_success() {
    let stand_in = stand_in(Behaviour::always(login_page())).await;
    let mut world = World::with(names(100)).await;
    let spoken = run(&mut world, &shipped(&stand_in, 16)).await;
    assert_eq!(spoken.report.exit(), Exit::TryLater, "{:?}", spoken.report);
    assert_eq!(spoken.report.signal_line(None), None);
    assert_eq!(world.noted(USED_UP), 0);
    assert_eq!(world.statuses(), [("downloaded".to_owned(), 100)].into());
    let problem = "::lookout::problem kind=provider_unavailable provider=gemini status=200";
    assert!(spoken.has_line(problem), "{:?}", spoken.heard);
}

#[tokio::test(start_paused = true)]
async fn eight_minutes_without_a_connection_cost_no_try_and_are_one_incident() {
    let refuse = Some(Refuse { after: Duration::from_secs(10), lasts: Some(8 * MINUTE) });
    is_sat_out(Behaviour { refuse, ..Behaviour::default() }, None).await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_answers_is_told_within_five_minutes_and_given_up_before_twelve() {
    let hangs = Rule::new(Outcome::NeverAnswers);
    let stand_in = stand_in(Behaviour { rules: vec![hangs], ..Behaviour::default() }).await;
    let mut world = World::with(names(100)).await;
    let spoken = run(&mut world, &shipped(&stand_in, 16)).await;
    assert_eq!(spoken.report.exit(), Exit::TryLater, "{:?}", spoken.report);
    assert!(spoken.report.elapsed < 12 * MINUTE, "{:?}", spoken.report);
    assert_eq!(world.noted(USED_UP), 0);
    assert_eq!(world.statuses(), [("downloaded".to_owned(), 100)].into());
    let news = news_of(&spoken).await;
    let kind = IncidentKind::ProviderUnavailable;
    assert_eq!(news.first().map(|news| (news.1, news.2)), Some((kind, Change::Opened)));
    // Three calls one after the other, 90 s each.
    assert!(news[0].0 <= 280, "{news:?}");
}

#[tokio::test(start_paused = true)]
async fn a_picture_that_always_draws_a_500_is_an_error_after_three_tries_and_no_incident() {
    for place in [0, 50, 99] {
        let poison = format!("p{place:04}");
        let rule = Rule { sha256: Some(sha256_of(&poison)), ..Rule::new(Outcome::Internal) };
        let latency = Duration::from_millis(500);
        let behaviour = Behaviour { rules: vec![rule], latency, ..Behaviour::default() };
        let stand_in = stand_in(behaviour).await;
        let mut world = World::with(names(100)).await;
        let spoken = run(&mut world, &shipped(&stand_in, 16)).await;
        let counts = spoken.report.counts;
        assert_eq!((counts.succeeded, counts.errored), (99, 1), "{:?}", spoken.report);
        assert!(spoken.report.signal_line(None).is_some());
        let (status, category, details) = world.row(&poison);
        assert_eq!([status, category], ["auto_review_error"; 2]);
        assert!(details.contains("3 tries") && details.contains("500"), "{details}");
        assert_eq!(told_of(&spoken).await, [], "place {place}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_503_on_every_tenth_call_loses_no_picture_and_is_no_incident() {
    for seed in 0..2 {
        let rule = Rule { share: Some(0.1), ..Rule::new(Outcome::HighDemand) };
        let latency = Duration::from_millis(500);
        let behaviour = Behaviour { rules: vec![rule], latency, seed, ..Behaviour::default() };
        let stand_in = stand_in(behaviour).await;
        let mut world = World::with(names(400)).await;
        let spoken = run(&mut world, &shipped(&stand_in, 16)).await;
        assert_eq!(spoken.report.counts.succeeded, 400, "{:?}", spoken.report);
        assert!(stand_in.stats().by_outcome["high_demand"] >= 20);
        assert_eq!(world.noted(USED_UP), 0);
        assert_eq!(told_of(&spoken).await, [], "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_turns_to_403_is_one_incident_of_the_pictures_and_costs_no_row_anything() {
    let latency = Duration::from_millis(500);
    let stand_in = stand_in(Behaviour { latency, ..Behaviour::default() }).await;
    let mut world = World::with(names(300)).await;
    world.bucket = refuses_after(100);
    let spoken = run(&mut world, &shipped(&stand_in, 16)).await;
    let expected = [("auto_review_success".to_owned(), 100), ("downloaded".to_owned(), 200)];
    assert_eq!(world.statuses(), expected.into());
    assert_eq!(world.noted(USED_UP), 0);
    assert!(spoken.has_line("::lookout::problem kind=images_unavailable"), "{:?}", spoken.heard);
    let kind = IncidentKind::ImagesUnavailable;
    assert_eq!(told_of(&spoken).await, [(kind, Change::Opened), (kind, Change::Resolved)]);
}

#[tokio::test(start_paused = true)]
async fn fifty_calls_at_once_stay_within_the_budget_and_reaching_it_is_told() {
    let latency = Duration::from_millis(500);
    let stand_in = stand_in(Behaviour { latency, ..Behaviour::default() }).await;
    let mut settings = shipped(&stand_in, 64);
    // A price at which what is set aside for a try is some times what it costs.
    let price = Price { input: 1000.0, output: 0.0 };
    settings.prices.insert(settings.model.clone(), price);
    let mut world = World::with(names(600)).await;
    let gemini = Gemini::new(&settings, Prompt::built_in(), Arc::new(SystemClock)).unwrap();
    let per_try = gemini.usd_per_try().unwrap();
    let cap = 50.5 * per_try;
    world.budget = BudgetSettings { usd_per_run: Some(cap), usd_per_day: None };
    let spoken = run(&mut world, &settings).await;
    // The rest of the fifty were being fetched or stood ready.
    assert!((30..=50).contains(&stand_in.stats().most_in_flight));
    let spent = spoken.report.spent.usd.unwrap();
    assert!(spent <= cap && spent > cap - 2.0 * per_try, "{spent} of {cap}");
    assert_eq!(spoken.report.exit(), Exit::TryLater);
    assert_eq!(spoken.report.signal_line(None), None);
    let n_reviewed = spoken.report.counts.succeeded;
    let back = [
        ("auto_review_success".to_owned(), n_reviewed),
        ("downloaded".to_owned(), 600 - n_reviewed),
    ];
    assert_eq!(world.statuses(), back.into());
    assert!(spoken.has_line("::lookout::problem kind=quota_exhausted provider=budget"));
    let kind = IncidentKind::QuotaExhausted;
    assert_eq!(told_of(&spoken).await, [(kind, Change::Opened), (kind, Change::Resolved)]);
}

/// The account's limit on spending, with a delay.
fn spends_too_fast(delay: &str) -> Outcome {
    let message = format!("You exceeded your spend-based rate limit. Please retry in {delay}.");
    let error = json!({"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED"});
    let body = json!({"error": error}).to_string();
    Outcome::Raw(Raw { status: 429, body, content_type: None })
}

#[tokio::test(start_paused = true)]
async fn an_account_that_must_wait_for_seven_minutes_ends_the_run_and_not_the_backlog() {
    let eighty = Rule { times: Some(80), ..Rule::new(Outcome::Answer) };
    let rules = vec![eighty, Rule::new(spends_too_fast("420s"))];
    let latency = Duration::from_millis(500);
    let stand_in = stand_in(Behaviour { rules, latency, ..Behaviour::default() }).await;
    let mut world = World::with(names(300)).await;
    let spoken = run(&mut world, &shipped(&stand_in, 16)).await;
    let expected = [("auto_review_success".to_owned(), 80), ("downloaded".to_owned(), 220)];
    assert_eq!(world.statuses(), expected.into());
    assert!(spoken.report.counts.returned <= 120, "two claims at most: {:?}", spoken.report);
    assert_eq!(spoken.report.exit(), Exit::TryLater, "{:?}", spoken.report);
    assert_eq!(spoken.report.signal_line(None), None);
    assert_eq!(world.noted(USED_UP), 0);
    assert!(spoken.has_line("::lookout::problem kind=quota_exhausted"), "{:?}", spoken.heard);
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_five_minutes_is_waited_for_by_all_and_nothing_goes_back() {
    let eighty = Rule { times: Some(80), ..Rule::new(Outcome::Answer) };
    let once = Rule { times: Some(1), ..Rule::new(spends_too_fast("299s")) };
    let latency = Duration::from_millis(500);
    let behaviour = Behaviour { rules: vec![eighty, once], latency, ..Behaviour::default() };
    let stand_in = stand_in(behaviour).await;
    let mut world = World::with(names(300)).await;
    let spoken = run(&mut world, &shipped(&stand_in, 16)).await;
    let counts = spoken.report.counts;
    assert_eq!((counts.succeeded, counts.returned), (300, 0), "{:?}", spoken.report);
    assert!(spoken.report.signal_line(None).is_some());
    assert!((299..400).contains(&spoken.report.elapsed.as_secs()), "{:?}", spoken.report);
}

#[tokio::test(start_paused = true)]
async fn fifty_calls_at_once_stay_within_the_budget_whatever_the_lost_ones_have_cost() {
    let rule = Rule { share: Some(0.3), ..Rule::new(Outcome::DeadlineExceeded) };
    let latency = Duration::from_millis(500);
    let behaviour = Behaviour { rules: vec![rule], latency, ..Behaviour::default() };
    let stand_in = stand_in(behaviour).await;
    let mut settings = shipped(&stand_in, 64);
    // Without output each attempt costs at most half of what is set aside for a try.
    let price = Price { input: 1000.0, output: 0.0 };
    settings.prices.insert(settings.model.clone(), price);
    let mut world = World::with(names(600)).await;
    let gemini = Gemini::new(&settings, Prompt::built_in(), Arc::new(SystemClock)).unwrap();
    let per_try = gemini.usd_per_try().unwrap();
    let cap = 50.5 * per_try;
    world.budget = BudgetSettings { usd_per_run: Some(cap), usd_per_day: None };
    let spoken = run(&mut world, &settings).await;
    let n_lost = world.noted("SELECT sum(possibly_billed) FROM tries");
    assert!(n_lost >= 10, "{n_lost}");
    let usd = world.noted("SELECT CAST(sum(usd) * 1e6 AS INTEGER) FROM tries") as f64 / 1e6;
    let at_most = usd + n_lost as f64 * per_try / 2.0;
    assert!(at_most <= cap, "{at_most} of {cap}");
    let booked = world.noted("SELECT CAST(max(usd) * 1e6 AS INTEGER) FROM money") as f64 / 1e6;
    assert!((booked - at_most).abs() < 1e-3, "{booked} are booked where {at_most} may be spent");
    assert!(at_most > cap - 2.0 * per_try, "{at_most} of {cap}");
    assert_eq!(spoken.report.exit(), Exit::TryLater, "{:?}", spoken.report);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_only_loses_answers_is_paid_no_more_than_the_cap() {
    let stand_in = stand_in(Behaviour::always(Outcome::DeadlineExceeded)).await;
    let settings = shipped(&stand_in, 1);
    let gemini = Gemini::new(&settings, Prompt::built_in(), Arc::new(SystemClock)).unwrap();
    let cap = 2.5 * gemini.usd_per_try().unwrap();
    let mut world = World::with(names(1)).await;
    world.budget = BudgetSettings { usd_per_run: Some(cap), usd_per_day: None };
    let spoken = run(&mut world, &settings).await;
    let booked = world.noted("SELECT CAST(max(usd) * 1e6 AS INTEGER) FROM money") as f64 / 1e6;
    assert!(booked > 0.0 && booked <= cap, "{booked} of {cap}");
    // A call costs at most a third of what is set aside for a try, which may need twice the room.
    assert!(stand_in.stats().by_outcome["deadline_exceeded"] <= 7);
    let closing = spoken.report.closing();
    assert!(!closing.contains("0.0000 USD"), "{closing}");
}
