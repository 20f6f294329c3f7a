//! The endpoint against anything.
#![no_main]

#[path = "../../tests/sim/mod.rs"]
mod sim;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sim::any::endpoint(bytes));
