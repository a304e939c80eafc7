//! One try: as many attempts as it takes, within its time.
//!
//! There is one retry loop, and it is here. What a fault means for the record is the caller's.
//! Invariant: no attempt begins or lasts beyond the try's limit or the asker's deadline; a picture
//! that was blocked or judged is never sent again.

mod money;
mod waiting;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use self::waiting::{Admitted, Rested};
use crate::http::Failure;
use crate::review::reviewer::gemini::answer::{self, Reading};
use crate::review::reviewer::gemini::breaker::Permit;
use crate::review::reviewer::gemini::call::{self, Answered, Called};
use crate::review::reviewer::gemini::classifier::{
    Again, Billing, Class, Kind, Misunderstood, Quota, classify,
};
use crate::review::reviewer::gemini::client::{Gemini, server_timeout};
use crate::review::reviewer::gemini::projects::{Ticket, Turn};
use crate::review::reviewer::gemini::refusal::{self, Concerned};
use crate::review::reviewer::gemini::request::{self, Form, SchemaForm};
use crate::review::reviewer::{Answer, Ask, Evidence, Fault, Meanwhile, Outcome, Refusal};
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
struct Hand<'a> {
    gemini: &'a Gemini,
    /// Of the picture: the breakers tell one that fails again and again from many that do.
    number: u64,
    ask: &'a Ask<'a>,
    /// The earlier of the asker's deadline and the try's limit; a rest that was waited out is not
    /// the try's time.
    until: Instant,
    evidence: Evidence,
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
    at_first: Meanwhile,
    /// The last word was that there is no quota.
    no_quota: Option<String>,
    n_over_quota: u32,
    rested: Rested,
    /// How all attempts had fared when this try met its first fault, and this try's part since.
    troubled: Option<(Meanwhile, Meanwhile)>,
    /// What stood in the way last, for when time runs out.
    trouble: Option<Fault>,
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
pub(super) async fn run(gemini: &Gemini, ask: &Ask<'_>) -> Outcome {
    let started = Instant::now();
    let mut hand = Hand {
        gemini,
        number: number_of(ask.image),
        ask,
        until: ask.deadline.min(started + gemini.settings.try_timeout),
        evidence: Evidence {
            model: gemini.settings.model.clone(),
            prompt_hash: gemini.prompt.hash().to_owned(),
            usd: gemini.nothing_yet(),
            usd_at_most: gemini.nothing_yet(),
            ..Evidence::default()
        },
        allowance: gemini.estimate().at_most,
        cap: gemini.form().max_output_tokens,
        failures: 0,
        stopped: 0,
        prose: 0,
        empty: 0,
        larger_caps: 0,
        read_again: 0,
        at_first: gemini.fared(),
        no_quota: None,
        n_over_quota: 0,
        rested: Rested::No,
        troubled: None,
        trouble: None,
        body: None,
    };
    let result = loop {
        match hand.attempt().await {
            Next::Done(result) => break result,
            Next::Again(pause) if Instant::now() + pause + LEAST_TIME >= hand.until => {
                break Err(hand.out_of_time());
            }
            Next::Again(pause) => sleep(pause).await,
        }
    };
    hand.evidence.took = started.elapsed();
    hand.evidence.meanwhile = hand.meanwhile();
    Outcome { result, evidence: hand.evidence }
}

/// A number that two images share by accident only.
fn number_of(image: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}

impl Hand<'_> {
    async fn attempt(&mut self) -> Next {
        let gemini = self.gemini;
        let Admitted { ticket, network, service } = match self.admitted().await {
            Ok(admitted) => admitted,
            Err(fault) => return failed(fault),
        };
        let left = self.until.saturating_duration_since(Instant::now());
        if left < LEAST_TIME {
            gemini.projects.unused(&ticket);
            return failed(self.out_of_time());
        }
        let form = self.form();
        let body = self.body(&form);
        let limit = gemini.settings.attempt_timeout.min(left);
        self.evidence.attempts += 1;
        let request = gemini.http.post(format!("{}:generateContent", gemini.model_url()));
        match call::post(request, &ticket.key, body, limit, server_timeout(limit)).await {
            Called::Answered(answered) => {
                network.succeeded();
                self.answered(&answered, &form, &ticket, service)
            }
            Called::Failed(failure, detail) => {
                drop(service);
                self.failed_to_reach(failure, &detail, limit, &form, network)
            }
            Called::UnusableKey => {
                let says = "it holds characters that no API key has".to_owned();
                let class = Class { kind: Kind::KeyRejected, says, limits: Vec::new() };
                self.refused(&ticket, &class);
                Next::Again(Duration::ZERO)
            }
        }
    }

    fn form(&self) -> Form {
        let mut form = self.gemini.form();
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
        let prompt = self.gemini.prompt.text();
        let body = request::body(prompt, self.ask.picture, self.ask.correction, form);
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
        if failure == Failure::TimedOut && limit < self.gemini.settings.attempt_timeout {
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
        ticket: &Ticket,
        service: Permit<'_>,
    ) -> Next {
        let gemini = self.gemini;
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
                gemini.projects.taken(ticket, usage.tokens_in);
                self.pay(usage, form);
                return self.answered_with_nothing(reason, form, service);
            }
            service.succeeded();
            gemini.count_call();
            gemini.projects.taken(ticket, usage.tokens_in);
            self.pay(usage, form);
            return self.read(reading, form, ticket);
        }
        let class = classify(answered.status, answered.retry_after.as_deref(), &answered.body);
        if let Kind::Overloaded(billing) = class.kind {
            service.failed(self.number);
            if billing == Billing::Possible {
                self.may_have_paid(form);
            }
            let reason = self.clean(&class.says);
            self.count_fault(Some(answered.status), &reason);
            return self.unavailable(Some(answered.status), reason, form);
        }
        service.succeeded();
        self.act_on(&class, answered.status, form, ticket)
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
        self.gemini.count_fault(status, reason);
        match &mut self.troubled {
            Some((_, own)) => own.faults += 1,
            None => self.troubled = Some((self.gemini.fared(), Meanwhile::default())),
        }
    }

    fn count_answer(&mut self) {
        if let Some((_, own)) = &mut self.troubled {
            own.answered += 1;
        }
    }

    fn meanwhile(&self) -> Meanwhile {
        let all = |first| self.gemini.fared().since(first);
        self.troubled.map_or_else(Meanwhile::default, |(first, own)| all(first).since(own))
    }

    /// Status 200.
    fn read(&mut self, reading: Reading, form: &Form, ticket: &Ticket) -> Next {
        // Whatever it says of the picture, the service took it.
        self.gemini.answered();
        self.count_answer();
        match reading {
            Reading::Answer(answer) => {
                if self.larger_caps > 0 {
                    let cap = form.max_output_tokens;
                    self.gemini.change_form(|form| {
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
                    self.trouble = None;
                    return Next::Again(self.gemini.patience.pause);
                }
                let reason = self.clean(&format!("{reason} ({} times)", self.stopped));
                let correction = "Answer with the JSON object only.".to_owned();
                failed(Fault::Unreadable { reason, correction })
            }
            Reading::AccountLimited => self.account_limited(ticket),
            // `answered` has dealt with them.
            Reading::Foreign { reason } | Reading::Empty { reason } => {
                self.unavailable(Some(200), self.clean(&reason), form)
            }
        }
    }

    /// The picture is not sent again, through no other project either: that is what the limit is
    /// about. It goes back, and that the key is out is told.
    fn account_limited(&mut self, ticket: &Ticket) -> Next {
        let says = "Google has limited the account under its use policy (PUP_LIMITED_DISABLED): \
                    look into AI Studio";
        let class =
            Class { kind: Kind::ProjectRejected, says: says.to_owned(), limits: Vec::new() };
        self.refused(ticket, &class);
        failed(match self.gemini.projects.turn(Instant::now(), self.gemini.clock.now()) {
            Turn::NoneLeft { kind, concerned, says } => self.none_left(kind, &concerned, &says),
            Turn::Go(ticket) => {
                self.gemini.projects.unused(&ticket);
                Fault::OutOfTime
            }
            Turn::Wait(_) | Turn::Closed { .. } => Fault::OutOfTime,
        })
    }

    /// Every error status but those of an overload.
    fn act_on(&mut self, class: &Class, status: u16, form: &Form, ticket: &Ticket) -> Next {
        if class.kind == Kind::Quota(Quota::Vague) {
            self.count_fault(Some(status), &self.clean(&class.says));
        } else {
            self.gemini.count_call();
        }
        match class.kind {
            Kind::KeyRejected
            | Kind::ProjectRejected
            | Kind::OutOfCredit
            | Kind::SpendCap
            | Kind::NoQuota
            | Kind::Location
            | Kind::ModelRetired => {
                self.refused(ticket, class);
                Next::Again(Duration::ZERO)
            }
            Kind::Quota(_) => {
                self.refused(ticket, class);
                self.gemini.too_many();
                // As a rule a matter of a minute.
                self.no_quota = Some(self.clean(&class.says));
                self.n_over_quota += 1;
                self.trouble = None;
                Next::Again(Duration::ZERO)
            }
            Kind::NoSuchModel => {
                let settings = &self.gemini.settings;
                let says = format!(
                    "{} (asked for {} under {})",
                    class.says, settings.model, settings.api_version
                );
                self.refused_for_all(class.kind, &says)
            }
            Kind::Misunderstood(what) => self.misunderstood(what, class, form),
            Kind::Picture(again) => {
                self.gemini.projects.taken(ticket, None);
                self.picture_refused(again, class)
            }
            // `answered` has dealt with it.
            Kind::Overloaded(_) => self.unavailable(Some(status), self.clean(&class.says), form),
        }
    }

    /// There is one substitute for each; another call may have found it in the meantime.
    fn misunderstood(&mut self, what: Misunderstood, class: &Class, form: &Form) -> Next {
        let now = self.gemini.form();
        let is_settled = match what {
            Misunderstood::SchemaForm => {
                let is_first = form.schema == SchemaForm::JsonSchema;
                if is_first {
                    self.gemini.change_form(|form| form.schema = SchemaForm::ResponseFormat);
                }
                is_first
            }
            Misunderstood::Thinking => {
                let was_said = form.thinking.is_some();
                if was_said {
                    self.gemini.change_form(|form| form.thinking = None);
                }
                was_said
            }
            Misunderstood::Other => now.schema != form.schema || now.thinking != form.thinking,
        };
        if is_settled {
            return Next::Again(Duration::ZERO);
        }
        self.refused_for_all(class.kind, &class.says)
    }

    /// Every further request would meet the same, so none is sent.
    fn refused_for_all(&self, kind: Kind, says: &str) -> Next {
        let refusal = self.refusal(kind, &Concerned::default(), says);
        failed(Fault::Refused(self.gemini.refuse_all(refusal)))
    }

    fn refusal(&self, kind: Kind, concerned: &Concerned, says: &str) -> Refusal {
        let model = &self.gemini.settings.model;
        refusal::refusal(kind, concerned, model, &self.clean(says), self.gemini.clock.now())
    }

    fn picture_refused(&mut self, again: Again, class: &Class) -> Next {
        if again == Again::Once && self.read_again == 0 {
            self.read_again = 1;
            return Next::Again(self.gemini.patience.pause);
        }
        let reason = self.clean(&class.says);
        let in_a_row = self.gemini.picture_refused();
        self.count_answer();
        if in_a_row >= TOO_MANY_REFUSED {
            let says = format!(
                "Gemini has refused {in_a_row} images one after another, so it is not the images: \
                 {reason}"
            );
            return self.refused_for_all(class.kind, &says);
        }
        failed(Fault::Picture { reason })
    }

    fn refused(&self, ticket: &Ticket, class: &Class) {
        let wall = self.gemini.clock.now();
        self.gemini.projects.refused(ticket, class, Instant::now(), wall);
    }

    fn unavailable(&mut self, status: Option<u16>, reason: String, form: &Form) -> Next {
        self.failures += 1;
        let fault = Fault::Unavailable { status, reason };
        if self.failures >= MAX_FAILURES || !self.may_pay_again(form) {
            return failed(fault);
        }
        self.trouble = Some(fault);
        let patience = &self.gemini.patience;
        let pause = patience.pause * (1 << (self.failures - 1));
        // 30 % either way, so that parallel calls do not come back together.
        Next::Again(pause.min(patience.longest_pause).mul_f64(0.7 + 0.6 * fastrand::f64()))
    }

    /// Why it ended without an answer: the asker's deadline, or what stood in the way.
    fn out_of_time(&self) -> Fault {
        if self.ask.deadline <= self.until {
            return Fault::OutOfTime;
        }
        if let Some(fault) = &self.trouble {
            return fault.clone();
        }
        if let Some(fault) = self.out_of_quota() {
            return fault;
        }
        let limit = self.gemini.settings.try_timeout.as_secs_f64();
        let health = crate::review::reviewer::Reviewer::health(self.gemini);
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
        self.gemini.redactor.redact(&clean).into_owned()
    }
}
