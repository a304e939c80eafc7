//! The stand-in on the wire: paths, keys, order of checks, and the control endpoint.
//!
//! Invariant: the order is the service's: the body's form, the key, the model, what the request
//! means, the quota, the picture. What a script adds comes after the request was found valid, so a
//! mistake of the client is never hidden by a scripted fault.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Answering};
use super::behaviour::{Active, Behaviour, Call, Looking, Outcome};
use super::check;
use super::envelope::{JSON, KEY_NOT_VALID, Refusal};
use super::fields;
use super::image_stats::{ImageStats, image_stats};
use super::listener::Plan;
use super::models::{self, Model};
use super::request::{Picture, Request, understand};
use super::stats::{Counter, Stats, Window};

/// The service takes 100 MB a request (since January 2026).
const MAX_BODY: usize = 100 * 1024 * 1024;

/// Pictures decoded at a time: more would only take memory from what is tested.
const MAX_DECODING: usize = 4;

/// Between the two halves of an answer that breaks off.
const HALF_WAY: Duration = Duration::from_millis(100);

/// What all calls share.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    plan: watch::Sender<Plan>,
    decoding: Arc<Semaphore>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    active: Active,
    since: Instant,
    window: Window,
    counter: Counter,
}

impl Shared {
    pub(super) fn new(
        behaviour: Behaviour,
        stop: CancellationToken,
    ) -> (Arc<Self>, watch::Receiver<Plan>) {
        let since = Instant::now();
        let first = Plan { refuse: behaviour.refuse.clone(), since, number: 0 };
        let (plan, receiver) = watch::channel(first);
        let inner = Inner {
            active: Active::new(behaviour),
            since,
            window: Window::default(),
            counter: Counter::default(),
        };
        let decoding = Arc::new(Semaphore::new(MAX_DECODING));
        (Arc::new(Self { inner: Mutex::new(inner), plan, decoding, stop }), receiver)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing is left half-done by a panic: every change under the lock is one of counts.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of the plan that the door will obey.
    pub(super) fn set_behaviour(&self, behaviour: Behaviour) -> u64 {
        let refuse = behaviour.refuse.clone();
        let since = Instant::now();
        let mut inner = self.inner();
        inner.active = Active::new(behaviour);
        inner.since = since;
        inner.window = Window::default();
        let mut number = 0;
        self.plan.send_modify(|plan| {
            number = plan.number + 1;
            *plan = Plan { refuse, since, number };
        });
        number
    }

    pub(super) fn behaviour(&self) -> Behaviour {
        self.inner().active.behaviour.clone()
    }

    pub(super) fn stats(&self) -> Stats {
        self.inner().counter.stats()
    }

    pub(super) fn reset_stats(&self) {
        self.inner().counter.reset();
    }
}

/// All paths.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/{version}/models", get(list_models))
        .route("/{version}/models/{target}", get(get_model))
        .route("/{version}/models/{target}", post(call_model))
        .route("/_control", get(read_control).post(set_control).delete(reset_control))
        .fallback(async || html_not_found())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
}

type Params = Query<HashMap<String, String>>;

fn reply(status: u16, content_type: &str, body: impl Into<Body>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, content_type.to_owned())], body.into()).into_response()
}

fn ok(body: &Value) -> Response {
    reply(200, JSON, format!("{body:#}\n"))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        reply(self.status, &self.content_type, self.body)
    }
}

fn html_not_found() -> Response {
    let page = "<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n\
                <p><b>404.</b> That's an error.\n<p>The requested URL was not found on this server.\n";
    reply(404, "text/html; charset=UTF-8", page)
}

/// A refusal and the word it is counted under.
type Refused = (&'static str, Refusal);

/// The key of a call, if it is one that is accepted.
fn key_of(
    shared: &Shared,
    headers: &HeaderMap,
    params: &HashMap<String, String>,
) -> Result<String, Refused> {
    let in_header = headers.get("x-goog-api-key").and_then(|key| key.to_str().ok());
    let in_address = params.get("key").map(String::as_str);
    let key = match (in_header, in_address) {
        (Some(_), Some(_)) => return Err(("two_keys", Refusal::two_keys())),
        (Some(key), None) | (None, Some(key)) if !key.is_empty() => key,
        (Some(_) | None, _) => return Err(("no_key", Refusal::no_key())),
    };
    let inner = shared.inner();
    let accepted = &inner.active.behaviour.keys;
    if accepted.is_empty() || accepted.iter().any(|one| one == key) {
        return Ok(key.to_owned());
    }
    Err(("key_invalid", Refusal::key(KEY_NOT_VALID)))
}

/// A scripted fault of a call that needs no picture. Quotas of generating do not count here: a key
/// can list models and still get 429.
async fn scripted_fault(shared: &Shared, key: &str, model: &str) -> Option<Response> {
    let outcome = {
        let mut inner = shared.inner();
        inner.counter.other();
        let elapsed = inner.since.elapsed();
        inner.active.outcome(elapsed, &Call { key, ..Call::default() })
    };
    if outcome == Outcome::NeverAnswers {
        shared.stop.cancelled().await;
    }
    if outcome.concerns_generating_only() {
        return None;
    }
    Refusal::scripted(&outcome, model).map(IntoResponse::into_response)
}

async fn list_models(
    State(shared): State<Arc<Shared>>,
    Path(version): Path<String>,
    Query(params): Params,
    headers: HeaderMap,
) -> Response {
    if !is_version(&version) {
        return html_not_found();
    }
    let key = match key_of(&shared, &headers, &params) {
        Ok(key) => key,
        Err((_, refusal)) => return refusal.into_response(),
    };
    if let Some(fault) = scripted_fault(&shared, &key, "").await {
        return fault;
    }
    let size = params.get("pageSize").and_then(|n| n.parse::<usize>().ok()).unwrap_or(50).max(1);
    let from = params.get("pageToken").and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
    let all: Vec<Value> = models::known_to(&version).map(Model::describe).collect();
    let page: Vec<&Value> = all.iter().skip(from).take(size).collect();
    let mut body = json!({"models": page});
    if from + size < all.len() {
        body["nextPageToken"] = json!((from + size).to_string());
    }
    ok(&body)
}

async fn get_model(
    State(shared): State<Arc<Shared>>,
    Path((version, name)): Path<(String, String)>,
    Query(params): Params,
    headers: HeaderMap,
) -> Response {
    if !is_version(&version) {
        return html_not_found();
    }
    let key = match key_of(&shared, &headers, &params) {
        Ok(key) => key,
        Err((_, refusal)) => return refusal.into_response(),
    };
    if let Some(fault) = scripted_fault(&shared, &key, &name).await {
        return fault;
    }
    match models::find(&name, &version) {
        Some(model) => ok(&model.describe()),
        None => Refusal::no_model(&name, &version, "getModel").into_response(),
    }
}

fn is_version(version: &str) -> bool {
    matches!(version, "v1" | "v1beta")
}

async fn call_model(
    State(shared): State<Arc<Shared>>,
    Path((version, target)): Path<(String, String)>,
    Query(params): Params,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Some((name, method)) = target.split_once(':').filter(|_| is_version(&version)) else {
        return html_not_found();
    };
    let incoming = Incoming { version: &version, name, headers: &headers, params: &params };
    match (method, body) {
        ("generateContent" | "countTokens", Err(_)) => Refusal::bad_request(
            format!("Request payload size exceeds the limit: {MAX_BODY} bytes."),
            &[],
        )
        .into_response(),
        ("generateContent", Ok(body)) => generate(&shared, &incoming, &body).await,
        ("countTokens", Ok(body)) => count_tokens(&shared, &incoming, &body).await,
        (_, _) => Refusal::no_model(name, &version, method).into_response(),
    }
}

/// A call's address and credentials.
struct Incoming<'a> {
    version: &'a str,
    name: &'a str,
    headers: &'a HeaderMap,
    params: &'a HashMap<String, String>,
}

/// A call that is counted when it ends, also if the client goes away.
struct Counted<'a> {
    shared: &'a Shared,
    ended: bool,
}

impl<'a> Counted<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.inner().counter.begin();
        Self { shared, ended: false }
    }

    fn end(mut self, outcome: &str, status: u16) {
        self.ended = true;
        self.shared.inner().counter.end(outcome, Some(status));
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.inner().counter.end("abandoned", None);
        }
    }
}

async fn generate(shared: &Shared, incoming: &Incoming<'_>, body: &[u8]) -> Response {
    let counted = Counted::begin(shared);
    let begun = Instant::now();
    let (outcome, response) = match understood(shared, incoming, body) {
        Err((word, refusal)) => (word.to_owned(), refusal.into_response()),
        Ok((key, model, request)) => {
            let latency = shared.inner().active.latency();
            let answered = respond(shared, &key, model, request).await;
            tokio::time::sleep_until(begun + latency).await;
            answered
        }
    };
    counted.end(&outcome, response.status().as_u16());
    response
}

fn understood(
    shared: &Shared,
    incoming: &Incoming<'_>,
    body: &[u8],
) -> Result<(String, &'static Model, Request), Refused> {
    let form = |refusal| ("bad_request", refusal);
    let body = check::parse(body, &fields::GENERATE_CONTENT).map_err(form)?;
    let key = key_of(shared, incoming.headers, incoming.params)?;
    let model = models::find(incoming.name, incoming.version).ok_or_else(|| {
        ("no_model", Refusal::no_model(incoming.name, incoming.version, "generateContent"))
    })?;
    let request = understand(&body, model).map_err(form)?;
    Ok((key, model, request))
}

/// What becomes of a valid request: the script's outcome, the quota's, or an answer.
async fn respond(
    shared: &Shared,
    key: &str,
    model: &'static Model,
    request: Request,
) -> (String, Response) {
    let sha256 = request.pictures.first().map(|picture| picture.sha256.clone());
    let (looking, needs_corner, number) = {
        let mut inner = shared.inner();
        if let Some(sha256) = &sha256 {
            inner.counter.picture(sha256);
        }
        let active = &inner.active;
        (active.behaviour.looking, active.needs_corner(), inner.counter.n_calls())
    };
    let mut looks = None;
    let mut request = request;
    if needs_corner {
        (looks, request) = look_at(shared, request, Looking::Pixels).await;
    }
    let corner = looks.as_ref().and_then(|looks: &Vec<ImageStats>| looks.first()?.corner);
    let outcome = {
        let mut inner = shared.inner();
        let elapsed = inner.since.elapsed();
        inner.active.outcome(elapsed, &Call { key, sha256: sha256.as_deref(), corner })
    };
    let word = outcome.name();
    if outcome == Outcome::NeverAnswers {
        shared.stop.cancelled().await;
    }
    if let Some(refusal) = Refusal::scripted(&outcome, model.name) {
        return (word, refusal.into_response());
    }
    if looks.is_none() {
        (looks, request) = look_at(shared, request, looking).await;
    }
    let Some(looks) = looks else {
        return ("picture_refused".to_owned(), Refusal::picture().into_response());
    };
    let tokens = answer::tokens_in(&request, model, &looks);
    let taken = {
        let mut inner = shared.inner();
        let quota = inner.active.behaviour.quota.clone().unwrap_or_default();
        inner.window.take(Instant::now(), &quota, tokens.0 + tokens.1)
    };
    if let Err(over) = taken {
        let refusal = Refusal::quota(over.limit, over.value, model.name, over.again_in);
        return ("quota".to_owned(), refusal.into_response());
    }
    let nothing = ImageStats::default();
    let answering = Answering {
        request: &request,
        tokens,
        look: looks.first().unwrap_or(&nothing),
        call: number,
    };
    let body = answering.body(&outcome);
    if outcome == Outcome::BreaksOff {
        return (word, breaks_off(&body));
    }
    (word, ok(&body))
}

/// Looks at all pictures off the runtime; `None`: one of them can't be processed.
async fn look_at(
    shared: &Shared,
    request: Request,
    looking: Looking,
) -> (Option<Vec<ImageStats>>, Request) {
    let permit = Arc::clone(&shared.decoding).acquire_owned().await;
    let spawned = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let looks = request
            .pictures
            .iter()
            .map(|Picture { bytes, mime_type, .. }| image_stats(bytes, mime_type, looking))
            .collect();
        (looks, request)
    });
    match spawned.await {
        Ok(looked) => looked,
        // Only a panic in a decoder: the picture is one that can't be processed.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Half of the body, then an error, which cuts the connection.
fn breaks_off(body: &Value) -> Response {
    let text = body.to_string();
    let half: Bytes = text.as_bytes()[..text.len() / 2].to_vec().into();
    let cut = async {
        // The first half must leave before the connection is cut, or the client sees no answer at
        // all, which is another fault.
        tokio::time::sleep(HALF_WAY).await;
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    };
    let chunks =
        futures_util::stream::once(async { Ok(half) }).chain(futures_util::stream::once(cut));
    reply(200, JSON, Body::from_stream(chunks))
}

async fn count_tokens(shared: &Shared, incoming: &Incoming<'_>, body: &[u8]) -> Response {
    let counted = async {
        let body = check::parse(body, &fields::COUNT_TOKENS)?;
        let key = key_of(shared, incoming.headers, incoming.params).map_err(|(_, r)| r)?;
        let model = models::find(incoming.name, incoming.version)
            .ok_or_else(|| Refusal::no_model(incoming.name, incoming.version, "countTokens"))?;
        if let Some(fault) = scripted_fault(shared, &key, model.name).await {
            return Ok(fault);
        }
        let inner = check::field(&body, "generateContentRequest").unwrap_or(&body);
        let request = understand(inner, model)?;
        let (looks, request) = look_at(shared, request, Looking::Bytes).await;
        let looks = looks.ok_or_else(Refusal::picture)?;
        Ok(ok(&answer::count(answer::tokens_in(&request, model, &looks))))
    };
    counted.await.unwrap_or_else(|refusal: Refusal| refusal.into_response())
}

async fn read_control(State(shared): State<Arc<Shared>>) -> Response {
    ok(&json!({"behaviour": shared.behaviour(), "stats": shared.stats()}))
}

async fn set_control(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    match serde_json::from_slice::<Behaviour>(&body) {
        Ok(behaviour) => {
            shared.set_behaviour(behaviour);
            read_control(State(shared)).await
        }
        Err(error) => reply(422, JSON, json!({"error": error.to_string()}).to_string()),
    }
}

async fn reset_control(State(shared): State<Arc<Shared>>) -> Response {
    shared.set_behaviour(Behaviour::default());
    shared.reset_stats();
    read_control(State(shared)).await
}
