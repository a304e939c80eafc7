//! The program as it is shipped, as real processes: what kill -9, an outage and a silent job do.
//!
//! These tests take real time, because the processes in them do; they wait on events with a limit
//! and never for a fixed while, except where the moment itself is drawn at random.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic: that is how it fails"
)]

mod broken_files;
mod crowds;
mod exposed;
mod full_disk;
mod guarded;
mod kills;
mod legacy_api;
mod old_service;
mod reload;
mod replaced;
mod run_now;
mod starts;
mod stop;
mod world;
mod wrong_folder;
