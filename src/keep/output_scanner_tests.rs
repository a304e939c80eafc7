//! Tests of the scanner: every way a signal can be hidden, and no way to invent one.

use super::super::rules::{CREDENTIALS, FAILURE, PROVIDER};
use super::*;
use crate::rundir::tests::order;
use crate::rundir::{Pattern, Signal};

const SIGNAL: &str = "Bulk processing completed.";
const RUN: &str = "run-1";

fn pattern(text: &str, kind: &str, count: u32) -> Pattern {
    Pattern { text: Some(text.into()), regex: None, kind: kind.into(), count, within: None }
}

fn regex(regex: &str, kind: &str) -> Pattern {
    Pattern { text: None, regex: Some(regex.into()), kind: kind.into(), count: 1, within: None }
}

fn rules(signal: Signal, patterns: Vec<Pattern>) -> Arc<Rules> {
    let mut order = order(RUN);
    order.signal = signal;
    order.patterns = patterns;
    Arc::new(Rules::new(&order).unwrap())
}

fn text_rules(patterns: Vec<Pattern>) -> Arc<Rules> {
    rules(Signal::Text(SIGNAL.into()), patterns)
}

/// All findings in a stream that comes in pieces of these lengths.
fn scan_in(
    rules: &Arc<Rules>,
    stream: Stream,
    bytes: &[u8],
    mut next_len: impl FnMut() -> usize,
) -> Vec<Finding> {
    let mut scanner = Scanner::new(Arc::clone(rules), Arc::default(), stream);
    let (mut findings, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let end = (at + next_len().max(1)).min(bytes.len());
        findings.extend(scanner.feed(&bytes[at..end], Duration::ZERO));
        at = end;
    }
    findings.extend(scanner.finish(Duration::ZERO));
    findings
}

fn scan(rules: &Arc<Rules>, stream: Stream, bytes: &[u8]) -> Vec<Finding> {
    scan_in(rules, stream, bytes, || usize::MAX / 2)
}

fn signal_offset(findings: &[Finding]) -> Option<u64> {
    findings.iter().find_map(|finding| {
        if let Finding::Signal { offset, .. } = finding { Some(*offset) } else { None }
    })
}

fn matched(findings: &[Finding]) -> Vec<(usize, u64, String)> {
    findings
        .iter()
        .filter_map(|finding| {
            if let Finding::Matched(m) = finding {
                Some((m.pattern, m.count, String::from_utf8_lossy(&m.excerpt).into_owned()))
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn the_signal_is_found_in_any_surroundings() {
    for patterns in [vec![], vec![pattern("ERROR", FAILURE, 1)]] {
        let rules = text_rules(patterns);
        for (text, offset) in [
            (&b"Bulk processing completed."[..], Some(0)),
            (b"\xff\xfe\0 Bulk processing completed.\xff", Some(4)),
            (b"\x1b[32mBulk \x1b[1mprocessing\x1b[0m completed.\x1b[0m\n", Some(5)),
            (b"\x1bBulk processing completed.", Some(1)),
            (b"\x1b]0;Bulk processing completed.\x07", Some(4)),
            (b"Bulk processing Bulk processing completed.", Some(16)),
            (b"Bulk processing\ncompleted.", None),
            (b"bulk processing completed.", None),
        ] {
            assert_eq!(signal_offset(&scan(&rules, Stream::Stderr, text)), offset, "{text:?}");
        }
    }
}

#[test]
fn half_on_one_stream_and_half_on_the_other_is_no_signal() {
    let rules = text_rules(vec![]);
    let mut out = Scanner::new(Arc::clone(&rules), Arc::default(), Stream::Stdout);
    let mut err = Scanner::new(rules, Arc::default(), Stream::Stderr);
    assert_eq!(out.feed(b"Bulk processing com", Duration::ZERO), vec![]);
    assert_eq!(err.feed(b"pleted.", Duration::ZERO), vec![]);
    assert_eq!(signal_offset(&out.feed(b"pleted.", Duration::ZERO)), Some(0));
}

#[test]
fn a_failure_on_the_same_line_wins_wherever_it_stands() {
    let rules = text_rules(vec![pattern("ERROR", FAILURE, 1)]);
    for text in
        ["ERROR: Bulk processing completed. with 0 items\n", "Bulk processing completed. ERROR"]
    {
        let findings = scan(&rules, Stream::Stdout, text.as_bytes());
        assert_eq!(signal_offset(&findings), None, "{text}");
        assert_eq!(matched(&findings), vec![(0, 1, text.trim_end().to_owned())]);
    }
    let findings = scan(&rules, Stream::Stdout, b"ERROR\nBulk processing completed.\nERROR");
    assert_eq!(signal_offset(&findings), Some(6), "other lines do not take it back");
    let later = b"ERROR Bulk processing completed.\nBulk processing completed.\n";
    assert_eq!(signal_offset(&scan(&rules, Stream::Stdout, later)), Some(33));
}

#[test]
fn other_problems_leave_the_signal_alone() {
    let rules = text_rules(vec![pattern("503", PROVIDER, 1)]);
    let body = br#"{"message":"Bulk processing completed.","results":[{"error":"503"}]}"#;
    let findings = scan(&rules, Stream::Body, body);
    assert_eq!(signal_offset(&findings), Some(12));
    assert_eq!(matched(&findings).len(), 1);
}

#[test]
fn a_signal_without_a_line_break_counts_when_nothing_follows() {
    let rules = text_rules(vec![pattern("ERROR", FAILURE, 1)]);
    let mut scanner = Scanner::new(rules, Arc::default(), Stream::Stdout);
    let seen_at = Duration::from_secs(7);
    assert_eq!(scanner.feed(SIGNAL.as_bytes(), seen_at), vec![]);
    assert!(scanner.is_waiting());
    let findings = scanner.settle(Duration::from_secs(8));
    assert_eq!(findings, vec![Finding::Signal { offset: 0, seen_at }]);
    assert!(!scanner.is_waiting());
    assert_eq!(scanner.finish(Duration::from_secs(9)), vec![]);
}

#[test]
fn a_review_signals_by_a_line_of_its_own_run() {
    let rules = rules(Signal::Review { message: SIGNAL.into() }, vec![]);
    let good = format!("x\n{{\"message\":\"{SIGNAL}\",\"run\":\"{RUN}\",\"summary\":{{}}}}\n");
    assert_eq!(signal_offset(&scan(&rules, Stream::Stdout, good.as_bytes())), Some(2));
    assert_eq!(signal_offset(&scan(&rules, Stream::Stdout, good.trim_end().as_bytes())), Some(2));
    assert_eq!(signal_offset(&scan(&rules, Stream::Stderr, good.as_bytes())), None);
    let echoed = format!("about to print {good}");
    assert!(signal_offset(&scan(&rules, Stream::Stdout, echoed.as_bytes())).is_some(), "line 2");
    let other = good.replace(RUN, "run-2");
    assert_eq!(signal_offset(&scan(&rules, Stream::Stdout, other.as_bytes())), None);
    let mut scanner = Scanner::new(rules, Arc::default(), Stream::Stdout);
    scanner.feed(good.trim_end().as_bytes(), Duration::ZERO);
    assert!(scanner.is_waiting());
    assert_eq!(signal_offset(&scanner.settle(Duration::ZERO)), Some(2));
}

#[test]
fn a_signal_that_must_be_alone_is_not_found_where_it_is_quoted() {
    let rules = rules(Signal::Line(SIGNAL.into()), vec![]);
    for (text, offset) in [
        ("x\nBulk processing completed.\n", Some(2)),
        ("x\r\n  Bulk processing completed.\r\n", Some(3)),
        ("\x1b[32mBulk processing completed.\x1b[0m", Some(0)),
        ("waiting for: Bulk processing completed.\n", None),
        ("ERROR: Bulk processing completed. with 0 items\n", None),
        ("Bulk processing com\npleted.\n", None),
    ] {
        for stream in [Stream::Stdout, Stream::Stderr, Stream::Body] {
            assert_eq!(signal_offset(&scan(&rules, stream, text.as_bytes())), offset, "{text:?}");
        }
    }
    let mut scanner = Scanner::new(rules, Arc::default(), Stream::Stdout);
    assert_eq!(scanner.feed(b"Bulk processing com", Duration::ZERO), vec![]);
    assert_eq!(scanner.settle(Duration::ZERO), vec![]);
    assert_eq!(scanner.feed(b"pleted.", Duration::ZERO), vec![]);
    assert!(scanner.is_waiting());
    assert_eq!(signal_offset(&scanner.settle(Duration::ZERO)), Some(0));
    assert!(!scanner.is_waiting());
}

#[test]
fn lines_for_us_are_read_on_stdout_only() {
    let rules = text_rules(vec![]);
    let text = b"x\n::lookout::progress done=1\n ::lookout::note text=no\n::lookout::note text=a";
    let found = scan(&rules, Stream::Stdout, text);
    assert_eq!(
        found,
        vec![
            Finding::Line(Line::Progress { done: 1, total: None, unit: "items".into() }),
            Finding::Line(Line::Note { text: "a".into() }),
        ]
    );
    assert_eq!(scan(&rules, Stream::Stderr, text), vec![]);
    let long = format!("::lookout::note text={}\n", "x".repeat(LONGEST_LINE));
    assert_eq!(scan(&rules, Stream::Stdout, long.as_bytes()), vec![]);
}

#[test]
fn the_old_services_answers_name_their_cause() {
    let rules = text_rules(vec![
        pattern("Gemini API key validation failed", PROVIDER, 1),
        pattern("API_KEY_INVALID", CREDENTIALS, 1),
    ]);
    let timeout = br#"{"message":"Gemini API key validation failed: Timeout of 600.0s exceeded, last exception: 503 failed to connect to all addresses"}"#;
    let found = matched(&scan(&rules, Stream::Body, timeout));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, 0);
    assert!(found[0].2.contains("503 failed to connect"), "{}", found[0].2);
    let wrong_key = br#"{"message":"Gemini API key validation failed: 400 API key not valid. Please pass a valid API key. [reason: \"API_KEY_INVALID\" domain: \"googleapis.com\"]"}"#;
    let found = matched(&scan(&rules, Stream::Body, wrong_key));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, 1, "a refused key is not an outage");
}

#[test]
fn a_pattern_is_reported_from_its_count_on_and_at_the_end_with_the_sum() {
    let rules = text_rules(vec![pattern("503", PROVIDER, 3), regex(r"exit \d+$", FAILURE)]);
    let text = b"503\n503\nok\n503\n503\n503\nexit 7\nexit 7 not\n";
    let found: Vec<_> =
        matched(&scan(&rules, Stream::Stderr, text)).into_iter().map(|m| (m.0, m.1)).collect();
    assert_eq!(found, vec![(0, 3), (1, 1), (0, 5)]);
}

#[test]
fn any_cutting_gives_the_same_findings() {
    let words: [&[u8]; 14] = [
        SIGNAL.as_bytes(),
        b"Bulk processing ",
        b"completed.",
        b"\n",
        b"\n",
        b"ERROR",
        b"503 ",
        b"503 Service",
        b"\x1b[1m",
        b"\x1b",
        b"\xff\0",
        b"::lookout::progress done=3\n",
        b"::lookout::note text=\"a b\"\n",
        b"exit 4",
    ];
    let patterns = vec![
        pattern("ERROR", FAILURE, 1),
        pattern("503", PROVIDER, 2),
        regex(r"exit \d", CREDENTIALS),
    ];
    let all_rules = [
        text_rules(vec![]),
        text_rules(patterns.clone()),
        rules(Signal::Line(SIGNAL.into()), patterns.clone()),
        rules(Signal::Review { message: SIGNAL.into() }, patterns),
    ];
    let review = format!("{{\"message\":\"{SIGNAL}\",\"run\":\"{RUN}\"}}\n");
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..600 {
        let rules = &all_rules[round % all_rules.len()];
        let mut text = Vec::new();
        for _ in 0..random.usize(0..25) {
            match random.usize(0..40) {
                0 => text.extend_from_slice(review.as_bytes()),
                1 => text.extend(std::iter::repeat_n(b'x', random.usize(0..2 * LONGEST_LINE))),
                _ => text.extend_from_slice(words[random.usize(0..words.len())]),
            }
        }
        let whole = scan(rules, Stream::Stdout, &text);
        let longest = if text.len() > 1000 { 3000 } else { 9 };
        for _ in 0..3 {
            let cut = scan_in(rules, Stream::Stdout, &text, || random.usize(1..longest));
            assert_eq!(whole, cut, "round {round}: {:?}", String::from_utf8_lossy(&text));
        }
    }
}

#[test]
fn memory_stays_bounded_whatever_is_printed() {
    let rules = text_rules(vec![regex("never", FAILURE), pattern("a", PROVIDER, 1)]);
    let mut scanner = Scanner::new(rules, Arc::default(), Stream::Stdout);
    let block = vec![b'a'; 64 * 1024];
    for _ in 0..4 {
        scanner.feed(&block, Duration::ZERO);
    }
    let open = scanner.open.as_ref().map_or(0, |open| open.excerpt.len());
    let held = scanner.recent.len() + scanner.lines.as_ref().unwrap().unfinished().len() + open;
    assert!(held < 2 * LONGEST_LINE, "{held}");
}
