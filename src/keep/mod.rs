//! The keeper: one process a run, which holds the job and outlives the daemon.
//!
//! It reads an [`evidence::Order`] from the run's directory, does what it says, and writes what it
//! saw to the evidence file. It decides nothing about verdicts or people.
//! Invariant: what is not in the evidence file, fsynced, did not happen.

pub mod evidence;
