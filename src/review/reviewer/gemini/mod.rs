//! Gemini over plain REST: one picture a call, one answer object back.
//!
//! `wire.rs` has the bodies. Prompt, budget and what a fault means for the record are others'
//! business; nothing here knows of rows.
//! Invariant: what is not the whole, valid answer object never leaves here as an answer.

pub mod wire;
