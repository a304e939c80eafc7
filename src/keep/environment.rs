//! What the keeper was started with: its environment, `${NAME}` in orders, users of the machine.
//!
//! Reads no file but `/etc/passwd`, and no variable of the process: the map is passed in.
//! Invariant: an order holds names, never secrets; values exist only in this process and its job.

use std::collections::BTreeMap;
use std::fs;

use crate::placeholder::{self, Unfilled};

/// The environment of this process.
pub type Variables = BTreeMap<String, String>;

/// Puts values in the place of `${NAME}`.
///
/// # Errors
/// When a name is not set or is none; the text says which, for people.
pub(super) fn resolve(text: &str, variables: &Variables) -> Result<String, String> {
    let value_of = |name: &str| variables.get(name).map(String::as_str);
    placeholder::fill(text, value_of).map_err(|unfilled| {
        let reasons: Vec<String> = unfilled.into_iter().map(reason).collect();
        reasons.join("; ")
    })
}

fn reason(unfilled: Unfilled) -> String {
    match unfilled {
        Unfilled::NotSet(name) => {
            format!("`{name}` is not set: put it into the environment or into .env")
        }
        Unfilled::NotAName(text) => {
            format!("`{text}` is not a variable: write `${text}` to keep the text as it is")
        }
    }
}

/// Someone a job can run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

/// Looks a user up by name.
///
/// # Errors
/// When there is none; the text is for people.
pub(super) fn user(name: &str) -> Result<User, String> {
    let passwd =
        fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    user_in(&passwd, name)
        .ok_or_else(|| format!("there is no user `{name}` in /etc/passwd of this machine"))
}

/// `passwd(5)`: `name:password:uid:gid:comment:home:shell`.
fn user_in(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [found, _, uid, gid, _, home, _] = fields.as_slice() else { return None };
        (*found == name).then_some(())?;
        Some(User {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: (*home).to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_values_and_a_missing_one_is_named() {
        let variables = Variables::from([("A".into(), "1".into()), ("B".into(), "${A}".into())]);
        assert_eq!(resolve("x${A}y${B}$", &variables).unwrap(), "x1y${A}$");
        assert!(resolve("${NONE}", &variables).unwrap_err().contains("`NONE` is not set"));
        assert!(resolve("${A", &variables).is_err());
    }

    #[test]
    fn a_user_is_found_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nreview:x:998:997::/srv/review:/bin/sh\nbad";
        let review = user_in(passwd, "review").unwrap();
        assert_eq!((review.uid, review.gid, review.home.as_str()), (998, 997, "/srv/review"));
        assert_eq!(user_in(passwd, "nobody"), None);
        assert_eq!(user("root").unwrap().uid, 0);
    }
}
