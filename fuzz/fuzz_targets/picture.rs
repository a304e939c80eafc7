//! Any bytes as a picture file.

#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "each target uses one of them")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::picture(data));
