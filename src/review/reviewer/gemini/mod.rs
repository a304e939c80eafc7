//! Gemini over plain REST: one picture a call, one answer object back.
//!
//! `client.rs` is what all tries share, `one_try.rs` the retry loop, `call.rs` one HTTP request;
//! `wire.rs` has the bodies, `request.rs` builds and `answer.rs` reads them, `classifier.rs` knows
//! what an error means; `projects.rs`, `pace.rs`, `breaker.rs` and `capacity.rs` say who may call
//! when; `models.rs` knows what a model can and costs, `check.rs` is for the doctor. Budget and
//! what a fault means for the record are others' business; nothing here knows of rows.
//! Invariant: what is not the whole, valid answer object never leaves here as an answer.

pub mod answer;
pub mod breaker;
mod call;
pub mod capacity;
pub mod check;
pub mod classifier;
pub mod client;
pub mod models;
mod one_try;
pub mod pace;
pub mod patience;
pub mod projects;
mod refusal;
pub mod request;
pub mod wire;
