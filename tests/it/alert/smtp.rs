//! Mail over a real socket: whose fault a refusal is depends on the command that was refused.

use std::sync::{Arc, Mutex};

use lookout::alert::channel::{
    Arrival, Channel, ChannelKind, ChannelSettings, Envelope, Scope, SendError, build, email,
};
use lookout::alert::message::{AlreadyNotified, compose};
use lookout::secret::Secret;
use lookout::watch::{IncidentKind, Severity};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::alert::news::{at, opened};

/// What the server says in place of its usual answer: where a command begins like this.
type Script = &'static [(&'static str, &'static str)];

/// A mail server that follows a script, and remembers the commands it was given.
struct MailServer {
    address: std::net::SocketAddr,
    commands: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    async fn start(script: Script) -> Self {
        Self::start_at("127.0.0.1:0", script).await.unwrap()
    }

    async fn start_at(place: &str, script: Script) -> std::io::Result<Self> {
        let listener = TcpListener::bind(place).await?;
        let server = Self { address: listener.local_addr()?, commands: Arc::default() };
        let commands = Arc::clone(&server.commands);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script, Arc::clone(&commands)));
            }
        });
        Ok(server)
    }

    /// A channel that writes to these by it.
    fn channel(&self, to: &[&str]) -> Arc<dyn Channel> {
        let url = Secret::new(format!("smtp+insecure://{}", self.address));
        let to = to.iter().map(|it| (*it).to_owned()).collect();
        let kind = ChannelKind::Email { smtp_url: url, from: Some("l@example.org".into()), to };
        let settings =
            ChannelSettings { name: "mail".into(), severity: Severity::Info, fallback: None, kind };
        build(&settings).unwrap()
    }

    fn was_given(&self, beginning: &str) -> usize {
        self.commands.lock().unwrap().iter().filter(|it| it.starts_with(beginning)).count()
    }
}

async fn serve(stream: tokio::net::TcpStream, script: Script, commands: Arc<Mutex<Vec<String>>>) {
    let answer_to = |command: &str, usual: &'static str| {
        script.iter().find(|(at, _)| command.starts_with(at)).map_or(usual, |(_, said)| said)
    };
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let _ = writer.write_all(answer_to("GREETING", "220 mail.test\r\n").as_bytes()).await;
    let mut in_mail = false;
    while let Ok(Some(line)) = lines.next_line().await {
        let command = if in_mail && line == "." { "CONTENT".to_owned() } else { line };
        if in_mail && command != "CONTENT" {
            continue;
        }
        commands.lock().unwrap().push(command.clone());
        let usual = match command.as_str() {
            "DATA" => "354 go on\r\n",
            _ if command.starts_with("EHLO") => "250-mail.test\r\n250 8BITMIME\r\n",
            _ => "250 fine\r\n",
        };
        let answer = answer_to(&command, usual);
        in_mail = answer.starts_with("354");
        if answer == "CUT" || writer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn send(channel: &Arc<dyn Channel>, to: &str) -> Result<(), SendError> {
    let news = opened(IncidentKind::SignalMissing);
    let message = compose(&news, AlreadyNotified::No(&news), vec![]);
    let envelope = Envelope {
        id: "msg_prod_142_1".into(),
        recipient: to.into(),
        at: at("2026-03-04T05:00:00Z"),
    };
    channel.send(&message, &envelope).await
}

fn class(sent: &Result<(), SendError>) -> &'static str {
    match sent {
        Ok(()) => "accepted",
        Err(SendError::Transient { arrival: Arrival::No, .. }) => "later",
        Err(SendError::Transient { .. }) => "may have arrived",
        Err(SendError::Throttled { .. }) => "channel waits",
        Err(SendError::Doubtful { .. }) => "doubtful",
        Err(SendError::Refused { scope: Scope::Recipient, .. }) => "recipient",
        Err(SendError::Refused { scope: Scope::Message, .. }) => "message",
        Err(SendError::Broken { .. }) => "broken",
    }
}

const TO: &str = "oncall@example.org";

#[tokio::test]
async fn whose_fault_a_refusal_is_depends_on_the_command() {
    let table: &[(Script, &str)] = &[
        (&[], "accepted"),
        (&[("GREETING", "554 no service here\r\n")], "broken"),
        (&[("GREETING", "421 too busy\r\n")], "channel waits"),
        (&[("EHLO", "550 your name is not welcome\r\n")], "broken"),
        (&[("MAIL", "553 5.7.1 sender not allowed\r\n")], "broken"),
        (&[("MAIL", "550 5.4.5 Daily user sending limit exceeded\r\n")], "broken"),
        (&[("MAIL", "451 try later\r\n")], "channel waits"),
        (&[("MAIL", "530 5.7.0 Authentication required\r\n")], "broken"),
        (&[("RCPT", "550 5.1.1 no such user\r\n")], "recipient"),
        (&[("RCPT", "521 does not accept mail\r\n")], "recipient"),
        (&[("RCPT", "450 4.2.0 greylisted\r\n")], "later"),
        (&[("RCPT", "553 5.7.1 <l@x>: Sender address rejected: not owned\r\n")], "broken"),
        (&[("RCPT", "452 4.5.3 Daily message quota exceeded\r\n")], "broken"),
        (&[("DATA", "554 no valid recipients\r\n")], "message"),
        (&[("CONTENT", "554 5.7.1 looks like spam\r\n")], "message"),
        (&[("CONTENT", "550 5.4.5 Daily user sending limit exceeded\r\n")], "broken"),
        (&[("CONTENT", "451 disk full\r\n")], "later"),
        (&[("CONTENT", "CUT")], "may have arrived"),
        (&[("RCPT", "CUT")], "later"),
    ];
    for (script, expected) in table {
        let server = MailServer::start(script).await;
        let sent = send(&server.channel(&[TO]), TO).await;
        assert_eq!(class(&sent), *expected, "{script:?}: {sent:?}");
    }
}

#[tokio::test]
async fn a_refused_sender_is_named_with_what_to_set() {
    let server = MailServer::start(&[("MAIL", "553 not yours\r\n")]).await;
    let error = send(&server.channel(&[TO]), TO).await.unwrap_err().to_string();
    assert!(error.contains("l@example.org") && error.contains("ALERT_EMAIL_FROM"), "{error}");
}

#[tokio::test]
async fn what_is_too_large_goes_again_as_text_once() {
    let server = MailServer::start(&[("CONTENT", "552 too big\r\n")]).await;
    assert_eq!(class(&send(&server.channel(&[TO]), TO).await), "message");
    assert_eq!(server.was_given("DATA"), 2);
}

#[tokio::test]
async fn an_address_beyond_ascii_holds_up_nobody() {
    let server = MailServer::start(&[]).await;
    let to = ["aa@example.org", "jo@müller.example", "jörg@x.example", "zz@example.org"];
    let channel = server.channel(&to);
    assert_eq!(channel.recipients(), to);
    let mut came_to = Vec::new();
    for recipient in to {
        came_to.push(class(&send(&channel, recipient).await));
    }
    assert_eq!(came_to, ["accepted", "accepted", "recipient", "accepted"]);
    assert_eq!(server.was_given("RCPT TO:<jo@xn--mller-kva.example>"), 1);

    let server =
        MailServer::start(&[("EHLO", "250-mail.test\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")]);
    let server = server.await;
    let sent = send(&server.channel(&to), "jörg@x.example").await;
    assert_eq!(class(&sent), "accepted", "{sent:?}");
    assert_eq!(server.was_given("MAIL FROM:<l@example.org> SMTPUTF8"), 1);
}

#[tokio::test]
async fn a_probe_goes_as_far_as_a_mail_and_sends_none() {
    let server = MailServer::start(&[]).await;
    let said = server.channel(&[TO, "b@example.org"]).probe().await.unwrap();
    assert_eq!(said, "the mail server takes the sender l@example.org and all 2 recipients");
    assert_eq!((server.was_given("RCPT"), server.was_given("RSET")), (2, 1));
    assert_eq!(server.was_given("DATA"), 0);

    let script: Script = &[("RCPT TO:<b@", "550 5.1.1 no such user\r\n")];
    let refused = MailServer::start(script).await.channel(&[TO, "b@example.org"]).probe().await;
    let text = refused.as_ref().unwrap_err().to_string();
    assert_eq!(class(&refused.map(drop)), "recipient");
    assert!(text.contains("but not b@example.org") && text.contains("no such user"), "{text}");

    let refused = MailServer::start(&[("MAIL", "553 no\r\n")]).await.channel(&[TO]).probe().await;
    assert_eq!(class(&refused.map(drop)), "broken");
}

#[tokio::test]
async fn a_mail_server_may_be_named_by_its_ipv6_address() {
    let Ok(server) = MailServer::start_at("[::1]:0", &[]).await else {
        eprintln!("this machine has no ::1");
        return;
    };
    assert_eq!(class(&send(&server.channel(&[TO]), TO).await), "accepted");
}

#[test]
fn mails_come_from_the_login_where_that_is_an_address() {
    let url = Secret::new("smtps://alerts%40example.org:p@mail.example.org");
    assert_eq!(email::sender(&url, None).unwrap(), "alerts@example.org");
    assert_eq!(email::sender(&url, Some("ops@example.org")).unwrap(), "ops@example.org");
}
