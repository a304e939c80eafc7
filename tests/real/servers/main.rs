//! Against real servers, which `tests/real/*.sh` start; never part of a plain `cargo test`.
//!
//! Addresses and keys come from the environment that `tests/real/servers.py` sets. Real servers
//! mean real time; nothing here waits but for answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic: that is how it fails"
)]

mod compare;
mod images;
mod records;
mod rerun;

/// What `servers.py` has set.
#[expect(clippy::disallowed_methods, reason = "the servers' addresses are known to nobody else")]
fn given(name: &str) -> String {
    std::env::var(format!("LOOKOUT_TEST_{name}"))
        .unwrap_or_else(|_| panic!("LOOKOUT_TEST_{name} is not set: run tests/real/*.sh"))
}
