//! Values of variables that earlier versions stored with a job, put back to `${NAME}`.
//!
//! Until `argv`, `cwd` and `user` became literal, variables were filled into them when the
//! configuration was read, so that secrets stood in the rows and in each run's `order.json`. What a
//! secret is and where it is configured is [`crate::app`]'s business to say.
//! Invariant: nothing but these three fields of a job is touched, and a text that holds nothing to
//! be recognised stays as it is.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rusqlite::{Connection, params};
use serde_json::Value;

use crate::placeholder;
use crate::rundir::directory::{RunDirectory, replace_file};
use crate::secret::Secret;

/// Shorter values stand in too many texts that have nothing to do with them.
const SHORTEST: usize = 4;

/// Tables that keep the configuration of a schedule.
const CONFIGURATIONS: [&str; 3] = ["slots", "plans", "spans"];

/// What can be recognised in stored jobs.
#[derive(Clone, Default)]
pub struct FilledIn {
    /// Name and value, the longest value first: one that contains another must not leave a rest.
    values: Vec<(String, Secret)>,
    /// `argv` as each schedule's file has it now.
    argv: BTreeMap<String, Vec<String>>,
}

impl fmt::Debug for FilledIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.iter().map(|(name, _)| name)).finish()
    }
}

impl FilledIn {
    /// Recognises these variables wherever they were filled in, and, where a schedule's `argv` has
    /// kept its form, also values that are not known any more.
    #[must_use]
    pub fn new(
        values: impl IntoIterator<Item = (String, Secret)>,
        argv: BTreeMap<String, Vec<String>>,
    ) -> Self {
        let is_long = |value: &Secret| value.expose().len() >= SHORTEST;
        let mut values: Vec<_> = values.into_iter().filter(|(_, it)| is_long(it)).collect();
        values.sort_by_key(|(_, value)| std::cmp::Reverse(value.expose().len()));
        Self { values, argv }
    }

    /// Rewrites every stored configuration that holds such a value. Tables that are not there yet,
    /// in a file of an earlier version, are passed over.
    ///
    /// # Errors
    /// What SQLite says.
    pub(super) fn take_out_of_rows(&self, rows: &Connection) -> rusqlite::Result<()> {
        for table in CONFIGURATIONS {
            if !rows.table_exists(None, table)? {
                continue;
            }
            let mut select =
                rows.prepare(&format!("SELECT DISTINCT configuration FROM {table}"))?;
            let stored = select.query_map([], |row| row.get::<_, String>(0))?;
            let stored = stored.collect::<rusqlite::Result<Vec<_>>>()?;
            let mut update = rows.prepare(&format!(
                "UPDATE {table} SET configuration = ?2 WHERE configuration = ?1"
            ))?;
            for before in stored {
                // What is no JSON is not read by anybody.
                let Ok(mut configuration) = serde_json::from_str(&before) else { continue };
                if self.take_out_of(&mut configuration, "job") {
                    update.execute(params![before, configuration.to_string()])?;
                }
            }
        }
        Ok(())
    }

    /// Rewrites the orders of runs. One that can't be read or written is told in the log and stops
    /// nothing: its run is over or goes on without it.
    pub(super) fn take_out_of_orders(&self, state_dir: &Path) {
        let runs = match fs::read_dir(state_dir.join("runs")) {
            Ok(runs) => runs,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => {
                tracing::warn!(%error, "the orders of earlier runs can't be looked through");
                return;
            }
        };
        for run in runs.filter_map(Result::ok) {
            let order = RunDirectory::at(run.path()).order_path();
            let Ok(text) = fs::read_to_string(&order) else { continue };
            let Ok(mut value) = serde_json::from_str(&text) else { continue };
            if !self.take_out_of(&mut value, "work") {
                continue;
            }
            let written = serde_json::to_vec_pretty(&value)
                .map_err(std::io::Error::from)
                .and_then(|bytes| replace_file(&order, &bytes));
            if let Err(error) = written {
                let order = order.display();
                tracing::warn!(%order, %error, "this order still holds values of variables");
            }
        }
    }

    /// Whether something was taken out. `part` is where the job stands: `job` of a schedule, `work`
    /// of an order.
    fn take_out_of(&self, stored: &mut Value, part: &str) -> bool {
        let name = ["name", "schedule"].iter().find_map(|key| stored[*key].as_str());
        let template = name.and_then(|name| self.argv.get(name)).cloned().unwrap_or_default();
        let Some(job) = stored.get_mut(part).and_then(Value::as_object_mut) else { return false };
        let mut is_changed = false;
        for key in ["cwd", "user"] {
            if let Some(Value::String(text)) = job.get_mut(key) {
                is_changed |= self.replace_in(text);
            }
        }
        let Some(Value::Array(argv)) = job.get_mut("argv") else { return is_changed };
        let is_of_template = argv.len() == template.len();
        for (n, argument) in argv.iter_mut().enumerate() {
            let Value::String(text) = argument else { continue };
            match template.get(n).filter(|_| is_of_template) {
                Some(written)
                    if placeholder::names(written).next().is_some()
                        && text != written
                        && placeholder::could_become(written, text) =>
                {
                    text.clone_from(written);
                    is_changed = true;
                }
                Some(_) | None => is_changed |= self.replace_in(text),
            }
        }
        is_changed
    }

    fn replace_in(&self, text: &mut String) -> bool {
        let mut is_changed = false;
        for (name, value) in &self.values {
            if text.contains(value.expose()) {
                *text = text.replace(value.expose(), &format!("${{{name}}}"));
                is_changed = true;
            }
        }
        is_changed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled_in() -> FilledIn {
        let values = [("TOKEN", "abc-def-1"), ("LONGER", "abc-def-1-2"), ("SHORT", "sh")];
        let values = values.map(|(name, value)| (name.to_owned(), Secret::new(value)));
        let argv = ["sh", "-c", "echo ${OLD} to ${TOKEN}"].map(str::to_owned).to_vec();
        FilledIn::new(values, BTreeMap::from([("export".to_owned(), argv)]))
    }

    #[test]
    fn values_that_are_known_become_their_names_and_everything_else_stays() {
        let mut stored = json!({
            "schedule": "other",
            "signal": "abc-def-1",
            "work": {"argv": ["sh", "abc-def-1-2,abc-def-1"], "cwd": "/x/abc-def-1", "user": "me",
                     "env": {"A": "abc-def-1"}},
        });
        assert!(filled_in().take_out_of(&mut stored, "work"));
        let expected = json!({
            "schedule": "other",
            "signal": "abc-def-1",
            "work": {"argv": ["sh", "${LONGER},${TOKEN}"], "cwd": "/x/${TOKEN}", "user": "me",
                     "env": {"A": "abc-def-1"}},
        });
        assert_eq!(stored, expected);
        assert!(!filled_in().take_out_of(&mut stored, "work"), "once is enough");
    }

    #[test]
    fn a_value_that_is_not_known_any_more_is_recognised_by_the_form_of_the_command() {
        let mut stored =
            json!({"name": "export", "job": {"argv": ["sh", "-c", "echo rotated to gone"]}});
        assert!(filled_in().take_out_of(&mut stored, "job"));
        assert_eq!(stored["job"]["argv"][2], "echo ${OLD} to ${TOKEN}");
        let mut another = json!({"name": "export", "job": {"argv": ["sh", "-c", "ls"]}});
        assert!(!filled_in().take_out_of(&mut another, "job"));
    }
}
