//! Requests as data: the one file that knows the `postgrest` crate.
//!
//! The crate only *builds*; its HTTP stack (an old one) never opens a connection. `transport.rs`
//! sends what stands here. Values go in quoted: the crate does not quote, and an unquoted `a,b`
//! would match another row.
//! Invariant: a request that changes rows has neither `limit` nor `order` nor `or=`: with them
//! `PostgREST` changes rows that it does not return, or more than were asked for.

use chrono::{DateTime, SecondsFormat, Utc};
use postgrest::{Builder, Postgrest};

use crate::review::record::statuses::Statuses;
use crate::review::record::{Cursor, RecordId};
use crate::review::settings::Columns;

mod selection;

/// How a request is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// The methods that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Patch,
}

/// Builds requests for one table.
#[derive(Clone)]
pub(super) struct Table {
    rest: Postgrest,
    name: String,
    columns: Columns,
    statuses: Statuses,
}

/// Which rows a write may change: still ours, as the claim left them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fence<'a> {
    pub(super) id: &'a RecordId,
    pub(super) status: &'a str,
    pub(super) updated_at: DateTime<Utc>,
}

/// A time as the database keeps it: microseconds.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, false)
}

/// A value inside a list or a logical expression.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Table {
    pub(super) fn new(rest_url: &str, name: &str, columns: Columns) -> Self {
        Self {
            rest: Postgrest::new(rest_url),
            name: name.to_owned(),
            columns,
            statuses: Statuses::default(),
        }
    }

    /// With words of its own for the standard statuses.
    pub(super) fn with_statuses(self, statuses: &Statuses) -> Self {
        Self { statuses: statuses.clone(), ..self }
    }

    fn all(&self) -> Builder {
        // `*`, since a table may lack the optional column and the template may need any other.
        self.rest.from(&self.name).select("*")
    }

    /// A page of rows with one of these statuses, oldest first, after the cursor.
    pub(super) fn page(&self, statuses: &[String], after: Option<&Cursor>, limit: u32) -> Request {
        let column = &self.columns.review_status;
        let query = self.all().in_(column, self.words(statuses));
        self.paged(query, after, limit)
    }

    /// A page of what is asked for, oldest first, after the cursor.
    fn paged(&self, mut query: Builder, after: Option<&Cursor>, limit: u32) -> Request {
        let (created, id) = (&self.columns.created_at, &self.columns.id);
        match after {
            None => {}
            Some(Cursor { created_at: Some(at), id: last }) => {
                let (at, last) = (quoted(&time(*at)), quoted(&last.0));
                query = query.or(format!(
                    "{created}.gt.{at},and({created}.eq.{at},{id}.gt.{last}),{created}.is.null"
                ));
            }
            Some(Cursor { created_at: None, id: last }) => {
                query = query.is(created, "null").gt(id, &last.0);
            }
        }
        let order = format!("{created}.asc.nullslast,{id}.asc");
        // The crate panics at 0.
        let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
        finish(query.order(order).limit(limit), Method::Get)
    }

    /// How many rows have one of these statuses; the answer is in a header.
    pub(super) fn count(&self, statuses: &[String], method: Method) -> Request {
        let column = &self.columns.review_status;
        let query = self.rest.from(&self.name).select(&self.columns.id);
        finish(query.in_(column, self.words(statuses)).exact_count(), method)
    }

    /// How many rows the key can see at all.
    pub(super) fn count_all(&self) -> Request {
        finish(self.rest.from(&self.name).select(&self.columns.id).exact_count(), Method::Get)
    }

    /// No rows, but an error if one of the columns is missing.
    pub(super) fn probe(&self, columns: &[&str]) -> Request {
        let query = self.rest.from(&self.name).select(columns.join(",")).limit(1);
        finish(query, Method::Get)
    }

    /// One row.
    pub(super) fn get(&self, id: &RecordId) -> Request {
        finish(self.all().eq(&self.columns.id, &id.0), Method::Get)
    }

    /// Those of the rows that have this status, whichever process holds them.
    pub(super) fn with_status(&self, ids: &[RecordId], status: &str) -> Request {
        let status = self.statuses.in_table(status);
        finish(self.of(self.all(), ids).eq(&self.columns.review_status, status), Method::Get)
    }

    /// Those of the rows that a claim at this time has taken.
    pub(super) fn taken(&self, ids: &[RecordId], status: &str, at: DateTime<Utc>) -> Request {
        let status = self.statuses.in_table(status);
        let query = self.of(self.all(), ids).eq(&self.columns.review_status, status);
        finish(query.eq(&self.columns.updated_at, time(at)), Method::Get)
    }

    /// Takes those of the rows that still have the status `from`.
    pub(super) fn claim(
        &self,
        ids: &[RecordId],
        from: &str,
        to: &str,
        at: DateTime<Utc>,
    ) -> Request {
        let c = &self.columns;
        let (from, to) = (self.statuses.in_table(from), self.statuses.in_table(to));
        let body = object(&[(&c.review_status, to), (&c.updated_at, &time(at))]);
        let query = self.of(self.all(), ids).eq(&c.review_status, from);
        finish(query.update(body), Method::Patch)
    }

    /// Changes one row, if the fence holds.
    pub(super) fn fenced(&self, fence: Fence<'_>, values: &[(&String, &str)]) -> Request {
        let c = &self.columns;
        let query = self
            .rest
            .from(&self.name)
            .select(&c.id)
            .eq(&c.id, &fence.id.0)
            .eq(&c.review_status, self.statuses.in_table(fence.status))
            .eq(&c.updated_at, time(fence.updated_at));
        finish(query.update(object(values)), Method::Patch)
    }

    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    pub(super) fn statuses(&self) -> &Statuses {
        &self.statuses
    }

    /// The table's words for statuses, as they stand in a list.
    fn words(&self, statuses: &[String]) -> impl Iterator<Item = String> {
        self.statuses.all_in_table(statuses).into_iter().map(|word| quoted(&word))
    }

    fn of(&self, query: Builder, ids: &[RecordId]) -> Builder {
        query.in_(&self.columns.id, ids.iter().map(|id| quoted(&id.0)))
    }
}

fn object(values: &[(&String, &str)]) -> String {
    values
        .iter()
        .map(|(name, value)| ((*name).clone(), serde_json::Value::from(*value)))
        .collect::<serde_json::Map<_, _>>()
        .into_iter()
        .collect::<serde_json::Value>()
        .to_string()
}

/// Takes the crate's request apart. What its builder can't make has no address; sending that
/// fails with a message, like any other wrong address.
fn finish(query: Builder, method: Method) -> Request {
    match query.build().build() {
        Ok(built) => Request {
            method,
            url: built.url().to_string(),
            headers: built
                .headers()
                .iter()
                .filter_map(|(name, value)| {
                    Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
                })
                .collect(),
            body: built.body().and_then(|body| body.as_bytes()).unwrap_or_default().to_vec(),
        },
        Err(_) => Request { method, url: String::new(), headers: Vec::new(), body: Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone as _;

    fn table() -> Table {
        Table::new("http://db.invalid/rest/v1", "midbot_images", Columns::default())
    }

    fn query_of(request: &Request) -> Vec<(String, String)> {
        let url = url::Url::parse(&request.url).unwrap();
        url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect()
    }

    fn header<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
        request.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    fn at() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 22, 10, 0, 0).unwrap()
            + chrono::TimeDelta::nanoseconds(1_999)
    }

    #[test]
    fn a_claim_has_plain_filters_only_and_asks_for_the_rows() {
        let ids = [RecordId("a,b".into()), RecordId("say \"x\\\"".into())];
        let request = table().claim(&ids, "downloaded", "processing", at());
        assert_eq!(request.method, Method::Patch);
        let query = query_of(&request);
        let names: Vec<&str> = query.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["select", "id", "review_status"], "no or=, no limit, no order");
        assert_eq!(query[1].1, r#"in.("a,b","say \"x\\\"")"#);
        assert_eq!(query[2].1, "eq.downloaded");
        assert_eq!(header(&request, "prefer"), Some("return=representation"));
        assert_eq!(header(&request, "range"), None);
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"review_status": "processing",
                "updated_at": "2026-11-22T10:00:00.000001+00:00"})
        );
    }

    #[test]
    fn a_page_goes_on_after_the_last_row_and_does_not_forget_rows_without_a_date() {
        let statuses = ["downloaded".to_owned(), "added".to_owned()];
        let after = Cursor { created_at: Some(at()), id: RecordId("7".into()) };
        let request = table().page(&statuses, Some(&after), 50);
        let query = query_of(&request);
        assert!(query.contains(&("review_status".into(), r#"in.("downloaded","added")"#.into())));
        assert!(query.contains(&("order".into(), "created_at.asc.nullslast,id.asc".into())));
        let or = &query.iter().find(|(name, _)| name == "or").unwrap().1;
        let date = "\"2026-11-22T10:00:00.000001+00:00\"";
        assert_eq!(
            *or,
            format!(
                "(created_at.gt.{date},and(created_at.eq.{date},id.gt.\"7\"),created_at.is.null)"
            )
        );
        assert_eq!(header(&request, "range"), Some("0-49"));
        let after = Cursor { created_at: None, id: RecordId("7".into()) };
        let query = query_of(&table().page(&statuses, Some(&after), 50));
        assert!(query.contains(&("created_at".into(), "is.null".into())));
        assert!(query.contains(&("id".into(), "gt.7".into())));
    }

    #[test]
    fn a_later_write_is_fenced_by_status_and_time() {
        let id = RecordId("7".into());
        let fence = Fence { id: &id, status: "processing", updated_at: at() };
        let status = "review_status".to_owned();
        let request = table().fenced(fence, &[(&status, "downloaded")]);
        let query = query_of(&request);
        assert!(query.contains(&("id".into(), "eq.7".into())));
        assert!(query.contains(&("review_status".into(), "eq.processing".into())));
        let fence = ("updated_at".into(), "eq.2026-11-22T10:00:00.000001+00:00".into());
        assert!(query.contains(&fence));
    }
}
