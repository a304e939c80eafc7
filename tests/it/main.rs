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
mod fake_gemini;
mod gemini_bodies;
mod gemini_client;
mod guard;
mod keeper;
mod past;
mod reloading;
mod review;
mod schedule;
mod upgrades;
mod usual;
mod verdicts;
mod web_pages;
