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

/// Part of an environment variable's name that says its value is a secret.
const SECRET_NAMES: [&str; 9] = [
    "KEY",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "WEBHOOK",
    "CREDENTIAL",
    "SMTP_URL",
    "DATABASE_URL",
];

/// The same as a whole word of the name, the last one: `DB_PASS`, but not `COMPASS_URL`;
/// `MYSQL_PWD`, but not `PWD`, the working directory.
const LAST_SECRET_WORDS: [&str; 6] = ["PASS", "PWD", "AUTH", "PRIVATE", "DSN", "CREDS"];

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
        || name.rsplit_once('_').is_some_and(|(_, last)| LAST_SECRET_WORDS.contains(&last))
        || name == "DSN"
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
        let secrets =
            vars.into_iter().filter(|(name, _)| is_secret_name(name)).flat_map(|(_, value)| {
                value.split(',').map(str::trim).chain([value.trim()]).map(Secret::new)
            });
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
    fn variables_are_secret_by_their_names() {
        let secret = ["API_KEY", "DB_PASS", "MYSQL_PWD", "PROXY_AUTH", "SENTRY_DSN", "DSN"];
        let open = ["PWD", "COMPASS_URL", "GIT_AUTHOR_NAME", "SSH_AUTH_SOCK", "HOME"];
        assert!(secret.iter().all(|name| is_secret_name(name)));
        assert!(!open.iter().any(|name| is_secret_name(name)));
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
