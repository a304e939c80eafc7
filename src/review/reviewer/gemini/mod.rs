//! Gemini over plain REST: one picture a call, one answer object back.
//!
//! `wire.rs` has the bodies, `request.rs` builds and `answer.rs` reads them, `classifier.rs` knows
//! what an error means, `models.rs` what a model can and costs. Prompt, budget and what a fault
//! means for the record are others' business; nothing here knows of rows.
//! Invariant: what is not the whole, valid answer object never leaves here as an answer.

pub mod answer;
pub mod classifier;
pub mod models;
pub mod request;
pub mod wire;
