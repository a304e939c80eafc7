//! Gemini over plain REST: one image a call, one answer object back.
//!
//! `client.rs` is the reviewer's port; `session.rs` what all tries of a run share; `review_try.rs` the
//! retry loop, `call.rs` one HTTP request. `wire.rs` has the bodies, `request.rs` builds and
//! `answer.rs` reads them, `classifier.rs` knows what an error means and `refusal.rs` says what does
//! not pass by itself. Who may call when: `key_pool.rs`, `rate_limit.rs`, `circuit_breaker.rs`,
//! `concurrency.rs`, `backoff.rs`. `models.rs` knows what a model can and costs, `check.rs` is for the
//! doctor. Budget and what a fault means for the row are others' business; nothing here knows of rows.
//! Invariant: what is not the whole, valid answer object never leaves here as an answer.

pub mod answer;
pub mod backoff;
mod call;
pub mod check;
pub mod circuit_breaker;
pub mod classifier;
pub mod client;
pub mod concurrency;
pub mod key_pool;
pub mod models;
pub mod rate_limit;
mod refusal;
pub mod request;
mod review_try;
mod session;
pub mod wire;
