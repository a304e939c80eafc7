//! Rows that a person means, over `PostgREST`: finding, counting, sending back.
//!
//! Invariant: a change whose answer is lost is sent again, since its condition does not hold for
//! what it has changed already.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::transport::Failed;
use super::{MAX_DOUBTS, SupabaseRecords, holds, no_count, only_readable, portions, row};
use crate::review::record::selection::{Alike, Found, Selection, SendBack, alike};
use crate::review::record::{Cursor, RecordError, RecordId};

impl SupabaseRecords {
    fn found(&self, row: &Map<String, Value>) -> Result<Found, RecordError> {
        let c = self.table.columns();
        let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Found {
            record: self.record(row)?,
            auto_review_status: text(&c.auto_review_status),
            auto_review_details: text(&c.auto_review_details),
            updated_at: self.taken_at(row),
        })
    }

    fn taken_at(&self, row: &Map<String, Value>) -> Option<DateTime<Utc>> {
        row::updated_at(row, self.table.columns())
    }

    pub(super) async fn rows_of(&self, ids: &[RecordId]) -> Result<Vec<Found>, RecordError> {
        let mut found = Vec::new();
        for portion in portions(ids) {
            for row in self.rows(&self.table.rows(portion)).await? {
                found.push(self.found(&row)?);
            }
        }
        Ok(found)
    }

    pub(super) async fn page_of(
        &self,
        selection: &Selection,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Found>, RecordError> {
        let rows = self.rows(&self.table.find(selection, after, limit)).await?;
        rows.iter().map(|row| self.found(row)).collect()
    }

    pub(super) async fn number_of(&self, selection: &Selection) -> Result<u64, RecordError> {
        self.send(&self.table.count_of(selection)).await?.total.ok_or_else(no_count)
    }

    pub(super) async fn change(
        &self,
        found: &[Found],
        to: &SendBack,
    ) -> Result<Vec<RecordId>, RecordError> {
        let mut changed = Vec::new();
        for rows in alike(found) {
            for ids in portions(&rows.ids) {
                changed.extend(self.change_portion(&rows, ids, to).await?);
            }
        }
        Ok(changed)
    }

    async fn change_portion(
        &self,
        rows: &Alike,
        ids: &[RecordId],
        to: &SendBack,
    ) -> Result<Vec<RecordId>, RecordError> {
        let request = self.table.send_back(rows, ids, to);
        let mut in_doubt = false;
        for n_doubts in 1.. {
            match self.transport.send(&request).await {
                Ok(answer) if !in_doubt => {
                    let changed = self.ids(&answer.rows()?);
                    if changed.is_empty() {
                        self.check_that_others_were_faster(rows, ids).await?;
                    }
                    return Ok(changed);
                }
                Ok(_) => break,
                Err(Failed::Surely(error)) => return Err(error),
                Err(Failed::Perhaps(error)) if n_doubts == MAX_DOUBTS => return Err(error),
                Err(Failed::Perhaps(_)) => in_doubt = true,
            }
        }
        // One of the changes whose answers were lost has done it; what is as wanted, is done.
        let mut now = self.rows(&self.table.rows(ids)).await?;
        let column = &self.table.columns().review_status;
        let wanted = self.table.statuses().in_table(to.review_status());
        now.retain(|row| holds(row, column, wanted));
        Ok(self.ids(&now))
    }

    /// Nothing was changed. If the rows are still as they were found, nobody was faster: the key
    /// may read and not write, and row-level security lets that look like success.
    async fn check_that_others_were_faster(
        &self,
        rows: &Alike,
        ids: &[RecordId],
    ) -> Result<(), RecordError> {
        if self.rows(&self.table.still(rows, ids)).await?.is_empty() {
            Ok(())
        } else {
            Err(only_readable())
        }
    }

    fn ids(&self, rows: &[Map<String, Value>]) -> Vec<RecordId> {
        let name = &self.table.columns().id;
        rows.iter().filter_map(|row| row::text(row.get(name))).map(RecordId).collect()
    }
}
