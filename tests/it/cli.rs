//! The command line: what commands print, as functions where they are pure, as a process where they
//! are not.

mod closed_output;
mod doctor;
mod doctor_tables;
mod history_audit;
mod interrupt;
mod names;
mod next_simulate;
mod rerun_ids;
mod terminal;
