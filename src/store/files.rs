//! The files of schedules and alerts as they were last read without a problem.
//!
//! What a version is and when it is used is the configuration's business. Invariant: texts as they were
//! written, with `${NAME}` in the place of each secret.

use std::collections::BTreeMap;

use super::GuardDb;
use crate::storage::StorageError;

/// Brings the table.
pub(super) const SCHEMA: &str = "
CREATE TABLE good_files (
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL
) WITHOUT ROWID;";

impl GuardDb {
    /// All of them, by name: `schedules/x.toml`. Blocks: it is for the start of a process.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn good_files(&self) -> Result<BTreeMap<String, String>, StorageError> {
        self.database.now(|connection| {
            let mut query = connection.prepare("SELECT name, text FROM good_files")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
    }

    /// Remembers these and forgets all others.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn remember_good_files(
        &self,
        files: BTreeMap<String, String>,
    ) -> Result<(), StorageError> {
        self.transact(move |tx| {
            tx.execute("DELETE FROM good_files", [])?;
            let mut insert = tx.prepare("INSERT INTO good_files (name, text) VALUES (?1, ?2)")?;
            files.iter().try_for_each(|(name, text)| insert.execute([name, text]).map(|_| ()))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_remembered_replaces_what_was() {
        let db = GuardDb::in_memory().unwrap();
        assert_eq!(db.good_files(), Ok(BTreeMap::new()));
        let one = |name: &str| BTreeMap::from([(name.to_owned(), "cron = …".to_owned())]);
        db.remember_good_files(one("schedules/a.toml")).await.unwrap();
        db.remember_good_files(one("schedules/b.toml")).await.unwrap();
        assert_eq!(db.good_files(), Ok(one("schedules/b.toml")));
    }
}
