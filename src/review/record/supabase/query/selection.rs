//! Requests for rows that a person means: a page, a count, sending back.
//!
//! Invariant: as in `query.rs`: what changes rows has plain filters only.

use postgrest::Builder;

use super::{Method, Request, Table, finish, object, quoted, time};
use crate::review::record::selection::{Alike, Details, Selection, SendBack, Taken, UNREADABLE};
use crate::review::record::{Cursor, RecordId};

impl Table {
    /// Those of the rows that are there.
    pub(in super::super) fn rows(&self, ids: &[RecordId]) -> Request {
        finish(self.of(self.all(), ids), Method::Get)
    }

    /// A page of the rows that a person means, oldest first, after the cursor.
    pub(in super::super) fn find(
        &self,
        selection: &Selection,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Request {
        let query = self.chosen(self.all(), selection);
        self.paged(query, after, limit)
    }

    /// How many rows a person means; the answer is in a header.
    pub(in super::super) fn count_of(&self, selection: &Selection) -> Request {
        let query = self.rest.from(&self.name).select(&self.columns.id);
        finish(self.chosen(query, selection).limit(1).exact_count(), Method::Get)
    }

    /// Those of the rows that still are as they were found.
    pub(in super::super) fn still(&self, rows: &Alike, ids: &[RecordId]) -> Request {
        let query = self.rest.from(&self.name).select(&self.columns.id);
        finish(self.as_found(query, rows, ids), Method::Get)
    }

    /// Changes those of the rows that still are as they were found.
    pub(in super::super) fn send_back(
        &self,
        rows: &Alike,
        ids: &[RecordId],
        to: &SendBack,
    ) -> Request {
        let c = &self.columns;
        let mut values = vec![(&c.review_status, self.statuses.in_table(to.review_status()))];
        values.extend(to.auto_review_status().map(|category| (&c.auto_review_status, category)));
        let query = self.rest.from(&self.name).select(&c.id);
        finish(self.as_found(query, rows, ids).update(object(&values)), Method::Patch)
    }

    /// The condition of [`Alike`].
    fn as_found(&self, query: Builder, rows: &Alike, ids: &[RecordId]) -> Builder {
        let c = &self.columns;
        let query = self.of(query, ids).eq(&c.review_status, self.statuses.in_table(&rows.status));
        let query = match &rows.category {
            Some(category) => query.eq(&c.auto_review_status, category),
            None => query.is(&c.auto_review_status, "null"),
        };
        match rows.taken_until {
            Some(at) => query.lte(&c.updated_at, time(at)),
            None => query.is(&c.updated_at, "null"),
        }
    }

    fn chosen(&self, query: Builder, selection: &Selection) -> Builder {
        let c = &self.columns;
        let Selection { statuses, categories, details, taken } = selection;
        let mut query = query.in_(&c.review_status, self.words(statuses));
        if !categories.is_empty() {
            // In the list, alone, at its beginning, its end or in the middle: `T1` is no `T10`.
            let column = &c.auto_review_status;
            let holds = |code: &String| {
                let like = |pattern: String| format!("{column}.like.{}", quoted(&pattern));
                let alone = format!("{column}.eq.{}", quoted(code));
                let (first, last) = (like(format!("{code}, *")), like(format!("*, {code}")));
                format!("{alone},{first},{last},{}", like(format!("*, {code}, *")))
            };
            query = query.or(categories.iter().map(holds).collect::<Vec<_>>().join(","));
        }
        query = match details {
            Details::Any => query,
            Details::Unreadable => {
                let column = &c.auto_review_details;
                let begins = |text: &str| format!("{column}.like.{}", quoted(&format!("{text}*")));
                query.or(UNREADABLE.map(begins).join(","))
            }
        };
        let (created, updated) = (&c.created_at, &c.updated_at);
        match taken {
            Taken::Any => query,
            Taken::Between(from, to) => {
                if let Some(from) = from {
                    query = query.gte(updated, time(*from));
                }
                match to {
                    Some(to) => query.lt(updated, time(*to)),
                    None => query,
                }
            }
            Taken::LongBefore(at) => {
                let at = quoted(&time(*at));
                query.or(format!(
                    "{updated}.lt.{at},and({updated}.is.null,{created}.lt.{at}),\
                     and({updated}.is.null,{created}.is.null)"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::record::selection::RERUN;
    use crate::review::settings::Columns;
    use chrono::{TimeZone as _, Utc};

    #[test]
    fn sending_back_has_plain_filters_only_and_changes_the_standard_columns() {
        let table = Table::new("http://db.invalid/rest/v1", "midbot_images", Columns::default());
        let ids = [RecordId("a,b".into())];
        let mut rows = Alike {
            ids: ids.to_vec(),
            status: "auto_review_success".into(),
            category: Some("T1, W1".into()),
            taken_until: Some(Utc.with_ymd_and_hms(2026, 11, 22, 10, 0, 0).unwrap()),
        };
        let request = table.send_back(&rows, &ids, &SendBack::Rerun);
        let query = |request: &Request| -> Vec<(String, String)> {
            let url = url::Url::parse(&request.url).unwrap();
            url.query_pairs().map(|(name, value)| (name.into(), value.into())).collect()
        };
        let expected = [
            ("select", "id"),
            ("id", r#"in.("a,b")"#),
            ("review_status", "eq.auto_review_success"),
            ("auto_review_status", "eq.T1, W1"),
            ("updated_at", "lte.2026-11-22T10:00:00.000000+00:00"),
        ];
        assert_eq!(query(&request), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body, serde_json::json!({"review_status": RERUN, "auto_review_status": "good"}));

        (rows.category, rows.taken_until) = (None, None);
        let request = table.send_back(&rows, &ids, &SendBack::Waiting("added".into()));
        let pairs = query(&request);
        assert!(pairs.contains(&("auto_review_status".into(), "is.null".into())));
        assert!(pairs.contains(&("updated_at".into(), "is.null".into())));
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body, serde_json::json!({"review_status": "added"}));
    }
}
