//! Who is told, how, and how often: from news to delivered messages.
//!
//! `route.rs`, `message.rs` and `retry.rs` are pure; `outbox.rs` and `channel.rs` are ports;
//! `dispatcher.rs` is the loop. It never asks whether a run is late: it reads news.
//! Invariant: a delivery's id is fixed and stored before its first byte is sent.

pub mod channel;
