//! E-mail by SMTP, one message a recipient (lettre stops at the first refused one of several).
//!
//! `smtp://` demands STARTTLS, `smtps://` is TLS from the start, and `smtp+insecure://` is for a
//! relay on this machine only: never plaintext with a password (RFC 8314). The Message-ID is
//! made from the incident, so a repeat carries the same one and a reader can recognise it.
//! Invariant: an attempt ends within [`LIMIT`]: lettre's own timeout bounds only the TCP connect
//! (lettre/lettre#1027).

use std::time::Duration;

use async_trait::async_trait;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::{self, AsyncSmtpTransportBuilder};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use url::Url;

use super::{Arrival, Channel, Envelope, SendError};
use crate::alert::message::{self, About, Message};
use crate::secret::Secret;

/// Greylisting and slow scanners take their time; above this nobody answers.
const LIMIT: Duration = Duration::from_secs(30);

/// Saying goodbye is polite, not necessary.
const GOODBYE: Duration = Duration::from_secs(2);

/// Sends by one mail server.
pub struct Email {
    server: AsyncSmtpTransportBuilder,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Email {
    /// Checks addresses; connects to nothing.
    ///
    /// # Errors
    /// What is wrong, for people; never the URL, which holds a password.
    pub fn new(smtp_url: &Secret, from: Option<&str>, to: &[String]) -> Result<Self, String> {
        let server = server(smtp_url)?;
        let default = format!("Lookout <lookout@{}>", host_name());
        let from = mailbox(from.unwrap_or(&default), "from")?;
        let to = to.iter().map(|it| mailbox(it, "to")).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err("nobody to write to: set to = [\"somebody@example.org\"]".to_owned());
        }
        Ok(Self { server, from, to })
    }

    async fn deliver(&self, mail: lettre::Message) -> Result<(), SendError> {
        // A connection of its own for each mail: we send a few an hour, and servers cut idle
        // connections in ways that cost the next mail its attempt.
        let transport: AsyncSmtpTransport<Tokio1Executor> = self.server.clone().build();
        let sent = tokio::time::timeout(LIMIT, transport.send(mail)).await;
        // Whether it hears our goodbye changes nothing about the mail.
        let _ = tokio::time::timeout(GOODBYE, transport.shutdown()).await;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => Err(SendError::Transient {
                reason: format!("the mail server did not finish within {} s", LIMIT.as_secs()),
                arrival: Arrival::Perhaps,
            }),
        }
    }

    fn write(
        &self,
        message: &Message,
        envelope: &Envelope,
        body: Body,
    ) -> Result<lettre::Message, SendError> {
        let unwritable = |error: &dyn std::fmt::Display| SendError::Refused {
            reason: format!("the mail could not be written: {error}"),
        };
        let to = self.to.iter().find(|it| it.email.to_string() == envelope.recipient);
        let to = to.ok_or_else(|| unwritable(&"its recipient is no longer configured"))?;
        let host = self.from.email.domain();
        let at: std::time::SystemTime = envelope.at.into();
        let mut mail = lettre::Message::builder()
            .from(self.from.clone())
            .to(to.clone())
            .subject(message.subject.clone())
            .date(at)
            .message_id(Some(message_id(message.about.as_ref(), &envelope.id, host)));
        if let Some(about) = message.about.as_ref().filter(|it| it.number > 1) {
            let first = thread_id(about, 1, host);
            mail = mail.in_reply_to(first.clone()).references(first);
        }
        for (name, value) in headers(message, host) {
            let name = HeaderName::new_from_ascii(name.to_owned()).map_err(|it| unwritable(&it))?;
            mail = mail.raw_header(HeaderValue::new(name, value));
        }
        match body {
            Body::Full => mail.multipart(MultiPart::alternative_plain_html(
                message::plain(message),
                message::html(message),
            )),
            Body::TextOnly => mail.singlepart(SinglePart::plain(message::plain(message))),
        }
        .map_err(|error| unwritable(&error))
    }
}

/// How much of a message is sent.
#[derive(Clone, Copy)]
enum Body {
    /// Text and HTML.
    Full,
    /// For a server that finds that too large or suspicious.
    TextOnly,
}

#[async_trait]
impl Channel for Email {
    fn label(&self) -> &'static str {
        "e-mail"
    }

    fn recipients(&self) -> Vec<String> {
        self.to.iter().map(|it| it.email.to_string()).collect()
    }

    async fn probe(&self) -> Result<String, SendError> {
        let transport: AsyncSmtpTransport<Tokio1Executor> = self.server.clone().build();
        let tested = tokio::time::timeout(LIMIT, transport.test_connection()).await;
        // As after a mail: nothing depends on our goodbye.
        let _ = tokio::time::timeout(GOODBYE, transport.shutdown()).await;
        match tested {
            Ok(Ok(true)) => Ok("the mail server answers and takes our login".to_owned()),
            Ok(Ok(false)) => Err(SendError::Doubtful {
                reason: "the mail server let us in but is not ready".to_owned(),
            }),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => Err(SendError::Transient {
                reason: format!("the mail server did not answer within {} s", LIMIT.as_secs()),
                arrival: Arrival::No,
            }),
        }
    }

    async fn send(&self, message: &Message, envelope: &Envelope) -> Result<(), SendError> {
        let refused = match self.deliver(self.write(message, envelope, Body::Full)?).await {
            Err(SendError::Refused { reason }) if is_about_size(&reason) => reason,
            other => return other,
        };
        tracing::warn!(id = envelope.id, reason = refused, "sending the mail again as text only");
        self.deliver(self.write(message, envelope, Body::TextOnly)?).await
    }
}

fn server(smtp_url: &Secret) -> Result<AsyncSmtpTransportBuilder, String> {
    const FORM: &str = "write smtp://user:password@host:587 (STARTTLS), smtps://user:password@host:465 \
                        or, for a relay on this machine, smtp+insecure://127.0.0.1:25";
    let wrong = |problem: &str| format!("the mail server's address {problem}; {FORM}");
    let url = Url::parse(smtp_url.expose().trim()).map_err(|_| wrong("can't be read"))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has a ? or # part (in a password write %3F and %23)"));
    }
    let host = url.host_str().filter(|it| !it.is_empty()).ok_or_else(|| wrong("names no host"))?;
    let rest = url.as_str().split_once("://").map_or("", |(_, rest)| rest);
    let for_lettre = match url.scheme() {
        "smtp" => format!("smtp://{rest}?tls=required"),
        "smtps" => format!("smtps://{rest}"),
        "smtp+insecure" if !is_loopback(host) => {
            return Err(wrong("says smtp+insecure but is not on this machine"));
        }
        "smtp+insecure" if url.password().is_some() => {
            return Err(wrong("would send a password unencrypted"));
        }
        "smtp+insecure" => format!("smtp://{rest}"),
        _ => return Err(wrong("has a scheme we don't know")),
    };
    AsyncSmtpTransport::<Tokio1Executor>::from_url(&for_lettre)
        .map(|builder| builder.timeout(Some(super::TIME_LIMIT)))
        .map_err(|_| wrong("can't be used"))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

fn mailbox(text: &str, field: &str) -> Result<Mailbox, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{field} = \"{text}\" is no mail address; write name@example.org"))
}

/// The machine's name, made a domain that mail servers accept.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name: String =
        name.chars().filter(|it| it.is_ascii_alphanumeric() || "-.".contains(*it)).collect();
    match name.trim_matches(['-', '.']) {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

fn message_id(about: Option<&About>, id: &str, host: &str) -> String {
    about.map_or_else(|| format!("<{id}@{host}>"), |about| thread_id(about, about.number, host))
}

/// The opening time makes it unique even if the state directory is thrown away and incidents are
/// counted from 1 again.
fn thread_id(about: &About, number: u32, host: &str) -> String {
    format!("<lookout-{}-{}.{number}@{host}>", about.incident, about.opened_at.timestamp())
}

fn headers(message: &Message, host: &str) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        // RFC 3834: keeps out-of-office replies away.
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Auto-Response-Suppress", "All".to_owned()),
        // RFC 2919: for filters.
        ("List-Id", format!("Lookout alerts <alerts.lookout.{host}>")),
        ("X-Lookout-Instance", message.instance.clone()),
    ];
    if let Some(about) = &message.about {
        headers.push(("X-Lookout-Incident", about.incident.to_string()));
        headers.push(("X-Lookout-Kind", about.kind.to_string()));
        headers.push(("X-Lookout-Severity", message.tone.word().to_lowercase()));
    }
    if message
        .marks
        .iter()
        .any(|mark| matches!(mark, message::Mark::PossibleRepeat | message::Mark::NotRecorded))
    {
        headers.push(("X-Lookout-Possible-Repeat", "yes".to_owned()));
    }
    headers
}

/// Mail servers refuse what is too large, or looks like spam to them, with these.
fn is_about_size(reason: &str) -> bool {
    reason.contains("(552)") || reason.contains("(554)")
}

fn classify(error: &smtp::Error) -> SendError {
    let text = error.to_string();
    if let Some(code) = error.status() {
        return by_code(u16::from(code), &text);
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
    let arrival = if text.starts_with("Connection error") { Arrival::No } else { Arrival::Perhaps };
    let reason = match arrival {
        Arrival::No => format!("the mail server could not be reached: {text}"),
        Arrival::Perhaps => format!("the connection to the mail server broke off: {text}"),
    };
    SendError::Transient { reason, arrival }
}

/// RFC 5321 §4.2.1: 4yz try again, 5yz don't; RFC 4954 §6 for the refused login.
fn by_code(code: u16, text: &str) -> SendError {
    let said = text.split_once(": ").map_or("", |(_, said)| said);
    let reason = format!("the mail server said ({code}) {said}");
    match code {
        400..=499 => SendError::Transient { reason, arrival: Arrival::No },
        530 | 534 | 535 | 538 => SendError::Broken {
            reason: format!("the mail server refused our login: ({code}) {said}"),
        },
        550..=554 => SendError::Refused { reason },
        _ => SendError::Doubtful { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(url: &str) -> String {
        let to = ["a@example.org".to_owned()];
        Email::new(&Secret::new(url), None, &to).err().unwrap_or_default()
    }

    #[test]
    fn a_password_never_travels_in_the_clear() {
        assert!(problem("smtp+insecure://mail.example.org:25").contains("not on this machine"));
        assert!(problem("smtp+insecure://u:hunter22@127.0.0.1:25").contains("unencrypted"));
        assert!(problem("smtp://u:p@h:587?tls=opportunistic").contains("? or # part"));
        for url in ["http://h", "nonsense", "smtp://", "smtp+insecure://u:hunter22@h"] {
            let problem = problem(url);
            assert!(problem.contains("write smtp://"), "{url}: {problem}");
            assert!(!problem.contains("hunter22"), "{problem}");
        }
    }

    #[test]
    fn good_addresses_are_taken() {
        for url in [
            "smtp://u:p%40ss@mail.example.org:587",
            "smtps://mail.example.org",
            "smtp+insecure://[::1]:2525",
        ] {
            assert_eq!(problem(url), "", "{url}");
        }
        let wrong = Email::new(&Secret::new("smtps://h"), None, &["no address".to_owned()]);
        assert!(wrong.err().unwrap().contains("no address"));
    }

    #[test]
    fn codes_mean_what_the_table_says() {
        let class = |code| by_code(code, "permanent error: said");
        assert!(matches!(class(451), SendError::Transient { arrival: Arrival::No, .. }));
        assert!(matches!(class(535), SendError::Broken { .. }));
        assert!(matches!(class(550), SendError::Refused { .. }));
        assert!(matches!(class(503), SendError::Doubtful { .. }));
        let SendError::Refused { reason } = class(552) else { panic!("552") };
        assert!(is_about_size(&reason));
    }
}
