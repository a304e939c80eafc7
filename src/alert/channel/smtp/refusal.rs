//! Whose fault a refused SMTP command is: the channel's, a recipient's, or the message's. Pure.
//!
//! | stage | 4yz | 5yz |
//! |---|---|---|
//! | connect, EHLO, STARTTLS, AUTH, MAIL FROM | the channel waits | the channel is broken |
//! | RCPT TO | this recipient, later | this recipient is refused |
//! | DATA and after it | this message, later | this message is refused |
//!
//! A daily limit, a refused login or a refused sender is the channel's fault at any stage: Postfix
//! says most of that only after RCPT (`smtpd_delay_reject`), Gmail and Exchange after DATA.
//! Invariant: what is the channel's fault never costs a message.

use lettre::transport::smtp;

use crate::alert::channel::{Arrival, Scope, SendError};

/// How far a dialogue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connection, greeting, EHLO, STARTTLS.
    Connect,
    /// AUTH.
    Login,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA, the mail, and the answer to it.
    Content,
}

impl Stage {
    /// What was refused, as the end of "the mail server refused …".
    fn in_words(self) -> &'static str {
        match self {
            Self::Connect => "our connection",
            Self::Login => "our login",
            Self::Sender => "our sender address",
            Self::Recipient => "this recipient",
            Self::Content => "this mail",
        }
    }
}

/// What an error at this stage means.
pub(super) fn classify(stage: Stage, arrival: Arrival, error: &smtp::Error) -> SendError {
    let text = error.to_string();
    if let Some(code) = error.status() {
        let said = text.split_once(": ").map_or("", |(_, said)| said);
        return by_reply(stage, u16::from(code), said);
    }
    if text.contains("invalid peer certificate") {
        let problem = text.rsplit("invalid peer certificate: ").next().unwrap_or(&text);
        return SendError::Broken {
            reason: format!("the mail server's certificate is not accepted: {problem}"),
        };
    }
    if error.is_client() {
        return SendError::Broken { reason: format!("the mail server can't be used: {text}") };
    }
    let reason = if text.starts_with("Connection error") {
        format!("the mail server could not be reached: {text}")
    } else {
        format!("the connection to the mail server broke off: {text}")
    };
    SendError::Transient { reason, arrival }
}

/// What a refusing reply means at this stage; the table stands at the head of this file.
fn by_reply(stage: Stage, code: u16, said: &str) -> SendError {
    let one_line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = one_line.to_lowercase();
    let status = EnhancedStatus::of(&one_line);
    let is_transient = code < 500;
    // RFC 4954 §6: authentication is required, or was refused, whenever that is said.
    let is_login = matches!(code, 530 | 534 | 535 | 538);
    let stage_said = if is_login { Stage::Login } else { stage };
    let reason = format!("the mail server refused {}: ({code}) {one_line}", stage_said.in_words());
    if is_login || is_limit(&words, status) {
        return SendError::Broken { reason };
    }
    let is_of_the_channel = match stage {
        Stage::Connect | Stage::Login | Stage::Sender => true,
        Stage::Recipient | Stage::Content => blames_us(&words, status),
    };
    match (is_of_the_channel, is_transient) {
        (true, false) => SendError::Broken { reason },
        (true, true) if is_policy(status) && !may_pass(&words) => SendError::Broken { reason },
        (true, true) => SendError::Throttled { reason, retry_after: None, arrival: Arrival::No },
        // RFC 5321 §3.8: the server is about to close, whatever it was asked.
        (false, true) if code == 421 || (is_policy(status) && !may_pass(&words)) => {
            SendError::Throttled { reason, retry_after: None, arrival: Arrival::No }
        }
        (false, true) => SendError::Transient { reason, arrival: Arrival::No },
        (false, false) => {
            let scope = if stage == Stage::Recipient { Scope::Recipient } else { Scope::Message };
            SendError::Refused { reason, scope }
        }
    }
}

/// An enhanced status code (RFC 3463): class, subject, detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EnhancedStatus {
    class: u16,
    subject: u16,
    detail: u16,
}

impl EnhancedStatus {
    /// `5.7.1` at the beginning of what was said.
    fn of(said: &str) -> Option<Self> {
        let mut parts = said.split([' ', ';']).next()?.split('.').map(str::parse::<u16>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(class)), Some(Ok(subject)), Some(Ok(detail)), None) => {
                Some(Self { class, subject, detail })
            }
            _ => None,
        }
    }
}

/// 4.7.x: a rule of the server about us, such as a rate (Gmail's 4.7.28).
fn is_policy(status: Option<EnhancedStatus>) -> bool {
    status.is_some_and(|it| it.class == 4 && it.subject == 7)
}

/// Greylisting and servers under way: `451 4.7.1 Greylisting in action`, `454 4.7.0 Temporary
/// authentication failure`.
fn may_pass(words: &str) -> bool {
    ["greylist", "graylist", "temporar", "try again", "come back", "later"]
        .iter()
        .any(|it| words.contains(it))
}

/// How much may be sent is used up: `550 5.4.5 Daily user sending limit exceeded` (Gmail), `454
/// Throttling failure: Daily message quota exceeded` (SES), `451 Maximum credits exceeded`
/// (`SendGrid`), `550 5.7.501` and above (Exchange Online). A full mailbox (x.2.x) is another matter.
fn is_limit(words: &str, status: Option<EnhancedStatus>) -> bool {
    let by_status = status.is_some_and(|it| {
        (it.subject, it.detail) == (4, 5)
            || (it.subject == 7 && ((500..600).contains(&it.detail) || it.detail >= 700))
    });
    const LIMITS: [&str; 13] = [
        "sending limit",
        "sending quota",
        "daily limit",
        "daily quota",
        "daily message quota",
        "hourly limit",
        "message limit",
        "message quota",
        "credits exceeded",
        "sending rate exceeded",
        "too many messages",
        "too many emails",
        "too many login",
    ];
    let is_mailbox = status.is_some_and(|it| it.subject == 2);
    by_status || (!is_mailbox && LIMITS.iter().any(|it| words.contains(it)))
}

/// A refusal at RCPT or after DATA that is about who we are: RFC 3463 §3.2 (1.7, 1.8: the sender's
/// address), RFC 4954 (7.8, 7.9), Exchange (7.57, 7.60, 2.252), Postfix's and the providers' words.
fn blames_us(words: &str, status: Option<EnhancedStatus>) -> bool {
    let by_status = status.is_some_and(|it| {
        matches!((it.subject, it.detail), (1, 7 | 8) | (7, 8 | 9 | 57 | 60) | (2, 252))
    });
    const WORDS: [&str; 10] = [
        "sender address rejected",
        "sender rejected",
        "sender verify failed",
        "sender identity",
        "send as",
        "not owned by user",
        "is not verified",
        "client host rejected",
        "helo command rejected",
        "account suspended",
    ];
    by_status || WORDS.iter().any(|it| words.contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(stage: Stage, code: u16, said: &str) -> &'static str {
        match by_reply(stage, code, said) {
            SendError::Transient { arrival: Arrival::No, .. } => "later",
            SendError::Transient { .. } => "may have arrived",
            SendError::Throttled { .. } => "channel waits",
            SendError::Doubtful { .. } => "doubtful",
            SendError::Refused { scope: Scope::Recipient, .. } => "recipient",
            SendError::Refused { scope: Scope::Message, .. } => "message",
            SendError::Broken { .. } => "broken",
        }
    }

    const CHANNEL: [Stage; 3] = [Stage::Connect, Stage::Login, Stage::Sender];

    #[test]
    fn a_refusal_is_of_the_channel_the_recipient_or_the_message_by_its_stage() {
        for code in [500, 501, 503, 504, 521, 550, 551, 552, 553, 554, 556, 571] {
            for stage in CHANNEL {
                assert_eq!(class(stage, code, "no"), "broken", "{stage:?} {code}");
            }
            assert_eq!(class(Stage::Recipient, code, "no"), "recipient", "{code}");
            assert_eq!(class(Stage::Content, code, "no"), "message", "{code}");
        }
        for code in [450, 451, 452, 454] {
            for stage in CHANNEL {
                assert_eq!(class(stage, code, "busy"), "channel waits", "{stage:?} {code}");
            }
            assert_eq!(class(Stage::Recipient, code, "busy"), "later", "{code}");
            assert_eq!(class(Stage::Content, code, "busy"), "later", "{code}");
        }
        assert_eq!(class(Stage::Content, 421, "closing"), "channel waits");
    }

    #[test]
    fn a_limit_a_login_and_a_refused_sender_are_the_channels_fault_at_any_stage() {
        for (code, said) in [
            (550, "5.4.5 Daily user sending limit exceeded. For more information"),
            (452, "4.4.5 Insufficient resources"),
            (454, "Throttling failure: Daily message quota exceeded."),
            (451, "Authentication failed: Maximum credits exceeded"),
            (550, "5.7.501 Access denied, spam abuse detected"),
            (530, "5.7.0 Authentication required"),
            (535, "5.7.8 Error: authentication failed"),
        ] {
            for stage in [Stage::Login, Stage::Sender, Stage::Recipient, Stage::Content] {
                assert_eq!(class(stage, code, said), "broken", "{stage:?} {code} {said}");
            }
        }
        for (code, said) in [
            // Postfix tells the sender's refusal only after RCPT.
            (553, "5.7.1 <lookout@vm>: Sender address rejected: not owned by user a@b.example"),
            (554, "5.7.1 <vm[192.0.2.1]>: Client host rejected: Access denied"),
            (550, "5.1.8 Access denied, bad outbound sender"),
            (550, "5.7.60 SMTP; Client does not have permissions to send as this sender"),
            (554, "Message rejected: Email address is not verified."),
        ] {
            for stage in [Stage::Sender, Stage::Recipient, Stage::Content] {
                assert_eq!(class(stage, code, said), "broken", "{stage:?} {code} {said}");
            }
        }
    }

    #[test]
    fn a_rate_is_reported_at_once_and_greylisting_is_waited_for() {
        assert_eq!(class(Stage::Login, 454, "4.7.0 Too many login attempts"), "broken");
        assert_eq!(class(Stage::Sender, 421, "4.7.28 unusual rate of mail"), "broken");
        let passing = "4.7.0 Temporary authentication failure: no connection";
        assert_eq!(class(Stage::Login, 454, passing), "channel waits");
        assert_eq!(class(Stage::Recipient, 451, "4.7.1 Greylisting in action"), "later");
        assert_eq!(class(Stage::Recipient, 450, "4.2.0 Greylisted for 300 s"), "later");
        assert_eq!(class(Stage::Recipient, 452, "4.2.2 mailbox quota exceeded"), "later");
        assert_eq!(class(Stage::Recipient, 552, "5.2.2 over quota"), "recipient");
        assert_eq!(class(Stage::Content, 554, "5.7.1 looks like spam"), "message");
        assert_eq!(class(Stage::Content, 552, "5.3.4 message too big"), "message");
    }
}
