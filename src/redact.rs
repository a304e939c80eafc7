//! The one redactor: what leaves the process as text goes through it first.
//!
//! It knows the configured secret values and the shapes that secrets of our providers have
//! (`reference`: Google keys, Slack hooks and tokens, JWTs, presigned S3 URLs, userinfo in URLs).
//! Invariant: redacting is idempotent and never makes a text longer than it was by more than the
//! markers it inserts.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use crate::secret::Secret;

/// What stands in a secret's place.
pub const MARK: &str = "[redacted]";

/// Shorter values are too common to be replaced everywhere ("1", "on"); real credentials of every
/// provider we talk to are far longer.
const SHORTEST_SECRET: usize = 8;

/// Words of a name that say its value is a secret.
const SECRET_WORDS: [&str; 21] = [
    "KEY",
    "KEYS",
    "APIKEY",
    "APIKEYS",
    "ACCESSKEY",
    "SECRETKEY",
    "PRIVATEKEY",
    "TOKEN",
    "TOKENS",
    "AUTHTOKEN",
    "ACCESSTOKEN",
    "APITOKEN",
    "SECRET",
    "SECRETS",
    "CREDENTIAL",
    "CREDENTIALS",
    "PASSPHRASE",
    "AUTHORIZATION",
    "BEARER",
    "JWT",
    "COOKIE",
];

/// The same as the last word only: `DB_PASS`, but not `PASS_THROUGH`; `PROXY_AUTH`, but not
/// `AUTH_MODE`. Alone, `PWD` is the working directory and `AUTH` a mode.
const LAST_SECRET_WORDS: [&str; 5] = ["PASS", "PWD", "AUTH", "PRIVATE", "CREDS"];

/// Ends of a word: `PGPASSWORD`, `MYSQLPASSWD`, `CLIENTSECRET`.
const SECRET_ENDS: [&str; 3] = ["PASSWORD", "PASSWD", "SECRET"];

/// Names whose value is an address that is itself the secret.
const SECRET_ADDRESSES: [&str; 3] = ["WEBHOOK", "WEBHOOKS", "DSN"];

/// The same, as the whole end of a name.
const SECRET_URLS: [&str; 4] = ["SMTP_URL", "DATABASE_URL", "REDIS_URL", "AMQP_URL"];

/// Whether a variable or header with this name and value is a secret: by the words of its name, unless
/// the value is plainly something else (a switch, a number, a path, an address without credentials).
#[must_use]
pub fn is_secret(name: &str, value: &str) -> bool {
    let words = words(name);
    let last = words.last().map_or("", String::as_str);
    let has = |known: &[&str]| words.iter().any(|word| known.contains(&word.as_str()));
    let joined = words.join("_");
    if has(&SECRET_ADDRESSES) || SECRET_URLS.iter().any(|end| joined.ends_with(end)) {
        return !is_switch(value) && !is_short_number(value);
    }
    let is_password = words.len() > 1 && LAST_SECRET_WORDS.contains(&last)
        || words.iter().any(|word| SECRET_ENDS.iter().any(|end| word.ends_with(end)));
    if is_password {
        return !is_switch(value) && !is_path(value);
    }
    // What is published is none: `SSH_PUBLIC_KEY`.
    has(&SECRET_WORDS)
        && !has(&["PUBLIC"])
        && !(is_switch(value) || is_short_number(value) || is_path(value) || is_open_address(value))
}

/// `GEMINI_API_KEY`, `X-Api-Key` and `apiKey` have the same words.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = '_';
    for letter in name.chars() {
        let is_start = letter.is_ascii_uppercase() && before.is_ascii_lowercase();
        if !letter.is_ascii_alphanumeric() || is_start {
            words.push(String::new());
        }
        if letter.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(letter.to_ascii_uppercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_switch(value: &str) -> bool {
    let switches = ["", "true", "false", "yes", "no", "on", "off", "none", "null"];
    switches.iter().any(|switch| value.trim().eq_ignore_ascii_case(switch))
}

/// A count, a limit, a port: nobody's key.
fn is_short_number(value: &str) -> bool {
    let value = value.trim();
    value.len() < SHORTEST_SECRET && value.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// A key in base64 may begin with `/`, but it has no dot and no folder that a system has.
fn is_path(value: &str) -> bool {
    const ROOTS: [&str; 14] = [
        "app", "config", "data", "dev", "etc", "home", "mnt", "opt", "root", "run", "secrets",
        "srv", "usr", "var",
    ];
    let value = value.trim();
    if ["./", "../", "~/"].iter().any(|start| value.starts_with(start)) {
        return true;
    }
    let Some(rest) = value.strip_prefix('/') else { return false };
    let is_known = rest.split_once('/').is_some_and(|(root, _)| ROOTS.contains(&root));
    let file = rest.rsplit('/').next().unwrap_or(rest);
    let has_end = file.rsplit_once('.').is_some_and(|(stem, end)| {
        !stem.is_empty() && (1..=5).contains(&end.len()) && end.chars().all(char::is_alphanumeric)
    });
    is_known || has_end
}

/// A web address that holds neither a user nor parameters.
fn is_open_address(value: &str) -> bool {
    let value = value.trim();
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.contains(['@', '?', '#']))
}

/// Shapes of secrets; the first group, if there is one, is kept. Static, so a pattern that does
/// not compile is found by the first test that redacts anything.
static SHAPES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"(https://hooks\.slack\.com/(?:services|workflows|triggers)/)[A-Za-z0-9/_-]+",
        r"()\bxox[a-z]-[A-Za-z0-9-]{8,}",
        r"()\bwhsec_[A-Za-z0-9+/=]{16,}",
        r"()\bAIza[0-9A-Za-z_-]{20,}",
        r"()\bAQ\.[0-9A-Za-z_-]{16,}",
        r"()\bsb_(?:secret|publishable)_[0-9A-Za-z_-]{8,}",
        r"()\beyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]*",
        r"(?i)(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\x22']+",
        r"(?i)([?&](?:key|api_key|apikey|access_token|token)=)[^&\s\x22']+",
        r"(?i)(\bauthorization\s*[:=]\s*\x22?(?:bearer |basic )?)[^\s\x22',]+",
        r"(?i)(\b(?:x-goog-api-key|apikey)\s*[:=]\s*\x22?)[^\s\x22',]+",
        r"(api_key:)[0-9A-Za-z_.-]+",
        r"([a-z][a-z0-9+.-]*://)[^/\s:@\x22']+:[^/\s@\x22']+@",
    ]
    .iter()
    .filter_map(|shape| Regex::new(shape).ok())
    .collect()
});

/// Replaces secrets in text.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    values: Vec<Secret>,
}

impl Redactor {
    /// A redactor that knows these values besides the shapes.
    pub fn new(values: impl IntoIterator<Item = Secret>) -> Self {
        let mut values: Vec<Secret> =
            values.into_iter().filter(|v| v.expose().len() >= SHORTEST_SECRET).collect();
        // Longest first: a secret that contains another must not leave its rest behind.
        values.sort_by_key(|v| std::cmp::Reverse(v.expose().len()));
        values.dedup();
        Self { values }
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self::new(self.values.into_iter().chain(other.values))
    }

    /// Takes the values of all variables whose name says they are secret; a list separated by
    /// commas counts as its parts, too.
    pub fn from_environment<'a>(vars: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let secrets = vars.into_iter().filter(|(name, value)| is_secret(name, value)).flat_map(
            |(_, value)| value.split(',').map(str::trim).chain([value.trim()]).map(Secret::new),
        );
        Self::new(secrets)
    }

    /// The text without secrets.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = Cow::Borrowed(text);
        for value in &self.values {
            if out.contains(value.expose()) {
                out = Cow::Owned(out.replace(value.expose(), MARK));
            }
        }
        for shape in SHAPES.iter() {
            if shape.is_match(&out) {
                let replacement = if shape.as_str().starts_with(r"([a-z]") {
                    format!("${{1}}{MARK}@")
                } else {
                    format!("${{1}}{MARK}")
                };
                out = Cow::Owned(shape.replace_all(&out, replacement.as_str()).into_owned());
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_secret_by_the_words_of_their_names() {
        let value = "a-value-long-enough-to-hide";
        for name in [
            "API_KEY",
            "GEMINI_API_KEY",
            "apiKey",
            "X-Api-Key",
            "OPENAI_APIKEY",
            "DB_PASS",
            "MYSQL_PWD",
            "PGPASSWORD",
            "DB_PASSWORD_2",
            "CLIENT_SECRET",
            "CLIENTSECRET",
            "PROXY_AUTH",
            "SENTRY_DSN",
            "DSN",
            "GITHUB_TOKEN",
            "TOKEN",
            "SLACK_WEBHOOK_URL",
            "SMTP_URL",
            "APP_DATABASE_URL",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_CREDENTIALS",
            "Authorization",
            "SSH_PASSPHRASE",
            "Cookie",
        ] {
            assert!(is_secret(name, value), "{name}");
        }
        for name in [
            "PWD",
            "COMPASS_URL",
            "GIT_AUTHOR_NAME",
            "SSH_AUTH_SOCK",
            "HOME",
            "KEYSPACE",
            "MONKEY",
            "KEYBOARD",
            "KEYCLOAK_REALM",
            "TOKENIZERS_PARALLELISM",
            "TOKENIZER",
            "SECRETARY",
            "PASS_THROUGH",
            "AUTH_MODE",
            "AUTHOR",
            "SSH_PUBLIC_KEY",
            "Accept",
            "Content-Type",
        ] {
            assert!(!is_secret(name, value), "{name}");
        }
    }

    #[test]
    fn a_value_that_is_plainly_something_else_is_no_secret() {
        for (name, value) in [
            ("GOOGLE_APPLICATION_CREDENTIALS", "/srv/key.json"),
            ("TLS_KEY", "/etc/ssl/private/lookout"),
            ("TLS_KEY", "./tls.key"),
            ("DB_PASSWORD", "/run/secrets/db-password"),
            ("TOKEN_URL", "https://id.example.org/oauth/token"),
            ("USE_TOKEN", "True"),
            ("MAX_TOKENS", "4096"),
            ("API_KEY", ""),
        ] {
            assert!(!is_secret(name, value), "{name}={value}");
        }
        for (name, value) in [
            // Base64 that looks like a path, and addresses that are or hold the secret.
            ("AWS_SECRET_ACCESS_KEY", "/wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            ("TOKEN_URL", "https://me:hunter22@id.example.org/token"),
            ("TOKEN_URL", "https://id.example.org/token?sig=abc"),
            ("SLACK_WEBHOOK_URL", "https://hooks.example.org/services/T0"),
            ("DB_PASSWORD", "12345"),
        ] {
            assert!(is_secret(name, value), "{name}={value}");
        }
        let redactor = Redactor::from_environment([("KEYSPACE", "production")]);
        assert_eq!(redactor.redact("fatal: production is down"), "fatal: production is down");
    }

    #[test]
    fn shapes_of_secrets_are_hidden_without_being_configured() {
        let redactor = Redactor::default();
        let fake_google = format!("AIza{}", "x".repeat(35));
        for (text, hidden) in [
            ("post https://hooks.slack.com/services/T0/B0/abc failed", "T0/B0/abc"),
            ("got eyJhbGciOiJIUzI1.eyJyb2xlIjoic2Vydmlj.c2ln done", "eyJyb2xlIjoic2Vydmlj"),
            ("GET /x?key=abcdef123&b=1", "abcdef123"),
            ("a?X-Amz-Signature=deadbeef&X-Amz-Credential=AK/1", "deadbeef"),
            ("smtps://user:hunter22@mail.example:465", "hunter22"),
            ("Authorization: Bearer abc.def", "abc.def"),
            (fake_google.as_str(), "xxxx"),
        ] {
            let redacted = redactor.redact(text);
            assert!(!redacted.contains(hidden), "{redacted}");
            assert!(redacted.contains(MARK), "{redacted}");
            assert_eq!(redactor.redact(&redacted), redacted, "not idempotent");
        }
        assert_eq!(redactor.redact("smtps://u:p@h:465"), "smtps://[redacted]@h:465");
    }

    #[test]
    fn configured_values_are_hidden_wherever_they_stand() {
        let redactor = Redactor::from_environment([
            ("GEMINI_API_KEY", "first-fake-key,second-fake-key"),
            ("HOME", "/home/somebody"),
        ]);
        assert_eq!(
            redactor.redact("tried second-fake-key in /home/somebody"),
            "tried [redacted] in /home/somebody"
        );
    }

    #[test]
    fn every_shape_compiles() {
        assert_eq!(SHAPES.len(), 13);
    }
}
