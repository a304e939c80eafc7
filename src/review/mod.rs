//! The review: records in, category strings out, nothing lost in between.
//!
//! `category.rs` and `settle.rs` are pure, `pipeline.rs` is the loop; `record.rs`, `source.rs`,
//! `reviewer.rs` and `tries.rs` are its ports. It runs in a process of its own and knows nothing of
//! schedules, incidents or people; it tells its keeper by lines and an exit code.
//! Invariant: `claimed = succeeded + errored + blocked + returned`, or the signal is not printed.

pub mod category;
pub mod comparison;
pub mod picture;
pub mod pipeline;
pub mod prompt;
pub mod record;
pub mod report;
pub mod reviewer;
pub mod settings;
pub mod settle;
pub mod source;
pub mod tries;
