//! An endpoint as a job: called until the box is full, every body read as it streams.
//!
//! Commands are [`super::job`]'s. Whether a run was good is the judge's; this only says what each
//! call brought.
//! Invariant: an endpoint that failed is not called again at once, and one that refuses our key
//! not at all; so a call that hangs is reported when it ends, not before.

mod call;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use crate::http;
use crate::placeholder;

use super::control::Control;
use super::environment::{Variables, resolve};
use super::output_observer::OutputObserver;
use super::rules::{CREDENTIALS, FAILURE, PROVIDER};
use super::time_box::Due;
use crate::rundir::{CallOutcome, Event};
use call::{Called, call};

/// For TCP and TLS alone; an endpoint that takes longer is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Two calls begin at least so far apart: an endpoint that answers at once without doing
/// anything is not to be called a thousand times a second.
const SHORTEST_ROUND: Duration = Duration::from_secs(1);

/// Pause after the first failed call in a row; doubles up to the longest, which stays below the
/// ten minutes without a sign of life that are a stall.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A request whose variables are settled.
#[derive(Debug)]
pub(super) struct Prepared {
    client: reqwest::Client,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<String>,
    rhythm: Rhythm,
    call_timeout: Duration,
    max_body: u64,
    secrets: Vec<String>,
}

/// When it is called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rhythm {
    /// Never.
    Once,
    /// Until the box is full; after "nothing to do" with this pause.
    Repeat { idle_pause: Duration },
}

/// A call as the order has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ordered<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a str,
    pub(super) headers: &'a BTreeMap<String, String>,
    pub(super) body: Option<&'a str>,
    pub(super) rhythm: Rhythm,
    pub(super) call_timeout: Duration,
    pub(super) max_body: u64,
}

impl Prepared {
    /// Settles what can be known before the first call.
    ///
    /// # Errors
    /// When it can't be called like this; for people.
    pub(super) fn new(ordered: Ordered<'_>, variables: &Variables) -> Result<Self, String> {
        let method = Method::from_bytes(ordered.method.to_ascii_uppercase().as_bytes())
            .map_err(|_| format!("`{}` is no HTTP method", ordered.method))?;
        let url = resolve(ordered.url, variables)?;
        // The address may hold a secret by now: name it as it was written.
        let url =
            Url::parse(&url).map_err(|error| format!("`{}` is no URL: {error}", ordered.url))?;
        let mut headers = HeaderMap::new();
        let mut secrets = hidden_in(&url, ordered.url, variables);
        for (name, written) in ordered.headers {
            let value = resolve(written, variables)?;
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("`{name}` is no header name"))?;
            let mut header_value = HeaderValue::from_str(&value).map_err(|_| {
                format!("the value of header `{name}` has characters that can't be sent")
            })?;
            if value != *written {
                header_value.set_sensitive(true);
                secrets.extend(named_in(written, variables));
                secrets.push(value);
            }
            headers.insert(header, header_value);
        }
        let body = match ordered.body {
            Some(written) => {
                secrets.extend(named_in(written, variables));
                Some(resolve(written, variables)?)
            }
            None => None,
        };
        for (name, value) in usual_headers(&method, body.as_deref()) {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        let client = http::client(CONNECT_TIMEOUT).map_err(http::describe)?;
        Ok(Self {
            client,
            method,
            url,
            headers,
            body,
            rhythm: ordered.rhythm,
            call_timeout: ordered.call_timeout,
            max_body: ordered.max_body,
            secrets,
        })
    }

    /// Values that came from variables, for the redactor.
    pub(super) fn secrets(&self) -> &[String] {
        &self.secrets
    }

    fn request(&self) -> reqwest::RequestBuilder {
        let request = self.client.request(self.method.clone(), self.url.clone());
        let request = request.headers(self.headers.clone());
        match &self.body {
            Some(body) => request.body(body.clone()),
            None => request,
        }
    }
}

/// What every other client sends along unless told otherwise. RFC 9110 (8.6) asks for the length of
/// a body that is empty where one may be; a server that wants JSON refuses a body without a type.
fn usual_headers(method: &Method, body: Option<&str>) -> Vec<(HeaderName, &'static str)> {
    match body {
        None if [Method::POST, Method::PUT, Method::PATCH].contains(method) => {
            vec![(CONTENT_LENGTH, "0")]
        }
        None => Vec::new(),
        Some(body) => vec![(CONTENT_TYPE, type_of(body))],
    }
}

fn type_of(body: &str) -> &'static str {
    let is_pair = |part: &str| part.split_once('=').is_some_and(|(name, _)| !name.is_empty());
    if serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok() {
        "application/json"
    } else if !body.contains(char::is_whitespace) && body.split('&').all(is_pair) {
        "application/x-www-form-urlencoded"
    } else {
        "text/plain; charset=utf-8"
    }
}

/// What is known across the calls of a run.
struct Rounds {
    n_failed_in_a_row: u32,
    /// Kinds of trouble that were reported and are not over.
    open: BTreeSet<String>,
    last: Option<CallOutcome>,
}

/// Calls the endpoint until the box is full, or once.
pub(super) async fn run(
    prepared: &Prepared,
    observer: &Arc<OutputObserver>,
    control: &mut Control,
) {
    control.job_started(None);
    let mut rounds = Rounds { n_failed_in_a_row: 0, open: BTreeSet::new(), last: None };
    while !control.is_box_over() {
        let n_calls = observer.begin_call();
        let began_at = observer.now();
        let called = tokio::select! {
            called = call(prepared, observer) => Some(called),
            () = until_stopped(observer, control) => None,
        };
        let millis = observer.now().saturating_sub(began_at).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        let Some(called) = called else {
            rounds.last = Some(CallOutcome::TimedOut);
            observer.record(Event::Call {
                status: None,
                millis,
                outcome: CallOutcome::TimedOut,
                detail: "broken off because the run was stopped".to_owned(),
            });
            break;
        };
        observer.moved();
        let (status, outcome, detail) = (called.status, called.outcome, called.detail.clone());
        observer.record(Event::Call { status, millis, outcome, detail });
        rounds.take(&called, n_calls, prepared, observer);
        let Some(pause) = rounds.pause(&called, prepared.rhythm) else { break };
        let pause = pause.max((began_at + SHORTEST_ROUND).saturating_sub(observer.now()));
        if !wait(pause, observer, control).await {
            break;
        }
    }
    // The box may have ended after the last look at it: what is due by now is recorded, not awaited.
    if let Some(due) = control.next_due().now_or_never() {
        tell(due, observer);
    }
    observer.record(Event::Exited { code: Some(rounds.exit_code(observer)), signal: None });
}

/// Values of the variables that are written there.
fn named_in<'a>(written: &'a str, variables: &'a Variables) -> impl Iterator<Item = String> + 'a {
    let value_of = |name: &str| variables.get(name).map(|value| value.trim().to_owned());
    placeholder::names(written).filter_map(value_of)
}

/// What variables brought into the address, save for where it leads: that is what messages name.
fn hidden_in(url: &Url, written: &str, variables: &Variables) -> Vec<String> {
    let origin = url.origin().ascii_serialization();
    named_in(written, variables)
        .filter(|value| !origin.contains(value.trim_end_matches('/')))
        .collect()
}

impl Rounds {
    /// Tells what went wrong, or that it is over.
    fn take(
        &mut self,
        called: &Called,
        n_calls: u64,
        prepared: &Prepared,
        observer: &OutputObserver,
    ) {
        self.last = Some(called.outcome);
        match called.outcome {
            CallOutcome::Signal => {
                self.n_failed_in_a_row = 0;
                for kind in std::mem::take(&mut self.open) {
                    observer.record(Event::Recovered { kind });
                }
            }
            // Neither says that the provider was asked.
            CallOutcome::Idle | CallOutcome::Other => self.n_failed_in_a_row = 0,
            CallOutcome::Failed | CallOutcome::TimedOut => {
                self.n_failed_in_a_row += 1;
                let kinds = called.scanned.problems.iter().map(|(kind, _)| kind.clone());
                self.open.extend(kinds.filter(|kind| kind != FAILURE));
                if called.scanned.problems.is_empty() {
                    self.tell_without_pattern(called, n_calls, prepared, observer);
                }
            }
        }
    }

    /// A fault that no pattern explains. A call that takes too long is taken for what the
    /// patterns say can happen here: that the provider behind the endpoint is not reached.
    fn tell_without_pattern(
        &mut self,
        called: &Called,
        n_calls: u64,
        prepared: &Prepared,
        observer: &OutputObserver,
    ) {
        let is_outage = called.outcome == CallOutcome::TimedOut && observer.knows(PROVIDER);
        let kind = if is_outage { PROVIDER } else { FAILURE };
        if is_outage {
            self.open.insert(kind.to_owned());
        }
        let host = prepared.url.host_str().unwrap_or("the endpoint");
        observer.record(Event::Problem {
            kind: kind.to_owned(),
            provider: if is_outage { observer.provider() } else { None },
            status: called.status.filter(|status| *status >= 400),
            count: u64::from(self.n_failed_in_a_row),
            calls: Some(n_calls),
            detail: observer.say(&format!("{host}: {}", called.detail)),
            title: None,
            action: None,
        });
    }

    /// How long to wait before the next call; `None`: there is none.
    fn pause(&self, called: &Called, rhythm: Rhythm) -> Option<Duration> {
        let Rhythm::Repeat { idle_pause } = rhythm else { return None };
        match called.outcome {
            CallOutcome::Signal | CallOutcome::Other => Some(Duration::ZERO),
            CallOutcome::Idle => Some(idle_pause),
            CallOutcome::Failed | CallOutcome::TimedOut => {
                // A key that is refused now is refused in a minute, too: a person must act.
                if called.scanned.problems.iter().any(|(kind, _)| kind == CREDENTIALS) {
                    return None;
                }
                let doublings = self.n_failed_in_a_row.saturating_sub(1).min(8);
                Some((FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE))
            }
        }
    }

    /// The last call decides. One that says nothing is no failure of its own, but it does not
    /// leave an earlier signal standing either.
    fn exit_code(&self, observer: &OutputObserver) -> i32 {
        match self.last {
            Some(CallOutcome::Signal | CallOutcome::Idle) => 0,
            Some(CallOutcome::Other) if !observer.has_signal() => 0,
            Some(CallOutcome::Other | CallOutcome::Failed | CallOutcome::TimedOut) | None => 1,
        }
    }
}

/// Waits; `false` when nothing more is to be called.
async fn wait(pause: Duration, observer: &OutputObserver, control: &mut Control) -> bool {
    let until = observer.now() + pause;
    loop {
        // Our own pause is no stall of the endpoint.
        observer.moved();
        let left = until.saturating_sub(observer.now());
        if left.is_zero() {
            return !control.is_box_over();
        }
        tokio::select! {
            () = tokio::time::sleep(left.min(SHORTEST_ROUND)) => {}
            due = control.next_due() => {
                tell(due, observer);
                return false;
            }
        }
    }
}

/// Notes the end of the box, and comes back when the call in hand must be broken off.
async fn until_stopped(observer: &OutputObserver, control: &mut Control) {
    while !control.is_stopping() {
        tell(control.next_due().await, observer);
    }
}

fn tell(due: Due, observer: &OutputObserver) {
    match due {
        Due::WindDown => observer.record(Event::BoxEnded),
        Due::Stop(reason) => observer.record(Event::Stopping { reason }),
        // There is no tree here.
        Due::Kill | Due::Nothing { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::keep::output_observer::ScanResult;
    use crate::keep::rules::Rules;
    use crate::redact::Redactor;
    use crate::rundir::directory::RunDirectory;
    use crate::rundir::journal::EvidenceReader;

    fn called(outcome: CallOutcome, kinds: &[&str]) -> Called {
        let problems = kinds.iter().map(|kind| ((*kind).to_owned(), String::new())).collect();
        let scanned = ScanResult { problems, ..ScanResult::default() };
        Called { status: Some(200), outcome, detail: String::new(), scanned }
    }

    #[test]
    fn what_a_variable_brings_into_the_address_is_hidden_but_not_where_it_leads() {
        let variables: Variables =
            [("HOST", "http://10.0.0.7:8000/"), ("HOOK_ID", "b1946ac92492d2347c"), ("OTHER", "x")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        let written = "${HOST}hooks/${HOOK_ID}";
        let url = Url::parse("http://10.0.0.7:8000/hooks/b1946ac92492d2347c").unwrap();
        assert_eq!(hidden_in(&url, written, &variables), ["b1946ac92492d2347c"]);
    }

    #[test]
    fn the_usual_headers_are_sent_unless_they_are_written() {
        let headers = |method: &str, written: &[(&str, &str)], body: Option<&str>| {
            let headers = written.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let ordered = Ordered {
                method,
                url: "http://127.0.0.1:1/",
                headers: &headers,
                body,
                rhythm: Rhythm::Once,
                call_timeout: Duration::from_secs(1),
                max_body: 1,
            };
            let request = Prepared::new(ordered, &Variables::new()).unwrap().request();
            let headers = request.build().unwrap().headers().clone();
            let text = |name| Some(headers.get(name)?.to_str().unwrap().to_owned());
            (text("content-length"), text("content-type"))
        };
        let text = |text: &str| Some(text.to_owned());
        for method in ["POST", "PUT", "PATCH"] {
            assert_eq!(headers(method, &[], None), (text("0"), None), "{method}");
        }
        for method in ["GET", "DELETE"] {
            assert_eq!(headers(method, &[], None), (None, None), "{method}");
        }
        for (body, kind) in [
            (r#"{"limit":5}"#, "application/json"),
            (" [1] ", "application/json"),
            ("token=abc&n=1", "application/x-www-form-urlencoded"),
            ("a = b", "text/plain; charset=utf-8"),
            ("go", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(headers("POST", &[], Some(body)).1, text(kind), "{body}");
        }
        let written = [("Content-Type", "application/xml")];
        assert_eq!(headers("POST", &written, Some("{}")).1, text("application/xml"));
    }

    #[test]
    fn an_endpoint_that_fails_is_called_ever_more_rarely_and_without_a_key_never() {
        let repeat = Rhythm::Repeat { idle_pause: Duration::from_secs(30) };
        let failed = called(CallOutcome::Failed, &[PROVIDER]);
        let pause_after = |n_failed_in_a_row| {
            let rounds = Rounds { n_failed_in_a_row, open: BTreeSet::new(), last: None };
            rounds.pause(&failed, repeat).unwrap().as_secs()
        };
        assert_eq!([1, 2, 3, 4, 5, 99].map(pause_after), [60, 120, 240, 300, 300, 300]);
        let rounds = Rounds { n_failed_in_a_row: 1, open: BTreeSet::new(), last: None };
        assert_eq!(rounds.pause(&called(CallOutcome::Failed, &[CREDENTIALS]), repeat), None);
        assert_eq!(rounds.pause(&called(CallOutcome::Signal, &[]), Rhythm::Once), None);
        let idle = rounds.pause(&called(CallOutcome::Idle, &[]), repeat);
        assert_eq!(idle, Some(Duration::from_secs(30)));
    }

    #[tokio::test]
    async fn an_outage_is_over_with_the_next_batch_and_not_with_an_idle_answer() {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::at(folder.path());
        let order = crate::rundir::tests::order("run");
        let rules = Rules::new(&order).unwrap();
        let clock = Arc::new(SystemClock);
        let observer =
            OutputObserver::new(clock, directory.clone(), Redactor::default(), &order, rules)
                .unwrap();
        let ordered = Ordered {
            method: "post",
            url: "http://127.0.0.1:1/",
            headers: &BTreeMap::new(),
            body: None,
            rhythm: Rhythm::Once,
            call_timeout: Duration::from_secs(1),
            max_body: 1,
        };
        let prepared = Prepared::new(ordered, &Variables::new()).unwrap();
        let mut rounds = Rounds { n_failed_in_a_row: 0, open: BTreeSet::new(), last: None };
        for (n, called) in [
            called(CallOutcome::Failed, &[PROVIDER, FAILURE]),
            called(CallOutcome::Idle, &[]),
            called(CallOutcome::Signal, &[]),
            called(CallOutcome::Signal, &[]),
        ]
        .iter()
        .enumerate()
        {
            rounds.take(called, n as u64, &prepared, &observer);
            assert_eq!(rounds.open.is_empty(), n >= 2, "call {n}");
        }
        observer.finish().await;
        let (entries, _) = EvidenceReader::new(&directory).read_from(0).unwrap();
        let recovered = Event::Recovered { kind: PROVIDER.to_owned() };
        assert_eq!(entries.iter().filter(|entry| entry.event == recovered).count(), 1);
    }
}
