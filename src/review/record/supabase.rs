//! Records over `PostgREST`, as Supabase serves them: the user's own table.
//!
//! `query.rs` builds requests, `transport.rs` sends them, `answer.rs` says what an error means,
//! `row.rs` reads rows. Here is what makes them safe: a claim names its rows and trusts only what
//! came back; every later write is fenced by status and by the time that the claim wrote.
//! Invariant: no row is changed that is not ours, and none of ours is lost when an answer is.

mod answer;
mod query;
mod row;
mod selection;
mod transport;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::review::record::selection::{Found, Selection, SendBack};
use crate::review::record::statuses::Statuses;
use crate::review::record::{
    Claimed, Cursor, PROCESSING, Record, RecordError, RecordId, Records, Settlement, Written,
};
use crate::review::settings::Columns;
use crate::secret::Secret;
use query::{Fence, Method, Request, Table};
use transport::{Failed, Transport};

/// Ids in one request: their addresses must stay below what proxies take (8 KB).
const MAX_IDS: usize = 100;

/// Bytes of ids in one request, as they stand in an address.
const MAX_ID_BYTES: usize = 6_000;

/// Times a fenced write is looked after when it is not known whether it was carried out.
const MAX_DOUBTS: u32 = 3;

/// What `doctor` asks about the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Rows that the key can see, whatever their status; 0 may mean that row-level security hides
    /// them.
    pub rows: u64,
    /// The optional column is there.
    pub has_actual_image_url: bool,
}

/// The port on a Supabase table.
pub struct SupabaseRecords {
    table: Table,
    transport: Transport,
}

impl std::fmt::Debug for SupabaseRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SupabaseRecords").finish_non_exhaustive()
    }
}

/// `https://PROJECT.supabase.co` → the address of its `PostgREST`, which may also be given itself.
fn rest_url(url: &str) -> String {
    let url = url.trim().trim_end_matches('/');
    if url.ends_with("/rest/v1") { url.to_owned() } else { format!("{url}/rest/v1") }
}

/// Parts of a list of ids that each fit into an address.
fn portions(ids: &[RecordId]) -> Vec<&[RecordId]> {
    let mut portions = Vec::new();
    let mut start = 0;
    let mut n_bytes = 0;
    for (i, id) in ids.iter().enumerate() {
        // Quotes and comma are escaped (three bytes each), and so may be every byte of the id.
        let escaped: usize =
            id.0.bytes().map(|b| if b.is_ascii_alphanumeric() || b == b'-' { 1 } else { 3 }).sum();
        let cost = escaped + 9;
        if i > start && (n_bytes + cost > MAX_ID_BYTES || i - start >= MAX_IDS) {
            portions.push(&ids[start..i]);
            (start, n_bytes) = (i, 0);
        }
        n_bytes += cost;
    }
    if start < ids.len() {
        portions.push(&ids[start..]);
    }
    portions
}

impl SupabaseRecords {
    /// The table of a project; asks nothing yet.
    ///
    /// # Errors
    /// When the key can't stand in a header or no client can be made.
    pub fn new(
        url: &str,
        key: &Secret,
        table: &str,
        columns: &Columns,
    ) -> Result<Self, RecordError> {
        Ok(Self {
            table: Table::new(&rest_url(url), table, columns.clone()),
            transport: Transport::new(key, table)?,
        })
    }

    /// The same table in another schema than the first that PostgREST serves.
    ///
    /// # Errors
    /// When the name can't stand in a header.
    pub fn in_schema(self, schema: Option<&str>) -> Result<Self, RecordError> {
        match schema {
            Some(schema) => Ok(Self { transport: self.transport.in_schema(schema)?, ..self }),
            None => Ok(self),
        }
    }

    /// The same records in a table that has words of its own for the standard statuses.
    #[must_use]
    pub fn with_statuses(self, statuses: &Statuses) -> Self {
        Self { table: self.table.with_statuses(statuses), ..self }
    }

    /// Whether the table is there with the standard columns, and what the key sees of it.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub async fn inspect(&self) -> Result<Inspection, RecordError> {
        let c = self.table.columns();
        let needed = [
            c.id.as_str(),
            &c.job_id,
            &c.image_index,
            &c.review_status,
            &c.auto_review_status,
            &c.auto_review_details,
            &c.created_at,
            &c.updated_at,
        ];
        self.send(&self.table.probe(&needed)).await?;
        let optional = self.send(&self.table.probe(&[&c.actual_image_url])).await;
        let has_actual_image_url = match optional {
            Ok(_) => true,
            Err(RecordError::Misconfigured(_)) => false,
            Err(
                error @ (RecordError::Refused(_)
                | RecordError::Unavailable(_)
                | RecordError::Rejected(_)),
            ) => return Err(error),
        };
        let rows = self.send(&self.table.count_all()).await?.total.ok_or_else(no_count)?;
        Ok(Inspection { rows, has_actual_image_url })
    }

    async fn send(&self, request: &Request) -> Result<transport::Answer, RecordError> {
        self.transport.send(request).await.map_err(|failed| of_the_table(failed.into_error()))
    }

    async fn rows(&self, request: &Request) -> Result<Vec<Map<String, Value>>, RecordError> {
        self.send(request).await?.rows()
    }

    fn record(&self, row: &Map<String, Value>) -> Result<Record, RecordError> {
        let record = row::record(row, self.table.columns())?;
        Ok(Record { status: self.table.statuses().meant_by(&record.status), ..record })
    }

    /// The rows of a claim, as ours.
    fn claimed(
        &self,
        rows: &[Map<String, Value>],
        from: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<Claimed>, RecordError> {
        rows.iter()
            .map(|row| {
                let mut record = self.record(row)?;
                from.clone_into(&mut record.status);
                let claimed_at = row::updated_at(row, self.table.columns()).unwrap_or(at);
                Ok(Claimed { record, claimed_at })
            })
            .collect()
    }

    async fn claim_portion(
        &self,
        ids: &[RecordId],
        from: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<Claimed>, RecordError> {
        let request = self.table.claim(ids, from, PROCESSING, at);
        let rows = match self.transport.send(&request).await {
            Ok(answer) => answer.rows()?,
            // The answer was lost, the rows need not be: they carry the time of this claim.
            Err(Failed::Perhaps(error)) => self.taken(ids, at, error).await?,
            Err(Failed::Surely(error)) => return Err(of_the_table(error)),
        };
        if rows.is_empty() {
            self.check_that_writes_work(ids, from, &request).await
        } else {
            self.claimed(&rows, from, at)
        }
    }

    /// The rows of a claim whose answer was lost.
    async fn taken(
        &self,
        ids: &[RecordId],
        at: DateTime<Utc>,
        error: RecordError,
    ) -> Result<Vec<Map<String, Value>>, RecordError> {
        let rows = self.rows(&self.table.taken(ids, PROCESSING, at)).await?;
        // A trigger may have put its own time into ours: then nobody can say here whose they are.
        if rows.is_empty() && !self.rows(&self.table.with_status(ids, PROCESSING)).await?.is_empty()
        {
            return Err(error);
        }
        Ok(rows)
    }

    /// A claim that took nothing is what happens when another was faster. But rows that are still
    /// there afterwards, twice, were not taken by another: the key may read and not write, and
    /// row-level security lets that look like success.
    async fn check_that_writes_work(
        &self,
        ids: &[RecordId],
        from: &str,
        request: &Request,
    ) -> Result<Vec<Claimed>, RecordError> {
        if self.rows(&self.table.with_status(ids, from)).await?.is_empty() {
            return Ok(Vec::new());
        }
        let again = match self.transport.send(request).await {
            Ok(answer) => answer.rows()?,
            Err(failed) => return Err(of_the_table(failed.into_error())),
        };
        if !again.is_empty() {
            // They were given back by another in between, and are ours now.
            let at = row::updated_at(&again[0], self.table.columns()).unwrap_or_default();
            return self.claimed(&again, from, at);
        }
        if self.rows(&self.table.with_status(ids, from)).await?.is_empty() {
            return Ok(Vec::new());
        }
        Err(only_readable())
    }

    /// Changes a row of ours; `done` recognises it if it was changed and the answer lost.
    async fn write(
        &self,
        claimed: &Claimed,
        values: &[(&String, &str)],
        done: impl Fn(&Map<String, Value>) -> bool + Send,
    ) -> Result<Written, RecordError> {
        let fence =
            Fence { id: &claimed.record.id, status: PROCESSING, updated_at: claimed.claimed_at };
        let request = self.table.fenced(fence, values);
        let mut in_doubt = false;
        for n_doubts in 1.. {
            match self.transport.send(&request).await {
                Ok(answer) if !answer.rows()?.is_empty() => return Ok(Written::Yes),
                Ok(_) if !in_doubt => return Ok(Written::Lost),
                Ok(_) => break,
                Err(Failed::Surely(error)) => return Err(error),
                Err(Failed::Perhaps(error)) if n_doubts == MAX_DOUBTS => return Err(error),
                Err(Failed::Perhaps(_)) => in_doubt = true,
            }
        }
        let rows = self.rows(&self.table.get(&claimed.record.id)).await?;
        Ok(if rows.first().is_some_and(done) { Written::Yes } else { Written::Lost })
    }
}

/// What is refused of many rows at once, or of a question, is no single row's matter.
fn of_the_table(error: RecordError) -> RecordError {
    match error {
        RecordError::Rejected(reason) => RecordError::Misconfigured(reason),
        error @ (RecordError::Unavailable(_)
        | RecordError::Refused(_)
        | RecordError::Misconfigured(_)) => error,
    }
}

fn no_count() -> RecordError {
    RecordError::Misconfigured(
        "what answers at SUPABASE_URL is not PostgREST: it does not count rows".to_owned(),
    )
}

fn only_readable() -> RecordError {
    RecordError::Refused(
        "the records can be read but not changed with this key: row-level security hides them from \
         updates; use the project's secret key (or the service_role key), or add a policy for \
         updates"
            .to_owned(),
    )
}

fn holds(row: &Map<String, Value>, name: &str, value: &str) -> bool {
    row.get(name).and_then(Value::as_str) == Some(value)
}

#[async_trait]
impl Records for SupabaseRecords {
    async fn candidates(
        &self,
        statuses: &[String],
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Record>, RecordError> {
        let rows = self.rows(&self.table.page(statuses, after, limit)).await?;
        rows.iter().map(|row| self.record(row)).collect()
    }

    async fn claim(
        &self,
        ids: &[RecordId],
        from: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<Claimed>, RecordError> {
        let mut ours = Vec::new();
        for portion in portions(ids) {
            match self.claim_portion(portion, from, at).await {
                Ok(claimed) => ours.extend(claimed),
                // What is ours already must be worked on; the next claim meets the same error.
                Err(_) if !ours.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(ours)
    }

    async fn settle(
        &self,
        claimed: &Claimed,
        settlement: &Settlement,
    ) -> Result<Written, RecordError> {
        let c = self.table.columns();
        let values = [
            (&c.review_status, self.table.statuses().in_table(&settlement.review_status)),
            (&c.auto_review_status, settlement.auto_review_status.as_str()),
            (&c.auto_review_details, settlement.auto_review_details.as_str()),
        ];
        let done = |row: &Map<String, Value>| values.iter().all(|(name, v)| holds(row, name, v));
        self.write(claimed, &values, done).await
    }

    async fn release(&self, claimed: &Claimed) -> Result<Written, RecordError> {
        let column = &self.table.columns().review_status;
        let from = self.table.statuses().in_table(&claimed.record.status);
        self.write(claimed, &[(column, from)], |row| holds(row, column, from)).await
    }

    async fn count(&self, statuses: &[String]) -> Result<u64, RecordError> {
        let answer = match self.send(&self.table.count(statuses, Method::Head)).await {
            Ok(answer) => answer,
            // HEAD brings no text that says what is wrong.
            Err(_) => self.send(&self.table.count(statuses, Method::Get)).await?,
        };
        answer.total.ok_or_else(no_count)
    }

    async fn get(&self, id: &RecordId) -> Result<Option<Record>, RecordError> {
        let rows = self.rows(&self.table.get(id)).await?;
        rows.first().map(|row| self.record(row)).transpose()
    }

    async fn rows_by_id(&self, ids: &[RecordId]) -> Result<Vec<Found>, RecordError> {
        self.rows_of(ids).await
    }

    async fn find(
        &self,
        selection: &Selection,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Found>, RecordError> {
        self.page_of(selection, after, limit).await
    }

    async fn count_of(&self, selection: &Selection) -> Result<u64, RecordError> {
        self.number_of(selection).await
    }

    async fn send_back(
        &self,
        found: &[Found],
        to: &SendBack,
    ) -> Result<Vec<RecordId>, RecordError> {
        self.change(found, to).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_may_be_the_projects_or_the_interfaces() {
        for given in
            ["https://p.supabase.co", "https://p.supabase.co/", "https://p.supabase.co/rest/v1/"]
        {
            assert_eq!(rest_url(given), "https://p.supabase.co/rest/v1");
        }
    }

    #[test]
    fn long_lists_of_ids_are_cut_where_the_address_would_grow_too_long() {
        let uuid = |i: usize| RecordId(format!("00000000-0000-4000-8000-{i:012}"));
        let ids: Vec<RecordId> = (0..250).map(uuid).collect();
        assert_eq!(portions(&ids).iter().map(|p| p.len()).collect::<Vec<_>>(), [100, 100, 50]);
        let long: Vec<RecordId> =
            (0..10).map(|i| RecordId(format!("{i}{}", "x".repeat(1_500)))).collect();
        assert!(portions(&long).iter().all(|p| p.len() <= 3));
        assert_eq!(portions(&long).concat(), long);
        assert!(portions(&[]).is_empty());
    }
}
