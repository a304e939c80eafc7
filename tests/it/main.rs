//! Stories: what Lookout does, one sentence a test, through its public interface.
//!
//! One binary, a file a feature. Nothing here sleeps or needs a server that is not started here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic: that is how it fails"
)]

mod alert;
mod cli;
mod config;
mod config_examples;
mod config_look;
mod documents;
mod forecasts;
mod gemini_bodies;
mod gemini_client;
mod guard;
mod guard_absence;
mod guard_clock;
mod guard_crowds;
mod guard_nights;
mod guard_pulse;
mod guard_simulation;
mod guard_slots;
mod keeper;
mod kept;
mod past;
mod reloading;
mod review;
mod schedule;
mod stand_in;
mod upgrades;
mod usual;
mod verdicts;
mod web_pages;
