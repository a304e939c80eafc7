//! `alerts/*.toml`, and the channels that one variable makes.
//!
//! Invariant: every fallback names a channel that is on, and no chain of fallbacks is a circle.

use url::{Host, Url};

use super::problem::Problem;
use super::section::{Names, Reader, Section, split_list};
use super::version::Context;
use crate::alert::channel::{self, ChannelKind, ChannelSettings};
use crate::secret::Secret;
use crate::watch::Severity;

#[derive(Clone, Copy, PartialEq, Eq)]
enum KindChoice {
    Console,
    Slack,
    Webhook,
    Email,
}

/// One alert file.
pub(super) fn read(section: &Section<'_>, name: &str) -> Option<ChannelSettings> {
    let _ = section.flag("enabled");
    let choices = [
        ("slack", KindChoice::Slack),
        ("webhook", KindChoice::Webhook),
        ("email", KindChoice::Email),
        ("console", KindChoice::Console),
    ];
    if !section.has("kind") {
        let instead = "write kind = \"slack\", \"webhook\", \"email\" or \"console\"";
        section.problem("kind", "this file does not say what kind of channel it is", instead);
    }
    let kind = section.choice("kind", &choices);
    let severities = [
        ("info", Severity::Info),
        ("warning", Severity::Warning),
        ("critical", Severity::Critical),
    ];
    let severity = section.choice("severity", &severities).unwrap_or(Severity::Warning);
    let fallback = section.text("fallback");
    let kind = match kind? {
        KindChoice::Console => Some(ChannelKind::Console),
        KindChoice::Slack => slack(section),
        KindChoice::Webhook => webhook(section),
        KindChoice::Email => email(section),
    };
    let settings = ChannelSettings { name: name.to_owned(), severity, fallback, kind: kind? };
    check_adapter(section, &settings);
    Some(settings)
}

/// What only the adapter knows: the form of a signing secret, what a mail address may be. Asked
/// last, and only where nothing else was found, since it mostly finds the same.
fn check_adapter(section: &Section<'_>, settings: &ChannelSettings) {
    if section.names() == Names::LeftAlone || section.has_problems() {
        return;
    }
    let Err(error) = channel::build(settings) else { return };
    let key = match &settings.kind {
        ChannelKind::Webhook { .. } if error.problem.contains("signing secret") => "signing_secret",
        ChannelKind::Webhook { .. } => "url",
        ChannelKind::Slack { .. } => "webhook_url",
        ChannelKind::Email { .. } => "smtp_url",
        ChannelKind::Console => "kind",
    };
    // The adapter's text says both what is wrong and what to write; the first `;` parts them.
    let (what, instead) = error.problem.split_once("; ").unwrap_or((&error.problem, ""));
    section.problem(key, what, instead);
}

/// The secret that a channel can't do without.
fn needed(section: &Section<'_>, key: &str, variable: &str) -> Option<Secret> {
    let secret = section.secret_or_file(key);
    if secret.is_none() && !section.has(key) && !section.has(&format!("{key}_file")) {
        let instead = format!("write {key} = \"${{{variable}}}\", and {variable}=… into .env");
        section.problem(key, "this is missing", instead);
    }
    secret
}

fn slack(section: &Section<'_>) -> Option<ChannelKind> {
    let webhook_url = needed(section, "webhook_url", "SLACK_WEBHOOK_URL")?;
    let fault = web_fault(&webhook_url).filter(|_| section.names() == Names::Required);
    if let Some(fault) = fault {
        let instead = "take the address that Slack shows under Incoming Webhooks: \
                       https://hooks.slack.com/services/…";
        section.problem("webhook_url", fault, instead);
    }
    Some(ChannelKind::Slack { webhook_url })
}

fn webhook(section: &Section<'_>) -> Option<ChannelKind> {
    let url = needed(section, "url", "ALERT_WEBHOOK_URL");
    let signing_secret = section.secret_or_file("signing_secret");
    let url = url?;
    if let Some(fault) = web_fault(&url).filter(|_| section.names() == Names::Required) {
        section.problem("url", fault, "set it to an address that begins with https://");
    }
    Some(ChannelKind::Webhook { url, signing_secret })
}

fn email(section: &Section<'_>) -> Option<ChannelKind> {
    let smtp_url = needed(section, "smtp_url", "SMTP_URL");
    let from = section.text("from");
    if let Some(from) = from.as_ref().filter(|from| !is_address(from)) {
        let what = format!("\"{from}\" is not an email address");
        section.problem("from", what, "write from = \"lookout@example.com\"");
    }
    let to = section.texts("to");
    let is_unread = to.is_none() && section.has("to");
    let to: Vec<String> = to.iter().flatten().flat_map(|list| split_list(list)).collect();
    if to.is_empty() && !is_unread {
        let instead = "write to = [\"oncall@example.com\"]";
        section.problem("to", "there is no recipient", instead);
    }
    if section.names() == Names::Required {
        for address in to.iter().filter(|address| !is_address(address)) {
            let what = format!("\"{address}\" is not an email address");
            section.problem("to", what, "write to = [\"oncall@example.com\"]");
        }
        if let Some(fault) = smtp_url.as_ref().and_then(smtp_fault) {
            section.problem("smtp_url", fault, SMTP_FORMS);
        }
    }
    Some(ChannelKind::Email { smtp_url: smtp_url?, from, to })
}

const SMTP_FORMS: &str = "set it to smtps://user:password@host:465 (TLS from the start), \
                          smtp://user:password@host:587 (STARTTLS), or \
                          smtp+insecure://127.0.0.1:2525 for a relay on this machine; in user \
                          and password write %40 for @, %2F for /, %3F for ?, %23 for #";

/// What is wrong with a web address, without saying the address.
fn web_fault(url: &Secret) -> Option<&'static str> {
    match Url::parse(url.expose()) {
        Err(_) => Some("its value is not a web address"),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Some("its value does not begin with https://")
        }
        Ok(_) => None,
    }
}

/// What is wrong with an SMTP address, without saying it.
fn smtp_fault(url: &Secret) -> Option<&'static str> {
    let Ok(url) = Url::parse(url.expose()) else {
        return Some("its value is not the address of a mail server");
    };
    if !url.has_host() {
        return Some("its value names no host");
    }
    // A password with `/`, `?` or `#` in it ends the host too early; nothing may follow the port.
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Some("its value goes on after host and port");
    }
    match (url.scheme(), url.port()) {
        ("smtp", Some(465)) => Some("port 465 speaks TLS from the start, and smtp:// does not"),
        ("smtps", Some(25 | 587)) => {
            Some("ports 25 and 587 begin without TLS, and smtps:// begins with it")
        }
        ("smtp" | "smtps", _) => None,
        ("smtp+insecure", _) if is_loopback(&url) => None,
        ("smtp+insecure", _) => {
            Some("its value sends passwords and mails unencrypted over a network")
        }
        _ => Some("its value does not begin with smtp:// or smtps://"),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // Schemes that `url` does not know keep addresses as names.
        Some(Host::Domain(name)) => {
            name == "localhost"
                || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Enough to catch a slip: the mail server has the last word.
fn is_address(text: &str) -> bool {
    let address = text.rsplit_once('<').map_or(text, |(_, rest)| rest.trim_end_matches('>'));
    address.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && !host.is_empty() && !address.contains(char::is_whitespace)
    })
}

/// Names of the channels that a variable makes.
pub(super) const BY_VARIABLE: [&str; 3] = ["slack", "webhook", "email"];

/// Reads one kind of channel from the variables.
type Maker = fn(&Reader<'_>) -> Option<ChannelKind>;

/// Channels made by their variable alone, unless a file uses the variable or has the name; and what is
/// wrong with those that can't be used.
pub(super) fn by_variable(
    context: &Context<'_>,
    uses: impl Fn(&str) -> bool,
    is_taken: impl Fn(&str) -> bool,
) -> (Vec<ChannelSettings>, Vec<Problem>) {
    let mut channels = Vec::new();
    let mut problems = Vec::new();
    let is_free = |variable: &str, name: &str| {
        context.variables.get(variable).is_some() && !uses(variable) && !is_taken(name)
    };
    let [slack, webhook, email] = BY_VARIABLE;
    let makers: [(&str, &str, Maker); 3] = [
        ("SLACK_WEBHOOK_URL", slack, slack_by_variable),
        ("ALERT_WEBHOOK_URL", webhook, webhook_by_variable),
        ("ALERT_EMAIL_TO", email, email_by_variable),
    ];
    for (variable, name, make) in makers {
        if !is_free(variable, name) {
            continue;
        }
        let reader = context.reader();
        let settings = make(&reader).map(|kind| ChannelSettings {
            name: name.to_owned(),
            severity: Severity::Warning,
            fallback: None,
            kind,
        });
        if let Some(settings) = &settings {
            check_adapter_of_variable(&reader, settings);
        }
        let wrong = reader.into_problems();
        channels.extend(settings.filter(|_| wrong.is_empty()));
        problems.extend(wrong);
    }
    (channels, problems)
}

fn slack_by_variable(reader: &Reader<'_>) -> Option<ChannelKind> {
    let name = "SLACK_WEBHOOK_URL";
    let webhook_url = Secret::new(reader.variables.get(name)?);
    if let Some(fault) = web_fault(&webhook_url) {
        let instead = "take the address that Slack shows under Incoming Webhooks";
        reader.problem(reader.variables.place(name), name, fault, instead);
    }
    Some(ChannelKind::Slack { webhook_url })
}

fn webhook_by_variable(reader: &Reader<'_>) -> Option<ChannelKind> {
    let name = "ALERT_WEBHOOK_URL";
    let url = Secret::new(reader.variables.get(name)?);
    if let Some(fault) = web_fault(&url) {
        let instead = "set it to an address that begins with https://";
        reader.problem(reader.variables.place(name), name, fault, instead);
    }
    let signing_secret = reader.variables.get("ALERT_WEBHOOK_SECRET").map(Secret::new);
    Some(ChannelKind::Webhook { url, signing_secret })
}

fn email_by_variable(reader: &Reader<'_>) -> Option<ChannelKind> {
    let variables = reader.variables;
    let to = split_list(variables.get("ALERT_EMAIL_TO")?);
    for address in to.iter().filter(|address| !is_address(address)) {
        let what = format!("\"{address}\" is not an email address");
        let place = variables.place("ALERT_EMAIL_TO");
        reader.problem(place, "ALERT_EMAIL_TO", what, "write oncall@example.com");
    }
    let Some(smtp_url) = variables.get("SMTP_URL").map(Secret::new) else {
        reader.problem(
            variables.place("ALERT_EMAIL_TO"),
            "SMTP_URL",
            "ALERT_EMAIL_TO is set, but there is not the address of a mail server to send through",
            format!("put SMTP_URL into .env: {SMTP_FORMS}"),
        );
        return None;
    };
    if let Some(fault) = smtp_fault(&smtp_url) {
        reader.problem(variables.place("SMTP_URL"), "SMTP_URL", fault, SMTP_FORMS);
    }
    let from = variables.get("ALERT_EMAIL_FROM").map(str::to_owned);
    (!to.is_empty()).then_some(ChannelKind::Email { smtp_url, from, to })
}

/// Asked last, and only where nothing else was found, since it mostly finds the same.
fn check_adapter_of_variable(reader: &Reader<'_>, settings: &ChannelSettings) {
    let variable = match &settings.kind {
        ChannelKind::Slack { .. } => "SLACK_WEBHOOK_URL",
        ChannelKind::Webhook { signing_secret: Some(_), .. } => "ALERT_WEBHOOK_SECRET",
        ChannelKind::Webhook { signing_secret: None, .. } => "ALERT_WEBHOOK_URL",
        ChannelKind::Email { .. } => "SMTP_URL",
        ChannelKind::Console => return,
    };
    if !reader.problems.borrow().is_empty() {
        return;
    }
    let Err(error) = channel::build(settings) else { return };
    let (what, instead) = error.problem.split_once("; ").unwrap_or((&error.problem, ""));
    reader.problem(reader.variables.place(variable), variable, what, instead);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_servers_are_encrypted_or_on_this_machine() {
        for (url, good) in [
            ("smtps://u:p@mail.example:465", true),
            ("smtp://mail.example:587", true),
            ("smtp+insecure://127.0.0.1:2525", true),
            ("smtp+insecure://localhost:2525", true),
            ("smtp+insecure://mail.example:25", false),
            ("smtp://u:p@[::1]:2525", true),
            ("smtps://u:p@mail.example:465/", true),
            ("smtps://alerts:2024/Xy9@mail.example:465", false),
            ("smtps://u:p@mail.example:465/foo", false),
            ("smtps://u:p@mail.example:465?x=1", false),
            ("smtps://u:12#34@mail.example:465", false),
            ("smtp://u:p@mail.example:465", false),
            ("smtps://u:p@mail.example:587", false),
            ("https://mail.example", false),
            ("mail.example:587", false),
            ("smtp://", false),
        ] {
            assert_eq!(smtp_fault(&Secret::new(url)).is_none(), good, "{url}");
        }
    }

    #[test]
    fn slips_in_mail_addresses_are_seen() {
        for (text, good) in [
            ("a@b.example", true),
            ("On Call <a@b.example>", true),
            ("a.b.example", false),
            ("@b", false),
            ("a@", false),
        ] {
            assert_eq!(is_address(text), good, "{text}");
        }
    }
}
