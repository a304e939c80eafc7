//! What an answer that is no success means, and what a person can do about it.
//!
//! `PostgREST` says `{code,message,details,hint}`; Supabase's gateway says `{message}` or HTML.
//! Invariant: a text made here names what was asked (the table), never a key or an address.

use serde::Deserialize;

use crate::review::record::RecordError;

/// Longer texts of others are cut.
const MAX_TEXT: usize = 300;

/// The body of an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    code: Option<String>,
    message: Option<String>,
    details: Option<serde_json::Value>,
    hint: Option<String>,
}

/// Whether to try again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) error: RecordError,
    /// The request was not carried out for certain; it may be sent again as it is.
    pub(super) untouched: bool,
}

/// What went wrong with a request about this table.
pub(super) fn problem(status: u16, body: &[u8], table: &str) -> Problem {
    let text = String::from_utf8_lossy(body);
    let parsed: Body = serde_json::from_slice(body).unwrap_or_default();
    let code = parsed.code.clone().unwrap_or_default();
    let said = said(&parsed, &text);
    let about = |what: String| format!("{what} (the answer was {status} {code}: {said})");
    let error = match (status, code.as_str()) {
        (_, "42P01" | "PGRST205") | (404, _) => RecordError::Misconfigured(about(format!(
            "there is no table \"{table}\"; check [records] table, set [records] schema if it is \
             in another schema than public, and check that SUPABASE_URL is the project's address"
        ))),
        (_, "PGRST204" | "42703") => RecordError::Misconfigured(about(format!(
            "the table \"{table}\" lacks a column; name the table's own columns under \
             [records.columns]"
        ))),
        (_, "22P02") if said.contains("for enum") => RecordError::Misconfigured(about(format!(
            "an enum of \"{table}\" lacks a status: add it with ALTER TYPE … ADD VALUE, or name the \
             table's own words under [records.statuses]"
        ))),
        (_, "57014") => RecordError::Unavailable(about(format!(
            "the database answers, but a query about \"{table}\" took longer than it allows; an \
             index on the status column and created_at makes it quick"
        ))),
        (_, "42804" | "42883") => RecordError::Misconfigured(about(another_type(table))),
        (_, "22P02" | "22007" | "22008") => RecordError::Rejected(about(another_type(table))),
        // PostgreSQL's classes "integrity constraint violation" and what a trigger raises, and "data
        // exception": too long, not in the encoding, out of range.
        (_, code) if code.starts_with("23") || code == "P0001" => {
            RecordError::Rejected(about(format!(
                "a rule of the table \"{table}\" forbids what was to be written; its check must \
                 allow processing, auto_review_success and auto_review_error"
            )))
        }
        (_, code) if code.starts_with("22") => RecordError::Rejected(about(format!(
            "a column of \"{table}\" does not take what was to be written"
        ))),
        (540, _) => RecordError::Refused(about(
            "the Supabase project is paused; open its dashboard and restore it".to_owned(),
        )),
        (402, _) => RecordError::Refused(about(
            "Supabase refuses the project, for its bill or its limits; see its dashboard"
                .to_owned(),
        )),
        (401 | 403, _) | (_, "42501" | "PGRST301" | "PGRST302" | "PGRST303") => {
            RecordError::Refused(about(refused(&code, &said, table)))
        }
        (300..=399, _) => RecordError::Misconfigured(about(
            "the address redirects elsewhere; set SUPABASE_URL to https://PROJECT.supabase.co"
                .to_owned(),
        )),
        (408 | 429 | 500..=599, _)
        | (_, "PGRST000" | "PGRST001" | "PGRST002" | "PGRST003" | "53300" | "40001") => {
            RecordError::Unavailable(about("the records can't be reached now".to_owned()))
        }
        _ => RecordError::Misconfigured(about(format!(
            "a request about the table \"{table}\" was not understood; check [records], and report \
             it if that is right"
        ))),
    };
    // PGRST000..003: no connection to the database was had; 40001, 53300: rolled back.
    let untouched = matches!(status, 429)
        || matches!(
            code.as_str(),
            "PGRST000" | "PGRST001" | "PGRST002" | "PGRST003" | "53300" | "40001" | "57014"
        );
    Problem { error, untouched }
}

fn another_type(table: &str) -> String {
    format!("a column of \"{table}\" has another type than expected; check [records.columns]")
}

/// Why the key was refused.
fn refused(code: &str, said: &str, table: &str) -> String {
    let lower = said.to_lowercase();
    if lower.contains("row-level security") {
        format!(
            "row-level security of \"{table}\" forbids this key to write; use the project's secret \
             key (or the service_role key), or add a policy"
        )
    } else if lower.contains("permission denied") {
        format!(
            "this key has no permission for \"{table}\"; use the project's secret key (or the \
             service_role key), and run GRANT SELECT, UPDATE ON {table} TO service_role: since \
             October 2026 new tables of Supabase can't be reached without it"
        )
    } else if lower.contains("no api key") {
        "no key arrived; set SUPABASE_KEY".to_owned()
    } else if lower.contains("legacy") || lower.contains("disabled") {
        "this key is retired; make a secret key in the project's dashboard (Settings, API keys) \
         and set SUPABASE_KEY to it"
            .to_owned()
    } else if lower.contains("expired") || code == "PGRST303" {
        "this key has expired; set SUPABASE_KEY to a new one".to_owned()
    } else {
        "the key is not accepted; check that SUPABASE_KEY belongs to the project of SUPABASE_URL"
            .to_owned()
    }
}

/// The server's words on one line.
fn said(parsed: &Body, text: &str) -> String {
    let mut said = match &parsed.message {
        Some(message) => message.clone(),
        None if text.trim_start().starts_with('<') => "an HTML page".to_owned(),
        None if text.trim().is_empty() => "no text".to_owned(),
        None => text.to_string(),
    };
    let details = match &parsed.details {
        Some(serde_json::Value::String(details)) => Some(details.as_str()),
        Some(_) | None => None,
    };
    for more in [details, parsed.hint.as_deref()].into_iter().flatten() {
        said.push_str("; ");
        said.push_str(more);
    }
    said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> RecordError {
        problem(status, body.as_bytes(), "midbot_images").error
    }

    #[test]
    fn a_missing_grant_and_a_slow_query_are_named() {
        let denied = of(403, r#"{"code":"42501","message":"permission denied for table t"}"#);
        assert!(matches!(denied, RecordError::Refused(_)), "{denied:?}");
        assert!(denied.to_string().contains("GRANT SELECT"), "{denied}");
        let slow = of(500, r#"{"code":"57014","message":"canceling statement"}"#);
        assert!(matches!(slow, RecordError::Unavailable(_)), "{slow:?}");
        assert!(slow.to_string().contains("took longer"), "{slow}");
    }

    #[test]
    fn each_kind_of_error_says_what_to_do() {
        for (status, body, part) in [
            (
                400,
                r#"{"code":"PGRST204","message":"Could not find the 'updated_at' column"}"#,
                "[records.columns]",
            ),
            (400, r#"{"code":"42703","message":"column x does not exist"}"#, "[records.columns]"),
            (404, r#"{"code":"PGRST205","message":"Could not find"}"#, "[records] schema"),
            (
                400,
                r#"{"code":"22P02","message":"invalid input value for enum st: \"processing\""}"#,
                "[records.statuses]",
            ),
            (404, r#"{"code":"42P01","message":"relation does not exist"}"#, "no table"),
            (404, r#"{"code":"PGRST205","message":"Could not find the table"}"#, "no table"),
            (301, "", "https://PROJECT.supabase.co"),
        ] {
            let error = of(status, body);
            assert!(matches!(error, RecordError::Misconfigured(_)), "{body}: {error:?}");
            assert!(error.to_string().contains(part), "{error}");
        }
        for (status, body, part) in [
            (401, r#"{"message":"No API key found in request"}"#, "set SUPABASE_KEY"),
            (
                401,
                r#"{"message":"Invalid API key","hint":"Double check"}"#,
                "belongs to the project",
            ),
            (401, r#"{"message":"Legacy API keys are disabled"}"#, "retired"),
            (401, r#"{"code":"PGRST301","message":"JWT expired"}"#, "expired"),
            (401, r#"{"code":"42501","message":"permission denied for table x"}"#, "secret key"),
            (
                403,
                r#"{"code":"42501","message":"new row violates row-level security policy for table x"}"#,
                "add a policy",
            ),
            (540, "<html>", "paused"),
        ] {
            let error = of(status, body);
            assert!(matches!(error, RecordError::Refused(_)), "{body}: {error:?}");
            assert!(error.to_string().contains(part), "{error}");
        }
        for (status, body, part) in [
            (
                400,
                r#"{"code":"22P02","message":"invalid input syntax for type uuid"}"#,
                "another type",
            ),
            (400, r#"{"code":"23514","message":"violates check constraint"}"#, "check must allow"),
            (400, r#"{"code":"22P05","message":"unsupported Unicode escape"}"#, "does not take"),
            (400, r#"{"code":"22001","message":"value too long"}"#, "does not take"),
            (400, r#"{"code":"P0001","message":"raised by a trigger"}"#, "a rule"),
        ] {
            let error = of(status, body);
            assert!(matches!(error, RecordError::Rejected(_)), "{body}: {error:?}");
            assert!(error.to_string().contains(part), "{error}");
        }
        for (status, body) in [
            (503, r#"{"code":"PGRST000","message":"Could not connect with the database."}"#),
            (504, r#"{"code":"PGRST003","message":"Timed out acquiring connection"}"#),
            (502, "<html>bad gateway</html>"),
            (429, ""),
        ] {
            assert!(matches!(of(status, body), RecordError::Unavailable(_)), "{body}");
        }
    }

    #[test]
    fn only_what_certainly_changed_nothing_may_be_sent_again_blindly() {
        assert!(problem(503, br#"{"code":"PGRST000"}"#, "t").untouched);
        assert!(!problem(502, b"", "t").untouched);
    }
}
