//! The composition root: the only place where adapters meet ports. It decides nothing.
//!
//! Invariant: one daemon a state directory, proven by its lock.

pub mod lock;
