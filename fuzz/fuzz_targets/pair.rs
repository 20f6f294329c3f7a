//! A client and a server over a bad wire.
#![no_main]

#[path = "../../tests/sim/mod.rs"]
mod sim;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sim::any::pair(bytes));
