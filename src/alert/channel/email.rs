//! E-mail: one message a recipient, written here and sent by `channel::smtp`.
//!
//! `smtp://` demands STARTTLS, `smtps://` is TLS from the start, and `smtp+insecure://` is for a
//! relay on this machine only: never plaintext with a password (RFC 8314). The Message-ID is
//! made from the incident, so a repeat carries the same one and a reader can recognise it.
//! Invariant: one recipient that is refused, or can't be written to, costs the others nothing.

use async_trait::async_trait;
use lettre::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};

use super::smtp::Server;
use super::{Arrival, Channel, Envelope, Scope, SendError};
use crate::alert::message::{self, About, Message};
use crate::secret::Secret;

/// Sends by one mail server.
pub struct Email {
    server: Server,
    from: Mailbox,
    to: Vec<To>,
}

/// One recipient.
struct To {
    /// As configured: the delivery's recipient, and what people call it.
    name: String,
    /// With the domain as it travels (RFC 5891: `xn--mller-kva.example`).
    mailbox: Mailbox,
}

impl Email {
    /// Checks addresses; connects to nothing.
    ///
    /// # Errors
    /// What is wrong, for people; never the URL, which holds a password.
    pub fn new(smtp_url: &Secret, from: Option<&str>, to: &[String]) -> Result<Self, String> {
        let server = Server::parse(smtp_url)?;
        let from = sender_of(&server, from)?;
        let to = to.iter().map(|it| recipient(it)).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err("nobody to write to: set to = [\"somebody@example.org\"]".to_owned());
        }
        Ok(Self { server, from, to })
    }

    fn recipient(&self, envelope: &Envelope) -> Result<&To, SendError> {
        self.to.iter().find(|it| it.name == envelope.recipient).ok_or_else(|| SendError::Refused {
            reason: format!("{} is no longer a recipient", envelope.recipient),
            scope: Scope::Recipient,
        })
    }

    async fn deliver(&self, envelope: &Envelope, mail: lettre::Message) -> Result<(), SendError> {
        let to = &self.recipient(envelope)?.mailbox.email;
        self.server.send(&self.from.email, to, &mail.formatted()).await
    }

    fn write(
        &self,
        message: &Message,
        envelope: &Envelope,
        body: Body,
    ) -> Result<lettre::Message, SendError> {
        let unwritable = |error: &dyn std::fmt::Display| SendError::Refused {
            reason: format!("the mail could not be written: {error}"),
            scope: Scope::Message,
        };
        let to = self.recipient(envelope)?;
        let host = self.from.email.domain();
        let at: std::time::SystemTime = envelope.at.into();
        let mut mail = lettre::Message::builder()
            .from(self.from.clone())
            .to(to.mailbox.clone())
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
        self.to.iter().map(|it| it.name.clone()).collect()
    }

    async fn probe(&self) -> Result<String, SendError> {
        let to: Vec<(String, Address)> =
            self.to.iter().map(|it| (it.name.clone(), it.mailbox.email.clone())).collect();
        let refused = self.server.probe(&self.from.email, &to).await?;
        let login = if self.server.login.is_some() { "our login, " } else { "" };
        let takes = format!("takes {login}the sender {}", self.from.email);
        if refused.is_empty() {
            let n = to.len();
            let each =
                if n == 1 { "the recipient".to_owned() } else { format!("all {n} recipients") };
            return Ok(format!("the mail server {takes} and {each}"));
        }
        let each: Vec<String> =
            refused.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        let reason = format!("the mail server {takes}, but not {}", each.join("; "));
        let is_for_good = |error: &SendError| matches!(error, SendError::Refused { .. });
        Err(if refused.iter().any(|(_, error)| is_for_good(error)) {
            SendError::Refused { reason, scope: Scope::Recipient }
        } else {
            SendError::Transient { reason, arrival: Arrival::No }
        })
    }

    async fn send(&self, message: &Message, envelope: &Envelope) -> Result<(), SendError> {
        let full = self.write(message, envelope, Body::Full)?;
        let refused = match self.deliver(envelope, full).await {
            Err(SendError::Refused { reason, scope: Scope::Message }) if is_about_size(&reason) => {
                reason
            }
            other => return other,
        };
        tracing::warn!(id = envelope.id, reason = refused, "sending the mail again as text only");
        self.deliver(envelope, self.write(message, envelope, Body::TextOnly)?).await
    }
}

/// Who mails come from: `from` if it is set, else the login where that is an address (most servers
/// let a login write as nobody else), else `lookout@` this machine.
///
/// # Errors
/// As [`Email::new`].
pub fn sender(smtp_url: &Secret, from: Option<&str>) -> Result<String, String> {
    sender_of(&Server::parse(smtp_url)?, from).map(|it| it.email.to_string())
}

fn sender_of(server: &Server, from: Option<&str>) -> Result<Mailbox, String> {
    if let Some(from) = from {
        return mailbox(from, "from");
    }
    let login = server.login.as_deref().and_then(|it| address(it).ok());
    let email = match login {
        Some(login) => login,
        None => address(&format!("lookout@{}", host_name()))?,
    };
    Ok(Mailbox::new(Some("Lookout".to_owned()), email))
}

fn recipient(text: &str) -> Result<To, String> {
    let written: Mailbox = parsed(text, "to")?;
    let name = written.email.to_string();
    Ok(To { name, mailbox: mailbox(text, "to")? })
}

/// Whether the part before the @ has letters that servers without SMTPUTF8 (RFC 6531) refuse.
#[must_use]
pub fn needs_smtputf8(text: &str) -> bool {
    let address = text.rsplit_once('<').map_or(text, |(_, rest)| rest.trim_end_matches('>'));
    address.rsplit_once('@').is_some_and(|(user, _)| !user.is_ascii())
}

fn parsed(text: &str, field: &str) -> Result<Mailbox, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{field} = \"{text}\" is no mail address; write name@example.org"))
}

fn mailbox(text: &str, field: &str) -> Result<Mailbox, String> {
    let written = parsed(text, field)?;
    let email = address(written.email.as_ref())
        .map_err(|_| format!("{field} = \"{text}\" is no mail address; write name@example.org"))?;
    Ok(Mailbox::new(written.name, email))
}

/// With the domain as it travels.
fn address(text: &str) -> Result<Address, String> {
    let wrong = || format!("{text} is no mail address");
    let written: Address = text.parse().map_err(|_| wrong())?;
    if written.domain().is_ascii() {
        return Ok(written);
    }
    match url::Host::parse(written.domain()) {
        Ok(url::Host::Domain(domain)) => Address::new(written.user(), domain).map_err(|_| wrong()),
        Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) | Err(_) => Err(wrong()),
    }
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

/// What has no row has no number either: only its delivery's id tells it from others of its second.
fn message_id(about: Option<&About>, id: &str, host: &str) -> String {
    match about.filter(|about| about.incident != 0) {
        Some(about) => thread_id(about, about.number, host),
        None => format!("<{id}@{host}>"),
    }
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
    if message.annotations.iter().any(|annotation| {
        matches!(annotation, message::Annotation::PossibleRepeat | message::Annotation::NotRecorded)
    }) {
        headers.push(("X-Lookout-Possible-Repeat", "yes".to_owned()));
    }
    headers
}

/// Mail servers refuse what is too large, or looks like spam to them, with these.
fn is_about_size(reason: &str) -> bool {
    reason.contains("(552)") || reason.contains("(554)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn email(url: &str, from: Option<&str>, to: &[&str]) -> Result<Email, String> {
        let to: Vec<String> = to.iter().map(|it| (*it).to_owned()).collect();
        Email::new(&Secret::new(url), from, &to)
    }

    #[test]
    fn the_sender_is_what_was_set_else_the_login_else_this_machine() {
        let sender = |url: &str, from| sender(&Secret::new(url), from).unwrap();
        let with_login = "smtps://alerts%40example.org:p@mail.example.org";
        assert_eq!(sender(with_login, None), "alerts@example.org");
        assert_eq!(sender(with_login, Some("Ops <ops@example.org>")), "ops@example.org");
        let here = format!("lookout@{}", host_name());
        assert_eq!(sender("smtps://apikey:p@mail.example.org", None), here);
        assert_eq!(sender("smtp+insecure://127.0.0.1:2525", None), here);
    }

    #[test]
    fn a_domain_travels_as_ascii_and_is_called_as_it_was_written() {
        let email = email("smtps://h.example", None, &["Jo <jo@müller.example>", "jö@x.example"]);
        let email = email.unwrap();
        assert_eq!(email.recipients(), ["jo@müller.example", "jö@x.example"]);
        let travels: Vec<String> = email.to.iter().map(|it| it.mailbox.email.to_string()).collect();
        assert_eq!(travels, ["jo@xn--mller-kva.example", "jö@x.example"]);
        assert!(needs_smtputf8("Jö <jö@x.example>") && !needs_smtputf8("Jö <jo@müller.example>"));
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        let problem = email("smtps://h", None, &["no address"]).err().unwrap();
        assert!(problem.contains("no address"), "{problem}");
        assert!(email("smtps://h", None, &[]).err().unwrap().contains("nobody to write to"));
    }
}
