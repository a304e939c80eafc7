//! The keeper as a process: commands, endpoints, what they print, and what the daemon sees of it.

mod command;
mod endpoint;
pub(crate) mod harness;
mod output;
mod processes;
