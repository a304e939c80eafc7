//! Stories of the review: real records and notes on disk, a scripted bucket and provider, time that
//! runs as fast as it can.

mod binary;
mod bodies;
mod compare;
mod crash;
mod faults;
mod flow;
mod fuzz_corpus;
mod image_formats;
mod picture;
mod provider;
mod refused;
mod rerun;
mod sources;
mod tiff_files;
mod unreadable;
mod wire;
mod world;
