//! What `review.db` remembers, through the port. A process dies here by dropping its value: the
//! lock is freed as the kernel would free it.

use std::sync::Arc;

use super::*;
use crate::review::reviewer::CallRecord;
use crate::review::tries::TryOutcome;

const NO_CAP: BudgetSettings = BudgetSettings { usd_per_run: None, usd_per_day: None };

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn id(name: &str) -> RecordId {
    RecordId(name.to_owned())
}

fn open_run(folder: &Path, run: &str) -> SqliteTries {
    let settings = HolderSettings {
        run: run.to_owned(),
        scope: "sqlite:test".to_owned(),
        started_at: at(0),
        lease_until: at(3600),
    };
    SqliteTries::open(folder, &settings).unwrap()
}

async fn begin(tries: &SqliteTries, name: &str, isolation: Isolation) -> TryId {
    let begin = Begin { id: id(name), at: at(1), isolation, reserve: None };
    match tries.begin(&begin, &NO_CAP).await.unwrap() {
        Begun::Yes(id) => id,
        Begun::OverBudget { reason } => panic!("{reason}"),
    }
}

fn end(outcome: TryOutcome, cost: f64) -> TryEnd {
    TryEnd {
        outcome,
        at: at(2),
        reason: Some("why".to_owned()),
        sha256: None,
        result: None,
        call: None,
        took: Duration::from_secs(1),
        cost,
    }
}

async fn history_of(tries: &SqliteTries, name: &str) -> History {
    tries.histories(&[id(name)]).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_row_is_noted_by_one_process_only() {
    let folder = tempfile::tempdir().unwrap();
    let first = open_run(folder.path(), "one");
    let second = open_run(folder.path(), "two");
    let noted = first.record_claims(&[id("a"), id("b")], "downloaded", at(0)).await.unwrap();
    assert_eq!(noted, [id("a"), id("b")]);
    let noted = second.record_claims(&[id("b"), id("c")], "downloaded", at(0)).await.unwrap();
    assert_eq!(noted, [id("c")]);
    // Only the holder can drop it.
    second.drop_claims(&[id("a")]).await.unwrap();
    assert!(second.record_claims(&[id("a")], "downloaded", at(0)).await.unwrap().is_empty());
    first.drop_claims(&[id("a")]).await.unwrap();
    assert_eq!(second.record_claims(&[id("a")], "downloaded", at(0)).await.unwrap(), [id("a")]);
}

#[tokio::test]
async fn the_rows_of_the_dead_are_taken_over_once_and_those_of_the_living_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let living = open_run(folder.path(), "living");
    let dying = open_run(folder.path(), "dying");
    living.record_claims(&[id("l")], "downloaded", at(0)).await.unwrap();
    dying.record_claims(&[id("d")], "added", at(5)).await.unwrap();
    drop(dying);
    let next = open_run(folder.path(), "next");
    let orphans = next.take_over(at(10)).await.unwrap();
    let history = History::default();
    let expected = Orphan {
        id: id("d"),
        from: "added".into(),
        claimed_at: at(5),
        fence: Fence::Sure,
        history,
    };
    assert_eq!(orphans, [expected]);
    assert!(living.take_over(at(10)).await.unwrap().is_empty());
    // A next one that dies before it has given them back leaves them to its own next.
    drop(next);
    let last = open_run(folder.path(), "last");
    assert_eq!(last.take_over(at(11)).await.unwrap().len(), 1);
    // Past the lease even those of the living.
    assert_eq!(last.take_over(at(3601)).await.unwrap()[0].id, id("l"));
}

#[tokio::test]
async fn only_a_death_while_alone_uses_up_a_try() {
    let folder = tempfile::tempdir().unwrap();
    let mut deaths_alone = 0;
    for round in 0..4 {
        let tries = open_run(folder.path(), "run");
        tries.take_over(at(0)).await.unwrap();
        let history = history_of(&tries, "poison").await;
        assert_eq!(history.failed.len(), deaths_alone);
        assert_eq!(history.suspect, round > 0);
        let isolation = if round == 0 { Isolation::Shared } else { Isolation::Exclusive };
        begin(&tries, "poison", isolation).await;
        if round == 0 {
            begin(&tries, "neighbour", isolation).await;
        } else {
            deaths_alone += 1;
        }
    }
    let tries = open_run(folder.path(), "run");
    tries.take_over(at(0)).await.unwrap();
    assert_eq!(history_of(&tries, "poison").await.failed.len(), 3);
    let neighbour = history_of(&tries, "neighbour").await;
    assert_eq!(neighbour, History { suspect: true, ..History::default() });
    // One whole try, and it is no suspect any more.
    let try_id = begin(&tries, "neighbour", Isolation::Exclusive).await;
    tries.finish(try_id, &end(TryOutcome::Fault, 0.0), Row::Kept).await.unwrap();
    assert!(!history_of(&tries, "neighbour").await.suspect);
}

#[tokio::test]
async fn a_terminal_status_clears_the_tries_and_giving_back_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let tries = open_run(folder.path(), "run");
    for (outcome, row, n_failed, own_faults) in [
        (TryOutcome::Failed, Row::Kept, 1, 0),
        (TryOutcome::OwnFault, Row::Kept, 1, 1),
        (TryOutcome::Fault, Row::Kept, 1, 1),
        (TryOutcome::Failed, Row::Returned, 2, 1),
        (TryOutcome::Returned, Row::Returned, 2, 1),
        (TryOutcome::Answered, Row::Settled, 0, 0),
    ] {
        tries.record_claims(&[id("a")], "downloaded", at(0)).await.unwrap();
        let try_id = begin(&tries, "a", Isolation::Shared).await;
        tries.finish(try_id, &end(outcome, 0.0), row).await.unwrap();
        let history = history_of(&tries, "a").await;
        assert_eq!((history.failed.len(), history.own_faults), (n_failed, own_faults));
        let free = tries.record_claims(&[id("a")], "downloaded", at(0)).await.unwrap();
        assert_eq!(free.is_empty(), row == Row::Kept, "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_calls_at_once_never_exceed_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let one = Arc::new(open_run(folder.path(), "one"));
    let two = Arc::new(open_run(folder.path(), "two"));
    let budget = BudgetSettings { usd_per_run: Some(0.10), usd_per_day: Some(0.15) };
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..50 {
        let tries = Arc::clone(if n % 2 == 0 { &one } else { &two });
        calls.spawn(async move {
            let begin = Begin {
                id: id(&n.to_string()),
                at: at(0),
                isolation: Isolation::Shared,
                reserve: Some(0.01),
            };
            matches!(tries.begin(&begin, &budget).await.unwrap(), Begun::Yes(_))
        });
    }
    let n_begun = calls.join_all().await.into_iter().filter(|begun| *begun).count();
    assert_eq!(n_begun, 15, "the day's cap holds over both runs");
    let begin =
        Begin { id: id("x"), at: at(0), isolation: Isolation::Exclusive, reserve: Some(0.01) };
    let Begun::OverBudget { reason } = one.begin(&begin, &budget).await.unwrap() else {
        panic!("begun")
    };
    assert!(reason.contains("is used up"), "{reason}");
    // The next day has its own money, and the run's cap still holds.
    let tomorrow = Begin { at: at(86_400), ..begin };
    let one_day = BudgetSettings { usd_per_run: None, usd_per_day: Some(0.15) };
    assert!(matches!(one.begin(&tomorrow, &one_day).await.unwrap(), Begun::Yes(_)));
}

#[tokio::test]
async fn money_that_was_set_aside_and_not_spent_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let tries = open_run(folder.path(), "run");
    let budget = BudgetSettings { usd_per_run: Some(0.02), usd_per_day: None };
    for n in 0..10 {
        let begin =
            Begin { id: id("a"), at: at(n), isolation: Isolation::Exclusive, reserve: Some(0.011) };
        let Begun::Yes(try_id) = tries.begin(&begin, &budget).await.unwrap() else {
            panic!("call {n} did not fit")
        };
        tries.finish(try_id, &end(TryOutcome::Failed, 0.001), Row::Kept).await.unwrap();
    }
    let begin =
        Begin { id: id("a"), at: at(0), isolation: Isolation::Exclusive, reserve: Some(0.011) };
    assert!(matches!(tries.begin(&begin, &budget).await.unwrap(), Begun::OverBudget { .. }));
}

#[tokio::test]
async fn what_a_run_cost_is_unknown_if_one_price_is() {
    let folder = tempfile::tempdir().unwrap();
    let tries = open_run(folder.path(), "run");
    assert_eq!(tries.spent().await.unwrap(), Spent { usd: Some(0.0), ..Spent::default() });
    for (usd, sum) in [(Some(0.25), Some(0.25)), (None, None)] {
        let try_id = begin(&tries, "a", Isolation::Exclusive).await;
        let call = CallRecord {
            attempts: 1,
            tokens_in: 100,
            tokens_out: 10,
            usd,
            ..CallRecord::default()
        };
        let end = TryEnd { call: Some(call), ..end(TryOutcome::Answered, 0.25) };
        tries.finish(try_id, &end, Row::Settled).await.unwrap();
        assert_eq!(tries.spent().await.unwrap().usd, sum);
    }
    assert_eq!(tries.spent().await.unwrap().tokens_in, 200);
}

#[tokio::test]
async fn a_table_that_writes_its_own_times_is_remembered_and_its_time_is_the_fence() {
    let folder = tempfile::tempdir().unwrap();
    let dying = open_run(folder.path(), "dying");
    assert_eq!(dying.fence_without_answer().await.unwrap(), Fence::Sure);
    dying.record_claims(&[id("a"), id("b")], "added", at(5)).await.unwrap();
    let record = crate::review::record::Record {
        id: id("a"),
        job_id: None,
        image_index: None,
        actual_image_url: None,
        status: "added".into(),
        created_at: None,
        columns: std::collections::BTreeMap::new(),
    };
    dying.record_fences(&[Claimed { record, claimed_at: at(6) }]).await.unwrap();
    drop(dying);
    let next = open_run(folder.path(), "next");
    let mut orphans = next.take_over(at(10)).await.unwrap();
    orphans.sort_by(|one, other| one.id.cmp(&other.id));
    let fences: Vec<_> = orphans.iter().map(|orphan| (orphan.claimed_at, orphan.fence)).collect();
    assert_eq!(fences, [(at(6), Fence::Sure), (at(5), Fence::Doubtful)]);
}
