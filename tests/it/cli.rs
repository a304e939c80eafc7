//! The command line as a process: what every command owes whoever calls it.

mod closed_output;
