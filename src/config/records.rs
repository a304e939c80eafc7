//! `[records]` and `[images]`: where rows and pictures are; or `SUPABASE_URL` and `IMAGE_URL`.
//!
//! Invariant: a template has been parsed, and its address is one that can be fetched.

use std::path::Path;

use url::Url;

use super::section::Section;
use crate::review::record::statuses::{Statuses, is_standard};
use crate::review::settings::{Columns, ImageSettings, RecordKind, RecordSettings, S3Keys};
use crate::secret::Secret;

#[derive(Clone, Copy, PartialEq, Eq)]
enum RecordChoice {
    Supabase,
    Sqlite,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ImageChoice {
    Http,
    S3,
    Folder,
}

/// Reads `[records]`.
pub(super) fn read_records(section: Section<'_>, state_dir: &Path) -> RecordSettings {
    let variables = section.reader.variables;
    let choices = [("supabase", RecordChoice::Supabase), ("sqlite", RecordChoice::Sqlite)];
    let kind = section.choice("kind", &choices).unwrap_or(
        if variables.get("SUPABASE_URL").is_some() || section.has("url") {
            RecordChoice::Supabase
        } else {
            RecordChoice::Sqlite
        },
    );
    let kind = match kind {
        RecordChoice::Supabase => supabase(&section),
        RecordChoice::Sqlite => RecordKind::Sqlite {
            path: section.path("path").unwrap_or_else(|| state_dir.join("records.db")),
        },
    };
    let table = section.text("table").unwrap_or_else(|| "midbot_images".to_owned());
    check_name(&section, "table", &table);
    let schema = section.text("schema");
    if let Some(schema) = &schema {
        check_name(&section, "schema", schema);
        if matches!(kind, RecordKind::Sqlite { .. }) {
            let what = "the embedded database has no schemas";
            section.problem(
                "schema",
                what.to_owned(),
                "leave schema out, or use kind = \"supabase\"",
            );
        }
    }
    let columns = columns(section.section("columns"));
    let pick_up = section.texts("pick_up").unwrap_or_else(|| vec!["downloaded".to_owned()]);
    let statuses = statuses(section.section("statuses"));
    check_pick_up(&section, &pick_up, &statuses);
    section.finish();
    RecordSettings { kind, schema, table, columns, statuses, pick_up }
}

fn supabase(section: &Section<'_>) -> RecordKind {
    let variables = section.reader.variables;
    let url = match section.text("url") {
        Some(url) => url,
        None => match variables.get("SUPABASE_URL") {
            Some(url) => url.to_owned(),
            None => {
                section.problem(
                    "url",
                    "the address of the Supabase project is missing",
                    "put SUPABASE_URL=https://PROJECT.supabase.co into .env",
                );
                String::new()
            }
        },
    };
    let url = url.trim_end_matches('/').to_owned();
    if !url.is_empty() && !is_http(&url) {
        let instead = "write https://PROJECT.supabase.co (Project Settings, Data API)";
        if section.has("url") {
            section.problem("url", format!("\"{url}\" is not a web address"), instead);
        } else {
            section.reader.problem(
                variables.place("SUPABASE_URL"),
                "SUPABASE_URL",
                format!("\"{url}\" is not a web address"),
                instead,
            );
        }
    }
    let key = section.secret_or_file("key").or_else(|| {
        let key = variables.get("SUPABASE_KEY").or_else(|| variables.get("SUPABASE_ANON_KEY"));
        if key.is_none() && !section.has("key") && !section.has("key_file") {
            section.reader.problem(
                variables.place("SUPABASE_URL"),
                "SUPABASE_KEY",
                "there is no key for Supabase",
                "put SUPABASE_KEY=… (Project Settings, API keys) into .env",
            );
        }
        key.map(Secret::new)
    });
    RecordKind::Supabase { url, key: key.unwrap_or_else(|| Secret::new("")) }
}

fn columns(section: Section<'_>) -> Columns {
    let defaults = Columns::default();
    let column = |key: &str, default: String| {
        let name = section.text(key).unwrap_or(default);
        check_name(&section, key, &name);
        name
    };
    let columns = Columns {
        id: column("id", defaults.id),
        job_id: column("job_id", defaults.job_id),
        image_index: column("image_index", defaults.image_index),
        review_status: column("review_status", defaults.review_status),
        auto_review_status: column("auto_review_status", defaults.auto_review_status),
        auto_review_details: column("auto_review_details", defaults.auto_review_details),
        created_at: column("created_at", defaults.created_at),
        updated_at: column("updated_at", defaults.updated_at),
        actual_image_url: column("actual_image_url", defaults.actual_image_url),
    };
    section.finish();
    columns
}

/// Names go into request paths and filters, where other letters would need quoting that differs
/// between the places; real tables use these.
fn check_name(section: &Section<'_>, key: &str, name: &str) {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
        let instead = "write the name as it is in the database: letters, digits and underscores";
        section.problem(key, format!("\"{name}\" can't be the name of a table or column"), instead);
    }
}

fn statuses(section: Section<'_>) -> Statuses {
    let defaults = Statuses::default();
    let status = |key: &str, default: String| section.text(key).unwrap_or(default);
    let statuses = Statuses {
        processing: status("processing", defaults.processing),
        success: status("success", defaults.success),
        error: status("error", defaults.error),
        rerun: status("rerun", defaults.rerun),
    };
    let all = statuses.all();
    for (i, (key, ours, word)) in all.into_iter().enumerate() {
        let twin = all[..i].iter().find(|(_, _, other)| *other == word);
        let problem = if word.trim().is_empty() || word.contains(['"', '\n']) {
            Some(format!("\"{word}\" can't be a status"))
        } else if let Some((other, _, _)) = twin {
            Some(format!(
                "\"{word}\" is the status `{other}` already: they could not be told apart"
            ))
        } else if word != ours && is_standard(word) {
            // Older rows, and other programs, mean something else by it.
            Some(format!("\"{word}\" is the usual word for another status"))
        } else {
            None
        };
        if let Some(what) = problem {
            section.problem(key, what, "write the words that your table uses, each once");
        }
    }
    section.finish();
    statuses
}

fn check_pick_up(section: &Section<'_>, pick_up: &[String], statuses: &Statuses) {
    if pick_up.is_empty() || pick_up.iter().any(String::is_empty) {
        let instead = "write pick_up = [\"downloaded\"]";
        section.problem("pick_up", "no status is picked up, so nothing would be reviewed", instead);
    }
    for status in pick_up {
        let Statuses { processing, success, error, rerun } = statuses;
        let is_written_by_us = [processing, success, error].contains(&status);
        if status != rerun && !is_written_by_us && is_standard(status) {
            section.problem(
                "pick_up",
                format!(
                    "\"{status}\" is the usual word for what [records.statuses] calls \"{}\"",
                    statuses.in_table(status)
                ),
                "write that one, or give the waiting images another status",
            );
        }
        if is_written_by_us {
            section.problem(
                "pick_up",
                format!("\"{status}\" is a status that Lookout itself writes: images would be reviewed again and again"),
                "use `lookout rerun` to review such images again",
            );
        }
    }
}

/// Reads `[images]`.
pub(super) fn read_images(section: Section<'_>) -> ImageSettings {
    let variables = section.reader.variables;
    let choices =
        [("http", ImageChoice::Http), ("s3", ImageChoice::S3), ("folder", ImageChoice::Folder)];
    let kind = section.choice("kind", &choices).unwrap_or(if section.has("bucket") {
        ImageChoice::S3
    } else if variables.get("IMAGE_URL").is_some() && !section.has("path") || section.has("url") {
        ImageChoice::Http
    } else {
        ImageChoice::Folder
    });
    let images = match kind {
        ImageChoice::Http => http(&section),
        ImageChoice::S3 => s3(&section),
        ImageChoice::Folder => ImageSettings::Folder {
            path: section.path("path").unwrap_or_else(|| section.reader.root.join("images")),
        },
    };
    section.finish();
    images
}

fn http(section: &Section<'_>) -> ImageSettings {
    const EXAMPLE: &str = "https://BUCKET.s3.REGION.amazonaws.com/{job_id}__{image_index}.jpg";
    let variables = section.reader.variables;
    let report = |what: String| {
        let instead = format!("write for example {EXAMPLE}");
        if section.has("url") || variables.get("IMAGE_URL").is_none() {
            section.problem("url", what, instead);
        } else {
            section.reader.problem(variables.place("IMAGE_URL"), "IMAGE_URL", what, instead);
        }
    };
    let url = section.text("url").or_else(|| variables.get("IMAGE_URL").map(str::to_owned));
    match &url {
        None if section.has("url") => {}
        None => report("the address of the images is missing".to_owned()),
        Some(url) => match filled_in(url) {
            Err(what) => report(what),
            Ok((example, n_names)) => {
                if !is_http(&example) {
                    report(format!("\"{url}\" is not a web address"));
                } else if n_names == 0 {
                    report(format!("\"{url}\" is the same for every image"));
                } else if host_varies(url) {
                    report("the host name must not depend on the image".to_owned());
                }
            }
        },
    }
    let allowed_hosts = section.texts("allowed_hosts").unwrap_or_default();
    ImageSettings::Http { url: url.unwrap_or_default(), allowed_hosts }
}

/// A row must not be able to choose the machine that is called.
fn host_varies(url: &str) -> bool {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    after_scheme.split(['/', '?', '#']).next().is_some_and(|host| host.contains('{'))
}

/// The template with `x` for every name, and how many names it has.
fn filled_in(template: &str) -> Result<(String, usize), String> {
    let mut out = String::new();
    let mut rest = template;
    let mut n_names = 0;
    while let Some(at) = rest.find(['{', '}']) {
        let is_open = rest[at..].starts_with('{');
        let Some(length) = rest[at..].find('}').filter(|_| is_open) else {
            return Err(format!("the braces of \"{template}\" do not match"));
        };
        let name = &rest[at + 1..at + length];
        if !crate::placeholder::is_name(name) {
            return Err(format!("\"{{{name}}}\" is not the name of a column"));
        }
        out.push_str(&rest[..at]);
        out.push('x');
        n_names += 1;
        rest = &rest[at + length + 1..];
    }
    out.push_str(rest);
    Ok((out, n_names))
}

fn s3(section: &Section<'_>) -> ImageSettings {
    let variables = section.reader.variables;
    let bucket = section.text("bucket").unwrap_or_default();
    if bucket.is_empty() {
        section.problem("bucket", "there is no bucket", "write bucket = \"name-of-the-bucket\"");
    }
    let region = section
        .text("region")
        .or_else(|| variables.get("AWS_REGION").map(str::to_owned))
        .or_else(|| variables.get("AWS_DEFAULT_REGION").map(str::to_owned))
        .unwrap_or_else(|| "us-east-1".to_owned());
    let endpoint = section.text("endpoint").map(|url| url.trim_end_matches('/').to_owned());
    if let Some(endpoint) = endpoint.as_ref().filter(|url| !is_http(url)) {
        let instead = "write for example endpoint = \"https://s3.example.com\"";
        section.problem("endpoint", format!("\"{endpoint}\" is not a web address"), instead);
    }
    let key = section.text("key").unwrap_or_else(|| "{job_id}__{image_index}.jpg".to_owned());
    match filled_in(&key) {
        Err(what) => section.problem("key", what, "write key = \"{job_id}__{image_index}.jpg\""),
        Ok((_, 0)) => section.problem(
            "key",
            format!("\"{key}\" is the same for every image"),
            "write key = \"{job_id}__{image_index}.jpg\"",
        ),
        Ok(_) => {}
    }
    let path_style = section.flag("path_style").unwrap_or(false);
    let credentials = s3_keys(section);
    ImageSettings::S3 { bucket, region, endpoint, key, path_style, credentials }
}

/// Keys of the file, else of the usual variables; both halves or neither.
fn s3_keys(section: &Section<'_>) -> Option<S3Keys> {
    let variables = section.reader.variables;
    let id = section.secret_or_file("access_key_id");
    let secret = section.secret_or_file("secret_access_key");
    let token = section.secret_or_file("session_token");
    let in_file = section.has("access_key_id")
        || section.has("secret_access_key")
        || section.has("access_key_id_file")
        || section.has("secret_access_key_file");
    let (id, secret, token) = if in_file {
        (id, secret, token)
    } else {
        let read = |name: &str| variables.get(name).map(Secret::new);
        (read("AWS_ACCESS_KEY_ID"), read("AWS_SECRET_ACCESS_KEY"), read("AWS_SESSION_TOKEN"))
    };
    match (id, secret) {
        (Some(access_key_id), Some(secret_access_key)) => {
            Some(S3Keys { access_key_id, secret_access_key, session_token: token })
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let already_said = in_file
                && section.reader.problems.borrow().iter().any(|p| p.key.ends_with("access_key"));
            if !already_said {
                section.problem(
                    "secret_access_key",
                    "one half of the key pair is missing",
                    "set both access_key_id and secret_access_key, or neither",
                );
            }
            None
        }
    }
}

/// Whether it is an `http` or `https` address with a host.
pub(super) fn is_http(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_checked_with_their_names_filled_in() {
        let (url, n_names) =
            filled_in("https://b.s3.amazonaws.com/{job_id}__{image_index}.jpg").unwrap();
        assert_eq!((url.as_str(), n_names), ("https://b.s3.amazonaws.com/x__x.jpg", 2));
        assert!(filled_in("https://b/{job_id").is_err());
        assert!(filled_in("https://b/job_id}").is_err());
        assert!(filled_in("https://b/{}").is_err());
        assert!(host_varies("https://{job_id}.example.com/a"));
        assert!(!host_varies("https://example.com/{job_id}"));
    }
}
