//! One SMTP dialogue, command by command, so that a refusal is known by the stage at which it came.
//!
//! lettre brings the wire (TLS, dot-stuffing, reply parsing); its own `send` stops at the first
//! error and does not say which command it was. What a refusal means is [`refusal`]'s business.
//! Invariant: a dialogue ends within [`LIMIT`]: lettre's own timeout bounds only the TCP connect
//! (lettre/lettre#1027).

use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use url::Url;

use self::refusal::{Stage, classify};
use super::{Arrival, Scope, SendError, TIME_LIMIT};
use crate::secret::Secret;

mod refusal;

/// Greylisting and slow scanners take their time; above this nobody answers.
const LIMIT: Duration = Duration::from_secs(30);

/// Saying goodbye is polite, not necessary.
const GOODBYE: Duration = Duration::from_secs(2);

/// A mail server and how to get in.
#[derive(Clone)]
pub(super) struct Server {
    /// A name, or an address without brackets: resolvers know none.
    host: String,
    port: u16,
    encryption: Encryption,
    credentials: Option<Credentials>,
    /// The user name, if there is one.
    pub(super) login: Option<String>,
}

#[derive(Clone)]
enum Encryption {
    FromTheStart(TlsParameters),
    StartTls(TlsParameters),
    /// To a relay on this machine only.
    None,
}

impl Server {
    /// Reads `smtp://`, `smtps://` or `smtp+insecure://`; connects to nothing. The problem is for
    /// people and never holds the URL, which has a password in it.
    pub(super) fn parse(smtp_url: &Secret) -> Result<Self, String> {
        const FORM: &str = "write smtp://user:password@host:587 (STARTTLS), smtps://user:password@host:465 \
                            or, for a relay on this machine, smtp+insecure://127.0.0.1:25";
        let wrong = |problem: &str| format!("the mail server's address {problem}; {FORM}");
        let url = Url::parse(smtp_url.expose().trim()).map_err(|_| wrong("can't be read"))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("has a ? or # part (in a password write %3F and %23)"));
        }
        let host = url.host_str().filter(|it| !it.is_empty());
        let host = host.ok_or_else(|| wrong("names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        // Built here so that a machine without certificates is told by `check`.
        let tls = || TlsParameters::new(host.clone()).map_err(|_| wrong("can't be used with TLS"));
        // 587 and 465: RFC 8314 §3; 25: a relay's own.
        let (encryption, usual_port) = match url.scheme() {
            "smtp" => (Encryption::StartTls(tls()?), 587),
            "smtps" => (Encryption::FromTheStart(tls()?), 465),
            "smtp+insecure" if !is_loopback(&host) => {
                return Err(wrong("says smtp+insecure but is not on this machine"));
            }
            "smtp+insecure" if url.password().is_some() => {
                return Err(wrong("would send a password unencrypted"));
            }
            "smtp+insecure" => (Encryption::None, 25),
            _ => return Err(wrong("has a scheme we don't know")),
        };
        let login = Some(percent_decoded(url.username())).filter(|it| !it.is_empty());
        let credentials = url.password().map(|password| {
            Credentials::new(login.clone().unwrap_or_default(), percent_decoded(password))
        });
        let port = url.port().unwrap_or(usual_port);
        Ok(Self { host, port, encryption, credentials, login })
    }

    /// Sends one mail to one recipient.
    pub(super) async fn send(
        &self,
        from: &Address,
        to: &Address,
        mail: &[u8],
    ) -> Result<(), SendError> {
        let mut dialogue = Dialogue::default();
        let sent = tokio::time::timeout(LIMIT, dialogue.send(self, from, to, mail)).await;
        dialogue.leave().await;
        sent.unwrap_or_else(|_| {
            Err(SendError::Transient {
                reason: format!("the mail server did not finish within {} s", LIMIT.as_secs()),
                arrival: dialogue.arrival,
            })
        })
    }

    /// Goes as far as a mail would without sending one: login, sender, each recipient, RSET.
    /// Returns the recipients that were refused.
    pub(super) async fn probe<'a>(
        &self,
        from: &Address,
        to: &'a [(String, Address)],
    ) -> Result<Vec<(&'a str, SendError)>, SendError> {
        let mut dialogue = Dialogue::default();
        let probed = tokio::time::timeout(LIMIT, dialogue.probe(self, from, to)).await;
        dialogue.leave().await;
        probed.unwrap_or_else(|_| {
            Err(SendError::Transient {
                reason: format!("the mail server did not answer within {} s", LIMIT.as_secs()),
                arrival: Arrival::No,
            })
        })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// What stands percent-encoded in the user part of a URL.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let pair = tail.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        match pair.and_then(|it| u8::from_str_radix(it, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            Some(_) | None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One connection.
struct Dialogue {
    connection: Option<AsyncSmtpConnection>,
    stage: Stage,
    /// Whether the server has the mail, for all we know.
    arrival: Arrival,
}

impl Default for Dialogue {
    fn default() -> Self {
        Self { connection: None, stage: Stage::Connect, arrival: Arrival::No }
    }
}

impl Dialogue {
    async fn send(
        &mut self,
        server: &Server,
        from: &Address,
        to: &Address,
        mail: &[u8],
    ) -> Result<(), SendError> {
        self.open(server).await?;
        self.sender(from, &[to], mail).await?;
        self.recipient(to).await?;
        self.stage = Stage::Content;
        self.command(Data).await?;
        self.arrival = Arrival::Unknown;
        let connection = self.connection.as_mut();
        let answered = match connection {
            Some(connection) => connection.message(mail).await,
            None => return Ok(()),
        };
        answered.map(|_| ()).map_err(|error| classify(self.stage, self.arrival, &error))
    }

    async fn probe<'a>(
        &mut self,
        server: &Server,
        from: &Address,
        to: &'a [(String, Address)],
    ) -> Result<Vec<(&'a str, SendError)>, SendError> {
        self.open(server).await?;
        self.sender(from, &[], &[]).await?;
        let mut refused = Vec::new();
        for (name, address) in to {
            match self.recipient(address).await {
                Ok(()) => {}
                Err(error @ (SendError::Refused { .. } | SendError::Transient { .. })) => {
                    refused.push((name.as_str(), error));
                }
                Err(error) => return Err(error),
            }
        }
        self.command(Rset).await?;
        Ok(refused)
    }

    async fn open(&mut self, server: &Server) -> Result<(), SendError> {
        let us = ClientId::default();
        let from_the_start = match &server.encryption {
            Encryption::FromTheStart(tls) => Some(tls.clone()),
            Encryption::StartTls(_) | Encryption::None => None,
        };
        let place = (server.host.as_str(), server.port);
        let limit = Some(TIME_LIMIT);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(place, limit, &us, from_the_start, None)
                .await
                .map_err(|error| classify(self.stage, self.arrival, &error))?;
        if let Encryption::StartTls(tls) = &server.encryption {
            let begun = connection.starttls(tls.clone(), &us).await;
            begun.map_err(|error| classify(self.stage, self.arrival, &error))?;
        }
        self.stage = Stage::Login;
        if let Some(credentials) = &server.credentials {
            let entered = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            entered.map_err(|error| classify(self.stage, self.arrival, &error))?;
        }
        self.connection = Some(connection);
        Ok(())
    }

    async fn sender(
        &mut self,
        from: &Address,
        to: &[&Address],
        mail: &[u8],
    ) -> Result<(), SendError> {
        self.stage = Stage::Sender;
        let mut options = Vec::new();
        let is_plain = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        if !is_plain(from) && !self.takes(Extension::SmtpUtfEight) {
            let reason = format!("the mail server takes no sender like {from} (no SMTPUTF8)");
            return Err(SendError::Broken { reason });
        }
        if !is_plain(from) || to.iter().any(|it| !is_plain(it)) {
            // A recipient that the server can't take is said at its own stage.
            if self.takes(Extension::SmtpUtfEight) {
                options.push(MailParameter::SmtpUtfEight);
            }
        }
        if !mail.is_ascii() && self.takes(Extension::EightBitMime) {
            options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        self.command(Mail::new(Some(from.clone()), options)).await.map_err(|error| match error {
            SendError::Broken { reason } => SendError::Broken {
                reason: format!(
                    "{reason} (we write as {from}; set ALERT_EMAIL_FROM, or `from` in the alert \
                     file, to an address that this login may use)"
                ),
            },
            other @ (SendError::Transient { .. }
            | SendError::Throttled { .. }
            | SendError::Doubtful { .. }
            | SendError::Refused { .. }) => other,
        })
    }

    async fn recipient(&mut self, to: &Address) -> Result<(), SendError> {
        self.stage = Stage::Recipient;
        if !AsRef::<str>::as_ref(to).is_ascii() && !self.takes(Extension::SmtpUtfEight) {
            let reason = "the mail server takes only plain letters before the @ (no SMTPUTF8)";
            return Err(SendError::Refused { reason: reason.to_owned(), scope: Scope::Recipient });
        }
        self.command(Rcpt::new(to.clone(), Vec::new())).await
    }

    fn takes(&self, extension: Extension) -> bool {
        self.connection.as_ref().is_some_and(|it| it.server_info().supports_feature(extension))
    }

    async fn command(&mut self, command: impl std::fmt::Display) -> Result<(), SendError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let answered = connection.command(command).await;
        answered.map(|_| ()).map_err(|error| classify(self.stage, self.arrival, &error))
    }

    /// Says goodbye; nothing depends on whether the server hears it.
    async fn leave(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            let _ = tokio::time::timeout(GOODBYE, connection.abort()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_travels_in_the_clear() {
        let problem = |url: &str| Server::parse(&Secret::new(url)).err().unwrap_or_default();
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
    fn an_address_is_taken_apart_as_it_is_meant() {
        for (url, host, port, login) in [
            ("smtp://u:p%40ss@mail.example.org", "mail.example.org", 587, Some("u")),
            (
                "smtps://a%40b.example:p@mail.example.org",
                "mail.example.org",
                465,
                Some("a@b.example"),
            ),
            ("smtps://mail.example.org:1465", "mail.example.org", 1465, None),
            ("smtp+insecure://[::1]:2525", "::1", 2525, None),
            ("smtp://u:p@[2001:db8::1]", "2001:db8::1", 587, Some("u")),
            ("smtp+insecure://127.0.0.1", "127.0.0.1", 25, None),
        ] {
            let server =
                Server::parse(&Secret::new(url)).unwrap_or_else(|it| panic!("{url}: {it}"));
            assert_eq!((server.host.as_str(), server.port), (host, port), "{url}");
            assert_eq!(server.login.as_deref(), login, "{url}");
        }
        assert_eq!(percent_decoded("p%40s%s%2"), "p@s%s%2");
    }
}
