//! Says once that the store fails, and once that it works again: a full disk must not fill itself
//! with complaints about it.

use crate::storage::StorageError;

/// What was last said about the store.
#[derive(Debug, Default)]
pub(super) struct StoreFailure {
    said: Option<String>,
}

impl StoreFailure {
    /// It failed.
    pub(super) fn seen(&mut self, who: &str, error: &StorageError) {
        let text = error.to_string();
        if self.said.as_deref() != Some(&text) {
            tracing::error!(who, error = text, "deliveries can't be read or written");
            self.said = Some(text);
        }
    }

    /// It works.
    pub(super) fn gone(&mut self, who: &str) {
        if self.said.take().is_some() {
            tracing::info!(who, "deliveries can be read and written again");
        }
    }
}
