//! What is due when: expressions, time zones, the nights of a clock change, gaps between slots.

mod clock_changes;
mod expressions;
mod foreign_forms;
mod gaps;
mod simulation;
mod slots;
mod ticker;
mod time_zones;
