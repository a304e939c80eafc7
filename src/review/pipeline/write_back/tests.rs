//! What is written back, row by row, on records of the tests.

use chrono::DateTime;

use super::*;
use crate::review::record::{ERROR, Record, SUCCESS};

fn claimed(id: &str) -> Claimed {
    let record = Record {
        id: RecordId(id.into()),
        job_id: None,
        image_index: None,
        actual_image_url: None,
        status: "downloaded".into(),
        created_at: None,
        columns: BTreeMap::new(),
    };
    Claimed { record, claimed_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap() }
}

fn settles(id: &str) -> Close {
    let settlement = Settlement {
        review_status: SUCCESS.into(),
        auto_review_status: "H1".into(),
        auto_review_details: "A person.".into(),
    };
    let outcome = RowOutcome::Succeeded;
    Close::new(claimed(id), None, Disposition::Settle { settlement, outcome })
}

fn rejected() -> Result<Written, WriteError> {
    Err(WriteError::Records(RecordError::Rejected("too long".into())))
}

#[tokio::test(start_paused = true)]
async fn a_row_counts_when_it_is_written_and_a_failed_write_comes_again() {
    let now = Instant::now();
    let mut write_back = WriteBack::new();
    write_back.claimed(1);
    let down = Err(WriteError::Records(RecordError::Unavailable("down".into())));
    let settled = write_back.closed(settles("a"), down, None, now);
    assert!(matches!(settled, Settled::Again { write: None, end: None }), "{settled:?}");
    assert_eq!(write_back.counts().settled(), 0);
    assert!(write_back.due(now).is_empty(), "not at once");
    let at = write_back.next_due().unwrap();
    let Some(Write::Close(close)) = write_back.due(at).pop() else { panic!("nothing is due") };
    let settled = write_back.closed(*close, Ok(Written::Yes), None, at);
    assert!(matches!(settled, Settled::Gone { result: Some(_), .. }), "{settled:?}");
    assert!(write_back.counts().adds_up() && write_back.is_idle());
    assert_eq!(write_back.records().lasts(at), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_does_not_take_its_result_ends_as_an_error_of_its_own() {
    let now = Instant::now();
    let mut write_back = WriteBack::new();
    let settled = write_back.closed(settles("a"), rejected(), None, now);
    let Settled::Again { write: Some(Write::Close(close)), end: None } = settled else {
        panic!("{settled:?}");
    };
    let Disposition::Settle { settlement, .. } = &close.disposition else { panic!("{close:?}") };
    assert_eq!(settlement.auto_review_status, ERROR);
    let settled = write_back.closed(*close, rejected(), None, now);
    assert!(matches!(settled, Settled::Gone { note: Some(_), end: None, .. }), "{settled:?}");
    assert_eq!(write_back.conclude(0).unwritten, 1, "it is recovered by the next run");
}

#[tokio::test(start_paused = true)]
async fn one_row_after_another_that_takes_no_result_is_the_tables_fault() {
    let now = Instant::now();
    let mut write_back = WriteBack::new();
    for n in 1..=MAX_REJECTED {
        let settled = write_back.closed(settles("a"), rejected(), None, now);
        let Settled::Again { end, .. } = settled else { panic!("{settled:?}") };
        assert_eq!(end.is_some(), n == MAX_REJECTED, "{n}");
    }
    write_back.closed(settles("b"), Ok(Written::Yes), None, now);
    let settled = write_back.closed(settles("c"), rejected(), None, now);
    assert!(matches!(settled, Settled::Again { end: None, .. }), "a good one lies between");
}

#[tokio::test(start_paused = true)]
async fn orphans_are_released_some_at_a_time() {
    let now = Instant::now();
    let mut write_back = WriteBack::new();
    write_back.release_doubtful(vec![claimed("a"); MAX_RELEASES + 1], now);
    assert_eq!(write_back.due(now).len(), MAX_RELEASES);
    assert!(write_back.due(now).is_empty());
    let release = Release { claimed: claimed("a"), fence: None, settlement: None };
    write_back.released(Box::new(release), Ok(Written::Yes), now);
    assert_eq!(write_back.due(now).len(), 1);
}

#[test]
fn a_row_that_another_program_changed_is_returned_and_lost() {
    let mut write_back = WriteBack::new();
    write_back.claimed(1);
    let close = Close::new(claimed("a"), None, Disposition::Release);
    let settled = write_back.closed(close, Ok(Written::Lost), None, Instant::now());
    assert!(matches!(settled, Settled::Gone { note: Some(_), .. }), "{settled:?}");
    assert_eq!((write_back.counts().returned, write_back.counts().lost), (1, 1));
}
