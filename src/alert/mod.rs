//! Who is told, how, and how often: from news to delivered messages.
//!
//! In reading order: `route.rs` (who), `message.rs` (what people read), `retry.rs` and `pace.rs`
//! (how often), `health.rs` (what an error means for its channel), all pure; `outbox.rs` and
//! `channel.rs`, the ports; `queue.rs` (what a channel says next, pure) and `dispatcher.rs`, the loop. It never asks whether a run is late: it reads news.
//! Invariant: a delivery's id is fixed and stored before its first byte is sent.

pub mod channel;
pub mod delivery_health;
pub mod dispatcher;
pub mod health;
pub mod message;
pub mod outbox;
pub mod pace;
pub mod queue;
pub mod retry;
pub mod route;
