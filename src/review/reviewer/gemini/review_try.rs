//! One try: as many attempts as it takes, within its time.
//!
//! There is one retry loop, and it is here. What a fault means for the record is the caller's.
//! Invariant: no attempt begins or lasts beyond the try's limit or the asker's deadline; a picture
//! that was blocked or judged is never sent again.

mod admission;
mod cost_cap;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use self::admission::{Admitted, Rested};
use crate::http::Failure;
use crate::review::reviewer::gemini::answer::{self, Reading};
use crate::review::reviewer::gemini::call::{self, Answered, Called};
use crate::review::reviewer::gemini::circuit_breaker::Permit;
use crate::review::reviewer::gemini::classifier::{
    Billing, Class, InvalidRequest, Kind, Quota, Retry, classify,
};
use crate::review::reviewer::gemini::key_pool::{KeyLease, Selection};
use crate::review::reviewer::gemini::refusal::{self, Concerned};
use crate::review::reviewer::gemini::request::{self, Form, SchemaForm};
use crate::review::reviewer::gemini::session::{Session, server_timeout};
use crate::review::reviewer::{
    Answer, AttemptCounts, CallRecord, Fault, Outcome, Refusal, ReviewRequest,
};
use crate::text;

/// Attempts that may fail for the service or the network: the budget of a picture, besides its time.
const MAX_FAILURES: u32 = 5;
/// Answers that the service lost or stopped may be asked for again so often.
const MAX_STOPPED: u32 = 2;
/// An empty answer may be asked for again so often: it is paid for each time.
const MAX_EMPTY: u32 = 2;
/// An attempt with less time than this would only be paid for in vain.
const LEAST_TIME: Duration = Duration::from_millis(200);
/// Characters of a reason: the service's words are cut already, several keys' reasons are not.
const MAX_REASON: usize = 1_000;
/// So many pictures refused in a row, and none taken: it is not the pictures.
const TOO_MANY_REFUSED: u64 = 10;

/// The state of one try.
struct TryState<'a> {
    session: &'a Session,
    /// Of the picture: the breakers tell one that fails again and again from many that do.
    number: u64,
    request: &'a ReviewRequest<'a>,
    /// The earlier of the asker's deadline and the try's limit; a rest that was waited out is not
    /// the try's time.
    until: Instant,
    call: CallRecord,
    /// What was reserved for this try, in USD.
    allowance: Option<f64>,
    /// On an answer's tokens, when the reservation was made; another try may find that more is needed.
    cap: u32,
    failures: u32,
    stopped: u32,
    prose: u32,
    empty: u32,
    larger_caps: u32,
    read_again: u32,
    /// How all attempts had fared when this try began.
    at_first: AttemptCounts,
    /// The last word was that there is no quota.
    no_quota: Option<String>,
    n_over_quota: u32,
    rested: Rested,
    /// How all attempts had fared when this try met its first fault, and this try's part since.
    since_first_fault: Option<(AttemptCounts, AttemptCounts)>,
    /// What stood in the way last, for when time runs out.
    last_fault: Option<Fault>,
    body: Option<(Form, Bytes)>,
}

/// What follows an attempt.
enum Next {
    Done(Result<Answer, Fault>),
    Again(Duration),
}

fn failed(fault: Fault) -> Next {
    Next::Done(Err(fault))
}

/// One try.
pub(super) async fn run(session: &Session, request: &ReviewRequest<'_>) -> Outcome {
    let started = Instant::now();
    let mut state = TryState {
        session,
        number: number_of(request.image),
        request,
        until: request.deadline.min(started + session.settings.try_timeout),
        call: CallRecord {
            model: session.settings.model.clone(),
            prompt_hash: session.prompt.hash().to_owned(),
            usd: session.nothing_yet(),
            usd_at_most: session.nothing_yet(),
            ..CallRecord::default()
        },
        allowance: session.estimate().at_most,
        cap: session.form().max_output_tokens,
        failures: 0,
        stopped: 0,
        prose: 0,
        empty: 0,
        larger_caps: 0,
        read_again: 0,
        at_first: session.fared(),
        no_quota: None,
        n_over_quota: 0,
        rested: Rested::No,
        since_first_fault: None,
        last_fault: None,
        body: None,
    };
    let result = loop {
        match state.attempt().await {
            Next::Done(result) => break result,
            Next::Again(pause) if Instant::now() + pause + LEAST_TIME >= state.until => {
                break Err(state.out_of_time());
            }
            Next::Again(pause) => sleep(pause).await,
        }
    };
    state.call.took = started.elapsed();
    state.call.peers = state.meanwhile();
    Outcome { result, call: state.call }
}

/// A number that two images share by accident only.
fn number_of(image: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}

impl TryState<'_> {
    async fn attempt(&mut self) -> Next {
        let session = self.session;
        let Admitted { lease, network, service } = match self.admitted().await {
            Ok(admitted) => admitted,
            Err(fault) => return failed(fault),
        };
        let left = self.until.saturating_duration_since(Instant::now());
        if left < LEAST_TIME {
            session.key_pool.unused(&lease);
            return failed(self.out_of_time());
        }
        let form = self.form();
        let body = self.body(&form);
        let limit = session.settings.attempt_timeout.min(left);
        self.call.attempts += 1;
        let request = session.http.post(format!("{}:generateContent", session.model_url()));
        match call::post(request, &lease.key, body, limit, server_timeout(limit)).await {
            Called::Answered(answered) => {
                network.succeeded();
                self.answered(&answered, &form, &lease, service)
            }
            Called::Failed(failure, detail) => {
                drop(service);
                self.failed_to_reach(failure, &detail, limit, &form, network)
            }
            Called::UnusableKey => {
                let message = "it holds characters that no API key has".to_owned();
                let class = Class { kind: Kind::KeyRejected, message, limits: Vec::new() };
                self.refused(&lease, &class);
                Next::Again(Duration::ZERO)
            }
        }
    }

    fn form(&self) -> Form {
        let mut form = self.session.form();
        form.max_output_tokens = self.cap.saturating_mul(1 << self.larger_caps);
        form
    }

    /// Base64 of a picture is not made anew for every attempt.
    fn body(&mut self, form: &Form) -> Bytes {
        if let Some((made_for, body)) = &self.body
            && made_for == form
        {
            return body.clone();
        }
        let prompt = self.session.prompt.text();
        let body = request::body(prompt, self.request.picture, self.request.correction, form);
        self.body = Some((form.clone(), body.clone()));
        body
    }

    fn failed_to_reach(
        &mut self,
        failure: Failure,
        detail: &str,
        limit: Duration,
        form: &Form,
        network: Permit<'_>,
    ) -> Next {
        match failure {
            Failure::Unreachable => {}
            Failure::TimedOut | Failure::Broken => self.may_have_paid(form),
        }
        if failure == Failure::TimedOut && limit < self.session.settings.attempt_timeout {
            // It was our own deadline that cut it short: that says nothing about the network.
            drop(network);
            return failed(self.out_of_time());
        }
        let what = match failure {
            Failure::Unreachable => "Gemini could not be reached",
            Failure::TimedOut => "Gemini did not answer",
            Failure::Broken => "Gemini's answer broke off",
        };
        let reason = self.clean(&format!("{what} ({detail})"));
        self.count_fault(None, &reason);
        network.failed(self.number);
        self.unavailable(None, reason, form)
    }

    fn answered(
        &mut self,
        answered: &Answered,
        form: &Form,
        lease: &KeyLease,
        service: Permit<'_>,
    ) -> Next {
        let session = self.session;
        if answered.status == 200 {
            let (reading, usage) = answer::read(&answered.body);
            if let Reading::Foreign { reason } = &reading {
                if answered.body.is_empty() {
                    // Nobody else's page either: what was lost may have been an answer.
                    self.may_have_paid(form);
                }
                return self.answered_by_another(reason, form, service);
            }
            if let Reading::Empty { reason } = &reading {
                session.key_pool.taken(lease, usage.tokens_in);
                self.pay(usage, form);
                return self.answered_with_nothing(reason, form, service);
            }
            service.succeeded();
            session.count_call();
            session.key_pool.taken(lease, usage.tokens_in);
            self.pay(usage, form);
            return self.read(reading, form, lease);
        }
        let class = classify(answered.status, answered.retry_after.as_deref(), &answered.body);
        if let Kind::Overloaded(billing) = class.kind {
            service.failed(self.number);
            if billing == Billing::Possible {
                self.may_have_paid(form);
            }
            let reason = self.clean(&class.message);
            self.count_fault(Some(answered.status), &reason);
            return self.unavailable(Some(answered.status), reason, form);
        }
        service.succeeded();
        self.act_on(&class, answered.status, form, lease)
    }

    /// Somebody between us and the service has answered in its place: no word on the picture.
    fn answered_by_another(&mut self, reason: &str, form: &Form, service: Permit<'_>) -> Next {
        service.failed(self.number);
        let reason = self.clean(reason);
        self.count_fault(Some(200), &reason);
        self.unavailable(Some(200), reason, form)
    }

    /// The model is done and has said nothing: as little a word on the picture as no answer at all.
    fn answered_with_nothing(&mut self, reason: &str, form: &Form, service: Permit<'_>) -> Next {
        service.failed(self.number);
        self.count_fault(Some(200), reason);
        self.empty += 1;
        if self.empty > MAX_EMPTY {
            let reason = format!("{reason} ({} times)", self.empty);
            return failed(Fault::Unavailable { status: Some(200), reason });
        }
        self.unavailable(Some(200), reason.to_owned(), form)
    }

    fn count_fault(&mut self, status: Option<u16>, reason: &str) {
        self.session.count_fault(status, reason);
        match &mut self.since_first_fault {
            Some((_, own)) => own.faults += 1,
            None => self.since_first_fault = Some((self.session.fared(), AttemptCounts::default())),
        }
    }

    fn count_answer(&mut self) {
        if let Some((_, own)) = &mut self.since_first_fault {
            own.answered += 1;
        }
    }

    fn meanwhile(&self) -> AttemptCounts {
        let all = |first| self.session.fared().since(first);
        self.since_first_fault
            .map_or_else(AttemptCounts::default, |(first, own)| all(first).since(own))
    }

    /// Status 200.
    fn read(&mut self, reading: Reading, form: &Form, lease: &KeyLease) -> Next {
        // Whatever it says of the picture, the service took it.
        self.session.answered();
        self.count_answer();
        match reading {
            Reading::Answer(answer) => {
                if self.larger_caps > 0 {
                    let cap = form.max_output_tokens;
                    self.session.change_form(|form| {
                        form.max_output_tokens = form.max_output_tokens.max(cap);
                    });
                }
                Next::Done(Ok(answer))
            }
            Reading::Broken { reason, correction } => {
                failed(Fault::Unreadable { reason: self.clean(&reason), correction })
            }
            Reading::Prose { reason } => {
                self.prose += 1;
                if self.prose == 1 && self.may_pay_again(form) {
                    return Next::Again(Duration::ZERO);
                }
                let correction =
                    "Your last answer was prose. Answer with the JSON object only; it \
                                  describes the picture for a library and endorses nothing."
                        .to_owned();
                failed(Fault::Unreadable { reason: self.clean(&reason), correction })
            }
            Reading::Truncated if self.may_enlarge_cap(form) => {
                self.larger_caps += 1;
                Next::Again(Duration::ZERO)
            }
            Reading::Truncated => failed(Fault::Unreadable {
                reason: format!(
                    "Gemini's answer was cut off at {} tokens (MAX_TOKENS)",
                    form.max_output_tokens
                ),
                correction: "Your last answer was too long. Keep details to one short sentence."
                    .into(),
            }),
            Reading::Blocked { reason, sexually_explicit } => {
                failed(Fault::Blocked { reason, sexually_explicit })
            }
            Reading::Stopped { reason } => {
                self.stopped += 1;
                if self.stopped <= MAX_STOPPED && self.may_pay_again(form) {
                    self.last_fault = None;
                    return Next::Again(self.session.backoff.pause);
                }
                let reason = self.clean(&format!("{reason} ({} times)", self.stopped));
                let correction = "Answer with the JSON object only.".to_owned();
                failed(Fault::Unreadable { reason, correction })
            }
            Reading::AccountLimited => self.account_limited(lease),
            // `answered` has dealt with them.
            Reading::Foreign { reason } | Reading::Empty { reason } => {
                self.unavailable(Some(200), self.clean(&reason), form)
            }
        }
    }

    /// The picture is not sent again, through no other project either: that is what the limit is
    /// about. It goes back, and that the key is out is told.
    fn account_limited(&mut self, lease: &KeyLease) -> Next {
        let message = "Google has limited the account under its use policy (PUP_LIMITED_DISABLED): \
                    look into AI Studio";
        let class =
            Class { kind: Kind::ProjectRejected, message: message.to_owned(), limits: Vec::new() };
        self.refused(lease, &class);
        failed(match self.session.key_pool.select(Instant::now(), self.session.clock.now()) {
            Selection::NoneLeft { kind, concerned, message } => {
                self.none_left(kind, &concerned, &message)
            }
            Selection::Go(lease) => {
                self.session.key_pool.unused(&lease);
                Fault::OutOfTime
            }
            Selection::Wait(_) | Selection::Closed { .. } => Fault::OutOfTime,
        })
    }

    /// Every error status but those of an overload.
    fn act_on(&mut self, class: &Class, status: u16, form: &Form, lease: &KeyLease) -> Next {
        if class.kind == Kind::Quota(Quota::Vague) {
            self.count_fault(Some(status), &self.clean(&class.message));
        } else {
            self.session.count_call();
        }
        match class.kind {
            Kind::KeyRejected
            | Kind::ProjectRejected
            | Kind::OutOfCredit
            | Kind::SpendCap
            | Kind::NoQuota
            | Kind::Location
            | Kind::ModelRetired => {
                self.refused(lease, class);
                Next::Again(Duration::ZERO)
            }
            Kind::Quota(_) => {
                self.refused(lease, class);
                self.session.too_many();
                // As a rule a matter of a minute.
                self.no_quota = Some(self.clean(&class.message));
                self.n_over_quota += 1;
                self.last_fault = None;
                Next::Again(Duration::ZERO)
            }
            Kind::NoSuchModel => {
                let settings = &self.session.settings;
                let message = format!(
                    "{} (asked for {} under {})",
                    class.message, settings.model, settings.api_version
                );
                self.refused_for_all(class.kind, &message)
            }
            Kind::InvalidRequest(what) => self.invalid_request(what, class, form),
            Kind::Picture(retry) => {
                self.session.key_pool.taken(lease, None);
                self.picture_refused(retry, class)
            }
            // `answered` has dealt with it.
            Kind::Overloaded(_) => self.unavailable(Some(status), self.clean(&class.message), form),
        }
    }

    /// There is one substitute for each; another call may have found it in the meantime.
    fn invalid_request(&mut self, what: InvalidRequest, class: &Class, form: &Form) -> Next {
        let now = self.session.form();
        let is_settled = match what {
            InvalidRequest::SchemaForm => {
                let is_first = form.schema == SchemaForm::JsonSchema;
                if is_first {
                    self.session.change_form(|form| form.schema = SchemaForm::ResponseFormat);
                }
                is_first
            }
            InvalidRequest::Thinking => {
                let was_said = form.thinking.is_some();
                if was_said {
                    self.session.change_form(|form| form.thinking = None);
                }
                was_said
            }
            InvalidRequest::Other => now.schema != form.schema || now.thinking != form.thinking,
        };
        if is_settled {
            return Next::Again(Duration::ZERO);
        }
        self.refused_for_all(class.kind, &class.message)
    }

    /// Every further request would meet the same, so none is sent.
    fn refused_for_all(&self, kind: Kind, message: &str) -> Next {
        let refusal = self.refusal(kind, &Concerned::default(), message);
        failed(Fault::Refused(self.session.refuse_all(refusal)))
    }

    fn refusal(&self, kind: Kind, concerned: &Concerned, message: &str) -> Refusal {
        let model = &self.session.settings.model;
        refusal::refusal(kind, concerned, model, &self.clean(message), self.session.clock.now())
    }

    fn picture_refused(&mut self, retry: Retry, class: &Class) -> Next {
        if retry == Retry::Once && self.read_again == 0 {
            self.read_again = 1;
            return Next::Again(self.session.backoff.pause);
        }
        let reason = self.clean(&class.message);
        let in_a_row = self.session.picture_refused();
        self.count_answer();
        if in_a_row >= TOO_MANY_REFUSED {
            let message = format!(
                "Gemini has refused {in_a_row} images one after another, so it is not the images: \
                 {reason}"
            );
            return self.refused_for_all(class.kind, &message);
        }
        failed(Fault::Picture { reason })
    }

    fn refused(&self, lease: &KeyLease, class: &Class) {
        let wall = self.session.clock.now();
        self.session.key_pool.refused(lease, class, Instant::now(), wall);
    }

    fn unavailable(&mut self, status: Option<u16>, reason: String, form: &Form) -> Next {
        self.failures += 1;
        let fault = Fault::Unavailable { status, reason };
        if self.failures >= MAX_FAILURES || !self.may_pay_again(form) {
            return failed(fault);
        }
        self.last_fault = Some(fault);
        let backoff = &self.session.backoff;
        let pause = backoff.pause * (1 << (self.failures - 1));
        // 30 % either way, so that parallel calls do not come back together.
        Next::Again(pause.min(backoff.max_pause).mul_f64(0.7 + 0.6 * fastrand::f64()))
    }

    /// Why it ended without an answer: the asker's deadline, or what stood in the way.
    fn out_of_time(&self) -> Fault {
        if self.request.deadline <= self.until {
            return Fault::OutOfTime;
        }
        if let Some(fault) = &self.last_fault {
            return fault.clone();
        }
        if let Some(fault) = self.out_of_quota() {
            return fault;
        }
        let limit = self.session.settings.try_timeout.as_secs_f64();
        let health = self.session.health();
        if health.breaker_open {
            let reason = health.last_detail.unwrap_or_else(|| "Gemini is not available".into());
            return Fault::Unavailable { status: health.last_status, reason };
        }
        let reason = format!("there was no answer within {limit:.0} s");
        Fault::Unavailable { status: None, reason }
    }

    fn clean(&self, text: &str) -> String {
        // Cleaned first: a key with a hidden character in it would not be recognised.
        let clean = text::line(text, MAX_REASON);
        self.session.redactor.redact(&clean).into_owned()
    }
}
